"""Probabilities in a table: CSV, TSV or Parquet with a column a class.

Parquet may hold lists of the likeliest classes instead: see `labelfix.data.top_class_tables`.

::

    sample_id    given_label    prob:cat    prob:dog
    a.png        cat            0.9         0.1

The table is read a few rows at a time, and its probabilities are put aside on disk.

Letters: N samples, K classes, B rows of a batch.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pyarrow.types as pt
from numpy.typing import NDArray

from labelfix.data.labels import LabelColumn, blank_to_null, is_whole, labels_of_column
from labelfix.data.probability_store import ArrayStore, ListedStore, map_file
from labelfix.data.table_text import Header, read_header
from labelfix.data.top_class_tables import has_lists, read_lists
from labelfix.errors import DatasetError
from labelfix.types import TOP_CLASSES, TOP_PROBS, Assumption, Label
from labelfix.utils.files import anonymous_file
from labelfix.utils.progress import OnProgress, Progress
from labelfix.utils.reading import PARQUET_FAULTS, parquet_faults

ID, LABEL, PREFIX = "sample_id", "given_label", "prob:"
"""What the columns are called; a class's name comes after the prefix."""

SHAPE_OF_TABLE = (
    f"give the columns {ID}, {LABEL} and one {PREFIX}<class> for each class, for instance "
    f"{PREFIX}cat; or, in Parquet, {ID}, {LABEL} and the lists {TOP_CLASSES} and {TOP_PROBS}"
)

CSV_BLOCK = 1 << 20
PARQUET_BATCH = 1 << 14
_FLOAT = np.dtype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class RawPredProbs:
    """What one file of probabilities holds, before the checks that are common to all forms.

    Args:
        path: The file.
        sample_id: ``(N,)`` Arrow strings; ``None`` where samples are known by their row.
        label: ``(N,)`` Arrow strings, null where there is none: the given labels as text.
        class_names: K names, in the order of the columns.
        store: The probabilities.
        assumptions: What was taken for granted to read it.
    """

    path: Path
    sample_id: pa.StringArray | None
    label: pa.StringArray
    class_names: tuple[Label, ...]
    store: ArrayStore | ListedStore
    assumptions: tuple[Assumption, ...] = ()


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a table that are read; ``classes`` are the names without the prefix."""

    where: str
    classes: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return [ID, LABEL, *(PREFIX + name for name in self.classes)]


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Some rows: ids and labels as text, and ``(B, K)`` probabilities."""

    sample_id: pa.StringArray
    label: pa.StringArray
    probs: NDArray[np.float32]


def read_text_table(
    path: Path, folder: Path, on_progress: OnProgress, *, block: int = CSV_BLOCK
) -> RawPredProbs:
    """Read probabilities from CSV or TSV, in the encoding that `read_header` finds.

    Class names that are all whole numbers are integers.

    Args:
        path: The file.
        folder: Where to put the probabilities aside.
        on_progress: Told how many rows are read.
        block: Bytes that are read at once.

    Raises:
        DatasetError: The file or its columns cannot be used.
        RunError: ``folder`` cannot be written to.
    """
    header = read_header(path)
    columns = _columns(header.names, str(path))
    batches = _text_batches(path, header, columns, max(block, 256 * len(header.names)))
    are_numbers = all(map(is_whole, columns.classes))
    raw = _put_aside(path, columns, batches, folder, on_progress, are_numbers=are_numbers)
    return replace(raw, assumptions=header.assumptions)


def read_parquet_table(
    path: Path, folder: Path, on_progress: OnProgress, *, batch: int = PARQUET_BATCH
) -> RawPredProbs:
    """Read probabilities from Parquet: of all classes, or lists of those of the likeliest.

    Class names are integers if the given labels are.

    Args:
        path: The file.
        folder: Where to put the probabilities aside.
        on_progress: Told how many rows are read.
        batch: Rows that are read at once.

    Raises:
        DatasetError: The file or its columns cannot be used.
        RunError: ``folder`` cannot be written to.
    """
    with (
        _parquet_faults(path),
        # a few pages of each column at a time: a row group may be as large as the file
        pq.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False) as parquet,
    ):
        schema = parquet.schema_arrow
        if has_lists(schema.names) and not any(name.startswith(PREFIX) for name in schema.names):
            return _read_lists(path, parquet, folder, on_progress, batch)
        columns = _columns(schema.names, str(path))
        _check_types(schema, columns)
        kind = schema.field(LABEL).type
        kind = kind.value_type if pt.is_dictionary(kind) else kind
        are_numbers = _is_number(kind) and all(map(is_whole, columns.classes))
        batches = _parquet_batches(path, parquet, columns, batch)
        return _put_aside(path, columns, batches, folder, on_progress, are_numbers=are_numbers)


