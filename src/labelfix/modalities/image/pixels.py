"""Every image decoded once, as a square of bytes that training can map from disk.

Letters: N samples, S pixels a side of a stored square.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labelfix.data.stores import ParquetImages
from labelfix.errors import TrainingError
from labelfix.modalities.batching import Rows, neighbors
from labelfix.modalities.image.features import decode_batch
from labelfix.modalities.image.transforms import Preprocessing
from labelfix.types import Assumption, SampleStore
from labelfix.utils.cache import Column, RowWork, cache_key, rows_of
from labelfix.utils.files import has_space
from labelfix.utils.progress import OnProgress, no_progress
from labelfix.utils.sample_reader import read_batches, read_rows
from labelfix.utils.shards import IsKnown, RowBatch
from labelfix.utils.threads import cores, map_ahead
from labelfix.utils.torch_utils import one_core_threads

CACHE_VERSION = 2
"""Raised when the same images would give other pixels."""

LIMIT = 64 * 10**9
"""Bytes; a larger cache is not kept unless the caller says so."""

DECODE_BATCH = 32
"""Images that a thread decodes at a time."""

STAGE = "decoding the images"


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """What decoding made of each image.

    Args:
        values: ``(N, S, S, 3)`` uint8, mapped from disk, 0 where an image cannot be read; ``None``
            if they would take more space than there is.
        content: ``(N,)`` 16-byte digests of the encoded images; equal means byte-identical.
        unreadable: Row to reason, for the images that could not be read.
        preprocessing: How an encoded image becomes a stored square.
        assumptions: What was taken for granted on the way here.
    """

    values: NDArray[np.uint8] | None
    content: NDArray[np.bytes_]
    unreadable: Mapping[int, str]
    preprocessing: Preprocessing
    assumptions: tuple[Assumption, ...] = ()


def stored_square(preprocessing: Preprocessing) -> Preprocessing:
    """Return how images are stored for a network that wants ``preprocessing``.

    The stored square covers the whole shorter side, so that random crops may reach its edges. Its
    size is such that the central square that the network was made for needs no resizing: 96 pixels
    for 96 at a crop share of 1, 256 for 224 at .875.

    Args:
        preprocessing: What the network sees in evaluation.
    """
    size = max(preprocessing.size, round(preprocessing.size / preprocessing.crop_share))
    size += (size - preprocessing.size) % 2  # an even rest has a center
    return replace(preprocessing, size=size, crop_share=1.0)


def decode_once(
    images: SampleStore,
    fingerprint: str,
    preprocessing: Preprocessing,
    *,
    cache: Path,
    limit: int = LIMIT,
    on_progress: OnProgress = no_progress,
) -> Pixels:
    """Return the pixels of every image; those that the cache holds are not decoded again.

    If they do not fit, the images are decoded once all the same, to learn which of them can be
    read. An interrupted pass goes on where it stopped the next time it is asked for.

    Args:
        images: N encoded images.
        fingerprint: Names the data set, so that an interrupted pass goes on where it stopped.
            Pixels are found by the content of images, never by this.
        preprocessing: How an encoded image becomes a stored square, as of ``stored_square``.
        cache: The folder that holds the pixels of all runs.
        limit: Bytes that the pixels may take; never more than most of the free space.
        on_progress: Told about every batch.

    Raises:
        RunError: The cache cannot be written to.
    """
    size = preprocessing.size
    key = cache_key(
        CACHE_VERSION,
        size,
        preprocessing.crop_share,
        preprocessing.interpolation,
        repr(preprocessing.decoding),
    )
    wanted = len(images) * size * size * 3
    square = {"values": Column(np.uint8, (size, size, 3))}

    def work(columns: Mapping[str, Column], may_write: Callable[[Path], bool]) -> RowWork:
        return RowWork(
            what="decoded images",
            stage=STAGE,
            columns=columns,
            compute=partial(_decode, preprocessing=preprocessing, columns=tuple(columns)),
            batch_size=DECODE_BATCH,
            fault=lambda data: decode_batch([data], preprocessing).unreadable.get(0),
            may_write=may_write,
        )

    kept = None
    if wanted <= limit:
        fits = work(square, lambda unfinished: has_space(unfinished, wanted))
        kept = rows_of(cache / key, images, fingerprint, fits, on_progress)
    if kept is not None:
        return Pixels(kept.arrays["values"], kept.content, kept.unreadable, preprocessing)
    seen = rows_of(
        cache / f"{key}.digests",
        images,
        fingerprint,
        work({}, lambda unfinished: True),
        on_progress,
    )
    if seen is None:
        raise AssertionError("nothing forbids to write digests")
    said = (
        f"decoded images would take {wanted / 1e9:,.1f} GB, more than the cache may take or the "
        "disk has free: each pass of training decodes them anew, and takes its crops from whole "
        "images, so that results differ a little from those with space (--cache)"
    )
    return Pixels(None, seen.content, seen.unreadable, preprocessing, (Assumption("values", said),))


def _decode(
    images: SampleStore,
    rows: range,
    is_known: IsKnown,
    *,
    preprocessing: Preprocessing,
    columns: Sequence[str],
) -> Iterator[RowBatch]:
    def decode(batch: tuple[int, list[bytes | str]]) -> RowBatch:
        start, encoded = batch
        decoded = decode_batch(
            encoded, preprocessing, is_known=lambda content: is_known(start, content)
        )
        pixels = {name: np.stack(decoded.pixels) for name in columns if decoded.pixels}
        return RowBatch(decoded.content, decoded.decoded, pixels, decoded.unreadable)

    workers = cores()
    batches = read_batches(images, batch_size=DECODE_BATCH, rows=rows)
    with one_core_threads(workers) as pool:
        yield from map_ahead(pool, decode, batches, 2 * workers)


AHEAD = 3
"""Batches that are ready, or being made, beside the one in use."""

CHUNK_BYTES = 2 << 20
"""Pixels that a worker process hands over at a time; small, as shared memory often is."""

WINDOW_BYTES = 512 << 20
"""Pixels decoded together where a store is slow in random order; up to three such are held."""

BLOCK_ROWS = 128
"""Neighboring rows that stay together in the order of such a store."""

Item = TypeVar("Item")


class Batch(NamedTuple):
    """Some samples: their numbers, ``(B,)`` int64, and their ``(B, S, S, 3)`` uint8 pixels."""

    rows: Tensor
    pixels: Tensor


class PixelSource(Protocol):
    """Gives batches of pixels."""

    @property
    def block_rows(self) -> int:
        """How many neighboring rows an order should leave together; 1 allows any order."""
        ...

    @property
    def mixed_blocks(self) -> int:
        """Among how many blocks an order may shuffle the rows."""
        ...

    def batches(self, batches: Sequence[Rows], *, pin: bool) -> Iterator[Batch]:
        """Yield the pixels of each batch, in order, made ahead of their use.

        Args:
            batches: Numbers of samples.
            pin: Put them into memory that a GPU copies from without waiting.
        """
        ...


class StoredPixels:
    """Pixels in an array, mapped from disk or in memory.

    Args:
        values: ``(N, S, S, 3)`` uint8.
        threads: That gather batches; more than one helps where the disk is waited for.
    """

    block_rows = 1
    mixed_blocks = 1

    def __init__(self, values: NDArray[np.uint8], *, threads: int = 2) -> None:
        self._values = values
        self._threads = threads

    def batches(self, batches: Sequence[Rows], *, pin: bool) -> Iterator[Batch]:
        """Yield the pixels of each batch, in order, gathered in the background."""
        gather = partial(_gather, self._values, pin=pin)
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for rows, pixels in zip(
                    batches, map_ahead(pool, gather, batches, AHEAD), strict=True
                ):
                    yield Batch(torch.from_numpy(rows), pixels)
            finally:
                pool.shutdown(cancel_futures=True)


class DecodedPixels:
    """Pixels that worker processes decode anew each time, where they do not fit on the disk.

    The order of rows does not depend on the number of workers.

    Args:
        images: The encoded images.
        preprocessing: How one becomes a square, the same as for stored ones.
        workers: Processes; 0 decodes in a thread of this one.
        block_rows: Neighboring rows that an order leaves together; ``None`` asks for it where
            ``images`` is slow in random order.
        window_bytes: Pixels that are decoded together then.
    """

    def __init__(
        self,
        images: SampleStore,
        preprocessing: Preprocessing,
        *,
        workers: int,
        block_rows: int | None = None,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        if block_rows is None:
            block_rows = BLOCK_ROWS if isinstance(images, ParquetImages) else 1
        self.block_rows = block_rows
        self._bytes = preprocessing.size**2 * 3
        self._window_bytes = window_bytes
        self.mixed_blocks = max(1, window_bytes // (self._bytes * block_rows))
        self._images = images
        self._preprocessing = preprocessing
        self._workers = workers

    def batches(self, batches: Sequence[Rows], *, pin: bool) -> Iterator[Batch]:
        """Yield the pixels of each batch, in order.

        Where rows stay with their neighbors, several batches are decoded together, so that
        workers read neighbors in rising order.

        Raises:
            TrainingError: An image that could be read before cannot be any more, or a worker died.
        """
        if not batches:
            return
        together = 1
        if self.block_rows > 1:
            together = max(1, self._window_bytes // (self._bytes * max(map(len, batches))))
        windows = neighbors(batches, together)
        yield from _one_by_one_ahead(self._decoded(windows, pin=pin), len(batches), AHEAD)

    def _decoded(self, windows: list[Sequence[Rows]], *, pin: bool) -> Iterator[Batch]:
        """Yield the batches of each window; the next window is being decoded meanwhile."""
        ordered = [np.sort(np.concatenate(window)) for window in windows]
        values = _one_by_one_ahead(self._windows(ordered), len(windows), 1)
        for window, rows, pixels in zip(windows, ordered, values, strict=True):
            for batch in window:
                places = np.searchsorted(rows, batch)
                yield Batch(torch.from_numpy(batch), _gather(pixels, places, pin=pin))

    def _windows(self, ordered: list[Rows]) -> Iterator[NDArray[np.uint8]]:
        """Yield the pixels of each window's rows, in rising order of rows."""
        step = max(1, CHUNK_BYTES // self._bytes)
        chunks = [np.split(rows, np.arange(step, len(rows), step)) for rows in ordered]
        decoded = iter(self._loader([chunk for window in chunks for chunk in window]))
        for window in chunks:
            yield np.concatenate([self._taken(decoded, chunk) for chunk in window])

    def _loader(self, chunks: list[Rows]) -> "DataLoader[Any]":
        return DataLoader(
            _Chunks(self._images, self._preprocessing, chunks),
            batch_size=None,
            num_workers=self._workers,
            generator=torch.Generator(),  # else it would draw from the one that training uses
        )

    def _taken(self, decoded: Iterator[tuple[Tensor, dict[int, str]]], rows: Rows) -> Any:
        try:
            pixels, unreadable = next(decoded)
        except RuntimeError as error:  # of the loader: a worker is gone
            raise TrainingError(
                f"decoding stopped: {str(error).splitlines()[0]}",
                hint="use fewer workers, or give them more shared memory (docker: --shm-size)",
            ) from error
        for place, reason in unreadable.items():
            where = self._images.location(int(rows[place]))
            raise TrainingError(
                f"an image that could be read before cannot be any more: {where}: {reason}",
                hint="put it back and go on with --resume; or begin anew with the data as they are",
            )
        return pixels.numpy()


class _Chunks(Dataset[tuple[Tensor, dict[int, str]]]):
    """Decoded pixels of some rows, and place to reason where there are none."""

    def __init__(
        self, images: SampleStore, preprocessing: Preprocessing, chunks: list[Rows]
    ) -> None:
        self._images, self._preprocessing, self._chunks = images, preprocessing, chunks

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, number: int) -> tuple[Tensor, dict[int, str]]:
        encoded = read_rows(self._images, self._chunks[number].tolist())
        decoded = decode_batch(encoded, self._preprocessing)
        if decoded.unreadable:
            return torch.empty(0), decoded.unreadable
        pixels = np.ascontiguousarray(np.stack(decoded.pixels))  # resizing leaves channels first
        return torch.from_numpy(pixels), {}


