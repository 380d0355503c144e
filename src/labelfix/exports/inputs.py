"""What an export may write to, and the data set that it reads again."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from labelfix.audited_data import open_audited
from labelfix.decided import one_array
from labelfix.errors import ConfigError, DatasetError, RunError
from labelfix.records import MISSING, LabeledDataset, OnProgress
from labelfix.report import Report
from labelfix.report_schema import label_type

_TABLE = ", or export a table, which needs no images: --format csv, parquet or jsonl"


def open_again(report: Report, on_progress: OnProgress) -> LabeledDataset:
    """Open the data set that was audited, to read it once more.

    Raises:
        DatasetError: It is gone, or its images or labels are not those that were audited.
    """
    source = report.run.source
    dataset = open_audited(report, on_progress, instead=_TABLE)
    if dataset is None:
        raise DatasetError(
            f"{source.path} holds probabilities, and no images or manifest to write again",
            hint="export a table: end the name in .csv, .parquet or .jsonl",
        )
    if not _labels_of(dataset).equals(one_array(report.table["given_label"])):
        raise DatasetError(
            f"{source.path} has changed since the audit: its labels are not those of the report",
            hint="audit it again, or put the labels back that were audited",
        )
    return dataset


def _labels_of(dataset: LabeledDataset) -> pa.Array:
    names = pa.array(dataset.class_names, label_type(dataset.class_names))
    return names.take(pa.array(dataset.given_label, mask=dataset.given_label == MISSING))


def keep_off(places: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse to write over or into what was read.

    Raises:
        ConfigError: A place lies in an input.
    """
    for place in places:
        for path in inputs:
            if place.resolve().is_relative_to(path.resolve()):
                raise ConfigError(
                    f"{place} lies in {path}, which labelfix never changes",
                    hint="choose another place",
                )


def refuse_existing_folder(to: Path) -> None:
    """Refuse a folder that is there and holds something.

    Raises:
        RunError: It is not empty, or a file.
    """
    if to.is_dir() and not any(to.iterdir()):
        return
    if to.exists():
        raise RunError(
            f"{to} is there already and not an empty folder",
            hint="name a folder that does not exist yet; a folder is never overwritten",
        )


def refuse_existing_file(to: Path, *, overwrite: bool) -> None:
    """Refuse a file that is there, unless it may be replaced.

    Raises:
        RunError: It is there, or a folder.
    """
    if to.is_dir():
        raise RunError(f"{to} is a folder", hint="name a file to write to")
    if to.exists() and not overwrite:
        raise RunError(f"{to} is there already", hint="choose another name, or add --overwrite")
