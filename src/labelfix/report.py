"""The report: one row a sample, as a Parquet file.

Letters: N samples, K classes.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelfix.errors import ReportError
from labelfix.files import atomic_path, refuse_special_file
from labelfix.issue_records import IssueKinds
from labelfix.late_columns import kind_columns, with_late_columns
from labelfix.noise_matrix import NOISE_MATRIX_NAME, noise_table, write_noise_table
from labelfix.reading import is_label, is_number, parquet_faults, parse_json
from labelfix.reasons import reasons
from labelfix.records import (
    MISSING,
    Assumption,
    Corrections,
    DatasetSource,
    Duplicates,
    Evidence,
    Judgeable,
    Label,
    LabeledDataset,
    LabelScores,
    Reviewed,
)
from labelfix.report_schema import (
    CLASSES_KEY,
    COLUMNS,
    PROBABILITIES,
    RUN_KEY,
    SCHEMA_VERSION,
    VERSION_KEY,
    arrow_schema,
    label_type,
)

REPORT_NAME = "report.parquet"
"""What the report is called in a RUN folder."""

RUN_NAME = "run.json"
UNFINISHED_NAME = "unfinished.json"

PRED_PROBS = "pred_probs"

ROW_GROUP_VALUES = 1 << 25
"""Probabilities in a row group at most: with more than 512 classes it has fewer rows."""

ROW_GROUP_SIZE = 65_536
"""Fixed, so that the same rows always make the same bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Where the verdicts came from. No dates, timings or places of output: see `write_report`.

    Args:
        source: The data that were audited.
        fingerprint: The fingerprint of their images.
        noise_rate: The estimated share of wrong labels among the judged samples; ``None`` when
            nothing was judged.
        noise_rate_interval: Between which shares it lies with a probability of 90 %.
        backbone: The network that looked at the images; ``None`` where probabilities were given.
        seed: What every random choice was drawn from; ``None`` where there was none.
        versions: Library to version.
        settings: The rest of what shaped the verdicts, as JSON values.
        assumptions: What was taken for granted, the most important first.
        run_id: Names the run, so that files of two runs are told apart: equal for equal data,
            settings and decisions. ``None`` in a report that is older than such names.
    """

    source: DatasetSource
    fingerprint: str
    noise_rate: float | None
    noise_rate_interval: tuple[float, float] | None
    backbone: str | None
    seed: int | None
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    assumptions: tuple[Assumption, ...] = ()
    run_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        source = {**asdict(self.source), "path": str(self.source.path)}
        rate = self.noise_rate
        return {
            "source": source,
            "fingerprint": self.fingerprint,
            "noise_rate": None if rate is None or not np.isfinite(rate) else float(rate),
            "noise_rate_interval": self.noise_rate_interval and list(self.noise_rate_interval),
            "backbone": self.backbone,
            "seed": self.seed,
            "versions": dict(self.versions),
            "settings": dict(self.settings),
            "assumptions": [asdict(assumption) for assumption in self.assumptions],
            "run_id": self.run_id,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RunInfo":
        """Return the record that `to_json` wrote; keys that are not known are left alone.

        Raises:
            KeyError: A key is missing.
        """
        source, interval = values["source"], values["noise_rate_interval"]
        own = {"source", "noise_rate_interval", "assumptions", "run_id"}
        return cls(
            source=DatasetSource(
                source["kind"],
                Path(source["path"]),
                source["columns"],
                follow_links=bool(source.get("follow_links", False)),
            ),
            noise_rate_interval=None if interval is None else (interval[0], interval[1]),
            assumptions=tuple(Assumption(**found) for found in values.get("assumptions", ())),
            run_id=values.get("run_id"),
            **{name: values[name] for name in cls.__slots__ if name not in own},
        )


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


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What an audit found.

    Args:
        table: N rows, the columns of `labelfix.report_schema.COLUMNS`, with or without
            ``pred_probs``, which is most of a report when K is large.
        class_names: K names, in the order of ``pred_probs``.
        run: Where the verdicts came from.
        noise: The class-to-class noise matrix, as `labelfix.noise_matrix.noise_table` gives it;
            ``None`` in a report that was read, as it has a file of its own.
    """

    table: pa.Table
    class_names: tuple[Label, ...]
    run: RunInfo
    noise: pa.Table | None = None

    def __len__(self) -> int:
        """Return N."""
        return int(self.table.num_rows)


