"""Write ``RUN/report.html`` from what lies in RUN and the images of the data set."""

from pathlib import Path

import numpy as np

from labelfix.decisions import read_decisions
from labelfix.files import atomic_path
from labelfix.html.expectation import expect
from labelfix.html.findings import find_bad_files, find_findings, find_unjudged
from labelfix.html.page import MOST_CLASSES, ClassRow, Page, render, wishes
from labelfix.html.reviewed import tally
from labelfix.html.suspects import Suspects, choose_cards, find_suspects, heat_map
from labelfix.html.training import read_training
from labelfix.html.wishes import Pictures
from labelfix.neighbor_table import read_neighbors
from labelfix.report import Report
from labelfix.run_folder import PAGE_NAME
from labelfix.summary import Summary, summarise
from labelfix.training_summary import summarise_training


def write_page(run: Path, report: Report, pictures: Pictures) -> Path:
    """Write the page of a finished run and return where it is.

    The same run makes the same bytes: there is no date in it, and no place of output.

    Args:
        run: The RUN folder.
        report: What was found; ``pred_probs`` is not looked at.
        pictures: Who draws the images of the data set.

    Raises:
        RunError: A file of the run is damaged, or the page cannot be written.
        ReportError: Likewise.
        DecisionsError: Likewise.
    """
    text = render(_compose(run, report, pictures))
    path = run / PAGE_NAME
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def _compose(run: Path, report: Report, pictures: Pictures) -> Page:
    training = summarise_training(run, report)
    summary = summarise(report, top=12, training=training)
    suspects = find_suspects(report)
    shown = heat_map(suspects, len(report.class_names))
    cards = choose_cards(report, suspects, shown, read_neighbors(run, report.table["sample_id"]))
    findings = find_findings(report)
    decisions = read_decisions(run)
    return Page(
        name=report.run.source.path.name or "data set",
        class_names=report.class_names,
        summary=summary,
        map=shown,
        cards=cards,
        classes=_class_rows(report, summary, suspects),
        expectation=expect(report),
        reviewed=tally(report, decisions),
        decisions={
            card.sample_id: decisions[card.sample_id]
            for card in cards
            if card.sample_id in decisions
        },
        findings=findings,
        bad_files=find_bad_files(report),
        unjudged=find_unjudged(report),
        training=read_training(run, training),
        run=report.run,
        pictures=pictures.draw(wishes(cards, findings)),
        why_no_pictures=pictures.why_not,
    )


def _class_rows(report: Report, summary: Summary, suspects: Suspects) -> tuple[ClassRow, ...]:
    suggested = np.bincount(suspects.suggested, minlength=len(report.class_names))
    codes = {name: code for code, name in enumerate(report.class_names)}
    return tuple(
        ClassRow(codes[row.label], row, int(suggested[codes[row.label]]))
        for row in summary.by_class[:MOST_CLASSES]
    )
