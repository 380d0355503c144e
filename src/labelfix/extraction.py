"""From encoded images to features, with every core busy.

Letters: B images of a batch, D features, S pixels a side, T of a thumbnail.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labelfix.appearance import MEASURES, THUMBNAIL
from labelfix.backbone import Backbone
from labelfix.decoding import (
    Decoded,
    decode_batch,
    map_ahead,
    one_core_threads,
    read_batches,
)
from labelfix.portions import Portions
from labelfix.records import ImageStore


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBatch:
    """Features of B neighbouring images.

    Args:
        values: ``(B, D)`` float16, 0 where an image cannot be read.
        content: ``(B,)`` digests of the encoded images.
        unreadable: Place in the batch to reason.
        measures: ``(B, 4)`` of `labelfix.appearance`, 0 where an image cannot be read.
        thumbnails: ``(B, T, T)``, likewise.
    """

    values: NDArray[np.float16]
    content: NDArray[np.bytes_]
    unreadable: dict[int, str]
    measures: NDArray[np.float32]
    thumbnails: NDArray[np.uint8]


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

    Raises:
        TrainingError: Memory has no room for a single image.
    """
    portions = Portions()
    on_cpu = backbone.device.type == "cpu"
    workers = torch.get_num_threads() if on_cpu else os.cpu_count() or 1

    def decode(encoded: list[bytes | str]) -> Decoded:
        return decode_batch(encoded, backbone.preprocessing, measures=True)

    def take_the_whole_way(encoded: list[bytes | str]) -> FeatureBatch:
        return _forward(decode(encoded), backbone, width, portions)

    encoded = read_batches(images, first=first, batch_size=batch_size)
    with one_core_threads(workers) as pool:
        if on_cpu:
            yield from map_ahead(pool, take_the_whole_way, encoded, 2 * workers)
        else:
            for decoded in map_ahead(pool, decode, encoded, 2 * workers):
                yield _forward(decoded, backbone, width, portions)


def _forward(decoded: Decoded, backbone: Backbone, width: int, portions: Portions) -> FeatureBatch:
    count, readable = len(decoded.content), decoded.readable
    values = np.zeros((count, width), dtype=np.float16)
    measures = np.zeros((count, MEASURES), dtype=np.float32)
    thumbnails = np.zeros((count, THUMBNAIL, THUMBNAIL), dtype=np.uint8)
    if decoded.pixels:
        squares = torch.from_numpy(np.stack(decoded.pixels))
        parts = portions.run(
            len(squares), lambda cut: [backbone.features(squares[part]) for part in cut]
        )
        values[readable] = torch.cat(parts).numpy()
        measures[readable] = [look.measures for look in decoded.looks]
        thumbnails[readable] = [look.thumbnail for look in decoded.looks]
    return FeatureBatch(
        values=values,
        content=np.array(decoded.content, dtype="S16"),
        unreadable=decoded.unreadable,
        measures=measures,
        thumbnails=thumbnails,
    )
