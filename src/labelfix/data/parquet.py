"""Parquet: one file or a folder of shards, with images inside, image paths, or texts.

The images are a column of binary, or of ``{bytes, path}`` records as Hugging Face data sets have.
Labels and ids are read without the images. Folders called like ``label=cat`` are a column.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from labelfix.config import DatasetConfig
from labelfix.data.columns import (
    IMAGE_NAMES,
    RawSamples,
    TableColumns,
    also_images,
    choose_columns,
    named_column,
    usable_ids,
    usable_splits,
)
from labelfix.data.files import ABSENT, fingerprint, normal_paths, stat_files
from labelfix.data.labels import (
    LabelColumn,
    blank_to_null,
    join_labels,
    labels_by_name,
    labels_of_column,
    labels_of_text,
    names_of_class_label,
)
from labelfix.data.manifest import PathTable, samples_of_paths, samples_of_rows
from labelfix.data.remote import file_times, is_remote, opened_parquet
from labelfix.data.splits import is_split_name, is_test_name, split_names, split_role
from labelfix.data.stores import ParquetImages
from labelfix.data.texts import (
    MODALITY,
    TextColumns,
    digest_of_texts,
    find_text_columns,
    text_store,
)
from labelfix.data.vectors import digest_of_vectors, stack_vectors, vector_column, with_vectors
from labelfix.errors import DatasetError
from labelfix.types import Assumption, DatasetSource, SampleStore
from labelfix.utils.progress import OnProgress, Progress, no_progress
from labelfix.utils.reading import PARQUET_FAULTS

_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_OF_MANY = re.compile(r"[-_.]\d+-of-\d+(?:-[0-9a-f]{8,})?$")
_NUMBERING = re.compile(
    r"(?i)(?:[-_.]\d+[-_]of[-_]\d+(?:-[0-9a-f]{8,})?|(?:[-_.]?(?:part|shard|chunk))?[-_.]*\d+)$"
)
_IMAGE_WORDS = frozenset(
    {"image", "images", "img", "imgs", "picture", "photo", "jpg", "jpeg", "png", "pixels"}
)
_BESIDE_IMAGES = frozenset(
    {"mask", "masks", "segmentation", "depth", "thumb", "thumbnail", "preview", "path", "file",
     "name", "id", "url", "hash", "md5", "sha", "embedding", "features", "size", "width", "height"}
)  # fmt: skip
"""Words for what a data set holds beside its images, or knows of them."""

_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP",
    b"P1", b"P2", b"P3", b"P4", b"P5", b"P6",
)  # fmt: skip
_PEEKED = 8
_PIECE = 4096  # rows of vectors that are read at a time
_BUFFER = 1 << 20  # bytes of a file that are read at a time
_LOOKED_UP = 10_000  # rows of each shard whose images may be files beside it


class Shards(ABC):
    """The shards of one data set; each is opened only while it is read, for there may be thousands.

    Args:
        source: The DATA that the user named, absolute.
        root: The folder that the names are relative to.
        names: The shards, in order.
        schemas: The columns of each.
        rows: How many rows each has.
        splits: The split of each, where that is known; ``None`` tells it by the names.
    """

    kind: str
    """What a source with such images is called."""

    def __init__(
        self,
        source: Path,
        root: Path,
        names: Sequence[str],
        schemas: Sequence[pa.Schema],
        rows: Sequence[int],
        splits: Sequence[str | None] | None = None,
    ) -> None:
        self.source, self.root, self.names = source, root, names
        self.schemas, self.rows, self.splits = schemas, rows, splits
        self.partitions = [partition_of(name) for name in names]

    @abstractmethod
    def read(self, shard: int, column: str) -> pa.ChunkedArray:
        """Return a column (or ``record.field``) of one shard."""

    @abstractmethod
    def first(self, shard: int, column: str) -> pa.Array:
        """Return the first few cells of a column of one shard."""

    @abstractmethod
    def images(self, column: str, *, follow_links: bool) -> SampleStore:
        """Return the images in a column of bytes."""

    def ids_by_row(self) -> pa.StringArray:
        """Return ``(N,)`` the shard and the row in it of each sample."""
        return pa.array(
            (f"{name}:{row}" for name, rows in _rows_by_name(self).items() for row in range(rows)),
            pa.string(),
        )

    def fingerprint(self, image: str | None, *, follow_links: bool) -> str:
        """Digest the shards, and the files that images without bytes point to."""
        times = file_times(self.root, list(self.names))
        names, extra = pa.array(self.names, pa.string()), (image or "").encode()
        if image and _has_path(self.schema.field(image).type) and not is_remote(self.root):
            columns = self.column(f"{image}.path", no_progress)
            for name, inside in zip(self.names, columns, strict=True):
                # statistics would tell whether cells lack bytes; damaged ones end the process
                folder = (self.root / name).parent
                paths = inside.slice(0, _LOOKED_UP).flatten()[0].cast(pa.string())
                paths = normal_paths(folder, paths)
                there, _ = stat_files(folder, paths, no_progress, follow_links=follow_links)
                if bool(np.any(there.size != ABSENT)):
                    extra += fingerprint(paths, there).encode()
        return fingerprint(names, times, extra=extra)

    @property
    def schema(self) -> pa.Schema:
        """Return the columns of the first shard."""
        return self.schemas[0]

    @property
    def column_names(self) -> list[str]:
        """Return the columns, and those that the names of folders give (``label=cat/``)."""
        return self.names_in(0)

    def names_in(self, shard: int) -> list[str]:
        """Return the columns of one shard and of the folders that it lies in."""
        return list(dict.fromkeys([*self.schemas[shard].names, *self.partitions[shard]]))

    def is_folder_name(self, name: str) -> bool:
        """Return whether a column is in the names of folders only."""
        return name not in self.schema.names and name in self.partitions[0]

    def column(self, name: str, on_progress: OnProgress) -> Iterator[pa.Array]:
        """Yield a column (or ``record.field``) of each shard.

        Raises:
            DatasetError: A shard is damaged, or holds text that is no UTF-8.
        """
        for shard, path in enumerate(self.names):
            if self.is_folder_name(name):
                value = pa.scalar(self.partitions[shard].get(name), pa.string())
                yield pa.repeat(value, self.rows[shard])
            else:
                with explained(self.root / path, f"column {name!r} of "):
                    column = self.read(shard, name)
                    values = pa.concat_arrays([pa.array([], column.type), *column.chunks])
                    values.validate(full=True)
                yield values
            on_progress(Progress("reading columns", shard + 1, len(self.names), "shards"))

    def pieces(self, name: str, on_progress: OnProgress) -> Iterator[pa.Array]:
        """Yield a column some rows at a time, so that no shard has to fit into memory.

        Raises:
            DatasetError: A shard is damaged.
        """
        if self.is_folder_name(name):
            yield from self.column(name, on_progress)
            return
        for shard, path in enumerate(self.names):
            with explained(self.root / path, f"column {name!r} of "):
                for piece in self.read_pieces(shard, name):
                    piece.validate(full=True)
                    yield piece
            on_progress(Progress("reading columns", shard + 1, len(self.names), "shards"))

    def read_pieces(self, shard: int, column: str) -> Iterator[pa.Array]:
        """Yield a column of one shard, some rows at a time."""
        yield from self.read(shard, column).chunks

    def text(self, name: str, kind: pa.DataType = pa.string()) -> pa.StringArray:  # noqa: B008
        """Return a column (or ``record.field``) of all shards as text of one kind.

        Raises:
            DatasetError: It holds something else.
        """
        is_field = name not in self.column_names
        parts = [pa.array([], kind)]
        for values in self.column(name, no_progress):
            part = values.flatten()[0] if is_field else values
            try:
                part = part.dictionary_decode() if pt.is_dictionary(part.type) else part
                part = part.cast(kind)
                part.validate(full=True)
                parts.append(part)
            except pa.ArrowException as error:
                raise DatasetError(
                    f"column {name!r} of {self.source} is of type {part.type}, not text",
                    hint="choose other columns with --image-column, --text-column, --id-column, "
                    "--split-column",
                ) from error
        return pa.concat_arrays(parts)


class ParquetShards(Shards):
    """Shards of Parquet.

    Args:
        source: The DATA that the user named, absolute.
        root: The folder that the names are relative to.
        names: The shards, in order.

    Raises:
        DatasetError: One is not Parquet, or is damaged.
    """

    kind = "parquet"

    def __init__(self, source: Path, root: Path, names: Sequence[str]) -> None:
        self._metadata: list[pq.FileMetaData] = []
        schemas = []
        for name in names:
            with explained(root / name), opened_parquet(root / name) as file:
                self._metadata.append(file.metadata)
                schemas.append(file.schema_arrow)
                list(map(str, file.schema_arrow.names))
        rows = [metadata.num_rows for metadata in self._metadata]
        super().__init__(source, root, names, schemas, rows)

    def read(self, shard: int, column: str) -> pa.ChunkedArray:
        """Return a column (or ``record.field``) of one shard."""
        path = self.root / self.names[shard]
        with opened_parquet(path, metadata=self._metadata[shard]) as file:
            return file.read(columns=[column], use_threads=False).column(0)

    def read_pieces(self, shard: int, column: str) -> Iterator[pa.Array]:
        """Yield a column of one shard, some rows at a time."""
        path, metadata = self.root / self.names[shard], self._metadata[shard]
        # through a buffer, or all pages of a row group would lie in memory
        with opened_parquet(path, metadata=metadata, buffer_size=_BUFFER) as file:
            for batch in file.iter_batches(_PIECE, columns=[column], use_threads=False):
                yield batch.column(0)

    def first(self, shard: int, column: str) -> pa.Array:
        """Return the first few cells of a column of one shard."""
        path = self.root / self.names[shard]
        with opened_parquet(path, metadata=self._metadata[shard]) as file:
            batches = file.iter_batches(_PEEKED, columns=[column], use_threads=False)
            batch = next(iter(batches), None)
            return pa.array([], pa.binary()) if batch is None else batch.column(0)

    def images(self, column: str, *, follow_links: bool) -> SampleStore:
        """Return the images in a column of bytes."""
        return ParquetImages(self.root, self.names, self.rows, column, follow_links=follow_links)


def read_parquet(
    source: Path, names: Sequence[str], config: DatasetConfig, on_progress: OnProgress
) -> RawSamples:
    """Read a Parquet file, or the shards of a folder.

    Args:
        source: The file or the folder, absolute.
        names: The shards relative to the folder, in order; the file's own name for a file.
        config: The columns that the user named.
        on_progress: Takes one step a shard.

    Raises:
        DatasetError: A file is not Parquet, shards differ in their columns, or a column is missing.
    """
    root = source if source.is_dir() else source.parent
    return read_shards(ParquetShards(source, root, names), config, on_progress)


def read_shards(shards: Shards, config: DatasetConfig, on_progress: OnProgress) -> RawSamples:
    """Read shards of any form.

    Raises:
        DatasetError: They differ in their columns, a column is missing, or one is damaged.
    """
    try:
        peek = partial(_peek, shards)
        column, said = vector_column(shards.schema, config, str(shards.source), peek)
        if column is None:
            return _read_shards(shards, config, on_progress)
        return _read_vectors(shards, column, said, config, on_progress)
    except (MemoryError, UnicodeError, pa.ArrowException) as error:
        raise damaged(shards.source, error) from error


def _read_vectors(
    shards: Shards,
    column: str,
    said: tuple[Assumption, ...],
    config: DatasetConfig,
    on_progress: OnProgress,
) -> RawSamples:
    raw = _read_shards(shards, replace(config, features_column=column), on_progress)
    cells = shards.pieces(column, on_progress)
    vectors = stack_vectors(cells, sum(shards.rows), column, str(shards.source))
    raw = with_vectors(raw, vectors, f"{shards.source} ({column})")
    source = replace(raw.source, columns={**raw.source.columns, "features": column})
    return replace(
        raw,
        source=source,
        fingerprint=digest_of_vectors(vectors, raw.fingerprint),
        assumptions=raw.assumptions + said,
    )


def _read_shards(shards: Shards, config: DatasetConfig, on_progress: OnProgress) -> RawSamples:
    source, follow = shards.source, config.outside_files
    names = [name for name in shards.column_names if name != config.features_column]
    texts = _text_columns(shards, names, config)
    if texts.names:
        columns = choose_columns(names, config, str(source), texts=texts.names)
        return _samples_of_texts(shards, columns, texts, config, on_progress)
    image, is_of_type = _image_column(shards, config, str(source))
    columns = choose_columns(names, config, str(source), image=image)
    if is_of_type:
        columns = also_images(columns, _other_images(shards, columns.image))
    if shards.is_folder_name(columns.image):
        raise DatasetError(
            f"{columns.image!r} is in the names of the folders of {source}, and holds no images",
            hint="choose another column with --image-column",
        )
    table = table_of_shards(shards, columns, config, on_progress)
    if not columns.image:
        raw = samples_of_rows(table)
        whole = replace(raw.source, kind=shards.kind)
        own = shards.fingerprint(None, follow_links=follow)
        return replace(raw, source=whole, fingerprint=own)
    table = replace(table, may_lack_images=config.features_column is not None)
    if not _holds_bytes(shards.schema.field(columns.image).type):
        return samples_of_paths(table, on_progress)
    ids, columns = usable_ids(table.id, table.columns, str(source))
    return RawSamples(
        assumptions=columns.assumptions,
        sample_id=_sample_ids(shards, columns.image) if ids is None else ids,
        split=blank_to_null(table.split),
        label=table.label,
        store=shards.images(columns.image, follow_links=follow),
        source=DatasetSource(shards.kind, source, columns.by_role(), follow_links=follow),
        fingerprint=shards.fingerprint(columns.image, follow_links=follow),
    )


def _text_columns(shards: Shards, names: Sequence[str], config: DatasetConfig) -> TextColumns:
    """Return which of some columns hold texts; none where a column of bytes holds images."""
    has_bytes = any(_holds_bytes(column.type) for column in shards.schema)
    if has_bytes and not config.text_column:
        return TextColumns()
    return find_text_columns(names, config, str(shards.source), partial(_peek, shards))


def _peek(shards: Shards, names: Sequence[str]) -> dict[str, pa.Array]:
    """Return the first cells of those columns that hold text."""
    of_text = {str(column.name) for column in shards.schema if _holds_text(column.type)}
    cells = {name: shards.first(0, name) for name in names if name in of_text}
    return {name: _plain_text(values) for name, values in cells.items()}


def _plain_text(values: pa.Array) -> pa.Array:
    values = values.dictionary_decode() if pt.is_dictionary(values.type) else values
    return values.cast(pa.string())


def _samples_of_texts(
    shards: Shards,
    columns: TableColumns,
    texts: TextColumns,
    config: DatasetConfig,
    on_progress: OnProgress,
) -> RawSamples:
    table = table_of_shards(shards, columns, config, on_progress)
    cells = [shards.text(name, pa.large_string()) for name in columns.texts]
    store = text_store(cells, columns.texts, str(shards.source))
    ids, columns = usable_ids(table.id, table.columns, str(shards.source))
    return RawSamples(
        assumptions=texts.assumptions + columns.assumptions,
        sample_id=shards.ids_by_row() if ids is None else ids,
        split=blank_to_null(table.split),
        label=table.label,
        store=store,
        source=DatasetSource(shards.kind, shards.source, columns.by_role()),
        fingerprint=digest_of_texts(cells),
        modality=MODALITY,
    )


def table_of_shards(
    shards: Shards, columns: TableColumns, config: DatasetConfig, on_progress: OnProgress
) -> PathTable:
    """Return the columns of shards; nothing for images that lie inside, nor for texts.

    Raises:
        DatasetError: A shard lacks a column, or holds something else in it.
    """
    _check_shards(shards, columns)
    has_paths = bool(columns.image) and not _holds_bytes(shards.schema.field(columns.image).type)
    split, columns = usable_splits(_split_column(shards, columns), columns)
    return PathTable(
        source=shards.source,
        root=shards.root,
        columns=columns,
        image=shards.text(columns.image) if has_paths else pa.array([], pa.string()),
        label=_labels(shards, columns.label, on_progress),
        id=shards.text(columns.id) if columns.id else None,
        split=_splits_by_name(shards, config.test_split) if split is None else split,
        follow_links=config.outside_files,
    )


def partition_of(name: str) -> dict[str, str | None]:
    """Return what the folders above a shard say of all its rows: ``label=cat/split=train/``."""
    found: dict[str, str | None] = {}
    for part in PurePosixPath(name).parts[:-1]:
        key, is_one, value = part.partition("=")
        if is_one and key:
            text = unquote(value)
            found[unquote(key)] = None if text == _NO_PARTITION else text
    return found


@contextmanager
def explained(path: Path, what: str = "") -> Iterator[None]:
    """Turn what pyarrow says of a damaged file into an error with a hint.

    Raises:
        DatasetError: The file is damaged.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except PARQUET_FAULTS as error:
        raise damaged(f"{what}{path}", error) from error


