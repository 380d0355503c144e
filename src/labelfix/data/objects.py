"""Data sets that a program holds: tables, data sets of other libraries, pairs, arrays.

::

    pandas DataFrame                       columns of paths, images or texts, and labels
    Hugging Face Dataset, DatasetDict      as their Parquet is read; a split for each key
    torch Dataset, or any iterable         of (image or text, label)
    (samples, labels)                      images, texts, or rows of features, and their labels

Each becomes Arrow tables, which are read as shards of Parquet are: by the same rules columns are
chosen and labels understood. None of the libraries is imported: an object is known by its type's
name, or by what it can do. Letters: N samples, D features.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageOps

from labelfix.config import DatasetConfig
from labelfix.data.arrays import GivenLabels, as_array, dimensions, labels_of, matrix_of
from labelfix.data.columns import IMAGE_NAMES, RawSamples, first_column
from labelfix.data.dataset import settled_dataset
from labelfix.data.files import read_file
from labelfix.data.parquet import Shards, read_shards
from labelfix.data.vectors import (
    MODALITY,
    NoSamples,
    digest_of_vectors,
    with_vectors,
    with_vectors_of_file,
)
from labelfix.errors import ConfigError, DatasetError, UnreadableSample
from labelfix.types import MEMORY_KIND, DatasetSource, Label, LabeledDataset, SampleStore
from labelfix.utils.progress import OnProgress, Progress

_HOW = (
    "give a path, a pandas DataFrame, a Hugging Face Dataset, a torch Dataset or an iterable of "
    "(image or text, label), or (features, labels)"
)
_PEEKED = 8
_LONGEST_VALUE = 60
_PLAIN_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"})
"""Modes of pictures that PNG holds as they are."""


class TableShards(Shards):
    """Tables in memory, or mapped from disk by their library, one a split.

    Args:
        name: What messages call the object.
        tables: They.
        splits: The split of each, ``None`` for none.
        root: The folder that paths are relative to.
    """

    kind = MEMORY_KIND

    def __init__(
        self, name: str, tables: Sequence[pa.Table], splits: Sequence[str | None], root: Path
    ) -> None:
        self._tables = tables
        super().__init__(
            Path(name),
            root,
            [split or name for split in splits],
            [table.schema for table in tables],
            [table.num_rows for table in tables],
            splits,
        )

    def read(self, shard: int, column: str) -> pa.ChunkedArray:
        """Return a column (or ``record.field``) of one table."""
        table = self._tables[shard]
        if column in table.column_names:
            return table.column(column)
        record, _, field = column.rpartition(".")
        values = table.column(record)
        parts = [
            pa.StructArray.from_arrays([chunk.field(field)], [field], mask=chunk.is_null())
            for chunk in values.chunks
        ]
        return pa.chunked_array(parts, type=pa.struct([values.type.field(field)]))

    def first(self, shard: int, column: str) -> pa.Array:
        """Return the first few cells of a column of one table."""
        values = self._tables[shard].column(column).slice(0, _PEEKED)
        return pa.concat_arrays([pa.array([], values.type), *values.chunks])

    def images(self, column: str, *, follow_links: bool) -> SampleStore:
        """Return the images in a column of bytes."""
        return CellImages(str(self.source), [table.column(column) for table in self._tables])

    def ids_by_row(self) -> pa.StringArray:
        """Return ``(N,)`` rows, counted from 0; with splits the split and the row in it."""
        if len(self.names) > 1:
            return super().ids_by_row()
        return pa.array(np.arange(self.rows[0])).cast(pa.string())

    def fingerprint(self, image: str | None, *, follow_links: bool) -> str:
        """Digest the images; of a table without any, the number of rows."""
        digest = hashlib.blake2b(f"{self.names} {self.rows}".encode(), digest_size=16)
        for table in self._tables if image else ():
            for cell in table.column(image):
                digest.update(repr(cell.as_py()).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


class CellImages:
    """Images in cells of tables: bytes, or records of ``bytes`` and ``path``.

    Args:
        name: What messages call the object.
        columns: One a table.
    """

    random_access = True

    def __init__(self, name: str, columns: Sequence[pa.ChunkedArray]) -> None:
        self._name, self._columns = name, tuple(columns)
        self._ends = np.cumsum([len(column) for column in columns], dtype=np.int64)

    def __len__(self) -> int:
        """Return N."""
        return int(self._ends[-1])

    def read(self, index: int) -> bytes:
        """Return the encoded image of one row.

        Raises:
            UnreadableSample: The cell is empty, or the file that it names cannot be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[number - 1]) if number else 0
        value = self._columns[number][index - start].as_py()
        if isinstance(value, dict):
            path = value.get("path")
            value = value.get("bytes")
            if value is None and isinstance(path, str):  # named by the program, not by the data
                return read_file(Path(path))
        if not isinstance(value, bytes):
            raise UnreadableSample("the row holds no image")
        return value

    def location(self, index: int) -> str:
        """Return the object and the row, counted from 0: ``DataFrame:17``."""
        return f"{self._name}:{index}"


