"""Markdown tables of a benchmark: the same rows always give the same text."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from labelfix.benchmark.methods.registry import METHODS, REFERENCE
from labelfix.benchmark.problem import BINS
from labelfix.benchmark.rows import BenchmarkRow, backbone_of, read_rows
from labelfix.benchmark.tasks import ENSEMBLE
from labelfix.errors import BenchmarkError
from labelfix.report.html.charts import GREY, framed, safe, text_at
from labelfix.utils.files import atomic_path, make_folder


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure over the seeds.

    Args:
        mean: Over the seeds.
        spread: Their standard deviation; of one seed the standard error of its row, or NaN.
        seeds: How many.
    """

    mean: float
    spread: float
    seeds: int


@dataclass(frozen=True, slots=True, eq=False)
class MethodRows:
    """A method on a task: one row a seed, all of one commit.

    Args:
        method: As in the rows.
        rows: In the order of seeds.
    """

    method: str
    rows: tuple[BenchmarkRow, ...]

    @property
    def base(self) -> str:
        """Return the name of the method without that of its score."""
        return self.method.partition("/")[0]

    @property
    def is_default(self) -> bool:
        """Return whether this is the score that the method takes unless told otherwise."""
        return bool(self.rows[0].settings.get("is_default_score", True))

    def figure(self, name: str) -> Figure | None:
        """Return a figure, or one of the costs, over the seeds; ``None`` where it is not known."""
        if name in ("wall_seconds", "cpu_seconds", "peak_gib"):
            values = [float(getattr(row, name)) for row in self.rows]
        else:
            values = [row.figures[name] for row in self.rows if name in row.figures]
        if not values:
            return None
        if len(values) > 1:
            return Figure(fmean(values), stdev(values), len(values))
        return Figure(values[0], self.rows[0].standard_errors.get(name, math.nan), 1)


@dataclass(frozen=True, slots=True, eq=False)
class TaskRows:
    """A task, seen by one backbone: all methods that were set to it.

    Args:
        task: Its name.
        version: Its version.
        samples: N.
        backbone: Which network looked at the images, and the size that was asked for; ``""``
            where there are no images.
        methods: References first, then in the order of the methods.
    """

    task: str
    version: int
    samples: int
    backbone: str
    methods: tuple[MethodRows, ...]

    @property
    def rows(self) -> Iterator[BenchmarkRow]:
        """Yield all rows."""
        for method in self.methods:
            yield from method.rows


def group_rows(rows: Sequence[BenchmarkRow]) -> list[TaskRows]:
    """Return the rows task by task, by name.

    Where a method was measured more than once with a seed the last row counts, and of rows from
    several commits those of the commit that came last.
    """
    tasks: dict[tuple[str, int, int, str], dict[str, list[BenchmarkRow]]] = {}
    for row in rows:
        key = (row.task, row.task_version, row.samples, backbone_of(row.settings))
        tasks.setdefault(key, {}).setdefault(row.method, []).append(row)
    return [
        TaskRows(
            *key,
            methods=tuple(
                MethodRows(name, _newest(of_method))
                for name, of_method in sorted(methods.items(), key=lambda item: _order(*item))
            ),
        )
        for key, methods in sorted(tasks.items())
    ]


def _newest(rows: Sequence[BenchmarkRow]) -> tuple[BenchmarkRow, ...]:
    commit = rows[-1].commit
    by_seed = {row.seed: row for row in rows if row.commit == commit}
    return tuple(by_seed[seed] for seed in sorted(by_seed))


def _order(name: str, rows: Sequence[BenchmarkRow]) -> tuple[Any, ...]:
    base = name.partition("/")[0]
    known = [REFERENCE, *METHODS]
    place = known.index(base) if base in known else len(known)
    return place, base, not rows[-1].settings.get("is_default_score", True), name


COLORS = (
    "#2563a8", "#123a68", "#5aa0e0", "#c8641b", "#8f3d0a", "#e89a5c", "#b58900", "#3b8f4a",
    "#7fbf6b", "#8a4fa3", "#c47fd1", "#7a8088",
)  # fmt: skip
"""One for each of ``METHODS``: labelfix blue, cleanlab orange, chance grey."""

SIDE, GAP, LEFT, TOP = 260, 80, 60, 76
LEGEND = 190
Point = tuple[float, float]


