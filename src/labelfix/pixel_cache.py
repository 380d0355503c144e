"""Every image decoded once, as a square of bytes that training can map from disk.

Letters: N samples, S pixels a side of a stored square.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelfix.decoding import decode_batch, one_core_threads
from labelfix.disk_cache import (
    Column,
    IsKnown,
    RowBatch,
    RowWork,
    cache_key,
    rows_of,
)
from labelfix.preprocessing import Preprocessing
from labelfix.records import Assumption, ImageStore, OnProgress, no_progress
from labelfix.sample_reader import map_ahead, read_batches

CACHE_VERSION = 2
"""Raised when the same images would give other pixels."""

LIMIT = 64 * 10**9
"""Bytes; a larger cache is not kept unless the caller says so."""

DISK_SHARE = 0.8
"""The largest share of the free space that a cache may take."""

DECODE_BATCH = 32
"""Images that a thread decodes at a time."""

STAGE = "decoding the images"


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """What decoding made of each image.

    Args:
        values: ``(N, S, S, 3)`` uint8, mapped from disk, 0 where an image cannot be read; ``None``
            if they would take more room than there is.
        content: ``(N,)`` 16-byte digests of the encoded images; equal means byte-identical.
        unreadable: Row to reason, for the images that could not be read.
        preprocessing: How an encoded image becomes a stored square.
        assumptions: What was taken for granted on the way here.
    """

    values: NDArray[np.uint8] | None
    content: NDArray[np.bytes_]
    unreadable: Mapping[int, str]
    preprocessing: Preprocessing
    assumptions: tuple[Assumption, ...] = ()


def stored_square(preprocessing: Preprocessing, *, room: float = 1.0) -> Preprocessing:
    """Return how images are stored for a network that wants ``preprocessing``.

    The stored square covers the whole shorter side, so that random crops may reach its edges. Its
    size is such that the central square that the network was made for needs no resizing: 96 pixels
    for 96 at a crop share of 1, 256 for 224 at .875.

    Args:
        preprocessing: What the network sees in evaluation.
        room: 1.15 stores 15 % more pixels a side, so that small random crops keep more detail.
    """
    size = max(preprocessing.size, round(preprocessing.size / preprocessing.crop_share * room))
    size += (size - preprocessing.size) % 2  # an even rest has a centre
    return replace(preprocessing, size=size, crop_share=1.0)


def decode_once(
    images: ImageStore,
    fingerprint: str,
    preprocessing: Preprocessing,
    *,
    cache: Path,
    limit: int = LIMIT,
    on_progress: OnProgress = no_progress,
) -> Pixels:
    """Return the pixels of every image; those that the cache holds are not decoded again.

    If they do not fit, the images are decoded once all the same, to learn which of them can be
    read. An interrupted pass goes on where it stopped the next time it is asked for.

    Args:
        images: N encoded images.
        fingerprint: Names the data set, so that an interrupted pass goes on where it stopped.
            Pixels are found by the content of images, never by this.
        preprocessing: How an encoded image becomes a stored square, as of ``stored_square``.
        cache: The folder that holds the pixels of all runs.
        limit: Bytes that the pixels may take; never more than ``DISK_SHARE`` of the free space.
        on_progress: Told about every batch.

    Raises:
        RunError: The cache cannot be written to.
    """
    size = preprocessing.size
    key = cache_key(
        CACHE_VERSION,
        size,
        preprocessing.crop_share,
        preprocessing.interpolation,
        repr(preprocessing.decoding),
    )
    wanted = len(images) * size * size * 3
    square = {"values": Column(np.uint8, (size, size, 3))}

    def work(columns: Mapping[str, Column], may_write: Callable[[Path], bool]) -> RowWork:
        return RowWork(
            what="decoded images",
            stage=STAGE,
            columns=columns,
            compute=lambda is_known: _decode(images, preprocessing, is_known, columns),
            fault=lambda data: decode_batch([data], preprocessing).unreadable.get(0),
            may_write=may_write,
        )

    kept = None
    if wanted <= limit:
        fits = work(square, lambda unfinished: _has_space(unfinished, wanted))
        kept = rows_of(cache / key, images, fingerprint, fits, on_progress)
    if kept is not None:
        return Pixels(kept.arrays["values"], kept.content, kept.unreadable, preprocessing)
    seen = rows_of(
        cache / f"{key}.digests",
        images,
        fingerprint,
        work({}, lambda unfinished: True),
        on_progress,
    )
    if seen is None:
        raise AssertionError("nothing forbids to write digests")
    return Pixels(None, seen.content, seen.unreadable, preprocessing)


def _has_space(unfinished: Path, wanted: int) -> bool:
    place = unfinished.parent
    while not place.exists():
        place = place.parent
    is_space = wanted <= DISK_SHARE * shutil.disk_usage(place).free
    # looked at last, as another process may be taking the space right now
    return is_space or unfinished.is_dir()


def _decode(
    images: ImageStore,
    preprocessing: Preprocessing,
    is_known: IsKnown,
    columns: Mapping[str, Column],
) -> Iterator[RowBatch]:
    def decode(batch: tuple[int, list[bytes | str]]) -> RowBatch:
        start, encoded = batch
        decoded = decode_batch(
            encoded, preprocessing, is_known=lambda content: is_known(start, content)
        )
        pixels = {name: np.stack(decoded.pixels) for name in columns if decoded.pixels}
        return RowBatch(decoded.content, decoded.decoded, pixels, decoded.unreadable)

    workers = os.cpu_count() or 1
    batches = read_batches(images, batch_size=DECODE_BATCH)
    with one_core_threads(workers) as pool:
        yield from map_ahead(pool, decode, batches, 2 * workers)
