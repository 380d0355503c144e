"""The columns of a report where they lie on disk, read only as far as they are asked for.

A report is one Parquet file, or the parts of a folder one after the other; it is read row group by
row group, so that no column of text is ever in memory whole unless somebody asks for that.

Letters: N rows of the report.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelfix.errors import ReportError
from labelfix.utils.reading import parquet_faults

HINT = "name a RUN folder, or the report in it; if it is damaged, audit again"

BatchCheck = Callable[[pa.RecordBatch, int], None]
"""Refuses a batch that begins at a row of the report, if no audit writes such cells."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredFile:
    """One Parquet file of a report, as it was when it was opened.

    Args:
        path: Where it lies.
        metadata: Its footer.
        schema: Its columns.
        state: Size, time and inode, by which another file in its place is known.
    """

    path: Path
    metadata: pq.FileMetaData
    schema: pa.Schema
    state: tuple[int, int, int]

    @classmethod
    def of(cls, path: Path) -> "StoredFile":
        """Return a file; call it within `parquet_faults`.

        Raises:
            OSError: It is not there.
            pyarrow.ArrowException: It is no Parquet file.
        """
        with pq.ParquetFile(path) as parquet:
            return cls(path, parquet.metadata, parquet.schema_arrow, _state_of(path))

    @property
    def group_rows(self) -> list[int]:
        """Return how many rows each row group has."""
        groups = range(self.metadata.num_row_groups)
        return [self.metadata.row_group(group).num_rows for group in groups]

    @contextmanager
    def opened(self, as_codes: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
        """Open the file once more, whose footer is known.

        Args:
            as_codes: Columns of text that are read as dictionaries.

        Raises:
            ReportError: The file is damaged, or another one lies in its place.
        """
        with parquet_faults(ReportError, f"{self.path} cannot be read as Parquet", HINT):
            if _state_of(self.path) != self.state:
                raise ReportError(
                    f"{self.path} was replaced while it was read", hint="start the command again"
                )
            with pq.ParquetFile(
                self.path,
                metadata=self.metadata,
                read_dictionary=list(as_codes) or None,
                page_checksum_verification=True,
            ) as parquet:
                yield parquet


def _state_of(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


@dataclass(frozen=True, slots=True, eq=False)
class StoredColumns:
    """The N rows of a report on disk.

    Args:
        files: One after the other.
        schema: The columns, in the order in which they are told.
        check: Sees every batch that is read.
    """

    files: tuple[StoredFile, ...]
    schema: pa.Schema
    check: BatchCheck

    def __len__(self) -> int:
        """Return N."""
        return sum(file.metadata.num_rows for file in self.files)

    def batches(
        self, names: Sequence[str], *, as_codes: bool = False
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the row at which it begins, and a batch, for each row group.

        Args:
            names: The columns.
            as_codes: Whether columns of text are dictionary arrays.

        Raises:
            ReportError: The file is damaged.
        """
        start = 0
        for file in self.files:
            with file.opened(self._texts(names) if as_codes else ()) as parquet:
                for group, rows in enumerate(file.group_rows):
                    yield start, self._read(file, parquet, group, start, names)
                    start += rows

    def read(self, names: Sequence[str] | None = None) -> pa.Table:
        """Return columns, all by default, in memory.

        Raises:
            ReportError: The file is damaged.
        """
        names = self.schema.names if names is None else list(names)
        schema = self._schema_of(names)
        return pa.Table.from_batches((batch for _, batch in self.batches(names)), schema)

    def take(self, rows: NDArray[np.integer], names: Sequence[str]) -> pa.Table:
        """Return some rows of some columns; only the row groups that hold them are read.

        Args:
            rows: ``(M,)`` in any order.
            names: The columns.

        Raises:
            ReportError: The file is damaged.
            IndexError: There is no such row.
        """
        rows = np.asarray(rows, np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError("the report has no such row")
        is_rising = bool((rows[1:] >= rows[:-1]).all())
        order = None if is_rising else np.argsort(rows, kind="stable")
        rising = rows if order is None else rows[order]
        table = pa.Table.from_batches(self._picked(rising, names), self._schema_of(names))
        if order is None:
            return table
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return table.take(pa.array(back))

    def _picked(self, rows: NDArray[np.integer], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows that are asked for, which rise, row group by row group."""
        first = 0
        for file in self.files:
            counts = np.array([0, *file.group_rows], np.int64)
            ends = first + np.cumsum(counts)
            cuts = np.searchsorted(rows, ends)
            first = int(ends[-1])
            if cuts[0] == cuts[-1]:
                continue
            with file.opened() as parquet:
                for group in np.flatnonzero(np.diff(cuts)).tolist():
                    begin = int(ends[group])
                    batch = self._read(file, parquet, group, begin, names)
                    here = rows[cuts[group] : cuts[group + 1]] - begin
                    yield (
                        batch
                        if len(here) == len(batch) and (np.diff(here) == 1).all()
                        else (batch.take(pa.array(here)))
                    )

    def _read(
        self,
        file: StoredFile,
        parquet: pq.ParquetFile,
        group: int,
        start: int,
        names: Sequence[str],
    ) -> pa.RecordBatch:
        """Return a row group as one checked batch, with what an older report lacks."""
        there = [name for name in names if name in file.schema.names]
        size = file.metadata.row_group(group).num_rows
        table = parquet.read_row_group(group, columns=there)
        fields, arrays = [], []
        for name in names:
            field = self.schema.field(name)
            found = _nothing(field, size) if name not in there else _whole(table[name])
            fields.append(field.with_type(found.type))
            arrays.append(found)
        batch = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
        batch.validate(full=True)  # bytes that are not UTF-8, lists beyond their values
        self.check(batch, start)
        return batch

    def _schema_of(self, names: Sequence[str]) -> pa.Schema:
        return pa.schema([self.schema.field(name) for name in names])

    def _texts(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if self.schema.field(name).type == pa.string()]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _nothing(field: pa.Field, size: int) -> pa.Array:
    """Return what a report that lacks a column says by it."""
    if field.nullable:
        return pa.nulls(size, field.type)
    return pa.array(np.zeros(size, np.bool_))
