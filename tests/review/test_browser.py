"""A review in a real browser: keys, undo, the grid, the export, other tabs, a killed server."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, until
from command import labelfix
from review_browser import CHOOSE, TILES, Reviewer
from review_run import HOSTILE_CLASS, SCRIPT, served, write_images, write_run

from labelfix.data.decisions import read_decisions

CLASSES = ("cat", "dog", "emu", HOSTILE_CLASS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    data = write_images(folder / "data", CLASSES, 40)
    (data / "cat" / "039.png").rename(data / "cat" / f"{SCRIPT}.png")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return write_run(made / "data", tmp_path / "run")


@pytest.fixture
def reviewer(browser: Browser, run: Path) -> Iterator[Reviewer]:
    with served(run, "--reviewer", "Ann") as page:
        yield Reviewer(browser, page)


def test_sixty_decisions_by_keyboard_outlive_a_reload_and_a_kill(
    browser: Browser, run: Path
) -> None:
    with served(run, "--port", "0") as page:
        reviewer = Reviewer(browser, page)
        seen = []
        for key in "ksudkskssk" * 6:
            sample = reviewer.text("#name")
            is_without = browser.find("#take").get_attribute("disabled")
            reviewer.press("k" if is_without and key == "s" else key)
            seen.append(sample)
            assert sample in read_decisions(run)  # on disk before the next picture shows
        assert len(set(seen)) == len(read_decisions(run)) == 60
        for _ in range(5):
            reviewer.press("z")
        assert sorted(read_decisions(run)) == sorted(seen[:55])
        assert reviewer.text("#name") == seen[55]
        browser.driver.refresh()
        reviewer.settle()
        assert reviewer.text("#name") == seen[55]
        reviewer.press("z")  # the tab remembers over a reload
        assert sorted(read_decisions(run)) == sorted(seen[:54])
        reviewer.press("u")
        held = read_decisions(run)
        assert browser.console() == []
        page.kill()
        browser.press("k")
        until(lambda: "does not answer" in reviewer.text("#alarm"))
    browser.console()
    with served(run, "--port", "0") as page:
        assert read_decisions(run) == held
        reviewer = Reviewer(browser, page)
        assert reviewer.text("#name") == seen[55]
        reviewer.press("z")  # of another address: the log remembers
        assert sorted(read_decisions(run)) == sorted(seen[:54])
        assert "54" in reviewer.browser.run(
            "return document.getElementById('progress-bar').getAttribute('aria-valuetext')"
        )


def test_a_pair_in_the_grid_is_chosen_from_applied_and_taken_back(
    reviewer: Reviewer, run: Path
) -> None:
    browser = reviewer.browser
    browser.press("g")
    until(lambda: len(browser.run(TILES)) == 24)
    assert any(label.startswith("undecided") for label in browser.run(TILES))  # a random check
    browser.run(CHOOSE, "grid-pair", "0,1")
    until(lambda: [label.startswith("accept ") for label in browser.run(TILES)] == [True] * 24)
    loaded = "return [...document.querySelectorAll('.tile img')].every(i => i.naturalWidth)"
    until(lambda: browser.run(loaded))
    browser.press("k", "ARROW_DOWN", "SPACE", "ARROW_RIGHT", "SPACE", "SPACE", "d", "z")
    assert [label.split()[0] for label in browser.run(TILES)][:1] == ["keep"]
    assert "accept 21, keep 2, leave 1" in reviewer.text("#grid-apply")
    browser.press("ENTER")
    until(lambda: len(read_decisions(run)) == 23)
    held = read_decisions(run).values()
    assert sorted(d.action for d in held) == ["keep"] * 2 + ["relabel"] * 21
    assert len({d.batch for d in held}) == 1
    until(lambda: len(browser.run(TILES)) == 6)
    assert "s each" in reviewer.text("#tally")
    browser.press("z")
    until(lambda: not read_decisions(run))
    until(lambda: len(browser.run(TILES)) == 24)
    browser.press("ESCAPE")
    until(lambda: browser.shown("#sample"))
    assert browser.console() == []


def test_a_review_is_gone_through_in_the_grid_and_exported(
    reviewer: Reviewer, run: Path, tmp_path: Path
) -> None:
    browser = reviewer.browser
    browser.press("g")
    presses = 0
    while not browser.shown("#finish"):
        until(lambda: browser.run(TILES) or browser.shown("#finish"))
        row = reviewer.row
        browser.press("ENTER")
        until(lambda row=row: reviewer.row != row or browser.shown("#finish"))
        presses += 1
    assert presses <= 8
    assert len(read_decisions(run)) == 120
    until(lambda: "0 without a decision" in reviewer.text("#before-after"))
    browser.run(CHOOSE, "export-format", "csv")
    field = browser.find("#export-to")
    field.clear()
    field.send_keys(str(tmp_path / "page.csv"))
    words = shlex.split(reviewer.text("#export-command"))
    browser.press("ENTER")
    until(lambda: "120 of 160 labels changed" in reviewer.text("#export-result"))
    assert words[:2] + words[3:] == [
        "labelfix", "export", str(tmp_path / "page.csv"), "--format", "csv",
    ]  # fmt: skip
    assert labelfix("export", run, tmp_path / "command.csv").returncode == 0
    assert (tmp_path / "page.csv").read_bytes() == (tmp_path / "command.csv").read_bytes()
    browser.find("#export-run").click()
    until(lambda: "there already" in reviewer.text("#export-result"))
    assert browser.shown("#export-result.failed")
    assert not [line for line in browser.console() if "409" not in line]


def test_another_class_is_found_by_typing(reviewer: Reviewer, run: Path) -> None:
    browser = reviewer.browser
    name, before = reviewer.text("#name"), reviewer.row
    browser.press("c")
    until(lambda: browser.shown("#class-search"))
    browser.press("E", "m")
    assert [line.text.split()[0] for line in browser.shown("#class-list li")] == ["emu"]
    browser.press("ENTER")
    until(lambda: reviewer.row != before)
    until(lambda: name in read_decisions(run))
    decision = read_decisions(run)[name]
    assert (decision.action, decision.label) in {("relabel", "emu"), ("keep", None)}
    reviewer.press("2")
    assert len(read_decisions(run)) == 2
    for key, dialog in (("?", "#help-dialog"), ("SPACE", "#zoom-dialog")):
        browser.press(key)
        until(lambda dialog=dialog: browser.shown(dialog))
        browser.press("ESCAPE")
        until(lambda dialog=dialog: not browser.shown(dialog))
    assert len(read_decisions(run)) == 2


def test_names_that_are_scripts_stay_text(reviewer: Reviewer) -> None:
    browser = reviewer.browser
    browser.run(CHOOSE, "kind", "all")
    seen = set()
    for _ in range(160):
        seen.add(browser.run("return document.getElementById('given').textContent"))
        seen.add(reviewer.text("#name"))
        if SCRIPT in "".join(seen) and HOSTILE_CLASS in seen:
            break
        reviewer.press("ARROW_RIGHT")
    assert SCRIPT in "".join(seen)
    assert HOSTILE_CLASS in seen
    browser.press("g")
    until(lambda: browser.run(TILES))
    assert "taken" not in browser.driver.title
    assert browser.find_all("img[src='x']") == []
    assert browser.console() == []


def test_two_tabs_do_not_lose_each_others_work(reviewer: Reviewer, run: Path) -> None:
    browser = reviewer.browser
    driver, first = browser.driver, browser.driver.current_window_handle
    shown = reviewer.row
    driver.switch_to.new_window("tab")
    second = driver.current_window_handle
    try:
        driver.get(reviewer.address)
        reviewer.settle()
        assert reviewer.row != shown  # the other tab has it in hand
        browser.run(CHOOSE, "state", "all")
        until(lambda: reviewer.row == shown)
        name = reviewer.text("#name")
        reviewer.press("d")
        driver.switch_to.window(first)
        until(lambda: "dropped by Ann" in reviewer.text("#decided"))  # the page looks by itself
        assert read_decisions(run)[name].action == "drop"
        reviewer.press("k")
        assert read_decisions(run)[name].action == "keep"
    finally:
        driver.switch_to.window(second)
        driver.close()
        driver.switch_to.window(first)


def test_nothing_is_asked_from_outside(reviewer: Reviewer) -> None:
    origin = reviewer.address.partition("/?")[0]
    asked = [url for url in reviewer.browser.requests() if url.startswith("http")]
    assert asked
    assert all(url.startswith(origin) for url in asked)
    assert "key=" not in reviewer.browser.driver.current_url
