"""Which samples are the same one, stored anew: pictures that were encoded, resized or cropped, say.

Letters: N rows, E pairs, k neighbors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelfix.issues.types import Neighbors
from labelfix.types import MISSING

CONTROL_DEVIATIONS = 6.0
"""A pair has to be so many standard deviations more alike than neighbors that are not the same."""

LOOSELY_ALIKE = 0.5
"""The least similarity of any two samples of a set."""

CLOSELY = 3
"""So many of the neighbors that seem to be copies of a sample are compared closely."""

REPRESENTATIVES = 4
"""So many of a set are compared with those of another before the two become one."""

NEARLY_ONE = 1 - 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class NearDuplicates:
    """Samples that show the same.

    Args:
        sets: ``(N,)`` int64: the same number for the same sample, ``MISSING`` where there is but
            one of it. Numbers follow no order.
        score: ``(N,)`` float32, 0 to 1: 1 - the similarity of the neighbor that is most alike.
        limit: The score below which a sample is a near-duplicate: that of all in a set, and of no
            other, is below it.
    """

    sets: NDArray[np.int64]
    score: NDArray[np.float32]
    limit: float


Similarity: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""Says of ``(E,)`` first and ``(E,)`` second rows how much alike each pair is, 1 for the same."""


def find_near_duplicates(
    similarity: Similarity,
    neighbors: Neighbors,
    *,
    threshold: float,
    closely: Similarity | None = None,
) -> NearDuplicates:
    """Compare each sample with its neighbors, and group those that are the same.

    How alike samples are that are not the same depends on the data: two photographs share next to
    no detail, two scanned digits much. So a pair has to stand out from the pairs of each sample and
    its farthest neighbor, of which few are duplicates: by `CONTROL_DEVIATIONS` robust standard
    deviations on Fisher's scale (the median absolute deviation times 1.4826). Pairs that do are
    compared closely, where that can be done, and have to be as alike then.

    Two sets become one only if their samples are at least loosely alike, so that no chain of small
    changes joins what is unlike.

    Args:
        similarity: How much alike two samples are: their modality knows.
        neighbors: Of the N rows.
        threshold: The highest score of a near-duplicate; less where the data ask for it.
        closely: Takes longer, and is asked about the `CLOSELY` likeliest copies of each sample.
    """
    size, count = neighbors.rows.shape
    keys, place = np.unique(_pair_keys(neighbors.rows), return_inverse=True)
    place = place.reshape(size, count)
    first, second = keys // max(size, 1), keys % max(size, 1)
    loosely = similarity(first, second)
    limit = min(threshold, 1 - _least_similarity(loosely[place][:, -1:]))
    alike = loosely
    if closely is not None and limit > 0:
        looked_at = _likeliest(loosely, place, limit)
        alike = np.where(1 - loosely < limit, 0, loosely)
        parts = closely(first[looked_at], second[looked_at])
        whole = loosely[looked_at]
        alike[looked_at] = np.where(parts >= 1 - threshold, whole, np.minimum(parts, whole))
    sure = np.flatnonzero(1 - alike < limit)
    order = sure[np.argsort(-alike[sure], kind="stable")]
    grouping = _Grouping(similarity, size, keys, loosely)
    for one, two in zip(first[order].tolist(), second[order].tolist(), strict=True):
        grouping.join(one, two)
    sets = grouping.sets()
    score = (1 - alike[place].max(axis=1, initial=0.0)).clip(0, 1).astype(np.float32)
    is_refused = (sets == MISSING) & (score < limit)
    score[is_refused] = np.nextafter(np.float32(limit), np.float32(1))
    return NearDuplicates(sets, score, limit)


def _pair_keys(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``(N * k,)`` numbers of the pairs of each row and its neighbors."""
    size, count = rows.shape
    own = np.repeat(np.arange(size), count)
    other = rows.ravel()
    keys = np.minimum(own, other)
    keys *= size
    keys += np.maximum(own, other)
    return keys


def _likeliest(
    alike: NDArray[np.float32], place: NDArray[np.intp], limit: float
) -> NDArray[np.intp]:
    """Return the pairs that are among the likeliest of either sample and may be copies.

    Args:
        alike: ``(E,)`` of pairs.
        place: ``(N, k)`` the pair of each sample and each of its neighbors.
        limit: The score below which they may be.
    """
    best = np.argsort(-alike[place], axis=1, kind="stable")[:, :CLOSELY]
    pairs = np.unique(np.take_along_axis(place, best, axis=1))
    likeliest: NDArray[np.intp] = pairs[1 - alike[pairs] < limit]
    return likeliest


def _least_similarity(controls: NDArray[np.float32]) -> float:
    """Return how alike two samples must be to stand out from ``(N, 1)`` pairs of unlike ones."""
    if controls.size == 0:
        return 0.0
    scale = np.arctanh(controls.clip(-NEARLY_ONE, NEARLY_ONE).astype(np.float64))
    middle = float(np.median(scale))
    deviation = 1.4826 * float(np.median(np.abs(scale - middle)))
    return float(np.tanh(middle + CONTROL_DEVIATIONS * deviation))


class _Grouping:
    """Sets that grow pair by pair.

    Args:
        similarity: Of pairs that are not known yet.
        size: N.
        keys: ``(E,)`` pairs that are known, as ``first * N + second``, rising.
        alike: ``(E,)`` how much alike they are.
    """

    def __init__(
        self,
        similarity: Similarity,
        size: int,
        keys: NDArray[np.int64],
        alike: NDArray[np.float32],
    ) -> None:
        self._of_pairs = similarity
        self._size = size
        self._keys, self._alike = keys, alike
        self._worked_out: dict[int, float] = {}
        self._members: dict[int, list[int]] = {}
        self._set_of: dict[int, int] = {}

    def join(self, one: int, two: int) -> None:
        """Make the sets of two rows one, unless some of their samples are not even loosely alike.

        Args:
            one: A row.
            two: A row that is its near-duplicate.
        """
        sets = [self._set_of.get(row, row) for row in (one, two)]
        if sets[0] == sets[1]:
            return
        members = [self._members.get(number, [number]) for number in sets]
        ends = [rows[:REPRESENTATIVES] for rows in members]
        if not all(self._similarity(*pair) >= LOOSELY_ALIKE for pair in product(*ends)):
            return
        joined = sorted(members[0] + members[1])
        for number in sets:
            self._members.pop(number, None)
        self._members[joined[0]] = joined
        self._set_of.update(dict.fromkeys(joined, joined[0]))

    def sets(self) -> NDArray[np.int64]:
        """Return ``(N,)`` the first row of each row's set, ``MISSING`` where it is alone."""
        sets = np.full(self._size, MISSING, np.int64)
        for first, rows in self._members.items():
            sets[rows] = first
        return sets

    def _similarity(self, one: int, two: int) -> float:
        first, second = min(one, two), max(one, two)
        key = first * self._size + second
        place = int(np.searchsorted(self._keys, key))
        if place < len(self._keys) and self._keys[place] == key:
            return float(self._alike[place])
        if key not in self._worked_out:
            pair = self._of_pairs(np.array([first]), np.array([second]))
            self._worked_out[key] = float(pair[0])
        return self._worked_out[key]
