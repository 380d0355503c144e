"""Probabilities in NumPy's ``.npz``: ``pred_probs``, ``labels`` and, if wanted, ``class_names``.

An array that is stored as it is (``numpy.savez``) is used where it lies; one that is compressed
(``numpy.savez_compressed``) is put aside on disk.

Letters: N samples, K classes.
"""

import math
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib import format as npy
from numpy.typing import NDArray

from labelfix.dataset_labels import blank_to_null
from labelfix.errors import DatasetError
from labelfix.files import nameless_file
from labelfix.pred_probs_tables import RawPredProbs
from labelfix.probability_store import ArrayStore, map_file
from labelfix.records import MISSING, Label

PROBS, LABELS, CLASSES = "pred_probs", "labels", "class_names"

_HOW = f"write it with numpy.savez(FILE, {PROBS}=..., {LABELS}=..., {CLASSES}=...)"
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, MemoryError, ValueError, LookupError,
    OverflowError, RuntimeError,
)  # fmt: skip
"""What a damaged archive raises; RuntimeError one that is encrypted or packed by another method."""

_HEADER_DAMAGE = (
    ValueError, TypeError, LookupError, AttributeError, SyntaxError, MemoryError, RecursionError,
    OverflowError, TokenError,
)  # fmt: skip
"""What NumPy raises on a header that is none, and on pickled objects."""

_PACKINGS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_LOCAL_HEADER = struct.Struct("<26x2H")
"""The end of a ZIP entry's own header: how long its name and its extra field are."""


@dataclass(frozen=True, slots=True)
class _Header:
    """What an array in the file is: its shape, type and layout, and the bytes before its data."""

    shape: tuple[int, ...]
    is_by_column: bool
    kind: np.dtype[Any]
    length: int

    @property
    def size(self) -> int:
        return self.length + math.prod(self.shape) * self.kind.itemsize


def read_npz(path: Path, folder: Path) -> RawPredProbs:
    """Read probabilities from ``.npz``. Nothing in it is unpickled.

    Integer labels are positions in ``class_names``, -1 for none; labels of text are names. Without
    ``class_names`` the classes are the numbers 0 to K-1.

    Args:
        path: The file.
        folder: Where to put compressed probabilities aside.

    Raises:
        DatasetError: The file or its arrays cannot be used.
        RunError: ``folder`` cannot be written to.
    """
    with _opened(path) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist()]
        missing = [name for name in (PROBS, LABELS) if name not in held]
        if missing:
            raise DatasetError(
                f"{path} has no {' and no '.join(missing)}; it holds: {', '.join(held)}", hint=_HOW
            )
        header = _header(archive, path)
        names = _class_names(archive, path, header.shape[1]) if CLASSES in held else None
        class_names = names if names is not None else tuple(range(header.shape[1]))
        label = _labels(_array(archive, path, LABELS), class_names, header.shape[0], path)
        _check_sum(archive)
        store = _store(archive, header, path, folder)
    return RawPredProbs(path, None, label, class_names, store)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGE as error:
        why = str(error) or type(error).__name__
        raise DatasetError(f"cannot read {path} as .npz: {why}", hint=_HOW) from error


def _header(archive: zipfile.ZipFile, path: Path) -> _Header:
    """Return what ``pred_probs`` is, and refuse what is no ``(N, K)`` of floats."""
    info = archive.getinfo(f"{PROBS}.npy")
    with archive.open(info) as file:
        header = _read_header(file, path, PROBS)
    shape = header.shape
    if header.kind.kind != "f" or len(shape) != 2:
        raise DatasetError(
            f"{PROBS} in {path} is of type {header.kind} and shape {shape}",
            hint="it has to be an array of floats, one row a sample and one column a class",
        )
    if not shape[0]:
        raise DatasetError(f"{PROBS} in {path} has no rows", hint="write one row a sample")
    if not shape[1]:
        raise DatasetError(f"{PROBS} in {path} has no columns", hint="write one column a class")
    _refuse_short(info, header, path, PROBS)
    return header


