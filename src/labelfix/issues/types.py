"""What was found of samples besides their labels.

Letters: N samples, k neighbors.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COMMON_KINDS = ("near_duplicate", "outlier")
"""The kinds of issue that are looked for in samples of every modality, in the order of the report;
the checks of the modality come after them."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbors:
    """The nearest neighbors of N rows, nearest first.

    Args:
        rows: ``(N, k)`` int64 numbers of rows, never a row's own; ``MISSING`` after the last.
        similarities: ``(N, k)`` float32 cosines, -1 to 1.
    """

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class IssueKinds:
    """Near-duplicates, outliers, and what the checks of a modality found.

    Args:
        near_duplicate_set: ``(N,)`` int64: the same number for the same sample stored anew, counted
            from 0 in order of first appearance; ``MISSING`` for one that has none like it.
        is_conflicting: ``(N,)`` bool: the sample is in such a set whose given labels differ.
        scores: For each kind ``(N,)`` float32 in [0, 1], low is bad; NaN where a sample cannot be
            read. The kinds are `COMMON_KINDS` and the modality's checks, in the report's order.
        is_issue: For each kind ``(N,)`` bool.
        limits: For each kind the score below which there is an issue.
        neighbors: Of the N samples; no neighbors where a sample cannot be read.
        places: ``(N, 2)`` float32 where the samples lie on a plane, 0 to 1 along each axis; NaN
            where a sample cannot be read. ``None`` where nobody looked.
    """

    near_duplicate_set: NDArray[np.int64]
    is_conflicting: NDArray[np.bool_]
    scores: Mapping[str, NDArray[np.float32]]
    is_issue: Mapping[str, NDArray[np.bool_]]
    limits: Mapping[str, float]
    neighbors: Neighbors
    places: NDArray[np.float32] | None = None
