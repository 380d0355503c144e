"""The pictures of a page: of a data set that is open, or opened again if it is still the same."""

from functools import partial

import pyarrow as pa

from labelfix.config import DatasetConfig
from labelfix.dataset import open_dataset
from labelfix.errors import DatasetError
from labelfix.html.thumbnails import draw_thumbnails
from labelfix.html.wishes import NO_IMAGES, Pictures, no_pictures
from labelfix.records import PRED_PROBS_KIND, ImageStore, OnProgress
from labelfix.report import Report


def pictures_of(images: ImageStore, on_progress: OnProgress) -> Pictures:
    """Return the pictures of images that are at hand."""
    return Pictures(partial(draw_thumbnails, images, on_progress=on_progress), None)


def find_pictures(report: Report, on_progress: OnProgress) -> Pictures:
    """Return the pictures of a report; that its images are gone is no fault of a page."""
    source = report.run.source
    if source.kind == PRED_PROBS_KIND:
        return no_pictures(NO_IMAGES)
    config = DatasetConfig(**{f"{role}_column": name for role, name in source.columns.items()})
    try:
        dataset = open_dataset(source.path, config, on_progress=on_progress)
    except DatasetError:
        return _missing(f"The data set is no longer at {source.path}")
    ids = pa.chunked_array([dataset.sample_id])
    if dataset.fingerprint != report.run.fingerprint or not ids.equals(report.table["sample_id"]):
        return _missing(f"The images in {source.path} are not those that were audited any more")
    return pictures_of(dataset.images, on_progress)


def _missing(what: str) -> Pictures:
    return no_pictures(
        f"{what}, so there are no pictures here. Put it back, then: labelfix show RUN --html"
    )
