"""Write a data set with the labels that were decided and those that an audit is sure of."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.arguments import checks_arguments
from labelfix.config import MIN_PROBABILITY
from labelfix.data.dataset import shards_among
from labelfix.data.decisions import DecisionLog, decisions_file, read_decisions
from labelfix.data.files import find_files, text_of_paths
from labelfix.data.metadata import metadata_files
from labelfix.data.parquet import partition_of
from labelfix.data.probability_samples import location_of
from labelfix.data.remote import is_remote
from labelfix.data.table_text import RECORDS_SUFFIX, table_suffix
from labelfix.errors import ConfigError, DecisionsError, UnreadableSample
from labelfix.exports.annotation_tools import write_label_studio_config, write_tasks
from labelfix.exports.fiftyone import write_fiftyone
from labelfix.exports.folder import write_class_folder
from labelfix.exports.huggingface import write_huggingface
from labelfix.exports.leftovers import (
    Untouched,
    conflicts_of,
    note_on_conflicts,
    untouched_of,
)
from labelfix.exports.plan import ExportPlan, plan_export, reopen_dataset
from labelfix.exports.same_parquet import write_own_parquet, write_own_shards
from labelfix.exports.same_text import write_own_text
from labelfix.exports.soft_labels import SOFT_LABEL, soft_classes, soft_label_columns
from labelfix.exports.table import (
    TableFormat,
    datalab_tables,
    manifest_tables,
    write_table,
)
from labelfix.modalities.base import get_modality, is_known
from labelfix.report.decisions import find_rows
from labelfix.report.io import read_pred_probs, read_report_table, report_file
from labelfix.report.schema import row_group_rows
from labelfix.report.types import Report
from labelfix.report.view import ReportView
from labelfix.types import CLASSES_KEY, MEMORY_KIND, PRED_PROBS_KIND, DatasetSource
from labelfix.utils.files import (
    make_folder,
    refuse_existing_file,
    refuse_existing_folder,
    refuse_overwriting_inputs,
)
from labelfix.utils.progress import OnProgress, no_progress

ExportFormat = Literal[
    "own",
    "folder",
    "csv",
    "parquet",
    "jsonl",
    "huggingface",
    "cleanlab",
    "label-studio",
    "fiftyone",
    "argilla",
]

_FORMAT_OF_SUFFIX: dict[str, ExportFormat] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_FORMS_OF_ANY = ("own", "csv", "parquet", "jsonl", "cleanlab")
"""Forms that hold samples of every kind."""

_FORMS_OF_TEXTS = ("huggingface", "label-studio", "argilla")
"""Forms that hold texts besides."""

_LINKED = {"folder", "fiftyone"}


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export did. ``rows == kept + dropped + without_image``.

    Args:
        to: The file or folder that was written.
        format: What it is.
        rows: Rows of the report.
        kept: Rows in the export, those with a changed label among them.
        changed: Rows of the plan whose label was changed.
        dropped: Rows left out because that was decided or asked for.
        test_rows: Undecided rows of a test split, which are exported as they came.
        without_image: Rows whose image or text cannot be had, where the form needs one.
        files: Files written.
        untouched: Flagged labels that stay though nobody decided on them; ``None`` where the form
            tells what was found.
        notes: What a person should know, a sentence each.
    """

    to: Path
    format: ExportFormat
    rows: int
    kept: int
    changed: int
    dropped: int
    test_rows: int
    without_image: int
    files: int
    untouched: Untouched | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {**asdict(self), "to": str(self.to)}


