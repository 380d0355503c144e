"""The curves of the page as SVG. Colors come from the page's own style sheet, by class.

Every picture says in its title what it shows; its figures are also in the text beside it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import Literal

from markupsafe import Markup

from labelfix.report.html.calibration import CheckedBin, Expectation
from labelfix.report.training_log import Diagnosis, EpochSummary, LayerDistance, Training
from labelfix.utils.text import percent, plain

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 48, 22, 14, 44
TICKS = 4


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points; ``look`` is its class in the style sheet."""

    name: str
    look: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from ``low`` to ``high``; ``title`` is said when the mouse is over it."""

    low: float
    high: float
    value: float
    title: str
    look: str = "bar"


@dataclass(frozen=True, slots=True)
class Whisker:
    """A point with an interval, upright."""

    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Args:
        name: What it counts.
        low: Where it begins.
        high: Where it ends.
        kind: Counts have no fractions; shares are written as percent.
    """

    name: str
    low: float
    high: float
    kind: Literal["count", "share", "number"] = "count"

    def ticks(self) -> list[float]:
        """Return round numbers along the axis."""
        step = _round_step((self.high - self.low) / TICKS)
        if self.kind == "count":
            step = max(1.0, math.ceil(step))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def written(self, value: float) -> str:
        """Return a number of this axis as text."""
        return percent(value, 0) if self.kind == "share" else f"{value:,.10g}"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart under construction: its axes, and the elements drawn so far."""

    title: str
    x: Axis
    y: Axis
    parts: tuple[Markup, ...] = ()

    def with_bars(self, bars: Sequence[Bar]) -> "Chart":
        """Return the chart with bars that stand on the axis."""
        return self._with(*(self._bar(bar) for bar in bars))

    def with_lines(self, lines: Sequence[Line], *, dots: bool = False) -> "Chart":
        """Return the chart with lines, and a dot at each point if asked for."""
        return self._with(*(self._line(line, dots=dots) for line in lines))

    def with_whiskers(self, whiskers: Sequence[Whisker]) -> "Chart":
        """Return the chart with points and their intervals."""
        return self._with(*(self._whisker(one) for one in whiskers))

    def with_mark(self, x: float, text: str) -> "Chart":
        """Return the chart with an upright line that says something."""
        place = self._x(x)
        is_right = place > WIDTH * 0.6
        return self._with(
            Markup('<path class="mark" d="M{x:.1f} {top}V{bottom}"/>').format(
                x=place, top=TOP, bottom=HEIGHT - BOTTOM
            ),
            _text(
                place + (-6 if is_right else 6),
                HEIGHT - BOTTOM - 8,
                text,
                "end" if is_right else "start",
            ),
        )

    def drawn(self) -> Markup:
        """Return the SVG element."""
        return Markup(
            '<svg class="chart" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
            'data-plot="{left} {top} {right} {bottom}">'
            "<title>{title}</title>{parts}</svg>"
        ).format(
            w=WIDTH,
            h=HEIGHT,
            left=LEFT,
            top=TOP,
            right=WIDTH - RIGHT,
            bottom=HEIGHT - BOTTOM,
            title=self.title,
            parts=Markup("").join([*self._axes(), *self.parts]),
        )

    def _with(self, *parts: Markup) -> "Chart":
        return Chart(self.title, self.x, self.y, (*self.parts, *parts))

    def _x(self, value: float) -> float:
        share = (value - self.x.low) / ((self.x.high - self.x.low) or 1.0)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def _y(self, value: float) -> float:
        share = (value - self.y.low) / ((self.y.high - self.y.low) or 1.0)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    def _axes(self) -> list[Markup]:
        parts = []
        for value in self.y.ticks():
            y = self._y(value)
            parts += [
                Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, y, WIDTH - RIGHT),
                _text(LEFT - 8, y + 4, self.y.written(value), "end"),
            ]
        for value in self.x.ticks():
            parts.append(
                _text(self._x(value), HEIGHT - BOTTOM + 18, self.x.written(value), "middle")
            )
        middle = (LEFT + WIDTH - RIGHT) / 2
        return [*parts, _text(middle, HEIGHT - 6, self.x.name, "middle")]

    def _bar(self, bar: Bar) -> Markup:
        left, right = self._x(bar.low), self._x(bar.high)
        top, bottom = self._y(bar.value), self._y(self.y.low)
        gap = min(1.0, (right - left) / 4)
        return Markup(
            '<rect class="{look}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}">'
            "<title>{title}</title></rect>"
        ).format(
            look=bar.look,
            x=left + gap,
            y=top,
            w=right - left - 2 * gap,
            h=bottom - top,
            title=bar.title,
        )

    def _line(self, line: Line, *, dots: bool) -> Markup:
        places = [(self._x(x), self._y(y)) for x, y in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        drawn = Markup('<path class="line {}" d="M{}"><title>{}</title></path>').format(
            line.look, path, line.name
        )
        if not dots:
            return drawn
        marks = (
            Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(line.look, x, y)
            for x, y in places
        )
        return drawn + Markup("").join(marks)

    def _whisker(self, one: Whisker) -> Markup:
        x = self._x(one.x)
        return Markup(
            '<g class="whisker"><title>{title}</title>'
            '<path d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
            '<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/></g>'
        ).format(
            title=one.title, x=x, y=self._y(one.y), low=self._y(one.low), high=self._y(one.high)
        )


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, text
    )


def _round_step(rough: float) -> float:
    """Return the next of 1, 2, 2.5, 5 times a power of ten that is not below."""
    if rough <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= rough * (1 - 1e-9))


BLUE, ORANGE, GREY, INK, PAPER = "#2563a8", "#c8641b", "#c9ced6", "#1c2430", "#ffffff"
FONT = "font-family='Helvetica, Arial, sans-serif'"


def framed(parts: Sequence[str], width: int, height: int, *, title: str) -> str:
    """Return the text of an SVG file with a heading; names are escaped."""
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' "
            f"viewBox='0 0 {width} {height}' {FONT} fill='{INK}'>",
            f"<title>{safe(title)}</title>",
            f"<rect width='{width}' height='{height}' fill='{PAPER}'/>",
            text_at(16, 26, title, size=15, weight="bold"),
            *parts,
            "</svg>",
            "",
        ]
    )


def text_at(
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    anchor: str = "start",
    weight: str = "normal",
    color: str = INK,
) -> str:
    """Return text as an element."""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' "
        f"font-weight='{weight}' fill='{color}'>{safe(text)}</text>"
    )


def safe(text: str) -> str:
    r"""Return text that XML can hold: marks escaped, control characters as ``\x1b``."""
    return escape(plain(text), quote=True)


ROW, DIAGNOSIS_TOP, NAMES, BARS = 14, 76, 250, 260
PANEL_WIDTH, PANEL_HEIGHT, PANEL_GAP = 340, 150, 66
PANELS_LEFT = NAMES + BARS + 150
LONGEST_NAME = 40
OUTLYING = 6
"""A bar of so many times the median is cut."""

DiagnosisLine = tuple[str, str, Callable[[EpochSummary], float | None]]

PANELS: tuple[tuple[str, float, tuple[DiagnosisLine, ...]], ...] = (
    (
        "Mean weight of a sample",
        0.0,
        (
            ("label kept", BLUE, lambda epoch: epoch.mean_weight_kept),
            ("label corrected", ORANGE, lambda epoch: epoch.mean_weight_corrected),
        ),
    ),
    (
        "Tensors at their boundary: share",
        1.0,
        (("at boundary", BLUE, lambda epoch: epoch.boundary_share),),
    ),
)
"""Heading, the least value that the top of the axis stands for, lines."""


def diagnosis_svg(diagnosis: Diagnosis, *, title: str) -> str:
    """Return the picture as the text of an SVG file; names are escaped.

    Args:
        diagnosis: What to draw.
        title: Its heading.
    """
    height = max(
        DIAGNOSIS_TOP + ROW * len(diagnosis.layers) + 30,
        DIAGNOSIS_TOP + len(PANELS) * (PANEL_HEIGHT + PANEL_GAP),
    )
    width = PANELS_LEFT + PANEL_WIDTH + 40
    parts = _bars(diagnosis.layers)
    for number, (heading, at_least, lines) in enumerate(PANELS):
        top = DIAGNOSIS_TOP + number * (PANEL_HEIGHT + PANEL_GAP)
        parts += _panel(heading, at_least, lines, diagnosis.epochs, top)
    return framed(parts, width, height, title=title)


def _bars(layers: Sequence[LayerDistance]) -> list[str]:
    heading = "Distance travelled, relative to the pretrained weight (orange: at its boundary)"
    parts = [text_at(16, DIAGNOSIS_TOP - 20, heading, size=12, weight="bold")]
    longest = _scale([layer.relative for layer in layers if layer.relative is not None])
    for number, layer in enumerate(layers):
        middle = DIAGNOSIS_TOP + ROW * number + ROW // 2
        figure = f"{layer.distance:.3g} from zero: not pretrained"
        length = 0.0
        if layer.relative is not None:
            is_off = layer.relative > longest
            figure = f"{layer.relative:.3f}{' (off the scale)' if is_off else ''}"
            length = BARS * min(layer.relative / longest, 1.0)
        color = ORANGE if layer.at_boundary else BLUE
        parts += [
            f"<g><title>{safe(_told(layer))}</title>",
            text_at(NAMES - 6, middle + 4, _short(layer.name), size=10, anchor="end"),
            f"<rect x='{NAMES}' y='{middle - 5}' width='{length:.1f}' height='10' fill='{color}'/>",
            text_at(NAMES + length + 5, middle + 4, figure, size=10),
            "</g>",
        ]
    return parts


def _scale(relatives: Sequence[float]) -> float:
    """Return what a full bar stands for: a token that began near zero must not dwarf the rest."""
    if not any(relatives):
        return 1.0
    typical = median(relatives)
    return min(max(relatives), OUTLYING * typical) if typical > 0 else max(relatives)


def _told(layer: LayerDistance) -> str:
    radius = "no ball" if layer.radius is None else f"ball of radius {layer.radius:.4g}"
    return (
        f"{layer.name}: {layer.distance:.4g} from a weight of norm {layer.start_norm:.4g}, {radius}"
    )


def _panel(
    heading: str,
    at_least: float,
    lines: Sequence[DiagnosisLine],
    epochs: Sequence[EpochSummary],
    top: int,
) -> list[str]:
    left, bottom = PANELS_LEFT, top + PANEL_HEIGHT
    known = {
        name: [(e.epoch, v) for e in epochs if (v := of(e)) is not None] for name, _, of in lines
    }
    values = [value for points in known.values() for _, value in points]
    parts = [
        text_at(left, top - 20, heading, size=12, weight="bold"),
        f"<path d='M{left} {top}V{bottom}H{left + PANEL_WIDTH}' fill='none' stroke='{GREY}'/>",
    ]
    if not values:
        return [
            *parts,
            text_at(left + 10, top + PANEL_HEIGHT / 2, "not known in this run", size=11),
        ]
    highest = max(at_least, *values) or 1.0
    first, last = epochs[0].epoch, epochs[-1].epoch

    def place(point: tuple[int, float]) -> tuple[float, float]:
        across = (point[0] - first) / (last - first) if last > first else 0.5
        return left + across * PANEL_WIDTH, bottom - point[1] / highest * PANEL_HEIGHT

    for number, (name, color, _) in enumerate(lines):
        places = [place(point) for point in known[name]]
        parts += _line(places, color)
        parts.append(text_at(left + 130 * number, top - 5, name, size=10, color=color))
    return [
        *parts,
        text_at(left - 6, top + 4, f"{highest:.3g}", size=10, anchor="end"),
        text_at(left - 6, bottom + 4, "0", size=10, anchor="end"),
        text_at(left, bottom + 14, f"epoch {first}", size=10),
        text_at(left + PANEL_WIDTH, bottom + 14, f"{last}", size=10, anchor="end"),
    ]


def _line(places: Sequence[tuple[float, float]], color: str) -> list[str]:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2' fill='{color}'/>" for x, y in places]
    return [
        f"<polyline points='{points}' fill='none' stroke='{color}' stroke-width='1.5'/>",
        *dots,
    ]


def _short(name: str) -> str:
    """Return a name that fits its column; the end says more than the middle."""
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[: half - 2]}...{name[-half:]}"


def review_chart(expectation: Expectation) -> Markup:
    """Return the expected precision and recall against the number of samples reviewed."""
    points = expectation.points
    chart = Chart(
        "Expected share of wrong labels among the first samples reviewed, and share of all wrong "
        "labels that is found among them",
        Axis("samples reviewed, most surely wrong first", 0, points[-1].reviewed),
        Axis("", 0, 1, "share"),
    ).with_lines(
        [
            Line("wrong among those reviewed", "one", [(p.reviewed, p.precision) for p in points]),
            Line("found of all wrong labels", "two", [(p.reviewed, p.recall) for p in points]),
        ]
    )
    if expectation.flagged:
        chart = chart.with_mark(expectation.flagged, f"{expectation.flagged:,} flagged")
    return chart.drawn()


def histogram(expectation: Expectation) -> Markup:
    """Return how many samples have which probability of a wrong label.

    The height of a bar is the root of its count: the few that are wrong must be seen beside the
    many that are right.
    """
    bins = expectation.bins
    top = max(bin.count for bin in bins) ** 0.5
    bars = [
        Bar(
            b.low,
            b.high,
            b.count**0.5,
            f"{percent(b.low, 0)} to {percent(b.high, 0)}: {b.count:,} samples",
        )
        for b in bins
    ]
    chart = Chart(
        "How many samples have which probability of a wrong label",
        Axis("probability that the given label is wrong", 0, 1, "share"),
        RootAxis("", 0, top),
    )
    return chart.with_bars(bars).drawn()


class RootAxis(Axis):
    """An axis of roots of counts, written as the counts."""

    def ticks(self) -> list[float]:
        """Return the roots of a few round counts."""
        counts = [10**power for power in range(12) if 10**power <= self.high**2]
        return [0.0, *(count**0.5 for count in counts if count**0.5 > self.high / 12)]

    def written(self, value: float) -> str:
        """Return the count."""
        return f"{round(value**2):,}"


def calibration_chart(bins: tuple[CheckedBin, ...]) -> Markup:
    """Return what share was found wrong against what was promised, with intervals of 90 %."""
    whiskers = [
        Whisker(
            b.promised,
            b.wrong,
            b.low,
            b.high,
            f"promised {percent(b.promised, 0)}, found {percent(b.wrong, 0)} "
            f"({percent(b.low, 0)} to {percent(b.high, 0)}) "
            f"of {b.count:,}",
        )
        for b in bins
    ]
    return (
        Chart(
            "Share of reviewed labels found wrong, against the probability that was promised",
            Axis("probability that the label is wrong", 0, 1, "share"),
            Axis("", 0, 1, "share"),
        )
        .with_lines([Line("as promised", "ideal", [(0, 0), (1, 1)])])
        .with_whiskers(whiskers)
        .drawn()
    )


def training_charts(training: Training) -> list[tuple[str, Markup]]:
    """Return a heading and a chart for each course of training that is known."""
    courses: tuple[tuple[str, Axis, Callable[[EpochSummary], float | None]], ...] = (
        ("Training loss", Axis("epoch", 0, 0, "number"), lambda e: e.loss),
        ("Labels corrected in training", Axis("epoch", 0, 0), lambda e: e.corrected),
        (
            "Tensors at their boundary",
            Axis("epoch", 0, 1, "share"),
            lambda e: e.boundary_share,
        ),
    )
    known = (
        (heading, axis, [(e.epoch, value) for e in training.epochs if (value := of(e)) is not None])
        for heading, axis, of in courses
    )
    return [(heading, _course(heading, axis, points)) for heading, axis, points in known if points]


def _course(heading: str, axis: Axis, points: list[tuple[int, float]]) -> Markup:
    top = 1.05 * max(axis.high / 1.05, *(value for _, value in points)) or 1.0
    first, last = points[0][0], points[-1][0]
    return (
        Chart(
            f"{heading}, by epoch",
            Axis("epoch", first, max(last, first + 1)),
            Axis("", 0, top, axis.kind),
        )
        .with_lines([Line(heading, "plain", points)], dots=True)
        .drawn()
    )


def layer_chart(training: Training) -> Markup:
    """Return how far each layer has gone, from the first to the last."""
    layers = training.layers
    bars = [
        Bar(
            number,
            number + 1,
            way.relative_distance,
            f"{way.name}: {way.relative_distance:.3f}"
            + (", at its boundary" if way.at_boundary else ""),
            "bar held" if way.at_boundary else "bar",
        )
        for number, way in enumerate(layers)
    ]
    top = 1.05 * max(way.relative_distance for way in layers) or 1.0
    return (
        Chart(
            "Distance of each layer from its pretrained weight, as a share of that weight's norm",
            Axis("layer, from the first to the last", 0, len(layers)),
            Axis("", 0, top, "share"),
        )
        .with_bars(bars)
        .drawn()
    )
