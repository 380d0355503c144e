"""Where batches of pixels come from: the disk, or worker processes that decode.

Letters: N samples, B samples of a batch, S pixels a side.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labelfix.batch_plan import Rows, neighbours
from labelfix.decoding import decode_batch
from labelfix.errors import TrainingError
from labelfix.parquet_images import ParquetImages
from labelfix.pixel_cache import Pixels
from labelfix.preprocessing import Preprocessing
from labelfix.records import ImageStore
from labelfix.sample_reader import map_ahead, read_rows

AHEAD = 3
"""Batches that are ready, or being made, beside the one in use."""

CHUNK_BYTES = 2 << 20
"""Pixels that a worker process hands over at a time; small, as shared memory often is."""

WINDOW_BYTES = 512 << 20
"""Pixels decoded together where a store is slow in random order; up to three such are held."""

BLOCK_ROWS = 128
"""Neighbouring rows that stay together in the order of such a store."""

Item = TypeVar("Item")


class Batch(NamedTuple):
    """Some samples: their numbers, ``(B,)`` int64, and their ``(B, S, S, 3)`` uint8 pixels."""

    rows: Tensor
    pixels: Tensor


class PixelSource(Protocol):
    """Gives batches of pixels."""

    @property
    def block_rows(self) -> int:
        """How many neighbouring rows an order should leave together; 1 allows any order."""
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
        block_rows: Neighbouring rows that an order leaves together; ``None`` asks for it where
            ``images`` is slow in random order.
    """

    def __init__(
        self,
        images: ImageStore,
        preprocessing: Preprocessing,
        *,
        workers: int,
        block_rows: int | None = None,
    ) -> None:
        if block_rows is None:
            block_rows = BLOCK_ROWS if isinstance(images, ParquetImages) else 1
        self.block_rows = block_rows
        self._bytes = preprocessing.size**2 * 3
        self.mixed_blocks = max(1, WINDOW_BYTES // (self._bytes * block_rows))
        self._images = images
        self._preprocessing = preprocessing
        self._workers = workers

    def batches(self, batches: Sequence[Rows], *, pin: bool) -> Iterator[Batch]:
        """Yield the pixels of each batch, in order.

        Where rows stay with their neighbours, several batches are decoded together, so that
        workers read neighbours in rising order.

        Raises:
            TrainingError: An image that could be read before cannot be any more, or a worker died.
        """
        if not batches:
            return
        together = 1
        if self.block_rows > 1:
            together = max(1, WINDOW_BYTES // (self._bytes * max(map(len, batches))))
        windows = neighbours(batches, together)
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
        self, images: ImageStore, preprocessing: Preprocessing, chunks: list[Rows]
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


def source_of(images: ImageStore, pixels: Pixels, *, workers: int | None = None) -> PixelSource:
    """Return the stored pixels, or worker processes where they were too many to store.

    Args:
        images: The encoded images.
        pixels: What decoding them once gave.
        workers: Processes that decode; ``None`` takes one a core that this process may use.
    """
    if pixels.values is not None:
        return StoredPixels(pixels.values)
    return DecodedPixels(
        images, pixels.preprocessing, workers=_own_cores() if workers is None else workers
    )


def _own_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


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
