"""Small pictures that fit into a page: JPEG, as addresses that hold the data themselves.

A picture that cannot be had is left out, and never the end of a page.
"""

import base64
import io
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, repeat
from threading import Lock

from PIL import Image

from labelfix.errors import UnreadableSample
from labelfix.modalities.base import Renderer, Rendering, ReviewSize, ThumbnailRequest
from labelfix.modalities.image.decode import USUAL, Decoding, decode_image
from labelfix.types import SampleStore
from labelfix.utils.progress import OnProgress, Progress, no_progress
from labelfix.utils.threads import cores

QUALITY = 82
AT_ONCE = 32
"""So many encoded images are in memory together."""


BUDGET = 9_000_000
"""Bytes that the pictures of a page may take together."""


def draw_thumbnails(
    images: SampleStore,
    requests: Sequence[ThumbnailRequest],
    *,
    budget: int = BUDGET,
    decoding: Decoding = USUAL,
    on_progress: OnProgress = no_progress,
) -> Mapping[ThumbnailRequest, str]:
    """Return ``data:`` addresses for requests, for as many as the budget holds.

    Args:
        images: The encoded images.
        requests: The most important first; one that comes twice is paid for twice.
        budget: Bytes that all of them may take together.
        decoding: How encoded images become pixels, as in the audit.
        on_progress: Told how many are drawn.
    """
    uses = Counter(requests)
    drawn = dict(
        _draw(images, sorted(uses, key=lambda request: request.row), decoding, on_progress)
    )
    kept: dict[ThumbnailRequest, str] = {}
    for request in uses:  # in the order of their first use
        address = drawn.get(request)
        price = len(address or "") * uses[request]
        if address is not None and price <= budget:
            kept[request] = address
            budget -= price
    return kept


def _draw(
    images: SampleStore,
    requests: Sequence[ThumbnailRequest],
    decoding: Decoding,
    on_progress: OnProgress,
) -> Iterator[tuple[ThumbnailRequest, str]]:
    """Yield the pictures that can be had; rows rise, which is fast for every store."""
    of_row = [(row, list(same)) for row, same in groupby(requests, lambda request: request.row)]
    done = 0
    with ThreadPoolExecutor(min(4, cores())) as pool:
        for start in range(0, len(of_row), AT_ONCE):
            some = of_row[start : start + AT_ONCE]
            data = [_read(images, row) for row, _ in some]
            wanted = [same for _, same in some]
            for drawn in pool.map(_addresses, data, wanted, repeat(decoding)):
                yield from drawn
            done += sum(map(len, wanted))
            on_progress(Progress("drawing the page", done, len(requests), "pictures"))


def _read(images: SampleStore, row: int) -> bytes:
    try:
        return images.read(row)
    except UnreadableSample:
        return b""


def _addresses(
    data: bytes, requests: Sequence[ThumbnailRequest], decoding: Decoding
) -> list[tuple[ThumbnailRequest, str]]:
    """Return one image in the sizes that are asked for, decoded once; none if it cannot be."""
    largest = max(request.side for request in requests)
    try:
        picture = decode_image(data, at_least=largest, decoding=decoding)
    except (UnreadableSample, MemoryError):
        return []
    picture.info.clear()  # comments and places stay out of the page
    drawn = []
    for request in sorted(requests, key=lambda request: -request.side):
        picture.thumbnail((request.side, request.side))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
        address = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
        drawn.append((request, address))
    return drawn


SIZES: Mapping[ReviewSize, int] = {"small": 240, "large": 1600, "full": 4096}
"""The longest side in pixels, by the name that a page asks for."""

_CACHE_BYTES = 96 << 20
_LOSSLESS = 256  # up to this side a PNG is small and sharp


class ReviewPictures:
    """The images of a run, fit for a page; safe to use from several threads.

    Args:
        images: The images of the report, by row.
        decoding: How they become pixels, as in the audit.
    """

    def __init__(self, images: SampleStore, decoding: Decoding = USUAL) -> None:
        self._images = images
        self._decoding = decoding
        self._reading = Lock()
        self._held: OrderedDict[tuple[int, ReviewSize], Rendering] = OrderedDict()
        self._held_bytes = 0

    def picture(self, row: int, size: ReviewSize) -> Rendering:
        """Return the picture of a row, not larger than a size of `SIZES`.

        Raises:
            UnreadableSample: There is none, or it cannot be decoded.
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
            raise UnreadableSample("the report has no such row")
        return self._images.read(row)

    def _hold(self, key: tuple[int, ReviewSize], picture: Rendering) -> None:
        if key in self._held:
            return
        self._held[key] = picture
        self._held_bytes += len(picture.data)
        while self._held_bytes > _CACHE_BYTES:
            self._held_bytes -= len(self._held.popitem(last=False)[1].data)


def _encode(data: bytes, size: int, decoding: Decoding) -> Rendering:
    at_least = size * 5 // 8  # the short side of most photos
    image = decode_image(data, at_least=at_least, decoding=decoding)
    image.thumbnail((size, size), Image.Resampling.BILINEAR)  # a third of the time of Lanczos
    file = io.BytesIO()
    if max(image.size) <= _LOSSLESS:
        image.save(file, "PNG")
        return Rendering(file.getvalue(), "image/png")
    image.save(file, "JPEG", quality=85)
    return Rendering(file.getvalue(), "image/jpeg")


def pictures_of(
    images: SampleStore, on_progress: OnProgress, decoding: Decoding = USUAL
) -> Renderer:
    """Return the pictures of images that are at hand, decoded as in their audit."""
    draw = partial(draw_thumbnails, images, decoding=decoding, on_progress=on_progress)
    return Renderer(draw, None, ReviewPictures(images, decoding).picture)