def build_report(
    *,
    dataset: LabeledDataset,
    unreadable: Mapping[int, str],
    judgeable: Judgeable,
    evidence: Evidence,
    scores: LabelScores,
    corrections: Corrections,
    duplicates: Duplicates,
    kinds: IssueKinds | None,
    run: RunInfo,
    reviewed: Reviewed | None = None,
) -> Report:
    """Return the report on a run; where every row is judged, ``pred_probs`` is not copied.

    Args:
        dataset: N samples.
        unreadable: Row to reason, for the images that could not be read.
        judgeable: Which samples were judged, and in which fold.
        evidence: The out-of-sample probabilities.
        scores: How far the given labels can be believed.
        corrections: Flags, suggestions and weights.
        duplicates: Byte-identical images.
        kinds: What else was found of the images; ``None`` if none was looked at.
        run: Where all that came from.
        reviewed: What people decided, for the ``reason``; the scores know of it already.
    """
    report = build_verdicts(
        dataset=dataset,
        unreadable=unreadable,
        judgeable=judgeable,
        scores=scores,
        corrections=corrections,
        duplicates=duplicates,
        kinds=kinds,
        run=run,
        reviewed=reviewed,
    )
    probs = probability_lists(evidence.pred_probs, judgeable.is_judged)
    return replace(report, table=_with_pred_probs(report.table, probs))


def build_verdicts(
    *,
    dataset: LabeledDataset,
    unreadable: Mapping[int, str],
    judgeable: Judgeable,
    scores: LabelScores,
    corrections: Corrections,
    duplicates: Duplicates,
    kinds: IssueKinds | None,
    run: RunInfo,
    reviewed: Reviewed | None = None,
) -> Report:
    """Return the report on a run without ``pred_probs``; see `build_report`."""
    is_flagged = corrections.is_label_issue
    is_unreadable = np.zeros(len(dataset), np.bool_)
    is_unreadable[np.fromiter(unreadable.keys(), np.int64, len(unreadable))] = True
    columns = {
        "sample_id": dataset.sample_id,
        "split": dataset.split,
        "sample_weight": pa.array(corrections.sample_weight.astype(np.float32)),
        "is_label_issue": pa.array(is_flagged),
        "suggested_label_probability": _floats(scores.alternative_probability, is_flagged),
        "is_unreadable_issue": pa.array(is_unreadable),
        "is_exact_duplicate_issue": pa.array(duplicates.exact_duplicate_set != MISSING),
        "exact_duplicate_set": _numbers(duplicates.exact_duplicate_set),
        "is_conflicting_duplicate_issue": pa.array(duplicates.is_conflicting),
        "reason": reasons(
            dataset, unreadable, judgeable, scores, corrections, duplicates, kinds, reviewed
        ),
        **kind_columns(kinds, len(dataset)),
        **_label_columns(dataset, scores, corrections),
        **_judged_columns(judgeable, scores),
    }
    schema = arrow_schema(dataset.class_names)
    schema = schema.remove(schema.get_field_index(PRED_PROBS))
    table = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
    return Report(table, dataset.class_names, run, noise_table(scores, dataset.class_names))


def _with_pred_probs(table: pa.Table, probs: pa.ChunkedArray) -> pa.Table:
    position = [column.name for column in COLUMNS].index(PRED_PROBS)
    return table.add_column(position, pa.field(PRED_PROBS, PROBABILITIES), probs)


def _label_columns(
    dataset: LabeledDataset, scores: LabelScores, corrections: Corrections
) -> dict[str, pa.Array]:
    names = pa.array(dataset.class_names, label_type(dataset.class_names))
    return {
        "given_label": names.take(_numbers(dataset.given_label)),
        "predicted_label": names.take(_numbers(scores.predicted_label)),
        "suggested_label": names.take(_numbers(corrections.suggested_label)),
    }


