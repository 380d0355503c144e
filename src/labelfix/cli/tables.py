"""What the commands print on stdout as text."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from labelfix.benchmark.demo_score import DemoScore
from labelfix.cli.console import cell, make_table, print_heading, print_line
from labelfix.modalities.base import Wording, found_by_checks, wording_of
from labelfix.report.summary import ClassSummary, ConfusedPair, FlaggedRow, Summary
from labelfix.report.training_log import TrainingSummary
from labelfix.utils.text import percent, plain

SHOWN_ASSUMPTIONS = 3
"""Lines of what was taken for granted that a summary prints; run.json holds all."""


def print_audit(console: Console, summary: Summary, run: Path, files: Sequence[Path]) -> None:
    """Print what an audit found, where it is, and what to do next."""
    print_figures(console, summary)
    print_findings(console, summary)
    if summary.training is not None:
        print_training(console, summary.training)
    print_heading(console, "Files")
    for file in files:
        print_line(console, str(file))
    print_heading(console, "What to do next")
    clean = run.with_name(f"{run.name}-clean.csv")
    for command, purpose in (
        (["labelfix", "show", str(run), "--top", "100"], "look at more of them"),
        (["labelfix", "review", str(run)], "decide on them, on a page on this machine"),
        (
            ["labelfix", "export", str(run), str(clean)],
            "write the labels with your decisions and the sure ones mended",
        ),
    ):
        console.print(Text(f"  {plain(shlex.join(command))}", style="bold"), soft_wrap=True)
        console.print(Text(f"      {purpose}", style="dim"), soft_wrap=True)


def print_show(console: Console, summary: Summary, *, of_class: str | None, top: int) -> None:
    """Print all that a summary holds, of one class or all, ``top`` rows of each table."""
    print_figures(console, summary)
    print_findings(console, summary, of_class=of_class, pairs=top)
    print_classes(console, summary.by_class, top)
    if summary.training is not None:
        print_training(console, summary.training)


def print_figures(console: Console, summary: Summary) -> None:
    """Print the figures of a report."""
    rate = summary.noise_rate
    rows = [
        ("samples", f"{summary.samples:,}", f"{summary.judged:,} judged"),
        ("classes", f"{summary.classes:,}", ""),
        ("wrong labels", "unknown" if rate is None else f"{rate:.1%}", _interval(summary)),
        ("flagged", f"{summary.flagged:,}", _expectation(summary)),
    ]
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
    console.print(_grid(rows))
    for note in summary.notes:
        print_line(console, f"note: {note}")
    for assumption in assumption_lines(summary.assumptions):
        print_line(console, assumption)


def assumption_lines(assumptions: Sequence[str]) -> list[str]:
    """Return at most `SHOWN_ASSUMPTIONS` lines of what an audit took for granted."""
    shown, hidden = assumptions[:SHOWN_ASSUMPTIONS], assumptions[SHOWN_ASSUMPTIONS:]
    lines = [f"assumed: {text}" for text in shown]
    if hidden:
        lines[-1] += f" (and {len(hidden)} more, in run.json)"
    return lines


def _kinds(summary: Summary, words: Wording) -> list[tuple[str, str, str]]:
    """Return what was found of the samples; nothing of what was not looked for."""
    conflicts = f"{summary.conflicting_near_duplicates or 0:,} of them with different labels"
    leaks = f", {summary.leaks:,} across splits" if summary.leaks else ""
    sets = f"{summary.near_duplicate_sets or 0:,}"
    content = f"of {sets} {words.content}s" if words.content != words.noun else f"in {sets} sets"
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
        return "estimated share"
    low, high = summary.noise_rate_interval
    return f"estimated share; {low:.1%} to {high:.1%} with a probability of 90 %"


def _expectation(summary: Summary) -> str:
    precision, recall = summary.expected_precision, summary.expected_recall
    if precision is None or recall is None:
        return "labels"
    return f"labels: about {precision:.0%} rightly, about {recall:.0%} of all wrong ones"


def print_findings(
    console: Console, summary: Summary, *, of_class: str | None = None, pairs: int = 10
) -> None:
    """Print the worst rows and the pairs most confused, of one class or all."""
    where = "" if of_class is None else f" as {plain(of_class)}, or better so"
    if not summary.worst:
        print_heading(console, f"No label is flagged{where}")
        return
    many = len(summary.worst)
    heading = "The label most surely wrong" if many == 1 else f"The {many} labels most surely wrong"
    print_heading(console, heading + where)
    console.print(_worst_table(summary.worst))
    print_heading(console, "The classes most confused")
    console.print(_pairs_table(summary.confused[:pairs]))


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
            f"{row.flagged_share:.1%}",
            "unknown" if row.noise_rate is None else f"{row.noise_rate:.1%}",
        )
    print_heading(console, "Class by class")
    console.print(table)
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
        rows.append(("at their boundary", f"{training.boundary_share:.0%}", remark))
    if training.corrected is not None:
        rows.append(
            ("corrected", f"{training.corrected:,.0f}", "labels a network, in the last epoch")
        )
    print_heading(console, "Training")
    console.print(_grid(rows))
    if not training.farthest:
        return
    table = make_table(("farthest from its start", "left"), ("distance", "right"), ("held", "left"))
    for way in training.farthest:
        held = "at its boundary" if way.at_boundary else ""
        table.add_row(cell(way.name), f"{way.relative_distance:.1%}", held)
    console.print()
    console.print(table)
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
    return f"{part / whole:.0%}" if whole else "none"


def _reported(is_reported: bool) -> str:
    return "reported" if is_reported else "NOT reported"


def _worst_table(rows: Sequence[FlaggedRow]) -> Table:
    table = make_table(
        ("given", "left"),
        ("suggested", "left"),
        ("wrong", "right"),
        ("suggestion right", "right"),
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


def _grid(rows: Sequence[tuple[str, str, str]]) -> Table:
    """Return names, figures and remarks in three columns without lines."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="left")
    grid.add_column(justify="right", style="bold")
    grid.add_column(style="dim")
    for name, figure, remark in rows:
        grid.add_row(f"  {name}", figure, remark)
    return grid
