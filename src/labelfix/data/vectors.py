"""Embeddings: a vector of numbers a sample, in a column of Parquet or in a file beside a manifest.

What else a data set names, pictures or texts, is there to be shown.

Letters: N samples, D features.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from labelfix.config import DatasetConfig
from labelfix.data.columns import IMAGE_NAMES, RawSamples, first_column, named_column
from labelfix.data.files import FileTimes, fingerprint
from labelfix.data.texts import Peek, find_text_columns
from labelfix.errors import DatasetError, UnreadableSample
from labelfix.types import Assumption, SampleStore
from labelfix.utils.file_matrix import FileMatrix
from labelfix.utils.reading import ARRAY_FAULTS, ZIP_FAULTS
from labelfix.utils.scratch import new_array

MODALITY = "embedding"
"""The name of the modality of vectors."""

DIGESTED = 4096
"""Rows that are digested at a time."""

_LISTS = "write lists of numbers, one for each sample and all equally long"
_NO_NUMBER = "a value of its features is missing, or no finite float32"
_ZEROS = "its features are all 0"
_HELD = "features"  # the array of an .npz that holds several


class NoSamples:
    """N samples of which nothing is known that could be shown."""

    random_access = True

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        """Return N."""
        return self._count

    def read(self, index: int) -> bytes:
        """Refuse: there is nothing to read.

        Raises:
            UnreadableSample: Always.
        """
        raise UnreadableSample("the data name no picture and no text of it")

    def location(self, index: int) -> str:
        """Return "": the samples lie nowhere."""
        return ""


class VectorStore:
    """N vectors, as little-endian float32 of D features each.

    Args:
        values: ``(N, D)`` numbers, may lie on disk.
        where: The file and the column, as messages name them.
        shown: The N pictures or texts that the vectors stand for.
        shown_kind: The name of their modality; `MODALITY` if there are none.
    """

    random_access = True

    def __init__(
        self,
        values: NDArray[np.floating] | FileMatrix,
        where: str,
        shown: SampleStore,
        shown_kind: str,
    ) -> None:
        self._values = values
        self._where = where
        self.shown, self.shown_kind = shown, shown_kind

    def __len__(self) -> int:
        """Return N."""
        return len(self._values)

    @property
    def width(self) -> int:
        """Return D."""
        return int(self._values.shape[1])

    def read_block(self, rows: slice) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Return ``(B, D)`` vectors of some rows, and place to reason for those of no use."""
        return self._checked(np.asarray(self._values[rows]))

    def _checked(self, values: NDArray[np.floating]) -> tuple[NDArray[np.float32], dict[int, str]]:
        with np.errstate(over="ignore"):
            vectors = values.astype("<f4")
        is_finite, is_some = np.isfinite(vectors).all(axis=1), vectors.any(axis=1)
        places = np.flatnonzero(~(is_finite & is_some)).tolist()
        return vectors, {place: _NO_NUMBER if not is_finite[place] else _ZEROS for place in places}

    def read(self, index: int) -> bytes:
        """Return the vector of one row.

        Raises:
            UnreadableSample: A value is missing or not finite, or all are 0.
        """
        vectors, faults = self._checked(np.asarray(self._values[index])[None])
        if faults:
            raise UnreadableSample(faults[0])
        return vectors.tobytes()

    def location(self, index: int) -> str:
        """Return the file and the row in it, counted from 0: ``features.npy:17``."""
        return f"{self._where}:{index}"


def samples_shown(store: SampleStore) -> SampleStore:
    """Return what people may see of samples: of vectors that is what they stand for."""
    return store.shown if isinstance(store, VectorStore) else store


def kind_shown(store: SampleStore) -> str:
    """Return the name of the modality of what people may see of vectors; `MODALITY` of nothing."""
    return store.shown_kind if isinstance(store, VectorStore) else MODALITY


def with_vectors(
    raw: RawSamples, values: NDArray[np.floating] | FileMatrix, where: str
) -> RawSamples:
    """Return the samples with vectors in the place of pictures or texts.

    Raises:
        DatasetError: There are more or fewer vectors than samples.
    """
    if len(values) != len(raw.sample_id):
        raise DatasetError(
            f"{where} holds {len(values):,} rows of features, and {raw.source.path} names "
            f"{len(raw.sample_id):,} samples",
            hint="give one row of features for each sample, in the same order",
        )
    return replace(
        raw, store=VectorStore(values, where, raw.store, raw.modality), modality=MODALITY
    )


def digest_of_vectors(values: NDArray[np.floating], beside: str) -> str:
    """Return a digest of ``(N, D)`` vectors and of a digest of what the data name beside them."""
    digest = hashlib.blake2b(f"{beside} {values.shape}".encode(), digest_size=16)
    for start in range(0, len(values), DIGESTED):
        digest.update(np.ascontiguousarray(values[start : start + DIGESTED]).tobytes())
    return digest.hexdigest()


def with_vectors_of_file(raw: RawSamples, path: Path) -> RawSamples:
    """Return the samples with the vectors of an .npy or .npz; the fingerprint tells its file.

    Raises:
        DatasetError: The file holds no matrix of numbers with a row a sample.
    """
    values = read_vectors(path)
    stat = path.stat()
    times = FileTimes(np.array([stat.st_size]), np.array([stat.st_mtime_ns]))
    own = fingerprint(pa.array([path.name]), times, extra=raw.fingerprint.encode())
    return replace(with_vectors(raw, values, str(path)), fingerprint=own)