@checks_arguments
def export(
    run: str | Path,
    to: str | Path,
    *,
    min_probability: float = MIN_PROBABILITY,
    drop: bool = False,
    link: bool = False,
    soft_labels: bool = False,
    format: ExportFormat | None = None,
    overwrite: bool = False,
    decisions: str | Path | None = None,
    on_progress: OnProgress = no_progress,
) -> ExportResult:
    """Write the audited data set with the labels that were decided or that the audit is sure of.

    What people decided in ``labelfix review`` counts first. Where nobody did, a label changes only
    where it is wrong *and* the suggested one right with at least ``min_probability`` each.
    ``sample_weight`` in a table is the weight of the exported label: the report's own for a label
    that stays; for a changed one its probability (1 if it was decided) times the ratio of all
    weights to all label scores in the report; then all are scaled to mean 1.

    Args:
        run: A RUN folder, or its report.
        to: The file or the folder to write. A folder may be there if it is empty.
        min_probability: How sure both probabilities have to be, 0 to 1.
        drop: Leave out the flagged rows that are as surely wrong but whose suggestion is not as
            sure, and the unreadable ones, unless somebody decided otherwise.
        link: Link the files of a folder instead of copying them.
        soft_labels: Add a column ``soft_label`` to a table in Parquet: how probable each class is
            (`labelfix.exports.soft_labels`), whatever ``min_probability``.
        format: What to write (docs/exports.md); ``None`` takes it from the suffix of ``to``.
        overwrite: Replace a file that is there; a folder is never replaced.
        decisions: A file of decisions, as the page of the run writes them: they are added to those
            on the run first.
        on_progress: Told about the files as they are written.

    Raises:
        ReportError: ``run`` holds no report.
        DecisionsError: The decisions on it cannot be read, or do not fit it.
        ConfigError: The settings do not fit each other, or ``to`` lies in the data set.
        DatasetError: The data set is needed but gone, or has changed, or cannot hold a new label.
        RunError: ``to`` is there already, or cannot be written to.
    """
    run, to = Path(run), Path(to)
    report = read_report_table(run, pred_probs=False)
    if decisions is not None:
        _take_decisions(report, run, Path(decisions))
    view = ReportView(report, read_decisions(run))
    plan = plan_export(view, min_probability=min_probability, drop=drop)
    chosen = _choose_format(report, to, format)
    if chosen == "own":
        _refuse_own_form(report.run.source)
    if not view.shows_images:
        _refuse_image_form(view, chosen)
    _refuse_link(report, chosen, link=link)
    if soft_labels and chosen != "parquet":
        raise ConfigError(
            f"--format {chosen} holds no soft labels",
            hint="export a table as Parquet: end the name in .parquet",
        )
    places = [to, _config_beside(to)] if chosen == "label-studio" else [to]
    inputs = [*_inputs(report), report_file(run), decisions_file(run)]
    if decisions is not None:
        inputs.append(Path(decisions))
    refuse_overwriting_inputs(places, inputs)
    is_folder = _is_folder(report, chosen)
    for place in places:
        if is_folder:
            refuse_existing_folder(place)
        else:
            refuse_existing_file(place, overwrite=overwrite)
    make_folder(to.parent)
    probs = read_pred_probs(run) if soft_labels else None
    job = _Job(view, plan, to, chosen, link, probs, on_progress)
    written = _WRITERS[_kind_of_writer(report, chosen)](job)
    untouched = untouched_of(view, plan, min_probability=min_probability)
    return _result(job, written, untouched)


def _take_decisions(report: Report, run: Path, file: Path) -> None:
    """Add the decisions of a file to those on a run with a report.

    Raises:
        DecisionsError: The file holds none on samples of the run, or cannot be read.
        RunError: They cannot be written.
    """
    if not file.is_file():
        raise DecisionsError(
            f"there is no file of decisions {file}",
            hint="name the file that was saved from the page of this run",
        )
    found = read_decisions(file)
    if not find_rows(report, list(found)):
        raise DecisionsError(
            f"no decision of {file} is on a sample of {run}",
            hint="name the file that was saved from the page of this run",
        )
    DecisionLog(run, report.class_names).take(found.values())


def fitting_formats(view: ReportView) -> tuple[ExportFormat, ...]:
    """Return the forms that the samples of a run can be written in, its own first if it can."""
    return tuple(chosen for chosen in get_args(ExportFormat) if _fits(view, chosen))


def suffix_of(view: ReportView, chosen: ExportFormat) -> str:
    """Return the usual ending of what an export in a form writes, "" for a folder."""
    if _is_folder(view.report, chosen):
        return ""
    if chosen == "own":
        return view.report.run.source.path.suffix
    usual = {"cleanlab": ".parquet", "label-studio": ".json", "argilla": ".json"}
    return usual.get(chosen, f".{chosen}")


