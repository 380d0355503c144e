"""What the frozen backbone makes of each image, computed once and kept on disk.

Letters: N samples, B images of a batch, D features, S pixels a side, T of a thumbnail.
"""

from pathlib import Path

import numpy as np
import torch

from labelfix.appearance import MEASURES, THUMBNAIL
from labelfix.backbone import Backbone
from labelfix.decoding import decode_batch
from labelfix.disk_cache import Column, RowWork, StoredRows, cache_key, rows_of
from labelfix.errors import UnreadableImage
from labelfix.extraction import extract
from labelfix.images import USUAL, Decoding, decode_image
from labelfix.records import Appearances, Features, ImageStore, OnProgress, no_progress

CACHE_VERSION = 3
"""Raised when the same images and network would give other features."""

SIDE_PLACES, SIDE_RUN = 8, 8
"""At how many places, and how many neighbours there, images are measured for their size."""

SIDE_CAP = 640
"""Pixels; larger images are not told apart."""

STAGE = "looking at the images"


def stored_features(
    images: ImageStore,
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
        compute=lambda is_known: extract(
            images, backbone, is_known, batch_size=batch_size, width=width
        ),
        fault=lambda data: decode_batch([data], backbone.preprocessing).unreadable.get(0),
    )
    folder = cache / feature_key(backbone)
    stored = rows_of(folder, images, fingerprint, work, on_progress)
    if stored is None:
        raise AssertionError("nothing forbids to write features")
    return stored


def compute_features(
    images: ImageStore,
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
    looks = Appearances(side, bright_end, dark_end, laplacian_variance, stored.arrays["thumbnails"])
    return Features(
        values=stored.arrays["values"],
        content=stored.content,
        unreadable=stored.unreadable,
        appearances=looks,
    )


def typical_side(images: ImageStore, decoding: Decoding = USUAL) -> int:
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
        except UnreadableImage:
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