def task_svg(task: TaskRows) -> str:
    """Return the picture as the text of an SVG file; the same rows always give the same text."""
    methods = [m for m in task.methods if m.is_default and m.base != REFERENCE]
    curves = {m: line for m in methods if (line := _precision_recall(m))}
    claims = {m: line for m in methods if (line := _reliability(m))}
    costs = {m: [point] for m in methods if (point := _cost(m)) is not None}
    times = [line[0][0] for line in costs.values()]
    first, last = (math.floor(min(times, default=0)), math.ceil(max(times, default=1)))
    last = max(last, first + 1)
    in_time = {m: [((x - first) / (last - first), y)] for m, [(x, y)] in costs.items()}
    parts = [
        *_panel(0, "Precision at each recall", "recall", ("0", "1"), curves, is_line=True),
        *_panel(
            1, "Share of wrong labels", "probability claimed", ("0", "1"), claims, is_line=True
        ),
        _diagonal(1),
        *_panel(
            2,
            "Average precision and time",
            "seconds on the clock, features included",
            (_power(first), _power(last)),
            in_time,
            is_line=False,
        ),
        *_legend(methods),
    ]
    width = LEFT + 3 * (SIDE + GAP) + LEGEND
    title = f"{task.task}, {task.samples:,} samples"
    if task.backbone:
        title += f", {task.backbone}"
    return framed(parts, width, TOP + SIDE + 60, title=title)


def _precision_recall(method: MethodRows) -> list[Point]:
    held = [row.curves for row in method.rows if "precision" in row.curves]
    if not held:
        return []
    precisions = zip(*(curves["precision"] for curves in held), strict=True)
    return list(zip(held[0]["recall"], map(fmean, precisions), strict=True))


def _reliability(method: MethodRows) -> list[Point]:
    """Return claim and share of the bins of all seeds, in rising order, weighed by their count."""
    bins: dict[int, list[tuple[float, float, float]]] = {}
    for row in method.rows:
        columns = (row.curves.get(name, ()) for name in ("bin_mean", "bin_share", "bin_count"))
        for mean, share, count in zip(*columns, strict=True):
            bins.setdefault(min(int(mean * BINS), BINS - 1), []).append((mean, share, count))
    points = []
    for _, parts in sorted(bins.items()):
        total = sum(count for *_, count in parts)
        points.append(
            (
                sum(mean * count for mean, _, count in parts) / total,
                sum(share * count for _, share, count in parts) / total,
            )
        )
    return points


def _cost(method: MethodRows) -> Point | None:
    """Return the logarithm of the seconds, and the average precision."""
    precision, wall = method.figure("average_precision"), method.figure("wall_seconds")
    if precision is None or wall is None:
        return None
    features = method.figure("features_wall_seconds")
    seconds = wall.mean + (0.0 if features is None else features.mean)
    return math.log10(max(seconds, 1e-3)), precision.mean


def _panel(
    number: int,
    heading: str,
    across: str,
    ends: tuple[str, str],
    lines: Mapping[MethodRows, Sequence[Point]],
    *,
    is_line: bool,
) -> list[str]:
    left, bottom = LEFT + number * (SIDE + GAP), TOP + SIDE
    parts = [
        text_at(left, TOP - 14, heading, size=12, weight="bold"),
        f"<path d='M{left} {TOP}V{bottom}H{left + SIDE}' fill='none' stroke='{GREY}'/>",
        text_at(left - 6, TOP + 4, "1", size=10, anchor="end"),
        text_at(left - 6, bottom + 4, "0", size=10, anchor="end"),
        text_at(left, bottom + 16, ends[0], size=10),
        text_at(left + SIDE, bottom + 16, ends[1], size=10, anchor="end"),
        text_at(left + SIDE / 2, bottom + 34, across, size=11, anchor="middle"),
    ]
    if not lines:
        parts.append(text_at(left + 10, TOP + SIDE / 2, "nothing to show", size=11))
    for method, points in lines.items():
        places = [(left + x * SIDE, bottom - y * SIDE) for x, y in points]
        color = _color(method.base)
        parts.append(f"<g><title>{safe(method.method)}</title>")
        if is_line:
            told = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(
                f"<polyline points='{told}' fill='none' stroke='{color}' stroke-width='1.5'/>"
            )
        else:
            parts += [
                f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{color}'/>" for x, y in places
            ]
        parts.append("</g>")
    return parts


def _diagonal(number: int) -> str:
    left = LEFT + number * (SIDE + GAP)
    return (
        f"<path d='M{left} {TOP + SIDE}L{left + SIDE} {TOP}' stroke='{GREY}' "
        "stroke-dasharray='4 4'/>"
    )