def _fits(view: ReportView, chosen: ExportFormat) -> bool:
    needs_data = chosen not in ("csv", "parquet", "jsonl", "cleanlab")
    if needs_data and view.report.run.source.kind in (PRED_PROBS_KIND, MEMORY_KIND):
        return False
    try:
        if chosen == "own":
            _refuse_own_form(view.report.run.source)
        if not view.shows_images:
            _refuse_image_form(view, chosen)
    except ConfigError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Job:
    """What one export has to do."""

    view: ReportView
    plan: ExportPlan
    to: Path
    format: ExportFormat
    link: bool
    pred_probs: Iterator[NDArray[np.float32]] | None
    on_progress: OnProgress

    def make_way(self) -> None:
        """Take away the empty folder that is to be filled: it cannot be renamed onto everywhere."""
        if self.to.is_dir():
            self.to.rmdir()


@dataclass(frozen=True, slots=True)
class _Written:
    """What one export did."""

    files: int = 1
    without_image: int = 0
    notes: tuple[str, ...] = ()


def _result(job: _Job, written: _Written, untouched: Untouched) -> ExportResult:
    rows, plan = len(job.view), job.plan
    is_as_found = job.format == "cleanlab"  # every row, whatever was planned
    kept = rows if is_as_found else len(plan.rows)
    notes = written.notes
    if not is_as_found:
        conflicts = note_on_conflicts(job.view, conflicts_of(job.view, plan))
        notes = plan.decided.notes + conflicts + notes
    return ExportResult(
        to=job.to,
        format=job.format,
        rows=rows,
        kept=kept - written.without_image,
        changed=0 if is_as_found else plan.changed,
        dropped=rows - kept,
        test_rows=plan.test_rows,
        without_image=written.without_image,
        files=written.files,
        untouched=None if is_as_found else untouched,
        notes=notes,
    )


def _write_table(job: _Job, form: TableFormat) -> _Written:
    text_of = _text_reader(job)
    if job.pred_probs is None:
        tables = manifest_tables(job.view, job.plan, job.to, text_of)
    else:
        tables = _with_soft_labels(job, job.pred_probs, text_of)
    return _Written(notes=write_table(tables, job.to, form))


def _with_soft_labels(
    job: _Job,
    pred_probs: Iterator[NDArray[np.float32]],
    text_of: Callable[[int], str | None] | None,
) -> Iterator[pa.Table]:
    names = soft_classes(job.view, job.plan)
    step = row_group_rows(len(names))
    tables = manifest_tables(job.view, job.plan, job.to, text_of, step)
    columns = soft_label_columns(job.view, job.plan, pred_probs, step)
    for table, soft in zip(tables, columns, strict=True):
        whole = table.append_column(SOFT_LABEL, soft)
        yield whole.replace_schema_metadata({CLASSES_KEY: json.dumps(names)})


def _text_reader(job: _Job) -> Callable[[int], str | None] | None:
    """Return what reads the text of a row, or ``None`` of it; ``None`` where samples are none."""
    decode = _text_of(job.view.report)
    if decode is None or job.view.report.run.source.kind == MEMORY_KIND:
        return None
    store = reopen_dataset(job.view.report, job.on_progress).store

    def text_of(row: int) -> str | None:
        try:
            return decode(store.read(row))
        except UnreadableSample:
            return None

    return text_of


def _text_of(report: Report) -> Callable[[bytes], str] | None:
    name = report.run.modality
    return get_modality(name).text_of if name is not None and is_known(name) else None


def _write_cleanlab(job: _Job) -> _Written:
    form: TableFormat = "csv" if job.to.suffix.lower() == ".csv" else "parquet"
    return _Written(notes=write_table(datalab_tables(job.view), job.to, form))


def _write_class_folder(job: _Job) -> _Written:
    store = reopen_dataset(job.view.report, job.on_progress).store
    job.make_way()
    files = write_class_folder(
        job.view, job.plan, store, job.to, link=job.link, on_progress=job.on_progress
    )
    return _Written(files.written, files.without_image)


