"""What the commands print on stdout as text."""

from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labelfix.benchmark.demo_score import DemoScore
from labelfix.cli.answer import decided_text, fold
from labelfix.cli.console import cell, make_table, print_heading, print_line
from labelfix.cli.fitting import print_table, shortened
from labelfix.modalities.base import Wording, found_by_checks, wording_of
from labelfix.report.summary import ClassSummary, ConfusedPair, FlaggedRow, Summary
from labelfix.report.training_log import TrainingSummary
from labelfix.utils.text import counted, percent, plain

MOST_OF_A_REMARK = 3
"""Lines of a remark beside a figure."""

MOST_OF_A_NOTE = 9
"""Lines of a note, or of what was taken for granted."""

MOST_OF_A_NAME = 24
"""Columns of a class in a heading."""


def print_show(
    console: Console, summary: Summary, *, of_class: str | None, top: int | None, pairs: int | None
) -> None:
    """Print the tables that were asked for: ``pairs`` alone, or all of one class or of all.

    Args:
        console: Where to.
        summary: Of the report.
        of_class: The class that it is of, if it is of one.
        top: Rows of each table; ``None`` if only pairs were asked for.
        pairs: Rows of the table of pairs, if others than ``top``.
    """
    if top is not None:
        print_figures(console, summary)
        print_worst(console, summary, of_class=of_class)
    if summary.confused:
        print_heading(console, "The classes most confused")
        print_table(console, _pairs_table(summary.confused[: pairs or top]))
    elif top is None:
        print_heading(console, "No classes are confused")
    if top is not None:
        print_classes(console, summary.by_class, top)
        if summary.training is not None:
            print_training(console, summary.training)


def print_figures(console: Console, summary: Summary) -> None:
    """Print the figures of a report."""
    rate = summary.noise_rate
    rows = [
        ("samples", f"{summary.samples:,}", f"{summary.scored:,} scored"),
        ("classes", f"{summary.classes:,}", ""),
        ("wrong labels", "unknown" if rate is None else percent(rate), _interval(summary)),
        ("flagged", f"{summary.flagged:,}", _expectation(summary)),
    ]
    if summary.decided is not None:
        rows.append(("decided", f"{summary.decided.decided:,}", decided_text(summary)))
    words = wording_of(summary.modality)
    if summary.backbone is not None and words.are_pictures:
        size = f"{summary.image_size or '?'}"
        rows.insert(1, ("image size", size, f"pixels, as {summary.backbone} saw them"))
    elif summary.backbone is not None:
        rows.insert(1, ("features", "", f"by {summary.backbone}"))
    if summary.unreadable is not None:
        rows += [
            ("unreadable", f"{summary.unreadable:,}", f"{words.plural} that cannot be read"),
            (
                "duplicates",
                f"{summary.duplicates:,}",
                f"identical {words.plural}, {summary.conflicting:,} of them with different labels",
            ),
            *_kinds(summary, words),
        ]
    console.print()
    _print_grid(console, rows)
    said = [f"note: {note}" for note in summary.notes]
    for text in [*said, *(f"assumed: {assumption}" for assumption in summary.assumptions)]:
        for line in fold(text, console.width - 2, MOST_OF_A_NOTE):
            print_line(console, line)


def _kinds(summary: Summary, words: Wording) -> list[tuple[str, str, str]]:
    """Return what was found of the samples; nothing of what was not looked for."""
    conflicts = f"{summary.conflicting_near_duplicates or 0:,} of them with different labels"
    leaks = f", {summary.leaks:,} across splits" if summary.leaks else ""
    sets = summary.near_duplicate_sets or 0
    is_named = words.content != words.noun
    content = f"of {counted(sets, words.content)}" if is_named else f"in {counted(sets, 'set')}"
    rows = [
        (
            "near-duplicates",
            summary.near_duplicates,
            f"{words.plural} {content}, {conflicts}{leaks}",
        ),
        ("outliers", summary.outliers, f"{words.plural} unlike all others"),
    ]
    found = found_by_checks(summary.modality)
    rows += [
        (kind.replace("_", " "), count, f"{words.plural} {found.get(kind, '')}".rstrip())
        for kind, count in summary.checks.items()
    ]
    return [(name, f"{count:,}", remark) for name, count, remark in rows if count is not None]


def _interval(summary: Summary) -> str:
    if summary.noise_rate_interval is None:
        return "estimated"
    low, high = summary.noise_rate_interval
    return f"estimated; {percent(low)} to {percent(high)} with a probability of 90 %"


def _expectation(summary: Summary) -> str:
    precision, recall = summary.expected_precision, summary.expected_recall
    if precision is None or recall is None:
        return "labels"
    return (
        f"labels: about {percent(precision, 0)} rightly, "
        f"about {percent(recall, 0)} of all wrong ones"
    )