def damaged(where: Path | str, error: BaseException) -> DatasetError:
    """Return that a file is damaged, with the words of pyarrow."""
    words = " ".join(str(error).split())[:300] or type(error).__name__
    form = "an Arrow" if str(where).endswith(".arrow") else "a Parquet"
    return DatasetError(
        f"{where} is not {form} file, or is damaged: {words}",
        hint="write or download it again, or take it out of the data set",
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pt.is_struct(kind):
        index = kind.get_field_index("bytes")
        inside = kind.field(index).type if index >= 0 else pa.string()
        return _holds_bytes(inside) or (pt.is_null(inside) and _has_path(kind))
    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind))


def _image_column(shards: Shards, config: DatasetConfig, where: str) -> tuple[str | None, bool]:
    """Return the image column, ``None`` if only names can tell, and whether its type told it.

    A column that is called an image comes before all others, then one of bytes that begin like an
    image, then paths, then other bytes.
    """
    schema = shards.schema
    named = named_column(shards.column_names, config.image_column, "image", where)
    of_bytes = [str(column.name) for column in schema if _holds_bytes(column.type)]
    if named is not None or not of_bytes:
        return named, False
    called = [name for name in of_bytes if _says_image(name)]
    of_text = [str(column.name) for column in schema if _holds_text(column.type)]
    if not called and any(name.strip().casefold() in _IMAGE_WORDS for name in of_text):
        return None, False
    found = called or [name for name in of_bytes if _begins_like_image(shards, name)]
    has_paths = any(name.strip().casefold() in IMAGE_NAMES for name in of_text)
    if not found and has_paths:
        return None, False
    found = found or of_bytes
    by_plain_name = {name.casefold(): name for name in reversed(found)}
    best = [by_plain_name[name] for name in IMAGE_NAMES if name in by_plain_name]
    if len(found) > 1 and not best:
        raise DatasetError(
            f"{where} has more than one column of bytes: {', '.join(found)}",
            hint="choose the one that holds the images with --image-column",
        )
    return (best or found)[0], True