def _write_fiftyone(job: _Job) -> _Written:
    store = reopen_dataset(job.view.report, job.on_progress).store
    job.make_way()
    files = write_fiftyone(
        job.view, job.plan, store, job.to, link=job.link, on_progress=job.on_progress
    )
    return _Written(files.written + 1, files.without_image)


def _write_huggingface(job: _Job) -> _Written:
    store = reopen_dataset(job.view.report, job.on_progress).store
    job.make_way()
    return _Written(
        write_huggingface(job.view, job.plan, store, job.to, _text_reader(job), job.on_progress)
    )


def _write_label_studio(job: _Job) -> _Written:
    store = reopen_dataset(job.view.report, job.on_progress).store
    config = _config_beside(job.to)
    text_of = _text_reader(job)
    write_label_studio_config(job.view, job.plan, config, is_text=text_of is not None)
    many = write_tasks(job.view, job.plan, store, job.to, "label-studio", text_of, job.on_progress)
    note = f"the labeling interface of these tasks is {config}"
    return _Written(2, len(job.plan.rows) - many, (note,))


def _write_argilla(job: _Job) -> _Written:
    store = reopen_dataset(job.view.report, job.on_progress).store
    text_of = _text_reader(job)
    many = write_tasks(job.view, job.plan, store, job.to, "argilla", text_of, job.on_progress)
    return _Written(1, len(job.plan.rows) - many)


def _write_own_file(job: _Job) -> _Written:
    source = reopen_dataset(job.view.report, job.on_progress).source
    if source.path.suffix.lower() == ".parquet":
        write_own_parquet(source, job.plan, job.to)
    else:
        write_own_text(source, job.plan, job.to)
    is_elsewhere = job.to.resolve().parent != source.path.resolve().parent
    if not source.has_files or not is_elsewhere:
        return _Written()
    return _Written(notes=(f"its image paths are relative to {source.path.parent}, as they were",))


def _write_own_shards(job: _Job) -> _Written:
    source = reopen_dataset(job.view.report, job.on_progress).source
    names = text_of_paths(
        find_files(source.path, no_progress, follow_links=source.follow_links)[0]
    ).to_pylist()
    shards = shards_among(names)
    others = [name for name in set(names) - set(shards) if _is_inside(source.path, name)]
    job.make_way()
    return _Written(write_own_shards(source, shards, others, job.plan, job.to, job.on_progress))


def _is_inside(folder: Path, name: str) -> bool:
    """Return whether a file is there, and not by a link that leads out of its folder."""
    file = (folder / name).resolve()
    return file.is_file() and file.is_relative_to(folder.resolve())


_WRITERS: dict[str, Callable[[_Job], _Written]] = {
    "folder": _write_class_folder,
    "csv": partial(_write_table, form="csv"),
    "parquet": partial(_write_table, form="parquet"),
    "jsonl": partial(_write_table, form="jsonl"),
    "huggingface": _write_huggingface,
    "cleanlab": _write_cleanlab,
    "label-studio": _write_label_studio,
    "fiftyone": _write_fiftyone,
    "argilla": _write_argilla,
    "own file": _write_own_file,
    "own shards": _write_own_shards,
}


def _kind_of_writer(report: Report, chosen: ExportFormat) -> str:
    if chosen != "own":
        return chosen
    source = report.run.source
    if source.kind == "folder":
        return "folder"
    return "own file" if source.path.suffix and not source.path.is_dir() else "own shards"


def _is_folder(report: Report, chosen: ExportFormat) -> bool:
    kind = _kind_of_writer(report, chosen)
    return kind in {"folder", "huggingface", "fiftyone", "own shards"}


def _config_beside(to: Path) -> Path:
    return to.with_suffix(".xml")


def _inputs(report: Report) -> list[Path]:
    """Return the files and folders that were audited."""
    run = report.run
    others = [*map(Path, run.settings.get("pred_probs", []))]
    location = location_of(run.settings) if run.source.kind == PRED_PROBS_KIND else None
    if location is not None and location.images is not None:
        others.append(location.images)
    return [run.source.path, *others]


