"""Plots of a benchmark, drawn by matplotlib as SVG: the same rows always give the same bytes."""

import io
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from labelfix.benchmark.grouping import MethodRows, TaskRows
from labelfix.benchmark.methods.registry import METHODS, REFERENCE
from labelfix.benchmark.problem import BINS
from labelfix.benchmark.scale import ScaleRow
from labelfix.errors import BenchmarkError
from labelfix.utils.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = (
    "#2563a8", "#123a68", "#5aa0e0", "#c8641b", "#8f3d0a", "#e89a5c", "#b58900", "#3b8f4a",
    "#7fbf6b", "#8a4fa3", "#c47fd1", "#7a8088",
)  # fmt: skip
"""One for each of ``METHODS``: labelfix blue, cleanlab orange, chance grey."""

GREY = "#c9ced6"
SIZE = (12.0, 3.8)
"""Inches."""

STYLE: Mapping[str, Any] = {
    "svg.hashsalt": "labelfix",  # ids of clip paths and markers; random without it
    "svg.fonttype": "none",  # text stays text: small files, searchable, no font is embedded
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same layout everywhere
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
NO_METADATA: Mapping[str, None] = {"Date": None, "Creator": None}
"""No date and no version of matplotlib."""

Point = tuple[float, float]


def task_svg(task: TaskRows) -> str:
    """Return three panels as the text of an SVG file: precision, calibration, cost.

    Raises:
        BenchmarkError: matplotlib is not installed.
    """
    matplotlib, figure_class = import_matplotlib()
    methods = [m for m in task.methods if m.is_default and m.base != REFERENCE]
    with matplotlib.rc_context(STYLE):
        figure = figure_class(figsize=SIZE, layout="constrained")
        precision, calibration, cost = figure.subplots(1, 3)
        _draw_lines(
            precision,
            {m: precision_recall(m) for m in methods},
            title="Precision at each recall",
            across="recall",
        )
        calibration.plot((0, 1), (0, 1), color=GREY, linestyle="--", gid="diagonal")
        _draw_lines(
            calibration,
            {m: reliability_points(m) for m in methods},
            title="Share of wrong labels",
            across="claimed probability",
        )
        _draw_costs(cost, methods)
        handles = [_legend_line(m) for m in methods]
        if handles:
            figure.legend(handles=handles, loc="outside right upper", frameon=False)
        figure.suptitle(_text(_title(task)), x=0.01, ha="left", weight="bold")
        return _svg(figure)


def precision_recall(method: MethodRows) -> list[Point]:
    """Return recall and precision, the mean over the seeds; nothing where no row has the curve."""
    held = [row.curves for row in method.rows if "precision" in row.curves]
    if not held:
        return []
    precisions = zip(*(curves["precision"] for curves in held), strict=True)
    return list(zip(held[0]["recall"], map(fmean, precisions), strict=True))


def reliability_points(method: MethodRows) -> list[Point]:
    """Return claim and share of the bins of all seeds, in rising order, weighted by their count."""
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


def cost_point(method: MethodRows) -> Point | None:
    """Return seconds, features included, and average precision; ``None`` where one is unknown."""
    precision, wall = method.figure("average_precision"), method.figure("wall_seconds")
    if precision is None or wall is None:
        return None
    features = method.figure("features_wall_seconds")
    seconds = wall.mean + (0.0 if features is None else features.mean)
    return max(seconds, 1e-3), precision.mean


def scale_svg(rows: Sequence[ScaleRow]) -> str:
    """Return seconds and peak memory against the number of samples, as the text of an SVG file.

    Raises:
        BenchmarkError: matplotlib is not installed.
    """
    matplotlib, figure_class = import_matplotlib()
    lines = dict.fromkeys((row.stage, row.classes) for row in rows)
    stages = list(dict.fromkeys(stage for stage, _ in lines))
    shapes = sorted({classes for _, classes in lines})
    with matplotlib.rc_context(STYLE):
        figure = figure_class(figsize=SIZE, layout="constrained")
        time, memory = figure.subplots(1, 2)
        for stage, classes in lines:
            of_line = [row for row in rows if (row.stage, row.classes) == (stage, classes)]
            x = [row.samples for row in of_line]
            look = {
                "color": COLORS[stages.index(stage)],
                "linestyle": ("-", "--", ":", "-.")[shapes.index(classes) % 4],
                "marker": "o",
                "label": f"{stage}, {classes:,} classes",
            }
            time.plot(x, [row.wall_seconds for row in of_line], **look)
            memory.plot(x, [row.peak_gib for row in of_line], **look)
        for axes, title in ((time, "Seconds"), (memory, "Peak memory in GiB")):
            axes.set(xscale="log", yscale="log", title=title, xlabel="samples")
        figure.legend(
            handles=time.get_legend_handles_labels()[0], loc="outside right upper", frameon=False
        )
        return _svg(figure)


def _draw_lines(
    axes: "Axes", lines: Mapping[MethodRows, Sequence[Point]], *, title: str, across: str
) -> None:
    for method, points in lines.items():
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(
                x, y, color=_color(method.base), linewidth=1.5, gid=f"line-{_text(method.method)}"
            )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), title=title, xlabel=across)


def _draw_costs(axes: "Axes", methods: Sequence[MethodRows]) -> None:
    for method in methods:
        if (point := cost_point(method)) is not None:
            axes.plot(*point, "o", color=_color(method.base), gid=f"cost-{_text(method.method)}")
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set(
        ylim=(0, 1.02),
        title="Average precision and time",
        xlabel="wall time in seconds, features included",
    )


def _legend_line(method: MethodRows) -> Any:
    from matplotlib.lines import Line2D  # noqa: PLC0415 - an optional package

    return Line2D([], [], color=_color(method.base), linewidth=4, label=_text(method.base))


def _title(task: TaskRows) -> str:
    parts = [task.task, f"{task.samples:,} samples", task.backbone]
    return ", ".join(part for part in parts if part)


def _svg(figure: Any) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict(NO_METADATA))
    return file.getvalue()


def _text(text: str) -> str:
    """Return text that XML can hold, and that matplotlib does not read as a formula."""
    return plain(text).replace("$", r"\$")


def _color(base: str) -> str:
    names = list(METHODS)
    return COLORS[names.index(base) % len(COLORS)] if base in names else GREY


def import_matplotlib() -> tuple[Any, Any]:
    """Return matplotlib and its class of figures.

    Raises:
        BenchmarkError: It is not installed.
    """
    try:
        import matplotlib  # noqa: PLC0415 - an optional package
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise BenchmarkError(
            "the plots of a benchmark need matplotlib",
            hint="run pip install 'labelfix[benchmark]'",
        ) from error
    return matplotlib, Figure
