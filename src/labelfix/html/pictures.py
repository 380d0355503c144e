"""The pictures of a page: of a data set that is open, or opened again if it is still the same."""

from functools import partial

from labelfix.audited_data import open_audited
from labelfix.errors import DatasetError
from labelfix.html.thumbnails import draw_thumbnails
from labelfix.html.wishes import NO_IMAGES, Pictures, no_pictures
from labelfix.inner_images import shown_images
from labelfix.records import ImageStore, LabeledDataset, OnProgress
from labelfix.report import Report


def pictures_of(images: ImageStore, on_progress: OnProgress) -> Pictures:
    """Return the pictures of images that are at hand."""
    return Pictures(partial(draw_thumbnails, images, on_progress=on_progress), None)


def pictures_in(
    dataset: LabeledDataset, on_progress: OnProgress, *, follow_links: bool = False
) -> Pictures:
    """Return the pictures of a data set that is open.

    Args:
        dataset: Whose images to draw.
        on_progress: Told how far it is.
        follow_links: Whether to draw images that links outside the data set lead to.
    """
    return pictures_of(shown_images(dataset, follow_links=follow_links), on_progress)


def find_pictures(
    report: Report, on_progress: OnProgress, *, follow_links: bool = False
) -> Pictures:
    """Return the pictures of a report; that its images are gone is no fault of a page.

    Args:
        report: Whose data set is opened again.
        on_progress: Told how far it is.
        follow_links: Whether to draw images that links outside the data set lead to.
    """
    try:
        dataset = open_audited(report, on_progress)
    except DatasetError as error:
        return no_pictures(
            f"There are no pictures here: {error}. Put the data back as they were, then: "
            "labelfix show RUN --html"
        )
    if dataset is None:
        return no_pictures(NO_IMAGES)
    return pictures_in(dataset, on_progress, follow_links=follow_links)
