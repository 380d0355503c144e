"""Hugging Face data sets as ``save_to_disk`` writes them: folders of Arrow files, mapped from disk.

A ``Dataset`` is a folder with ``state.json`` and ``*.arrow``; a ``DatasetDict`` has one such folder
a split.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.config import DatasetConfig
from labelfix.data.columns import RawSamples
from labelfix.data.parquet import Shards, explained, read_shards
from labelfix.data.stores import image_of_cell
from labelfix.errors import DatasetError, UnreadableSample
from labelfix.types import SampleStore
from labelfix.utils.files import refuse_special_file
from labelfix.utils.progress import OnProgress
from labelfix.utils.reading import PARQUET_FAULTS, parse_json

_STATE, _SPLITS, _INFO = "state.json", "dataset_dict.json", "dataset_info.json"
_HINT = "save it again: datasets.load_from_disk(...).flatten_indices().save_to_disk(...)"


_PEEKED = 8


class ArrowImages:
    """Images in a column of Arrow files, in any order, from any thread.

    Args:
        root: The folder of the files, absolute.
        files: The files relative to ``root``, in order.
        rows: The number of rows of each.
        column: The column: binary, or records of ``bytes`` and ``path``.
        follow_links: Whether such a path may lead out of the file's folder.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        rows: Sequence[int],
        column: str,
        *,
        follow_links: bool,
    ) -> None:
        self._root, self._files, self._column = root, tuple(files), column
        self._ends = np.cumsum(rows, dtype=np.int64)
        self._follow_links = follow_links
        self._opened: dict[int, pa.ChunkedArray] = {}
        self._sizes: dict[int, int] = {}
        self._opening = Lock()

    def __len__(self) -> int:
        """Return N."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapped files behind."""
        left = {name: value for name, value in self.__dict__.items() if name != "_opening"}
        return left | {"_opened": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up what `__getstate__` gave."""
        self.__dict__.update(state)
        self._opening = Lock()

    def read(self, index: int) -> bytes:
        """Return the encoded image of one row.

        Raises:
            UnreadableSample: The cell is empty, or the file is damaged.
        """
        number, row = self._find(index)
        path = self._root / self._files[number]
        try:
            with self._opening:
                if number not in self._opened:
                    self._opened[number] = _column(path, self._column)
                    self._sizes[number] = path.stat().st_size
            if path.stat().st_size < self._sizes[number]:  # its pages would end the process
                raise UnreadableSample("the Arrow file was cut short while it was read")
            cell = self._opened[number][row]
        except FileNotFoundError as error:
            raise UnreadableSample("file is missing") from error
        except PARQUET_FAULTS as error:
            raise UnreadableSample(f"cannot be read from the Arrow file: {error}") from error
        return image_of_cell(cell, path.parent, follow_links=self._follow_links)

    def location(self, index: int) -> str:
        """Return the file and the row in it, counted from 0: ``data-00000-of-00001.arrow:17``."""
        number, row = self._find(index)
        return f"{self._root / self._files[number]}:{row}"

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - (int(self._ends[number - 1]) if number else 0)


class ArrowShards(Shards):
    """Shards of Arrow.

    Args:
        source: The DATA that the user named, absolute.
        names: The files relative to it, in order.
        splits: The split of each.

    Raises:
        DatasetError: One is not Arrow, or is damaged.
    """

    kind = "arrow"

    def __init__(self, source: Path, names: Sequence[str], splits: Sequence[str | None]) -> None:
        schemas, rows = [], []
        for name in names:
            with explained(source / name):
                table = read_arrow(source / name)
                schemas.append(_with_features(table.schema, (source / name).parent / _INFO))
                rows.append(table.num_rows)
                list(map(str, table.schema.names))
        super().__init__(source, source, names, schemas, rows, splits)

    def read(self, shard: int, column: str) -> pa.ChunkedArray:
        """Return a column, or the record that a ``record.field`` is in with that field alone."""
        path = self.root / self.names[shard]
        if column in self.schemas[shard].names:
            return _column(path, column)
        record, _, field = column.rpartition(".")
        values = _column(path, record)
        parts = [
            pa.StructArray.from_arrays([chunk.field(field)], [field], mask=chunk.is_null())
            for chunk in values.chunks
        ]
        kind = pa.struct([values.type.field(field)])
        return pa.chunked_array(parts, type=kind)

    def first(self, shard: int, column: str) -> pa.Array:
        """Return the first few cells of a column of one shard."""
        values = _column(self.root / self.names[shard], column).slice(0, _PEEKED)
        return pa.concat_arrays([pa.array([], values.type), *values.chunks])

    def images(self, column: str, *, follow_links: bool) -> SampleStore:
        """Return the images in a column of bytes."""
        return ArrowImages(self.root, self.names, self.rows, column, follow_links=follow_links)


def read_arrow(path: Path) -> pa.Table:
    """Return the table in an Arrow file, a stream or one with an index, mapped from disk.

    Raises:
        ArrowException: It is no Arrow, or is damaged.
    """
    mapped = pa.memory_map(str(path))
    try:
        return pa.ipc.open_stream(mapped).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(mapped).read_all()


def _column(path: Path, name: str) -> pa.ChunkedArray:
    """Return a column of an Arrow file, checked: a wrong offset would end the process later.

    Raises:
        ArrowException: The file is damaged.
    """
    values = read_arrow(path).column(name)
    values.validate(full=True)
    return values


def is_saved_dataset(names: Sequence[str]) -> bool:
    """Return whether a folder with these files was written by ``save_to_disk``."""
    return _SPLITS in names or (
        _STATE in names and any(name.endswith(".arrow") and "/" not in name for name in names)
    )


def read_saved_dataset(
    source: Path, names: Sequence[str], config: DatasetConfig, on_progress: OnProgress
) -> RawSamples:
    """Read a folder that ``save_to_disk`` wrote.

    Args:
        source: The folder, absolute.
        names: Its files, relative to it.
        config: The columns that the user named.
        on_progress: Takes one step a file.

    Raises:
        DatasetError: A file is missing or damaged, or rows are chosen by a list of indices.
    """
    folders: list[tuple[str, str | None]] = [("", None)]
    if _SPLITS in names:
        folders = [(f"{split}/", split) for split in _listed_splits(source)]
    files: list[str] = []
    splits: list[str | None] = []
    for folder, split in folders:
        found = _data_files(source, folder, names)
        files += found
        splits += [split] * len(found)
    return read_shards(ArrowShards(source, files, splits), config, on_progress)


def _listed_splits(source: Path) -> list[str]:
    splits = _json(source / _SPLITS).get("splits")
    if not isinstance(splits, list) or not splits or not all(map(_is_plain, splits)):
        raise DatasetError(f"{source / _SPLITS} does not list splits", hint=_HINT)
    return splits


def _data_files(source: Path, folder: str, names: Sequence[str]) -> list[str]:
    state = _json(source / folder / _STATE)
    if state.get("_indices_data_files"):
        raise DatasetError(f"{source / folder} chooses its rows by a list of indices", hint=_HINT)
    listed = state.get("_data_files")
    if not isinstance(listed, list):
        raise DatasetError(f"{source / folder / _STATE} does not list its files", hint=_HINT)
    files = [str(entry.get("filename")) for entry in listed if isinstance(entry, dict)]
    if not files or len(files) < len(listed) or not all(map(_is_plain, files)):
        raise DatasetError(f"{source / folder / _STATE} does not list its files", hint=_HINT)
    missing = [name for name in files if f"{folder}{name}" not in names]
    if missing:
        raise DatasetError(
            f"{source / folder / missing[0]} is missing, which {_STATE} lists",
            hint="download or copy the folder again",
        )
    return [f"{folder}{name}" for name in files]


def _is_plain(name: Any) -> bool:
    return isinstance(name, str) and PurePosixPath(name).name == name and name != ".."


def _json(path: Path) -> dict[str, Any]:
    refuse_special_file(path, DatasetError)
    try:
        value = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing", hint=_HINT) from error
    except ValueError as error:
        raise DatasetError(f"{path} is not JSON: {error}", hint=_HINT) from error
    if not isinstance(value, dict):
        raise DatasetError(f"{path} is not a JSON object", hint=_HINT)
    return value


def _with_features(schema: pa.Schema, info: Path) -> pa.Schema:
    """Return a schema that has Hugging Face's types, from the note beside the file if need be."""
    metadata = dict(schema.metadata or {})
    if b"huggingface" not in metadata and info.is_file():
        try:
            metadata[b"huggingface"] = b'{"info": ' + info.read_bytes() + b"}"
        except OSError:
            return schema
    return schema.with_metadata(metadata)
