"""Image files by path: find them, know them by size and time without reading them, read them.

Relative paths are held as bytes in Arrow arrays (``os.fsencode``), so that names that are no valid
UTF-8 survive and five million paths stay small.
"""

import hashlib
import os
import posixpath
import re
import stat
import unicodedata
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.errors import DatasetError, UnreadableSample
from labelfix.types import Assumption
from labelfix.utils.progress import OnProgress, Progress

ABSENT = -1
"""The size and time of a file that is not there."""

LED_OUT = "leads out of the data folder; an audit with --outside-files reads it"
"""Why an image outside DATA is not read."""

IMAGE_ENDINGS = frozenset({
    "jpg", "jpeg", "jfif", "png", "gif", "bmp", "webp", "tif", "tiff", "pbm", "pgm", "pnm", "ppm",
    "avif", "heic", "heif", "jp2", "j2k", "ico", "tga",
})  # fmt: skip
"""How the names of image files end. Pillow's own list also has films, documents and fonts."""

MOST = 0.5
"""The share of the samples that may lie outside DATA; if more do, the user is asked."""

_CHUNK = 1 << 14
_OWN: Mapping[str, tuple[bytes, ...]] = {
    "run.json": (b'"fingerprint"', b'"noise_rate"', b'"labelfix"'),
    "unfinished.json": (b'"fingerprint"', b'"config"'),
    "CACHEDIR.TAG": (b"Signature: 8a477f597d28d172789f06886806bc55", b"labelfix"),
}
"""Files that labelfix writes into runs and caches, and what they hold."""

_OWN_NAMES = frozenset(map(os.fsencode, _OWN))
_OWN_BYTES = 1 << 20
_ADDRESS = re.compile(
    r"(?i)(?:(?:https?|ftp|s3|s3a|gs|gcs|hf|az|abfss?|wasbs?|hdfs):/|data:[a-z]*/?[^/]*[;,])"
)
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}\Z")
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


def form_on_disk(root: str | Path, path: str) -> str:
    """Return a path in the Unicode form in which it is there, or as it is if it is nowhere.

    One file system writes an accent into its letter (NFC), another behind it (NFD), and archives
    carry both to where they do not mean the same.
    """
    if path.isascii() or os.path.lexists(os.path.join(root, path)):  # noqa: PTH118
        return path
    place, found = str(root), []
    for part in path.split("/"):
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        there = (form for form in forms if os.path.lexists(f"{place}/{form}"))
        name = next(there, None)
        if name is None:
            return path
        found.append(name)
        place = f"{place}/{name}"
    return "/".join(found)


