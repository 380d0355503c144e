"""Run images through the frozen lower stages of a network once, and keep what comes out.

Letters: N samples, V views of each, B images of a batch, S pixels a side of a stored square.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.errors import RunError
from labelfix.modalities.image.features import decode_batch
from labelfix.modalities.image.pixels import stored_square
from labelfix.modalities.image.transforms import (
    CHANCES,
    Augment,
    BatchTransform,
    Preprocessing,
    draw_crops,
)
from labelfix.types import SampleStore
from labelfix.utils.cache import Column, RowWork, StoredRows, cache_key, rows_of
from labelfix.utils.files import has_space
from labelfix.utils.progress import OnProgress
from labelfix.utils.sample_reader import read_batches
from labelfix.utils.shards import IsKnown, RowBatch
from labelfix.utils.threads import cores, map_ahead
from labelfix.utils.torch_utils import MicroBatcher, one_core_threads

CACHE_VERSION = 1
"""Raised when the same images and network would give other activations."""

STAGE = "running the frozen stages"

THUMBNAIL = 16
"""Pixels a side of the small image that tells whether classes look the same in a mirror."""


@dataclass(frozen=True, slots=True, eq=False)
class FrozenStages:
    """The lower stages of a network, ready to run.

    Args:
        forward: Takes ``(B, 3, T, T)`` normalized pixels and returns ``(B, ...)`` activations.
        shape: Of the activations of one view.
        key: Names the network and the cut: equal keys mean equal activations.
        preprocessing: What an image goes through first.
        device: Where they run.
        dtype: The number format of their forward pass.
    """

    forward: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    key: str
    preprocessing: Preprocessing
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """Which views of an image are kept.

    View 0 is the image as it is scored and view 1 its mirror image; any further pair is a crop,
    drawn by the digest of the image, and its mirror image.

    Args:
        count: V.
        least_crop: The least share of an image that a crop shows.
    """

    count: int
    least_crop: float

    def plain(self) -> tuple[int, ...]:
        """Return the views that are not mirrored."""
        return tuple(range(0, self.count, 2))

    def all(self) -> tuple[int, ...]:
        """Return all views."""
        return tuple(range(self.count))


def stored_activations(
    store: SampleStore,
    fingerprint: str,
    stages: FrozenStages,
    plan: ViewPlan,
    *,
    cache: Path,
    batch_size: int,
    on_progress: OnProgress,
) -> StoredRows:
    """Return the activations of every view of every image; kept ones are not computed again.

    Args:
        store: N encoded images.
        fingerprint: Names the data set, so that an interrupted computation goes on.
        stages: The frozen part of the network.
        plan: Which views.
        cache: The folder that holds the activations of all runs.
        batch_size: Images a forward pass.
        on_progress: Told about every batch.

    Raises:
        RunError: The cache cannot be written to, or has too little space.
    """
    shape = (plan.count, *stages.shape)
    wanted = len(store) * 2 * int(np.prod(shape))
    key = cache_key(
        CACHE_VERSION,
        stages.key,
        repr(stages.preprocessing),
        plan.count,
        plan.least_crop,
        batch_size,
        str(stages.dtype),
        stages.device.type,
    )
    work = RowWork(
        what="activations",
        stage=STAGE,
        columns={
            "values": Column(np.uint16, shape),
            "thumbnails": Column(np.uint8, (THUMBNAIL, THUMBNAIL, 3)),
        },
        compute=partial(_compute, stages=stages, plan=plan, batch_size=batch_size),
        batch_size=batch_size,
        fault=lambda data: decode_batch([data], stages.preprocessing).unreadable.get(0),
        may_write=lambda unfinished: has_space(unfinished, wanted),
    )
    stored = rows_of(cache / key, store, fingerprint, work, on_progress)
    if stored is None:
        raise RunError(
            f"the activations of {len(store):,} images take {wanted / 1e9:.1f} GB, and there is "
            f"too little space in {cache}",
            hint="choose another place with --cache, a smaller --image-size, or --tune head",
        )
    return stored


def _compute(
    store: SampleStore,
    rows: range,
    is_known: IsKnown,
    *,
    stages: FrozenStages,
    plan: ViewPlan,
    batch_size: int,
) -> Iterator[RowBatch]:
    """Yield the activations of those of some images that are not known yet, batch by batch.

    On a CPU each worker takes a batch the whole way on one core, as for features.
    """
    square = stored_square(stages.preprocessing)
    transform = BatchTransform(stages.preprocessing, stages.device)
    portions = MicroBatcher()
    on_cpu = stages.device.type == "cpu"
    workers = torch.get_num_threads() if on_cpu else cores()

    def decode(batch: tuple[int, list[bytes | str]]) -> RowBatch:
        start, encoded = batch
        decoded = decode_batch(encoded, square, is_known=lambda content: is_known(start, content))
        squares = np.zeros((0, square.size, square.size, 3), np.uint8)
        if decoded.pixels:
            squares = np.stack(decoded.pixels)
        return RowBatch(decoded.content, decoded.decoded, {"pixels": squares}, decoded.unreadable)

    def forward(batch: RowBatch) -> RowBatch:
        pixels = batch.rows["pixels"]
        values = np.zeros((len(pixels), plan.count, *stages.shape), np.uint16)
        thumbnails = np.zeros((len(pixels), THUMBNAIL, THUMBNAIL, 3), np.uint8)
        if len(pixels):
            # a smaller batch may be summed up in another order: all are filled up to one size
            places = np.minimum(np.arange(batch_size), len(pixels) - 1)
            digests = batch.content[batch.computed][places]
            squares = torch.from_numpy(pixels[places])
            parts = portions.run(
                batch_size,
                lambda cut: [
                    _of_views(squares[part], digests[part], stages, plan, transform) for part in cut
                ],
            )
            values[:] = np.concatenate(parts)[: len(pixels)]
            thumbnails[:] = _thumbnails(squares[: len(pixels)])
        columns: dict[str, NDArray[Any]] = {"values": values, "thumbnails": thumbnails}
        return RowBatch(batch.content, batch.computed, columns, batch.unreadable)

    batches = read_batches(store, batch_size=batch_size, rows=rows)
    with one_core_threads(workers) as pool:
        if on_cpu:
            yield from map_ahead(pool, lambda batch: forward(decode(batch)), batches, 2 * workers)
        else:
            for decoded in map_ahead(pool, decode, batches, 2 * workers):
                yield forward(decoded)


@torch.inference_mode()
def _of_views(
    squares: Tensor,
    digests: NDArray[np.bytes_],
    stages: FrozenStages,
    plan: ViewPlan,
    transform: BatchTransform,
) -> NDArray[np.uint16]:
    """Return ``(B, V, ...)`` bits of bfloat16 activations of ``(B, S, S, 3)`` squares."""
    chances = np.stack([_chances(digest, (plan.count + 1) // 2) for digest in digests])
    inputs = transform.eval_inputs(squares)
    views = []
    for view in range(plan.count):
        if view % 2 == 0 and view:
            crops = draw_crops(
                chances[:, view // 2], Augment(scale=(plan.least_crop, 1.0), flip=0.0)
            )
            inputs = transform.train_inputs(squares, crops)
        seen = inputs.flip(3) if view % 2 else inputs
        seen = seen.to(stages.dtype).contiguous(memory_format=torch.channels_last)
        views.append(stages.forward(seen).contiguous().to(torch.bfloat16).view(torch.int16).cpu())
    bits: NDArray[np.uint16] = torch.stack(views, dim=1).numpy().view(np.uint16)
    return bits


def _chances(digest: bytes, count: int) -> NDArray[np.float64]:
    """Return ``(count, 5)`` uniform numbers that depend on the content of an image alone."""
    seed = int.from_bytes(hashlib.blake2b(digest, digest_size=8).digest(), "big")
    return np.random.default_rng(seed).random((count, CHANCES))


def _thumbnails(squares: Tensor) -> NDArray[np.uint8]:
    pixels = squares.permute(0, 3, 1, 2).float()
    small = torch.nn.functional.interpolate(pixels, size=(THUMBNAIL, THUMBNAIL), mode="area")
    thumbnails: NDArray[np.uint8] = small.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return thumbnails
