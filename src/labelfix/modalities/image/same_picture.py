"""Whether two pictures are one: laid on each other, they have to agree in every part.

Two flyers of one series, or the lids of two jars, share nearly all of their detail; what makes them
two is a part that differs. So a pair is aligned, its tones are matched, and what counts is the part
that agrees least.

Letters: E pairs, R pictures, S pixels a side, W parts along a side.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelfix.errors import UnreadableSample
from labelfix.modalities.image.alignment import (
    LEAST_COMMON,
    Pictures,
    Placements,
    Sampler,
    align,
    reduced,
    smoothed,
)
from labelfix.modalities.image.decode import THUMBNAIL, Decoding, decode_with_size
from labelfix.modalities.image.similarity import best_placements
from labelfix.types import SampleStore
from labelfix.utils.sample_reader import read_rows
from labelfix.utils.threads import blocks_of, cores, in_order, one_thread_each

SIDE = 128
"""Pixels a side at which large pictures are compared: a line of text is then a few pixels high."""

SIDES = (SIDE, 64, 32)
"""Smaller pictures are compared at the first of these that is not much larger than they are."""

ENLARGED = 8 / 7
"""So many times a picture may be enlarged for that."""

PARTS = 8
"""A part is an eighth of each side; parts lie a quarter of that apart."""

LEAST_PART = 6
"""Pixels a side: of fewer, a copy made half as large does not agree with its original."""

LEAST_COVERED = 0.7
"""Share of a part that has to lie on both pictures to be compared."""

NOISE = 16.0
"""Variance, in squares of 1 of 255, that encoding alone may leave in a part without detail."""

SMOOTH = 1.0
"""Pixels of the Gaussian that takes away what encoding and sampling do to single pixels."""

MARGIN = 1.0
"""Pixels at the edge of a picture that its encoding has mixed with what was beyond."""

AGREES = 0.95
"""Pictures that agree so well as they lie are not aligned."""

BLOCK = 32
"""Pairs that a thread compares at a time."""

HELD = 8192
"""Pictures in memory together: 128 MB."""


def least_agreement(
    images: SampleStore, first: NDArray[np.int64], second: NDArray[np.int64], decoding: Decoding
) -> NDArray[np.float32]:
    """Return ``(E,)`` the correlation of each pair in the part that agrees least, 0 to 1.

    It is 0 where a picture cannot be decoded.

    Args:
        images: The encoded images.
        first: ``(E,)`` rows.
        second: ``(E,)`` rows.
        decoding: How encoded images become pixels.
    """
    agreement = np.zeros(len(first), np.float32)
    order = np.argsort(np.minimum(first, second), kind="stable")
    with one_thread_each() as pool:
        for part in blocks_of(len(order), HELD // 2):
            pairs = order[part]
            rows, place = np.unique([first[pairs], second[pairs]], return_inverse=True)
            pictures, sides = _decoded(images, rows.tolist(), decoding, pool)
            agreement[pairs] = _compared(pictures, sides, place.reshape(2, -1), pool)
    return agreement


def _compared(
    pictures: NDArray[np.uint8],
    sides: NDArray[np.int64],
    pairs: NDArray[np.intp],
    pool: ThreadPoolExecutor,
) -> NDArray[np.float32]:
    """Return ``(E,)`` the agreement of ``(2, E)`` places of ``(R, 128, 128)`` pictures."""

    def compare(block: slice) -> NDArray[np.float32]:
        one, two = pairs[:, block]
        return agreement_of(pictures[one], pictures[two], np.minimum(sides[one], sides[two]))

    return np.concatenate(list(pool.map(compare, blocks_of(pairs.shape[1], BLOCK))))


def agreement_of(
    first: NDArray[np.uint8], second: NDArray[np.uint8], side: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return ``(E,)`` the correlation of pictures in the part that agrees least, 0 to 1.

    Args:
        first: ``(E, 128, 128)`` luminance.
        second: ``(E, 128, 128)`` luminance.
        side: ``(E,)`` pixels of the shorter side of the smaller picture; 0 if there is none.
    """
    agreement = np.zeros(len(side), np.float32)
    scale = np.select([side * ENLARGED >= one for one in SIDES[:-1]], SIDES[:-1], SIDES[-1])
    for one in SIDES:
        pairs = np.flatnonzero((scale == one) & (side > 0))
        if len(pairs):
            agreement[pairs] = _agreement_at(one, first[pairs], second[pairs])
    return agreement


