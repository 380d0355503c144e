"""Encoded images to squares of pixels, with every core busy and in order.

Letters: B images of a batch, R readable ones of them, S pixels a side.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from labelfix.appearance import Appearance, measure
from labelfix.dataset_files import FileImages
from labelfix.errors import UnreadableImage
from labelfix.images import DIGEST_BYTES, content_digest, decode_with_size
from labelfix.preprocessing import Preprocessing
from labelfix.records import ImageStore

READ_BATCH = 64
"""Images that a thread reads or digests at a time."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What decoding made of B images.

    Args:
        content: ``(B,)`` 16-byte digests of the encoded images, empty where there is none.
        unreadable: Place among the B to reason.
        decoded: The R places that ``pixels`` belong to: not unreadable, nor left out as known.
        pixels: R squares ``(S, S, 3)``, in order.
        looks: What the R images look like as a whole, in order; empty unless asked for.
    """

    content: NDArray[np.bytes_]
    unreadable: dict[int, str]
    decoded: NDArray[np.int64]
    pixels: list[NDArray[np.uint8]]
    looks: list[Appearance]


def read_batches(images: ImageStore, *, batch_size: int) -> Iterator[tuple[int, list[bytes | str]]]:
    """Yield first row and encoded images of each batch, in rising order, as ``read_rows`` does."""
    for start in range(0, len(images), batch_size):
        yield start, read_rows(images, range(start, min(start + batch_size, len(images))))


def read_rows(images: ImageStore, rows: Iterable[int]) -> list[bytes | str]:
    """Return the encoded images of some rows, or as text the reasons why there is none."""
    return [_read(images, row) for row in rows]


def digest_rows(
    images: ImageStore,
) -> Iterator[tuple[int, NDArray[np.bytes_], dict[int, str]]]:
    """Read every image and yield, batch by batch in order, the digests of what was read.

    Files are read by several threads; other stores are read by the caller's alone.

    Yields:
        The first row of a batch, its ``(B,)`` digests, and place in the batch to reason for the
        images that could not be read, whose digest is empty.
    """
    starts = range(0, len(images), READ_BATCH)

    def read_and_digest(start: int) -> tuple[int, NDArray[np.bytes_], dict[int, str]]:
        rows = range(start, min(start + READ_BATCH, len(images)))
        # one by one, so that a thread holds one large file at a time
        found = [_digest(_read(images, row)) for row in rows]
        return _in_one(start, found)

    def digest(batch: tuple[int, list[bytes | str]]) -> tuple[int, Any, dict[int, str]]:
        return _in_one(batch[0], [_digest(data) for data in batch[1]])

    workers = os.cpu_count() or 1
    if isinstance(images, FileImages):
        with ThreadPoolExecutor(workers + 2) as pool:  # some of them wait for the disk
            yield from _ahead_and_dropped(pool, read_and_digest, starts, 2 * workers)
    else:
        with ThreadPoolExecutor(workers) as pool:
            batches = read_batches(images, batch_size=READ_BATCH)
            yield from _ahead_and_dropped(pool, digest, batches, 2 * workers)


def decode_batch(
    encoded: Sequence[bytes | str],
    preprocessing: Preprocessing,
    *,
    measures: bool = False,
    is_known: Callable[[NDArray[np.bytes_]], NDArray[np.bool_]] | None = None,
) -> Decoded:
    """Decode a batch; reasons instead of images are handed on.

    Args:
        encoded: B images, or reasons why there is none.
        preprocessing: How an image becomes a square.
        measures: Whether to say what each image looks like as a whole, too.
        is_known: Says by their ``(B,)`` digests which images need not be decoded.
    """
    _, content, unreadable = _in_one(0, [_digest(data) for data in encoded])
    known = np.zeros(len(content), np.bool_) if is_known is None else is_known(content)
    decoded, pixels, looks = [], [], []
    for place, data in enumerate(encoded):
        if isinstance(data, str) or known[place]:
            continue
        try:
            image, size = decode_with_size(
                data, at_least=preprocessing.size, decoding=preprocessing.decoding
            )
        except UnreadableImage as error:
            unreadable[place] = str(error)
            continue
        decoded.append(place)
        pixels.append(preprocessing.pixels(image))
        if measures:
            looks.append(measure(image, size))
    return Decoded(content, unreadable, np.array(decoded, dtype=np.int64), pixels, looks)


@contextmanager
def one_core_threads(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads that each use one core of torch; drop waiting work on the way out."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # a worker's setting is taken over by new threads


def map_ahead(
    pool: ThreadPoolExecutor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    limit: int,
) -> Iterator[Result]:
    """Yield the results in order, with at most ``limit`` items under way."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > limit:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _ahead_and_dropped(
    pool: ThreadPoolExecutor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    limit: int,
) -> Iterator[Result]:
    """Yield as ``map_ahead`` does; drop waiting work where the caller stops."""
    try:
        yield from map_ahead(pool, work, items, limit)
    finally:
        pool.shutdown(cancel_futures=True)


def _digest(data: bytes | str) -> bytes | str:
    return data if isinstance(data, str) else content_digest(data)


def _in_one(
    start: int, found: Sequence[bytes | str]
) -> tuple[int, NDArray[np.bytes_], dict[int, str]]:
    """Return first row, digests, and place to reason, from digests or reasons."""
    unreadable = {place: why for place, why in enumerate(found) if isinstance(why, str)}
    digests = [b"" if isinstance(digest, str) else digest for digest in found]
    return start, np.array(digests, dtype=f"S{DIGEST_BYTES}"), unreadable


def _read(images: ImageStore, row: int) -> bytes | str:
    try:
        return images.read(row)
    except UnreadableImage as error:
        return str(error)
