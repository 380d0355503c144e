"""The page of a run in a real browser."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, until
from command import labelfix
from page_run import PageRun, every_issue, make_run, write_neighbors

from labelfix.data.decisions import read_decisions
from labelfix.modalities.image.rendering import pictures_of
from labelfix.report.html.page import write_page
from labelfix.report.html.suspects import find_suspects
from labelfix.report.view import ReportView
from labelfix.utils.progress import no_progress

DARK, LIGHT = "rgb(20, 23, 28)", "rgb(250, 249, 246)"


@pytest.fixture(scope="module")
def pets(tmp_path_factory) -> PageRun:
    made = make_run(tmp_path_factory.mktemp("page"), hostile=True)
    size = len(made.report)
    near = [[(row + step) % size for step in (1, 24, 48)] for row in range(size)]
    places = np.random.default_rng(0).random((size, 2))
    write_neighbors(made.run, near, [[0.9, 0.8, 0.7]] * size, places)
    write_page(made.run, every_issue(made.report), pictures_of(made.images, no_progress))
    return made


@pytest.fixture
def page(browser: Browser, pets: PageRun) -> Browser:
    browser.open(pets.run / "report.html")
    return browser


def open_tab(page: Browser, key: str) -> None:
    page.find(f".tabs a[href='#{key}']").click()


def cards(page: Browser) -> int:
    return len(page.shown(".card"))


def background(page: Browser) -> str:
    return page.run("return getComputedStyle(document.body).backgroundColor")


def test_it_asks_for_nothing_and_complains_of_nothing(page, pets):
    page.run("document.querySelectorAll('.panel').forEach(e => e.classList.add('open'))")
    page.run("document.querySelectorAll('.later').forEach(e => e.classList.remove('later'))")
    page.run("for (const i of document.images) { i.loading = 'eager'; i.scrollIntoView(); }")
    assert page.run("return Promise.all([...document.images].map(i => i.decode()))") is not None
    assert page.requests() == [(pets.run / "report.html").as_uri()]
    assert page.console() == []


def test_no_name_runs(page):
    assert page.driver.title == "pets: label report"
    assert page.run("return document.scripts.length") == 3
    open_tab(page, "classes")
    assert 'onerror="document.title=1"' in page.find("#classes").text
    page.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"hit=1\">')")
    assert page.run("return typeof hit") == "undefined"
    until(lambda: any("Content Security Policy" in line for line in page.console()))


def test_a_number_of_the_map_filters_the_cards(page, pets):
    assert cards(page) == 24
    suspects = find_suspects(ReportView(pets.report))
    for cell in page.find_all("button.heat")[:3]:
        pair = int(cell.get_attribute("data-given")), int(cell.get_attribute("data-suggested"))
        known = sum(pair == p for p in zip(suspects.given, suspects.suggested, strict=True))
        cell.click()
        assert cards(page) == known == int(cell.text)
        assert cell.get_attribute("aria-pressed") == "true"
        assert f"{known} of {known} cards" in page.find("#shown").text
    page.find("#clear").click()
    assert cards(page) == 24
    assert page.find_all("button[aria-pressed=true]") == []


def test_the_lists_filter_too_and_more_cards_can_be_had(page):
    page.find("#more").click()
    assert cards(page) == 48
    assert not page.find("#more").is_displayed()
    page.run(
        "const l = document.querySelector('#filter-given'); l.value = '1';"
        "l.dispatchEvent(new Event('change'))"
    )
    assert cards(page) == 12
    page.run(
        "const l = document.querySelector('#filter-suggested'); l.value = '1';"
        "l.dispatchEvent(new Event('change'))"
    )
    assert cards(page) == 0
    assert page.find("#none").is_displayed()


def test_everything_can_be_done_by_keyboard(page):
    page.press("TAB")
    assert page.run("return document.activeElement.className") == "skip"
    stops = []
    for _ in range(60):
        page.press("TAB")
        stops.append(page.run("return document.activeElement.className"))
        if "heat" in stops[-1]:
            break
    assert sum("heat" in stop for stop in stops) == 1
    assert stops.count("copy") == 3
    assert stops.count("") <= 3  # the color switch, one tab, and the frame around the map
    first = page.run("return document.activeElement.getAttribute('aria-label')")
    page.press("ARROW_RIGHT")
    assert page.run("return document.activeElement.getAttribute('aria-label')") != first
    page.press("ENTER")
    assert cards(page) < 24
    page.press("TAB")  # the map is one stop
    assert "heat" not in page.run("return document.activeElement.className")
    page.press("ESCAPE")
    assert cards(page) == 24
    outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_it_is_dark_where_the_system_is_and_where_a_person_says_so(page):
    page.prefer("light")
    assert background(page) == LIGHT
    page.prefer("dark")
    assert background(page) == DARK
    switch = page.find("[data-theme-switch]")
    until(lambda: switch.text == "Light")
    switch.click()
    assert background(page) == LIGHT
    page.driver.refresh()
    assert background(page) == LIGHT
    page.prefer("light")  # a person's choice stands
    page.find("[data-theme-switch]").click()
    assert background(page) == DARK


def test_the_table_of_classes_can_be_sorted(page):
    def column(number):
        cells = page.find_all(f"#classes tbody tr > :nth-child({number})")
        return [float(cell.get_attribute("data-value")) for cell in cells]

    open_tab(page, "classes")
    for number in range(1, 7):
        button = page.find(f"#classes thead th:nth-child({number}) button")
        button.click()
        first = column(number)
        assert first in (sorted(first), sorted(first, reverse=True))
        button.click()
        assert column(number) == first[::-1] or len(set(first)) < len(first)
        assert len(page.find_all("#classes th[aria-sort]")) == 1


def test_the_slider_says_what_to_expect(page):
    open_tab(page, "review")
    before = page.find("#expected").text
    page.run("document.querySelector('#reviewed').focus()")
    page.press("HOME")
    assert page.find("#expected").text.startswith("The first 1 hold about 1 wrong labels (")
    page.press("END")
    assert page.find("#expected").text != before
    assert len(page.find_all("#review .cursor")) == 1


def test_the_commands_name_the_folder_of_the_page(page, pets):
    commands = [element.text for element in page.shown(".command")]
    assert commands == [
        f'labelfix.open_run("{pets.run}")',
        f"labelfix review {pets.run}",
        f"labelfix export {pets.run} {pets.run}-clean.csv",
    ]
    assert len(page.shown(".copy")) == 3


@pytest.mark.parametrize("width", [360, 768, 1360])
def test_it_never_scrolls_sideways(page, width):
    page.resize(width, 800)
    for tab in page.find_all(".tabs a"):
        page.run("arguments[0].click()", tab)
        assert page.run("return document.documentElement.scrollWidth") <= width
    page.run("document.querySelector('.enlarge').click()")
    assert page.run("return document.documentElement.scrollWidth") <= width


def test_one_tab_is_shown_at_a_time_and_the_address_names_it(page):
    keys = [tab.get_attribute("href").rpartition("#")[2] for tab in page.find_all(".tabs a")]
    assert keys[:5] == ["suspects", "classes", "map", "copies", "near-copies"]
    assert [panel.get_attribute("id") for panel in page.shown(".panel")] == ["suspects"]
    page.find(".tabs a").send_keys("")
    page.press("ARROW_RIGHT")
    assert page.run("return location.hash") == "#classes"
    assert page.run("return document.activeElement.ariaSelected") == "true"
    page.driver.refresh()
    assert [panel.get_attribute("id") for panel in page.shown(".panel")] == ["classes"]
    page.find("#classes tbody a[href='#wall-2']").click()
    until(lambda: page.find("#wall-2 .tiles").is_displayed())
    assert len(page.shown("#wall-2 .tile")) == 24
    assert len(page.shown("#wall-2 .tile.doubted")) == 12
    page.run("history.back()")
    page.run("history.back()")
    until(lambda: page.find("#suspects").is_displayed())
    page.run("location.hash = 'same-near-copies'")  # a part of a tab
    until(lambda: page.find("#near-copies").is_displayed())


def large(page: Browser) -> str:
    return page.find("#large-card .file code").get_attribute("title")


def test_a_click_opens_a_large_view_with_arrows_and_escape(page):
    names = [code.get_attribute("title") for code in page.find_all(".cards .file code")]
    page.find_all(".enlarge")[1].click()
    assert page.find("#large").is_displayed()
    assert large(page) == names[1]
    page.press("ARROW_RIGHT")
    assert large(page) == names[2]
    page.press("ARROW_LEFT", "ARROW_LEFT", "ARROW_LEFT")  # there is none before the first
    assert large(page) == names[0]
    page.press("k")
    kept = page.find_all(".card [data-tick=keep]")[0]
    assert kept.get_attribute("aria-pressed") == "true"
    page.press("ESCAPE")
    assert not page.find("#large").is_displayed()
    first = page.find_all(".enlarge")[0]
    until(lambda: page.run("return document.activeElement") == first)
    open_tab(page, "classes")
    page.find("#classes .tile button").click()
    assert large(page) in names
    page.press("ESCAPE")
    tile = page.find("#classes .tile button")
    until(lambda: page.run("return document.activeElement") == tile)


def test_arrows_go_through_what_the_filter_leaves(page):
    page.find("button.heat").click()
    left = cards(page)
    page.shown(".enlarge")[0].click()
    for number in range(left):
        assert page.find("#large-place").text == f"{number + 1} of {left}"
        page.press("ARROW_RIGHT")
    assert page.find("#large-place").text == f"{left} of {left}"


def test_the_map_of_the_samples_shows_one_class_before_the_others(page, pets):
    open_tab(page, "map")
    points = page.find_all(".scatter circle")
    assert len(points) == len(pets.report)
    ringed = page.find_all(".scatter .ringed")
    assert len(ringed) == len(find_suspects(ReportView(pets.report)).rows)
    page.find_all(".color")[1].click()
    assert len(page.find_all(".scatter circle.k1:not(.dim)")) == 24
    assert len(page.find_all(".scatter .dim")) == len(points) - 24
    page.find_all(".color")[1].click()
    assert page.find_all(".scatter .dim") == []
    page.run("arguments[0].dispatchEvent(new MouseEvent('click', { bubbles: true }))", ringed[-1])
    first = page.find(".cards .file code").get_attribute("title")
    assert large(page) == first  # the most surely wrong one lies on top


def save(page: Browser, folder: Path) -> Path:
    """Press the button, and return the file that the browser saves."""
    where = {"behavior": "allow", "downloadPath": str(folder)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    page.find("#download").click()
    until(lambda: (folder / "decisions.jsonl").is_file())
    return folder / "decisions.jsonl"


def test_ticks_become_decisions_that_the_export_takes(browser, pets, tmp_path):
    run = shutil.copytree(pets.run, tmp_path / "run")
    browser.resize(1280, 3000)  # nothing lies below the tray
    browser.open(run / "report.html")
    names = json.loads(browser.find("#data").get_attribute("textContent"))["samples"]
    report = {row["sample_id"]: row for row in pets.report.table.to_pylist()}
    assert not browser.find("#download").is_enabled()
    browser.find_all("[data-tick=accept]")[0].click()
    browser.find_all("[data-tick=keep]")[1].click()
    for _ in range(2):  # ticked, and taken back
        browser.find_all("[data-tick=keep]")[2].click()
    browser.find(".accept-all").click()  # "keep" of the second card becomes "accept"
    browser.find_all("[data-tick=keep]")[1].click()
    band = len(browser.find_all(".band:first-of-type .card"))
    assert browser.find("#ticked").text == (
        f"{band - 1} accepted, 1 kept, {len(names) - band} left."
    )
    browser.driver.refresh()
    assert len(browser.find_all(".card [data-tick][aria-pressed=true]")) == band
    file = save(browser, tmp_path)
    found = read_decisions(file)
    assert list(found) == names[:band]
    for number, (name, decision) in enumerate(found.items()):
        is_kept = number == 1
        assert decision.action == ("keep" if is_kept else "relabel")
        assert decision.label == (None if is_kept else report[name]["suggested_label"])
        assert decision.flagged
    for _ in range(2):  # what is known is not added again
        command = ["export", run, tmp_path / "clean.csv", "--decisions", file, "--overwrite"]
        done = labelfix(*command)
        assert done.returncode == 0, done.stderr
        assert read_decisions(run) == found
        assert len((run / "decisions.jsonl").read_text("utf-8").splitlines()) == band
    changed = {name for name, decision in found.items() if decision.action == "relabel"}
    text = (tmp_path / "clean.csv").read_text("utf-8")
    assert all(name in text for name in changed if '"' not in name)
    browser.find("#untick").click()
    assert browser.find_all(".card [data-tick][aria-pressed=true]") == []
    browser.find("#untick").click()  # it takes the clearing back
    assert len(browser.find_all(".card [data-tick][aria-pressed=true]")) == band
    assert browser.console() == []


def test_a_browser_that_keeps_nothing_still_saves(page, tmp_path):
    page.run("Object.defineProperty(window, 'localStorage', { get() { throw new Error(); } })")
    page.find("[data-tick=accept]").click()
    assert "download before you leave" in page.find("#ticked").text
    assert len(read_decisions(save(page, tmp_path))) == 1
