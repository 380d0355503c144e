"""The probabilities of N samples, wherever they lie, read a block at a time.

A block has as many rows as its K columns let fit into a core's cache. That number depends on K
alone: whatever is summed block by block, in order, comes out the same however the rows were read.

Letters: N samples, K classes, B rows of a block.
"""

import mmap
from collections.abc import Sequence
from typing import IO, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelfix.errors import DatasetError
from labelfix.utils.file_matrix import FileMatrix

BLOCK_ELEMENTS = 1 << 17
"""Probabilities in a block at most: half a megabyte of float32."""

Rows: TypeAlias = slice | NDArray[np.int64]


class ProbabilityStore(Protocol):
    """``(N, K)`` probabilities; reading is safe from several threads."""

    @property
    def classes(self) -> int:
        """Return K."""
        ...

    def __len__(self) -> int:
        """Return N."""
        ...

    def read(self, rows: Rows) -> NDArray[np.float32]:
        """Return ``(B, K)`` rows, as a copy that the caller may write to."""
        ...


class ArrayStore:
    """Probabilities in one array, in memory or in a file.

    Args:
        values: ``(N, K)`` floats of any size and byte order, contiguous by row or by column.
        columns: ``(K,)`` which column of ``values`` holds each class; ``None`` for the same order.
        mapping: The map that ``values`` lies in. What was read is let go of, so that reading a
            file from end to end never holds more of it in memory than a block.
    """

    def __init__(
        self,
        values: NDArray[np.floating] | FileMatrix,
        columns: NDArray[np.int64] | None = None,
        mapping: mmap.mmap | None = None,
    ) -> None:
        self._values, self._columns, self._mapping = values, columns, mapping

    @property
    def classes(self) -> int:
        """Return K."""
        return int(self._values.shape[1])

    def __len__(self) -> int:
        """Return N."""
        return len(self._values)

    def read(self, rows: Rows) -> NDArray[np.float32]:
        """Return ``(B, K)`` rows, as a copy.

        Raises:
            DatasetError: The file is shorter now than it was.
        """
        if self._mapping is not None and self._mapping.size() < len(self._mapping):
            raise DatasetError(
                "a file of probabilities was cut short while it was read",
                hint="write the file again, and repeat the command",
            )
        part = np.array(self._values[rows], np.float32, order="C")
        if self._mapping is not None:
            _let_go(self._mapping)
        return part if self._columns is None else part.take(self._columns, axis=1)

    def with_columns(self, columns: NDArray[np.int64]) -> "ArrayStore":
        """Return the same probabilities with the classes in another order."""
        if np.array_equal(columns, np.arange(self.classes)):
            return self
        return ArrayStore(self._values, columns, self._mapping)


def _let_go(mapping: mmap.mmap) -> None:
    """Give the pages of a map back; the system reads them again when they are wanted again."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


class ListedStore:
    """Probabilities of which each row lists those of a few classes, the likeliest.

    What a row leaves of 1 is spread evenly over the classes that it does not list: so they stay in
    an order that fits what is known, and a row that leaves more says less against a given label
    that it does not list. A row without a list is NaN.

    Args:
        codes: ``(M,)`` the classes of all lists, row after row.
        values: ``(M,)`` float32 their probabilities.
        counts: ``(N,)`` how many are of each row.
        is_listed: ``(N,)`` bool: the row has a list.
        place: ``(K,)`` which column each code has.
        mappings: The maps that ``codes`` and ``values`` lie in.
    """

    def __init__(
        self,
        codes: NDArray[np.int32],
        values: NDArray[np.float32],
        counts: NDArray[np.int64],
        is_listed: NDArray[np.bool_],
        place: NDArray[np.int64],
        mappings: Sequence[mmap.mmap] = (),
    ) -> None:
        self._codes, self._values, self._counts = codes, values, counts
        self._starts = np.cumsum(counts) - counts
        self._place, self._mappings = place, mappings
        self.is_listed = is_listed

    @classmethod
    def of_files(
        cls,
        codes: IO[bytes],
        values: IO[bytes],
        counts: NDArray[np.int64],
        is_listed: NDArray[np.bool_],
        classes: int,
    ) -> "ListedStore":
        """Return the lists of two open files, of int32 and of float32, without reading them."""
        maps = [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for file in (codes, values)]
        return cls(
            np.frombuffer(maps[0], np.int32),
            np.frombuffer(maps[1], np.float32),
            counts,
            is_listed,
            np.arange(classes),
            maps,
        )

    @property
    def classes(self) -> int:
        """Return K."""
        return len(self._place)

    @property
    def longest(self) -> int:
        """Return how many classes a row lists at most."""
        return int(self._counts.max(initial=0))

    def __len__(self) -> int:
        """Return N."""
        return len(self._counts)

    def read(self, rows: Rows) -> NDArray[np.float32]:
        """Return ``(B, K)`` rows."""
        counts, starts = self._counts[rows], self._starts[rows]
        row = np.repeat(np.arange(len(counts)), counts)
        first = np.cumsum(counts) - counts
        at = np.arange(len(row)) + np.repeat(starts - first, counts)
        values = self._values[at]
        # what is no probability is told by whoever checks rows
        listed = np.bincount(row, np.nan_to_num(np.clip(values, 0, 1)), len(counts))
        rest = np.maximum(1 - listed, 0) / np.maximum(self.classes - counts, 1)
        rest[~self.is_listed[rows]] = np.nan
        probs = np.empty((len(counts), self.classes), np.float32)
        probs[:] = rest[:, None]
        probs[row, self._place[self._codes[at]]] = values
        for mapping in self._mappings:
            _let_go(mapping)
        return probs

    def with_columns(self, columns: NDArray[np.int64]) -> "ListedStore":
        """Return the same probabilities with the classes in another order."""
        place = np.empty_like(columns)
        place[columns] = np.arange(len(columns))
        return ListedStore(
            self._codes, self._values, self._counts, self.is_listed, place[self._place],
            self._mappings,
        )  # fmt: skip


class ChosenColumns:
    """The probabilities of some of the classes of a store.

    Args:
        store: ``(N, L)`` of all classes.
        columns: ``(K,)`` which of them.
    """

    def __init__(self, store: ProbabilityStore, columns: NDArray[np.int64]) -> None:
        self._store, self._columns = store, columns

    @property
    def classes(self) -> int:
        """Return K."""
        return len(self._columns)

    def __len__(self) -> int:
        """Return N."""
        return len(self._store)

    def read(self, rows: Rows) -> NDArray[np.float32]:
        """Return ``(B, K)`` rows, read a few at a time where all classes are many more."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        part = np.empty((len(rows), self.classes), np.float32)
        for block in blocks(len(rows), self._store.classes):
            part[block] = self._store.read(rows[block]).take(self._columns, axis=1)
        return part