def _read_lists(
    path: Path, parquet: pq.ParquetFile, folder: Path, on_progress: OnProgress, batch: int
) -> RawPredProbs:
    names = parquet.schema_arrow.names
    for name in (ID, LABEL, TOP_CLASSES, TOP_PROBS):
        if names.count(name) != 1:
            raise DatasetError(
                f"{path} has {names.count(name) or 'no'} columns called {name!r}",
                hint=SHAPE_OF_TABLE,
            )
    found = read_lists(path, parquet, (ID, LABEL), folder, on_progress, batch)
    are_numbers = all(isinstance(name, int) for name in found.class_names)
    return RawPredProbs(
        path=path,
        sample_id=_ids(_text_ids(found.sample_id), _Columns(str(path), ())),
        label=_without_fraction(found.label) if are_numbers else found.label,
        class_names=found.class_names,
        store=found.store,
        assumptions=_spread_evenly(found.store, path),
    )


def _spread_evenly(store: ListedStore, path: Path) -> tuple[Assumption, ...]:
    """Return what is said of classes that a row does not list."""
    if store.longest >= store.classes:
        return ()
    text = (
        f"{path.name} lists {store.longest:,} of {store.classes:,} classes for each sample at "
        "most; what is left of 1 is spread evenly over the others"
    )
    return (Assumption("probabilities", text),)


def read_shown_columns(path: Path, sample_id: pa.Array, names: Sequence[str]) -> list[pa.Array]:
    """Return columns of a table of probabilities that say what its samples are.

    Args:
        path: The table.
        sample_id: ``(N,)`` ids that it has to hold, in this order.
        names: The columns: of text, or of Parquet images as well.

    Returns:
        ``(N,)`` each: text, or of an image column of Parquet whatever it is.

    Raises:
        DatasetError: The file is no table, lacks a column, or holds other samples.
    """
    if path.suffix.lower() == ".npz":
        raise DatasetError(
            f"{path} holds arrays, which name no samples",
            hint=f"give a table: {SHAPE_OF_TABLE}",
        )
    wanted = [ID, *names]
    if path.suffix.lower() == ".parquet":
        with _parquet_faults(path), pq.ParquetFile(path) as parquet:
            _refuse_missing(wanted, parquet.schema_arrow.names, path)
            table = parquet.read(columns=wanted)
        ids = _text_ids(table[ID].combine_chunks())
    else:
        table = _read_text_columns(path, wanted)
        ids = table[ID].combine_chunks()
    if not ids.cast(sample_id.type).equals(sample_id):
        raise DatasetError(
            f"{path} has changed since the audit: its samples are not those of the report",
            hint="audit it again",
        )
    return [_as_text(table[name].combine_chunks()) for name in names]


def _read_text_columns(path: Path, wanted: Sequence[str]) -> pa.Table:
    header = read_header(path)
    _refuse_missing(wanted, header.names, path)
    try:
        return pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(encoding=header.encoding, use_threads=False),
            parse_options=pacsv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(wanted),
                column_types=dict.fromkeys(wanted, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except PARQUET_FAULTS as error:
        raise DatasetError(
            f"cannot read {path}: {_with_names(str(error), header.names)}",
            hint="save it as UTF-8 text",
        ) from error


def _refuse_missing(wanted: Sequence[str], names: Sequence[str], path: Path) -> None:
    for name in wanted:
        if names.count(name) != 1:
            some = ", ".join(other for other in names if not other.startswith(PREFIX))
            raise DatasetError(
                f"{path} has {names.count(name) or 'no'} column {name!r}",
                hint=f"its columns, without those of probabilities, are: {some}",
            )


def _as_text(cells: pa.Array) -> pa.Array:
    """Return text as strings, images in the file as they are."""
    kind = cells.type.value_type if pt.is_dictionary(cells.type) else cells.type
    is_image = pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_struct(kind)
    return cells if is_image else cells.cast(pa.string())


def _columns(names: Sequence[str], where: str) -> _Columns:
    classes = tuple(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))
    missing = [name for name in (ID, LABEL) if name not in names]
    if missing or not classes:
        lacks = " and ".join([*missing, *([f"{PREFIX}<class>"] if not classes else [])])
        some = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
        raise DatasetError(
            f"{where} has no column {lacks}; its columns are: {some}", hint=SHAPE_OF_TABLE
        )
    columns = _Columns(where, classes)
    for name in columns.names:
        if names.count(name) > 1:
            raise DatasetError(
                f"{where} has {names.count(name)} columns called {name!r}",
                hint="give each column a name of its own",
            )
    return columns


def _check_types(schema: pa.Schema, columns: _Columns) -> None:
    for name in columns.names[2:]:
        kind = schema.field(name).type
        if not _is_number(kind):
            raise DatasetError(
                f"column {name!r} of {columns.where} is of type {kind}",
                hint="write probabilities as floating-point numbers",
            )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pt.is_floating(kind) or pt.is_integer(kind))


