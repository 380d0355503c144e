"""An export as one table: CSV, Parquet or JSON lines."""

import json
import os
from pathlib import Path
from typing import Literal

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


def datalab_table(view: ReportView) -> pa.Table:
    """Return the N rows of a report with Datalab's four columns, in the order of the input.

    They say what was found, so that neither decisions nor a plan change them. ``label_score`` and
    ``predicted_label`` are null where labelfix has not judged, which Datalab does not know.
    """
    return view.columns(COLUMNS)


TableFormat = Literal["csv", "parquet", "jsonl"]

_FORMULA = r"^[=+\-@\t\r]"
_NUMBER = r"^[+-]?[0-9]+(?:\.[0-9]+)?$"
_BATCH = 10_000


def write_table(table: pa.Table, to: Path, form: TableFormat) -> None:
    """Write a table whole or not at all, as what ``form`` says.

    Raises:
        RunError: The place cannot be written to.
    """
    with atomic_path(to) as draft:
        if form == "parquet":
            pq.write_table(table, draft, compression="zstd")
        elif form == "csv":
            pacsv.write_csv(table, draft)
        else:
            with draft.open("w", encoding="utf-8") as file:
                for batch in table.to_batches(max_chunksize=_BATCH):
                    for row in batch.to_pylist():
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def manifest_table(
    view: ReportView, plan: ExportPlan, to: Path, texts: pa.Array | None = None
) -> pa.Table:
    """Return the rows of a plan as a manifest that lies at ``to``.

    Columns: ``sample_id``, ``image`` or ``text`` and ``split`` where the data have them, ``label``,
    ``sample_weight``, ``given_label``, ``decision``, ``final_label``, ``decided_at``,
    ``decided_by``. ``image`` is the path of the file, relative to the manifest if the images lie
    below its folder, else absolute.

    Args:
        view: The report.
        plan: M rows of it.
        to: Where the table will lie.
        texts: ``(M,)`` texts, where the samples are texts.
    """
    rows = pa.array(plan.rows)
    kept = view.take(plan.rows, ["sample_id", "split", "given_label"])
    columns = {"sample_id": kept["sample_id"]}
    folder = folder_of_ids(view.report.run.source)
    if texts is not None:
        columns["text"] = texts
    elif folder is not None:
        prefix = _prefix(folder, to)
        columns["image"] = pc.binary_join_element_wise(prefix, kept["sample_id"], "")
    if view.has_splits:
        columns["split"] = kept["split"]
    columns["label"] = plan.label
    columns["sample_weight"] = pa.array(plan.sample_weight)
    columns["given_label"] = kept["given_label"]
    decided = plan.decided.columns.take(rows)
    return pa.table(columns | {name: decided[name] for name in decided.column_names})


def notes_on_formulas(table: pa.Table) -> tuple[str, ...]:
    """Return a warning if a spreadsheet would take cells of a table for formulas, else nothing.

    The cells are written as they are: an escape would be part of the name for any other reader.
    """
    formulas = 0
    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            is_formula = pc.match_substring_regex(column, _FORMULA).fill_null(False)
            is_number = pc.match_substring_regex(column, _NUMBER).fill_null(False)
            formulas += int(np.count_nonzero(pc.and_not(is_formula, is_number)))
    if not formulas:
        return ()
    cells = counted(formulas, "cell begins", "cells begin")
    return (f"{cells} with =, +, - or @: do not open the file in a spreadsheet if you do not trust "
            "the names in your data",)  # fmt: skip


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
