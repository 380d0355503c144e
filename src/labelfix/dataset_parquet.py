"""Parquet: one file or a folder of shards, with the image bytes inside or with image paths.

The images are a column of binary, or of ``{bytes, path}`` records as Hugging Face data sets have.
Labels and ids are read without the images.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from labelfix.config import DatasetConfig
from labelfix.dataset_columns import (
    IMAGE_NAMES,
    SPLIT_FOLDERS,
    RawSamples,
    TableColumns,
    choose_columns,
    named_column,
    usable_ids,
)
from labelfix.dataset_files import FileTimes, fingerprint, normal_paths, stat_files
from labelfix.dataset_labels import (
    LabelColumn,
    blank_to_null,
    join_labels,
    labels_by_name,
    labels_of_column,
    names_of_class_label,
)
from labelfix.dataset_manifest import PathTable, samples_of_paths
from labelfix.errors import DatasetError
from labelfix.parquet_images import ParquetImages
from labelfix.records import DatasetSource, OnProgress, Progress, no_progress

_SPLIT_FILE = re.compile(rf"(?i)({'|'.join(sorted(SPLIT_FOLDERS, reverse=True))})(?![a-z])")


@dataclass(frozen=True, slots=True, eq=False)
class _Shards:
    """The shards of one data set; each is opened only while it is read, for there may be thousands.

    Args:
        source: The DATA that the user named, absolute.
        root: The folder that the names are relative to.
        names: The shards, in order.
        metadata: What the end of each file says.
        schemas: The columns of each.
    """

    source: Path
    root: Path
    names: Sequence[str]
    metadata: Sequence[pq.FileMetaData]
    schemas: Sequence[pa.Schema]

    @property
    def rows(self) -> list[int]:
        return [metadata.num_rows for metadata in self.metadata]

    @property
    def schema(self) -> pa.Schema:
        return self.schemas[0]

    def column(self, name: str, on_progress: OnProgress) -> Iterator[pa.Array]:
        """Yield a column (or ``record.field``) of each shard."""
        for done, (shard, metadata) in enumerate(zip(self.names, self.metadata, strict=True), 1):
            with (
                _explained(self.root / shard),
                pq.ParquetFile(self.root / shard, metadata=metadata) as file,
            ):
                column = file.read(columns=[name], use_threads=False).column(0)
            yield pa.concat_arrays([pa.array([], column.type), *column.chunks])
            on_progress(Progress("reading columns", done, len(self.names), "shards"))

    def text(self, name: str) -> pa.StringArray:
        """Return a column (or ``record.field``) of all shards as text."""
        is_field = name not in self.schema.names
        parts = [pa.array([], pa.string())]
        for values in self.column(name, no_progress):
            part = values.flatten()[0] if is_field else values
            try:
                part = part.dictionary_decode() if pt.is_dictionary(part.type) else part
                parts.append(part.cast(pa.string()))
            except pa.ArrowException as error:
                raise DatasetError(
                    f"column {name!r} of {self.source} is of type {part.type}, not text",
                    hint="choose other columns with --image-column, --id-column, --split-column",
                ) from error
        return pa.concat_arrays(parts)


def read_parquet(
    source: Path, names: Sequence[str], config: DatasetConfig, on_progress: OnProgress
) -> RawSamples:
    """Read a Parquet file, or the shards of a folder.

    Args:
        source: The file or the folder, absolute.
        names: The shards relative to the folder, in order; the file's own name for a file.
        config: The columns that the user named.
        on_progress: Takes one step a shard.

    Raises:
        DatasetError: A file is not Parquet, shards differ in their columns, or a column is missing.
    """
    root = source if source.is_dir() else source.parent
    follow = config.follow_links
    shards = _open_shards(source, root, names)
    image = _image_column(shards.schema, config, str(source))
    columns = choose_columns(shards.schema.names, config, str(source), image=image)
    _check_shards(shards, columns)
    labels = _labels(shards, columns.label, on_progress)
    ids = shards.text(columns.id) if columns.id else None
    split = shards.text(columns.split) if columns.split else _splits_by_name(shards)
    if not _holds_bytes(shards.schema.field(columns.image).type):
        paths = shards.text(columns.image)
        return samples_of_paths(
            PathTable(source, root, columns, paths, labels, ids, split, follow_links=follow),
            on_progress,
        )
    ids, columns = usable_ids(ids, columns, str(source))
    return RawSamples(
        sample_id=_sample_ids(shards, columns.image) if ids is None else ids,
        split=blank_to_null(split),
        label=labels,
        images=ParquetImages(root, names, shards.rows, columns.image, follow_links=follow),
        source=DatasetSource("parquet", source, columns.by_role(), follow_links=follow),
        fingerprint=_fingerprint(shards, columns.image, follow_links=follow),
    )


def _open_shards(source: Path, root: Path, names: Sequence[str]) -> _Shards:
    metadata, schemas = [], []
    for name in names:
        with _explained(root / name), pq.ParquetFile(root / name) as file:
            metadata.append(file.metadata)
            schemas.append(file.schema_arrow)
    return _Shards(source, root, names, metadata, schemas)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise DatasetError(
            f"{path} is not a Parquet file, or is damaged: {error}",
            hint="write or download it again, or take it out of the data set",
        ) from error


def _holds_bytes(kind: pa.DataType) -> bool:
    if pt.is_struct(kind):
        index = kind.get_field_index("bytes")
        inside = kind.field(index).type if index >= 0 else pa.string()
        return _holds_bytes(inside) or (pt.is_null(inside) and _has_path(kind))
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind))


def _image_column(schema: pa.Schema, config: DatasetConfig, where: str) -> str | None:
    """Return the named image column, else the one that holds bytes; ``None`` if there is none."""
    named = named_column(schema.names, config.image_column, "image", where)
    found = [column.name for column in schema if _holds_bytes(column.type)]
    if named is not None or not found:
        return named
    if len(found) == 1:
        return str(found[0])
    by_plain_name = {name.casefold(): str(name) for name in found}
    best = [by_plain_name[name] for name in IMAGE_NAMES if name in by_plain_name]
    if best:
        return best[0]
    raise DatasetError(
        f"{where} has more than one column of bytes: {', '.join(found)}",
        hint="choose the one that holds the images with --image-column",
    )


def _check_shards(shards: _Shards, columns: TableColumns) -> None:
    for name, schema in zip(shards.names, shards.schemas, strict=True):
        there = schema.names
        missing = [column for column in columns.by_role().values() if column not in there]
        if missing:
            raise DatasetError(
                f"{shards.root / name} has no column {missing[0]!r}, unlike {shards.names[0]}; "
                f"its columns are: {', '.join(there)}",
                hint="all shards need the same columns; take other files out of the folder",
            )


def _labels(shards: _Shards, name: str, on_progress: OnProgress) -> pa.Array:
    about = LabelColumn(name, str(shards.source))
    parts = []
    for schema, values in zip(shards.schemas, shards.column(name, on_progress), strict=True):
        class_names = names_of_class_label(schema, name)
        if class_names is None:
            parts.append(labels_of_column(values, about))
        else:
            parts.append(labels_by_name(values, class_names, about))
    return join_labels(parts, about)


def _sample_ids(shards: _Shards, image: str) -> pa.StringArray:
    """Return paths that are in the file if they tell the samples apart, else shard and row."""
    for column in _path_columns(shards.schema, image):
        if any(column not in _path_columns(schema, image) for schema in shards.schemas):
            continue
        ids = shards.text(column)
        if not blank_to_null(ids).null_count and len(ids.unique()) == len(ids):
            return ids
    ids_by_row = (
        f"{name}:{row}" for name, rows in _rows_by_name(shards).items() for row in range(rows)
    )
    return pa.array(ids_by_row, pa.string())


def _path_columns(schema: pa.Schema, image: str) -> list[str]:
    by_plain_name = {
        column.name.casefold(): str(column.name)
        for column in schema
        if pt.is_string(column.type) or pt.is_large_string(column.type)
    }
    inside = [f"{image}.path"] if _has_path(schema.field(image).type) else []
    return inside + [by_plain_name[name] for name in IMAGE_NAMES if name in by_plain_name]


def _has_path(kind: pa.DataType) -> bool:
    return bool(pt.is_struct(kind) and kind.get_field_index("path") >= 0)


def _rows_by_name(shards: _Shards) -> Mapping[str, int]:
    return dict(zip(shards.names, shards.rows, strict=True))


def _splits_by_name(shards: _Shards) -> pa.StringArray:
    """Return the split that the name of each shard, or of its folder, begins with."""
    splits = []
    for name, rows in _rows_by_name(shards).items():
        path = PurePosixPath(name)
        found = _SPLIT_FILE.match(path.name) or _SPLIT_FILE.fullmatch(path.parent.name)
        split = found.group(1).lower() if found else None
        splits.append(pa.repeat(pa.scalar(split, pa.string()), rows))
    return pa.concat_arrays([pa.array([], pa.string()), *splits])


def _fingerprint(shards: _Shards, image: str, *, follow_links: bool) -> str:
    """Digest the shards, and the files that images without bytes point to."""
    stats = [(shards.root / name).stat() for name in shards.names]
    times = FileTimes(
        np.array([stat.st_size for stat in stats], dtype=np.int64),
        np.array([stat.st_mtime_ns for stat in stats], dtype=np.int64),
    )
    names, extra = pa.array(shards.names, pa.string()), image.encode()
    if _has_path(shards.schema.field(image).type):
        for name, metadata in zip(shards.names, shards.metadata, strict=True):
            if _has_cells_without_bytes(metadata, image):
                folder = (shards.root / name).parent
                alone = _open_shards(shards.source, shards.root, [name])
                paths = normal_paths(folder, alone.text(f"{image}.path"))
                times, _ = stat_files(folder, paths, no_progress, follow_links=follow_links)
                extra += fingerprint(paths, times).encode()
    return fingerprint(names, times, extra=extra)


def _has_cells_without_bytes(metadata: pq.FileMetaData, image: str) -> bool:
    for group in range(metadata.num_row_groups):
        part = metadata.row_group(group)
        for index in range(part.num_columns):
            column = part.column(index)
            if column.path_in_schema == f"{image}.bytes":
                statistics = column.statistics
                if statistics is None or statistics.null_count:
                    return True
    return False
