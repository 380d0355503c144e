"""A report on disk: written as Parquet, and read back."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelfix.config import ReportConfig
from labelfix.errors import ReportError
from labelfix.report.made import MadeColumns
from labelfix.report.parts import (
    PARTS_NAME,
    is_parts,
    open_parts,
    remove_parts,
    report_writer,
    write_parts,
)
from labelfix.report.schema import (
    COLUMNS,
    DIGEST_KEY,
    PRED_PROBS,
    PROBABILITIES,
    ROW_GROUP_SIZE,
    ROW_GROUP_VALUES,
    RUN_KEY,
    SCHEMA_VERSION,
    VERSION_KEY,
    Column,
    arrow_schema,
    codes_of,
    columns_in,
    label_type,
    names_of_checks,
    row_group_rows,
)
from labelfix.report.stored import HINT, StoredColumns, StoredFile
from labelfix.report.top_classes import (
    TOP_NAMES,
    faults_of_lists,
    kept_classes,
    probability_schema,
)
from labelfix.report.types import Report, RunInfo
from labelfix.types import CLASSES_KEY, MISSING, Label
from labelfix.utils.files import atomic_path, refuse_special_file
from labelfix.utils.reading import different_labels, is_number, parquet_faults, parse_json

NOISE_MATRIX_NAME = "noise_matrix.parquet"
"""What the table is called in a RUN folder."""


def write_noise_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet.

    Raises:
        RunError: The disk is full, or the place cannot be written to.
    """
    with atomic_path(path) as draft:
        pq.write_table(table, draft, compression="zstd", write_page_checksum=True)


RUN_NAME = "run.json"
UNFINISHED_NAME = "unfinished.json"

REPORT_NAME = "report.parquet"
"""What the report is called in a RUN folder."""


def _check_run(values: Any) -> None:
    """Check the form of what `RunInfo.to_json` wrote.

    Raises:
        KeyError: A key is missing.
        ValueError: A value is of another form.
    """
    if not isinstance(values, dict):
        raise ValueError("the record of the run is no object")
    source, settings = values["source"], values["settings"]
    interval, said = values["noise_rate_interval"], values.get("assumptions", [])
    is_right = {
        "source": isinstance(source, dict)
        and all(isinstance(source[key], str) for key in ("kind", "path"))
        and "\0" not in source["path"]
        and _is_text_to_text(source["columns"]),
        "fingerprint": isinstance(values["fingerprint"], str),
        "noise_rate": values["noise_rate"] is None or is_number(values["noise_rate"]),
        "noise_rate_interval": interval is None
        or (isinstance(interval, list) and len(interval) == 2 and all(map(is_number, interval))),
        "modality": isinstance(values.get("modality"), str | None),
        "backbone": isinstance(values["backbone"], str | None),
        "seed": values["seed"] is None or type(values["seed"]) is int,
        "versions": _is_text_to_text(values["versions"]),
        "settings": isinstance(settings, dict) and _are_settings(settings),
        "assumptions": isinstance(said, list)
        and all(_is_text_to_text(one) and set(one) == {"topic", "text"} for one in said),
    }
    wrong = [key for key, is_it in is_right.items() if not is_it]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} of the run cannot be read")


def _are_settings(settings: Mapping[str, Any]) -> bool:
    """Return whether the settings that are read again have their form."""
    notes, issues, size = (settings.get(key) for key in ("notes", "issues", "image_size"))
    return (
        (notes is None or (isinstance(notes, list) and all(isinstance(n, str) for n in notes)))
        and (issues is None or (isinstance(issues, dict) and all(map(is_number, issues.values()))))
        and (size is None or type(size) is int)
    )


