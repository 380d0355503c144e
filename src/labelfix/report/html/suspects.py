"""The suspects: which labels are flagged, how the classes are confused, and which cards are shown.

Letters: N samples, K classes, M flagged samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.report.neighbors import NeighborLists
from labelfix.report.view import ClassPairs, ReportView, count_pairs
from labelfix.types import Label

MAP_CLASSES = 24
"""How many classes the heat map holds at most."""

WORST, MOST = 220, 340
"""Cards of the most surely wrong labels, whatever their classes, and cards in all."""

OF_A_PAIR = 6
"""Beyond the worst, so many cards of a pair of classes, so that a cell of the map has some."""

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
class HeatMap:
    """How many samples came as one class (a row) and look like another (a column).

    Args:
        codes: Positions in the class names, of the rows and of the columns alike.
        cells: A row of cells for each of them.
        held: How many flags the map holds.
        flagged: How many there are.
        is_whole: Whether every class is in it.
    """

    codes: tuple[int, ...]
    cells: tuple[tuple[Cell, ...], ...]
    held: int
    flagged: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Near:
    """A sample that looks like another one: its row, name, label and cosine similarity."""

    row: int
    sample_id: str
    given_label: Label
    similarity: float


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
        agreeing: The nearest sample that came with the same label, or ``None``.
        disagreeing: The nearest that came with the suggested one, else with any other, or ``None``.
    """

    row: int
    sample_id: str
    split: str | None
    given: int
    suggested: int
    label_error_probability: float
    suggested_label_probability: float
    agreeing: Near | None
    disagreeing: Near | None


def find_suspects(view: ReportView) -> Suspects:
    """Return the flagged samples of a report."""
    rows = view.suspects
    return Suspects(rows, view.given[rows], view.suggested[rows])


def heat_map(suspects: Suspects, classes: int) -> HeatMap:
    """Return the heat map of all K classes, or of those that are most confused with one another."""
    pairs = count_pairs(suspects.given, suspects.suggested, classes)
    codes = np.arange(classes)
    if classes > MAP_CLASSES:
        codes = _most_confused(pairs)
    place = np.full(classes, -1)
    place[codes] = np.arange(len(codes))
    row, column = place[pairs.given], place[pairs.suggested]
    is_held = (row >= 0) & (column >= 0)
    table = np.zeros((len(codes), len(codes)), np.int64)
    table[row[is_held], column[is_held]] = pairs.count[is_held]
    level = np.ceil(LEVELS * np.sqrt(table / max(table.max(initial=0), 1))).astype(np.int64)
    return HeatMap(
        codes=tuple(codes.tolist()),
        cells=tuple(
            tuple(Cell(*cell) for cell in zip(*line, strict=True))
            for line in zip(table.tolist(), level.tolist(), strict=True)
        ),
        held=int(table.sum()),
        flagged=len(suspects.rows),
        is_whole=classes <= MAP_CLASSES,
    )


def choose_cards(
    view: ReportView, suspects: Suspects, shown: HeatMap, neighbors: NeighborLists | None
) -> tuple[Card, ...]:
    """Return the cards, most surely wrong first: the worst, and some of each cell of the map."""
    chosen = _chosen(suspects, shown, len(view.class_names))
    rows = suspects.rows[chosen]
    names = ["sample_id", "split", "label_error_probability", "suggested_label_probability"]
    near = _near(view, suspects, chosen, neighbors)
    return tuple(
        Card(row=row, given=given, suggested=suggested, **cells, agreeing=same, disagreeing=other)
        for row, given, suggested, cells, (same, other) in zip(
            rows.tolist(),
            suspects.given[chosen].tolist(),
            suspects.suggested[chosen].tolist(),
            view.cells(rows, names),
            near,
            strict=True,
        )
    )


def _most_confused(pairs: ClassPairs) -> NDArray[np.int64]:
    """Return the classes of the first pairs, partners beside each other."""
    codes: dict[int, None] = {}
    for given, suggested in zip(pairs.given.tolist(), pairs.suggested.tolist(), strict=True):
        codes.update(dict.fromkeys((given, suggested)))
        if len(codes) >= MAP_CLASSES:
            break
    return np.array(list(codes)[:MAP_CLASSES], np.int64)


def _chosen(suspects: Suspects, shown: HeatMap, classes: int) -> NDArray[np.int64]:
    """Return positions among the suspects, in rising order."""
    worst = np.arange(min(WORST, len(suspects.rows)))
    is_shown = np.isin(suspects.given, shown.codes) & np.isin(suspects.suggested, shown.codes)
    rank = _rank_in_pair(suspects.given * classes + suspects.suggested)
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


def _near(
    view: ReportView,
    suspects: Suspects,
    chosen: NDArray[np.int64],
    neighbors: NeighborLists | None,
) -> list[tuple[Near | None, Near | None]]:
    """Return the nearest agreeing and disagreeing sample of each card."""
    if neighbors is None:
        return [(None, None)] * len(chosen)
    found = []
    for position in chosen.tolist():
        near = neighbors.of(int(suspects.rows[position]))
        labels = view.given[[row for row, _ in near]]
        given = suspects.given[position]
        same = _first(labels == given)
        other = _first(labels == suspects.suggested[position])
        if other is None:
            other = _first((labels != given) & (labels >= 0))
        found.append(tuple(None if i is None else near[i] for i in (same, other)))
    return _named(view, found)


def _first(is_it: NDArray[np.bool_]) -> int | None:
    return int(is_it.argmax()) if is_it.any() else None


def _named(
    view: ReportView, found: list[tuple[tuple[int, float] | None, ...]]
) -> list[tuple[Near | None, Near | None]]:
    rows = sorted({one[0] for pair in found for one in pair if one is not None})
    cells = dict(zip(rows, view.cells(rows, ["sample_id", "given_label"]), strict=True))

    def near(one: tuple[int, float] | None) -> Near | None:
        return None if one is None else Near(row=one[0], similarity=one[1], **cells[one[0]])

    return [(near(same), near(other)) for same, other in found]