def _text_batches(path: Path, header: Header, columns: _Columns, block: int) -> Iterator[_Batch]:
    types = dict.fromkeys(columns.names, pa.float32()) | {ID: pa.string(), LABEL: pa.string()}
    try:
        with pacsv.open_csv(
            path,
            # one thread is as quick, and knows the line that an error is in
            read_options=pacsv.ReadOptions(
                block_size=block, use_threads=False, encoding=header.encoding
            ),
            parse_options=pacsv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                include_columns=columns.names,
                column_types=types,
                null_values=[""],  # a number may be NaN, and a class may be called so
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        ) as reader:
            for batch in reader:
                yield _Batch(batch[ID], blank_to_null(batch[LABEL]), _matrix(batch, columns))
    except PARQUET_FAULTS as error:
        raise DatasetError(
            f"cannot read {path}: {_with_names(str(error), header.names)}",
            hint="save it as UTF-8 text with a number in each column of probabilities and the "
            "same number of fields on every line",
        ) from error


def _with_names(text: str, names: Sequence[str]) -> str:
    """Return what pyarrow says of a file, with columns by name; its rows are lines of the file."""
    text = re.sub(r"CSV column #(\d+)", lambda found: f"column {names[int(found[1])]!r}", text)
    return re.sub(r"Row #", "line ", text)


def _parquet_batches(
    path: Path, parquet: pq.ParquetFile, columns: _Columns, batch_rows: int
) -> Iterator[_Batch]:
    about = LabelColumn(LABEL, columns.where)
    with _parquet_faults(path):
        for batch in parquet.iter_batches(batch_rows, columns=columns.names):
            for name in (ID, LABEL):
                batch[name].validate(full=True)  # text has to be UTF-8
            label = labels_of_column(batch[LABEL], about).cast(pa.string())
            yield _Batch(_text_ids(batch[ID]), label, _matrix(batch, columns))


def _text_ids(ids: pa.Array) -> pa.StringArray:
    """Return ids as text; a number that is NaN is no id."""
    if pt.is_floating(ids.type):
        ids = pc.if_else(pc.is_nan(ids), pa.scalar(None, ids.type), ids)
    return ids.cast(pa.string())


def _parquet_faults(path: Path) -> AbstractContextManager[None]:
    how = "write it again as UTF-8 text and numbers; it may have been cut short or damaged"
    return parquet_faults(DatasetError, f"cannot read {path} as Parquet", how)


def _matrix(batch: pa.RecordBatch, columns: _Columns) -> NDArray[np.float32]:
    probs = np.empty((batch.num_rows, len(columns.classes)), np.float32)
    for position, name in enumerate(columns.names[2:]):
        probs[:, position] = batch[name].to_numpy(zero_copy_only=False)  # NaN where null
    return probs


def _put_aside(
    path: Path,
    columns: _Columns,
    batches: Iterator[_Batch],
    folder: Path,
    on_progress: OnProgress,
    *,
    are_numbers: bool,
) -> RawPredProbs:
    ids: list[pa.Array] = [pa.array([], pa.string())]
    labels: list[pa.Array] = [pa.array([], pa.string())]
    done = 0
    with anonymous_file(folder) as file:
        for batch in batches:
            file.write(batch.probs.data)
            ids.append(batch.sample_id)
            labels.append(batch.label)
            done += len(batch.sample_id)
            on_progress(Progress(f"reading {path.name}", done, None, "rows"))
        if not done:
            raise DatasetError(f"{path} has no rows", hint="write one row a sample")
        file.flush()
        shape = (done, len(columns.classes))
        store = map_file(file, shape, _FLOAT, offset=0, order="C")
    label = pa.concat_arrays(labels)
    return RawPredProbs(
        path=path,
        sample_id=_ids(pa.concat_arrays(ids), columns),
        label=_without_fraction(label) if are_numbers else label,
        class_names=tuple(map(int, columns.classes)) if are_numbers else columns.classes,
        store=store,
    )


def _ids(ids: pa.StringArray, columns: _Columns) -> pa.StringArray:
    is_blank = pc.is_null(blank_to_null(ids))
    row = pc.index(is_blank, True).as_py()
    if row >= 0:
        raise DatasetError(
            f"row {row + 1:,} of {columns.where} has no {ID}", hint=f"fill the column {ID}"
        )
    return ids


def _without_fraction(label: pa.StringArray) -> pa.StringArray:
    """Return ``3.0``, as pandas writes a column of integers with holes, as ``3``."""
    return pc.replace_substring_regex(label, r"^(-?[0-9]+)\.0+$", r"\1")