def _legend(methods: Sequence[MethodRows]) -> list[str]:
    left = LEFT + 3 * (SIDE + GAP) - 30
    parts = []
    for number, method in enumerate(methods):
        middle = TOP + 8 + 18 * number
        parts += [
            f"<rect x='{left}' y='{middle - 5}' width='14' height='10' "
            f"fill='{_color(method.base)}'/>",
            text_at(left + 20, middle + 4, method.base, size=11),
        ]
    return parts


def _color(base: str) -> str:
    names = list(METHODS)
    return COLORS[names.index(base) % len(COLORS)] if base in names else GREY


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g} s"


UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    figure: str
    digits: int = 4


DETECTION = (
    _Column("AP", "average_precision"),
    _Column("AUROC", "auroc"),
    _Column("F1", "f1"),
    _Column("precision", "precision", 3),
    _Column("recall", "recall", 3),
    _Column("F1 best rule*", "f1_best_rule"),
    _Column("F1 best threshold*", "f1_best_threshold"),
    _Column("P@100", "precision_at_100", 3),
    _Column("P@errors", "precision_at_errors", 3),
    _Column("suggestion right", "suggestion_accuracy", 3),
    _Column("of found errors", "suggestion_accuracy_of_errors", 3),
    _Column("prediction right", "prediction_accuracy", 3),
    _Column("noise estimated", "noise_rate"),
    _Column("wall s", "wall_seconds", 1),
    _Column("CPU s", "cpu_seconds", 1),
    _Column("peak GiB", "peak_gib", 2),
    _Column("GPU peak GiB", "gpu_peak_gib", 2),
    _Column("features: wall s", "features_wall_seconds", 1),
    _Column("features: CPU s", "features_cpu_seconds", 1),
    _Column("features: peak GiB", "features_peak_gib", 2),
)
CALIBRATION = (
    _Column("calibration error", "calibration_error"),
    _Column("Brier", "brier"),
    _Column("log loss", "log_loss"),
)
MEANS = (
    _Column("AP", "average_precision"),
    _Column("F1", "f1"),
    _Column("F1 best rule*", "f1_best_rule"),
    _Column("calibration error", "calibration_error"),
    _Column("noise estimate off by", "noise_rate_error"),
    _Column("suggestion right, of found errors", "suggestion_accuracy_of_errors"),
)
DOWNSTREAM = (
    _Column("all samples", "test_accuracy"),
    _Column("flagged samples left out", "test_accuracy:pruned"),
    _Column("given labels, weighted", "test_accuracy:weighted"),
    _Column("cleaned labels, weighted", "test_accuracy:cleaned"),
)

HEAD = """# How well wrong labels are found

Written by `labelfix benchmark tables`; do not edit. [docs/benchmark.md](../docs/benchmark.md) says
what the tasks and the methods are, how to get the data, and how to run it.

- **AP**, **AUROC**: of the score, for finding the wrong labels. **F1**, precision, recall: of the
  flags that the method's default rule sets. **P@100**, **P@errors**: the share of wrong labels
  among the first 100 samples, and among as many as there are wrong labels.
- Columns with * are chosen with the truth in hand: no user can have them.
- **suggestion right**: share of the flagged samples whose suggested label is the true one; **of
  found errors**: of those flagged samples whose label is wrong.
- **prediction right**: share of all samples whose predicted class is the true one; for `small-loss`
  of classes predicted for the very samples that it trained on.
- Figures are the mean over seeds ± their standard deviation; of one seed, in brackets, the standard
  error: bootstrap over samples, or binomial for shares. Where the seed changes neither the task nor
  the method, the deviation is 0.
- **wall**, **CPU**, **peak**: of the method in a process of its own, start of Python and imports
  aside. What looking at the images once costs, for all methods that read features, stands apart.
"""


def tables_page(
    tasks: Sequence[TaskRows], results: Mapping[str, str], plots: Mapping[str, str]
) -> str:
    """Return the page of all tasks.

    Args:
        tasks: In their order on the page.
        results: Name of a task to the file that its rows came from, as its command names it.
        plots: Name of a task to the path of its picture, relative to the page.
    """
    if not tasks:
        return f"{HEAD}\nNothing has been measured yet.\n"
    sections = (_section(task, results[task.task], plots.get(slug(task))) for task in tasks)
    return "\n".join([HEAD, *_means(tasks), *sections])


