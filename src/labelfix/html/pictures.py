"""The pictures of a page: of a data set that is open, or opened again if it is still the same."""

from functools import partial

from labelfix.audited_data import open_audited
from labelfix.errors import DatasetError
from labelfix.html.thumbnails import draw_thumbnails
from labelfix.html.wishes import NO_IMAGES, Pictures, no_pictures
from labelfix.records import ImageStore, OnProgress
from labelfix.report import Report


def pictures_of(images: ImageStore, on_progress: OnProgress) -> Pictures:
    """Return the pictures of images that are at hand."""
    return Pictures(partial(draw_thumbnails, images, on_progress=on_progress), None)


def find_pictures(report: Report, on_progress: OnProgress) -> Pictures:
    """Return the pictures of a report; that its images are gone is no fault of a page."""
    try:
        dataset = open_audited(report, on_progress)
    except DatasetError as error:
        return no_pictures(
            f"There are no pictures here: {error}. Put the data back as they were, then: "
            "labelfix show RUN --html"
        )
    return no_pictures(NO_IMAGES) if dataset is None else pictures_of(dataset.images, on_progress)
