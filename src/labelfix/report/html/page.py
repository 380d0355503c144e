"""The page: what it says as one record, and how that becomes one HTML file.

Letters: K classes.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from labelfix.data.decisions import Decision, read_decisions
from labelfix.errors import DatasetError
from labelfix.modalities.base import (
    Renderer,
    Snippet,
    ThumbnailRequest,
    no_pictures,
    wording_of,
)
from labelfix.report.html.calibration import Expectation, Reviewed, expect, tally
from labelfix.report.html.charts import (
    calibration_chart,
    histogram,
    layer_chart,
    review_chart,
    training_charts,
)
from labelfix.report.html.findings import (
    BadFiles,
    Finding,
    Unjudged,
    find_bad_files,
    find_findings,
    find_unjudged,
)
from labelfix.report.html.suspects import (
    Card,
    HeatMap,
    choose_cards,
    find_suspects,
    heat_map,
)
from labelfix.report.io import read_report_table, report_file
from labelfix.report.neighbors import read_neighbors
from labelfix.report.reopen import find_renderer
from labelfix.report.run_folder import PAGE_NAME, locked
from labelfix.report.summary import ClassSummary, Summary, summarize
from labelfix.report.training_log import Training, read_training, summarize_training
from labelfix.report.types import Report, RunInfo
from labelfix.report.view import ReportView
from labelfix.types import Label
from labelfix.utils.files import atomic_path
from labelfix.utils.progress import OnProgress, no_progress
from labelfix.utils.text import percent, plain

HERE = Path(__file__).parent
LONGEST_NAME, LONGEST_TEXT = 160, 5000
"""Characters of a name or a sentence that are shown; the middle of a longer one is left out."""

CARD_SIDE, NEAR_SIDE, SET_SIDE = 232, 96, 144
"""Pixels a side of the pictures: of a suspect, of its neighbors, and of all others."""

CHARTS = (review_chart, histogram, calibration_chart, training_charts, layer_chart)
"""What the template draws, by the name of the function."""

MOST_CLASSES = 1000
"""Rows of the table of classes at most."""


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
        map: Which classes are confused.
        cards: The suspects that are shown, most surely wrong first.
        classes: Every class, or the ``MOST_CLASSES`` with the most flags.
        expectation: What a review may expect.
        reviewed: What people have decided.
        decisions: Likewise, by sample id.
        findings: What else was found.
        bad_files: What cannot be read.
        unjudged: Why samples were not judged.
        training: How whole networks were trained; ``None`` where none was.
        run: Where the actions came from.
        pictures: ``data:`` addresses, or snippets of text.
        why_no_pictures: A sentence, where there are none.
    """

    name: str
    class_names: tuple[Label, ...]
    summary: Summary
    map: HeatMap
    cards: tuple[Card, ...]
    classes: tuple[ClassRow, ...]
    expectation: Expectation
    reviewed: Reviewed
    decisions: Mapping[str, Decision]
    findings: tuple[Finding, ...]
    bad_files: BadFiles
    unjudged: tuple[Unjudged, ...]
    training: Training | None
    run: RunInfo
    pictures: Mapping[ThumbnailRequest, str | Snippet]
    why_no_pictures: str | None


def requests(cards: Sequence[Card], findings: Sequence[Finding]) -> list[ThumbnailRequest]:
    """Return the pictures of a page, the most important first."""
    near = [one for card in cards for one in (card.agreeing, card.disagreeing) if one is not None]
    others = [
        picture for finding in findings for found in finding.sets for picture in found.pictures
    ]
    return [
        *(ThumbnailRequest(card.row, CARD_SIDE) for card in cards),
        *(ThumbnailRequest(picture.row, SET_SIDE) for picture in others),
        *(ThumbnailRequest(one.row, NEAR_SIDE) for one in near),
    ]