def read_vectors(path: Path) -> NDArray[np.floating] | FileMatrix:
    """Return the ``(N, D)`` features of an .npy, which stay on disk, or of an .npz.

    Raises:
        DatasetError: The file is missing or damaged, or holds no matrix of floats.
    """
    forms = "write one 2-D array of float16, float32 or float64 with np.save or np.savez"
    if path.suffix.lower() not in (".npy", ".npz"):
        raise DatasetError(f"{path} is no .npy or .npz file of features", hint=forms)
    try:
        # without pickle: a file of objects could run whatever code it likes
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        values = loaded if isinstance(loaded, np.ndarray) else _of_archive(loaded, path)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} does not exist", hint="name the file of features") from error
    except (OSError, *ZIP_FAULTS, *ARRAY_FAULTS) as error:
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise DatasetError(f"{path} holds no features: {words}", hint=forms) from error
    if values.ndim != 2 or values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise DatasetError(
            f"{path} holds an array of shape {values.shape} and type {values.dtype}, not a row of "
            "floats for each sample",
            hint=forms,
        )
    if not values.size:
        raise DatasetError(f"{path} is empty: its shape is {values.shape}", hint=forms)
    if isinstance(values, np.memmap) and values.flags.c_contiguous:
        return FileMatrix(path, values.shape, values.dtype, offset=values.offset)
    return values


def _of_archive(archive: "np.lib.npyio.NpzFile", path: Path) -> NDArray[np.floating]:
    names = archive.files
    name = _HELD if _HELD in names else names[0] if len(names) == 1 else None
    if name is None:
        raise DatasetError(
            f"{path} holds several arrays: {', '.join(names) or 'none'}",
            hint=f"call the one of features {_HELD!r}",
        )
    values: NDArray[np.floating] | bytes = archive[name]
    if isinstance(values, bytes):  # NumPy hands on what does not begin as an array does
        raise ValueError(f"{name} is no array")
    return values


# Parquet


def vector_column(
    schema: pa.Schema, config: DatasetConfig, where: str, peek: Peek
) -> tuple[str | None, tuple[Assumption, ...]]:
    """Return the column of vectors, and the word of it if nobody named one.

    A column that nobody named is taken if no other list of numbers is there, and no column that
    may hold images or texts.

    Args:
        schema: The columns that are there.
        config: The columns that the user named.
        where: The data set, as messages name it.
        peek: Returns the first cells of those of some columns that hold text.

    Raises:
        DatasetError: The column that was named is not there.
    """
    if config.features_column is not None:
        return named_column(schema.names, config.features_column, "features", where), ()
    found = [str(column.name) for column in schema if _is_list_of_floats(column.type)]
    has_bytes = any(_may_hold_images(column.type) for column in schema)
    others = [name for name in schema.names if name not in found]
    called_image = first_column(schema.names, IMAGE_NAMES)
    has_images = config.image_column is not None or called_image is not None
    if len(found) != 1 or has_bytes or has_images:
        return None, ()
    if find_text_columns(others, config, where, peek).names:
        return None, ()
    said = f"the samples are the vectors in column {found[0]!r} (--features-column names another)"
    return found[0], (Assumption("columns", said),)


def _may_hold_images(kind: pa.DataType) -> bool:
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_struct(kind))


def _is_list_of_floats(kind: pa.DataType) -> bool:
    return _is_list(kind) and bool(pt.is_floating(kind.value_type))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind))


def stack_vectors(
    parts: Iterable[pa.Array], count: int, name: str, where: str
) -> NDArray[np.floating]:
    """Return the ``(N, D)`` vectors of a column of lists; NaN where a cell or a number is null.

    Args:
        parts: The cells, some at a time.
        count: N.
        name: The column.
        where: The data set, as messages name it.

    Raises:
        DatasetError: The cells are no lists of numbers, or not equally long.
        RunError: The disk has no space for vectors that are large for the memory.
    """
    values: NDArray[np.float32] | None = None
    widths: set[int] = set()
    start = 0
    for part in parts:
        widths |= _widths_of(part, name, where)
        if widths == {0} or len(widths) > 1:
            break
        if widths and values is None:
            values = new_array((count, *widths), np.float32)
            values[:start] = np.nan
        if values is not None:
            values[start : start + len(part)] = np.nan
            rows = start + np.flatnonzero(part.is_valid().to_numpy(zero_copy_only=False))
            flat = part.drop_null().flatten().cast(pa.float64())
            with np.errstate(over="ignore"):
                values[rows] = flat.to_numpy(zero_copy_only=False).reshape(len(rows), -1)
        start += len(part)
    if values is None or len(widths) != 1:
        shown = ", ".join(map(str, sorted(widths)[:4])) or "none"
        raise DatasetError(
            f"the lists in column {name!r} of {where} are not equally long: {shown} numbers",
            hint=_LISTS,
        )
    return values


def _widths_of(part: pa.Array, name: str, where: str) -> set[int]:
    """Return how long the lists of some cells are, of those that are not null."""
    kind = part.type
    if not _is_list(kind) or not (
        pt.is_floating(kind.value_type) or pt.is_integer(kind.value_type)
    ):
        raise DatasetError(
            f"column {name!r} of {where} is of type {kind}, not lists of numbers", hint=_LISTS
        )
    if pt.is_fixed_size_list(kind):
        return {kind.list_size}
    return set(part.drop_null().value_lengths().unique().to_pylist())
