"""What a picture looks like as a whole: how dark, how sharp, how large.

Letters: T pixels a side of a thumbnail.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL = 32
"""T."""

LONGER_SIDE = 64
"""Pixels to which a picture is reduced before it is measured: large ones are all soft in full."""

BRIGHT_END, DARK_END = 0.99, 0.05
"""Shares of the pixels that are no brighter than what is measured."""

MEASURES = 4
"""How many figures `Appearance.measures` holds."""


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """One picture.

    Args:
        measures: ``(4,)`` float32: its side in pixels (the square root of its area, before any
            reduction); the luminance, 0 to 1, that 99 % of its pixels do not exceed; that which 5 %
            do not; the variance of the Laplacian of its luminance, in squares of 1 of 255.
        thumbnail: ``(T, T)`` luminance, the whole picture whatever its shape.
    """

    measures: NDArray[np.float32]
    thumbnail: NDArray[np.uint8]


def measure(image: Image.Image, size: tuple[int, int]) -> Appearance:
    """Return how a picture looks.

    Args:
        image: The decoded picture, RGB, maybe smaller than it was stored.
        size: Width and height as it was stored.
    """
    longest = max(image.size)
    if longest > LONGER_SIDE:
        reduced = [max(1, round(side * LONGER_SIDE / longest)) for side in image.size]
        image = image.resize((reduced[0], reduced[1]), Image.Resampling.BOX, reducing_gap=2.0)
    grey = image.convert("L")
    shares = np.cumsum(grey.histogram()) / (grey.width * grey.height)
    ends = np.searchsorted(shares, [BRIGHT_END, DARK_END]) / 255
    side = float(size[0] * size[1]) ** 0.5
    return Appearance(
        np.array([side, *ends, _laplacian_variance(np.asarray(grey))], np.float32),
        np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)),
    )


def _laplacian_variance(grey: NDArray[np.uint8]) -> float:
    """Return the variance of the 4-neighbour Laplacian; 0 where there is no inner pixel."""
    if min(grey.shape) < 3:
        return 0.0
    values = grey.astype(np.int32)
    around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    return float((around - 4 * values[1:-1, 1:-1]).var())
