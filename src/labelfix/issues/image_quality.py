"""Which pictures are worth a look whatever their label says.

They are unlike all others, dark, bright, blurry, or of an odd size.

Letters: N rows, k neighbors. Scores are in [0, 1], and low is bad.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelfix.issues.types import Neighbors
from labelfix.types import ImageStatistics

BLUR_SCALE = 100.0
"""The variance of the Laplacian at which sharpness scores 1 - 1/e."""

ODD_SPREADS = 3.0
"""A side may leave the median by so many distances between its quartiles, in octaves ..."""

LEAST_ALLOWED = 1.0
"""... and by so many octaves in any case: half or twice the usual side is not odd."""

Scores: TypeAlias = NDArray[np.float32]

OUTLIER_DEVIATIONS = 3.5
"""At so many deviations an outlier scores one half."""


def outlier_score(neighbors: Neighbors, lengths: NDArray[np.float32]) -> Scores:
    """Return ``(N,)`` how near each picture is to its neighbors, set against all other pictures.

    What counts is the mean distance to the k nearest. Its modified z-score (Iglewicz & Hoaglin
    1993; the deviations above the median alone make its scale, as those below it are of
    duplicates) goes through a logistic curve: 1/2 at 3.5, the authors' limit of an outlier.

    Args:
        neighbors: The nearest by direction.
        lengths: ``(N,)`` of the vectors: distances are between whole vectors.
    """
    own, other = lengths.astype(np.float64)[:, None], lengths.astype(np.float64)[neighbors.rows]
    squares = own**2 + other**2 - 2 * own * other * neighbors.similarities
    if squares.size == 0:
        return np.ones(len(lengths), np.float32)
    distance = np.sqrt(squares.clip(0)).mean(axis=1)
    middle = np.median(distance)
    above = distance[distance > middle] - middle
    deviation = 1.4826 * np.median(above) if above.size else np.inf
    beyond = (distance - middle) / deviation
    score: Scores = (1 / (1 + np.exp(beyond - OUTLIER_DEVIATIONS))).astype(np.float32)
    return score


def dark_score(looks: ImageStatistics) -> Scores:
    """Return ``(N,)`` luminances that 99 % of the pixels do not exceed: 0 is all black."""
    return looks.bright_end


def bright_score(looks: ImageStatistics) -> Scores:
    """Return ``(N,)`` how far from white the darkest 5 % of the pixels reach: 0 is all white."""
    return 1 - looks.dark_end


def blurry_score(looks: ImageStatistics) -> Scores:
    """Return ``(N,)`` 1 - exp(-v / 100) of the variance v of the Laplacian: 0 has no edge."""
    score: Scores = -np.expm1(-looks.laplacian_variance / np.float32(BLUR_SCALE))
    return score


def odd_size_score(looks: ImageStatistics) -> Scores:
    """Return ``(N,)`` how usual each picture's size is: 1 at the median, 1/2 at the allowed limit.

    The side is taken, the square root of the area, in octaves. The limit is three times the
    distance between its quartiles, and never less than one octave.
    """
    octaves = np.log2(looks.side.astype(np.float64).clip(1))
    low, middle, high = np.quantile(octaves, [0.25, 0.5, 0.75]) if octaves.size else (0, 0, 0)
    allowed = max(LEAST_ALLOWED, ODD_SPREADS * (high - low))
    score: Scores = (1 - np.abs(octaves - middle) / (2 * allowed)).clip(0, 1).astype(np.float32)
    return score