def read_file(path: Path, count: int = -1) -> bytes:
    """Return the bytes of a regular file, the first ``count`` of them, or all.

    Raises:
        UnreadableSample: It is missing, is no regular file, or cannot be read.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            path.stat()
            raise UnreadableSample("not a regular file")
        with path.open("rb") as file:
            return file.read(count)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UnreadableSample("file is missing") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UnreadableSample(f"cannot be read: {reason}") from error


def read_file_inside(root: Path, path: str, *, follow_links: bool = False) -> bytes:
    """Return the bytes of a regular file by its path relative to ``root``, where it has to lie.

    Args:
        root: The folder.
        path: The file, relative to it.
        follow_links: Whether it may lie elsewhere.

    Raises:
        UnreadableSample: The path leads out of ``root``, or the file cannot be read.
    """
    found = _Guard(root, follow_links=follow_links).look_up(normal_path(root, path))
    if found is None:
        raise UnreadableSample(LED_OUT)
    return read_file(Path(found.place))


def lies_in(root: Path, file: Path) -> bool:
    """Return whether a path lies in a folder, or is it, once all links are followed.

    A loop of links, which leads nowhere, does.
    """
    try:  # realpath never raises for a loop, unlike Path.resolve
        real, top = os.path.realpath(file), os.path.realpath(root)
    except (OSError, ValueError):  # a name with a null byte
        return True
    return real == top or real.startswith(top.rstrip(os.sep) + os.sep)


def leads_somewhere(file: Path) -> bool:
    """Return whether a file is there; a link that leads nowhere, or in a circle, is not."""
    try:
        return file.exists()
    except (OSError, ValueError):
        return False


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


@dataclass(frozen=True, slots=True, eq=False)
class LinksOut:
    """Links in a folder that lead out of it and were not followed.

    Args:
        files: ``(n,)`` bool: the path is such a link, to a file or to a folder.
        folders: Which of them lead to folders, by their relative paths.
    """

    files: NDArray[np.bool_]
    folders: frozenset[bytes] = frozenset()


def find_files(
    root: Path,
    on_progress: OnProgress,
    left_out: list[str] | None = None,
    *,
    follow_links: bool = False,
) -> tuple[pa.BinaryArray, FileTimes, LinksOut]:
    """List the files below a folder: their relative paths, sorted, with sizes and times.

    Links inside the folder are followed, but not a link to a folder that holds it. A link that
    leads nowhere is listed as ``ABSENT``, and so is one that leads out of ``root``. Hidden files
    and the litter of file managers are left out, and so is what is neither file nor folder, and
    what labelfix itself has written: runs and caches.

    Args:
        root: The folder.
        on_progress: Told how many files were found.
        left_out: Takes the relative paths of the runs and caches.
        follow_links: Whether to follow links out of it, too.

    Raises:
        DatasetError: A folder cannot be listed, or ``root`` itself is a run or a cache.
    """
    if is_own_folder(root):
        raise DatasetError(
            f"{root} is no data set: labelfix wrote it itself (a run or a cache)",
            hint="give the data set that was audited",
        )
    chunks: list[pa.BinaryArray] = []
    names: list[bytes] = []
    outer_rows: list[int] = []
    outer_folders: set[bytes] = set()
    size, modified = array("q"), array("q")
    for path, entry, leads_out in _walk(
        root, [] if left_out is None else left_out, follow_links=follow_links
    ):
        if leads_out:
            outer_rows.append(len(size))
            if _holds(entry.is_dir):
                outer_folders.add(path)
        names.append(path)
        _append_times(None if leads_out else _status(entry), size, modified)
        if len(names) == _CHUNK:
            chunks.append(pa.array(names, pa.binary()))
            names = []
            on_progress(Progress("finding files", len(size), None, "files"))
    chunks.append(pa.array(names, pa.binary()))
    paths = pa.concat_arrays(chunks)
    order = pc.sort_indices(paths)
    rank = order.to_numpy()
    times = FileTimes(_as_int64(size)[rank], _as_int64(modified)[rank])
    is_outside = np.zeros(len(rank), np.bool_)
    is_outside[outer_rows] = True
    on_progress(Progress("finding files", len(rank), len(rank), "files"))
    return paths.take(order), times, LinksOut(is_outside[rank], frozenset(outer_folders))


def links_not_followed(where: Path, samples: pa.StringArray, count: int) -> tuple[Assumption, ...]:
    """Return what to say of samples whose images lie outside the data, and are not read.

    Args:
        where: The data set.
        samples: The paths of those samples.
        count: N.

    Raises:
        DatasetError: They are most of the samples.
    """
    outside = len(samples)
    if not outside:
        return ()
    some = ", ".join(repr(path) for path in samples[:3].to_pylist())
    if outside > count * MOST:
        raise DatasetError(
            f"{outside:,} of the {count:,} images of {where} lie outside its folder, where links "
            f"or paths lead: {some}",
            hint="are they to be read, and copied by exports? If so, add --outside-files; if not, "
            "copy into the folder what belongs to the data",
        )
    verb = "image was not read as it lies" if outside == 1 else "images were not read as they lie"
    text = (
        f"{outside:,} {verb} outside the data folder, where links or paths lead ({some}); "
        "--outside-files decides otherwise"
    )
    return (Assumption("files", text),)


def refuse_outer_shards(root: Path, links: pa.StringArray) -> None:
    """Refuse to leave out shards that are links out of the data folder.

    Raises:
        DatasetError: There is one.
    """
    endings = (".parquet", ".arrow", ".tar", ".json", ".jsonl", ".csv")
    outer = [path for path in links.to_pylist() if path.lower().endswith(endings)]
    if outer:
        raise DatasetError(
            f"{len(outer)} of the files in {root} are links that lead out of it: "
            f"{', '.join(outer[:3])}",
            hint="are they to be read? If so, add --outside-files; if not, take them out",
        )


def stat_files(
    root: Path, paths: pa.StringArray, on_progress: OnProgress, *, follow_links: bool = False
) -> tuple[FileTimes, list[int]]:
    """Look up files by their normal paths relative to ``root``, not outside it unless told to.

    Returns:
        Sizes and times, and the rows whose path or link leads out of ``root``, which are ``ABSENT``
        like the missing ones.
    """
    size, modified = array("q"), array("q")
    escaped: list[int] = []
    guard = _Guard(root, follow_links=follow_links)
    total = len(paths)
    for start in range(0, total, _CHUNK):
        for row, path in enumerate(paths.slice(start, _CHUNK).to_pylist(), start):
            found = _NOTHING if path is None else guard.look_up(path)
            if found is None:
                escaped.append(row)
            _append_times(found and found.status, size, modified)
        on_progress(Progress("checking files", len(size), total, "files"))
    return FileTimes(_as_int64(size), _as_int64(modified)), escaped


def is_address(path: str) -> bool:
    """Return whether a path is an address of the network, such as ``s3://bucket/a.jpg``."""
    return _ADDRESS.match(path) is not None


