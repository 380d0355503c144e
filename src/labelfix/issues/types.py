"""What was found of images besides their labels.

Letters: N samples, k neighbors.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KINDS = ("near_duplicate", "outlier", "dark", "bright", "blurry", "odd_size")
"""The kinds of issue that have a score and a threshold, in the order of the report."""


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
    """Near-duplicates, outliers and images that stand out by how they look.

    Args:
        near_duplicate_set: ``(N,)`` int64: the same number for the same picture, counted from 0 in
            order of first appearance; ``MISSING`` for an image that has none like it.
        is_conflicting: ``(N,)`` bool: the sample is in such a set whose given labels differ.
        scores: For each of ``KINDS`` ``(N,)`` float32 in [0, 1], low is bad; NaN where an image
            cannot be read.
        is_issue: For each of ``KINDS`` ``(N,)`` bool.
        limits: For each of ``KINDS`` the score below which there is an issue.
        neighbors: Of the N samples; no neighbors where an image cannot be read.
    """

    near_duplicate_set: NDArray[np.int64]
    is_conflicting: NDArray[np.bool_]
    scores: Mapping[str, NDArray[np.float32]]
    is_issue: Mapping[str, NDArray[np.bool_]]
    limits: Mapping[str, float]
    neighbors: Neighbors
