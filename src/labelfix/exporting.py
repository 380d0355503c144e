"""Write a data set with the labels that an audit is sure of: a manifest or a class folder."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from labelfix.config import DatasetConfig
from labelfix.dataset import open_dataset
from labelfix.errors import ConfigError, DatasetError, RunError
from labelfix.export_folder import write_class_folder
from labelfix.export_manifest import write_manifest
from labelfix.export_plan import ExportPlan, plan_export
from labelfix.files import make_folder
from labelfix.records import PRED_PROBS_KIND, ImageStore, OnProgress, no_progress
from labelfix.report import Report, read_report_table, report_file

ExportForm = Literal["csv", "parquet", "folder"]

_FORM_OF_SUFFIX: dict[str, ExportForm] = {".csv": "csv", ".parquet": "parquet", "": "folder"}


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export did. ``rows == kept + dropped + without_image``.

    Args:
        to: The file or folder that was written.
        form: What it is.
        rows: Rows of the report.
        kept: Rows in the export, those with a changed label among them.
        changed: Rows of the plan whose label was changed.
        dropped: Rows left out because that was asked for.
        test_rows: Rows of a test split, which are exported as they came.
        without_image: Rows that a folder cannot hold, because they have no file to copy.
        files: Files written.
    """

    to: Path
    form: ExportForm
    rows: int
    kept: int
    changed: int
    dropped: int
    test_rows: int
    without_image: int
    files: int

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {**asdict(self), "to": str(self.to)}


def export(
    run: str | Path,
    to: str | Path,
    *,
    min_probability: float = 0.95,
    drop: bool = False,
    link: bool = False,
    form: ExportForm | None = None,
    overwrite: bool = False,
    on_progress: OnProgress = no_progress,
) -> ExportResult:
    """Write the audited data set with the labels that the audit is sure of.

    A label changes only where it is wrong *and* the suggested one right with at least
    ``min_probability`` each. ``sample_weight`` in a manifest is the weight of the exported label:
    the report's own for a label that stays; for a changed one the suggested label's probability
    times the ratio of all weights to all label scores in the report; then all are scaled to mean 1.

    Args:
        run: A RUN folder, or its report.
        to: The manifest (``.csv``, ``.parquet``) or the class folder to write. A folder may be
            there if it is empty.
        min_probability: How sure both verdicts have to be, 0 to 1.
        drop: Leave out the flagged rows that are as surely wrong but whose suggestion is not as
            sure, and the unreadable ones.
        link: Link the files of a class folder instead of copying them.
        form: What to write; ``None`` takes it from the suffix of ``to``.
        overwrite: Replace a manifest that is there; a folder is never replaced.
        on_progress: Told about the files as they are written.

    Raises:
        ReportError: ``run`` holds no report.
        ConfigError: The settings do not fit each other, or ``to`` lies in the data set.
        DatasetError: A class folder is wanted, but the data set is gone or has changed.
        RunError: ``to`` is there already, or cannot be written to.
    """
    to = Path(to)
    report = read_report_table(Path(run), pred_probs=False)
    chosen = _choose_form(to, form)
    _refuse_link(report, chosen, link=link)
    _keep_off(to, [*_inputs(report), report_file(Path(run))])
    _refuse_existing(to, chosen, overwrite=overwrite)
    plan = plan_export(report, min_probability=min_probability, drop=drop)
    if chosen != "folder":
        make_folder(to.parent)
        write_manifest(report, plan, to, as_parquet=chosen == "parquet")
        return _result(report, plan, to, chosen, files=1, without_image=0)
    images = _open_images(report, on_progress)
    if to.is_dir():
        to.rmdir()  # it is empty; a folder cannot be renamed onto another everywhere
    files = write_class_folder(report, plan, images, to, link=link, on_progress=on_progress)
    return _result(report, plan, to, chosen, files=files.written, without_image=files.without_image)


def _result(
    report: Report,
    plan: ExportPlan,
    to: Path,
    form: ExportForm,
    *,
    files: int,
    without_image: int,
) -> ExportResult:
    return ExportResult(
        to=to,
        form=form,
        rows=len(report),
        kept=len(plan.rows) - without_image,
        changed=plan.changed,
        dropped=len(report) - len(plan.rows),
        test_rows=plan.test_rows,
        without_image=without_image,
        files=files,
    )


def _inputs(report: Report) -> list[Path]:
    """Return the files and folders that were audited."""
    others = report.run.settings.get("pred_probs", [])
    return [report.run.source.path, *map(Path, others)]


def _choose_form(to: Path, form: ExportForm | None) -> ExportForm:
    if form is not None:
        return form
    suffix = to.suffix.lower()
    if suffix not in _FORM_OF_SUFFIX:
        raise ConfigError(
            f"cannot tell from {to.name!r} what to write",
            hint="end it in .csv or .parquet for a manifest or in nothing for a folder, or say "
            "--form csv, parquet or folder",
        )
    return _FORM_OF_SUFFIX[suffix]


def _refuse_link(report: Report, form: ExportForm, *, link: bool) -> None:
    if link and form != "folder":
        raise ConfigError("a manifest holds no files to link", hint="leave out --link")
    if link and report.run.source.kind == "parquet":
        raise ConfigError(
            "images inside Parquet files cannot be linked", hint="leave out --link: they are copied"
        )


def _keep_off(to: Path, inputs: list[Path]) -> None:
    """Refuse to write over or into what was read."""
    place = to.resolve()
    for path in inputs:
        if place.is_relative_to(path.resolve()):
            raise ConfigError(
                f"{to} lies in {path}, which labelfix never changes", hint="choose another place"
            )


def _refuse_existing(to: Path, form: ExportForm, *, overwrite: bool) -> None:
    if form == "folder":
        if to.is_dir() and not any(to.iterdir()):
            return
        if to.exists():
            raise RunError(
                f"{to} is there already and not an empty folder",
                hint="name a folder that does not exist yet; a folder is never overwritten",
            )
    elif to.is_dir():
        raise RunError(f"{to} is a folder", hint="name a file to write the manifest to")
    elif to.exists() and not overwrite:
        raise RunError(f"{to} is there already", hint="choose another name, or add --overwrite")


def _open_images(report: Report, on_progress: OnProgress) -> ImageStore:
    """Open the data set again, to read its images.

    Raises:
        DatasetError: It is gone, or its images are not those that were audited.
    """
    source = report.run.source
    if source.kind == PRED_PROBS_KIND:
        raise DatasetError(
            f"{source.path} holds probabilities, and no images to make a folder of",
            hint="export a manifest: end the name in .csv or .parquet",
        )
    manifest = "put it back, or export a manifest, which needs no images"
    if not source.path.exists():
        raise DatasetError(f"{source.path}, the audited data set, is gone", hint=manifest)
    config = DatasetConfig(**{f"{role}_column": name for role, name in source.columns.items()})
    dataset = open_dataset(source.path, config, on_progress=on_progress)
    is_same = dataset.fingerprint == report.run.fingerprint
    ids = pa.chunked_array([dataset.sample_id])
    if not is_same or not ids.equals(report.table["sample_id"]):
        raise DatasetError(
            f"{source.path} has changed since the audit: its images are not those of the report",
            hint="audit it again, or export a manifest, which needs no images",
        )
    return dataset.images
