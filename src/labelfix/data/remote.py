"""DATA at an address (``s3://``, ``gs://``, ``hf://`` ...), which is only ever read.

An address travels as a path of `upath`, which joins, lists and opens over fsspec; for the rest of
`labelfix.data` it is a path like any other. What differs is here: telling an address from a path,
what is read of one, single images, and how files are dated.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelfix.arguments import expand_path
from labelfix.data.files import ABSENT, LED_OUT, FileTimes, is_address
from labelfix.errors import DatasetError, LabelfixError, UnreadableSample

PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "memory": "fsspec",
    "file": "fsspec",
}
"""The protocols that are read, and the package that knows each."""

READ_THERE = "Parquet, class folders, or a manifest (.csv .tsv .jsonl .json)"

_ADDRESS = re.compile(rf"({'|'.join(PACKAGES)})://.+")
_VERSIONS = ("ETag", "etag", "md5Hash", "crc32c", "blob_id", "LastModified", "mtime", "updated",
             "created")  # fmt: skip
"""What file systems call that which changes with a file, the surest first."""


def is_remote(path: Any) -> bool:
    """Return whether a path is an address; a `Path` never is."""
    return not isinstance(path, str | os.PathLike) and hasattr(path, "protocol")


def data_path(data: Any) -> Path:
    """Return where data lie, from a path or an address as its user writes it.

    Args:
        data: Text, a path, or an address as this function has returned it.

    Raises:
        ConfigError: It cannot be a path.
        DatasetError: The package is missing that knows such an address.
    """
    if is_remote(data):
        return cast("Path", data)
    found = _ADDRESS.fullmatch(data) if isinstance(data, str) else None
    if found is None:
        return expand_path(data, "data")
    path: Any = path_of_record(data)
    if found[1] == "file":
        return expand_path(path.path, "data")
    try:
        path.fs  # noqa: B018 - says whether the package is there
    except (ImportError, ValueError) as error:
        raise DatasetError(
            f"{data} cannot be read: {found[1]}:// needs the package {PACKAGES[found[1]]}",
            hint=f"pip install {PACKAGES[found[1]]}",
        ) from error
    return cast("Path", path)


def path_of_record(text: str) -> Path:
    """Return where data lie as a report tells it; nothing is opened, nor has to be installed."""
    if not _ADDRESS.fullmatch(text):
        return Path(text)
    from upath import UPath  # noqa: PLC0415 - paths of this machine need none of it

    return cast("Path", UPath(text))


@contextmanager
def opened_parquet(path: Path, **options: Any) -> Iterator[pq.ParquetFile]:
    """Yield an open Parquet file, wherever it lies.

    Args:
        path: The file.
        options: As `pyarrow.parquet.ParquetFile` takes them.
    """
    file = open_parquet(path, **options)
    try:
        yield file
    finally:
        file.close(force=True)


def open_parquet(path: Path, **options: Any) -> pq.ParquetFile:
    """Return an open Parquet file, wherever it lies; to be closed with ``close(force=True)``."""
    return pq.ParquetFile(path.open("rb") if is_remote(path) else path, **options)


def file_times(root: Path, names: list[str]) -> FileTimes:
    """Return sizes and times of files below a folder; at an address, what stands for a time.

    Args:
        root: The folder.
        names: The files, relative to it.
    """
    if is_remote(root):
        files: list[Any] = [root / name for name in names]
        infos = [file.fs.info(file.path) for file in files]
        sizes, times = [int(info["size"]) for info in infos], [*map(_version, infos)]
    else:
        stats = [(root / name).stat() for name in names]
        sizes, times = [stat.st_size for stat in stats], [stat.st_mtime_ns for stat in stats]
    return FileTimes(np.array(sizes, np.int64), np.array(times, np.int64))


def _version(info: dict[str, Any]) -> int:
    """Return a number that changes with a file, from what its file system says of it."""
    told = next(([name, str(info[name])] for name in _VERSIONS if info.get(name)), None)
    digest = hashlib.blake2b(json.dumps(told).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def find_remote(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the files below an address, sorted, relative to it; hidden ones are left out.

    Returns:
        Path to what the file system says of the file.
    """
    system, root = folder.fs, folder.path.rstrip("/")  # type: ignore[attr-defined]
    found = system.find(root, detail=True)
    infos = {str(name)[len(root) :].lstrip("/"): info for name, info in found.items()}
    return {name: infos[name] for name in sorted(infos) if not re.search(r"(^|/)\.", name)}


def times_among(found: Mapping[str, dict[str, Any]], paths: Iterable[str | None]) -> FileTimes:
    """Return sizes and times of some paths among those that `find_remote` found."""
    infos = [None if path is None else found.get(path) for path in paths]
    sizes = [ABSENT if info is None else int(info["size"]) for info in infos]
    times = [ABSENT if info is None else _version(info) for info in infos]
    return FileTimes(np.array(sizes, np.int64), np.array(times, np.int64))


def below(root: Path, paths: pa.StringArray) -> pa.StringArray:
    """Return paths relative to a folder at an address; whole addresses below it are cut."""
    return pc.replace_substring_regex(paths, f"^{re.escape(str(root).rstrip('/'))}/", "")


class RemoteImages:
    """Images in files below an address; a null path is a row without an image.

    Each is a request of its own: images inside Parquet come many at a time.

    Args:
        root: The folder.
        paths: ``(N,)`` Arrow text, relative to ``root``.
    """

    random_access = True

    def __init__(self, root: Path, paths: pa.StringArray) -> None:
        self._root: Any = root
        self._paths = paths

    def __len__(self) -> int:
        """Return N."""
        return len(self._paths)

    def read(self, index: int) -> bytes:
        """Return the bytes of one file.

        Raises:
            UnreadableSample: The row has no path, the file is missing or cannot be read, or it
                lies outside the folder.
        """
        path = self._paths[index].as_py()
        if path is None:
            raise UnreadableSample("no image path is given")
        if path.startswith(("/", "../")) or is_address(path):
            raise UnreadableSample(LED_OUT)
        try:
            data: bytes = self._root.fs.cat_file((self._root / path).path)
        except FileNotFoundError as error:
            raise UnreadableSample("file is missing") from error
        except Exception as error:  # each library has errors of its own
            words = " ".join(str(error).split())[:300] or type(error).__name__
            raise UnreadableSample(f"cannot be read: {words}") from error
        return data

    def location(self, index: int) -> str:
        """Return the address of one file, or "" where none is given."""
        path = self._paths[index].as_py()
        return "" if path is None else f"{self._root}/{path}"


@contextmanager
def explained_remote(path: Path) -> Iterator[None]:
    """Turn what a file system of the network says into an error for a person.

    Raises:
        DatasetError: Data at an address cannot be read.
    """
    try:
        yield
    except LabelfixError:
        raise
    except Exception as error:  # each library has errors of its own
        if not is_remote(path) or isinstance(error, MemoryError):
            raise
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise DatasetError(
            f"{path} cannot be read: {words}",
            hint="check the address and the right to read it; its library takes keys from the "
            "environment, as its own tools do",
        ) from error
