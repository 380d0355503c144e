"""How the page is written: its record, and the HTML file that it becomes.

Letters: K classes.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from labelfix.data.decisions import Decision
from labelfix.modalities.base import MarkedPart, Snippet, ThumbnailRequest, wording_of
from labelfix.report.html.calibration import Expectation, Reviewed
from labelfix.report.html.charts import (
    calibration_chart,
    histogram,
    layer_chart,
    review_chart,
    training_charts,
)
from labelfix.report.html.findings import BadFiles, Finding, Unscored
from labelfix.report.html.hero import Hero, stacked_bar
from labelfix.report.html.scatter import Scatter, draw_scatter
from labelfix.report.html.suspects import MAP_CLASSES, Card, Confusion
from labelfix.report.html.walls import Wall
from labelfix.report.summary import ClassSummary, Summary
from labelfix.report.training_log import Training
from labelfix.report.types import RunInfo
from labelfix.types import Label
from labelfix.utils.text import percent, plain

HERE = Path(__file__).parent
LONGEST_NAME, LONGEST_TEXT = 160, 5000
"""Characters of a name or a sentence that are shown; the middle of a longer one is left out."""

LARGE_SIDE, CARD_SIDE, NEAR_SIDE, SET_SIDE, WALL_SIDE = 384, 232, 96, 144, 72
"""Pixels a side: of the first suspects, the others, their like, copies and the rest, and walls."""

TEXT_SIDE = 170
"""Of a text on a wall, of which more has to be seen."""

FIRST_CARDS = 24
"""Cards that are seen before more are asked for."""

CHARTS = (
    review_chart,
    histogram,
    calibration_chart,
    training_charts,
    layer_chart,
    stacked_bar,
)
"""What the template draws, by the name of the function."""


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class: its position in the class names, its figures, and how often it is suggested."""

    code: int
    figures: ClassSummary
    suggested: int


@dataclass(frozen=True, slots=True)
class Page:
    """What the page says.

    Args:
        name: Of the data set.
        class_names: K names.
        summary: The figures, the same as of ``labelfix show``.
        hero: The head.
        confusion: Which classes are confused.
        cards: The suspects that are shown, band by band, most surely wrong first.
        walls: Many samples of each class.
        scatter: The samples on a plane; ``None`` where they have no places.
        scatter_names: What is said of each of its points.
        classes: Every class, or the ``MOST_CLASSES`` with the most flags.
        expectation: What a review may expect.
        reviewed: What people have decided.
        decisions: Likewise, by sample id.
        findings: What else was found.
        bad_files: What cannot be read.
        unscored: Why samples were not scored.
        training: How whole networks were trained; ``None`` where none was.
        run: Where the actions came from.
        pictures: ``data:`` addresses, or snippets of text.
        words: Texts of cards in parts, by row of the report, with the words that are marked.
        is_text: Whether samples are texts.
        why_no_pictures: A sentence, where there are none.
    """

    name: str
    class_names: tuple[Label, ...]
    summary: Summary
    hero: Hero
    confusion: Confusion
    cards: tuple[Card, ...]
    walls: tuple[Wall, ...]
    scatter: Scatter | None
    scatter_names: tuple[str, ...]
    classes: tuple[ClassRow, ...]
    expectation: Expectation
    reviewed: Reviewed
    decisions: Mapping[str, Decision]
    findings: tuple[Finding, ...]
    bad_files: BadFiles
    unscored: tuple[Unscored, ...]
    training: Training | None
    run: RunInfo
    pictures: Mapping[ThumbnailRequest, str | Snippet]
    words: Mapping[int, Sequence[MarkedPart]]
    is_text: bool
    why_no_pictures: str | None


@dataclass(frozen=True, slots=True)
class Tab:
    """A part of the page: what leads to it, how many it holds, and the findings in it."""

    key: str
    title: str
    count: int | None
    findings: tuple[Finding, ...] = ()


def wall_side(*, is_text: bool) -> int:
    """Return how large a sample of a wall is."""
    return TEXT_SIDE if is_text else WALL_SIDE


def render(page: Page) -> str:
    """Return the page as HTML; every name in it is escaped."""
    head_script, script, style = _text("theme.js"), _script(), _style()
    places = {card.row: place for place, card in enumerate(page.cards)}
    return _template().render(
        page=page,
        policy=content_policy(style, head_script, script),
        style=style,
        head_script=head_script,
        script=script,
        data=_data(page),
        tabs=_tabs(page),
        filters=_filters(page),
        later={card.row for card in page.cards[FIRST_CARDS:]},
        places=places,
        scatter=page.scatter,
        drawn=_scatter(page, places),
        walled={wall.code for wall in page.walls},
        without_wall=sum(row.figures.samples > 0 for row in page.classes) - len(page.walls),
        are_long=any(len(_name(name)) > 3 for name in page.class_names[:MAP_CLASSES]),
        run_rows=_run_rows(page.run),
        is_text=page.is_text,
        are_pictures=wording_of(page.summary.modality).are_pictures,
        sides={
            "large": LARGE_SIDE,
            "card": CARD_SIDE,
            "near": NEAR_SIDE,
            "set": SET_SIDE,
            "wall": wall_side(is_text=page.is_text),
        },
        picture=lambda row, side: page.pictures.get(ThumbnailRequest(row, side)),
    )


