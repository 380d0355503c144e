"""The images of a finished run, opened again: the same ones that were audited, or an error."""

import pyarrow as pa

from labelfix.config import DatasetConfig
from labelfix.dataset import open_dataset
from labelfix.errors import DatasetError
from labelfix.records import PRED_PROBS_KIND, ImageStore, OnProgress, no_progress
from labelfix.report import Report


def open_audited_images(report: Report, on_progress: OnProgress = no_progress) -> ImageStore | None:
    """Open the N images of a report, ``None`` if it is on given probabilities.

    Raises:
        DatasetError: The data set is gone, or its images are not those that were audited.
    """
    source = report.run.source
    if source.kind == PRED_PROBS_KIND:
        return None
    if not source.path.exists():
        raise DatasetError(
            f"{source.path}, the audited data set, is gone", hint="put it back where it was"
        )
    config = DatasetConfig(**{f"{role}_column": name for role, name in source.columns.items()})
    dataset = open_dataset(source.path, config, on_progress)
    is_same = dataset.fingerprint == report.run.fingerprint
    ids = pa.chunked_array([dataset.sample_id])
    if not is_same or not ids.equals(report.table["sample_id"]):
        raise DatasetError(
            f"{source.path} has changed since the audit: its images are not those of the report",
            hint="audit it again",
        )
    return dataset.images