def slug(task: TaskRows) -> str:
    """Return a name for the files of a task."""
    text = f"{task.task} {task.samples} {task.backbone} v{task.version}"
    return "-".join("".join(c if c.isalnum() else " " for c in text).split())


def _section(task: TaskRows, results: str, plot: str | None) -> str:
    judged = [method for method in task.methods if method.base != REFERENCE]
    parts = [f"## {task.task}", _about(task)]
    if judged:
        parts += [_table("method", DETECTION, judged)]
    calibrated = [method for method in judged if method.figure("calibration_error")]
    if calibrated:
        named = [(f"{m.method}: {m.rows[0].settings.get('probability')}", m) for m in calibrated]
        parts += [
            "As a probability that the label is wrong (15 bins of equal width):",
            _table_of("method: probability", CALIBRATION, named),
        ]
    ruled = [m for m in judged if m.is_default and len(m.rows[0].settings.get("rules", ())) > 1]
    parts += [_rules(method) for method in ruled]
    trained = [
        method for method in task.methods if any(method.figure(c.figure) for c in DOWNSTREAM)
    ]
    if trained:
        parts += [
            "Accuracy on the clean test set, of the same linear head trained on",
            _table("labels of", DOWNSTREAM, trained),
        ]
    if plot is not None:
        parts.append(f"![Curves of {task.task}]({plot})")
    return "\n\n".join([*parts, _origin(task, results)]) + "\n"


def _means(tasks: Sequence[TaskRows]) -> list[str]:
    """Return a table for each family of tasks: means over them, of methods that did all."""
    families: dict[tuple[str, str], list[TaskRows]] = {}
    for task in tasks:
        families.setdefault((_family(task.task), task.backbone), []).append(task)
    return [
        f"## Means over {_listed(members)}\n\n{_table_of_means(members)}\n"
        for (family, _), members in families.items()
        if family and len(members) > 1
    ]


def _family(task: str) -> str:
    """Return what tasks have in common; an ensemble is made of others, and has no family."""
    if task.endswith(f"__{ENSEMBLE}"):
        return ""
    return task.partition("/")[0] if "/" in task else task.partition("-")[0]


def _listed(tasks: Sequence[TaskRows]) -> str:
    names = [task.task.partition("/")[2] or task.task for task in tasks]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _table_of_means(tasks: Sequence[TaskRows]) -> str:
    by_name = [{method.method: method for method in task.methods} for task in tasks]
    return _table_of(
        "method",
        MEANS,
        [
            (name, _OverTasks(tuple(methods[name] for methods in by_name)))
            for name in by_name[0]
            if name.partition("/")[0] != REFERENCE and all(name in methods for methods in by_name)
        ],
    )


@dataclass(frozen=True, slots=True, eq=False)
class _OverTasks:
    """A method on several tasks."""

    methods: tuple[MethodRows, ...]

    def figure(self, name: str) -> Figure | None:
        """Return the mean of a figure over the tasks; ``None`` unless each has it."""
        figures = [method.figure(name) for method in self.methods]
        means = [figure.mean for figure in figures if figure is not None]
        if len(means) < len(figures):
            return None
        return Figure(fmean(means), math.nan, len(means))


def _about(task: TaskRows) -> str:
    row = next(iter(task.rows))
    of, test = row.settings.get("of", task.samples), row.settings.get("test", 0)
    samples = f"{task.samples:,} samples"
    if of != task.samples:
        samples = f"A fixed random {samples} of {of:,}"
    parts = [f"{samples}, {row.settings.get('classes')} classes"]
    rates = [r.figures["true_noise_rate"] for r in task.rows if "true_noise_rate" in r.figures]
    if rates:
        low, high = (f"{rate:.4f}".removeprefix("0") for rate in (min(rates), max(rates)))
        parts.append(f"{low} of the labels wrong" if low == high else f"{low} to {high} wrong")
    if test:
        parts.append(f"{test:,} clean test samples")
    if task.backbone:
        parts.append(f"backbone {task.backbone}")
    return f"{', '.join(parts)}. Version {task.version} of the task."


def _table(first: str, columns: Sequence[_Column], methods: Sequence[MethodRows]) -> str:
    return _table_of(first, columns, [(method.method, method) for method in methods])