def _decoded(
    images: SampleStore, rows: Sequence[int], decoding: Decoding, pool: ThreadPoolExecutor
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return ``(R, 128, 128)`` luminance, and ``(R,)`` the shorter sides, 0 where there is none."""
    pictures = np.zeros((len(rows), SIDE, SIDE), np.uint8)
    sides = np.zeros(len(rows), np.int64)

    def decode(data: bytes | str) -> tuple[NDArray[np.uint8], int] | None:
        if isinstance(data, str):
            return None
        try:
            image, size = decode_with_size(data, at_least=SIDE, decoding=decoding)
        except (UnreadableSample, MemoryError):
            return None
        square = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return np.asarray(square), min(size)

    for block in blocks_of(len(rows), 16 * cores()):
        # rows rise, which every store is fast at, and the caller's thread reads
        found = in_order(decode, read_rows(images, rows[block]), pool)
        for place, picture in enumerate(found, start=block.start):
            if picture is not None:
                pictures[place], sides[place] = picture
    return pictures, sides


def _agreement_at(
    side: int, first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> NDArray[np.float32]:
    one, two = reduced(first, side), reduced(second, side)
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (len(one), 1))
    agreement = _least_of_parts(one, two, whole)
    left = np.flatnonzero(agreement < AGREES)
    if len(left):
        views = (
            np.rint(reduced(every[left], THUMBNAIL)).astype(np.uint8) for every in (first, second)
        )
        placements = align(first[left], second[left], best_placements(*views), side=side)
        moved = _least_of_parts(one[left], two[left], placements)
        agreement[left] = np.maximum(agreement[left], moved)
    return agreement


def _least_of_parts(first: Pictures, second: Pictures, placements: Placements) -> Pictures:
    """Return ``(E,)`` the correlation in the part that agrees least, with the better of two tones.

    Where one of the two is brighter, its highlights may have lost what the other has: then only the
    tones of the other can be made those of the first.
    """
    sampler = Sampler.of(placements, first.shape[1], margin=MARGIN)
    seen, mask = sampler.sampled(second), sampler.mask
    ways = (
        _least_correlation(_toned(first, seen, mask), seen, mask),
        _least_correlation(first, _toned(seen, first, mask), mask),
    )
    least = np.maximum(*ways)
    is_enough = mask.mean(axis=(1, 2)) >= LEAST_COMMON
    return np.where(is_enough, least, 0).astype(np.float32)


def _toned(pictures: Pictures, others: Pictures, mask: Pictures) -> Pictures:
    """Return pictures with the tones of others: brightened, say, or with another contrast."""
    toned = np.empty_like(pictures)
    tones = np.arange(256)
    for pair, is_seen in enumerate(mask > 0):
        own, other = (np.rint(one[pair]).clip(0, 255).astype(np.intp) for one in (pictures, others))
        own_ranks, other_ranks = (
            _ranks(np.bincount(one[is_seen], minlength=256)) for one in (own, other)
        )
        there = np.flatnonzero(np.bincount(other[is_seen], minlength=256))
        if len(there):
            toned[pair] = np.interp(own_ranks, other_ranks[there], tones[there])[own]
    return toned


def _ranks(counts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return ``(256,)`` the share of pixels below each tone, and half of those that have it."""
    below: NDArray[np.float64] = (np.cumsum(counts) - counts / 2) / max(1, counts.sum())
    return below


def _least_correlation(first: Pictures, second: Pictures, mask: Pictures) -> Pictures:
    """Return ``(E,)`` the least of the correlations of the parts of two pictures."""
    one, two = smoothed(first, SMOOTH) - 128, smoothed(second, SMOOTH) - 128
    windows = _windows(first.shape[1])

    def mean(values: Pictures) -> Pictures:
        means: Pictures = windows @ (values * mask) @ windows.T / covered.clip(1e-6)
        return means

    covered = windows @ mask @ windows.T
    middle, other = mean(one), mean(two)
    spread, spread_of_other = (
        (mean(values * values) - means * means).clip(0) + NOISE
        for values, means in ((one, middle), (two, other))
    )
    shared = mean(one * two) - middle * other + NOISE
    correlation = shared / np.sqrt(spread * spread_of_other)
    least: Pictures = np.where(covered >= LEAST_COVERED, correlation, 1).min(axis=(1, 2))
    return least.clip(0, 1)


@cache
def _windows(side: int) -> NDArray[np.float32]:
    """Return ``(W, S)``: each row takes the mean of one part of a line."""
    width = max(side // PARTS, LEAST_PART)
    starts = np.arange(0, side - width + 1, max(1, width // 4))
    windows = np.zeros((len(starts), side), np.float32)
    for row, start in enumerate(starts.tolist()):
        windows[row, start : start + width] = 1 / width
    return windows
