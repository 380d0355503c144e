"""How many keys a review takes in the grid: a person who knows the truth, in a real browser.

    python benchmarks/review_presses.py RUN --truth TRUTH.csv [--suspects 300]
        [--results benchmarks/results/review_presses.jsonl]

RUN is a finished audit of data with planted errors; TRUTH.csv has the columns `sample_id` and
`true`. A copy of RUN is reviewed by the keyboard alone until so many suspects are decided: one
press, Shift Enter, accepts a page of 24 samples and goes on. Where the label that would be taken is
wrong, Shift and the letter of the sample keeps the given one; where that is wrong too, the digit of
the right class or a search for it follows. The bar: at most 120 presses for 300 suspects, beyond
one for each wrong suggestion. Needs Chromium and its chromedriver.
"""

import csv
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from harness import append_row, bar, new_parser
from labelfix.data.decisions import read_decisions
from labelfix.report.io import read_report_table

BAR = 120
"""Presses beyond one a wrong suggestion."""

LETTERS = "abcdefghijklmnopqrstuvwx"
PAGE = """
if (document.body.dataset.mode !== "grid" || state.busy) return null;
return grid.items.map(item => ({
  id: item.sample_id, given: nameOf(item.given), taken: nameOf(firstClass(item)),
  top: item.top.map(([code]) => nameOf(code)), isFlagged: item.is_flagged,
}));
"""


@dataclass
class Tally:
    """What a review took: suspects and other samples decided, keys pressed, wrong suggestions."""

    suspects: int = 0
    others: int = 0
    presses: int = 0
    wrong: int = 0

    @property
    def beyond(self) -> int:
        """Return the presses beyond one a wrong suggestion."""
        return self.presses - self.wrong


class Person:
    """Somebody at the keyboard who knows the true labels.

    Args:
        browser: Shows the page.
        truth: The true label of each sample.
    """

    def __init__(self, browser: webdriver.Chrome, truth: dict[str, str]) -> None:
        self._browser = browser
        self._truth = truth
        self.tally = Tally()

    def press(self, *keys: str, shift: bool = False) -> None:
        """Press keys, each of which counts once; Shift counts with its key."""
        for key in keys:
            chain = ActionChains(self._browser)
            if shift:
                chain.key_down(Keys.SHIFT).send_keys(key).key_up(Keys.SHIFT).perform()
            else:
                chain.send_keys(key).perform()
            self.tally.presses += 1

    def page(self, after: str = "") -> list[dict[str, Any]]:
        """Return the samples of the page that follows one that begins with a sample."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            items: list[dict[str, Any]] | None = self._browser.execute_script(PAGE)
            if items and items[0]["id"] != after:
                return items
            time.sleep(0.02)
        raise RuntimeError("the page shows no more samples")

    def mend(self, place: int, item: dict[str, Any]) -> None:
        """Choose the true label of a sample whose suggestion is wrong."""
        self.tally.wrong += 1
        self.press(LETTERS[place], shift=True)
        true = self._truth[item["id"]]
        if true == item["given"]:
            return
        if true in item["top"]:
            self.press(str(item["top"].index(true) + 1))
        else:
            self.press("c", *true[:4], Keys.ENTER)

    def review(self, suspects: int) -> None:
        """Decide page after page until so many suspects are decided."""
        self.press("g")
        first = ""
        while self.tally.suspects < suspects:
            items = self.page(first)
            for place, item in enumerate(items):
                if item["taken"] != self._truth[item["id"]]:
                    self.mend(place, item)
            flagged = sum(item["isFlagged"] for item in items)
            self.tally.suspects += flagged
            self.tally.others += len(items) - flagged
            self.press(Keys.ENTER, shift=True)
            first = items[0]["id"]
        self.page(first)  # what was pressed last is on disk then


@contextmanager
def browser_of(folder: Path) -> Iterator[webdriver.Chrome]:
    """Yield a Chromium without a window."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        raise SystemExit("no Chromium with its chromedriver: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    arguments = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900")
    for argument in (*arguments, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


@contextmanager
def served(run: Path) -> Iterator[str]:
    """Serve a run by the real command, and yield the address of its page."""
    command = [sys.executable, "-m", "labelfix", "review", str(run), "--no-browser", "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    )
    assert process.stdout is not None
    try:
        line = next(line for line in process.stdout if line.startswith("open http"))
        yield line.removeprefix("open ").strip()
    finally:
        process.kill()
        process.communicate()


def wrongly_decided(run: Path, truth: dict[str, str]) -> int:
    """Return how many decisions leave a sample with another label than the true one."""
    table = read_report_table(run, pred_probs=False).table
    names, labels = (table[column].to_pylist() for column in ("sample_id", "given_label"))
    given = dict(zip(names, labels, strict=True))
    return sum(
        str(decision.label if decision.action == "relabel" else given[name]) != truth[name]
        for name, decision in read_decisions(run).items()
    )


def main() -> None:
    """Review a copy of a run, and print what it took."""
    parser = new_parser(__doc__, rows="review_presses.jsonl")
    parser.add_argument("run", type=Path)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--suspects", type=int, default=300)
    arguments = parser.parse_args()
    with arguments.truth.open(encoding="utf-8", newline="") as file:
        truth = {row["sample_id"]: row["true"] for row in csv.DictReader(file)}
    with tempfile.TemporaryDirectory() as name:
        run = Path(shutil.copytree(arguments.run, Path(name) / "run"))
        (run / "decisions.jsonl").unlink(missing_ok=True)
        with served(run) as address, browser_of(Path(name)) as browser:
            browser.get(address)
            person = Person(browser, truth)
            while not browser.execute_script("return document.body.dataset.row"):
                time.sleep(0.02)
            began = time.perf_counter()
            person.review(arguments.suspects)
            seconds = time.perf_counter() - began
        mistaken = wrongly_decided(run, truth)
    tally = person.tally
    print(
        f"{tally.suspects} suspects and {tally.others} random checks decided in {seconds:.0f} s by "
        f"{tally.presses} presses; {tally.wrong} suggestions were wrong: {tally.beyond} presses "
        f"beyond one for each {bar(tally.beyond <= BAR * tally.suspects / 300, str(BAR))}"
    )
    print(f"{mistaken} of the decided labels are not the true ones")
    append_row(arguments.results, {
        "samples": len(truth), "classes": len(set(truth.values())),
        "suspects": tally.suspects, "checks": tally.others, "presses": tally.presses,
        "wrong_suggestions": tally.wrong, "beyond": tally.beyond, "mistaken": mistaken,
    })  # fmt: skip


if __name__ == "__main__":
    main()
