"""Which samples are scored, which fold holds each out, and which images are the same.

Letters: N samples, K classes, F folds.
"""

import numpy as np
from numpy.typing import NDArray

from labelfix.types import MISSING, Duplicates, EncodedSamples


def find_duplicates(seen: EncodedSamples, given_label: NDArray[np.int64]) -> Duplicates:
    """Group the readable images that are byte-identical.

    Args:
        seen: N images, with the digests of their bytes.
        given_label: ``(N,)`` codes.
    """
    readable = np.ones(len(given_label), dtype=bool)
    readable[list(seen.unreadable)] = False
    _, first, group, size = np.unique(
        seen.content, return_index=True, return_inverse=True, return_counts=True
    )
    has_copy = (size[group] > 1) & readable
    # unique sorts by digest; a set is numbered by where it first appears
    order_of_group = np.full(len(first), MISSING, dtype=np.int64)
    groups = np.unique(group[has_copy])
    order_of_group[groups[np.argsort(first[groups])]] = np.arange(len(groups))
    sets = np.where(has_copy, order_of_group[group], MISSING)
    return Duplicates(exact_duplicate_set=sets, is_conflicting=conflicting(sets, given_label))


def conflicting(sets: NDArray[np.int64], given_label: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return ``(N,)`` whether a labeled sample is in a set whose given labels differ.

    Args:
        sets: ``(N,)`` numbers of sets, ``MISSING`` where a sample is in none.
        given_label: ``(N,)`` codes.
    """
    is_conflicting = np.zeros(len(sets), dtype=bool)
    rows = np.flatnonzero((sets != MISSING) & (given_label != MISSING))
    if rows.size == 0:
        return is_conflicting
    count = int(sets.max()) + 1
    low, high = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
    np.minimum.at(low, sets[rows], given_label[rows])
    np.maximum.at(high, sets[rows], given_label[rows])
    is_conflicting[rows] = (low < high)[sets[rows]]
    return is_conflicting