def _judged_columns(judgeable: Judgeable, scores: LabelScores) -> dict[str, pa.Array]:
    is_judged, error = judgeable.is_judged, scores.label_error_probability
    return {
        "label_score": _floats(1 - error, is_judged),
        "label_error_probability": _floats(error, is_judged),
        "fold": _numbers(np.where(is_judged, judgeable.fold, MISSING).astype(np.int16)),
    }


def probability_lists(probs: NDArray[np.float32], is_judged: NDArray[np.bool_]) -> pa.ChunkedArray:
    """Return ``(N,)`` lists of K; chunks, because Arrow counts a list's elements in 32 bits.

    Args:
        probs: ``(N, K)``.
        is_judged: ``(N,)`` bool: the others are null.
    """
    classes = max(probs.shape[1], 1)
    step = min(ROW_GROUP_SIZE, (2**31 - 1) // classes)
    chunks = []
    for start in range(0, len(probs), step):
        part, is_known = probs[start : start + step], is_judged[start : start + step]
        known = part if is_known.all() else part[is_known]  # Parquet wants nothing under a null
        offsets = np.concatenate([[0], np.cumsum(is_known) * classes]).astype(np.int32)
        values = pa.array(np.ascontiguousarray(known, np.float32).reshape(-1))
        chunks.append(
            pa.ListArray.from_arrays(
                pa.array(offsets), values, type=PROBABILITIES, mask=pa.array(~is_known)
            )
        )
    return pa.chunked_array(chunks, PROBABILITIES)


def _numbers(values: NDArray[np.integer]) -> pa.Array:
    return pa.array(values, mask=values == MISSING)


def _floats(values: NDArray[np.floating], is_known: NDArray[np.bool_]) -> pa.FloatArray:
    return pa.array(values.astype(np.float32), mask=~is_known)


def write_report(
    report: Report, path: Path, pred_probs: Iterable[pa.ChunkedArray] | None = None
) -> None:
    """Write a report as Parquet, and its noise matrix beside it: the same ones always alike.

    Args:
        report: What to write.
        path: The file, replaced if it is there.
        pred_probs: Of a report without that column: its `probability_lists`, made when they are
            written, `row_group_rows` at a time.

    Raises:
        RunError: The place cannot be written to.
    """
    metadata = {
        VERSION_KEY: str(SCHEMA_VERSION),
        CLASSES_KEY: json.dumps(report.class_names),
        RUN_KEY: json.dumps(report.run.to_json(), sort_keys=True),
    }
    schema = arrow_schema(report.class_names).with_metadata(metadata)
    step = row_group_rows(len(report.class_names))
    groups = (report.table.slice(start, step) for start in range(0, len(report), step))
    if pred_probs is not None:
        groups = (_with_pred_probs(*pair) for pair in zip(groups, pred_probs, strict=True))
    with (
        atomic_path(path) as draft,
        pq.ParquetWriter(
            draft,
            schema,
            version="2.6",
            compression="zstd",
            compression_level=3,
            use_dictionary=["split", "given_label", "predicted_label", "suggested_label"],
        ) as writer,
    ):
        for group in groups:
            writer.write_table(group, row_group_size=step)
    if report.noise is not None:
        write_noise_table(report.noise, path.with_name(NOISE_MATRIX_NAME))


def row_group_rows(classes: int) -> int:
    """Return how many rows of a report are written, and held in memory, at a time."""
    return max(1, min(ROW_GROUP_SIZE, ROW_GROUP_VALUES // max(classes, 1)))


def report_file(path: Path) -> Path:
    """Return the report's own path, for a RUN folder or the file itself.

    Raises:
        ReportError: There is no report.
    """
    file = path / REPORT_NAME if path.is_dir() else path
    refuse_special_file(file, ReportError)
    if not file.is_file():
        holder = f"{path} holds no {REPORT_NAME}" if path.is_dir() else f"{path} does not exist"
        raise ReportError(holder, hint="name the RUN folder of a finished `labelfix audit`")
    return file


def read_report_table(path: Path, *, pred_probs: bool = True) -> Report:
    """Read a report and check that it is one.

    Args:
        path: A RUN folder, or the report file itself.
        pred_probs: Whether to read that column too; it is most of the file when K is large, and
            without it ``table`` lacks it.

    Raises:
        ReportError: There is no report, the file is not one that this version can read, or it
            lies beside the ``run.json`` of another run.
    """
    file = report_file(path)
    with (
        parquet_faults(
            ReportError,
            f"{file} cannot be read as Parquet",
            f"name a RUN folder, or the {REPORT_NAME} in it; if it is damaged, audit again",
        ),
        pq.ParquetFile(file) as parquet,
    ):
        schema = parquet.schema_arrow
        class_names, run = _read_metadata(schema.metadata or {}, file)
        _check_columns(schema, class_names, file)
        wanted = [c.name for c in COLUMNS if pred_probs or c.name != PRED_PROBS]
        table = with_late_columns(parquet.read(columns=wanted))
        table = table.select(wanted).replace_schema_metadata()
        table.validate(full=True)  # bytes that are not UTF-8, lists beyond their values
    _check_values(table, class_names, file)
    if file.name == REPORT_NAME:
        _refuse_files_of_two_runs(file.parent, run)
    return Report(table, class_names, run)


def _check_values(table: pa.Table, class_names: tuple[Label, ...], file: Path) -> None:
    """Refuse a table whose cells are none that an audit writes."""
    faults = [
        f"{column.name} is null in {table[column.name].null_count:,} rows"
        for column in COLUMNS
        if not column.nullable and table[column.name].null_count
    ]
    names = pa.array(class_names, label_type(class_names))
    for name in ("given_label", "predicted_label", "suggested_label"):
        is_known = pc.or_(pc.is_in(table[name], names), pc.is_null(table[name]))
        row = pc.index(is_known, False).as_py()
        if row >= 0:
            faults.append(f"{name} of row {row + 1:,} is {table[name][row].as_py()!r}, no class")
    if PRED_PROBS in table.column_names:
        lengths = pc.unique(pc.list_value_length(table[PRED_PROBS]).drop_null()).to_pylist()
        if set(lengths) - {len(class_names)}:
            faults.append(f"pred_probs has {lengths[:3]} values for {len(class_names)} classes")
    if faults:
        raise ReportError(
            f"{file} is damaged: {'; '.join(faults)}", hint="audit again with --overwrite"
        )


def _refuse_files_of_two_runs(folder: Path, run: RunInfo) -> None:
    """Refuse a report beside the ``run.json`` of another run; one that is damaged tells nothing."""
    try:
        told = parse_json((folder / RUN_NAME).read_bytes())
    except (OSError, ValueError):
        return
    if not isinstance(told, dict) or told.get("run_id") == run.run_id:
        return
    is_under_way = (folder / UNFINISHED_NAME).exists()
    raise ReportError(
        f"{folder} holds the {REPORT_NAME} of one run and the {RUN_NAME} of another",
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
        record = parse_json(metadata[RUN_KEY])
        _check_run(record)
        run = RunInfo.from_json(record)
        return _class_names(parse_json(metadata[CLASSES_KEY])), run
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)[:300]
        raise ReportError(
            f"{file} is Parquet, but no labelfix report: its metadata are missing or damaged "
            f"({what})",
            hint=f"name the {REPORT_NAME} that `labelfix audit` wrote; other tools that rewrite "
            "the file drop its metadata",
        ) from error


def _class_names(names: Any) -> tuple[Label, ...]:
    """Return the class names that JSON holds: all text or all integers, each once.

    Raises:
        ValueError: They are none.
    """
    is_list = isinstance(names, list) and all(map(is_label, names))
    if not is_list or len({type(name) for name in names}) > 1 or len(set(names)) < len(names):
        raise ValueError("the class names are no list of different texts or integers")
    return tuple(names)


def _check_columns(schema: pa.Schema, class_names: tuple[Label, ...], file: Path) -> None:
    late = {column.name for column in COLUMNS if column.is_late}
    faults = [
        f"{field.name} ({field.type})"
        for field in arrow_schema(class_names)
        if (field.name not in schema.names and field.name not in late)
        or (field.name in schema.names and schema.field(field.name).type != field.type)
    ]
    if faults:
        raise ReportError(
            f"{file} lacks columns of a report, or has them with another type: {', '.join(faults)}",
            hint=f"use the {REPORT_NAME} as `labelfix audit` wrote it",
        )
