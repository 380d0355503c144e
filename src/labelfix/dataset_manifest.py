"""A manifest: a table of image paths and labels (CSV, TSV or JSON lines).

Paths are relative to the manifest's folder, and lead out of it only with ``--follow-links``.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from labelfix.config import DatasetConfig
from labelfix.dataset_columns import (
    RawSamples,
    TableColumns,
    choose_columns,
    usable_ids,
    usable_splits,
)
from labelfix.dataset_files import (
    ABSENT,
    FileImages,
    FileTimes,
    fingerprint,
    links_not_followed,
    normal_paths,
    stat_files,
)
from labelfix.dataset_labels import (
    LabelColumn,
    blank_to_null,
    join_labels,
    labels_of_column,
    labels_of_text,
)
from labelfix.errors import DatasetError
from labelfix.records import DatasetSource, OnProgress, Progress

TEXT_SUFFIXES = {".csv": ",", ".tsv": "\t"}
"""Suffixes of delimited text, with the delimiter."""

JSON_SUFFIXES = frozenset({".jsonl", ".ndjson"})
"""Suffixes of JSON lines."""

_NAN = ["", "NaN", "nan"]  # unquoted: how numpy and pandas write a missing number
_CHUNK = 1 << 16
_HEAD = 1000  # lines of JSON whose keys are taken for the columns


@dataclass(frozen=True, slots=True, eq=False)
class PathTable:
    """A table of image paths, from whatever file it was read.

    Args:
        source: The DATA that the user named, absolute.
        root: The folder that the paths are relative to.
        columns: What its columns are called.
        image: ``(N,)`` text, the paths as written.
        label: ``(N,)`` int64 or text.
        id: ``(N,)`` text of the id column, if there is one.
        split: ``(N,)`` text of the split column, if there is one.
        follow_links: Whether images outside the folder are read as well.
    """

    source: Path
    root: Path
    columns: TableColumns
    image: pa.StringArray
    label: pa.Array
    id: pa.StringArray | None
    split: pa.StringArray | None
    follow_links: bool = False


def read_manifest(path: Path, config: DatasetConfig, on_progress: OnProgress) -> RawSamples:
    """Read a manifest of text: CSV, TSV or JSON lines, in UTF-8.

    Raises:
        DatasetError: The file or its columns cannot be used, or most paths lead out of its folder.
    """
    if path.suffix.lower() in JSON_SUFFIXES:
        table = _read_json_lines(path, config, on_progress)
    else:
        table = _read_delimited(path, config)
    return samples_of_paths(table, on_progress)


def samples_of_paths(table: PathTable, on_progress: OnProgress) -> RawSamples:
    """Find the images that a table lists; a missing file is a row that cannot be read.

    Raises:
        DatasetError: Most paths lead out of the folder, or none of the files is there.
    """
    where = str(table.source)
    paths = normal_paths(table.root, blank_to_null(table.image))
    times, escaped = stat_files(table.root, paths, on_progress, follow_links=table.follow_links)
    assumptions = links_not_followed(
        table.source, table.image.take(pa.array(escaped, pa.int64())), len(paths)
    )
    if len(paths) and bool(np.all(times.size == ABSENT)):
        raise _none_there(table, paths, times)
    split, columns = usable_splits(table.split, table.columns)
    ids, columns = usable_ids(table.id, columns, where)
    if ids is None and paths.null_count:
        raise DatasetError(
            f"{paths.null_count:,} rows of {where} have neither an image path nor an id",
            hint=f"fill the column {columns.image!r}, or name a column of ids with --id-column",
        )
    return RawSamples(
        sample_id=paths if ids is None else ids,
        split=pa.nulls(len(paths), pa.string()) if split is None else blank_to_null(split),
        label=table.label,
        images=FileImages(table.root, paths.cast(pa.binary()), follow_links=table.follow_links),
        source=DatasetSource(
            "manifest", table.source, columns.by_role(), follow_links=table.follow_links
        ),
        fingerprint=fingerprint(paths, times),
        assumptions=columns.assumptions + assumptions,
    )


def _none_there(table: PathTable, paths: pa.StringArray, times: FileTimes) -> DatasetError:
    first = next((path for path in paths.to_pylist() if path is not None), "")
    return DatasetError(
        f"none of the {len(times.size):,} images that {table.source} lists is there, "
        f"for example {table.root / first}",
        hint=f"column {table.columns.image!r} has to hold paths relative to the manifest's "
        "folder; choose another with --image-column",
    )


def _read_delimited(path: Path, config: DatasetConfig) -> PathTable:
    names, delimiter = read_header(path)
    columns = choose_columns(names, config, str(path))
    wanted = list(dict.fromkeys(columns.by_role().values()))
    try:
        table = pacsv.read_csv(
            path,
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.string()),
                null_values=_NAN,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise DatasetError(
            f"cannot read {path}: {error}",
            hint="save it as UTF-8 text with the same number of fields on every line",
        ) from error
    held = {name: _one_array(table[name]) for name in wanted}
    return PathTable(
        source=path,
        root=path.parent,
        columns=columns,
        image=held[columns.image],
        label=labels_of_text(held[columns.label]),
        id=held[columns.id] if columns.id else None,
        split=held[columns.split] if columns.split else None,
        follow_links=config.follow_links,
    )


def read_header(path: Path) -> tuple[list[str], str]:
    """Return the column names of a delimited file, and its delimiter.

    Raises:
        DatasetError: The file is empty.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        first = file.readline()
        delimiter = TEXT_SUFFIXES[path.suffix.lower()]
        if delimiter not in first:  # spreadsheets write other delimiters into .csv files
            delimiter = next((sign for sign in "\t;," if sign in first), delimiter)
        file.seek(0)
        names = next(csv.reader(file, delimiter=delimiter), [])
    if not names:
        raise DatasetError(f"{path} is empty", hint="its first line has to name the columns")
    return names, delimiter


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays([pa.array([], column.type), *column.chunks])