class MeanStore:
    """The mean of several models' probabilities.

    Args:
        stores: One a model.
        rows: For each, ``(N,)`` which of its rows holds each sample; ``None`` for the same order.
    """

    def __init__(
        self, stores: Sequence[ProbabilityStore], rows: Sequence[NDArray[np.int64] | None]
    ) -> None:
        self._stores, self._rows = stores, rows

    @property
    def classes(self) -> int:
        """Return K."""
        return self._stores[0].classes

    def __len__(self) -> int:
        """Return N."""
        return len(self._stores[0])

    def read(self, rows: Rows) -> NDArray[np.float32]:
        """Return ``(B, K)`` means; in double precision, so that the mean of equals is the same."""
        total: NDArray[np.float64] | float = 0.0
        for store, order in zip(self._stores, self._rows, strict=True):
            total = total + store.read(rows if order is None else order[rows]).astype(np.float64)
        return np.asarray(total / len(self._stores), np.float32)


class NormalizedStore:
    """Probabilities whose rows are divided by their sum where it is off.

    Args:
        store: The probabilities as they came.
        tolerance: How far from 1 a sum may be and the row is left as it is.
    """

    def __init__(self, store: ProbabilityStore, tolerance: float) -> None:
        self._store, self._tolerance = store, tolerance

    @property
    def classes(self) -> int:
        """Return K."""
        return self._store.classes

    def __len__(self) -> int:
        """Return N."""
        return len(self._store)

    def read(self, rows: Rows) -> NDArray[np.float32]:
        """Return ``(B, K)`` rows, as a copy."""
        probs = self._store.read(rows)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            total = probs.sum(axis=1, dtype=np.float64)
            is_off = np.abs(total - 1) > self._tolerance
            probs[is_off] = probs[is_off] / total[is_off, None]
        return probs


def map_file(
    file: IO[bytes], shape: tuple[int, int], kind: np.dtype[np.floating], *, offset: int, order: str
) -> ArrayStore:
    """Return a file's probabilities without reading them.

    Args:
        file: An open file; if others may cut it short, `FileMatrix` is safer.
        shape: N and K.
        kind: The type of a number.
        offset: Bytes before the first.
        order: ``"C"`` if a sample's probabilities lie side by side, ``"F"`` if a class's do.
    """
    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    flat = np.frombuffer(mapping, kind, count=shape[0] * shape[1], offset=offset)
    values = flat.reshape(shape) if order == "C" else flat.reshape(shape[::-1]).T
    return ArrayStore(values, mapping=mapping)


def block_rows(classes: int) -> int:
    """Return how many rows a block has."""
    return max(1, BLOCK_ELEMENTS // max(classes, 1))


def blocks(size: int, classes: int) -> list[slice]:
    """Return the blocks of so many rows, in order."""
    step = block_rows(classes)
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]
