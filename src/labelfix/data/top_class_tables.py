"""Probabilities in Parquet of which each sample has those of a few classes, the likeliest.

::

    sample_id    given_label    top_classes       top_probs
    a.png        cat            [cat, lynx]       [0.9, 0.06]

Classes are text or integers: names, or, where the metadata of the file hold a JSON list of class
names under ``labelfix.class_names``, places in it from 0, as in a report. Rows stay lists, which
are put aside on disk; see `ListedStore` for the classes that a row does not list.

Letters: N samples, K classes, B rows of a batch, M entries of their lists.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt
from numpy.typing import NDArray

from labelfix.data.labels import LabelColumn, blank_to_null, is_whole, labels_of_column
from labelfix.data.probability_store import ListedStore
from labelfix.errors import DatasetError
from labelfix.types import CLASSES_KEY, TOP_CLASSES, TOP_PROBS, Label
from labelfix.utils.files import anonymous_file
from labelfix.utils.progress import OnProgress, Progress
from labelfix.utils.reading import different_labels, parse_json

_NAMES_HOW = (
    f"write the class names into the metadata of the file, as a JSON list under "
    f"{CLASSES_KEY.decode()}, or names of classes into {TOP_CLASSES}"
)


@dataclass(frozen=True, slots=True, eq=False)
class ListedTable:
    """What a table of lists holds.

    Args:
        sample_id: ``(N,)`` as the table has them.
        label: ``(N,)`` Arrow strings, null where there is none.
        class_names: K names.
        store: The probabilities.
    """

    sample_id: pa.Array
    label: pa.StringArray
    class_names: tuple[Label, ...]
    store: ListedStore


@dataclass(slots=True)
class _Classes:
    """The classes of a table: those of its metadata, or those that its lists name."""

    names: list[Label]
    are_told: bool
    place_of: dict[Label, int] = field(default_factory=dict)

    @classmethod
    def of(cls, schema: pa.Schema, path: Path) -> "_Classes":
        """Return those of the metadata, none where there are no such."""
        told = (schema.metadata or {}).get(CLASSES_KEY)
        if told is None:
            return cls([], are_told=False)
        try:
            return cls(list(different_labels(parse_json(told))), are_told=True)
        except ValueError as error:
            raise DatasetError(
                f"the metadata of {path} hold no class names: {error}", hint=_NAMES_HOW
            ) from error

    def codes_of(self, values: pa.Array) -> NDArray[np.int64]:
        """Return ``(M,)`` codes of the entries of lists, -1 for what is no class."""
        if self.are_told and pt.is_integer(values.type):
            places: NDArray[np.int64] = values.cast(pa.int64()).to_numpy()
            return np.where((places >= 0) & (places < len(self.names)), places, -1)
        if self.are_told:
            found = pc.index_in(values, pa.array([str(name) for name in self.names], values.type))
            return np.asarray(pc.fill_null(found, -1).to_numpy(), np.int64)
        encoded = values.dictionary_encode()
        spelled = encoded.dictionary.to_pylist()
        for name in spelled:
            if name not in self.place_of:
                self.place_of[name] = len(self.names)
                self.names.append(name)
        codes = np.array([self.place_of[name] for name in spelled], np.int64)
        return np.asarray(codes[encoded.indices.to_numpy()])


def has_lists(names: Sequence[str]) -> bool:
    """Return whether a table with such columns holds lists of the likeliest classes."""
    return TOP_CLASSES in names and TOP_PROBS in names


def read_lists(
    path: Path,
    parquet: pq.ParquetFile,
    columns: tuple[str, str],
    folder: Path,
    on_progress: OnProgress,
    batch_rows: int,
) -> ListedTable:
    """Read a table of lists; call it where the faults of Parquet are told.

    Args:
        path: The file, for messages.
        parquet: The same, opened.
        columns: Which hold the ids and the given labels.
        folder: Where to put the lists aside.
        on_progress: Told how many rows are read.
        batch_rows: Rows that are read at once.

    Raises:
        DatasetError: A list cannot be used; the message names its row.
        RunError: ``folder`` cannot be written to.
    """
    schema, names = parquet.schema_arrow, [*columns, TOP_CLASSES, TOP_PROBS]
    _check_types(schema, path)
    classes = _Classes.of(schema, path)
    about = LabelColumn(columns[1], str(path))
    ids: list[pa.Array] = []
    labels: list[pa.Array] = [pa.array([], pa.string())]
    counts, is_listed = [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
    done = 0
    with anonymous_file(folder) as of_codes, anonymous_file(folder) as of_values:
        for batch in parquet.iter_batches(batch_rows, columns=names):
            batch = pa.RecordBatch.from_arrays([batch[name] for name in names], names)
            batch.validate(full=True)  # text has to be UTF-8, lists within their values
            part = _Lists.of(_Batch(batch, path, done), classes)
            of_codes.write(part.codes.astype(np.int32).data)
            of_values.write(part.values.data)
            counts.append(part.counts)
            is_listed.append(part.is_listed)
            ids.append(batch.column(0))
            labels.append(blank_to_null(labels_of_column(batch.column(1), about).cast(pa.string())))
            done += len(batch)
            on_progress(Progress(f"reading {path.name}", done, None, "rows"))
        if not classes.names or not of_values.tell():
            raise DatasetError(
                f"no row of {path} lists a class",
                hint=f"list the likeliest classes of each row in {TOP_CLASSES}, and their "
                f"probabilities in {TOP_PROBS}",
            )
        store = ListedStore.of_files(
            _flushed(of_codes), _flushed(of_values), np.concatenate(counts),
            np.concatenate(is_listed), len(classes.names),
        )  # fmt: skip
    return ListedTable(
        sample_id=pa.concat_arrays(ids),
        label=pa.concat_arrays(labels),
        class_names=_class_names(classes, schema.field(columns[1]).type, path),
        store=store,
    )


def _flushed(file: IO[bytes]) -> IO[bytes]:
    file.flush()
    return file


def _check_types(schema: pa.Schema, path: Path) -> None:
    """Refuse columns that hold no lists of classes, or no lists of numbers."""
    for name, are_right, what in (
        (TOP_CLASSES, _are_classes, "lists of text or of integers"),
        (TOP_PROBS, pt.is_floating, "lists of floating-point numbers"),
    ):
        kind = schema.field(name).type
        is_list = pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)
        if not is_list or not are_right(kind.value_type):
            raise DatasetError(
                f"column {name!r} of {path} is of type {kind}", hint=f"it has to hold {what}"
            )


def _are_classes(kind: pa.DataType) -> bool:
    kind = kind.value_type if pt.is_dictionary(kind) else kind
    return bool(pt.is_integer(kind) or pt.is_string(kind) or pt.is_large_string(kind))


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Some rows of a table.

    Args:
        rows: B of them.
        path: The table, for messages.
        start: The row at which they begin.
    """

    rows: pa.RecordBatch
    path: Path
    start: int

    def refuse(self, row: int, what: str, hint: str) -> NoReturn:
        """Refuse one of the rows.

        Raises:
            DatasetError: Always.
        """
        where = f"row {self.start + row + 1:,} of {self.path} ({self.rows.column(0)[row].as_py()})"
        raise DatasetError(f"{where} {what}", hint=hint)


