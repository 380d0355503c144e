"""Images inside Parquet files, read a few at a time."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa

from labelfix.data.files import (
    LED_OUT,
    form_on_disk,
    is_address,
    leads_somewhere,
    lies_in,
    read_file,
    read_file_inside,
)
from labelfix.data.remote import is_remote, open_parquet
from labelfix.data.vectors import samples_shown
from labelfix.errors import UnreadableSample
from labelfix.types import (
    DatasetSource,
    LabeledDataset,
    SampleStore,
)
from labelfix.utils.reading import PARQUET_FAULTS


class FileImages:
    """Images in files below one folder; a null path is a row without an image.

    Args:
        root: The folder, absolute.
        paths: ``(N,)`` Arrow binary: the encoded paths, relative to ``root``.
        follow_links: Whether files are read that lie outside ``root``, by a link or by their path.
    """

    random_access = True

    def __init__(self, root: Path, paths: pa.BinaryArray, *, follow_links: bool = False) -> None:
        self._root = root
        self._paths = paths
        self._follow_links = follow_links
        self._inner_folders: dict[str, bool] = {}

    def following_links(self) -> "FileImages":
        """Return the same images, those outside the folder too."""
        return FileImages(self._root, self._paths, follow_links=True)

    def __len__(self) -> int:
        """Return N."""
        return len(self._paths)

    def read(self, index: int) -> bytes:
        """Return the bytes of one file.

        Raises:
            UnreadableSample: The row has no path, the file is missing or cannot be read, or it lies
                outside the folder and links are not followed.
        """
        return read_file(self.file(index))

    def head(self, index: int, count: int) -> bytes:
        """Return the first ``count`` bytes of one file, as `read` does."""
        return read_file(self.file(index), count)

    def file(self, index: int) -> Path:
        """Return the file of one row, which may be missing but lies where it may be read.

        Raises:
            UnreadableSample: The row has no path, or it leads out of the folder.
        """
        path = self._paths[index].as_py()
        if path is None:
            raise UnreadableSample("no image path is given")
        if is_address(os.fsdecode(path)):
            raise UnreadableSample("an address, not a file: download the image first")
        file = self._root / form_on_disk(self._root, os.fsdecode(path))
        if not self._follow_links and not self._is_inside(file) and leads_somewhere(file):
            raise UnreadableSample(LED_OUT)
        return file

    def _is_inside(self, file: Path) -> bool:
        """Return whether a file lies in the folder; each folder below is resolved once."""
        folder = os.path.dirname(file)  # noqa: PTH120 - for millions of files
        is_inside = self._inner_folders.get(folder)
        if is_inside is None:
            is_inside = self._inner_folders[folder] = lies_in(self._root, Path(folder))
        is_plain = file.name != ".." and not os.path.islink(file)  # noqa: PTH114
        return is_inside and (is_plain or lies_in(self._root, file))

    def location(self, index: int) -> str:
        """Return the path of one file, or "" where none is given."""
        path = self._paths[index].as_py()
        if path is None:
            return ""
        return str(self._root / form_on_disk(self._root, os.fsdecode(path)))


def shown_images(dataset: LabeledDataset, *, follow_links: bool) -> SampleStore:
    """Return the images that a page or a review may show.

    Those outside the data set are among them if the audit was to read them, or ``follow_links``.
    """
    images = samples_shown(dataset.store)
    if dataset.source.follow_links:
        return images
    if follow_links:
        return images.following_links() if isinstance(images, FileImages) else images
    return InnerImages(images, dataset.source)


class InnerImages:
    """Images by row, read only where the file itself lies in the data set.

    Args:
        images: The images of the data set.
        source: Where they came from.
    """

    def __init__(self, images: SampleStore, source: DatasetSource) -> None:
        self._images = images
        self._root = _root(source)

    def __len__(self) -> int:
        """Return N."""
        return len(self._images)

    def location(self, index: int) -> str:
        """Return where the image of one row lies."""
        return self._images.location(index)

    def read(self, index: int) -> bytes:
        """Return the encoded image of one row.

        Raises:
            UnreadableSample: There is nothing to read, or it lies outside the data set.
        """
        location = self.location(index)
        if self._root is not None and location and not lies_in(self._root, Path(location)):
            raise UnreadableSample("a link leads out of the data folder; --outside-files shows it")
        return self._images.read(index)


def _root(source: DatasetSource) -> Path | None:
    """Return the folder that files have to lie in; Parquet files look after their own."""
    return source.root.resolve() if source.has_files else None


_BATCH_BYTES = 32 << 20  # decoded images held at a time
_BATCH_ROWS = 1024
_BUFFER_BYTES = 1 << 20  # with pre_buffer off: a stream, else a row group comes into memory whole


class ParquetImages:
    """Images in a column of one or more Parquet files.

    Reading in rising order costs one pass. Going back, or to another row group, starts again at
    the beginning of that row group: reading in random order from large row groups is slow. About
    32 MiB of images are held at a time, and one data page, which in files that Arrow wrote may be
    1,024 images. Threads wait for each other.

    Args:
        root: The folder of the files, absolute.
        shards: The files relative to ``root``, in order.
        rows: The number of rows of each.
        column: The column: binary, or records of ``bytes`` and ``path``, where a path is relative
            to the file's folder.
        follow_links: Whether such a path may lead out of that folder.
    """

    def __init__(
        self,
        root: Path,
        shards: Sequence[str],
        rows: Sequence[int],
        column: str,
        *,
        follow_links: bool = False,
    ) -> None:
        self._root = root
        self._follow_links = follow_links
        self._shards = tuple(shards)
        self._ends = np.cumsum(rows, dtype=np.int64)
        self._column = column
        self._open: _ShardReader | None = None
        self._reading = Lock()

    def __len__(self) -> int:
        """Return N."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, object]:
        """Leave the open file behind."""
        return {name: value for name, value in self.__dict__.items() if name != "_reading"} | {
            "_open": None
        }

    def __setstate__(self, state: dict[str, object]) -> None:
        """Take up what `__getstate__` gave."""
        self.__dict__.update(state)
        self._reading = Lock()

    def read(self, index: int) -> bytes:
        """Return the encoded image of one row.

        Raises:
            UnreadableSample: The cell is empty, or this part of the file is damaged.
        """
        shard, row = self._find(index)
        path = self._root / self._shards[shard]
        with self._reading:
            cell = self._reader(path).value(row)
        return image_of_cell(cell, path.parent, follow_links=self._follow_links)

    def location(self, index: int) -> str:
        """Return the file and the row in it, counted from 0: ``path/to/file.parquet:17``."""
        shard, row = self._find(index)
        return f"{self._root / self._shards[shard]}:{row}"

    def _reader(self, path: Path) -> "_ShardReader":
        if self._open is None or self._open.path != path:
            if self._open is not None:
                self._open.close()
            self._open = None
            self._open = _ShardReader(path, self._column)
        return self._open

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return shard, index - (int(self._ends[shard - 1]) if shard else 0)