def _is_text_to_text(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


_PLACE_OF_PROBS = [column.name for column in COLUMNS].index(PRED_PROBS)


def with_probabilities(table: pa.Table, probs: pa.Table) -> pa.Table:
    """Return a report's table with its columns of probabilities in their place."""
    for place, name in enumerate(probs.column_names, _PLACE_OF_PROBS):
        table = table.add_column(place, probs.field(name), probs[name])
    return table


def probability_table(probs: NDArray[np.float32], is_scored: NDArray[np.bool_]) -> pa.Table:
    """Return `probability_lists` as the column ``pred_probs``."""
    lists = probability_lists(probs, is_scored)
    return pa.Table.from_arrays([lists], schema=probability_schema(0))


def probability_lists(probs: NDArray[np.float32], is_scored: NDArray[np.bool_]) -> pa.ChunkedArray:
    """Return ``(N,)`` lists of K; chunks, because Arrow counts a list's elements in 32 bits.

    Args:
        probs: ``(N, K)``.
        is_scored: ``(N,)`` bool: the others are null.
    """
    classes = max(probs.shape[1], 1)
    step = min(ROW_GROUP_SIZE, (2**31 - 1) // classes)
    chunks = []
    for start in range(0, len(probs), step):
        part, is_known = probs[start : start + step], is_scored[start : start + step]
        known = part if is_known.all() else part[is_known]  # Parquet wants nothing under a null
        offsets = np.concatenate([[0], np.cumsum(is_known) * classes]).astype(np.int32)
        values = pa.array(np.ascontiguousarray(known, np.float32).reshape(-1))
        chunks.append(
            pa.ListArray.from_arrays(
                pa.array(offsets), values, type=PROBABILITIES, mask=pa.array(~is_known)
            )
        )
    return pa.chunked_array(chunks, PROBABILITIES)


def write_report(
    report: Report,
    path: Path,
    pred_probs: Iterable[pa.Table] | None = None,
    *,
    top_classes: int = 0,
    group_values: int = ROW_GROUP_VALUES,
    part_rows: int = ReportConfig().part_rows,
) -> Path:
    """Write a report as Parquet, and its noise matrix beside it: the same ones always alike.

    What was there under either name goes: a run has one report.

    Args:
        report: What to write.
        path: ``report.parquet`` of the RUN folder, replaced if it is there.
        pred_probs: Of a report without that column: its `probability_table`, or its `top_lists`,
            made when they are written, `row_group_rows` at a time.
        top_classes: Of how many classes those are, where they are not of all.
        group_values: Probabilities in a row group at most.
        part_rows: With more rows the report is a folder of parts beside ``path``, each of so many
            rows, rounded up to whole row groups.

    Returns:
        The file, or the folder of parts.

    Raises:
        RunError: The place cannot be written to.
    """
    metadata = {
        VERSION_KEY: str(SCHEMA_VERSION).encode(),
        CLASSES_KEY: json.dumps(report.class_names).encode(),
        RUN_KEY: json.dumps(report.run.to_json(), sort_keys=True).encode(),
    }
    metadata[DIGEST_KEY] = _digest_of(metadata)
    schema = report.columns.schema
    if pred_probs is not None:
        for place, field in enumerate(probability_schema(top_classes), _PLACE_OF_PROBS):
            schema = schema.insert(place, field)
    schema = schema.with_metadata(metadata)
    step = row_group_rows(kept_classes(len(report.class_names), top_classes), group_values)
    groups = _row_groups(report.columns, step)
    if pred_probs is not None:
        groups = (with_probabilities(*pair) for pair in zip(groups, pred_probs, strict=True))
    folder = path.with_name(PARTS_NAME)
    if len(report) > part_rows:
        write_parts(groups, schema, folder, -(-part_rows // step), step)
        path.unlink(missing_ok=True)
    else:
        with atomic_path(path) as draft, report_writer(draft, schema) as writer:
            for group in groups:
                writer.write_table(group, row_group_size=step)
        remove_parts(folder)
    if report.noise is not None:
        write_noise_table(report.noise, path.with_name(NOISE_MATRIX_NAME))
    return folder if len(report) > part_rows else path


def _row_groups(columns: pa.Table | StoredColumns | MadeColumns, step: int) -> Iterator[pa.Table]:
    """Yield the rows of a report, so many at a time; those that have to be made, one by one."""
    whole = columns.read() if isinstance(columns, StoredColumns) else columns
    for start in range(0, len(whole), step):
        if isinstance(whole, MadeColumns):
            yield whole.block(start, start + step)
        else:
            yield whole.slice(start, step)


def report_file(path: Path) -> Path:
    """Return the report's own path, for a RUN folder or the report itself.

    Returns:
        ``report.parquet``, or the folder of parts.

    Raises:
        ReportError: There is no report, or there are two.
    """
    file, parts = path, path if path.is_dir() else path.parent
    if path.is_dir() and not is_parts(path):
        file, parts = path / REPORT_NAME, path / PARTS_NAME
        if file.exists() and is_parts(parts):
            raise ReportError(
                f"{path} holds {REPORT_NAME} and the folder {PARTS_NAME}, of which one is old",
                hint="the audit that replaces the run was cut off: finish it with --resume, or "
                "audit again with --overwrite",
            )
    if is_parts(parts):
        return parts
    refuse_special_file(file, ReportError)
    if not file.is_file():
        holder = f"{path} holds no {REPORT_NAME}" if path.is_dir() else f"{path} does not exist"
        raise ReportError(holder, hint="name the RUN folder of a finished `labelfix audit`")
    return file


def read_report_table(path: Path, *, pred_probs: bool = True) -> Report:
    """Open a report and check that it is one; its columns are read when they are asked for.

    Args:
        path: A RUN folder, or the report file itself, or the folder of its parts.
        pred_probs: Whether the columns of probabilities are among them; they are most of the file
            when K is large, and without them ``table`` lacks them.

    Raises:
        ReportError: There is no report, the file is not one that this version can read, or it
            lies beside the ``run.json`` of another run.
    """
    file = report_file(path)
    report = open_written(file, pred_probs=pred_probs)
    if file.name in (REPORT_NAME, PARTS_NAME):
        _refuse_files_of_two_runs(file.parent, report.run, file.name)
    return report


def open_written(file: Path, *, pred_probs: bool) -> Report:
    """Return a report whatever lies beside it: that of an audit which is not finished, say.

    Args:
        file: What `write_report` returned.
        pred_probs: As `read_report_table` has it.

    Raises:
        ReportError: The file is not one that this version can read.
    """
    if file.is_dir():
        files = open_parts(file)
    else:
        with parquet_faults(ReportError, f"{file} cannot be read as Parquet", HINT):
            files = (StoredFile.of(file),)
    schema = files[0].schema
    class_names, run = _read_metadata(schema.metadata or {}, file)
    columns = columns_in(schema.names, run.modality)
    for one in files:
        _check_columns(one.schema, columns, class_names, one.path)
    fields = {field.name: field for field in arrow_schema(class_names, columns)}
    probabilities = {PRED_PROBS, *TOP_NAMES}
    wanted = [c.name for c in columns if pred_probs or c.name not in probabilities]
    wanted[-1:-1] = names_of_checks(schema, columns)  # before the reason
    held = pa.schema([schema.field(n) if n in schema.names else fields[n] for n in wanted])
    size = sum(one.metadata.num_rows for one in files)
    check = partial(_check_values, columns=columns, class_names=class_names, size=size, file=file)
    return Report(StoredColumns(files, held, check), class_names, run)


def read_pred_probs(path: Path) -> Iterator[NDArray[np.float32]]:
    """Return the out-of-sample probabilities of a report block by block, ``(B, K)``.

    A row that was not scored is NaN.

    Args:
        path: A RUN folder, or the report file itself.

    Raises:
        ReportError: There is no report, it is damaged, or it keeps the likeliest classes only.
    """
    report = read_report_table(path)
    if PRED_PROBS not in report.column_names:
        raise ReportError(
            f"{report_file(path)} keeps the likeliest classes of each sample only, and the "
            "probabilities of all are needed here",
            hint="audit again without --top-classes",
        )
    return _blocks_of(report)


def _blocks_of(report: Report) -> Iterator[NDArray[np.float32]]:
    for _, batch in report.batches([PRED_PROBS]):
        lists = batch.column(0)
        probs = np.full((len(lists), len(report.class_names)), np.nan, np.float32)
        values = lists.flatten().to_numpy(zero_copy_only=False)
        probs[lists.is_valid().to_numpy(zero_copy_only=False)] = values.reshape(-1, probs.shape[1])
        yield probs


def _check_values(
    batch: pa.RecordBatch,
    start: int,
    *,
    columns: Sequence[Column],
    class_names: tuple[Label, ...],
    size: int,
    file: Path,
) -> None:
    """Refuse rows from ``start`` of N whose cells are none that an audit writes."""
    there = set(batch.schema.names)
    faults = [
        f"{column.name} is null in {batch[column.name].null_count:,} rows"
        for column in columns
        if column.name in there and not column.nullable and batch[column.name].null_count
    ]
    names = pa.array(class_names, label_type(class_names))
    for name in there.intersection(("given_label", "predicted_label", "suggested_label")):
        codes = codes_of(batch[name], names)
        wrong = np.flatnonzero(
            (codes == MISSING) & batch[name].is_valid().to_numpy(zero_copy_only=False)
        )
        if len(wrong):
            row = int(wrong[0])
            faults.append(
                f"{name} of row {start + row + 1:,} is {batch[name][row].as_py()!r}, no class"
            )
    for name in there.intersection(("exact_duplicate_set", "near_duplicate_set")):
        low, high = pc.min_max(batch[name]).values()  # readers index arrays by them
        if low.is_valid and not 0 <= low.as_py() <= high.as_py() < size:
            faults.append(f"{name} has numbers that are not from 0 to {size - 1:,}")
    faults += faults_of_lists(batch, len(class_names))
    if faults:
        raise ReportError(
            f"{file} is damaged: {'; '.join(sorted(faults))}", hint="audit again with --overwrite"
        )


def _refuse_files_of_two_runs(folder: Path, run: RunInfo, name: str) -> None:
    """Refuse a report beside the ``run.json`` of another run; one that is damaged tells nothing."""
    try:
        told = parse_json((folder / RUN_NAME).read_bytes())
    except (OSError, ValueError):
        return
    if not isinstance(told, dict) or told.get("run_id") == run.run_id:
        return
    is_under_way = (folder / UNFINISHED_NAME).exists()
    raise ReportError(
        f"{folder} holds the {name} of one run and the {RUN_NAME} of another",
        hint="an audit that replaces the run has not ended, or was cut off: then finish it with "
        "--resume"
        if is_under_way
        else "audit again with --overwrite",
    )


def _read_metadata(
    metadata: Mapping[bytes, bytes], file: Path
) -> tuple[tuple[Label, ...], RunInfo]:
    try:
        version = int(metadata[VERSION_KEY])
        if version > SCHEMA_VERSION:
            raise ReportError(
                f"{file} has schema version {version}; this labelfix reads up to {SCHEMA_VERSION}",
                hint="read it with a newer labelfix: pip install --upgrade labelfix",
            )
        if metadata.get(DIGEST_KEY, b"") not in (b"", _digest_of(metadata)):
            raise ValueError("they are not what was written")
        record = parse_json(metadata[RUN_KEY])
        _check_run(record)
        run = RunInfo.from_json(record)
        return different_labels(parse_json(metadata[CLASSES_KEY])), run
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)[:300]
        raise ReportError(
            f"{file} is Parquet, but no labelfix report: its metadata are missing or damaged "
            f"({what})",
            hint=f"name the {REPORT_NAME} that `labelfix audit` wrote; other tools that rewrite "
            "the file drop its metadata",
        ) from error


def _digest_of(metadata: Mapping[bytes, bytes]) -> bytes:
    """Return the digest of what a report says of itself; pages have checksums of their own."""
    parts = b"\0".join(metadata[key] for key in (VERSION_KEY, CLASSES_KEY, RUN_KEY))
    return hashlib.blake2b(parts, digest_size=16).hexdigest().encode()


def _check_columns(
    schema: pa.Schema, columns: Sequence[Column], class_names: tuple[Label, ...], file: Path
) -> None:
    late = {column.name for column in columns if column.is_late}
    faults = [
        f"{field.name} ({field.type})"
        for field in arrow_schema(class_names, columns)
        if (field.name not in schema.names and field.name not in late)
        or (field.name in schema.names and schema.field(field.name).type != field.type)
    ]
    if faults:
        raise ReportError(
            f"{file} lacks columns of a report, or has them with another type: {', '.join(faults)}",
            hint=f"use the {REPORT_NAME} as `labelfix audit` wrote it",
        )