@dataclass(frozen=True, slots=True, eq=False)
class _Lists:
    """The lists of some rows.

    Args:
        codes: ``(M,)`` the classes of all lists.
        values: ``(M,)`` float32 their probabilities.
        counts: ``(B,)`` how many are of each row.
        is_listed: ``(B,)`` bool: the row has lists.
    """

    codes: NDArray[np.int64]
    values: NDArray[np.float32]
    counts: NDArray[np.int64]
    is_listed: NDArray[np.bool_]

    @classmethod
    def of(cls, batch: _Batch, classes: _Classes) -> "_Lists":
        """Return those of a batch.

        Raises:
            DatasetError: They cannot be used.
        """
        of_classes, of_probs = (_as_lists(batch.rows[name]) for name in (TOP_CLASSES, TOP_PROBS))
        counts = _lengths(of_classes)
        for row in _first(counts != _lengths(of_probs)):
            batch.refuse(
                row,
                f"lists {of_classes[row].as_py()} in {TOP_CLASSES} and {of_probs[row].as_py()} in "
                f"{TOP_PROBS}",
                "list one probability for each class",
            )
        is_listed, counts = counts >= 0, np.maximum(counts, 0)
        row_of = np.repeat(np.arange(len(counts)), counts)
        codes = _codes(of_classes.flatten(), row_of, batch, classes)
        values = of_probs.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)
        return cls(codes, np.ascontiguousarray(values, np.float32), counts, is_listed)


