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


def test_classes_are_found_by_words_in_any_order_likely_and_recent_ones_first(
    browser: Browser, tmp_path: Path
) -> None:
    classes = ("arctic fox", "gray wolf", "red fox", "timber_wolf", "wolf spider")
    write_images(tmp_path / "data", classes, 3)
    run = write_run(tmp_path / "data", tmp_path / "run", unflagged=1)

    def listed(search: str) -> list[str]:
        browser.press("c")
        until(lambda: browser.shown("#class-search"))
        browser.press(*search)
        return [line.text.replace("\n", " ") for line in browser.shown("#class-list li")]

    with served(run, "--port", "0") as page:
        reviewer = Reviewer(browser, page)
        names = [line.removesuffix(" likely") for line in listed("")]
        assert names[0] == reviewer.text("#suggested")
        assert sorted(names) == sorted(classes)
        browser.press("ESCAPE")
        assert [line.removesuffix(" likely") for line in listed("wo ti")] == ["timber_wolf"]
        browser.press("ESCAPE")
        assert {line.removesuffix(" likely") for line in listed("ray")} == {"gray wolf"}
        before = reviewer.row
        browser.press("ENTER")
        until(lambda: reviewer.row != before)
        browser.run("picker.likely = []; listClasses()")
        recent = "return document.querySelector('#class-list li').textContent"
        assert browser.run(recent) == "gray wolfrecent"


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


NARROW = """
const wide = document.scrollingElement.scrollWidth;
const buttons = [...document.querySelectorAll("#keep, #take, #more")]
  .map(b => b.getBoundingClientRect());
return [wide, innerHeight, ...buttons.map(b => b.top), ...buttons.map(b => b.bottom)];
"""


def test_a_phone_has_its_buttons_at_the_bottom_and_scrolls_down_only(
    reviewer: Reviewer, run: Path
) -> None:
    browser = reviewer.browser
    browser.resize(380, 720)
    wide, height, *edges = browser.run(NARROW)
    assert wide <= 380
    assert all(height * 0.85 < edge <= height for edge in edges), edges
    assert not browser.shown("#filters, #drop, #undo")
    name, before = reviewer.text("#name"), reviewer.row
    browser.find("#take").click()
    until(lambda: reviewer.row != before)
    assert read_decisions(run)[name].action == "relabel"
    browser.find("#more").click()
    assert len(browser.shown("#choose, #unsure, #drop, #undo")) == 4
    browser.find("#undo").click()
    until(lambda: reviewer.row == before)
    browser.find("#menu").click()
    until(lambda: browser.shown("#filters"))
    for mode, opened in (("g", "#grid-apply"), ("f", "#export-run"), ("?", "#help-dialog")):
        browser.press(mode)
        until(lambda opened=opened: browser.shown(opened))
        assert browser.run("return document.scrollingElement.scrollWidth") <= 380
    assert browser.console() == []


def test_what_is_enlarged_keeps_its_keys_and_labels(reviewer: Reviewer, run: Path) -> None:
    browser = reviewer.browser
    names = []
    browser.press("SPACE")
    until(lambda: browser.shown("#zoom-dialog"))
    for key, said in (("k", "kept"), ("s", "relabeled"), ("d", "dropped")):
        names.append(browser.run("return document.getElementById('name').textContent"))
        until(lambda: f"undecided. {names[-1]}" in reviewer.text("#zoom-labels"))
        reviewer.press(key)
        until(lambda said=said: said in reviewer.text("#message"))
    assert [read_decisions(run)[n].action for n in names] == ["keep", "relabel", "drop"]
    reviewer.press("ARROW_LEFT")
    until(lambda: f"dropped. {names[-1]}" in reviewer.text("#zoom-labels"))
    browser.press("SPACE")
    until(lambda: not browser.shown("#zoom-dialog"))


