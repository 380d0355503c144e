"""The page of a run in a real browser."""

import pytest
from browser import Browser, until
from page_run import PageRun, every_issue, make_run, write_neighbors

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
    write_neighbors(made.run, near, [[0.9, 0.8, 0.7]] * size)
    write_page(made.run, every_issue(made.report), pictures_of(made.images, no_progress))
    return made


@pytest.fixture
def page(browser: Browser, pets: PageRun) -> Browser:
    browser.open(pets.run / "report.html")
    return browser


def cards(page: Browser) -> int:
    return len(page.shown(".card"))


def background(page: Browser) -> str:
    return page.run("return getComputedStyle(document.body).backgroundColor")


def test_it_asks_for_nothing_and_complains_of_nothing(page, pets):
    page.run("for (const i of document.images) { i.loading = 'eager'; i.scrollIntoView(); }")
    page.run("document.querySelectorAll('.later').forEach(e => e.classList.remove('later'))")
    assert page.run("return Promise.all([...document.images].map(i => i.decode()))") is not None
    assert page.requests() == [(pets.run / "report.html").as_uri()]
    assert page.console() == []


def test_no_name_runs(page):
    assert page.driver.title == "pets: label report"
    assert page.run("return document.scripts.length") == 2
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

    for number in range(1, 7):
        button = page.find(f"#classes thead th:nth-child({number}) button")
        button.click()
        first = column(number)
        assert first in (sorted(first), sorted(first, reverse=True))
        button.click()
        assert column(number) == first[::-1] or len(set(first)) < len(first)
        assert len(page.find_all("#classes th[aria-sort]")) == 1


def test_the_slider_says_what_to_expect(page):
    before = page.find("#expected").text
    page.run("document.querySelector('#reviewed').focus()")
    page.press("HOME")
    assert page.find("#expected").text.startswith("The first 1 hold about 1 wrong labels (")
    page.press("END")
    assert page.find("#expected").text != before
    assert len(page.find_all("#review .cursor")) == 1


def test_the_commands_name_the_folder_of_the_page(page, pets):
    commands = [element.text for element in page.find_all(".command")]
    assert f"labelfix review {pets.run}" in commands
    assert f"labelfix export {pets.run} {pets.run}-clean.csv" in commands


@pytest.mark.parametrize("width", [360, 768, 1360])
def test_it_never_scrolls_sideways(page, width):
    page.resize(width, 800)
    assert page.run("return document.documentElement.scrollWidth") <= width
