"""The suspects: which labels are flagged, how the classes are confused, and which cards are shown.

Letters: N samples, K classes, M flagged samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labelfix.config import MIN_PROBABILITY
from labelfix.report.neighbors import NeighborLists
from labelfix.report.view import ClassPairs, ReportView, count_pairs
from labelfix.types import MISSING, Label

MAP_CLASSES = 12
"""Of more classes there is no heat map: the list of pairs says more."""

PAIRS_OF_MAP, MOST_PAIRS = 12, 100
"""Pairs of classes that are listed beside a heat map, and without one."""

LIKELY = 0.5
"""From this probability on a label is likely to be wrong."""

WORST, MOST = 220, 340
"""Cards of the most surely wrong labels, whatever their classes, and cards in all."""

OF_A_PAIR = 6
"""Beyond the worst, so many cards of each pair of classes that is listed or in the map."""

LEVELS = 5
"""Shades of the heat map."""


@dataclass(frozen=True, slots=True, eq=False)
class Suspects:
    """The flagged samples, most surely wrong first.

    Args:
        rows: ``(M,)`` int64, rows of the report.
        given: ``(M,)`` int64, positions in the class names.
        suggested: ``(M,)`` likewise.
    """

    rows: NDArray[np.int64]
    given: NDArray[np.int64]
    suggested: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the heat map: how many are flagged, and its shade from 0 (none) to ``LEVELS``."""

    count: int
    level: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many samples came as one class and look like another.

    Args:
        cells: K rows (given) of K cells (suggested); ``None`` of too many classes.
        pairs: Given code, suggested code and count, the most frequent first.
        pair_count: How many pairs there are besides those listed too.
    """

    cells: tuple[tuple[Cell, ...], ...] | None
    pairs: tuple[tuple[int, int, int], ...]
    pair_count: int


@dataclass(frozen=True, slots=True)
class Near:
    """A sample to compare a suspect with.

    Args:
        row: Of the report.
        sample_id: Its name.
        given_label: The label that it came with.
        is_suspect: Whether that label is flagged, too.
        similarity: Cosine of their features; ``None`` where it is no neighbor, but a neighbor of
            one, or the least doubtful sample of its class.
    """

    row: int
    sample_id: str
    given_label: Label
    is_suspect: bool
    similarity: float | None


Band = Literal["certain", "likely", "unsure"]
"""How sure it is that a label is wrong: certain is what an export changes without a person."""


@dataclass(frozen=True, slots=True)
class Card:
    """One suspect.

    Args:
        row: Of the report.
        sample_id: Its name.
        split: The split it came in, or ``None``.
        given: The position of its label in the class names.
        suggested: That of the label it should probably have.
        label_error_probability: That the given label is wrong.
        suggested_label_probability: That the suggested label is right.
        band: How sure that is.
        agreeing: A similar sample that came with the same label, or ``None``.
        disagreeing: One that came with the suggested label, or ``None``.
    """

    row: int
    sample_id: str
    split: str | None
    given: int
    suggested: int
    label_error_probability: float
    suggested_label_probability: float
    band: Band
    agreeing: Near | None
    disagreeing: Near | None


def find_suspects(view: ReportView) -> Suspects:
    """Return the flagged samples of a report."""
    rows = view.suspects
    given, suggested = (codes[rows].astype(np.int64) for codes in (view.given, view.suggested))
    return Suspects(rows, given, suggested)


def find_confusion(suspects: Suspects, classes: int) -> Confusion:
    """Return which of K classes are confused with which."""
    pairs = count_pairs(suspects.given, suspects.suggested, classes)
    has_map = classes <= MAP_CLASSES
    listed = pairs.first(PAIRS_OF_MAP if has_map else MOST_PAIRS)
    cells = _cells(pairs, classes) if has_map else None
    return Confusion(cells, tuple(listed), len(pairs.count))


def _cells(pairs: ClassPairs, classes: int) -> tuple[tuple[Cell, ...], ...]:
    table = np.zeros((classes, classes), np.int64)
    table[pairs.given, pairs.suggested] = pairs.count
    level = np.ceil(LEVELS * np.sqrt(table / max(table.max(initial=0), 1))).astype(np.int64)
    return tuple(
        tuple(Cell(*cell) for cell in zip(*line, strict=True))
        for line in zip(table.tolist(), level.tolist(), strict=True)
    )


def choose_cards(
    view: ReportView, suspects: Suspects, shown: Confusion, neighbors: NeighborLists | None
) -> tuple[Card, ...]:
    """Return the cards, band by band and most surely wrong first.

    They are the worst, and some of each pair of classes that the page names.
    """
    chosen = _chosen(suspects, shown, len(view.class_names))
    band = bands_of(view)[suspects.rows[chosen]]
    order = np.argsort(band, kind="stable")
    chosen, band = chosen[order], band[order]
    rows = suspects.rows[chosen]
    names = ["sample_id", "split", "label_error_probability", "suggested_label_probability"]
    near = _Comparison(view, neighbors).of(suspects, chosen)
    return tuple(
        Card(
            row=row, given=given, suggested=suggested, band=BANDS[number], **cells,
            agreeing=same, disagreeing=other,
        )
        for row, given, suggested, number, cells, (same, other) in zip(
            rows.tolist(),
            suspects.given[chosen].tolist(),
            suspects.suggested[chosen].tolist(),
            band.tolist(),
            view.cells(rows, names),
            near,
            strict=True,
        )
    )  # fmt: skip


BANDS: tuple[Band, ...] = ("certain", "likely", "unsure")


def bands_of(view: ReportView) -> NDArray[np.int8]:
    """Return ``(N,)`` positions in `BANDS`; they mean something where a label is flagged."""
    is_likely = view.error_probability >= LIKELY
    bands = np.where(is_likely, np.int8(1), np.int8(2))
    bands[view.is_surely_wrong(MIN_PROBABILITY)] = 0
    return bands


def _chosen(suspects: Suspects, shown: Confusion, classes: int) -> NDArray[np.int64]:
    """Return positions among the suspects, in rising order."""
    worst = np.arange(min(WORST, len(suspects.rows)))
    pair = suspects.given * classes + suspects.suggested
    listed = [given * classes + suggested for given, suggested, _ in shown.pairs]
    is_shown = np.ones(len(pair), np.bool_) if shown.cells else np.isin(pair, listed)
    rank = _rank_in_pair(pair)
    more = np.flatnonzero(is_shown & (rank < OF_A_PAIR))
    more = more[more >= len(worst)]
    more = more[np.argsort(rank[more], kind="stable")][: MOST - len(worst)]
    return np.sort(np.concatenate([worst, more]))


def _rank_in_pair(pair: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``(M,)``: the how-manieth of its pair each suspect is, from 0."""
    order = np.argsort(pair, kind="stable")
    is_first = np.diff(pair[order], prepend=-1) != 0
    starts = np.flatnonzero(is_first)
    rank = np.empty(len(pair), np.int64)
    rank[order] = np.arange(len(pair)) - np.repeat(starts, np.diff(starts, append=len(pair)))
    return rank


