"""Which pictures are the same one, encoded, resized or cropped anew.

Letters: N rows, E pairs, k neighbours.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from labelfix.issue_records import Neighbours
from labelfix.likeness import Pairs, likeness
from labelfix.records import MISSING

CONTROL_DEVIATIONS = 6.0
"""A pair has to be so many standard deviations more alike than neighbours that are not the same."""

LOOSELY_ALIKE = 0.5
"""The least likeness of any two pictures of a set."""

REPRESENTATIVES = 4
"""So many of a set are compared with those of another before the two become one."""

NEARLY_ONE = 1 - 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class NearDuplicates:
    """Pictures that show the same.

    Args:
        sets: ``(N,)`` int64: the same number for the same picture, ``MISSING`` where there is but
            one of it. Numbers follow no order.
        score: ``(N,)`` float32, 0 to 1: 1 - the likeness of the neighbour that is most alike.
        limit: The score below which a picture is a near-duplicate.
    """

    sets: NDArray[np.int64]
    score: NDArray[np.float32]
    limit: float


def find_near_duplicates(
    thumbnails: NDArray[np.uint8], neighbours: Neighbours, *, threshold: float
) -> NearDuplicates:
    """Compare each picture with its neighbours by their pixels, and group those that are the same.

    How alike pictures are that are not the same depends on the data: two photographs share next to
    no detail, two scanned digits much. So a pair has to stand out from the pairs of each picture
    and its farthest neighbour, of which few are duplicates: by `CONTROL_DEVIATIONS` robust standard
    deviations on Fisher's scale (the median absolute deviation times 1.4826).

    Two sets become one only if their pictures are at least loosely alike, so that no chain of small
    changes joins what is unlike.

    Args:
        thumbnails: ``(N, T, T)`` grey.
        neighbours: Of the N rows.
        threshold: The highest score of a near-duplicate; less where the data ask for it.
    """
    size, count = neighbours.rows.shape
    own = np.repeat(np.arange(size), count)
    other = neighbours.rows.ravel()
    keys, place = np.unique(
        np.minimum(own, other) * size + np.maximum(own, other), return_inverse=True
    )
    pairs = Pairs(keys // max(size, 1), keys % max(size, 1))
    alike = likeness(thumbnails, pairs)
    of_neighbour = alike[place].reshape(size, count)
    best = of_neighbour.max(axis=1, initial=0.0)
    limit = min(threshold, 1 - _least_likeness(of_neighbour[:, -1:]))
    sure = np.flatnonzero(1 - alike < limit)
    order = sure[np.argsort(-alike[sure], kind="stable")]
    grouping = _Grouping(thumbnails, dict(zip(keys.tolist(), alike.tolist(), strict=True)))
    for one, two in zip(pairs.first[order].tolist(), pairs.second[order].tolist(), strict=True):
        grouping.join(one, two)
    return NearDuplicates(grouping.sets(), (1 - best).clip(0, 1).astype(np.float32), limit)


def _least_likeness(controls: NDArray[np.float32]) -> float:
    """Return how alike two pictures must be to stand out from ``(N, 1)`` pairs of unlike ones."""
    if controls.size == 0:
        return 0.0
    scale = np.arctanh(controls.clip(-NEARLY_ONE, NEARLY_ONE).astype(np.float64))
    middle = float(np.median(scale))
    deviation = 1.4826 * float(np.median(np.abs(scale - middle)))
    return float(np.tanh(middle + CONTROL_DEVIATIONS * deviation))


class _Grouping:
    """Sets that grow pair by pair.

    Args:
        thumbnails: ``(N, T, T)`` grey.
        known: Likeness by ``first * N + second``; more is added as it is worked out.
    """

    def __init__(self, thumbnails: NDArray[np.uint8], known: dict[int, float]) -> None:
        self._thumbnails = thumbnails
        self._known = known
        self._members: dict[int, list[int]] = {}
        self._set_of: dict[int, int] = {}

    def join(self, one: int, two: int) -> None:
        """Make the sets of two rows one, unless some of their pictures are not even loosely alike.

        Args:
            one: A row.
            two: A row that is its near-duplicate.
        """
        sets = [self._set_of.get(row, row) for row in (one, two)]
        if sets[0] == sets[1]:
            return
        members = [self._members.get(number, [number]) for number in sets]
        ends = [rows[:REPRESENTATIVES] for rows in members]
        if not all(self._likeness(*pair) >= LOOSELY_ALIKE for pair in product(*ends)):
            return
        joined = sorted(members[0] + members[1])
        for number in sets:
            self._members.pop(number, None)
        self._members[joined[0]] = joined
        self._set_of.update(dict.fromkeys(joined, joined[0]))

    def sets(self) -> NDArray[np.int64]:
        """Return ``(N,)`` the first row of each row's set, ``MISSING`` where it is alone."""
        sets = np.full(len(self._thumbnails), MISSING, np.int64)
        for first, rows in self._members.items():
            sets[rows] = first
        return sets

    def _likeness(self, one: int, two: int) -> float:
        first, second = min(one, two), max(one, two)
        key = first * len(self._thumbnails) + second
        if key not in self._known:
            two_of_them = np.stack([self._thumbnails[first], self._thumbnails[second]])
            pair = Pairs(np.array([0]), np.array([1]))
            self._known[key] = float(likeness(two_of_them, pair)[0])
        return self._known[key]
