"""Image files by path: find them, know them by size and time without reading them, read them.

Relative paths are held as bytes in Arrow arrays (``os.fsencode``), so that names that are no valid
UTF-8 survive and five million paths stay small.
"""

import hashlib
import os
import posixpath
import stat
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.errors import DatasetError, UnreadableImage
from labelfix.records import OnProgress, Progress

ABSENT = -1
"""The size and time of a file that is not there."""

_CHUNK = 1 << 14
_IGNORED = frozenset({b"thumbs.db", b"desktop.ini", b"__macosx", b"@eadir"})


@dataclass(frozen=True, slots=True, eq=False)
class FileTimes:
    """What a file system says of n files: ``size`` in bytes and ``modified`` in ns, or ``ABSENT``.

    Args:
        size: ``(n,)`` int64.
        modified: ``(n,)`` int64.
    """

    size: NDArray[np.int64]
    modified: NDArray[np.int64]


class FileImages:
    """Images in files below one folder; a null path is a row without an image.

    Args:
        root: The folder, absolute.
        paths: ``(N,)`` Arrow binary: the encoded paths, relative to ``root``.
    """

    def __init__(self, root: Path, paths: pa.BinaryArray) -> None:
        self._root = root
        self._paths = paths

    def __len__(self) -> int:
        """Return N."""
        return len(self._paths)

    def read(self, index: int) -> bytes:
        """Return the bytes of one file.

        Raises:
            UnreadableImage: The row has no path, or the file is missing or cannot be read.
        """
        path = self._paths[index].as_py()
        if path is None:
            raise UnreadableImage("no image path is given")
        return read_file(self._root / os.fsdecode(path))

    def location(self, index: int) -> str:
        """Return the path of one file, or "" where none is given."""
        path = self._paths[index].as_py()
        return "" if path is None else str(self._root / os.fsdecode(path))


def read_file(path: Path) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        UnreadableImage: It is missing, is no regular file, or cannot be read.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            path.stat()
            raise UnreadableImage("not a regular file")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UnreadableImage("file is missing") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UnreadableImage(f"cannot be read: {reason}") from error


def read_file_inside(root: Path, path: str) -> bytes:
    """Return the bytes of a regular file by its path relative to ``root``, where it has to lie.

    Raises:
        UnreadableImage: The path leads out of ``root``, or the file cannot be read.
    """
    found = _Guard(root).look_up(normal_path(root, path))
    if found is None:
        raise UnreadableImage("leads out of the data folder")
    return read_file(Path(found.place))


def normal_path(root: Path, path: str) -> str:
    """Return a path without ``.``, ``..`` and ``//``, relative to ``root`` if it lies there."""
    path = posixpath.normpath(path)
    for base in (root.as_posix(), root.resolve().as_posix()):
        if path.startswith(base + "/"):
            return path[len(base) + 1 :]
    return path


def normal_paths(root: Path, paths: pa.StringArray) -> pa.StringArray:
    """Return ``normal_path`` of each path; null stays null."""
    is_odd = pc.match_substring_regex(paths, r"^/|(?:^|/)\.{1,2}(?:/|$)|//|/$")
    odd = np.flatnonzero(pc.fill_null(is_odd, False).to_numpy(zero_copy_only=False))
    if not odd.size:
        return paths
    values = paths.to_pylist()
    for row in odd.tolist():
        values[row] = normal_path(root, values[row])
    return pa.array(values, pa.string())


def find_files(root: Path, on_progress: OnProgress) -> tuple[pa.BinaryArray, FileTimes]:
    """List the files below a folder: their relative paths, sorted, with sizes and times.

    Links are followed, but not a link to a folder that holds it. A link that leads nowhere is
    listed as ``ABSENT``. Hidden files and the litter of file managers are left out, and so is what
    is neither file nor folder.

    Raises:
        DatasetError: A folder cannot be listed.
    """
    chunks: list[pa.BinaryArray] = []
    names: list[bytes] = []
    size, modified = array("q"), array("q")
    for path, entry in _walk(root):
        names.append(path)
        _append_times(_status(entry), size, modified)
        if len(names) == _CHUNK:
            chunks.append(pa.array(names, pa.binary()))
            names = []
            on_progress(Progress("finding files", len(size), None, "files"))
    chunks.append(pa.array(names, pa.binary()))
    paths = pa.concat_arrays(chunks)
    order = pc.sort_indices(paths)
    rank = order.to_numpy()
    times = FileTimes(_as_int64(size)[rank], _as_int64(modified)[rank])
    on_progress(Progress("finding files", len(rank), len(rank), "files"))
    return paths.take(order), times


