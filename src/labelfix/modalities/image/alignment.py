"""Lay one picture on another that may be a crop of it, to a fraction of a pixel.

Letters: E pairs, S pixels a side. A placement, ``(4,)``, is left, top, width and height of the part
of the second picture that the first one shows, in shares of the second's sides; it may reach beyond
the second where that one is the crop.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

LEVELS = (16, 32, 64)
"""Sides at which pictures are aligned, one after the other."""

STEPS = 5
"""Of Gauss and Newton, at each level."""

LARGEST_STEP = 0.06
"""Of a placement, in shares of a side."""

SHARES = (0.8, 1.25)
"""Of a side that the part may have: what a crop leaves, both ways."""

LEAST_COMMON = 0.6
"""Share of the first picture that has to lie on the second."""

SMOOTH = 0.7
"""Pixels of the Gaussian that takes edges' steps away, so that slopes say how far to move."""

Pictures: TypeAlias = NDArray[np.float32]
"""``(E, S, S)`` luminance, 0 to 255."""

Placements: TypeAlias = NDArray[np.float32]
"""``(E, 4)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """Reads second pictures where the first ones lie, between pixels from their neighbors.

    Args:
        down: ``(E, S, S)`` weights of the lines that make each line.
        right: ``(E, S, S)`` weights of the columns that make each column.
        lines: ``(E, S)`` 1 for each line of the first that lies on the second, else 0.
        columns: ``(E, S)`` likewise.
    """

    down: Pictures
    right: Pictures
    lines: NDArray[np.float32]
    columns: NDArray[np.float32]

    @staticmethod
    def of(placements: Placements, side: int, *, margin: float = 0) -> "Sampler":
        """Return one for placements.

        Args:
            placements: Where the first pictures lie.
            side: S.
            margin: Pixels that are so near the edge of the second picture do not count.
        """
        at = ((np.arange(side) + 0.5) / side).astype(np.float32)
        pixels = side * (placements[:, :2, None] + placements[:, 2:, None] * at) - 0.5
        is_on = ((pixels >= margin) & (pixels <= side - 1 - margin)).astype(np.float32)
        inside = pixels.clip(0, side - 1)[..., None]
        near = 1 - np.abs(inside - np.arange(side, dtype=np.float32))
        weights: Pictures = near.clip(0).astype(np.float32)
        return Sampler(weights[:, 1], weights[:, 0], is_on[:, 1], is_on[:, 0])

    def sampled(self, pictures: Pictures) -> Pictures:
        """Return ``(E, S, S)`` what the second pictures show where each pixel of the first lies."""
        seen: Pictures = np.matmul(self.down @ pictures, self.right.swapaxes(1, 2))
        return seen

    @property
    def mask(self) -> Pictures:
        """``(E, S, S)``: 1 for a pixel of the first that lies on the second, else 0."""
        return self.lines[:, :, None] * self.columns[:, None, :]


def reduced(pictures: NDArray[np.uint8], side: int) -> Pictures:
    """Return square pictures at a smaller side that divides theirs: the mean of each cell."""
    factor = pictures.shape[1] // side
    cells = pictures.reshape(len(pictures), side, factor, side, factor)
    smaller: Pictures = cells.mean(axis=(2, 4), dtype=np.float32)
    return smaller


def smoothed(pictures: Pictures, deviation: float) -> Pictures:
    """Return pictures under a Gaussian of so many pixels; beyond an edge is what is at it."""
    reach = int(np.ceil(3 * deviation))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    side = pictures.shape[1]
    kernel = np.zeros((side, side), np.float32)
    for step, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
        np.add.at(kernel, (np.arange(side), (np.arange(side) + step).clip(0, side - 1)), weight)
    blurred: Pictures = np.matmul(kernel @ pictures, kernel.T)
    return blurred


def align(
    first: NDArray[np.uint8], second: NDArray[np.uint8], placements: Placements, *, side: int
) -> Placements:
    """Return where the first pictures lie on the second, from coarse to fine.

    Args:
        first: ``(E, S, S)``.
        second: ``(E, S, S)``.
        placements: Where they lie roughly.
        side: The finest level that is looked at.
    """
    for level in LEVELS:
        if level <= side:
            one, two = (smoothed(reduced(pictures, level), SMOOTH) for pictures in (first, second))
            placements = _refined(one, two, placements)
    return placements


def _refined(first: Pictures, second: Pictures, placements: Placements) -> Placements:
    """Return the best of the placements on the way of Gauss and Newton."""
    side = first.shape[1]
    downward, rightward = (side * slope for slope in np.gradient(second, axis=(1, 2)))
    best, best_value = placements, np.full(len(placements), -np.inf, np.float32)
    for step in range(STEPS + 1):
        sampler = Sampler.of(placements, side)
        seen, mask = sampler.sampled(second), sampler.mask
        value = _correlation(first, seen, mask)
        is_better = value > best_value
        best = np.where(is_better[:, None], placements, best)
        best_value = np.where(is_better, value, best_value)
        if step < STEPS:
            slopes = sampler.sampled(rightward), sampler.sampled(downward)
            placements = placements + _step(first, seen, slopes, mask)
            placements[:, 2:] = placements[:, 2:].clip(*SHARES)
            placements[:, :2] = placements[:, :2].clip(1 - SHARES[1], SHARES[1] - 1)
    return best


def _step(
    first: Pictures, seen: Pictures, slopes: tuple[Pictures, Pictures], mask: Pictures
) -> Placements:
    """Return by how much placements change: least squares, with a gain and an offset of tones."""
    side = first.shape[1]
    at = ((np.arange(side) + 0.5) / side).astype(np.float32)
    right, down = slopes
    causes = [right, down, right * at, down * at[:, None], seen, np.ones_like(seen)]
    matrix = (np.stack(causes, axis=-1) * mask[..., None]).reshape(len(first), -1, len(causes))
    aim = (first * mask).reshape(len(first), -1, 1)
    turned = matrix.swapaxes(1, 2)
    normal = (turned @ matrix).astype(np.float64)
    diagonal = np.arange(len(causes))
    normal[:, diagonal, diagonal] += 1e-4 * normal[:, diagonal, diagonal] + 1e-3
    solved = np.linalg.solve(normal, (turned @ aim).astype(np.float64))[..., 0]
    gain = np.where(np.abs(solved[:, 4]) < 0.05, 1, solved[:, 4])
    step = (solved[:, :4] / gain[:, None]).clip(-LARGEST_STEP, LARGEST_STEP)
    return step.astype(np.float32)


def _correlation(first: Pictures, second: Pictures, mask: Pictures) -> NDArray[np.float32]:
    """Return ``(E,)`` correlations where the mask is 1; -1 where that is too little."""
    count = mask.sum(axis=(1, 2)).clip(1)
    one, two = (
        (pictures - ((pictures * mask).sum(axis=(1, 2)) / count)[:, None, None]) * mask
        for pictures in (first, second)
    )
    lengths = np.sqrt((one * one).sum(axis=(1, 2)) * (two * two).sum(axis=(1, 2)))
    value = (one * two).sum(axis=(1, 2)) / np.maximum(lengths, 1e-3)
    is_enough = count >= LEAST_COMMON * first[0].size
    return np.where(is_enough, value, -1).astype(np.float32)
