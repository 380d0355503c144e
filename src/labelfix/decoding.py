"""Encoded images to squares of pixels, with every core busy and in order.

Letters: B images of a batch, R readable ones of them, S pixels a side.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from labelfix.appearance import Appearance, measure
from labelfix.errors import UnreadableImage
from labelfix.images import content_digest, decode_with_size
from labelfix.preprocessing import Preprocessing
from labelfix.records import ImageStore

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What decoding made of B images.

    Args:
        content: B digests of the encoded images, empty where there is none.
        unreadable: Place among the B to reason.
        pixels: R squares ``(S, S, 3)``, in order.
        looks: What the R images look like as a whole, in order; empty unless asked for.
    """

    content: list[bytes]
    unreadable: dict[int, str]
    pixels: list[NDArray[np.uint8]]
    looks: list[Appearance]

    @property
    def readable(self) -> list[int]:
        """The places that ``pixels`` belong to."""
        return [place for place in range(len(self.content)) if place not in self.unreadable]


def read_batches(images: ImageStore, *, first: int, batch_size: int) -> Iterator[list[bytes | str]]:
    """Yield the encoded images from row ``first`` on, in rising order, as ``read_rows`` does."""
    for start in range(first, len(images), batch_size):
        yield read_rows(images, range(start, min(start + batch_size, len(images))))


def read_rows(images: ImageStore, rows: Iterable[int]) -> list[bytes | str]:
    """Return the encoded images of some rows, or as text the reasons why there is none."""
    return [_read(images, row) for row in rows]


def decode_batch(
    encoded: Sequence[bytes | str], preprocessing: Preprocessing, *, measures: bool = False
) -> Decoded:
    """Decode a batch; reasons instead of images are handed on.

    Args:
        encoded: B images, or reasons why there is none.
        preprocessing: How an image becomes a square.
        measures: Whether to say what each image looks like as a whole, too.
    """
    content, unreadable, pixels, looks = [], {}, [], []
    for place, data in enumerate(encoded):
        if isinstance(data, str):
            content.append(b"")
            unreadable[place] = data
            continue
        content.append(content_digest(data))
        try:
            image, size = decode_with_size(data, at_least=preprocessing.size)
        except UnreadableImage as error:
            unreadable[place] = str(error)
            continue
        pixels.append(preprocessing.pixels(image))
        if measures:
            looks.append(measure(image, size))
    return Decoded(content, unreadable, pixels, looks)


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


def _read(images: ImageStore, row: int) -> bytes | str:
    try:
        return images.read(row)
    except UnreadableImage as error:
        return str(error)
