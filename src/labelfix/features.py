"""What the frozen backbone makes of each image, computed once and kept on disk.

Letters: N samples, B images of a batch, D features, S pixels a side, T of a thumbnail.
"""

from pathlib import Path

import numpy as np
import torch

from labelfix.appearance import MEASURES, THUMBNAIL
from labelfix.backbone import Backbone
from labelfix.disk_cache import (
    Column,
    Draft,
    cache_key,
    fill_once,
    read_column,
    read_unreadable,
)
from labelfix.errors import UnreadableImage
from labelfix.extraction import extract
from labelfix.images import decode_image
from labelfix.records import Appearances, Features, ImageStore, OnProgress, Progress, no_progress

CACHE_VERSION = 2
"""Raised when the same images and network would give other features."""

CHUNK = 2048
"""Samples after which finished work is marked as such on disk."""

SIDE_PLACES, SIDE_RUN = 8, 8
"""At how many places, and how many neighbours there, images are measured for their size."""

SIDE_CAP = 640
"""Pixels; larger images are not told apart."""

STAGE = "looking at the images"


def compute_features(
    images: ImageStore,
    fingerprint: str,
    backbone: Backbone,
    *,
    cache: Path,
    batch_size: int,
    on_progress: OnProgress = no_progress,
) -> Features:
    """Return the features of every image, from the cache where they are there already.

    An interrupted computation goes on where it stopped the next time it is asked for.

    Args:
        images: N encoded images.
        fingerprint: Equal fingerprints mean equal images.
        backbone: The frozen network.
        cache: The folder that holds the features of all runs.
        batch_size: Images a forward pass.
        on_progress: Told about every batch.

    Raises:
        RunError: The cache cannot be written to.
    """
    folder = cache / feature_key(fingerprint, len(images), backbone)

    def columns() -> dict[str, Column]:
        return {
            "values": Column(np.float16, (len(images), _width(backbone))),
            "content": Column("S16", (len(images),)),
            "measures": Column(np.float32, (len(images), MEASURES)),
            "thumbnails": Column(np.uint8, (len(images), THUMBNAIL, THUMBNAIL)),
        }

    def fill(draft: Draft) -> None:
        _compute(draft, images, backbone, batch_size, on_progress)

    fill_once(folder, columns, fill, what="features")
    return Features(
        values=read_column(folder, "values", mapped=True),
        content=read_column(folder, "content"),
        unreadable=read_unreadable(folder),
        appearances=_appearances(folder),
    )


def typical_side(images: ImageStore) -> int:
    """Return the median shorter side, in pixels, of images from evenly spread places.

    Large photographs count as at least ``SIDE_CAP``: no network here takes more.
    """
    count = len(images)
    places = np.linspace(0, max(0, count - SIDE_RUN), SIDE_PLACES).astype(int)
    rows = sorted({row for place in places for row in range(place, min(count, place + SIDE_RUN))})
    sides = []
    for row in rows:
        try:
            sides.append(min(decode_image(images.read(row), at_least=SIDE_CAP).size))
        except UnreadableImage:
            continue
    return int(np.median(sides)) if sides else SIDE_CAP


def feature_key(fingerprint: str, count: int, backbone: Backbone) -> str:
    """Return the name under which features are cached: of images, network, size and precision."""
    return cache_key(
        CACHE_VERSION,
        fingerprint,
        count,
        backbone.weights_digest,
        repr(backbone.preprocessing),
        backbone.depths,
        str(backbone.dtype),
        backbone.device.type,
    )


def _appearances(folder: Path) -> Appearances:
    side, bright_end, dark_end, laplacian_variance = read_column(folder, "measures").T
    thumbnails = read_column(folder, "thumbnails", mapped=True)
    return Appearances(side, bright_end, dark_end, laplacian_variance, thumbnails)


def _compute(
    draft: Draft,
    images: ImageStore,
    backbone: Backbone,
    batch_size: int,
    on_progress: OnProgress,
) -> None:
    start = draft.done
    width = draft.arrays["values"].shape[1]
    for batch in extract(images, backbone, first=start, batch_size=batch_size, width=width):
        stop = start + len(batch.content)
        for name, column in draft.arrays.items():
            column[start:stop] = getattr(batch, name)
        draft.unreadable |= {start + place: why for place, why in batch.unreadable.items()}
        if stop // CHUNK > start // CHUNK:
            draft.mark(stop)
        on_progress(Progress(STAGE, stop, len(images), "images"))
        start = stop


def _width(backbone: Backbone) -> int:
    size = backbone.preprocessing.size
    return int(backbone.features(torch.zeros(1, size, size, 3, dtype=torch.uint8)).shape[1])