def _table_of(
    first: str, columns: Sequence[_Column], methods: Sequence[tuple[str, MethodRows | _OverTasks]]
) -> str:
    used = [column for column in columns if any(m.figure(column.figure) for _, m in methods)]
    lines = [
        f"| {first} | {' | '.join(column.heading for column in used)} |",
        f"|---|{'---|' * len(used)}",
    ]
    for name, method in methods:
        cells = [format_figure(method.figure(column.figure), column.digits) for column in used]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rules(method: MethodRows) -> str:
    rules = method.rows[0].settings["rules"]
    lines = [
        f"The rules of {method.base}, its default first:",
        "",
        "| rule | F1 | precision | recall |",
        "|---|---|---|---|",
    ]
    for rule in rules:
        cells = [
            format_figure(method.figure(f"{name}:{rule}"), 4)
            for name in ("f1", "precision", "recall")
        ]
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join(lines)


def format_figure(figure: Figure | None, digits: int) -> str:
    """Return a figure for a table: ``.8747 ± .0012`` over seeds, ``.8747 (.0021)`` of one."""
    if figure is None:
        return UNKNOWN
    mean = _number(figure.mean, digits)
    if math.isnan(figure.spread):
        return mean
    spread = _number(figure.spread, digits)
    return f"{mean} ± {spread}" if figure.seeds > 1 else f"{mean} ({spread})"


def _number(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}"
    return text[1:] if text.startswith("0.") and digits > 2 else text


def _origin(task: TaskRows, results: str) -> str:
    """Return where the figures come from: command, commits, versions, machine."""
    rows = list(task.rows)
    bases = list(dict.fromkeys(m.base for m in task.methods if m.base != REFERENCE))
    return "\n".join(
        [
            f"`{_command(task, bases, results)}`<br>",
            f"Seeds {_joined(str(row.seed) for row in rows)}; commit "
            f"{_joined(row.commit or 'unknown' for row in rows)}; {_versions(rows)}; Python "
            f"{_joined(row.python for row in rows)}; on {_joined(row.device for row in rows)}.",
        ]
    )


def _command(task: TaskRows, methods: Sequence[str], results: str) -> str:
    row = next(iter(task.rows))
    seeds = sorted({row.seed for row in task.rows})
    if row.settings.get("command") == "inject":
        rate = row.settings.get("rate")
        parts = [f"labelfix benchmark inject DATA --kinds {row.settings.get('kind')}"]
        parts += [] if rate is None else [f"--rate {rate:g}"]
        parts.append(f"--repeats {max(seeds) + 1}")
    else:
        parts = [f"labelfix benchmark run --data DATA --tasks {task.task}"]
        parts.append(f"--seeds {','.join(map(str, seeds))}")
    parts += [f"--methods {','.join(methods)}"] if methods else []
    parts += [f"--samples {task.samples}"] if row.settings.get("of", 0) != task.samples else []
    if task.backbone:
        parts.append(f"--backbone {row.settings['backbone']}")
        for option, name in (("weights", "weights"), ("image-size", "asked_image_size")):
            value = row.settings.get(name)
            parts += [f"--{option} {value}"] if value else []
    return " ".join([*parts, f"--results {results}"])


def _versions(rows: Sequence[BenchmarkRow]) -> str:
    names = dict.fromkeys(name for row in rows for name in row.versions)
    told_versions = (
        f"{name} {_joined(row.versions[name] for row in rows if name in row.versions)}"
        for name in names
    )
    return ", ".join(told_versions)


def _joined(values: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(values))


PLOTS = "plots"


def write_pages(results: Sequence[Path], out: Path) -> list[Path]:
    """Write the page and its pictures, which lie in ``plots`` beside it; return what was written.

    Args:
        results: Files of rows; a later one counts as later.
        out: The page.

    Raises:
        BenchmarkError: A file is not there, or holds something else.
        RunError: The place cannot be written to.
    """
    rows: list[BenchmarkRow] = []
    came_from: dict[str, str] = {}
    for path in results:
        if not path.is_file():
            raise BenchmarkError(
                f"there is no file {path}", hint="name files that labelfix benchmark run wrote"
            )
        held = read_rows(path)
        rows += held
        came_from |= {row.task: path.name for row in held}
    tasks = group_rows(rows)
    plots = out.parent / PLOTS
    make_folder(plots)
    written = {}
    for task in tasks:
        written[slug(task)] = plots / f"{slug(task)}.svg"
        _write(written[slug(task)], task_svg(task))
    pictures = {name: f"{PLOTS}/{name}.svg" for name in written}
    _write(out, tables_page(tasks, came_from, pictures))
    return [out, *written.values()]


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")
