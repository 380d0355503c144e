"""The page of a run: what it says is gathered from the report, and written as one HTML file.

Letters: K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelfix.data.decisions import read_decisions
from labelfix.errors import DatasetError, UnreadableSample
from labelfix.modalities.base import (
    MarkedPart,
    Renderer,
    Snippet,
    ThumbnailRequest,
    no_pictures,
)
from labelfix.report.html.calibration import expect, tally
from labelfix.report.html.findings import (
    Finding,
    find_bad_files,
    find_findings,
    find_unscored,
)
from labelfix.report.html.hero import find_hero
from labelfix.report.html.render import (
    CARD_SIDE,
    LARGE_SIDE,
    NEAR_SIDE,
    SET_SIDE,
    ClassRow,
    Page,
    render,
    wall_side,
)
from labelfix.report.html.scatter import Scatter, find_scatter
from labelfix.report.html.suspects import Card, choose_cards, find_confusion, find_suspects
from labelfix.report.html.walls import Wall, find_walls
from labelfix.report.io import read_report_table, report_file
from labelfix.report.neighbors import read_neighbors, read_places
from labelfix.report.reopen import find_renderer
from labelfix.report.run_folder import PAGE_NAME
from labelfix.report.run_locks import locked
from labelfix.report.summary import Summary, summarize
from labelfix.report.training_log import read_training, summarize_training
from labelfix.report.types import Report
from labelfix.report.view import ReportView
from labelfix.types import MISSING
from labelfix.utils.files import atomic_path
from labelfix.utils.progress import OnProgress, no_progress

LARGE_CARDS = 48
"""How many suspects are large."""

LONGEST_WORDS = 1200
"""Characters of a text whose words are marked."""

MOST_CLASSES = 1000
"""Rows of the table of classes at most."""


def requests(
    cards: Sequence[Card], findings: Sequence[Finding], walls: Sequence[Wall], side: int
) -> list[ThumbnailRequest]:
    """Return the pictures of a page, the most important first."""
    near = [one for card in cards for one in (card.agreeing, card.disagreeing) if one is not None]
    others = [
        picture for finding in findings for found in finding.sets for picture in found.pictures
    ]
    return [
        *(ThumbnailRequest(card.row, CARD_SIDE) for card in cards[LARGE_CARDS:]),
        *(ThumbnailRequest(card.row, LARGE_SIDE) for card in cards[:LARGE_CARDS]),
        *(ThumbnailRequest(picture.row, SET_SIDE) for picture in others),
        *(ThumbnailRequest(one.row, NEAR_SIDE) for one in near),
        *(ThumbnailRequest(tile.row, side) for wall in walls for tile in wall.tiles),
    ]


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
    shown = find_confusion(suspects, len(view.class_names))
    cards = choose_cards(view, suspects, shown, read_neighbors(run, report))
    findings = find_findings(view)
    scatter = find_scatter(view, read_places(run, len(view)))
    drawn, walls = _draw(view, pictures, cards, findings)
    return Page(
        name=report.run.source.path.name or "data set",
        class_names=view.class_names,
        summary=summary,
        hero=find_hero(view, summary),
        confusion=shown,
        cards=cards,
        walls=walls,
        scatter=scatter,
        scatter_names=() if scatter is None else _point_names(view, scatter),
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
        unscored=find_unscored(view),
        training=read_training(run, training),
        run=report.run,
        pictures=drawn,
        words=_words(view, pictures, cards),
        is_text=pictures.is_text,
        why_no_pictures=pictures.exclusion_reason,
    )


def _draw(
    view: ReportView, pictures: Renderer, cards: Sequence[Card], findings: Sequence[Finding]
) -> tuple[Mapping[ThumbnailRequest, str | Snippet], tuple[Wall, ...]]:
    """Return what could be drawn, and the walls with those of their samples that were."""
    if pictures.exclusion_reason is not None:
        return {}, ()
    side = wall_side(is_text=pictures.is_text)
    walls = find_walls(view)
    drawn = pictures.draw(requests(cards, findings, walls, side))
    seen = (
        replace(wall, tiles=tuple(t for t in wall.tiles if ThumbnailRequest(t.row, side) in drawn))
        for wall in walls
    )
    return drawn, tuple(wall for wall in seen if wall.tiles)


def _point_names(view: ReportView, scatter: Scatter) -> tuple[str, ...]:
    names = ["sample_id", "given_label", "suggested_label"]
    return tuple(
        f"{cells['sample_id']}: {cells['given_label']}"
        + ("" if cells["suggested_label"] is None else f", perhaps {cells['suggested_label']}")
        for cells in view.cells(scatter.rows, names)
    )


def _words(
    view: ReportView, pictures: Renderer, cards: Sequence[Card]
) -> dict[int, list[MarkedPart]]:
    """Return the beginnings of texts, with words marked by labels that were not flagged."""
    if pictures.marker is None or not cards:
        return {}
    marker = pictures.marker(np.where(view.is_flagged, MISSING, view.given).astype(np.int64))
    marked = {}
    for card in cards:
        try:
            parts = marker.parts(card.row, card.given, card.suggested)
        except UnreadableSample:
            continue
        marked[card.row] = _beginning(parts)
    return marked


def _beginning(parts: Sequence[MarkedPart]) -> list[MarkedPart]:
    left = LONGEST_WORDS
    kept: list[MarkedPart] = []
    for part in parts:
        if left <= 0:
            return [*kept, MarkedPart(" ...")]
        kept.append(replace(part, text=part.text[:left]))
        left -= len(part.text)
    return kept if left >= 0 else [*kept, MarkedPart(" ...")]


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