def render(page: Page) -> str:
    """Return the page as HTML; every name in it is escaped."""
    head_script, script, style = _text("theme.js"), _text("report.js"), _style()
    policy = (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; "
        f"script-src {_digest(head_script)} {_digest(script)}; base-uri 'none'; form-action 'none'"
    )
    return _template().render(
        page=page,
        policy=policy,
        style=style,
        head_script=head_script,
        script=script,
        filters=_filters(page),
        are_long=any(len(_name(page.class_names[code])) > 3 for code in page.map.codes),
        run_rows=_run_rows(page.run),
        sides={"card": CARD_SIDE, "near": NEAR_SIDE, "set": SET_SIDE},
        picture=lambda row, side: page.pictures.get(ThumbnailRequest(row, side)),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"name": _name, "percent": _percent, "odds": _odds, "count": _count}
    environment.globals["longest"] = LONGEST_TEXT
    environment.filters |= {chart.__name__: chart for chart in CHARTS}
    return environment.get_template("report.html.jinja")


def _filters(page: Page) -> list[int]:
    """Return the classes that the cards can be filtered by."""
    codes = {code for card in page.cards for code in (card.given, card.suggested)}
    return sorted(codes.union(page.map.codes))


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _style() -> str:
    return _text("theme.css") + _text("report.css")


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


def find_pictures(
    report: Report, on_progress: OnProgress, *, follow_links: bool = False
) -> Renderer:
    """Return the pictures of a report; that its samples are gone is no fault of a page.

    Args:
        report: Whose data set is opened again.
        on_progress: Told how far it is.
        follow_links: Whether to draw samples that links outside the data set lead to.
    """
    try:
        return find_renderer(report, on_progress, follow_links=follow_links)
    except DatasetError as error:
        return no_pictures(
            f"There are no pictures here: {error}. Put the data back as they were, then: "
            "labelfix show RUN --html"
        )


def write_page(run: Path, report: Report, pictures: Renderer) -> Path:
    """Write the page of a finished run and return where it is.

    The same run makes the same bytes: there is no date in it, and no place of output.

    Args:
        run: The RUN folder.
        report: What was found; ``pred_probs`` is not looked at.
        pictures: Who draws the samples of the data set.

    Raises:
        RunError: A file of the run is damaged, or the page cannot be written.
        ReportError: Likewise.
        DecisionsError: Likewise.
    """
    view = ReportView(report, read_decisions(run))
    text = render(_compose(run, view, pictures))
    path = run / PAGE_NAME
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def _compose(run: Path, view: ReportView, pictures: Renderer) -> Page:
    report, decisions = view.report, view.decisions
    training = summarize_training(run, report)
    summary = summarize(view, top=12, training=training)
    suspects = find_suspects(view)
    shown = heat_map(suspects, len(view.class_names))
    cards = choose_cards(view, suspects, shown, read_neighbors(run, report.table["sample_id"]))
    findings = find_findings(view)
    return Page(
        name=report.run.source.path.name or "data set",
        class_names=view.class_names,
        summary=summary,
        map=shown,
        cards=cards,
        classes=_class_rows(view, summary),
        expectation=expect(view),
        reviewed=tally(view),
        decisions={
            card.sample_id: decisions[card.sample_id]
            for card in cards
            if card.sample_id in decisions
        },
        findings=findings,
        bad_files=find_bad_files(view),
        unjudged=find_unjudged(view),
        training=read_training(run, training),
        run=report.run,
        pictures=pictures.draw(requests(cards, findings)),
        why_no_pictures=pictures.exclusion_reason,
    )


def _class_rows(view: ReportView, summary: Summary) -> tuple[ClassRow, ...]:
    suggested = np.bincount(view.suggested[view.suspects], minlength=len(view.class_names))
    codes = {name: code for code, name in enumerate(view.class_names)}
    return tuple(
        ClassRow(codes[row.label], row, int(suggested[codes[row.label]]))
        for row in summary.by_class[:MOST_CLASSES]
    )


def rewrite_page(
    run: Path, on_progress: OnProgress = no_progress, *, follow_links: bool = False
) -> Path:
    """Write the page of a finished run anew, with what was decided since; return where it is.

    Args:
        run: The RUN folder, or the report in it.
        on_progress: Told how far it is.
        follow_links: Whether to show images that links outside the data set lead to.

    Raises:
        ReportError: There is no report, or it cannot be read.
        RunError: A file of the run is damaged, or the page cannot be written.
        DecisionsError: The decisions are damaged.
    """
    folder = report_file(run).parent
    with locked(folder):  # an audit that replaces the run would write its own page
        report = read_report_table(run, pred_probs=False)
        pictures = find_pictures(report, on_progress, follow_links=follow_links)
        return write_page(folder, report, pictures)
