"""What ``labelfix benchmark`` prints as text."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from labelfix.benchmark.cost import library_versions
from labelfix.benchmark.grouping import group_rows
from labelfix.benchmark.methods.registry import METHODS, REFERENCE, is_installed
from labelfix.benchmark.rows import BenchmarkRow
from labelfix.benchmark.scale import Growth, ScaleRow
from labelfix.benchmark.tables import format_figure
from labelfix.benchmark.tasks import PLANTED, REAL_TASKS, SAMPLE_DATA, SampleData
from labelfix.benchmark.value import Value
from labelfix.cli.console import cell, make_table, print_heading
from labelfix.utils.text import counted, plain

INJECTED = (
    ("AP", "average_precision", 3),
    ("precision", "precision", 3),
    ("recall", "recall", 3),
    ("F1", "f1", 3),
    ("suggestion right", "suggestion_accuracy_of_errors", 3),
    ("noise found", "noise_rate", 3),
    ("noise planted", "true_noise_rate", 3),
    ("seconds", "wall_seconds", 1),
)
MEASURED = (
    ("AP", "average_precision", 4),
    ("F1", "f1", 4),
    ("noise", "noise_rate", 4),
    ("true noise", "true_noise_rate", 4),
    ("test accuracy", "test_accuracy", 4),
    ("pruned", "test_accuracy:pruned", 4),
    ("wall s", "wall_seconds", 1),
    ("peak GiB", "peak_gib", 2),
)


def print_list(console: Console, data: Path | None, sets: Sequence[str]) -> None:
    """Print tasks and methods.

    Args:
        console: Where to.
        data: The folder of data sets, to say which are there, or ``None``.
        sets: The tasks of probabilities in that folder.
    """
    print_heading(console, "Tasks with labels that people gave")
    table = make_table("task", "version", "what", "file")
    for task in REAL_TASKS.values():
        what = f"{task.given_column}: {task.data.about}"
        _add(table, task.name, str(task.version), what, _place(task.data, data))
    console.print(table)
    print_heading(
        console, f"Tasks with planted errors: DATA-KIND-RATE, KIND one of {', '.join(PLANTED)}"
    )
    table = make_table("DATA", "for example", "what", "file")
    for name, samples in SAMPLE_DATA.items():
        _add(table, name, f"{name}-symmetric-20", samples.about, _place(samples, data))
    console.print(table)
    print_heading(console, "Tasks of published probabilities: probs/SET, probs/PREFIX__ensemble")
    for name in sets or ["name --data to see which are there"]:
        console.print(Text(f"  {plain(name)}"), soft_wrap=True)
    print_heading(console, "Methods")
    table = make_table("method", "what", "reads", "installed")
    for method in METHODS.values():
        there = "yes" if is_installed(method) else f"no: {method.package}"
        about = f"{method.about}{' (only if named)' if method.is_slow else ''}"
        _add(table, method.name, about, method.needs, there)
    console.print(table)
    versions = ", ".join(f"{name} {number}" for name, number in library_versions().items())
    console.print(Text(f"  {versions}", style="dim"), soft_wrap=True)


def print_scale(console: Console, rows: Sequence[ScaleRow], growth: Sequence[Growth]) -> None:
    """Print what each command cost at each size, and how that grows."""
    print_heading(console, "What each command cost, with the start of Python")
    table = _figures(
        "command", "samples", "classes", "seconds", "peak GiB", "anonymous", "read", "written"
    )
    for row in rows:
        _add(
            table, row.stage, f"{row.samples:,}", f"{row.classes:,}", f"{row.wall_seconds:.1f}",
            f"{row.peak_gib:.2f}", f"{row.anonymous_gib:.2f}", _megabytes(row.input_bytes),
            _megabytes(row.output_bytes),
        )  # fmt: skip
    console.print(table)
    if not growth:
        return
    print_heading(console, "Growth with the number of samples: 1 is linear")
    table = _figures("command", "classes", "from", "to", "time", "memory")
    for one in growth:
        small, large = one.samples
        time = "too short" if math.isnan(one.exponent) else f"{one.exponent:.2f}"
        _add(
            table, one.stage, f"{one.classes:,}", f"{small:,}", f"{large:,}", time,
            f"{one.memory_exponent:.2f}",
        )  # fmt: skip
    console.print(table)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count else ""


def print_value(console: Console, found: Value) -> None:
    """Print what cleaning is worth, and one sentence on it."""
    splits = ", ".join(map(plain, found.test)) or "the test rows"
    print_heading(console, f"Tested on {found.tested:,} samples of {splits}")
    table = _figures("trained on", "samples", "changed", "accuracy", "gain", "90 % interval")
    for way in found.ways:
        low, high = way.gain_interval
        is_first = way is found.ways[0]
        _add(
            table, way.name, f"{way.trained:,}", f"{way.changed:,}", f"{way.accuracy:.4f}",
            "" if is_first else f"{way.gain:+.4f}",
            "" if is_first else f"{low:+.4f} to {high:+.4f}",
        )  # fmt: skip
    console.print(table)
    for line in value_lines(found):
        console.print(Text(line), soft_wrap=True)


def value_lines(found: Value) -> list[str]:
    """Return what the figures come to, a sentence each."""
    measurable = [way for way in found.ways[1:] if way.is_measurable]
    gains = [way for way in measurable if way.gain > 0]
    losses = [way for way in measurable if way.gain < 0]
    if gains:
        best = max(gains, key=lambda way: way.gain)
        lines = [f"cleaning pays: {best.name}, {best.gain:+.4f} of accuracy"]
    else:
        lines = ["no measurable gain on these test samples"]
    if losses:
        lines += [f"worse than the given labels: {', '.join(way.name for way in losses)}"]
    if found.test_suspects:
        lines += [
            f"{found.test_suspects:,} of the {found.tested:,} test labels look wrong themselves: "
            "a gain may be hidden by them"
        ]
    if found.copies_left_out:
        copies = counted(found.copies_left_out, "sample")
        were = "was" if found.copies_left_out == 1 else "were"
        lines += [f"{copies} with a copy in the test {were} not trained on"]
    return lines


def print_rows(console: Console, rows: Sequence[BenchmarkRow]) -> None:
    """Print what was measured: the default score of each method."""
    for task in group_rows(rows):
        print_heading(console, f"{task.task}, {task.samples:,} samples")
        table = _figures("method", *(heading for heading, _, _ in MEASURED))
        for method in task.methods:
            if method.is_default:
                cells = [format_figure(method.figure(name), digits) for _, name, digits in MEASURED]
                _add(table, method.method, *cells)
        console.print(table)


def print_injected(console: Console, rows: Sequence[BenchmarkRow]) -> None:
    """Print how many planted errors were found."""
    tasks = group_rows(rows)
    print_heading(console, f"Planted errors found, of {tasks[0].samples:,} samples")
    table = _figures("noise", "method", *(heading for heading, _, _ in INJECTED))
    for task in tasks:
        for method in task.methods:
            if method.is_default and method.base != REFERENCE:
                cells = [format_figure(method.figure(name), digits) for _, name, digits in INJECTED]
                _add(table, task.task, method.method, *cells)
    console.print(table)
    for line in (
        "± is the spread over repeats; of one repeat, the standard error is in brackets",
        "an error that your labels had before counts as a false alarm: precision is rather higher",
        "planted errors are made by chance or by a model; people's may be harder to find",
    ):
        console.print(Text(f"  {line}", style="dim"), soft_wrap=True)


def _place(about: SampleData, data: Path | None) -> str:
    if data is None:
        return " or ".join(about.places)
    there = [place for place in about.places if (data / place).exists()]
    return there[0] if there else f"not there: {about.places[0]}"


def _figures(*headings: str) -> Table:
    """Return a table of figures, which do not wrap, beside names of methods and of noise."""
    names = ("method", "noise")
    table = make_table(*((name, "left" if name in names else "right") for name in headings))
    for column in table.columns:
        column.no_wrap = column.justify == "right"
    return table


def _add(table: Table, *values: str) -> None:
    table.add_row(*map(cell, values))
