"""Reading what may be damaged: JSON, Parquet, arrays; only errors with a meaning come out."""

import json
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from tokenize import TokenError
from typing import Any

import pyarrow as pa

PARQUET_FAULTS = (
    pa.ArrowException,
    OSError,
    ValueError,  # bytes in a name or in text that are not UTF-8
    LookupError,
    MemoryError,  # a damaged size
    OverflowError,
    TypeError,
)
"""What pyarrow raises on a damaged file."""

ZIP_FAULTS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, MemoryError, ValueError, LookupError,
    OverflowError, RuntimeError,
)  # fmt: skip
"""What a damaged archive raises; RuntimeError one that is encrypted or packed by another method."""

ARRAY_FAULTS = (
    ValueError, TypeError, LookupError, AttributeError, SyntaxError, MemoryError, RecursionError,
    OverflowError, TokenError,
)  # fmt: skip
"""What NumPy raises on a header of an array that is none, and on pickled objects."""


def parse_json(text: str | bytes) -> Any:
    """Return the value that JSON text holds.

    Raises:
        ValueError: It is not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_label(value: Any) -> bool:
    """Return whether a JSON value can be a label: text in Unicode, or an integer of 64 bits."""
    if isinstance(value, str):
        return is_unicode(value)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return is_integer and -(2**63) <= value < 2**63


def different_labels(values: Any) -> tuple[str | int, ...]:
    """Return the labels that JSON holds: all text or all integers, each once.

    Raises:
        ValueError: They are none.
    """
    is_list = isinstance(values, list) and all(map(is_label, values))
    if not is_list or len({type(one) for one in values}) > 1 or len(set(values)) < len(values):
        raise ValueError("the class names are no list of different texts or integers")
    return tuple(values)


def is_unicode(text: str) -> bool:
    """Return whether text can be written as UTF-8: half a surrogate pair cannot."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


@contextmanager
def parquet_faults(error: type[Exception], message: str, hint: str) -> Iterator[None]:
    """Turn what pyarrow raises on a damaged file into one error, with its words behind ours.

    Raises:
        LabelfixError: ``error``, with the message and the hint.
    """
    try:
        yield
    except PARQUET_FAULTS as fault:
        words = " ".join(str(fault).split())[:300] or type(fault).__name__
        raise error(f"{message}: {words}", hint=hint) from fault  # type: ignore[call-arg]
