"""The curves of the page as SVG. Colours come from the page's own style sheet, by class.

Every picture says in its title what it shows; its figures are also in the text beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

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
        return f"{value:.0%}" if self.kind == "share" else f"{value:,.10g}"


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