def source_of(images: SampleStore, pixels: Pixels, *, workers: int | None = None) -> PixelSource:
    """Return the stored pixels, or worker processes where they were too many to store.

    Args:
        images: The encoded images.
        pixels: What decoding them once gave.
        workers: Processes that decode; ``None`` takes one a core that this process may use.
    """
    if pixels.values is not None:
        return StoredPixels(pixels.values)
    return DecodedPixels(
        images, pixels.preprocessing, workers=_own_share() if workers is None else workers
    )


def _own_share() -> int:
    """Return how many of the cores are this process's own."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _gather(values: NDArray[np.uint8], places: Rows, *, pin: bool) -> Tensor:
    pixels = torch.empty((len(places), *values.shape[1:]), dtype=torch.uint8, pin_memory=pin)
    # "raise" would gather into a copy first; the places are known to be inside
    np.take(values, places, axis=0, out=pixels.numpy(), mode="clip")
    return pixels


def _one_by_one_ahead(items: Iterator[Item], count: int, limit: int) -> Iterator[Item]:
    """Yield ``count`` items that one thread takes, up to ``limit`` ahead."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield from map_ahead(pool, lambda _: next(items), range(count), limit)
        finally:
            pool.shutdown(cancel_futures=True)
            items.close()  # type: ignore[attr-defined]
