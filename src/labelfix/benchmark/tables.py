"""Markdown tables of a benchmark: the same rows always give the same text."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from labelfix.benchmark.grouping import Figure, MethodRows, TaskRows, group_rows, slug
from labelfix.benchmark.methods.registry import REFERENCE
from labelfix.benchmark.plots import task_svg
from labelfix.benchmark.rows import BenchmarkRow, read_rows
from labelfix.benchmark.tasks import ENSEMBLE
from labelfix.errors import BenchmarkError
from labelfix.utils.files import atomic_path, make_folder

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
    _Column("soft labels", "test_accuracy:soft"),
)

HEAD = """# How well wrong labels are found

Written by `labelfix benchmark tables`; do not edit. [docs/benchmark.md](../docs/benchmark.md)
describes the tasks and the methods, how to get the data, and how to run the benchmark.

- **AP**, **AUROC**: of the score, for finding the wrong labels. **F1**, precision, recall: of the
  flags that the method's default rule sets. **P@100**, **P@errors**: the share of wrong labels
  among the first 100 samples, and among as many as there are wrong labels.
- Columns with * are chosen by the true labels, which no user has.
- **suggestion right**: share of the flagged samples whose suggested label is the true one; **of
  found errors**: of those flagged samples whose label is wrong.
- **prediction right**: share of all samples whose predicted class is the true one; `small-loss`
  predicts the classes of samples that it trained on.
- Figures are the mean over seeds ± their standard deviation; of one seed, with the standard error
  in parentheses: bootstrap over samples, or binomial for shares. Where the seed changes neither the
  task nor the method, the deviation is 0.
- **wall**, **CPU**, **peak**: of the method in its own process, without the start of Python and
  imports. Extracting the features once, for all methods that read them, has columns of its own.
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


def _section(task: TaskRows, results: str, plot: str | None) -> str:
    scored = [method for method in task.methods if method.base != REFERENCE]
    parts = [f"## {task.task}", _about(task)]
    if scored:
        parts += [_table("method", DETECTION, scored)]
    calibrated = [method for method in scored if method.figure("calibration_error")]
    if calibrated:
        named = [(f"{m.method}: {m.rows[0].settings.get('probability')}", m) for m in calibrated]
        parts += [
            "As a probability that the label is wrong (15 bins of equal width):",
            _table_of("method: probability", CALIBRATION, named),
        ]
    ruled = [m for m in scored if m.is_default and len(m.rows[0].settings.get("rules", ())) > 1]
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
    several = Counter(family for family, _ in families)
    return [
        f"## Means over {_listed(members)}{f', {backbone}' if several[family] > 1 else ''}\n\n"
        f"{_table_of_means(members)}\n"
        for (family, backbone), members in families.items()
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