def _codes(
    entries: pa.Array, row_of: NDArray[np.int64], batch: _Batch, classes: _Classes
) -> NDArray[np.int64]:
    """Return ``(M,)`` the codes of the classes that lists hold.

    Args:
        entries: ``(M,)`` their entries.
        row_of: ``(M,)`` the row of each.
        batch: The rows.
        classes: Of the table.

    Raises:
        DatasetError: An entry is no class, or twice in a row.
    """
    for entry in _first(~entries.is_valid().to_numpy(zero_copy_only=False)):
        batch.refuse(int(row_of[entry]), "lists a class without a name", f"fill {TOP_CLASSES}")
    codes = classes.codes_of(entries)
    for entry in _first(codes < 0):
        batch.refuse(
            int(row_of[entry]),
            f"lists the class {entries[entry].as_py()!r}, which is none of the "
            f"{len(classes.names):,} in the metadata of the file",
            "list names that are there, or their places from 0",
        )
    order = np.lexsort((codes, row_of))
    is_again = (np.diff(codes[order]) == 0) & (np.diff(row_of[order]) == 0)
    for place in _first(is_again):
        entry = int(order[place])
        batch.refuse(
            int(row_of[entry]),
            f"lists the class {entries[entry].as_py()!r} twice",
            "list each class of a row once",
        )
    return codes


def _as_lists(column: pa.Array) -> pa.ListArray:
    """Return lists of one kind, of plain text where they hold dictionaries."""
    kind = column.type.value_type
    if pt.is_dictionary(kind):
        kind = kind.value_type
    return column.cast(pa.list_(kind))


def _lengths(lists: pa.ListArray) -> NDArray[np.int64]:
    """Return ``(B,)`` how long lists are, -1 for none."""
    found: NDArray[np.int64] = pc.fill_null(pc.list_value_length(lists), -1).to_numpy()
    return found.astype(np.int64)


def _first(is_it: NDArray[np.bool_]) -> Iterator[int]:
    """Yield the first place that is true, if there is one."""
    if is_it.any():
        yield int(is_it.argmax())


def _class_names(classes: _Classes, label: pa.DataType, path: Path) -> tuple[Label, ...]:
    """Return the names of classes: integers where the labels are, or where the metadata say so."""
    names = classes.names
    if classes.are_told:
        return tuple(names)
    label = label.value_type if pt.is_dictionary(label) else label
    are_labels_numbers = bool(pt.is_integer(label) or pt.is_floating(label))
    if isinstance(names[0], int) and not are_labels_numbers:
        raise DatasetError(
            f"{TOP_CLASSES} of {path} holds integers, the given labels are text, and no class "
            "names say which is which",
            hint=_NAMES_HOW,
        )
    if are_labels_numbers and all(is_whole(str(name)) for name in names):
        return tuple(map(int, names))
    return tuple(names)
