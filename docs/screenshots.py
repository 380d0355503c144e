"""Take the pictures of the report page that the README shows: ``python docs/screenshots.py RUN``.

RUN is the folder of a finished audit. Writes ``report.png`` (light) and ``report-dark.png`` into
``docs/images``, or into the folder that ``--to`` names. Needs Chromium and its chromedriver. The
pictures in this repository are of the demo data, which may be shown to everybody:

    labelfix demo demo-data && mv demo-data/data digits
    labelfix audit digits --out demo-run
    python docs/screenshots.py demo-run
"""

import argparse
import base64
import shutil
import tempfile
from pathlib import Path

from selenium import webdriver

from labelfix.utils.files import atomic_path

IMAGES = Path(__file__).parent / "images"
SHOTS = {"report.png": "light", "report-dark.png": "dark"}
WIDTH, HEIGHT = 1440, 1060
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--hide-scrollbars",
)
DRAWN = """
const seen = [...document.images].filter(i => i.getBoundingClientRect().top < innerHeight);
Promise.all(seen.filter(i => i.offsetParent).map(i => i.decode())).then(() => arguments[0]());
"""


def open_browser(profile: str) -> webdriver.Chrome:
    """Return a Chromium without a window."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        raise SystemExit("no Chromium with its chromedriver: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    return webdriver.Chrome(options, webdriver.ChromeService(driver))


def take(browser: webdriver.Chrome, page: Path, scheme: str) -> bytes:
    """Return a PNG of the top of a page, in the colors that a system prefers."""
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    colors = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", colors)
    browser.get(page.absolute().as_uri())
    browser.execute_async_script(DRAWN)
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    return base64.b64decode(shot["data"])


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--to", type=Path, default=IMAGES, metavar="DIR")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as profile:
        browser = open_browser(profile)
        try:
            for name, scheme in SHOTS.items():
                with atomic_path(arguments.to / name) as draft:
                    draft.write_bytes(take(browser, arguments.run / "report.html", scheme))
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