def _other_images(shards: Shards, image: str) -> list[str]:
    """Return the columns that hold images, too, by what they begin with."""
    names = [str(column.name) for column in shards.schema if _holds_bytes(column.type)]
    return [name for name in names if name != image and _begins_like_image(shards, name)]


def _says_image(name: str) -> bool:
    words = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()))
    return bool(words & _IMAGE_WORDS) and not words & _BESIDE_IMAGES


def _holds_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pt.is_dictionary(kind) else kind
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _begins_like_image(shards: Shards, name: str) -> bool:
    """Return whether the first cell of a column that is not empty begins like an image."""
    for shard, path in enumerate(shards.names):
        if name not in shards.schemas[shard].names:
            continue
        with explained(shards.root / path):
            values = shards.first(shard, name).to_pylist()
        for value in values:
            if isinstance(value, dict):
                value = value.get("bytes") or value.get("path")
            if value:
                return isinstance(value, str) or bytes(value[:12]).startswith(_SIGNATURES)
    return False


def _check_shards(shards: Shards, columns: TableColumns) -> None:
    for shard, name in enumerate(shards.names):
        there = shards.names_in(shard)
        missing = [column for column in columns.by_role().values() if column not in there]
        if missing:
            raise DatasetError(
                f"{shards.root / name} has no column {missing[0]!r}, unlike {shards.names[0]}; "
                f"its columns are: {', '.join(there)}",
                hint="all shards need the same columns; take other files out of the folder",
            )