def _refuse_own_form(source: DatasetSource) -> None:
    """Refuse to write forms again that labelfix only reads.

    Raises:
        ConfigError: The data are in one of them; the hint names those that can be written.
    """
    what = _why_not_own(source)
    if what is not None:
        raise ConfigError(
            f"{what}: it cannot be exported in its own form",
            hint="choose --format folder or huggingface, or a table: csv, parquet or jsonl",
        )


def _refuse_image_form(view: ReportView, chosen: ExportFormat) -> None:
    """Refuse forms that hold pictures, for samples that are none.

    Raises:
        ConfigError: The form is one of them.
    """
    is_folder = chosen == "folder" and view.report.run.source.kind == "folder"
    of_texts = _FORMS_OF_TEXTS if _text_of(view.report) is not None else ()
    if chosen in (*_FORMS_OF_ANY, *of_texts) or is_folder:
        return
    plural = view.wording.plural
    raise ConfigError(
        f"--format {chosen} is for images, and the samples of this run are {plural}",
        hint=f"choose one of {', '.join((*_FORMS_OF_ANY, *of_texts))}",
    )


def _why_not_own(source: DatasetSource) -> str | None:
    """Return why data cannot be written in their own form, ``None`` if they can."""
    what, names = None, list[str]()
    if is_remote(source.path):
        return f"{source.path} is an address, which labelfix only reads"
    if source.kind in ("manifest", "parquet") and source.path.is_dir():
        names = text_of_paths(find_files(source.path, no_progress)[0]).to_pylist()
    if source.kind == MEMORY_KIND:
        what = f"the audited data, {source.path}, were in the memory of a program"
    elif source.kind in ("archive", "arrow"):
        what = f"{source.path} is read in place, and labelfix writes no "
        what += "archives" if source.kind == "archive" else "Arrow files"
    elif source.kind == "manifest" and table_suffix(source.path.name) == RECORDS_SUFFIX:
        what = f"{source.path} is a list in one JSON file, which labelfix only reads"
    elif source.kind == "manifest" and metadata_files(names):
        what = f"the labels of {source.path} are in several metadata files"
    elif source.kind not in ("folder", PRED_PROBS_KIND) and "label" not in source.columns:
        what = f"the labels of {source.path} are not in one column"
    elif any(source.columns.get("label") in partition_of(name) for name in names):
        what = f"the labels of {source.path} are in the names of its folders"
    return what


def _choose_format(report: Report, to: Path, wanted: ExportFormat | None) -> ExportFormat:
    suffix = to.suffix.lower()
    if wanted is None:
        if suffix in _FORMAT_OF_SUFFIX:
            return _FORMAT_OF_SUFFIX[suffix]
        if not suffix:
            is_own = _kind_of_writer(report, "own") == "own shards"
            return "own" if is_own and _why_not_own(report.run.source) is None else "folder"
        raise ConfigError(
            f"cannot tell from {to.name!r} what to write",
            hint="end it in .csv, .parquet or .jsonl for a table or in nothing for a folder, or "
            f"say --format and one of {', '.join(get_args(ExportFormat))}",
        )
    if wanted == "cleanlab" and suffix not in (".csv", ".parquet"):
        raise ConfigError(
            f"cannot tell from {to.name!r} whether to write CSV or Parquet",
            hint="end it in .csv or .parquet",
        )
    own = report.run.source.path.suffix.lower()
    if wanted == "own" and not _is_folder(report, wanted) and suffix != own:
        raise ConfigError(
            f"{to.name} would hold what {report.run.source.path.name} holds, under another ending",
            hint=f"end it in {own}, or choose another --format",
        )
    return wanted


def _refuse_link(report: Report, chosen: ExportFormat, *, link: bool) -> None:
    if link and _kind_of_writer(report, chosen) not in _LINKED:
        raise ConfigError(
            f"--format {chosen} writes no files that could be links", hint="leave out --link"
        )
    if link and not report.run.source.has_files:
        raise ConfigError(
            f"the images of {report.run.source.path} are not single files and cannot be linked",
            hint="leave out --link: they are copied",
        )
