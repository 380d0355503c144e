"""What the frozen backbone makes of each image, computed once and kept on disk.

Letters: N samples, B images of a batch, D features, S pixels a side, T of a thumbnail.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from labelfix.errors import UnreadableSample
from labelfix.modalities.image.backbone import Backbone
from labelfix.modalities.image.decode import (
    MEASURES,
    THUMBNAIL,
    USUAL,
    Appearance,
    Decoding,
    decode_image,
    decode_with_size,
    measure,
)
from labelfix.modalities.image.transforms import Preprocessing
from labelfix.types import Features, ImageStatistics, SampleStore
from labelfix.utils.cache import Column, RowWork, StoredRows, cache_key, rows_of
from labelfix.utils.progress import OnProgress, no_progress
from labelfix.utils.sample_reader import digest_or_reason, digests_of_batch, read_batches
from labelfix.utils.shards import IsKnown, RowBatch
from labelfix.utils.threads import cores, map_ahead
from labelfix.utils.torch_utils import MicroBatcher, one_core_threads


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
        except UnreadableSample as error:
            unreadable[place] = str(error)
            continue
        decoded.append(place)
        pixels.append(preprocessing.pixels(image))
        if measures:
            looks.append(measure(image, size))
    return Decoded(content, unreadable, np.array(decoded, dtype=np.int64), pixels, looks)


def extract(
    images: SampleStore,
    rows: range,
    is_known: IsKnown,
    *,
    backbone: Backbone,
    batch_size: int,
    width: int,
) -> Iterator[RowBatch]:
    """Yield the features of those of some images that are not known yet, in order, batch by batch.

    The rows of a batch are ``values``, ``(R, D)`` float16, ``measures``, ``(R, 4)`` of
    `labelfix.modalities.image.decode`, and ``thumbnails``, ``(R, T, T)``.

    Reading stays in the caller's thread, in rising order, which every store is fast at. On a CPU
    each worker takes a batch the whole way on one core: that is faster than all cores on one
    batch, where each waits for the slowest at every layer. On a GPU the workers decode, and the
    caller's thread feeds the GPU.

    Args:
        images: The encoded images.
        rows: Which of them; the first is a multiple of ``batch_size``.
        is_known: Says by their digests which images of a batch are left out.
        backbone: The frozen network.
        batch_size: B.
        width: D.

    Raises:
        TrainingError: Memory is too small for a single image.
    """
    portions = MicroBatcher()
    on_cpu = backbone.device.type == "cpu"
    workers = torch.get_num_threads() if on_cpu else cores()

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

    batches = read_batches(images, batch_size=batch_size, rows=rows)
    with one_core_threads(workers) as pool:
        if on_cpu:
            yield from map_ahead(pool, take_the_whole_way, batches, 2 * workers)
        else:
            for decoded in map_ahead(pool, decode, batches, 2 * workers):
                yield _forward(decoded, backbone, width, portions)


def _forward(decoded: Decoded, backbone: Backbone, width: int, portions: MicroBatcher) -> RowBatch:
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


CACHE_VERSION = 3
"""Raised when the same images and network would give other features."""

SIDE_PLACES, SIDE_RUN = 8, 8
"""At how many places, and how many neighbors there, images are measured for their size."""

SIDE_CAP = 640
"""Pixels; larger images are not told apart."""

STAGE = "looking at the images"


def stored_features(
    images: SampleStore,
    fingerprint: str,
    backbone: Backbone,
    *,
    cache: Path,
    batch_size: int,
    on_progress: OnProgress = no_progress,
) -> StoredRows:
    """Return the features of every image; those that the cache holds are not computed again.

    Args:
        images: N encoded images.
        fingerprint: Names the data set, so that an interrupted computation goes on where it
            stopped. Features are found by the content of images, never by this.
        backbone: The frozen network.
        cache: The folder that holds the features of all runs.
        batch_size: Images a forward pass.
        on_progress: Told about every batch.

    Raises:
        RunError: The cache cannot be written to.
    """
    width = _width(backbone)
    work = RowWork(
        what="features",
        stage=STAGE,
        columns={
            "values": Column(np.float16, (width,)),
            "measures": Column(np.float32, (MEASURES,)),
            "thumbnails": Column(np.uint8, (THUMBNAIL, THUMBNAIL)),
        },
        compute=partial(extract, backbone=backbone, batch_size=batch_size, width=width),
        batch_size=batch_size,
        fault=lambda data: decode_batch([data], backbone.preprocessing).unreadable.get(0),
    )
    folder = cache / feature_key(backbone)
    stored = rows_of(folder, images, fingerprint, work, on_progress)
    if stored is None:
        raise AssertionError("nothing forbids to write features")
    return stored


def compute_features(
    images: SampleStore,
    fingerprint: str,
    backbone: Backbone,
    *,
    cache: Path,
    batch_size: int,
    on_progress: OnProgress = no_progress,
) -> Features:
    """Return ``features_of`` what ``stored_features`` returns for the same arguments."""
    return features_of(
        stored_features(
            images,
            fingerprint,
            backbone,
            cache=cache,
            batch_size=batch_size,
            on_progress=on_progress,
        )
    )


def features_of(stored: StoredRows) -> Features:
    """Return rows of the cache as what the frozen backbone makes of each image."""
    side, bright_end, dark_end, laplacian_variance = np.array(stored.arrays["measures"]).T
    looks = ImageStatistics(
        side, bright_end, dark_end, laplacian_variance, stored.arrays["thumbnails"]
    )
    return Features(
        values=stored.arrays["values"],
        content=stored.content,
        unreadable=stored.unreadable,
        statistics=looks,
    )


def typical_side(images: SampleStore, decoding: Decoding = USUAL) -> int:
    """Return the median shorter side, in pixels, of images from evenly spread places.

    Large photographs count as at least ``SIDE_CAP``: no network here takes more.
    """
    count = len(images)
    places = np.linspace(0, max(0, count - SIDE_RUN), SIDE_PLACES).astype(int)
    rows = sorted({row for place in places for row in range(place, min(count, place + SIDE_RUN))})
    sides = []
    for row in rows:
        try:
            sides.append(min(_size_of(images.read(row), decoding)))
        except UnreadableSample:
            continue
    return int(np.median(sides)) if sides else SIDE_CAP


def _size_of(data: bytes, decoding: Decoding) -> tuple[int, int]:
    return decode_image(data, at_least=SIDE_CAP, decoding=decoding).size


def feature_key(backbone: Backbone) -> str:
    """Return a name for one way to compute features: network, size, precision, and decoding."""
    return cache_key(
        CACHE_VERSION,
        backbone.weights_digest,
        repr(backbone.preprocessing),
        backbone.depths,
        str(backbone.dtype),
        backbone.device.type,
    )


def _width(backbone: Backbone) -> int:
    size = backbone.preprocessing.size
    return int(backbone.features(torch.zeros(1, size, size, 3, dtype=torch.uint8)).shape[1])