def stat_files(
    root: Path, paths: pa.StringArray, on_progress: OnProgress
) -> tuple[FileTimes, list[int]]:
    """Look up files by their normal paths relative to ``root``, without following them out of it.

    Returns:
        Sizes and times, and the rows whose path or link leads out of ``root``, which are ``ABSENT``
        like the missing ones.
    """
    size, modified = array("q"), array("q")
    escaped: list[int] = []
    guard = _Guard(root)
    total = len(paths)
    for start in range(0, total, _CHUNK):
        for row, path in enumerate(paths.slice(start, _CHUNK).to_pylist(), start):
            found = _NOTHING if path is None else guard.look_up(path)
            if found is None:
                escaped.append(row)
            _append_times(found and found.status, size, modified)
        on_progress(Progress("checking files", len(size), total, "files"))
    return FileTimes(_as_int64(size), _as_int64(modified)), escaped


class _Found(NamedTuple):
    place: str
    status: os.stat_result | None  # None: nothing is there


_NOTHING = _Found("", None)


class _Guard:
    """Tells paths inside a folder from those that lead out; resolves each parent folder once."""

    def __init__(self, root: Path) -> None:
        self._prefix = f"{root}/"
        self._real = root.resolve()
        self._is_inside: dict[str, bool] = {"": True}

    def look_up(self, path: str) -> _Found | None:
        """Return what lies at a path relative to the folder, or ``None`` if that is outside."""
        if path.startswith(("/", "../")) or path == "..":
            return None
        place = self._prefix + path
        parent = path.rpartition("/")[0]
        is_inside = self._is_inside.get(parent)
        if is_inside is None:
            is_inside = self._is_inside[parent] = self._holds(self._prefix + parent)
        if not is_inside:
            return None
        try:  # one call to the system for each of millions of files, hence no Path
            status = os.lstat(place)
            if stat.S_ISLNK(status.st_mode):
                if not self._holds(place):
                    return None
                status = os.stat(place)  # noqa: PTH116
        except (OSError, ValueError):
            return _Found(place, None)
        return _Found(place, status)

    def _holds(self, place: str) -> bool:
        try:
            return Path(place).resolve().is_relative_to(self._real)
        except (OSError, RuntimeError, ValueError):  # a loop of links: missing, not outside
            return True


def fingerprint(paths: pa.Array, times: FileTimes, *, extra: bytes = b"") -> str:
    """Return a digest of files in their order: relative paths, sizes and times, no contents.

    Args:
        paths: ``(n,)`` Arrow text or binary.
        times: Their sizes and times.
        extra: Whatever else tells the images apart.
    """
    names = paths.cast(pa.binary())
    lengths = pc.fill_null(pc.binary_length(names), ABSENT).to_numpy().astype("<i8")
    digest = hashlib.blake2b(extra, digest_size=16)
    for values in (lengths, times.size.astype("<i8"), times.modified.astype("<i8")):
        digest.update(values.tobytes())
    for start in range(0, len(names), _CHUNK):
        digest.update(b"".join(filter(None, names.slice(start, _CHUNK).to_pylist())))
    return digest.hexdigest()


def text_of_paths(paths: pa.BinaryArray) -> pa.StringArray:
    r"""Return paths as text; bytes that are no UTF-8 are written as ``\xNN``."""
    try:
        return paths.cast(pa.string())
    except pa.ArrowInvalid:
        readable = [path.decode("utf-8", "backslashreplace") for path in paths.to_pylist()]
        return pa.array(readable, pa.string())


def _walk(root: Path) -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
    """Yield the relative path and the entry of each file below ``root``, in no order."""
    place = root.resolve()
    above = frozenset(_identity(folder) for folder in (place, *place.parents))
    waiting = [(os.fsencode(root), b"", above)]
    while waiting:
        folder, prefix, above = waiting.pop()
        for entry in _list_folder(folder):
            if _is_ignored(entry.name):
                continue
            path = prefix + entry.name
            if not _holds(entry.is_dir):
                if _holds(entry.is_file) or entry.is_symlink():
                    yield path, entry
            elif (here := _identity(Path(os.fsdecode(entry.path)))) not in above:
                waiting.append((entry.path, path + b"/", above | {here}))


def _list_folder(folder: bytes) -> Iterator[os.DirEntry[bytes]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise DatasetError(
            f"cannot list the folder {os.fsdecode(folder)}: {error.strerror}",
            hint="make the folder readable, or move it out of the data set",
        ) from error


def _is_ignored(name: bytes) -> bool:
    return name.startswith(b".") or name.lower() in _IGNORED


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a link to itself is neither file nor folder
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _status(entry: os.DirEntry[bytes]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:
        return None


def _append_times(
    status: os.stat_result | None, size: "array[int]", modified: "array[int]"
) -> None:
    size.append(ABSENT if status is None else status.st_size)
    modified.append(ABSENT if status is None else status.st_mtime_ns)


def _as_int64(values: "array[int]") -> NDArray[np.int64]:
    return np.frombuffer(values, dtype=np.int64) if values else np.empty(0, dtype=np.int64)
