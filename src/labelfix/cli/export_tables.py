"""What ``labelfix export`` and ``labelfix diff`` print as text."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from labelfix.cli.answer import fold
from labelfix.cli.console import cell, make_table, print_line
from labelfix.cli.fitting import print_table
from labelfix.exports.diff import Change, ChangedPair, Diff
from labelfix.exports.export import ExportResult
from labelfix.exports.leftovers import Untouched
from labelfix.utils.text import counted, percent, plain

PROPOSED = 0.8
"""The lower ``--min-probability`` whose effect is told, where it has one."""


def print_export(console: Console, result: ExportResult) -> None:
    """Print what an export did."""
    print_line(console, f"wrote {result.to}")
    print_line(console, f"{result.changed:,} of {counted(result.rows, 'label')} changed")
    if result.dropped:
        print_line(console, f"{_rows(result.dropped)} left out")
    if result.without_image:
        print_line(console, f"{_rows(result.without_image)} left out: the sample cannot be had")
    if result.test_rows:
        print_line(console, f"{_rows(result.test_rows)} of a test split left as they came")
    if result.untouched is not None:
        _print_untouched(console, result.untouched)
    _notes(console, result.notes)


def print_diff(console: Console, diff: Diff, *, top: int, csv: Path | None) -> None:
    """Print what an export would change: the first ``top`` rows and pairs of classes."""
    print_line(console, f"{diff.relabeled:,} of {counted(diff.rows, 'label')} would change")
    if diff.dropped:
        print_line(console, f"{_rows(diff.dropped)} would be left out")
    _print_untouched(console, diff.untouched)
    _notes(console, diff.notes)
    if diff.changes:
        console.print()
        print_table(console, _changes_table(diff.changes[:top]))
        if len(diff.changes) > top:
            print_line(console, f"and {len(diff.changes) - top:,} more: --csv FILE writes all")
        console.print()
        print_table(console, _pairs_table(diff.pairs[:top]))
    if csv is not None:
        print_line(console, f"wrote {csv}")


def _print_untouched(console: Console, untouched: Untouched) -> None:
    """Print how many flagged labels stay, and what a lower probability would do about it."""
    if not untouched.count:
        return
    many = "label is" if untouched.count == 1 else "labels are"
    text = f"{untouched.count:,} more flagged {many} untouched"
    counts = dict(untouched.would_change)
    if counts:
        least = PROPOSED if PROPOSED in counts else max(counts)
        text += f"; --min-probability {least:g} would change {counts[least]:,}"
    print_line(console, text)


def _changes_table(changes: tuple[Change, ...]) -> Table:
    table = make_table("sample", "- given", "+ new", "because")
    for change in changes:
        table.add_row(
            cell(change.sample_id),
            _minus(change.given_label),
            _plus(change.label, change.action),
            Text(_because(change), style="dim", overflow="fold"),
        )
    return table


def _pairs_table(pairs: tuple[ChangedPair, ...]) -> Table:
    table = make_table("- given", "+ new")
    table.add_column("rows", justify="right")
    for pair in pairs:
        action = "drop" if pair.label is None else "relabel"
        table.add_row(_minus(pair.given_label), _plus(pair.label, action), f"{pair.count:,}")
    return table


def _minus(label: object) -> Text:
    return Text("") if label is None else cell(f"- {label}", "red")


def _plus(label: object, action: str) -> Text:
    return cell("(left out)", "yellow") if action == "drop" else cell(f"+ {label}", "green")


def _because(change: Change) -> str:
    if change.because == "decision":
        return f"decided by {plain(change.decided_by)}" if change.decided_by else "decided"
    if change.because == "unreadable":
        return "cannot be read"
    wrong = change.label_error_probability
    return "" if wrong is None else f"wrong with {percent(wrong)}"


def _rows(count: int) -> str:
    return counted(count, "row")


def _notes(console: Console, notes: tuple[str, ...]) -> None:
    for note in notes:
        for line in fold(f"note: {note}", console.width - 2, len(note)):
            print_line(console, line)