def test_random_checks_can_be_left_out_and_take_the_first_class(
    reviewer: Reviewer, run: Path
) -> None:
    browser = reviewer.browser
    for _ in range(7):
        reviewer.press("ARROW_RIGHT")
    assert "random check" in reviewer.text("#flag")
    name, given = reviewer.text("#name"), reviewer.text("#given")
    first = reviewer.text("#top li .class")
    assert reviewer.text("#take-name") == first
    reviewer.press("s")
    decision = read_decisions(run)[name]
    assert (decision.label or given) == first
    browser.find("#checks").click()
    reviewer.settle()
    seen = []
    for _ in range(9):
        seen.append(reviewer.text("#flag"))
        reviewer.press("ARROW_RIGHT")
    assert not any("random check" in flags for flags in seen)
    assert all("label issue" in flags for flags in seen)


def test_one_probability_is_said_of_one_sample(reviewer: Reviewer) -> None:
    text = reviewer.text("#sample")
    assert text.count("%") == 1
    assert "Wrong with a probability of" in text


def test_suspects_take_one_press_a_page_and_one_a_wrong_suggestion(
    reviewer: Reviewer, run: Path
) -> None:
    browser = reviewer.browser
    browser.press("g")
    presses, wrong = 1, 0
    while not browser.shown("#finish"):
        until(lambda: browser.run(TILES) or browser.shown("#finish"))
        row, tiles = reviewer.row, browser.run(TILES)
        for place in range(0, len(tiles), 5):  # as if every fifth suggestion was wrong
            reviewer.press_shift("ABCDEFGHIJKLMNOPQRSTUVWX"[place])
            wrong += 1
        reviewer.press_shift("ENTER")
        presses += 1
        until(lambda row=row: reviewer.row != row or browser.shown("#finish"))
    actions = [d.action for d in read_decisions(run).values() if d.flagged]
    assert len(actions) == 120
    assert presses <= 1 + 160 / 24 + 1
    assert actions.count("keep") <= wrong
    assert actions.count("relabel") >= 120 - wrong


def test_hidden_labels_are_nowhere_on_the_page(browser: Browser, run: Path) -> None:
    with served(run, "--certify", "20", "--hide-labels") as page:
        reviewer = Reviewer(browser, page)
        for _ in range(3):
            shown = reviewer.text("#sample")
            assert ".png" not in shown
            assert "hidden" in shown
            assert reviewer.text("#name") == "a sample drawn at random"
            assert browser.find("#keep").get_attribute("disabled")
            before = len(read_decisions(run))
            browser.press("k")  # there is no label to keep
            until(lambda: "choose the class" in reviewer.text("#message"))
            assert len(read_decisions(run)) == before
            reviewer.press("2")
            until(lambda before=before: len(read_decisions(run)) == before + 1)
        assert len({one.label for one in read_decisions(run).values()} - {None}) == 1
        reviewer.press("z")
        assert len(read_decisions(run)) == 2
        assert browser.console() == []


def test_reviewers_on_a_network_say_who_they_are_first(browser: Browser, run: Path) -> None:
    with served(run, "--host", "0.0.0.0", "--port", "0") as page:
        reviewer = Reviewer(browser, page)
        until(lambda: browser.shown("#name-dialog"))
        assert browser.run("return location.pathname + location.search") == "/"
        browser.press("ESCAPE", "ENTER", "k")  # a key that decides is a letter of the name here
        assert browser.shown("#name-dialog")
        assert not read_decisions(run)
        browser.press("BACKSPACE", HOSTILE_CLASS, "ENTER")
        until(lambda: not browser.shown("#name-dialog"))
        sample = reviewer.text("#name")
        reviewer.press("k")
        assert read_decisions(run)[sample].decided_by == HOSTILE_CLASS
        reviewer.press("ARROW_LEFT")
        until(lambda: f"by {HOSTILE_CLASS}" in reviewer.text("#decided"))
        browser.press("f")
        until(lambda: "labelfix export" in reviewer.text("#export-command"))
        assert not browser.shown("#export-run")
        browser.driver.refresh()  # the name is kept
        reviewer.settle()
        assert not browser.shown("#name-dialog")
        assert browser.driver.title.startswith("Review")
