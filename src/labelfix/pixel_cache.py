"""Every image decoded once, as a square of bytes that training can map from disk.

Letters: N samples, S pixels a side of a stored square.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelfix.decoding import decode_batch, map_ahead, one_core_threads, read_batches
from labelfix.disk_cache import (
    Column,
    Draft,
    cache_key,
    fill_once,
    partial_of,
    read_column,
    read_unreadable,
)
from labelfix.preprocessing import Preprocessing
from labelfix.records import Assumption, ImageStore, OnProgress, Progress, no_progress

CACHE_VERSION = 1
"""Raised when the same images would give other pixels."""

LIMIT = 64 * 10**9
"""Bytes; a larger cache is not kept unless the caller says so."""

DISK_SHARE = 0.8
"""The largest share of the free space that a cache may take."""

CHUNK = 2048
"""Samples after which finished work is marked as such on disk."""

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
    """Return the pixels of every image, from the cache where they are there already.

    If they do not fit, the images are decoded once all the same, to learn which of them can be
    read. An interrupted pass goes on where it stopped the next time it is asked for.

    Args:
        images: N encoded images.
        fingerprint: Equal fingerprints mean equal images.
        preprocessing: How an encoded image becomes a stored square, as of ``stored_square``.
        cache: The folder that holds the pixels of all runs.
        limit: Bytes that the pixels may take; never more than ``DISK_SHARE`` of the free space.
        on_progress: Told about every batch.

    Raises:
        RunError: The cache cannot be written to.
    """
    count, size = len(images), preprocessing.size
    key = cache_key(CACHE_VERSION, fingerprint, count, size, preprocessing.crop_share,
                    preprocessing.interpolation)  # fmt: skip
    folder = cache / key
    keeps = _fits(folder, count * size * size * 3, limit)
    if not keeps:
        folder = cache / f"{key}.digests"

    def columns() -> dict[str, Column]:
        pixels = {"values": Column(np.uint8, (count, size, size, 3))} if keeps else {}
        return pixels | {"content": Column("S16", (count,))}

    def fill(draft: Draft) -> None:
        _decode(draft, images, preprocessing, on_progress)

    fill_once(folder, columns, fill, what="decoded images")
    return Pixels(
        values=read_column(folder, "values", mapped=True) if keeps else None,
        content=read_column(folder, "content"),
        unreadable=read_unreadable(folder),
        preprocessing=preprocessing,
    )


def _fits(folder: Path, wanted: int, limit: int) -> bool:
    if wanted > limit:
        return False
    place = folder.parent
    while not place.exists():
        place = place.parent
    is_room = wanted <= DISK_SHARE * shutil.disk_usage(place).free
    # looked at last, and in this order, as another process may be taking the space right now
    return is_room or partial_of(folder).is_dir() or folder.is_dir()


def _decode(
    draft: Draft, images: ImageStore, preprocessing: Preprocessing, on_progress: OnProgress
) -> None:
    values, content = draft.arrays.get("values"), draft.arrays["content"]
    start, workers = draft.done, os.cpu_count() or 1
    batches = read_batches(images, first=start, batch_size=DECODE_BATCH)
    with one_core_threads(workers) as pool:
        for decoded in map_ahead(
            pool, lambda encoded: decode_batch(encoded, preprocessing), batches, 2 * workers
        ):
            stop = start + len(decoded.content)
            content[start:stop] = decoded.content
            if values is not None and decoded.pixels:
                values[start + np.array(decoded.readable)] = decoded.pixels
            draft.unreadable |= {start + place: why for place, why in decoded.unreadable.items()}
            if stop // CHUNK > start // CHUNK:
                draft.mark(stop)
            on_progress(Progress(STAGE, stop, len(images), "images"))
            start = stop
