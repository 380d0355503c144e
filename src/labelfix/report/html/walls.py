"""The wall of a class: many of its samples side by side, the suspects among them marked.

Letters: N samples, K classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.report.view import ReportView
from labelfix.types import MISSING

MOST_WALLS = 60
"""Classes that have a wall: those with the most flags."""

MOST_TILES = 1200
"""Samples of all walls together."""

SUSPECT_SHARE = 2 / 3
"""Of the places of a wall too small for its class, what suspects may take."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One sample of a wall; ``suggested`` is a position in the class names where it is flagged."""

    row: int
    sample_id: str
    suggested: int | None


@dataclass(frozen=True, slots=True)
class Wall:
    """A class: its position in the class names, its figures, and the samples that are shown.

    Args:
        code: Position in the class names.
        samples: How many came with it.
        flagged: How many of them are flagged.
        tiles: Those that are shown, most surely wrong first.
    """

    code: int
    samples: int
    flagged: int
    tiles: tuple[Tile, ...]


def find_walls(view: ReportView) -> tuple[Wall, ...]:
    """Return the walls of the classes, those with the most flags first."""
    classes = len(view.class_names)
    is_of_class = view.given != MISSING
    size = np.bincount(view.given[is_of_class], minlength=classes)
    flagged = np.bincount(view.given[view.is_flagged & is_of_class], minlength=classes)
    codes = np.argsort(-flagged, kind="stable")
    codes = codes[size[codes] > 0][:MOST_WALLS]
    limits = _share_out(size[codes])
    order = np.argsort(view.given, kind="stable")
    starts = np.searchsorted(view.given[order], codes)
    return tuple(
        Wall(code, many, bad, _tiles(view, order[start : start + many], limit))
        for code, many, bad, start, limit in zip(
            codes.tolist(),
            size[codes].tolist(),
            flagged[codes].tolist(),
            starts.tolist(),
            limits,
            strict=True,
        )
    )


def _share_out(sizes: NDArray[np.int64]) -> list[int]:
    """Return how many samples of each class are shown: as evenly as their sizes allow."""
    unused, limits = MOST_TILES, np.zeros(len(sizes), np.int64)
    for left, place in zip(range(len(sizes), 0, -1), np.argsort(sizes, kind="stable"), strict=True):
        limits[place] = min(int(sizes[place]), unused // left)
        unused -= int(limits[place])
    return limits.tolist()


def _tiles(view: ReportView, rows: NDArray[np.int64], limit: int) -> tuple[Tile, ...]:
    is_readable = ~view.issue("unreadable")[rows]
    rows = rows[is_readable]
    wrong = np.nan_to_num(view.error_probability[rows], nan=-1.0)
    rows = rows[np.lexsort((rows, -wrong, ~view.is_flagged[rows]))]
    suspects, others = rows[view.is_flagged[rows]], rows[~view.is_flagged[rows]]
    if len(rows) > limit:
        suspects = suspects[: max(int(limit * SUSPECT_SHARE), limit - len(others))]
        spread = np.linspace(0, len(others) - 1, min(limit - len(suspects), len(others)))
        others = others[np.unique(spread.round().astype(np.int64))]
    shown = np.concatenate([suspects, others])
    names = view.names_of(shown)
    suggested = view.suggested[shown].tolist()
    return tuple(
        Tile(row, name, None if code == MISSING else code)
        for row, name, code in zip(shown.tolist(), names, suggested, strict=True)
    )