def _read_header(file: IO[bytes], path: Path, name: str) -> _Header:
    """Return what an array is, from the beginning of its entry."""
    with _explained(path, name), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that Python 2 wrote
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_by_column, kind = read(file)
        header = _Header(tuple(map(int, shape)), is_by_column, kind, file.tell())
    if min(header.shape, default=0) < 0:
        raise DatasetError(f"{name} in {path} is of the shape {shape}", hint=_HOW)
    return header


def _refuse_short(info: zipfile.ZipInfo, header: _Header, path: Path, name: str) -> None:
    """Refuse an array that says it is larger than it is, before memory is taken for it."""
    if info.compress_type not in _PACKINGS:
        raise DatasetError(f"{path} is packed in a way that NumPy does not use", hint=_HOW)
    if info.file_size < header.size:
        raise DatasetError(f"{name} in {path} is cut short", hint=_HOW)


@contextmanager
def _explained(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except _HEADER_DAMAGE as error:
        raise DatasetError(
            f"cannot read {name} in {path}: {error}",
            hint="write it as an array of numbers or text, not of Python objects",
        ) from error


def _array(archive: zipfile.ZipFile, path: Path, name: str) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        header = _read_header(file, path, name)
    if len(header.shape) != 1:
        raise DatasetError(
            f"{name} in {path} has the shape {header.shape}", hint="it has to be one row of values"
        )
    if not header.kind.hasobject:  # else NumPy refuses it below
        _refuse_short(info, header, path, name)
    with archive.open(info) as file, _explained(path, name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return values


def _check_sum(archive: zipfile.ZipFile) -> None:
    """Read the probabilities once from end to end: that is when a wrong checksum is told."""
    with archive.open(f"{PROBS}.npy") as file:
        while file.read(1 << 20):
            pass


def _class_names(archive: zipfile.ZipFile, path: Path, classes: int) -> tuple[Label, ...]:
    values = _array(archive, path, CLASSES)
    if values.dtype.kind not in "Uiu" or len(values) != classes:
        raise DatasetError(
            f"{CLASSES} in {path} holds {len(values)} values of type {values.dtype}, and {PROBS} "
            f"has {classes} columns",
            hint="name each column once, with text or an integer",
        )
    return tuple(values.tolist())


def _labels(
    values: NDArray[Any], class_names: tuple[Label, ...], size: int, path: Path
) -> pa.StringArray:
    """Return the given labels as text; of a position without a name, that it is one."""
    if values.dtype.kind not in "Uiu" or len(values) != size:
        raise DatasetError(
            f"{LABELS} in {path} holds {len(values):,} values of type {values.dtype}, and {PROBS} "
            f"has {size:,} rows",
            hint=f"give each row one label: its position in {CLASSES} as an integer, or its name",
        )
    if values.dtype.kind == "U":
        return blank_to_null(pa.array(values, pa.string()))
    is_known = (values >= 0) & (values < len(class_names))
    names = pa.array([str(name) for name in class_names], pa.string())
    known = names.take(pa.array(np.where(is_known, values, 0).astype(np.int64)))
    position = pa.array(values).cast(pa.string())
    unknown = pc.binary_join_element_wise("position ", position, "")
    text = pc.if_else(pa.array(is_known), known, unknown)
    return pc.if_else(pa.array(values == MISSING), pa.scalar(None, pa.string()), text)


def _store(archive: zipfile.ZipFile, header: _Header, path: Path, folder: Path) -> ArrayStore:
    info = archive.getinfo(f"{PROBS}.npy")
    shape = (header.shape[0], header.shape[1])
    order = "F" if header.is_by_column else "C"
    if info.compress_type == zipfile.ZIP_STORED:
        with path.open("rb") as file:
            offset = _start(file, info) + header.length
            return map_file(file, shape, header.kind, offset=offset, order=order)
    with nameless_file(folder) as aside:
        with archive.open(info) as packed:
            shutil.copyfileobj(packed, aside, 1 << 20)
        aside.flush()
        return map_file(aside, shape, header.kind, offset=header.length, order=order)


def _start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Return where the bytes of a stored entry begin."""
    file.seek(info.header_offset)
    name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)
