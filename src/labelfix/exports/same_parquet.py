"""An export in the form of its own Parquet: only the label column differs.

A file without changes is copied as it is. Another is written row group by row group, with the same
schema, metadata, compression and encodings; what Parquet notes of its writer is new.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
from numpy.typing import NDArray

from labelfix.data.labels import names_of_class_label
from labelfix.errors import DatasetError
from labelfix.exports.plan import ExportPlan
from labelfix.types import DatasetSource, Label
from labelfix.utils.files import atomic_folder, atomic_path
from labelfix.utils.progress import OnProgress, Progress

_VERSIONS = {"1.0", "2.4", "2.6"}
_DICTIONARIES = {"RLE_DICTIONARY", "PLAIN_DICTIONARY"}


def write_own_parquet(source: DatasetSource, plan: ExportPlan, to: Path) -> None:
    """Write a Parquet file again, with the labels of a plan.

    Raises:
        DatasetError: The label column cannot hold a new label.
        RunError: The place cannot be written to.
    """
    with atomic_path(to) as draft:
        _write_shard(source.path, draft, 0, _changes_of(source, plan))


def write_own_shards(
    source: DatasetSource,
    names: Sequence[str],
    others: Sequence[str],
    plan: ExportPlan,
    to: Path,
    on_progress: OnProgress,
) -> int:
    """Write a folder of Parquet shards again; return how many files were written.

    Args:
        source: The folder.
        names: Its shards relative to it, in the order in which they were read.
        others: The other files in it, which are copied as they are.
        plan: What to write.
        to: The folder to write.
        on_progress: Takes one step a shard.

    Raises:
        DatasetError: The label column cannot hold a new label.
        RunError: ``to`` is there already, or cannot be written to.
    """
    changes, start = _changes_of(source, plan), 0
    with atomic_folder(to) as draft:
        for done, name in enumerate(names, 1):
            place = draft / name
            place.parent.mkdir(parents=True, exist_ok=True)
            start = _write_shard(source.path / name, place, start, changes)
            on_progress(Progress("writing files", done, len(names), "shards"))
        for name in others:
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path / name, draft / name)
    return len(names) + len(others)


@dataclass(frozen=True, slots=True)
class _Changes:
    """What a plan changes, by rows of the report."""

    source: DatasetSource
    new_labels: dict[int, Label]
    left_out: NDArray[np.int64]


def _changes_of(source: DatasetSource, plan: ExportPlan) -> _Changes:
    return _Changes(source, plan.new_labels, plan.left_out)


def _write_shard(shard: Path, draft: Path, start: int, changes: _Changes) -> int:
    """Write one file, from row ``start`` of the report; return the row that comes after it."""
    with pq.ParquetFile(shard) as file:
        size = file.metadata.num_rows
        rows = range(start, start + size)
        new_labels = {
            row - start: label for row, label in changes.new_labels.items() if row in rows
        }
        out = changes.left_out
        out = out[(out >= rows.start) & (out < rows.stop)] - start
        if not new_labels and not len(out):
            shutil.copyfile(shard, draft)
            return rows.stop
        with pq.ParquetWriter(draft, file.schema_arrow, **_as_written(file.metadata)) as writer:
            first = 0
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                last = first + len(table)
                here = {row - first: new_labels[row] for row in new_labels if first <= row < last}
                table = _relabeled(table, here, changes.source)
                table = _without(table, out[(out >= first) & (out < last)] - first)
                if len(table):
                    writer.write_table(table, row_group_size=len(table))
                first = last
    return rows.stop


def _as_written(metadata: pq.FileMetaData) -> dict[str, Any]:
    """Return the settings that a file was written with, as far as it tells."""
    settings: dict[str, Any] = {
        "store_schema": b"ARROW:schema" in (metadata.metadata or {}),
        "use_compliant_nested_type": False,  # names inside lists stay what they are
    }
    if metadata.format_version in _VERSIONS:
        settings["version"] = metadata.format_version
    if metadata.num_row_groups:
        group = metadata.row_group(0)
        columns = [group.column(index) for index in range(group.num_columns)]
        settings["compression"] = {
            column.path_in_schema: column.compression.replace("UNCOMPRESSED", "NONE")
            for column in columns
        }
        settings["use_dictionary"] = [
            column.path_in_schema for column in columns if _DICTIONARIES & set(column.encodings)
        ]
    return settings


def _relabeled(table: pa.Table, new_labels: dict[int, Label], source: DatasetSource) -> pa.Table:
    """Return a row group with new labels, by its rows."""
    if not new_labels:
        return table
    name = source.columns["label"]
    index = table.schema.get_field_index(name)
    field = table.schema.field(index)
    class_names = names_of_class_label(table.schema, name)
    old = pa.concat_arrays(table[name].chunks)
    try:
        new = _labels_as(list(new_labels.values()), field.type, class_names)
    except (pa.ArrowException, OverflowError, ValueError) as error:
        raise DatasetError(
            f"the label column {name!r} of {source.path} cannot hold a new label: {error}",
            hint="take that decision back, or export another form, such as --format parquet",
        ) from error
    pieces, end = [], 0  # not every type can be picked from by row, but all can be sliced
    for position, row in enumerate(new_labels):
        pieces += [old.slice(end, row - end), new.slice(position, 1)]
        end = row + 1
    return table.set_column(index, field, pa.concat_arrays([*pieces, old.slice(end)]))


def _without(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    pieces, end = [], 0
    for row in rows.tolist():
        pieces.append(table.slice(end, row - end))
        end = row + 1
    return pa.concat_tables([*pieces, table.slice(end)])


def _labels_as(
    labels: list[Label], kind: pa.DataType, class_names: tuple[str, ...] | None
) -> pa.Array:
    """Return labels as a column of a type holds them.

    Raises:
        ValueError: It cannot; Arrow's own errors and OverflowError say the same.
    """
    if class_names is not None:
        return pa.array([class_names.index(str(label)) for label in labels], kind)
    if pt.is_dictionary(kind):
        values = _labels_as(labels, kind.value_type, None).dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            values.indices.cast(kind.index_type), values.dictionary, ordered=kind.ordered
        )
    if pt.is_boolean(kind):
        return pa.array([("False", "True").index(str(label)) == 1 for label in labels])
    return pa.array(labels, kind)
