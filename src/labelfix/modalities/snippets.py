"""Samples that are shown as text: snippets on a page, whole texts in a review."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from labelfix.errors import UnreadableSample
from labelfix.modalities.base import (
    Marker,
    Renderer,
    Rendering,
    ReviewSize,
    Snippet,
    ThumbnailRequest,
)
from labelfix.types import SampleStore

LONGEST: Mapping[ReviewSize, int] = {"small": 60, "large": 20_000, "full": 20_000}
"""Characters that a review shows of a sample at most."""

_PIXELS_A_CHARACTER = 150
"""Of small type, with the space between lines: how much text fits into a square."""


def show_as_text(
    store: SampleStore,
    to_text: Callable[[bytes], str],
    mark: Callable[[Callable[[int], str], NDArray[np.int64]], Marker] | None = None,
) -> Renderer:
    """Return who shows samples as text, in the order and number that a page asks for.

    Args:
        store: N samples.
        to_text: Makes text of an encoded sample; may raise `UnreadableSample`.
        mark: Returns who marks words, from what reads the text of a row as a review shows it, and
            ``(N,)`` codes of trusted labels; ``None`` marks none.
    """
    texts = _Texts(store, to_text)
    marker = None if mark is None else partial(mark, texts.shown)
    return Renderer(texts.draw, None, texts.open, is_text=True, marker=marker)


class _Texts:
    """The samples of a store as text; safe to use from several threads."""

    def __init__(self, store: SampleStore, to_text: Callable[[bytes], str]) -> None:
        self._store = store
        self._to_text = to_text
        self._reading = Lock()

    def draw(self, requests: Sequence[ThumbnailRequest]) -> Mapping[ThumbnailRequest, Snippet]:
        """Return the beginning of each sample that can be read, as much as its square holds."""
        drawn = {}
        # rows rise, which is fast for every store
        for request in sorted(set(requests), key=lambda request: (request.row, request.side)):
            try:
                text = self._text(request.row)
            except UnreadableSample:
                continue
            drawn[request] = Snippet(_begin(text, request.side**2 // _PIXELS_A_CHARACTER))
        return drawn

    def open(self, row: int, size: ReviewSize) -> Rendering:
        """Return one sample for a review.

        Raises:
            UnreadableSample: There is none, or it is no text.
        """
        text = self.shown(row, size)
        return Rendering(text.encode("utf-8", "replace"), "text/plain; charset=utf-8")

    def shown(self, row: int, size: ReviewSize = "large") -> str:
        """Return the text of one sample as a review shows it.

        Raises:
            UnreadableSample: There is none, or it is no text.
        """
        return _begin(self._text(row), LONGEST[size])

    def _text(self, row: int) -> str:
        if not 0 <= row < len(self._store):
            raise UnreadableSample("the report has no such row")
        with self._reading:
            return self._to_text(self._store.read(row))


def _begin(text: str, longest: int) -> str:
    """Return a text, or its beginning and a sign that it goes on."""
    return text if len(text) <= longest else f"{text[:longest]} ..."
