"""Encoded images to squares of pixels, with every core busy and in order.

Letters: B images of a batch, R readable ones of them, S pixels a side.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labelfix.appearance import Appearance, measure
from labelfix.errors import UnreadableImage
from labelfix.images import decode_with_size
from labelfix.preprocessing import Preprocessing
from labelfix.sample_reader import digest_or_reason, digests_of_batch


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
    _, content, unreadable = digests_of_batch(0, [digest_or_reason(data) for data in encoded])
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
