"""How much of their detail two pictures have in common, encoded, resized or cropped anew.

Letters: N rows, E pairs.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelfix.modalities.image.decode import THUMBNAIL
from labelfix.utils.threads import blocks_of, one_thread_each

VIEW = 16
"""S: pixels a side at which two pictures are compared."""

CROPS = (0.96, 0.92, 0.88, 0.84)
"""Shares of each side that a crop may have kept."""

OFFSETS = 4
"""At so many places along each side a crop may lie, evenly spread."""

BORDER = 2
"""Pixels of a view that are left out the second time: two unlike pictures may have one frame."""

WORTH_A_LOOK = 0.5
"""Below this, the second time is saved."""

MANY_PIXELS = 50
"""On so many of the 256 pixels the agreement of two ordinary photographs rests."""

MOST = 1 - 1e-6

NO_DETAIL = 1e-3
"""Views with less are left at zero: rounding is no detail."""

BLOCK = 64
"""Pictures that are cut at a time: their windows stay in a core's cache."""

Views: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of rows, each once.

    Args:
        first: ``(E,)`` int64 rows.
        second: ``(E,)`` int64 rows.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]


def pixel_similarity(thumbnails: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.float32]:
    """Return ``(E,)`` correlations of the details of each pair, -1 to 1; 1 is the same picture.

    Each of the two is cut as `CROPS` says and laid on the other, whole; the best of all cuts
    counts. What is only in a common frame does not.

    Args:
        thumbnails: ``(N, T, T)`` grey.
        pairs: Which rows to compare.
    """
    with one_thread_each() as pool:
        parts = pool.map(lambda part: _wholes(thumbnails[part]), blocks_of(len(thumbnails), 4096))
        wholes = np.concatenate([np.empty((0, VIEW, VIEW), np.float32), *parts])
        one = _directed(thumbnails, wholes, pairs, pool)
        other = _directed(thumbnails, wholes, Pairs(pairs.second, pairs.first), pool)
    return np.maximum(one, other)


