"""The pictures of the page: only images of the report, and only as newly encoded pixels.

Whatever a file holds (a script, a web page, a picture with a tail), what leaves here is a JPEG or a
PNG that Pillow wrote from decoded pixels.
"""

import io
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from PIL import Image

from labelfix.errors import UnreadableImage
from labelfix.images import USUAL, Decoding, decode_image
from labelfix.records import ImageStore

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
        decoding: How they become pixels, as in the audit.
    """

    def __init__(self, images: ImageStore, decoding: Decoding = USUAL) -> None:
        self._images = images
        self._decoding = decoding
        self._reading = Lock()
        self._held: OrderedDict[tuple[int, str], Picture] = OrderedDict()
        self._held_bytes = 0

    def picture(self, row: int, size: str) -> Picture:
        """Return the picture of a row, not larger than a size of `SIZES`.

        Raises:
            UnreadableImage: There is none, or it cannot be decoded.
        """
        with self._reading:
            held = self._held.get((row, size))
            if held is not None:
                self._held.move_to_end((row, size))
                return held
            data = self._read(row)
        made = _encode(data, SIZES[size], self._decoding)
        with self._reading:
            self._hold((row, size), made)
        return made

    def _read(self, row: int) -> bytes:
        if not 0 <= row < len(self._images):
            raise UnreadableImage("the report has no such row")
        return self._images.read(row)

    def _hold(self, key: tuple[int, str], picture: Picture) -> None:
        if key in self._held:
            return
        self._held[key] = picture
        self._held_bytes += len(picture.data)
        while self._held_bytes > _CACHE_BYTES:
            self._held_bytes -= len(self._held.popitem(last=False)[1].data)


def _encode(data: bytes, size: int, decoding: Decoding) -> Picture:
    at_least = size * 5 // 8  # the short side of most photos
    image = decode_image(data, at_least=at_least, decoding=decoding)
    image.thumbnail((size, size), Image.Resampling.BILINEAR)  # a third of the time of Lanczos
    file = io.BytesIO()
    if max(image.size) <= _LOSSLESS:
        image.save(file, "PNG")
        return Picture(file.getvalue(), "image/png")
    image.save(file, "JPEG", quality=85)
    return Picture(file.getvalue(), "image/jpeg")
