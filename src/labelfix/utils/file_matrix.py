"""A matrix in a file of the user's, whose rows are read when they are asked for.

A file that is mapped ends the process without a word (SIGBUS) if somebody cuts it short meanwhile;
one that is read says so. Files that only labelfix knows may be mapped.

Letters: N rows, D columns.
"""

import io
import os
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.errors import DatasetError

_GAP = 1024  # bytes between two rows that are read along: cheaper than asking the system again
_AHEAD = 1 << 16  # bytes that are read at once where rows are asked for one by one


class FileMatrix:
    """``(N, D)`` numbers of one type in a file, row after row.

    It may be pickled: a copy opens the file again. Reading is safe from several threads.

    Args:
        path: The file.
        shape: N and D.
        dtype: The type of a number.
        offset: Bytes before the first.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int], dtype: np.dtype[Any], *, offset: int
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._path, self._offset = path, offset
        self._open()

    def _open(self) -> None:
        self._file = io.FileIO(self._path)
        self._lock = Lock()
        self._ahead: tuple[int, NDArray[Any]] = (0, np.empty((0, self.shape[1]), self.dtype))

    def __del__(self) -> None:
        """Close the file."""
        if hasattr(self, "_file"):
            self._file.close()

    def __getstate__(self) -> tuple[Any, ...]:
        """Return all but the open file."""
        return self._path, self.shape, self.dtype, self._offset

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Open the file again."""
        self._path, self.shape, self.dtype, self._offset = state
        self._open()

    def __len__(self) -> int:
        """Return N."""
        return self.shape[0]

    def __getitem__(self, rows: int | slice | NDArray[np.int64]) -> NDArray[Any]:
        """Return the numbers of a row, or ``(B, D)`` of some rows.

        Raises:
            DatasetError: The file is shorter now than it was.
        """
        if isinstance(rows, int):
            return self._row(range(len(self))[rows])
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._read(start, max(stop, start))
            rows = np.arange(start, stop, step)
        return self._rows(rows)

    def _row(self, row: int) -> NDArray[Any]:
        """Return one row, with those behind it read for whoever asks next."""
        first, block = self._ahead
        if not first <= row < first + len(block):
            count = max(1, _AHEAD // max(1, self.shape[1] * self.dtype.itemsize))
            first = row // count * count
            block = self._read(first, min(first + count, len(self)))
            self._ahead = (first, block)
        found: NDArray[Any] = block[row - first]
        return found

    def _rows(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        if (np.diff(rows) <= 0).any():
            rows, places = np.unique(rows, return_inverse=True)
            return self._rows(rows)[places]
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        for span in _spans(rows, self.shape[1] * self.dtype.itemsize):
            first, last = int(rows[span.start]), int(rows[span.stop - 1])
            found[span] = self._read(first, last + 1)[rows[span] - first]
        return found

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the rows from one on to another."""
        found = np.empty((stop - start, self.shape[1]), self.dtype)
        left: Any = memoryview(found.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        with self._lock:
            self._file.seek(self._offset + start * self.shape[1] * self.dtype.itemsize)
            while len(left):
                read = self._file.readinto(left)
                if not read:
                    raise DatasetError(
                        f"{self._path} was cut short while it was read: it has "
                        f"{os.fstat(self._file.fileno()).st_size:,} bytes now",
                        hint="write the file again, and repeat the command",
                    )
                left = left[read:]
        return found


def _spans(rows: NDArray[np.int64], row_bytes: int) -> list[slice]:
    """Return which of some ascending rows are read at once, with what lies between them."""
    ends = np.flatnonzero((np.diff(rows) - 1) * row_bytes > _GAP) + 1
    bounds = [0, *ends.tolist(), len(rows)]
    return [slice(start, stop) for start, stop in pairwise(bounds) if stop > start]
