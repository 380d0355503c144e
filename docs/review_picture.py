"""Take the pictures of the review page: ``python docs/review_picture.py RUN [--to DIR]``.

RUN is the folder of a finished audit; it is copied, and decisions are made in the copy. Writes
``review.png``, ``review-grid.png``, ``review-copies.png`` and ``review-finish.png`` into
``docs/images``. Needs Chromium and its chromedriver. The pictures in this repository
are of the demo data, which may be shown to everybody:

    labelfix demo demo-data
    labelfix audit demo-data/data --out demo-run
    python docs/review_picture.py demo-run
"""

import argparse
import base64
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from labelfix.utils.files import atomic_path
from screenshots import open_browser

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1280, 860
DECISIONS = 90
PLACE = """
document.getElementById("export-to").value = "demo-clean";
document.getElementById("export-to").dispatchEvent(new Event("input"));
"""
"""Where the export goes in the picture: the place that is offered would show a machine's paths."""


def decide(browser: webdriver.Chrome, key: str) -> None:
    """Press a key, and wait for the next sample."""
    row = browser.execute_script("return document.body.dataset.row")
    ActionChains(browser).send_keys(key).perform()
    while browser.execute_script("return document.body.dataset.row") == row:
        time.sleep(0.01)


def take(address: str, profile: str) -> dict[str, bytes]:
    """Return PNGs of the page after some decisions, by the names of their files."""
    browser = open_browser(profile)
    try:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(address)
        time.sleep(1)
        shots = {}
        press(browser, "g", "k", Keys.ARROW_DOWN, "d", "k")
        shots["review-grid.png"] = shot(browser)
        press(browser, Keys.ESCAPE, "p")
        shots["review-copies.png"] = shot(browser)
        press(browser, Keys.ESCAPE)
        time.sleep(1)
        for number in range(DECISIONS):
            has_suggestion = browser.execute_script(
                "return !document.getElementById('take').disabled"
            )
            decide(browser, "s" if has_suggestion and number % 6 else "k")
        shots["review.png"] = shot(browser)
        press(browser, "f")
        browser.execute_script(PLACE)
        shots["review-finish.png"] = shot(browser)
    finally:
        browser.quit()
    return shots


def press(browser: webdriver.Chrome, *keys: str) -> None:
    """Press keys one after the other, in the time of a person."""
    for key in keys:
        ActionChains(browser).send_keys(key).perform()
        time.sleep(1)


def shot(browser: webdriver.Chrome) -> bytes:
    """Return a PNG of the page once the last message has gone and the estimate is there."""
    time.sleep(5)
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    return base64.b64decode(taken["data"])


def main() -> None:
    """Serve a copy of a run, decide, and take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--to", type=Path, default=IMAGES, metavar="DIR")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(shutil.copytree(arguments.run, Path(folder) / arguments.run.name))
        (run / "decisions.jsonl").unlink(missing_ok=True)
        command = [sys.executable, "-m", "labelfix", "review", run.name, "--no-browser"]
        server = subprocess.Popen(
            [*command, "--port", "0"], cwd=folder, stdout=subprocess.PIPE, encoding="utf-8"
        )
        try:
            assert server.stdout is not None
            line = next(line for line in server.stdout if line.startswith("open http"))
            pictures = take(line.removeprefix("open ").strip(), f"{folder}/profile")
        finally:
            server.kill()
            server.communicate()
    for name, picture in pictures.items():
        with atomic_path(arguments.to / name) as path:
            path.write_bytes(picture)
        print(f"wrote {arguments.to / name}")


if __name__ == "__main__":
    main()
