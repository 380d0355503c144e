"""An export as one table: CSV or Parquet."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from labelfix.export_plan import ExportPlan
from labelfix.files import atomic_path
from labelfix.records import DatasetSource
from labelfix.report import Report


def write_manifest(report: Report, plan: ExportPlan, to: Path, *, as_parquet: bool) -> None:
    """Write the rows of a plan as CSV or as Parquet.

    Columns: ``sample_id``, ``image`` and ``split`` where the data have them, ``label``,
    ``sample_weight``, ``given_label``. ``image`` is the path of the file, relative to the manifest
    if the images lie below its folder, else absolute.

    Raises:
        RunError: The place cannot be written to.
    """
    table = manifest_table(report, plan, to)
    with atomic_path(to) as draft:
        if as_parquet:
            pq.write_table(table, draft, compression="zstd")
        else:
            pacsv.write_csv(table, draft)


def manifest_table(report: Report, plan: ExportPlan, to: Path) -> pa.Table:
    """Return the table that `write_manifest` writes to ``to``."""
    kept = report.table.select(["sample_id", "split", "given_label"]).take(pa.array(plan.rows))
    columns = {"sample_id": kept["sample_id"]}
    folder = _folder_of_ids(report.run.source)
    if folder is not None:
        prefix = _prefix(folder, to)
        columns["image"] = pc.binary_join_element_wise(prefix, kept["sample_id"], "")
    if report.table["split"].null_count < len(report):
        columns["split"] = kept["split"]
    columns["label"] = plan.label
    columns["sample_weight"] = pa.array(plan.sample_weight)
    columns["given_label"] = kept["given_label"]
    return pa.table(columns)


def _folder_of_ids(source: DatasetSource) -> Path | None:
    """Return the folder that ``sample_id`` is a path in; ``None`` if it is something else."""
    if source.kind == "folder":
        return source.path
    is_path = source.kind == "manifest" and "id" not in source.columns
    if not is_path:
        return None
    return source.path if source.path.is_dir() else source.path.parent


def _prefix(folder: Path, to: Path) -> str:
    images, manifests = folder.resolve(), to.resolve().parent
    if not images.is_relative_to(manifests):
        return f"{images.as_posix()}/"
    inside = images.relative_to(manifests).as_posix()
    return "" if inside == os.curdir else f"{inside}/"