def print_worst(console: Console, summary: Summary, *, of_class: str | None) -> None:
    """Print the rows most surely wrong, of one class or all."""
    name = shortened(plain(of_class or ""), MOST_OF_A_NAME)
    where = f" as {name}, or better so" if of_class is not None else ""
    open_, many = "" if summary.decided is None else "undecided ", len(summary.worst)
    if not many:
        print_heading(console, f"No {open_}label is flagged{where}")
        return
    what = f"{open_}label" if many == 1 else f"{many} {open_}labels"
    print_heading(console, f"The {what} most surely wrong{where}")
    print_table(console, _worst_table(summary.worst))


def print_classes(console: Console, classes: Sequence[ClassSummary], top: int) -> None:
    """Print how many samples of each class are flagged, for the first ``top`` classes."""
    table = make_table(
        ("class", "left"),
        ("samples", "right"),
        ("flagged", "right"),
        ("share", "right"),
        ("wrong, estimated", "right"),
    )
    for row in classes[:top]:
        table.add_row(
            cell(row.label),
            f"{row.samples:,}",
            f"{row.flagged:,}",
            percent(row.flagged_share),
            "unknown" if row.noise_rate is None else percent(row.noise_rate),
        )
    print_heading(console, "Class by class")
    print_table(console, table)
    if len(classes) > top:
        print_line(console, f"and {len(classes) - top:,} more: --top {len(classes)} shows all")


def print_training(console: Console, training: TrainingSummary) -> None:
    """Print how the training of whole networks went."""
    rows = [
        ("networks", f"{training.networks:,}", "one a fold"),
        ("epochs", f"{training.epochs:,}", ""),
    ]
    if training.boundary_share is not None:
        remark = "of the tensors that are held, in the last epoch"
        rows.append(("at their boundary", percent(training.boundary_share, 0), remark))
    if training.corrected is not None:
        rows.append(
            ("corrected", f"{training.corrected:,.0f}", "labels a network, in the last epoch")
        )
    print_heading(console, "Training")
    _print_grid(console, rows)
    if not training.farthest:
        return
    table = make_table(("farthest from its start", "left"), ("distance", "right"), ("held", "left"))
    for way in training.farthest:
        held = "at its boundary" if way.at_boundary else ""
        table.add_row(cell(way.name), percent(way.relative_distance), held)
    console.print()
    print_table(console, table)
    print_line(console, "of the first network; distances as shares of the norm at the start")


def print_demo_score(console: Console, score: DemoScore, report: Path, plural: str) -> None:
    """Print how many of the known mistakes an audit found.

    Args:
        console: Where to.
        score: Which.
        report: The file of the report.
        plural: What its samples are called.
    """
    found, planted = score.planted_flagged, score.planted
    real, flagged = score.flagged_wrong, score.flagged
    print_heading(console, "Against the truth of the demo data")
    for line in (
        f"{found} of the {planted} planted errors are flagged ({_share(found, planted)})",
        f"{score.first_wrong} of the first {score.first} rows are really wrong",
        f"{real} of the {flagged} flagged rows are really wrong ({_share(real, flagged)})",
        f"{score.suggested_right} of those {real} get their true label suggested",
        f"what cannot be read is {_reported(score.broken_reported)}",
        f"the two identical {plural} with different labels are {_reported(score.pair_reported)}",
        f"the report: {report}",
    ):
        print_line(console, line)


def _share(part: int, whole: int) -> str:
    return percent(part / whole, 0) if whole else "none"


def _reported(is_reported: bool) -> str:
    return "reported" if is_reported else "NOT reported"


def _worst_table(rows: Sequence[FlaggedRow]) -> Table:
    table = make_table(
        ("given", "left"),
        ("suggested", "left"),
        ("wrong", "right"),
        ("right", "right"),
        ("sample", "left"),
    )
    for row in rows:
        table.add_row(
            cell(row.given_label, "red"),
            cell(row.suggested_label, "green"),
            percent(row.label_error_probability),
            percent(row.suggested_label_probability),
            cell(row.sample_id),
        )
    return table


def _pairs_table(pairs: Sequence[ConfusedPair]) -> Table:
    table = make_table(("given", "left"), ("suggested", "left"), ("flagged", "right"))
    for pair in pairs:
        table.add_row(
            cell(pair.given_label, "red"), cell(pair.suggested_label, "green"), f"{pair.count:,}"
        )
    return table


def _print_grid(console: Console, rows: Sequence[tuple[str, str, str]]) -> None:
    """Print names, figures and remarks in three columns; a long remark goes on below its start."""
    names, figures = (max(cell_len(row[place]) for row in rows) for place in (0, 1))
    start = names + figures + 6
    for name, figure, remark in rows:
        first, *more = fold(remark, max(20, console.width - start), MOST_OF_A_REMARK)
        line = Text(f"  {name:<{names}}  ")
        line.append(f"{figure:>{figures}}", "bold").append(f"  {first}".rstrip(), "dim")
        console.print(line, soft_wrap=True)
        for one in more:
            console.print(Text(" " * start + one, "dim"), soft_wrap=True)
