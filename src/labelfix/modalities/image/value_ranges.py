"""Pixels of more than 8 bits: which of their values are in use, and how those become 8 bits.

Cameras, microscopes and scanners keep 10, 12 or 14 bits in 16, floats lie in 0 to 1 or anywhere,
and a nodata value far away stands for what was not measured.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TAIL = 0.001
"""The share of the pixels at either end that may lie outside the range in use."""

LEAST_VALUES = 16
"""Fewer different values are classes or counts: none of them is taken for nodata."""

SENTINELS = frozenset({-9999.0, -99999.0, -32768.0, -32767.0, -2147483648.0, -9998.0})
"""Values that software writes where nothing was measured; a small gap gives them away."""

_FAR, _FAR_OF_SENTINEL = 1.0, 0.1  # gaps, as shares of the width of all other values
_DIM = 64  # 8-bit values that do not reach it are stretched
_ANY = "*"
_INTEGER_TOPS = (1023, 4095, 16383, 65535)  # 10, 12, 14 and 16 bits
_FLOAT_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 65535.0))
_NAMES = {"uint16": "16-bit", "int16": "signed 16-bit", "float16": "16-bit float",
          "uint32": "32-bit", "int32": "32-bit", "float32": "float", "float64": "64-bit float",
          "uint64": "64-bit", "int64": "64-bit", "int8": "signed 8-bit"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ValueRange:
    """What becomes black and what becomes white.

    Args:
        kind: The number type of the pixels, such as ``"uint16"``, or ``"*"`` for every one.
        low: This and what is less becomes 0.
        high: This and what is more becomes 255.
    """

    kind: str
    low: float
    high: float

    def to_8_bit(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Return pixels of the kind as bytes of the same shape; what is no number becomes 0.

        Equal values become equal bytes, and the order of values is kept. Integers of 0 to 255, 1023
        and so on lose their last bits, as all software does; 0 to 255 stay as they are.
        """
        scaled: NDArray[Any] = values.astype(
            np.float64 if values.dtype.itemsize > 2 else np.float32
        )
        width = self.high - self.low
        with np.errstate(invalid="ignore", over="ignore"):
            scaled -= self.low
            if values.dtype.kind in "iu" and width >= 255:
                scaled = np.floor(scaled * (256 / (width + 1)))
            else:
                scaled = np.rint(scaled / width * 255)
        clipped = np.clip(np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0), 0, 255)
        return np.asarray(clipped, np.uint8)

    def __str__(self) -> str:
        """Return the range as a person writes it."""
        low, high = (f"{end:.7g}" for end in (self.low, self.high))
        return f"{low}..{high}"


@dataclass(frozen=True, slots=True)
class ValueRanges:
    """The ranges of all kinds of pixels in a data set; a kind that is not there has none yet."""

    ranges: tuple[ValueRange, ...] = ()

    def of(self, values: NDArray[Any]) -> ValueRange:
        """Return the range for some pixels; where their kind has none, that of these pixels."""
        kind = kind_of(values)
        for known in self.ranges:
            if known.kind in (kind, _ANY):
                return known
        return find_range(kind, [sample_of(values)])

    @classmethod
    def fixed(cls, low: float, high: float) -> "ValueRanges":
        """Return one range for every kind."""
        return cls((ValueRange(_ANY, low, high),))

    def to_json(self) -> list[dict[str, Any]]:
        """Return the ranges as JSON values."""
        return [{"kind": of.kind, "low": of.low, "high": of.high} for of in self.ranges]

    @classmethod
    def from_json(cls, values: Sequence[Mapping[str, Any]]) -> "ValueRanges":
        """Return the ranges that `to_json` wrote.

        Raises:
            KeyError: A key is missing.
        """
        found = (ValueRange(str(v["kind"]), float(v["low"]), float(v["high"])) for v in values)
        return cls(tuple(found))

    def __str__(self) -> str:
        """Return in words what was scaled from where."""
        parts = (f"{_NAMES.get(of.kind, of.kind)} images from {of}" for of in self.ranges)
        return " and ".join(parts)


def kind_of(values: NDArray[Any]) -> str:
    """Return the name of the number type of pixels, whatever their byte order."""
    return values.dtype.newbyteorder("=").name


def sample_of(
    values: NDArray[Any], *, nodata: float | None = None, count: int = 1 << 14
) -> NDArray[np.float64]:
    """Return about ``count`` evenly spread numbers of an image, without ``nodata``."""
    flat = values.reshape(-1)
    step = max(1, flat.size // count)
    while math.gcd(step, max(1, flat.size // max(1, len(values)))) > 1:
        step += 1  # else only some columns, or one color, would be seen
    some = flat[::step].astype(np.float64)
    return np.asarray(some[np.isfinite(some) & (some != nodata)])


def find_range(kind: str, samples: Sequence[NDArray[np.float64]]) -> ValueRange:
    """Return the range that pixels use, or the usual one of their bits if they fill half of it.

    Args:
        kind: Their number type.
        samples: Finite pixels of each image.
    """
    values = np.sort(np.concatenate(samples)) if samples else np.empty(0)
    if not values.size:
        return ValueRange(kind, 0.0, 1.0)
    values = _without_nodata(values)
    low, high = (
        np.quantile(values, TAIL, method="lower"),
        np.quantile(values, 1 - TAIL, method="higher"),
    )
    width = high - low
    near = values[(values >= low - width) & (values <= high + width)]
    usual = _usual_floats if kind.startswith("float") else _usual_integers
    found = usual(float(near[0]), float(near[-1]), float(width))
    if found is None:
        found = (float(low), float(high) if high > low else float(low) + 1)
    return ValueRange(kind, *found)


def _usual_integers(least: float, most: float, width: float) -> tuple[float, float] | None:
    if least < 0:
        return None
    if most <= 255:
        return (0.0, 255.0) if most >= _DIM or not width else None
    top = next((top for top in _INTEGER_TOPS if most <= top), None)
    return (0.0, float(top)) if top and (width >= top / 2 or not width) else None


def _usual_floats(least: float, most: float, width: float) -> tuple[float, float] | None:
    for low, high in _FLOAT_RANGES:
        if low <= least and most <= high:
            return (low, high) if width >= (high - low) / 4 or not width else None
    return None


def _without_nodata(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave out single values at the ends of sorted ones that lie far away from all others."""
    unique, first = np.unique(values, return_index=True)
    start, stop = 0, len(unique)
    ends = [*first.tolist(), len(values)]
    is_changed = True
    while is_changed and stop - start > LEAST_VALUES:
        is_changed = False
        rest = values[ends[start + 1] : ends[stop]]
        if _is_far(unique[start], unique[start + 1] - unique[start], rest):
            start, is_changed = start + 1, True
        rest = values[ends[start] : ends[stop - 1]]
        if _is_far(unique[stop - 1], unique[stop - 1] - unique[stop - 2], rest):
            stop, is_changed = stop - 1, True
    return values[ends[start] : ends[stop]]


def _is_far(value: float, gap: float, rest: NDArray[np.float64]) -> bool:
    low, high = rest[len(rest) // 100], rest[-1 - len(rest) // 100]
    share = _FAR_OF_SENTINEL if value in SENTINELS else _FAR
    return bool(high > low and gap > share * (high - low))
