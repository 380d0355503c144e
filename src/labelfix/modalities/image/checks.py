"""The checks of images: which are dark, bright, blurry or of an odd size, whatever their label.

Letters: N rows. Scores are in [0, 1], and low is bad.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelfix.config import IssueConfig
from labelfix.modalities.base import IssueCheck
from labelfix.types import ImageStatistics

BLUR_SCALE = 100.0
"""The variance of the Laplacian at which sharpness scores 1 - 1/e."""

ODD_SPREADS = 3.0
"""A side may leave the median by so many distances between its quartiles, in octaves ..."""

LEAST_ALLOWED = 1.0
"""... and by so many octaves in any case: half or twice the usual side is not odd."""

Scores: TypeAlias = NDArray[np.float32]


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


_THRESHOLDS = IssueConfig()

IMAGE_CHECKS = (
    IssueCheck(
        "dark",
        "Whether the image is nearly black.",
        "The luminance that 99 % of its pixels do not exceed, 0 (black) to 1",
        "nearly black",
        _THRESHOLDS.dark,
        dark_score,
        found="nearly black",
    ),
    IssueCheck(
        "bright",
        "Whether the image is nearly white.",
        "1 - the luminance that 95 % of its pixels reach, 0 (white) to 1",
        "nearly white",
        _THRESHOLDS.bright,
        bright_score,
        found="nearly white",
    ),
    IssueCheck(
        "blurry",
        "Whether the image has hardly an edge.",
        "How sharp the image is, 0 (no edge) to 1: 1 - exp(-v / 100), v the variance of the "
        "Laplacian of its luminance (0 to 255) at 64 pixels along its longer side",
        "blurry",
        _THRESHOLDS.blurry,
        blurry_score,
        found="with hardly an edge",
    ),
    IssueCheck(
        "odd_size",
        "Whether the image is much larger or smaller than the others.",
        "How usual the image's size is, 0 (odd) to 1 (the median); 0.5 is three times the distance "
        "between the quartiles from the median, and at least one octave, of the square root of the "
        "area",
        "of an odd size",
        _THRESHOLDS.odd_size,
        odd_size_score,
        found="much larger or smaller than the others",
    ),
)
"""In the order of the report."""