def _split_column(shards: Shards, columns: TableColumns) -> pa.StringArray | None:
    name = columns.split
    if name is None:
        return None
    is_text = shards.is_folder_name(name) or _holds_text(shards.schema.field(name).type)
    if not (columns.is_split_sure or is_text):
        return None
    return shards.text(name)


def _labels(shards: Shards, name: str, on_progress: OnProgress) -> pa.Array:
    about = LabelColumn(name, str(shards.source))
    if shards.is_folder_name(name):
        return labels_of_text(pa.concat_arrays(list(shards.column(name, on_progress))))
    parts = []
    for schema, values in zip(shards.schemas, shards.column(name, on_progress), strict=True):
        class_names = names_of_class_label(schema, name)
        if class_names is None:
            parts.append(labels_of_column(values, about))
        else:
            parts.append(labels_by_name(values, class_names, about))
    return join_labels(parts, about)


def _sample_ids(shards: Shards, image: str) -> pa.StringArray:
    """Return paths that are in the file if they tell the samples apart, else shard and row."""
    for column in _path_columns(shards.schema, image):
        if any(column not in _path_columns(schema, image) for schema in shards.schemas):
            continue
        ids = shards.text(column)
        if not blank_to_null(ids).null_count and len(ids.unique()) == len(ids):
            return ids
    return shards.ids_by_row()