def image_of_cell(cell: pa.Scalar, folder: Path, *, follow_links: bool) -> bytes:
    """Return the image in a cell of bytes or of ``{bytes, path}``.

    Args:
        cell: The cell.
        folder: What its path is relative to.
        follow_links: Whether the path may lead out of it.

    Raises:
        UnreadableSample: The cell is empty, or the file that it names cannot be read.
    """
    try:
        value = cell
        if pa.types.is_struct(cell.type) and cell.is_valid:
            held = dict(cell.items())
            value = held.get("bytes")
            inside = held.get("path")
            if (value is None or not value.is_valid) and inside is not None and inside.is_valid:
                if is_remote(folder):
                    raise UnreadableSample("the image is a file beside Parquet at an address")
                return read_file_inside(folder, str(inside.as_py()), follow_links=follow_links)
        data = None if value is None else value.as_py()
    except PARQUET_FAULTS as error:
        raise UnreadableSample(f"the row is damaged: {error}") from error
    if not isinstance(data, bytes):
        raise UnreadableSample("the row holds no image")
    return data


class _ShardReader:
    """One column of an open Parquet file, batch after batch within a row group.

    Raises:
        UnreadableSample: The file is gone or damaged.
    """

    def __init__(self, path: Path, column: str) -> None:
        self.path = path
        self._column = column
        try:
            self._file = open_parquet(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        except FileNotFoundError as error:
            raise UnreadableSample("file is missing") from error
        except PARQUET_FAULTS as error:
            raise UnreadableSample(f"cannot be read: {error}") from error
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._group_ends = np.cumsum(sizes, dtype=np.int64)
        self._group = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._held = pa.array([], pa.null())
        self._start = self._end = 0
        self._damage: dict[int, tuple[int, str]] = {}  # row group: first lost row, reason

    def close(self) -> None:
        self._file.close(force=True)

    def value(self, row: int) -> pa.Scalar:
        """Return one cell.

        Raises:
            UnreadableSample: The file is damaged here.
        """
        if not self._start <= row < self._end:
            self._seek(row)
        return self._held[row - self._start]

    def _seek(self, row: int) -> None:
        group = int(np.searchsorted(self._group_ends, row, side="right"))
        first_lost, reason = self._damage.get(group, (row + 1, ""))
        if row >= first_lost:
            raise UnreadableSample(reason)
        try:
            if group != self._group or row < self._start:
                self._begin(group)
            while row >= self._end:
                batch = next(self._batches)
                self._held = batch.column(0)
                self._start, self._end = self._end, self._end + len(batch)
        except (*PARQUET_FAULTS, StopIteration) as error:
            reason = f"cannot be read from the Parquet file: {error}"
            self._damage[group] = (self._end, reason)
            self._group = -1
            raise UnreadableSample(reason) from error

    def _begin(self, group: int) -> None:
        part = self._file.metadata.row_group(group)
        # of all columns: what is said of one column may be damaged, and then ends the process
        per_image = max(1, part.total_byte_size // max(1, part.num_rows))
        self._batches = self._file.iter_batches(
            batch_size=int(np.clip(_BATCH_BYTES // per_image, 1, _BATCH_ROWS)),
            row_groups=[group],
            columns=[self._column],
            use_threads=False,
        )
        self._group = group
        self._start = self._end = int(self._group_ends[group]) - part.num_rows
        self._held = pa.array([], pa.null())