_Found = tuple[int, float | None]
"""A row, and how similar it is."""


class _Comparison:
    """Finds samples to compare suspects with.

    Args:
        view: N samples.
        neighbors: Of each of them; ``None`` finds none.
    """

    def __init__(self, view: ReportView, neighbors: NeighborLists | None) -> None:
        self._view = view
        self._neighbors = neighbors
        self._typical: dict[int, int | None] = {}

    def of(
        self, suspects: Suspects, chosen: NDArray[np.int64]
    ) -> list[tuple[Near | None, Near | None]]:
        """Return for each chosen suspect one of the given and one of the suggested class."""
        if self._neighbors is None:
            return [(None, None)] * len(chosen)
        found = [
            (
                self._nearest(int(suspects.rows[place]), int(suspects.given[place])),
                self._nearest(int(suspects.rows[place]), int(suspects.suggested[place])),
            )
            for place in chosen.tolist()
        ]
        return self._named(found)

    def _nearest(self, row: int, code: int) -> _Found | None:
        """Return the first of a class among the neighbors, then theirs, then a typical one."""
        for other, similarity in self._reached(row):
            if other != row and self._view.given[other] == code:
                return other, similarity
        typical = self._typical_of(code)
        return None if typical is None or typical == row else (typical, None)

    def _reached(self, row: int) -> Iterator[_Found]:
        assert self._neighbors is not None
        near = self._neighbors.of(row)
        yield from near
        for other, _ in near:
            for further, _ in self._neighbors.of(other):
                yield further, None

    def _typical_of(self, code: int) -> int | None:
        """Return the least doubtful sample of a class, if there is one that is not flagged."""
        if code not in self._typical:
            view = self._view
            is_it = (view.given == code) & view.is_scored & ~view.is_flagged
            rows = np.flatnonzero(is_it & (code != MISSING))
            best = rows[np.argmin(view.error_probability[rows])] if len(rows) else None
            self._typical[code] = None if best is None else int(best)
        return self._typical[code]

    def _named(
        self, found: list[tuple[_Found | None, _Found | None]]
    ) -> list[tuple[Near | None, Near | None]]:
        rows = sorted({one[0] for pair in found for one in pair if one is not None})
        cells = self._view.cells(rows, ["sample_id", "given_label", "is_label_issue"])
        cell_of = dict(zip(rows, cells, strict=True))

        def near(one: _Found | None) -> Near | None:
            if one is None:
                return None
            row, similarity = one
            cell = cell_of[row]
            return Near(
                row, cell["sample_id"], cell["given_label"], cell["is_label_issue"], similarity
            )

        return [(near(same), near(other)) for same, other in found]
