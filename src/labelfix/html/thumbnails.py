"""Small pictures that fit into a page: JPEG, as addresses that hold the data themselves.

A picture that cannot be had is left out, and never the end of a page.
"""

import base64
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

from labelfix.errors import UnreadableImage
from labelfix.html.wishes import Wish
from labelfix.images import USUAL, Decoding, decode_image
from labelfix.records import ImageStore, OnProgress, Progress, no_progress

QUALITY = 82
AT_ONCE = 32
"""So many encoded images are in memory together."""


BUDGET = 9_000_000
"""Bytes that the pictures of a page may take together."""


def draw_thumbnails(
    images: ImageStore,
    wishes: Sequence[Wish],
    *,
    budget: int = BUDGET,
    decoding: Decoding = USUAL,
    on_progress: OnProgress = no_progress,
) -> Mapping[Wish, str]:
    """Return ``data:`` addresses for wishes, for as many as the budget holds.

    Args:
        images: The encoded images.
        wishes: The most important first; one that comes twice is paid for twice.
        budget: Bytes that all of them may take together.
        decoding: How encoded images become pixels, as in the audit.
        on_progress: Told how many are drawn.
    """
    uses = Counter(wishes)
    drawn = dict(_draw(images, sorted(uses, key=lambda wish: wish.row), decoding, on_progress))
    kept: dict[Wish, str] = {}
    for wish in uses:  # in the order of their first use
        address = drawn.get(wish)
        price = len(address or "") * uses[wish]
        if address is not None and price <= budget:
            kept[wish] = address
            budget -= price
    return kept


def _draw(
    images: ImageStore, wishes: Sequence[Wish], decoding: Decoding, on_progress: OnProgress
) -> Iterator[tuple[Wish, str]]:
    """Yield the pictures that can be had; rows rise, which is fast for every store."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(wishes), AT_ONCE):
            some = wishes[start : start + AT_ONCE]
            data = [_read(images, wish.row) for wish in some]
            for wish, address in zip(
                some, pool.map(_address, data, some, repeat(decoding)), strict=True
            ):
                if address is not None:
                    yield wish, address
            done = start + len(some)
            on_progress(Progress("drawing the page", done, len(wishes), "pictures"))


def _read(images: ImageStore, row: int) -> bytes:
    try:
        return images.read(row)
    except UnreadableImage:
        return b""


def _address(data: bytes, wish: Wish, decoding: Decoding) -> str | None:
    try:
        picture = decode_image(data, at_least=wish.side, decoding=decoding)
    except (UnreadableImage, MemoryError):
        return None
    picture.thumbnail((wish.side, wish.side))
    picture.info.clear()  # comments and places stay out of the page
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
