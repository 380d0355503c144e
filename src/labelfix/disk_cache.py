"""Arrays over all samples that are computed once, row by row, and kept on disk.

Letters: N samples.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import DTypeLike, NDArray

from labelfix.errors import RunError
from labelfix.files import atomic_path, make_folder

_REASONS = "unreadable.json"
_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# This file says that labelfix keeps a cache here: see https://bford.info/cachedir/
"""


@dataclass(frozen=True, slots=True)
class Column:
    """One array over all samples.

    Args:
        dtype: Of its entries.
        shape: Of the whole array; its first side is N.
    """

    dtype: DTypeLike
    shape: tuple[int, ...]


def default_cache() -> Path:
    """Return where features and pixels are kept when the caller names no place."""
    return Path(platformdirs.user_cache_dir("labelfix"))


def marked_cache(folder: Path | None) -> Path:
    """Return where features and pixels are kept, marked as a cache if it is a new folder.

    Backups leave out what is marked so, and so does an audit of a folder that holds it. A folder
    that holds something else already is left unmarked.
    """
    cache = folder or default_cache()
    with suppress(OSError, RunError):  # who writes the arrays says why that cannot be
        if not cache.exists() or not any(cache.iterdir()):
            make_folder(cache)
            with atomic_path(cache / "CACHEDIR.TAG") as draft:
                draft.write_text(_TAG, encoding="ascii")
    return cache


def cache_key(*parts: Any) -> str:
    """Return a name for what was made from ``parts``, which are values that JSON can hold."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def fill_once(
    folder: Path,
    columns: Callable[[], Mapping[str, Column]],
    fill: Callable[["Draft"], None],
    *,
    what: str,
) -> None:
    """Make ``folder`` with ``fill``, unless it is there; other processes wait for the first.

    What an interrupted ``fill`` marked as done lies in ``folder.partial``; the next one gets it.

    Args:
        folder: Where the arrays will lie; its parents are made.
        columns: Gives name to form; asked only if there is something to do.
        fill: Writes the rows from ``draft.done`` on.
        what: What the arrays are, for a message.

    Raises:
        RunError: The place cannot be written to, or is full.
    """
    make_folder(folder.parent)
    with FileLock(f"{folder}.lock"):
        if folder.is_dir():
            return
        partial = partial_of(folder)
        try:
            draft = Draft(partial, columns())
            fill(draft)
            draft.finish(folder)
        except OSError as error:
            raise RunError(
                f"cannot write the {what} to {partial}: {error.strerror or error}",
                hint="free some space, or choose another place with --cache",
            ) from error


def partial_of(folder: Path) -> Path:
    """Return where an interrupted ``fill_once`` leaves its work."""
    return folder.with_name(f"{folder.name}.partial")


def read_column(folder: Path, name: str, *, mapped: bool = False) -> NDArray[Any]:
    """Return an array of a finished folder; ``mapped`` leaves it on disk until it is looked at."""
    array: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r" if mapped else None)
    return array


def read_unreadable(folder: Path) -> dict[int, str]:
    """Return row to reason, for the samples of a finished folder that could not be read."""
    return _reasons(json.loads((folder / _REASONS).read_text(encoding="utf-8")))


class Draft:
    """Half-computed arrays on disk, of full length, and how many rows are done.

    Args:
        folder: Where they lie. If it holds marked work, that is kept; else it is made anew.
        columns: Name to form.

    Attributes:
        arrays: Name to array, mapped from disk, to write to.
        done: Rows that an earlier process finished.
        unreadable: Row to reason, to add to.
    """

    def __init__(self, folder: Path, columns: Mapping[str, Column]) -> None:
        self._folder = folder
        self._marker = folder / "done.json"
        self.done, self.unreadable = 0, dict[int, str]()
        state = _read_state(self._marker)
        if state is not None and all(
            _is_whole(self._file(name), columns[name]) for name in columns
        ):
            self.done, self.unreadable = state
            self.arrays = self._map(columns, "r+")
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.arrays = self._map(columns, "w+")
        try:
            for name in columns:
                _reserve(self._file(name))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def mark(self, done: int) -> None:
        """Make the first ``done`` rows safe: a later run goes on after them."""
        self._flush()
        with atomic_path(self._marker) as path:
            state = {"done": done, "unreadable": self.unreadable}
            path.write_text(json.dumps(state), encoding="utf-8")

    def finish(self, folder: Path) -> None:
        """Give the whole folder its final name."""
        self._flush()
        reasons = json.dumps(self.unreadable, ensure_ascii=False)
        (self._folder / _REASONS).write_text(reasons, encoding="utf-8")
        self._marker.unlink(missing_ok=True)
        self._folder.replace(folder)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.npy"

    def _map(self, columns: Mapping[str, Column], mode: Any) -> dict[str, np.memmap[Any, Any]]:
        return {
            name: np.lib.format.open_memmap(
                self._file(name), mode=mode, dtype=column.dtype, shape=column.shape
            )
            for name, column in columns.items()
        }

    def _flush(self) -> None:
        for array in self.arrays.values():
            array.flush()


def _is_whole(path: Path, column: Column) -> bool:
    """Return whether a file holds the column; one cut short would be mapped as if it held zeros."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return False
    return bool(array.shape == column.shape and array.dtype == np.dtype(column.dtype))


def _reserve(path: Path) -> None:
    """Take the space now: a full disk must show as an error, not as a fault in mapped memory."""
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, path.stat().st_size))


def _read_state(marker: Path) -> tuple[int, dict[int, str]] | None:
    try:
        state = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state["done"], _reasons(state["unreadable"])


def _reasons(as_json: Mapping[str, str]) -> dict[int, str]:
    return {int(row): reason for row, reason in as_json.items()}
