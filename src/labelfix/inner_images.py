"""The images of a data set without those that links lead out of it for.

What is shown to others, on a page or in one, must not hold a private file that a link in a folder
of pictures points to.
"""

from pathlib import Path

from labelfix.dataset_files import FileImages, lies_in
from labelfix.errors import UnreadableImage
from labelfix.records import DatasetSource, ImageStore, LabeledDataset


def shown_images(dataset: LabeledDataset, *, follow_links: bool) -> ImageStore:
    """Return the images that a page or a review may show.

    Those outside the data set are among them if the audit was to read them, or ``follow_links``.
    """
    if dataset.source.follow_links:
        return dataset.images
    if follow_links:
        images = dataset.images
        return images.following_links() if isinstance(images, FileImages) else images
    return InnerImages(dataset.images, dataset.source)


class InnerImages:
    """Images by row, read only where the file itself lies in the data set.

    Args:
        images: The images of the data set.
        source: Where they came from.
    """

    def __init__(self, images: ImageStore, source: DatasetSource) -> None:
        self._images = images
        self._root = _root(source)

    def __len__(self) -> int:
        """Return N."""
        return len(self._images)

    def location(self, index: int) -> str:
        """Return where the image of one row lies."""
        return self._images.location(index)

    def read(self, index: int) -> bytes:
        """Return the encoded image of one row.

        Raises:
            UnreadableImage: There is nothing to read, or it lies outside the data set.
        """
        location = self.location(index)
        if self._root is not None and location and not lies_in(self._root, Path(location)):
            raise UnreadableImage("a link leads out of the data folder; --follow-links shows it")
        return self._images.read(index)


def _root(source: DatasetSource) -> Path | None:
    """Return the folder that files have to lie in; Parquet files look after their own."""
    return source.root.resolve() if source.has_files else None
