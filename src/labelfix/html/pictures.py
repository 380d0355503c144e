"""The pictures of a page: of a data set that is open, or opened again if it is still the same."""

from functools import partial

from labelfix.audited_data import open_audited
from labelfix.errors import DatasetError
from labelfix.html.thumbnails import draw_thumbnails
from labelfix.html.wishes import NO_IMAGES, Pictures, no_pictures
from labelfix.images import USUAL, Decoding
from labelfix.inner_images import shown_images
from labelfix.records import ImageStore, LabeledDataset, OnProgress
from labelfix.report import Report


def pictures_of(
    images: ImageStore, on_progress: OnProgress, decoding: Decoding = USUAL
) -> Pictures:
    """Return the pictures of images that are at hand, decoded as in their audit."""
    draw = partial(draw_thumbnails, images, decoding=decoding, on_progress=on_progress)
    return Pictures(draw, None)


def pictures_in(
    dataset: LabeledDataset, report: Report, on_progress: OnProgress, *, follow_links: bool = False
) -> Pictures:
    """Return the pictures of a data set that is open.

    Args:
        dataset: Whose images to draw.
        report: On them; says how they were decoded.
        on_progress: Told how far it is.
        follow_links: Whether to draw images that links outside the data set lead to.
    """
    images = shown_images(dataset, follow_links=follow_links)
    decoding = Decoding.from_json(report.run.settings.get("decoding"))
    return pictures_of(images, on_progress, decoding)


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
    return pictures_in(dataset, report, on_progress, follow_links=follow_links)
