"""A task of the benchmark as one SVG picture.

Left to right: precision and recall; what a probability claims and what is so; quality and time.
Only the default score of each method is drawn.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from labelfix.benchmark.methods import METHODS, REFERENCE
from labelfix.benchmark.records import BINS
from labelfix.benchmark.summary import MethodRows, TaskRows
from labelfix.svg import GREY, framed, safe, text_at

COLOURS = (
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
        colour = _colour(method.base)
        parts.append(f"<g><title>{safe(method.method)}</title>")
        if is_line:
            told = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(
                f"<polyline points='{told}' fill='none' stroke='{colour}' stroke-width='1.5'/>"
            )
        else:
            parts += [
                f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{colour}'/>" for x, y in places
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
            f"fill='{_colour(method.base)}'/>",
            text_at(left + 20, middle + 4, method.base, size=11),
        ]
    return parts


def _colour(base: str) -> str:
    names = list(METHODS)
    return COLOURS[names.index(base) % len(COLOURS)] if base in names else GREY


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g} s"