def open_object(data: Any, config: DatasetConfig, on_progress: OnProgress) -> LabeledDataset:
    """Open a data set that a program holds, as `labelfix.data.dataset.open_dataset` does files.

    Args:
        data: The data set.
        config: Which columns hold what, where it has columns.
        on_progress: Told how many samples were taken, where they come one after the other.

    Raises:
        ConfigError: It is no data set.
        DatasetError: It cannot be used as a whole.
    """
    raw = _read(data, config, on_progress)
    if config.features is not None:
        raw = with_vectors_of_file(raw, config.features)
    source = replace(raw.source, kind=MEMORY_KIND)
    return settled_dataset(replace(raw, source=source), config)


def _read(data: Any, config: DatasetConfig, on_progress: OnProgress) -> RawSamples:
    kind = _name_of(data)
    if kind == "DataFrame":
        table, root = _table_of_frame(data, config)
        return _read_tables("DataFrame", {None: table}, config, on_progress, root)
    if kind in ("datasets.Dataset", "datasets.DatasetDict"):
        parts = dict(data) if kind.endswith("Dict") else {None: data}
        tables = {split: _table_of_huggingface(part) for split, part in parts.items()}
        return _read_tables(kind.partition(".")[2], tables, config, on_progress)
    if _are_two_columns(data):
        samples, labels = data
        if _are_vectors(samples):
            return samples_of_features(samples, labels_of(labels), None)
        data, classes = _PairedColumns(samples, labels), None
    else:
        classes = _classes_of(data)
    table = _table_of_pairs(_pairs(data), _length(data), classes, on_progress)
    return _read_tables("samples", {None: table}, config, on_progress)


def _name_of(data: Any) -> str:
    """Return what an object is, if its type says so: a table or a data set of another library."""
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return "DataFrame"
    for one in type(data).__mro__:
        if one.__module__.partition(".")[0] == "datasets":
            if one.__name__ in ("Dataset", "DatasetDict"):
                return f"datasets.{one.__name__}"
            if one.__name__ in ("IterableDataset", "IterableDatasetDict"):
                raise DatasetError(
                    f"the samples of a Hugging Face {one.__name__} cannot be read twice",
                    hint="load it without streaming, or take a part of it: "
                    "datasets.Dataset.from_list(list(data.take(10_000)))",
                )
    return ""


def _read_tables(
    name: str,
    tables: Mapping[str | None, pa.Table],
    config: DatasetConfig,
    on_progress: OnProgress,
    root: Path | None = None,
) -> RawSamples:
    if not tables or not any(table.num_rows for table in tables.values()):
        raise DatasetError(f"the {name} has no rows", hint=_HOW)
    shards = TableShards(name, list(tables.values()), list(tables), root or Path.cwd())
    return read_shards(shards, config, on_progress)


# pandas


def _table_of_frame(frame: Any, config: DatasetConfig) -> tuple[pa.Table, Path]:
    """Return a DataFrame as a table, and the folder that its paths of images are relative to."""
    if frame.columns.has_duplicates or not all(isinstance(name, str) for name in frame.columns):
        raise DatasetError(
            "the columns of the DataFrame are not called by one text each",
            hint="rename them, such as image and label",
        )
    columns = {name: _arrow_column(frame[name], name) for name in frame.columns}
    image = config.image_column or first_column(list(columns), IMAGE_NAMES)
    root = Path.cwd()
    if image in columns and pa.types.is_string(columns[image].type):
        paths = columns[image].drop_null().to_pylist()
        if paths and all(map(os.path.isabs, paths)):
            root = Path(os.path.commonpath([str(Path(path).parent) for path in paths]))
            columns[image] = pa.array(
                [path and os.path.relpath(path, root) for path in columns[image].to_pylist()],
                pa.string(),
            )
    return pa.table(columns), root