def _scatter(page: Page, places: dict[int, int]) -> Markup:
    if page.scatter is None:
        return Markup("")
    return draw_scatter(page.scatter, tuple(map(_name, page.scatter_names)), places)


def _data(page: Page) -> Markup:
    """Return what the ticks of the page are kept and written by.

    Labels are JSON within JSON: a browser would round an integer of 64 bits.
    """
    codes = {code for card in page.cards for code in (card.given, card.suggested)}
    return htmlsafe_json_dumps(
        {
            "run": page.run.run_id or page.run.fingerprint,
            "labels": {code: json.dumps(page.class_names[code]) for code in sorted(codes)},
            "samples": [card.sample_id for card in page.cards],
        }
    )


def _tabs(page: Page) -> list[Tab]:
    """Return the parts of the page, in the order in which they come."""
    summary = page.summary
    of_findings = {
        "copies": "Copies",
        "near-copies": "Near-copies",
        "outliers": "Outliers",
        "quality": "Poor pictures" if wording_of(summary.modality).are_pictures else "Other checks",
    }
    tabs = [
        Tab("suspects", "Suspects", summary.flagged),
        Tab("classes", "Classes", summary.classes),
    ]
    if page.scatter is not None:
        tabs.append(Tab("map", "Map", None))
    for key, title in of_findings.items():
        findings = tuple(finding for finding in page.findings if finding.tab == key)
        counts = [f.samples if f.count is None else f.count for f in findings]
        if findings:
            tabs.append(Tab(key, title, sum(counts), findings))
    if page.bad_files.count or page.unscored:
        tabs.append(Tab("files", "Not used", summary.samples - summary.scored))
    if page.expectation.points or page.training:
        tabs.append(Tab("review", "How far to go", None))
    return [*tabs, Tab("run", "This run", None)]


@cache
def _template() -> Template:
    environment = page_environment(HERE)
    environment.globals["longest"] = LONGEST_TEXT
    environment.filters |= {chart.__name__: chart for chart in CHARTS}
    return environment.get_template("report.html.jinja")


def page_environment(folder: Path) -> Environment:
    """Return what fills the templates of a folder; what it fills in is escaped."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"name": _name, "percent": _percent, "odds": _odds, "count": _count}
    environment.filters["plain"] = _plain
    return environment


def content_policy(style: str, *scripts: str) -> str:
    """Return the policy by which a page runs and loads nothing but what is written in it."""
    run = " ".join(map(_digest, scripts)) or "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {run}; "
        "base-uri 'none'; form-action 'none'"
    )


def _filters(page: Page) -> list[int]:
    """Return the classes that the cards can be filtered by."""
    codes = {code for card in page.cards for code in (card.given, card.suggested)}
    pairs = page.confusion.pairs
    return sorted(codes.union(*((given, suggested) for given, suggested, _ in pairs)))


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def shared_style() -> str:
    """Return the colors and plain elements of every page."""
    return _text("theme.css")


def _style() -> str:
    return shared_style() + _text("report.css")


def _script() -> str:
    return _text("report.js") + _text("suspects.js")


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _name(label: Label | None, longest: int = LONGEST_NAME) -> str:
    """Return a name as it is shown: on one line, and not longer than a person reads."""
    text = "no label" if label is None else plain(str(label))
    if len(text) <= longest:
        return text or "(empty)"
    half = longest // 2
    return f"{text[:half]} ... {text[-half:]}"


def _plain(text: str) -> str:
    """Return a part of a text on one line, without what could upset a page."""
    return plain(" ".join(re.split(r"\s+", text)))


def _percent(share: float | None) -> str:
    """Return a share as percent."""
    return "unknown" if share is None else percent(share)


def _odds(probability: float) -> str:
    """Return a probability as ``labelfix show`` does: only certainty reads as 100 %."""
    return percent(probability)


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _run_rows(run: RunInfo) -> list[tuple[str, str]]:
    """Return what shaped the actions, as terms and texts."""
    rows = [
        ("data", f"{run.source.path} ({run.source.kind})"),
        ("backbone", run.backbone),
        ("seed", run.seed),
        (f"fingerprint of the {wording_of(run.modality).plural}", run.fingerprint),
        *sorted(run.versions.items()),
        *sorted(run.settings.items()),
    ]
    return [(str(term), _setting(value)) for term, value in rows if value is not None]


def _setting(value: Any) -> str:
    text = (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    )
    return _name(text)
