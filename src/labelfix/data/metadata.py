"""Hugging Face's folders of images: ``metadata.csv``, ``.jsonl`` or ``.parquet`` beside the images.

Each metadata file speaks of the folder that it is in: its column ``file_name`` is a path in there.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from labelfix.config import DatasetConfig
from labelfix.data.columns import LABEL_NAMES, RawSamples, choose_columns
from labelfix.data.folder import has_image_files
from labelfix.data.json_records import json_of
from labelfix.data.labels import LabelColumn, join_labels
from labelfix.data.manifest import PathTable, samples_of_paths, table_of_text
from labelfix.data.parquet import ParquetShards, table_of_shards
from labelfix.data.splits import is_split_name
from labelfix.data.table_text import (
    JSON_SUFFIXES,
    TableText,
    lines_of,
    read_layout,
    read_table_text,
    table_suffix,
)
from labelfix.errors import DatasetError
from labelfix.types import Assumption
from labelfix.utils.progress import OnProgress

FILE_NAME = "file_name"
_NAMES = frozenset({"metadata.csv", "metadata.jsonl", "metadata.parquet"})
_LABELS = frozenset(name for names in LABEL_NAMES for name in names)


def metadata_files(names: Sequence[str]) -> list[str]:
    """Return those relative paths that are called like metadata files, in the same order."""
    return [name for name in names if posixpath.basename(name).lower() in _NAMES]


def read_metadata_folder(
    root: Path, names: Sequence[str], config: DatasetConfig, on_progress: OnProgress
) -> RawSamples | None:
    """Read a folder whose labels are in metadata files; ``None`` if they hold no labels.

    Args:
        root: The folder, absolute.
        names: Its files, relative to it.
        config: The columns that the user named.
        on_progress: Takes steps while files are read.

    Raises:
        DatasetError: A metadata file is damaged, or they do not fit each other.
    """
    tables = []
    for name in metadata_files(names):
        table = _read_one(root, name, config, on_progress)
        if table is not None:
            tables.append((posixpath.dirname(name), table))
    if not tables:
        return None
    table = _joined(root, tables)
    raw = samples_of_paths(table, on_progress)
    return replace(raw, assumptions=raw.assumptions + _left_out(root, names, table))


def _read_one(
    root: Path, name: str, config: DatasetConfig, on_progress: OnProgress
) -> PathTable | None:
    path = root / name
    if path.suffix.lower() == ".parquet":
        shards = ParquetShards(path, path.parent, [path.name])
        if not _holds_labels(shards.column_names, config):
            return None
        columns = choose_columns(shards.column_names, config, str(path), image=FILE_NAME)
        return table_of_shards(shards, columns, config, on_progress)
    text = read_table_text(path)
    if not _holds_labels(_columns_of(text), config):
        return None
    named = replace(config, image_column=config.image_column or FILE_NAME)
    return table_of_text(text, path, path.parent, named, on_progress)


def _columns_of(text: TableText) -> Sequence[str]:
    suffix = table_suffix(text.where)
    if suffix not in JSON_SUFFIXES:
        return read_layout(text, suffix).names
    for number, line in lines_of(text):
        row = json_of(line, f"line {number} of {text.where}", "each line has to be one JSON object")
        return list(row) if isinstance(row, dict) else []
    return []


def _holds_labels(names: Sequence[str], config: DatasetConfig) -> bool:
    if FILE_NAME not in names:
        return False
    if config.label_column is not None:
        return config.label_column in names
    return any(name.strip().casefold() in _LABELS for name in names)


def _joined(root: Path, tables: Sequence[tuple[str, PathTable]]) -> PathTable:
    first = tables[0][1]
    roles = first.columns.by_role()
    for folder, table in tables:
        here = table.columns.by_role()
        if here != roles:
            raise DatasetError(
                f"the metadata files of {root} have different columns: {', '.join(roles.values())} "
                f"in the first, {', '.join(here.values())} in {folder or '.'}",
                hint="name the columns with --label-column, --id-column and --split-column",
            )
    about = LabelColumn(first.columns.label, str(root))
    return PathTable(
        source=root,
        root=root,
        columns=first.columns,
        image=pa.concat_arrays([_paths(folder, table.image) for folder, table in tables]),
        label=join_labels([table.label for _, table in tables], about),
        id=_concat([table.id for _, table in tables]),
        split=_concat([_splits(folder, table) for folder, table in tables]),
        follow_links=first.follow_links,
        assumptions=tuple(dict.fromkeys(said for _, t in tables for said in t.assumptions)),
    )


def _paths(folder: str, paths: pa.StringArray) -> pa.StringArray:
    return pc.binary_join_element_wise(folder, paths, "/") if folder else paths


def _splits(folder: str, table: PathTable) -> pa.StringArray:
    if table.columns.split is not None and table.split is not None:
        return table.split
    top = folder.split("/")[0]
    split = top.lower() if is_split_name(top) else None
    return pa.repeat(pa.scalar(split, pa.string()), len(table.image))


def _concat(parts: Sequence[pa.StringArray | None]) -> pa.StringArray | None:
    there = [part for part in parts if part is not None]
    return pa.concat_arrays(there) if len(there) == len(parts) else None


def _left_out(root: Path, names: Sequence[str], table: PathTable) -> tuple[Assumption, ...]:
    listed = {posixpath.normpath(path) for path in table.image.to_pylist() if path}
    files = pa.array([name for name in names if name not in listed], pa.string())
    others = [name for name in files.to_pylist() if has_image_files(pa.array([name]))]
    if not others:
        return ()
    if len(others) == 1:
        text = f"{others[0]!r} of {root} is in no metadata file, and left out; give it a row there"
        return (Assumption("files", text),)
    text = f"{len(others):,} images of {root} are in no metadata file, such as {others[0]!r}"
    return (Assumption("files", f"{text}, and are left out; give them a row there"),)