def best_placements(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return ``(E, 4)`` left, top, width and height of what the first show on the second.

    They are shares of the second's sides: a crop of the second lies within it, and where the second
    is the crop, the first reaches beyond it.

    Args:
        first: ``(E, T, T)`` grey.
        second: ``(E, T, T)`` grey.
    """
    placed, values = [], []
    for cut, whole in ((second, first), (first, second)):
        scores = np.einsum("ewij,eij->ew", _windows(cut), _wholes(whole))
        values.append(scores.max(axis=1))
        placed.append(_places()[scores.argmax(axis=1)])
    inside, (left, top, width, height) = placed[0], placed[1].T
    beyond = np.stack([-left / width, -top / height, 1 / width, 1 / height], axis=1)
    return np.where((values[0] >= values[1])[:, None], inside, beyond).astype(np.float32)


@cache
def _places() -> NDArray[np.float32]:
    """Return ``(W, 4)`` left, top, width and height of each window, in the order of `_windows`."""
    places = [(0.0, 0.0, 1.0, 1.0)]
    for share in CROPS:
        starts = np.linspace(0, 1 - share, OFFSETS).tolist()
        places += [(left, top, share, share) for top in starts for left in starts]
    return np.array(places, np.float32)


def _directed(
    thumbnails: NDArray[np.uint8], wholes: Views, pairs: Pairs, pool: ThreadPoolExecutor
) -> NDArray[np.float32]:
    """Return ``(E,)`` how well the second of each pair fits into the first."""
    order = np.argsort(pairs.first, kind="stable")
    cut, whole = pairs.first[order], pairs.second[order]
    rows, starts = np.unique(cut, return_index=True)
    ends = np.append(starts[1:], len(cut))
    result = np.empty(len(cut), np.float32)

    def compare(block: slice) -> None:
        windows = _windows(thumbnails[rows[block]])
        for own, start, end in zip(windows, starts[block], ends[block], strict=True):
            result[order[start:end]] = _best(own, wholes[whole[start:end]])

    for _ in pool.map(compare, blocks_of(len(rows), BLOCK)):
        pass
    return result


def _best(windows: Views, wholes: Views) -> NDArray[np.float32]:
    """Return for each of the whole views how well the best of ``(W, S, S)`` windows fits."""
    scores = wholes.reshape(len(wholes), -1) @ windows.reshape(len(windows), -1).T
    best = scores.argmax(axis=1)
    values: NDArray[np.float32] = scores[np.arange(len(wholes)), best]
    for place in np.flatnonzero(values >= WORTH_A_LOOK).tolist():
        values[place] = _sure(values[place], windows[best[place]], wholes[place])
    return values


def _sure(value: float, window: Views, whole: Views) -> float:
    """Return the correlation of two views as far as it rests on many pixels, and not on a frame.

    A correlation that rests on few pixels is shrunk as its standard error grows, on Fisher's scale.
    """
    inner = slice(BORDER, -BORDER)
    pair = _unit(np.stack([window, whole])[:, inner, inner])
    value = min(value, float((pair[0] * pair[1]).sum()))
    shared = np.abs(window * whole)
    pixels = float(shared.sum() ** 2 / np.square(shared).sum())
    shrunk = np.arctanh(np.clip(value, -MOST, MOST)) * np.sqrt(min(1.0, pixels / MANY_PIXELS))
    return float(np.tanh(shrunk))


def _wholes(thumbnails: NDArray[np.uint8]) -> Views:
    """Return ``(N, S, S)`` details of length 1 of the whole pictures."""
    pictures = thumbnails.astype(np.float32)
    return _unit(_details(pictures, *_samplers()[0]))


def _windows(thumbnails: NDArray[np.uint8]) -> Views:
    """Return ``(N, W, S, S)`` details of length 1 of each crop of each picture."""
    pictures = thumbnails.astype(np.float32)
    views = []
    for sharp, smooth in _samplers():
        detail = _details(pictures, sharp, smooth)
        places = len(sharp) // VIEW
        detail = detail.reshape(len(pictures), places, VIEW, places, VIEW).swapaxes(2, 3)
        views.append(detail.reshape(len(pictures), places**2, VIEW, VIEW))
    return _unit(np.concatenate(views, axis=1))


def _details(pictures: Views, sharp: NDArray[np.float32], smooth: NDArray[np.float32]) -> Views:
    """Return sampled pictures less the means around each place."""
    details: Views = np.subtract(sharp @ pictures @ sharp.T, smooth @ pictures @ smooth.T)
    return details


def _unit(views: Views) -> Views:
    lengths = np.sqrt(np.square(views).sum(axis=(-1, -2), keepdims=True))
    units: Views = np.divide(views, lengths, out=np.zeros_like(views), where=lengths > NO_DETAIL)
    return units


@cache
def _samplers() -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return for each size of window what samples a line, and what samples and smooths it."""
    samplers = []
    for share in (1.0, *CROPS):
        places = np.linspace(0, 1 - share, OFFSETS) if share < 1 else [0.0]
        sharp = [_sampler(place, share) for place in places]
        smooth = [_smoothing() @ one for one in sharp]
        samplers.append((np.concatenate(sharp), np.concatenate(smooth)))
    return samplers


def _sampler(place: float, share: float) -> NDArray[np.float32]:
    """Return ``(S, T)``: the mean of a line over each S-th of a window of it."""
    edges = THUMBNAIL * (place + share * np.arange(VIEW + 1) / VIEW)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(THUMBNAIL)
    overlap = np.minimum(high, pixel + 1) - np.maximum(low, pixel)
    return (overlap.clip(0) / (high - low)).astype(np.float32)


def _smoothing() -> NDArray[np.float32]:
    """Return ``(S, S)``: the mean of each pixel of a line and its two neighbors."""
    steps = np.arange(VIEW)
    near = np.zeros((VIEW, VIEW), np.float32)
    for step in (-1, 0, 1):
        near[steps, (steps + step).clip(0, VIEW - 1)] += 1 / 3
    return near
