"""What is settled once for all images of a data set: which values of deep pixels are in use."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.config import ImageConfig
from labelfix.data.stores import FileImages
from labelfix.errors import UnreadableSample
from labelfix.modalities.image.decode import Decoding, may_be_deep, read_deep
from labelfix.modalities.image.value_ranges import (
    ValueRange,
    ValueRanges,
    find_range,
    kind_of,
    sample_of,
)
from labelfix.types import Assumption, SampleStore

LOOKED_AT = 512
"""Images whose headers are looked at, evenly spread."""

MEASURED = 128
"""Images of more than 8 bits whose pixels are, evenly spread among those."""

PLACES = 8
"""In a store that is read in order, those images lie at so many places."""

_HEAD_BYTES = 32


@dataclass(frozen=True, slots=True)
class Survey:
    """How the images of a data set are decoded.

    Args:
        decoding: The settings.
        assumptions: What was taken for granted in them.
    """

    decoding: Decoding
    assumptions: tuple[Assumption, ...] = ()


def survey_images(images: SampleStore, config: ImageConfig) -> Survey:
    """Return how to decode the images of a data set, so that equal values become equal.

    Where all images are of 8 bits, nothing is decoded. The same images give the same answer.

    Args:
        images: N encoded images.
        config: What the user settled.
    """
    pixels = _DeepSample(images, config)
    ranges = ValueRanges(pixels.ranges)
    if config.value_range is not None:
        ranges = ValueRanges.fixed(*config.value_range)
    return Survey(Decoding(config.max_pixels, ranges), tuple(pixels.assumptions(config)))


class _DeepSample:
    """The images of more than 8 bits, or of many bands, among those that were looked at."""

    def __init__(self, images: SampleStore, config: ImageConfig) -> None:
        self._bands: set[int] = set()
        self._samples: dict[str, list[NDArray[np.float64]]] = {}
        rows = [row for row in _rows(images) if _is_candidate(images, row)]
        if len(rows) > MEASURED:
            rows = [rows[place] for place in np.linspace(0, len(rows) - 1, MEASURED).astype(int)]
        for row in rows:
            self._add(images, row, config)
        self.ranges: tuple[ValueRange, ...] = tuple(
            find_range(kind, samples) for kind, samples in sorted(self._samples.items())
        )

    def _add(self, images: SampleStore, row: int, config: ImageConfig) -> None:
        try:
            deep = read_deep(images.read(row), max_pixels=config.max_pixels)
        except UnreadableSample:  # the report will say so
            return
        if deep is None:
            return
        self._bands.add(deep.bands)
        if deep.values.dtype != np.uint8:
            some = sample_of(deep.values, nodata=deep.nodata)
            self._samples.setdefault(kind_of(deep.values), []).append(some)

    def assumptions(self, config: ImageConfig) -> Iterator[Assumption]:
        if self.ranges and config.value_range is None:
            yield Assumption(
                "values",
                f"values of {ValueRanges(self.ranges)} were scaled to 8 bits; --value-range "
                "LOW,HIGH decides otherwise",
            )
        many = sorted(bands for bands in self._bands if bands == 2 or bands > 4)
        if many:
            taken = "the first band" if many == [2] else "the first three bands"
            said = " or ".join(str(bands) for bands in many)
            yield Assumption("values", f"of images with {said} bands {taken} were taken")


def _rows(images: SampleStore) -> list[int]:
    count = len(images)
    if count <= LOOKED_AT:
        return list(range(count))
    if isinstance(images, FileImages):
        rows = np.linspace(0, count - 1, LOOKED_AT).astype(int)
        return [int(row) for row in rows]
    run = LOOKED_AT // PLACES
    places = np.linspace(0, count - run, PLACES).astype(int)
    return sorted({row for place in places.tolist() for row in range(place, place + run)})


def _is_candidate(images: SampleStore, row: int) -> bool:
    """Return whether the first bytes of an image leave it open that it has more than 8 bits."""
    try:
        if isinstance(images, FileImages):
            return may_be_deep(images.head(row, _HEAD_BYTES))
        return may_be_deep(images.read(row))
    except UnreadableSample:
        return False