def _arrow_column(column: Any, name: str) -> pa.Array:
    """Return a column as Arrow holds it: pictures as PNG, paths as text."""
    first = next((value for value in column if value is not None and value is not column), None)
    if isinstance(first, Image.Image) or (dimensions(first) or 0) > 1:
        values: Any = [
            None if value is None else _encoded(value, f"row {row} of column {name!r}")
            for row, value in enumerate(column)
        ]
        return pa.array(values, pa.large_binary())
    if isinstance(first, os.PathLike):
        column = [None if value is None else os.fspath(value) for value in column]
    try:
        found = pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        words = " ".join(str(error).split())[:200]
        raise DatasetError(
            f"column {name!r} of the DataFrame cannot be read: {words}",
            hint="give each column values of one kind",
        ) from error
    found = pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found
    return found.cast(pa.string()) if pa.types.is_large_string(found.type) else found


# Hugging Face


def _table_of_huggingface(data: Any) -> pa.Table:
    """Return the rows of a data set as Arrow, mapped from disk where they lie there."""
    table = data.with_format("arrow")[:]
    return table.replace_schema_metadata(data.features.arrow_schema.metadata)


# Pairs, and samples beside labels


class _PairedColumns:
    """Samples beside their labels."""

    def __init__(self, samples: Any, labels: Any) -> None:
        self._samples, self._labels = samples, labels_of(labels).named(None).to_pylist()
        count = _length(samples)
        if count is None or not isinstance(samples, Iterable):
            raise ConfigError(
                f"the samples beside the labels are {_shown(samples)}, which is no list", hint=_HOW
            )
        if count != len(self._labels):
            raise DatasetError(
                f"there are {count:,} samples and {len(self._labels):,} labels",
                hint="give one label for each sample, in the same order",
            )

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        samples = as_array(self._samples) if hasattr(self._samples, "iloc") else self._samples
        return zip(samples, self._labels, strict=True)


def _are_two_columns(data: Any) -> bool:
    """Return whether data are samples and their labels, and not two pairs."""
    if not isinstance(data, tuple) or len(data) != 2:
        return False
    labels = data[1]
    return hasattr(labels, "__len__") and not isinstance(labels, str) and dimensions(labels) == 1


def _are_vectors(samples: Any) -> bool:
    """Return whether samples are rows of numbers."""
    values = as_array(samples)
    if isinstance(values, np.ndarray):
        return bool(values.ndim == 2 and values.dtype.kind == "f")
    if not isinstance(values, list | tuple) or not values:
        return False
    return isinstance(values[0], list | tuple | np.ndarray) and dimensions(values) == 2


def samples_of_features(
    features: Any, given: GivenLabels, class_names: Sequence[Label] | None
) -> RawSamples:
    """Return samples of which nothing but ``(N, D)`` features is known; their ids are rows.

    Args:
        features: ``(N, D)`` floats.
        given: ``(N,)`` positions of classes, or names.
        class_names: What positions stand for; ``None`` takes them as they are.

    Raises:
        DatasetError: They are none, or do not fit each other.
    """
    values = matrix_of(features, "features", "give one row of floats for each sample")
    if not values.shape[1]:
        raise DatasetError("features has no columns", hint="give one row of floats for each sample")
    if len(given) != len(values):
        raise DatasetError(
            f"labels holds {len(given):,} labels, and features has {len(values):,} rows",
            hint="give labels and features of the same samples, in the same order",
        )
    values = values.copy()  # what is written to them later does not count
    count = len(values)
    raw = RawSamples(
        sample_id=pa.array(np.arange(count)).cast(pa.string()),
        split=pa.nulls(count, pa.string()),
        label=given.named(class_names),
        store=NoSamples(count),
        source=DatasetSource(MEMORY_KIND, Path("features"), {}),
        fingerprint=digest_of_vectors(values, ""),
        modality=MODALITY,
    )
    return with_vectors(raw, values, "features")


