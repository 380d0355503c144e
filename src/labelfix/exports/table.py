"""An export as one table: CSV, Parquet or JSON lines."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from labelfix.exports.plan import ExportPlan
from labelfix.report.view import ReportView
from labelfix.types import DatasetSource
from labelfix.utils.files import atomic_path
from labelfix.utils.text import counted

COLUMNS = ("is_label_issue", "label_score", "given_label", "predicted_label")
"""As ``Datalab.get_issues("label")`` has them."""


_STEP = 1 << 20  # rows in memory at a time, and in a row group


def datalab_tables(view: ReportView, step: int = _STEP) -> Iterator[pa.Table]:
    """Yield the N rows of a report with Datalab's four columns, in the order of the input.

    They say what was found, so that neither decisions nor a plan change them. ``label_score`` and
    ``predicted_label`` are null where labelfix has not scored, which Datalab does not know.

    Args:
        view: The report.
        step: Rows of each table at most.
    """
    for start in range(0, max(len(view), 1), step):
        yield view.take(np.arange(start, min(start + step, len(view))), COLUMNS)


TableFormat = Literal["csv", "parquet", "jsonl"]

_FORMULA = r"^[=+\-@\t\r]"
_NUMBER = r"^[+-]?[0-9]+(?:\.[0-9]+)?$"
_BATCH = 10_000


def write_table(tables: Iterable[pa.Table], to: Path, form: TableFormat) -> tuple[str, ...]:
    """Write tables one below the other, whole or not at all, as what ``form`` says.

    Args:
        tables: At least one, if it has no rows; all of the same columns.
        to: The file.
        form: What to write.

    Returns:
        A warning if a spreadsheet would take cells of a CSV file for formulas. The cells are
        written as they are: an escape would be part of the name for any other reader.

    Raises:
        RunError: The place cannot be written to.
    """
    formulas = 0
    with atomic_path(to) as draft, ExitStack() as stack:
        write: Callable[[pa.Table], None] | None = None
        for table in tables:
            if write is None:
                write = _writer(draft, form, table.schema, stack)
            write(table)
            formulas += _formulas(table) if form == "csv" else 0
    if not formulas:
        return ()
    cells = counted(formulas, "cell begins", "cells begin")
    return (f"{cells} with =, +, - or @: do not open the file in a spreadsheet if you do not trust "
            "the names in your data",)  # fmt: skip


def _writer(
    draft: Path, form: TableFormat, schema: pa.Schema, stack: ExitStack
) -> Callable[[pa.Table], None]:
    """Return what writes a table; the stack closes the file."""
    if form == "parquet":
        parquet = stack.enter_context(pq.ParquetWriter(draft, schema, compression="zstd"))
        return partial(parquet.write_table, row_group_size=_STEP)
    if form == "csv":
        csv: Callable[[pa.Table], None] = stack.enter_context(pacsv.CSVWriter(draft, schema)).write
        return csv
    return partial(_write_lines, stack.enter_context(draft.open("w", encoding="utf-8")))


def _write_lines(file: IO[str], table: pa.Table) -> None:
    for batch in table.to_batches(max_chunksize=_BATCH):
        for row in batch.to_pylist():
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def manifest_tables(
    view: ReportView,
    plan: ExportPlan,
    to: Path,
    text_of: Callable[[int], str | None] | None = None,
    step: int = _STEP,
) -> Iterator[pa.Table]:
    """Yield the rows of a plan as a manifest that lies at ``to``.

    Columns: ``sample_id``, ``image`` or ``text`` and ``split`` where the data have them, ``label``,
    ``sample_weight``, ``given_label``, ``decision``, ``final_label``, ``decided_at``,
    ``decided_by``. ``image`` is the path of the file, relative to the manifest if the images lie
    below its folder, else absolute.

    Args:
        view: The report.
        plan: M rows of it.
        to: Where the table will lie.
        text_of: Returns the text of a row, ``None`` where it cannot be read; without it, the
            samples are no texts.
        step: Rows of each table at most.
    """
    folder = folder_of_ids(view.report.run.source)
    prefix = None if folder is None else _prefix(folder, to)
    for start in range(0, max(len(plan.rows), 1), step):
        part = slice(start, start + step)
        rows = plan.rows[part]
        kept = view.take(rows, ["sample_id", "split", "given_label"])
        columns = {"sample_id": kept["sample_id"]}
        if text_of is not None:
            columns["text"] = pa.array(map(text_of, rows.tolist()), pa.large_string())
        elif prefix is not None:
            columns["image"] = pc.binary_join_element_wise(prefix, kept["sample_id"], "")
        if view.has_splits:
            columns["split"] = kept["split"]
        columns["label"] = plan.labels_at(part)
        columns["sample_weight"] = pa.array(plan.sample_weight[part])
        columns["given_label"] = kept["given_label"]
        decided = plan.decided.take(rows)
        yield pa.table(columns | {name: decided[name] for name in decided.column_names})


def _formulas(table: pa.Table) -> int:
    """Return how many cells a spreadsheet would take for formulas."""
    formulas = 0
    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            is_formula = pc.match_substring_regex(column, _FORMULA).fill_null(False)
            is_number = pc.match_substring_regex(column, _NUMBER).fill_null(False)
            formulas += int(np.count_nonzero(pc.and_not(is_formula, is_number)))
    return formulas


def folder_of_ids(source: DatasetSource) -> Path | None:
    """Return the folder that ``sample_id`` is a path in; ``None`` if it is something else."""
    if source.kind == "folder":
        return source.path
    is_path = source.has_files and "id" not in source.columns
    return source.root if is_path else None


def _prefix(folder: Path, to: Path) -> str:
    images, manifests = folder.resolve(), to.resolve().parent
    if not images.is_relative_to(manifests):
        return f"{images.as_posix()}/"
    inside = images.relative_to(manifests).as_posix()
    return "" if inside == os.curdir else f"{inside}/"