def mended_paths(
    root: Path, paths: pa.StringArray, times: FileTimes, *, follow_links: bool = False
) -> tuple[pa.StringArray, FileTimes, tuple[Assumption, ...]]:
    """Find missing files under the name that was probably meant, and say so.

    Backslashes are taken as slashes; a name of another case, or without an ending, as that of the
    one file in its folder that it fits.

    Args:
        root: The folder that the paths are relative to.
        paths: Normal paths, null where there is none.
        times: What was found there.
        follow_links: Whether they may lead out of the folder.

    Returns:
        The paths, what is there, and what was taken for granted.
    """
    missing = np.flatnonzero(times.size == ABSENT).tolist()
    if not missing:
        return paths, times, ()
    finder = _Finder(root, follow_links=follow_links)
    found: dict[int, str] = {}
    examples: dict[str, tuple[str, str]] = {}
    counts: dict[str, int] = {}
    for row in missing:
        path = paths[row].as_py()
        mended = None if path is None else finder.find(path)
        if mended is not None:
            found[row], how = mended
            counts[how] = counts.get(how, 0) + 1
            examples.setdefault(how, (path, found[row]))
    if not found:
        return paths, times, ()
    values = paths.to_pylist()
    for row, path in found.items():
        values[row] = path
    rows = np.array(list(found), np.int64)
    meant = pa.array(list(found.values()), pa.string())
    new, _ = stat_files(root, meant, lambda _: None, follow_links=follow_links)
    size, modified = times.size.copy(), times.modified.copy()
    size[rows], modified[rows] = new.size, new.modified
    said = tuple(
        Assumption(
            "files",
            f"{counts[how]:,} image paths {how}, such as {old!r} as {new_path!r}; "
            "write the paths of the files to be sure",
        )
        for how, (old, new_path) in examples.items()
    )
    return pa.array(values, pa.string()), FileTimes(size, modified), said