def _classes_of(data: Any) -> tuple[str, ...] | None:
    """Return the names that a data set of torchvision gives its classes, or a part of one."""
    for _ in range(8):
        classes = getattr(data, "classes", None)
        if isinstance(classes, list | tuple) and classes:
            return tuple(map(str, classes))
        data = getattr(data, "dataset", None)
    return None


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None


def _pairs(data: Any) -> Iterator[Any]:
    """Return the samples of a data set one after the other."""
    is_odd = isinstance(data, str | bytes | Mapping)
    if not is_odd and isinstance(data, Iterable):
        with suppress(TypeError):  # an array or a tensor of no dimension
            return iter(data)
    if not is_odd and hasattr(data, "__getitem__") and _length(data) is not None:
        return (data[row] for row in range(len(data)))  # as torch has them
    raise ConfigError(f"data is {_shown(data)}, which is no data set", hint=_HOW)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"of type {type(value).__name__}"


def _table_of_pairs(
    pairs: Iterator[Any],
    count: int | None,
    classes: tuple[str, ...] | None,
    on_progress: OnProgress,
) -> pa.Table:
    samples: list[Any] = []
    labels: list[Any] = []
    for row, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise DatasetError(
                f"sample {row} is a {type(pair).__name__}, and no (image or text, label)", hint=_HOW
            )
        sample = pair[0]
        samples.append(sample if isinstance(sample, str) else _encoded(sample, f"sample {row}"))
        labels.append(_plain_label(pair[1]))
        on_progress(Progress("taking the samples", row + 1, count, "samples"))
    if not samples:
        raise DatasetError("the data hold no samples", hint=_HOW)
    are_texts = {isinstance(sample, str) for sample in samples}
    if len(are_texts) > 1:
        raise DatasetError(
            "some samples are texts and some are images", hint="audit them one after the other"
        )
    is_text = are_texts == {True}
    given = labels_of(labels)
    cells = pa.array(samples, pa.large_string() if is_text else pa.large_binary())
    return pa.table({"text" if is_text else "image": cells, "label": given.named(classes)})


def _plain_label(label: Any) -> Any:
    is_number = dimensions(label) == 0 and hasattr(label, "item")
    return label.item() if is_number else label


def _encoded(sample: Any, where: str) -> bytes:
    """Return a picture as PNG, without loss; one that is encoded already as it is."""
    if isinstance(sample, bytes):
        return sample
    picture = sample if isinstance(sample, Image.Image) else _picture_of(as_array(sample), where)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode not in _PLAIN_MODES:
        picture = picture.convert("RGB")
    picture.info = {key: picture.info[key] for key in ("transparency",) if key in picture.info}
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _picture_of(values: Any, where: str) -> Image.Image:
    """Return the picture that an array holds: uint8, or floats from 0 to 1, in either order."""
    hint = (
        "give pictures of PIL, arrays or tensors of uint8 or of floats from 0 to 1 (without "
        "transforms that normalize), or texts"
    )
    if not isinstance(values, np.ndarray) or values.ndim not in (2, 3):
        shape = f" of shape {values.shape}" if isinstance(values, np.ndarray) else ""
        raise DatasetError(
            f"{where} is a {type(values).__name__}{shape}, and no image or text", hint=hint
        )
    pixels = _bytes_of(values, where, hint)
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4) and pixels.shape[0] in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)  # as torch has them
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if not pixels.size or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise DatasetError(f"{where} is of shape {values.shape}, and no image", hint=hint)
    return Image.fromarray(np.ascontiguousarray(pixels))


def _bytes_of(values: NDArray[Any], where: str, hint: str) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    is_float = values.dtype.kind == "f"
    if not is_float or not values.size or not (values.min() >= 0 and values.max() <= 1):
        span = f"{values.min():.3g} to {values.max():.3g}" if is_float and values.size else ""
        raise DatasetError(f"{where} holds {values.dtype} {span}".rstrip(), hint=hint)
    return np.asarray(np.rint(values * 255), np.uint8)
