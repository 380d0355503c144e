"""From encoded images to features, with every core busy.

Letters: B images of a batch, D features, S pixels a side.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from labelfix.backbone import Backbone
from labelfix.errors import UnreadableImage
from labelfix.images import content_digest, decode_image
from labelfix.preprocessing import Preprocessing
from labelfix.records import ImageStore

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBatch:
    """Features of B neighbouring images.

    Args:
        values: ``(B, D)`` float16, 0 where an image cannot be read.
        content: ``(B,)`` digests of the encoded images.
        unreadable: Place in the batch to reason.
    """

    values: NDArray[np.float16]
    content: NDArray[np.bytes_]
    unreadable: dict[int, str]


@dataclass(frozen=True, slots=True, eq=False)
class _Decoded:
    """What decoding made of a batch: the pixels ``(R, S, S, 3)`` of its R readable images."""

    content: list[bytes]
    unreadable: dict[int, str]
    pixels: list[NDArray[np.uint8]]


def extract(
    images: ImageStore, backbone: Backbone, *, first: int, batch_size: int, width: int
) -> Iterator[FeatureBatch]:
    """Yield the features of the images from row ``first`` on, in order, batch by batch.

    Reading stays in the caller's thread, in rising order, which every store is fast at. On a CPU
    each worker takes a batch the whole way on one core: that is faster than all cores on one
    batch, where each waits for the slowest at every layer. On a GPU the workers decode, and the
    caller's thread feeds the GPU.

    Args:
        images: The encoded images.
        backbone: The frozen network.
        first: Rows before it are skipped.
        batch_size: B.
        width: D.
    """
    on_cpu = backbone.device.type == "cpu"
    workers = torch.get_num_threads() if on_cpu else os.cpu_count() or 1

    def decode(encoded: list[bytes | str]) -> _Decoded:
        return _decode(encoded, backbone.preprocessing)

    def take_the_whole_way(encoded: list[bytes | str]) -> FeatureBatch:
        return _forward(decode(encoded), backbone, width)

    with _pool(workers) as pool:
        encoded = (
            [_read(images, row) for row in range(start, min(start + batch_size, len(images)))]
            for start in range(first, len(images), batch_size)
        )
        if on_cpu:
            yield from _ahead(pool, take_the_whole_way, encoded, 2 * workers)
        else:
            for decoded in _ahead(pool, decode, encoded, 2 * workers):
                yield _forward(decoded, backbone, width)


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads that each use one core of torch; drop waiting work on the way out."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # a worker's setting is taken over by new threads


def _ahead(
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


def _read(images: ImageStore, row: int) -> bytes | str:
    """Return the encoded image, or the reason why there is none."""
    try:
        return images.read(row)
    except UnreadableImage as error:
        return str(error)


def _decode(encoded: list[bytes | str], preprocessing: Preprocessing) -> _Decoded:
    content, unreadable, pixels = [], {}, []
    for place, data in enumerate(encoded):
        if isinstance(data, str):
            content.append(b"")
            unreadable[place] = data
            continue
        content.append(content_digest(data))
        try:
            image = decode_image(data, at_least=preprocessing.size)
            pixels.append(preprocessing.pixels(image))
        except UnreadableImage as error:
            unreadable[place] = str(error)
    return _Decoded(content, unreadable, pixels)


def _forward(decoded: _Decoded, backbone: Backbone, width: int) -> FeatureBatch:
    count = len(decoded.content)
    values = np.zeros((count, width), dtype=np.float16)
    if decoded.pixels:
        readable = [place for place in range(count) if place not in decoded.unreadable]
        values[readable] = backbone.features(torch.from_numpy(np.stack(decoded.pixels))).numpy()
    return FeatureBatch(values, np.array(decoded.content, dtype="S16"), decoded.unreadable)
