"""The pictures of the page: only images of the report, and only as newly encoded pixels.

Whatever a file holds (a script, a web page, a picture with a tail), what leaves here is a JPEG or a
PNG that Pillow wrote from decoded pixels.
"""

import io
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from PIL import Image

from labelfix.errors import UnreadableImage
from labelfix.images import decode_image
from labelfix.records import DatasetSource, ImageStore

SIZES = {"small": 240, "large": 1600, "full": 4096}
"""The longest side in pixels, by the name that a page asks for."""

_CACHE_BYTES = 96 << 20
_LOSSLESS = 256  # up to this side a PNG is small and sharp


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture and its media type."""

    data: bytes
    media_type: str


class Pictures:
    """The images of a run, fit for a page; safe to use from several threads.

    Args:
        images: The images of the report, by row.
        source: Where they came from.
        follow_links: Whether links that lead out of the data set are followed.
    """

    def __init__(
        self, images: ImageStore, source: DatasetSource, *, follow_links: bool = False
    ) -> None:
        self._images = images
        self._root = None if follow_links else _root(source)
        self._reading = Lock()
        self._held: OrderedDict[tuple[int, str], Picture] = OrderedDict()
        self._held_bytes = 0

    def picture(self, row: int, size: str) -> Picture:
        """Return the picture of a row, not larger than a size of `SIZES`.

        Raises:
            UnreadableImage: There is none, it lies outside the data set, or it cannot be decoded.
        """
        with self._reading:
            held = self._held.get((row, size))
            if held is not None:
                self._held.move_to_end((row, size))
                return held
            data = self._read(row)
        made = _encode(data, SIZES[size])
        with self._reading:
            self._hold((row, size), made)
        return made

    def _read(self, row: int) -> bytes:
        if not 0 <= row < len(self._images):
            raise UnreadableImage("the report has no such row")
        if self._root is not None:
            self._refuse_outside(self._images.location(row), self._root)
        return self._images.read(row)

    def _refuse_outside(self, location: str, root: Path) -> None:
        try:
            is_inside = Path(location).resolve().is_relative_to(root)
        except (OSError, RuntimeError, ValueError) as error:
            raise UnreadableImage("file is missing") from error
        if location and not is_inside:
            raise UnreadableImage(
                "a link leads out of the data folder; start with --follow-links to see it"
            )

    def _hold(self, key: tuple[int, str], picture: Picture) -> None:
        if key in self._held:
            return
        self._held[key] = picture
        self._held_bytes += len(picture.data)
        while self._held_bytes > _CACHE_BYTES:
            self._held_bytes -= len(self._held.popitem(last=False)[1].data)


def _root(source: DatasetSource) -> Path | None:
    """Return the folder that files have to lie in; Parquet files look after their own."""
    if source.kind == "folder":
        return source.path.resolve()
    return source.path.parent.resolve() if source.kind == "manifest" else None


def _encode(data: bytes, size: int) -> Picture:
    image = decode_image(data, at_least=size * 5 // 8)  # the short side of most photos
    image.thumbnail((size, size), Image.Resampling.BILINEAR)  # a third of the time of Lanczos
    file = io.BytesIO()
    if max(image.size) <= _LOSSLESS:
        image.save(file, "PNG")
        return Picture(file.getvalue(), "image/png")
    image.save(file, "JPEG", quality=85)
    return Picture(file.getvalue(), "image/jpeg")