def _read_json_lines(path: Path, config: DatasetConfig, on_progress: OnProgress) -> PathTable:
    rows = _json_rows(path)
    head = list(islice(rows, _HEAD))
    if not head:
        raise DatasetError(f"{path} is empty", hint="each line has to hold one sample")
    names = list(dict.fromkeys(name for row in head for name in row))
    columns = choose_columns(names, config, str(path))
    about_label = LabelColumn(columns.label, str(path))
    texts: dict[str, list[pa.Array]] = {"image": [], "id": [], "split": []}
    labels: list[pa.Array] = []
    rows = chain(head, rows)
    done = 0
    while chunk := list(islice(rows, _CHUNK)):
        labels.append(labels_of_column(_json_labels(chunk, about_label), about_label))
        for role, name in columns.by_role().items():
            if role != "label":
                texts[role].append(_json_text(chunk, name, path))
        done += len(chunk)
        on_progress(Progress("reading the manifest", done, None, "rows"))
    return PathTable(
        source=path,
        root=path.parent,
        columns=columns,
        image=pa.concat_arrays(texts["image"]),
        label=join_labels(labels, about_label),
        id=pa.concat_arrays(texts["id"]) if texts["id"] else None,
        split=pa.concat_arrays(texts["split"]) if texts["split"] else None,
        follow_links=config.follow_links,
    )


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DatasetError(
                    f"line {number} of {path} is not JSON: {error}",
                    hint="each line has to be one JSON object",
                ) from error
            if not isinstance(row, dict):
                raise DatasetError(
                    f"line {number} of {path} is not a JSON object",
                    hint='write each line like {"image": "a.jpg", "label": "cat"}',
                )
            yield row


def _json_labels(rows: list[dict[str, Any]], column: LabelColumn) -> pa.Array:
    try:
        return pa.array([row.get(column.name) for row in rows])
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise column.fault(
            f"cannot be read as one kind of label: {error}",
            "write all labels as text, or all as integers",
        ) from error


def _json_text(rows: list[dict[str, Any]], name: str, path: Path) -> pa.StringArray:
    values = [row.get(name) for row in rows]
    odd = next((value for value in values if isinstance(value, (dict, list))), None)
    try:
        if odd is None:
            return pa.array(
                [None if value is None else str(value) for value in values], pa.string()
            )
    except UnicodeError as error:
        raise DatasetError(
            f"column {name!r} of {path} holds text that is no Unicode: {error}",
            hint="rename the files to names in UTF-8",
        ) from error
    raise DatasetError(
        f"column {name!r} of {path} holds {odd!r}, which is no text",
        hint="write plain text, or name other columns",
    )