class _Finder:
    """Finds the file that a path which leads nowhere was probably meant for."""

    def __init__(self, root: Path, *, follow_links: bool) -> None:
        self._root = root
        self._guard = _Guard(root, follow_links=follow_links)
        self._listed: dict[str, tuple[dict[str, list[str]], dict[str, list[str]]]] = {}

    def find(self, path: str) -> tuple[str, str] | None:
        """Return the path that was meant and how it was found, ``None`` if there is none."""
        if "\\" in path:
            slashed = normal_path(self._root, path.replace("\\", "/"))
            if self._is_there(slashed):
                return slashed, "with backslashes were taken with slashes"
            path = slashed
        folder, _, name = path.rpartition("/")
        by_stem, by_case = self._names_in(folder)
        if not _ENDING.search(name) and len(by_stem.get(name, ())) == 1:
            return posixpath.join(folder, by_stem[name][0]), "without an ending were completed"
        alike = by_case.get(name.casefold(), ())
        if len(alike) == 1:
            return posixpath.join(folder, alike[0]), "were found in another case"
        return None

    def _is_there(self, path: str) -> bool:
        found = self._guard.look_up(path)
        return found is not None and found.status is not None

    def _names_in(self, folder: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Return the files of a folder inside the root, by stem and by name in lower case."""
        if folder not in self._listed:
            by_stem: dict[str, list[str]] = {}
            by_case: dict[str, list[str]] = {}
            for name in self._list(folder):
                by_case.setdefault(name.casefold(), []).append(name)
                ending = _ENDING.search(name)
                if ending:
                    by_stem.setdefault(name[: ending.start()], []).append(name)
            self._listed[folder] = by_stem, by_case
        return self._listed[folder]

    def _list(self, folder: str) -> list[str]:
        if folder and not self._is_there(folder):
            return []
        try:
            with os.scandir(self._root / folder) as entries:
                return [
                    entry.name
                    for entry in entries
                    if _holds(entry.is_file) and entry.name.isprintable()
                ]
        except (OSError, ValueError):
            return []


class _Found(NamedTuple):
    place: str
    status: os.stat_result | None  # None: nothing is there


_NOTHING = _Found("", None)


class _Guard:
    """Tells paths inside a folder from those that lead out; resolves each parent folder once."""

    def __init__(self, root: Path, *, follow_links: bool = False) -> None:
        self._prefix = f"{root}/"
        self._real = root.resolve()
        self._is_inside: dict[str, bool] = {"": True}
        self._follow_links = follow_links

    def look_up(self, path: str) -> _Found | None:
        """Return what lies at a path relative to the folder, or ``None`` if that is outside."""
        found = self._look_up(path)
        if path.isascii() or found is None or found.status is not None:
            return found
        return self._look_up(form_on_disk(self._prefix, path))

    def _look_up(self, path: str) -> _Found | None:
        if self._follow_links:
            return self._look_anywhere(path)
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
                status = os.stat(place)  # noqa: PTH116
                if not self._holds(place):
                    return None
        except (OSError, ValueError):
            return _Found(place, None)
        return _Found(place, status)

    def _look_anywhere(self, path: str) -> _Found:
        place = path if path.startswith("/") else self._prefix + path
        try:
            return _Found(place, os.stat(place))  # noqa: PTH116
        except (OSError, ValueError):
            return _Found(place, None)

    def _holds(self, place: str) -> bool:
        return lies_in(self._real, Path(place))


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


def is_own_folder(folder: Path) -> bool:
    """Return whether labelfix has written a folder: a run, finished or not, or a cache."""
    return _is_own(os.fsencode(folder), {name for name in _OWN if (folder / name).is_file()})


def _is_own(folder: bytes, names: Collection[str]) -> bool:
    """Return whether a folder that holds files of these names is a run or a cache.

    Other tools write files of these names too, so that what is in them counts.
    """
    for name in _OWN.keys() & names:
        path = Path(os.fsdecode(folder)) / name
        try:
            if not path.is_file():  # opening a pipe would wait for ever
                continue
            with path.open("rb") as file:
                head = file.read(_OWN_BYTES)
        except OSError:
            continue
        if all(mark in head for mark in _OWN[name]):
            return True
    return False


def _walk(
    root: Path, left_out: list[str], *, follow_links: bool
) -> Iterator[tuple[bytes, os.DirEntry[bytes], bool]]:
    """Yield the relative path and the entry of each file below ``root``, in no order.

    Beside them comes whether it is a link, to a file or a folder, that leads out of ``root``; where
    links are followed there is none. ``left_out`` takes the paths of runs and caches.
    """
    place = root.resolve()
    above = frozenset(_identity(folder) for folder in (place, *place.parents))
    waiting = [(os.fsencode(root), b"", above)]
    while waiting:
        folder, prefix, above = waiting.pop()
        entries = list(_list_folder(folder))
        names = {os.fsdecode(entry.name) for entry in entries if entry.name in _OWN_NAMES}
        if prefix and names and _is_own(folder, names):
            left_out.append(os.fsdecode(prefix[:-1]))
            continue
        for entry in entries:
            if _is_ignored(entry.name):
                continue
            path = prefix + entry.name
            if not follow_links and _leads_out(entry, place):
                if not _is_folder_above(entry, above):
                    yield path, entry, True
            elif not _holds(entry.is_dir):
                if _holds(entry.is_file) or entry.is_symlink():
                    yield path, entry, False
            elif (here := _identity(Path(os.fsdecode(entry.path)))) not in above:
                waiting.append((entry.path, path + b"/", above | {here}))


def _leads_out(entry: os.DirEntry[bytes], root: Path) -> bool:
    """Return whether an entry is a link to a file or folder that is there, but outside ``root``."""
    path = Path(os.fsdecode(entry.path))
    return entry.is_symlink() and not lies_in(root, path) and leads_somewhere(path)


def _is_folder_above(entry: os.DirEntry[bytes], above: frozenset[tuple[int, int]]) -> bool:
    """Return whether a link leads to a folder that holds it: there is nothing new to find."""
    return _holds(entry.is_dir) and _identity(Path(os.fsdecode(entry.path))) in above


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


def has_ignored_part(path: str) -> bool:
    """Return whether a file, or a folder above it, is hidden or the litter of a file manager."""
    parts = path.split("/")
    return any(_is_ignored(part.encode()) for part in parts if part not in ("", ".", ".."))


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
