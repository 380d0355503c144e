"""The map of the page: samples on a plane, in the colors of their classes, suspects with a ring.

Letters: N samples, K classes.
"""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from labelfix.report.html.suspects import MAP_CLASSES
from labelfix.report.view import ReportView
from labelfix.types import MISSING

COLORS = 8
"""Of classes; the last one is that of all others where there are more."""

MOST_POINTS = 2000
"""Points that are drawn; suspects take half of them at most."""

SIDE, MARGIN, RADIUS, RING = 640, 12, 3.5, 5.0
"""Of the drawing, in its own units."""


@dataclass(frozen=True, slots=True, eq=False)
class Scatter:
    """The points of a map.

    Args:
        rows: Rows of the report, those that are drawn last at the end.
        places: ``(points, 2)``, 0 to 1.
        color: Of each point, 0 to ``COLORS`` - 1.
        is_suspect: Whether it is flagged.
        classes: Position in the class names by color; ``None`` is all other classes.
        samples: How many samples have a place.
    """

    rows: NDArray[np.int64]
    places: NDArray[np.float32]
    color: NDArray[np.int64]
    is_suspect: NDArray[np.bool_]
    classes: tuple[int | None, ...]
    samples: int


def find_scatter(view: ReportView, places: NDArray[np.float32] | None) -> Scatter | None:
    """Return the map of a report; ``None`` where samples have no places, or there are many classes.

    A plane cannot hold many classes apart.

    Args:
        view: N samples.
        places: ``(N, 2)``, NaN where a sample has none.
    """
    if places is None or len(view.class_names) > MAP_CLASSES:
        return None
    rows = np.flatnonzero(np.isfinite(places).all(axis=1) & (view.given != MISSING))
    if not len(rows):
        return None
    flagged = view.suspects[np.isin(view.suspects, rows)][: MOST_POINTS // 2]
    others = rows[~view.is_flagged[rows]]
    if len(others) > MOST_POINTS - len(flagged):
        spread = np.linspace(0, len(others) - 1, MOST_POINTS - len(flagged))
        others = others[spread.round().astype(np.int64)]
    shown = np.concatenate([others, flagged[::-1]])
    classes = _colored(view)
    color_of = np.full(len(view.class_names), COLORS - 1)
    for color, code in enumerate(classes):
        if code is not None:
            color_of[code] = color
    return Scatter(
        shown, places[shown].clip(0, 1), color_of[view.given[shown]], view.is_flagged[shown],
        classes, len(rows),
    )  # fmt: skip


def _colored(view: ReportView) -> tuple[int | None, ...]:
    """Return the classes that have a color of their own: all, or those with the most flags."""
    given = view.given[view.given != MISSING]
    size = np.bincount(given, minlength=len(view.class_names))
    flagged = np.bincount(view.given[view.suspects], minlength=len(size))
    codes = np.lexsort((-size, -flagged))
    codes = codes[size[codes] > 0]
    if len(codes) <= COLORS:
        return tuple(sorted(codes.tolist()))
    return (*sorted(codes[: COLORS - 1].tolist()), None)


def draw_scatter(scatter: Scatter, names: tuple[str, ...], places: dict[int, int]) -> Markup:
    """Return the map as SVG.

    Args:
        scatter: The points.
        names: What is said of each point.
        places: Which card a row of the report has.
    """
    points = [
        Markup('<circle class="k{}{}" cx="{:.0f}" cy="{:.0f}" r="{}"{}><title>{}</title></circle>')
        .format(
            color,
            " ringed" if is_suspect else "",
            MARGIN + x * (SIDE - 2 * MARGIN),
            SIDE - MARGIN - y * (SIDE - 2 * MARGIN),
            RING if is_suspect else RADIUS,
            Markup(' data-card="{}"').format(places[row]) if row in places else "",
            name,
        )
        for row, (x, y), color, is_suspect, name in zip(
            scatter.rows.tolist(),
            scatter.places.tolist(),
            scatter.color.tolist(),
            scatter.is_suspect.tolist(),
            names,
            strict=True,
        )
    ]  # fmt: skip
    return Markup(
        '<svg class="scatter" viewBox="0 0 {side} {side}" role="img" '
        'aria-labelledby="scatter-title" aria-describedby="scatter-text">{points}</svg>'
    ).format(side=SIDE, points=Markup("").join(points))
