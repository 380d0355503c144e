"""What the frozen backbone makes of each image, computed once and kept on disk.

Letters: N samples, B images of a batch, D features, S pixels a side.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from labelfix.backbone import Backbone
from labelfix.errors import RunError, UnreadableImage
from labelfix.extraction import extract
from labelfix.files import atomic_path, make_folder
from labelfix.images import decode_image
from labelfix.records import Features, ImageStore, OnProgress, Progress, no_progress

CACHE_VERSION = 1
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
    make_folder(cache)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            _fill(folder, images, backbone, batch_size, on_progress)
    return _open(folder)


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
    key = json.dumps(
        [
            CACHE_VERSION,
            fingerprint,
            count,
            backbone.weights_digest,
            repr(backbone.preprocessing),
            backbone.depths,
            str(backbone.dtype),
            backbone.device.type,
        ]
    )
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def _open(folder: Path) -> Features:
    reasons = json.loads((folder / "unreadable.json").read_text(encoding="utf-8"))
    return Features(
        values=np.load(folder / "values.npy", mmap_mode="r"),
        content=np.load(folder / "content.npy"),
        unreadable={int(row): reason for row, reason in reasons.items()},
    )


def _fill(
    folder: Path, images: ImageStore, backbone: Backbone, batch_size: int, on_progress: OnProgress
) -> None:
    """Compute into ``folder.partial``, chunk by chunk, and rename it when it is whole."""
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        draft = _Draft(partial, len(images), _width(backbone))
        _compute(draft, images, backbone, batch_size, on_progress)
        draft.finish(folder)
    except OSError as error:
        raise RunError(
            f"cannot write the features to {partial}: {error.strerror or error}",
            hint="free some space, or choose another place with --cache",
        ) from error


def _compute(
    draft: "_Draft",
    images: ImageStore,
    backbone: Backbone,
    batch_size: int,
    on_progress: OnProgress,
) -> None:
    start = draft.done
    width = draft.values.shape[1]
    for batch in extract(images, backbone, first=start, batch_size=batch_size, width=width):
        stop = start + len(batch.content)
        draft.values[start:stop] = batch.values
        draft.content[start:stop] = batch.content
        draft.unreadable |= {start + place: why for place, why in batch.unreadable.items()}
        if stop // CHUNK > start // CHUNK:
            draft.mark(stop)
        on_progress(Progress(STAGE, stop, len(images), "images"))
        start = stop


class _Draft:
    """Half-computed features on disk: arrays of full length, and how many rows are done."""

    def __init__(self, folder: Path, count: int, width: int) -> None:
        self.folder = folder
        self._marker = folder / "done.json"
        state = _read_state(self._marker)
        if state is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        mode = "w+" if state is None else "r+"
        self.values = np.lib.format.open_memmap(
            folder / "values.npy", mode=mode, dtype=np.float16, shape=(count, width)
        )
        self.content = np.lib.format.open_memmap(
            folder / "content.npy", mode=mode, dtype="S16", shape=(count,)
        )
        self.done, self.unreadable = state or (0, {})
        if state is None and hasattr(os, "posix_fallocate"):
            # a full disk must show here as an error, not later as a fault in mapped memory
            with (folder / "values.npy").open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, self.values.nbytes + 128))

    def mark(self, done: int) -> None:
        """Make the first ``done`` rows safe: a later run goes on after them."""
        self.values.flush()
        self.content.flush()
        with atomic_path(self._marker) as path:
            state = {"done": done, "unreadable": self.unreadable}
            path.write_text(json.dumps(state), encoding="utf-8")

    def finish(self, folder: Path) -> None:
        """Give the whole folder its final name."""
        self.values.flush()
        self.content.flush()
        reasons = json.dumps(self.unreadable, ensure_ascii=False)
        (self.folder / "unreadable.json").write_text(reasons, encoding="utf-8")
        self._marker.unlink(missing_ok=True)
        self.folder.replace(folder)


def _read_state(marker: Path) -> tuple[int, dict[int, str]] | None:
    try:
        state = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state["done"], {int(row): reason for row, reason in state["unreadable"].items()}


def _width(backbone: Backbone) -> int:
    size = backbone.preprocessing.size
    return int(backbone.features(torch.zeros(1, size, size, 3, dtype=torch.uint8)).shape[1])