def _path_columns(schema: pa.Schema, image: str) -> list[str]:
    by_plain_name = {
        column.name.casefold(): str(column.name)
        for column in schema
        if pt.is_string(column.type) or pt.is_large_string(column.type)
    }
    inside = [f"{image}.path"] if _has_path(schema.field(image).type) else []
    return inside + [by_plain_name[name] for name in IMAGE_NAMES if name in by_plain_name]


def _has_path(kind: pa.DataType) -> bool:
    return bool(pt.is_struct(kind) and kind.get_field_index("path") >= 0)


def _rows_by_name(shards: Shards) -> Mapping[str, int]:
    return dict(zip(shards.names, shards.rows, strict=True))


def _splits_by_name(shards: Shards, test_split: Sequence[str]) -> pa.StringArray:
    """Return the split that the name of each shard, or else of a folder above it, tells."""
    if shards.splits is not None:
        known = zip(shards.splits, shards.rows, strict=True)
        return pa.concat_arrays([pa.repeat(pa.scalar(s, pa.string()), n) for s, n in known])
    rows_of = _rows_by_name(shards)
    stems = {name: _NUMBERING.sub("", PurePosixPath(name).stem) for name in rows_of}
    called = split_names(list(set(stems.values())))
    numbered = {name for name in rows_of if _OF_MANY.search(PurePosixPath(name).stem)}
    parts = []
    for name, rows in rows_of.items():
        stem, folders = stems[name], reversed(PurePosixPath(name).parts[:-1])
        above = (part for part in folders if is_split_name(part) or is_test_name(part, test_split))
        is_one = stem in called or (is_test_name(stem, test_split) and not split_role(stem))
        # beside train-00000-of-00001, every name of that form is a split
        is_one = is_one or (name in numbered and bool(called))
        split = stem if is_one else next(above, None)
        parts.append(pa.repeat(pa.scalar(split, pa.string()), rows))
    return pa.concat_arrays([pa.array([], pa.string()), *parts])
