"""From encoded images to features, with every core busy.

Letters: R images of a batch that are computed, D features, T pixels a side of a thumbnail.
"""

import os
from collections.abc import Iterator

import numpy as np
import torch

from labelfix.appearance import MEASURES, THUMBNAIL
from labelfix.backbone import Backbone
from labelfix.decoding import Decoded, decode_batch, one_core_threads
from labelfix.disk_cache import IsKnown, RowBatch
from labelfix.portions import Portions
from labelfix.records import ImageStore
from labelfix.sample_reader import map_ahead, read_batches


def extract(
    images: ImageStore, backbone: Backbone, is_known: IsKnown, *, batch_size: int, width: int
) -> Iterator[RowBatch]:
    """Yield the features of the images that are not known yet, in order, batch by batch.

    The rows of a batch are ``values``, ``(R, D)`` float16, ``measures``, ``(R, 4)`` of
    `labelfix.appearance`, and ``thumbnails``, ``(R, T, T)``.

    Reading stays in the caller's thread, in rising order, which every store is fast at. On a CPU
    each worker takes a batch the whole way on one core: that is faster than all cores on one
    batch, where each waits for the slowest at every layer. On a GPU the workers decode, and the
    caller's thread feeds the GPU.

    Args:
        images: The encoded images.
        backbone: The frozen network.
        is_known: Says by their digests which images of a batch are left out.
        batch_size: B.
        width: D.

    Raises:
        TrainingError: Memory has no room for a single image.
    """
    portions = Portions()
    on_cpu = backbone.device.type == "cpu"
    workers = torch.get_num_threads() if on_cpu else os.cpu_count() or 1

    def decode(batch: tuple[int, list[bytes | str]]) -> Decoded:
        start, encoded = batch
        return decode_batch(
            encoded,
            backbone.preprocessing,
            measures=True,
            is_known=lambda content: is_known(start, content),
        )

    def take_the_whole_way(batch: tuple[int, list[bytes | str]]) -> RowBatch:
        return _forward(decode(batch), backbone, width, portions)

    batches = read_batches(images, batch_size=batch_size)
    with one_core_threads(workers) as pool:
        if on_cpu:
            yield from map_ahead(pool, take_the_whole_way, batches, 2 * workers)
        else:
            for decoded in map_ahead(pool, decode, batches, 2 * workers):
                yield _forward(decoded, backbone, width, portions)


def _forward(decoded: Decoded, backbone: Backbone, width: int, portions: Portions) -> RowBatch:
    count = len(decoded.decoded)
    values = np.zeros((count, width), dtype=np.float16)
    measures = np.zeros((count, MEASURES), dtype=np.float32)
    thumbnails = np.zeros((count, THUMBNAIL, THUMBNAIL), dtype=np.uint8)
    if count:
        squares = torch.from_numpy(np.stack(decoded.pixels))
        parts = portions.run(count, lambda cut: [backbone.features(squares[part]) for part in cut])
        values[:] = torch.cat(parts).numpy()
        measures[:] = [look.measures for look in decoded.looks]
        thumbnails[:] = [look.thumbnail for look in decoded.looks]
    return RowBatch(
        content=decoded.content,
        computed=decoded.decoded,
        rows={"values": values, "measures": measures, "thumbnails": thumbnails},
        unreadable=decoded.unreadable,
    )
