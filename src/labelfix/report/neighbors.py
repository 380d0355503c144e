"""``RUN/neighbors.parquet``: the images most like each one, for this and for other programs.

Letters: N samples, k neighbors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
from numpy.typing import NDArray

from labelfix.errors import ReportError
from labelfix.issues.types import Neighbors
from labelfix.report.types import Report
from labelfix.types import MISSING
from labelfix.utils.files import atomic_path
from labelfix.utils.reading import parquet_faults

NEIGHBORS_NAME = "neighbors.parquet"
"""What the table is called in a RUN folder."""

ROW_GROUP_SIZE = 65_536
"""Fixed, so that the same rows always make the same bytes."""


def write_neighbors(
    neighbors: Neighbors,
    sample_id: pa.StringArray,
    path: Path,
    places: NDArray[np.float32] | None = None,
) -> None:
    """Write one row a sample, in the order of the report.

    Columns ``sample_id``; ``neighbors``, a list of rows of the report, counted from 0, nearest
    first; ``similarities``, a list of their cosines, -1 to 1; ``x`` and ``y``, a place on a plane.
    The lists are empty, and the places null, where an image could not be read.

    Args:
        neighbors: Of N samples.
        sample_id: ``(N,)``.
        path: The file, replaced if it is there.
        places: ``(N, 2)``, NaN where there is none; ``None`` leaves the columns out.

    Raises:
        RunError: The disk is full, or the place cannot be written to.
    """
    groups = (
        _table_of(neighbors, sample_id, places, slice(start, start + ROW_GROUP_SIZE))
        for start in range(0, max(len(sample_id), 1), ROW_GROUP_SIZE)
    )
    first = next(groups)
    with (
        atomic_path(path) as draft,
        pq.ParquetWriter(
            draft, first.schema, compression="zstd", write_page_checksum=True
        ) as writer,
    ):
        for group in chain([first], groups):
            writer.write_table(group, row_group_size=ROW_GROUP_SIZE)


def _table_of(
    neighbors: Neighbors,
    sample_id: pa.StringArray,
    places: NDArray[np.float32] | None,
    group: slice,
) -> pa.Table:
    """Return the rows of a row group: lists of all rows would be a second copy of the neighbors."""
    rows, similarities = neighbors.rows[group], neighbors.similarities[group]
    is_there = rows != MISSING
    ends = np.concatenate([[0], np.cumsum(is_there.sum(axis=1))]).astype(np.int32)
    lists = {"neighbors": rows[is_there], "similarities": similarities[is_there]}
    columns = {name: pa.ListArray.from_arrays(ends, values) for name, values in lists.items()}
    if places is not None:
        columns |= {
            name: pa.array(values, mask=np.isnan(values))
            for name, values in zip(_AXES, places[group].T, strict=True)
        }
    return pa.table({"sample_id": sample_id[group], **columns})


@dataclass(frozen=True, slots=True, eq=False)
class NeighborLists:
    """Neighbors of N samples as they are read, laid end to end.

    Args:
        start: ``(N + 1,)`` int64: where those of a sample begin, and the next one's.
        row: The rows of the neighbors, nearest first.
        similarity: Their cosine similarity, -1 to 1.
    """

    start: NDArray[np.int64]
    row: NDArray[np.int64]
    similarity: NDArray[np.float32]

    def of(self, row: int) -> list[tuple[int, float]]:
        """Return the rows and similarities of the neighbors of one sample."""
        part = slice(int(self.start[row]), int(self.start[row + 1]))
        near = zip(self.row[part].tolist(), self.similarity[part].tolist(), strict=True)
        return [(other, value) for other, value in near if 0 <= other < len(self.start) - 1]


def read_neighbors(run: Path, report: Report) -> NeighborLists | None:
    """Return the neighbors of a report that lie in its RUN folder, ``None`` if there are none.

    Raises:
        ReportError: The file cannot be read, or belongs to another report.
    """
    file = run / NEIGHBORS_NAME
    if not file.is_file():
        return None
    hint = f"audit again, or remove {NEIGHBORS_NAME}"
    with parquet_faults(ReportError, f"{file} cannot be read", hint):
        table = _read(file, [*_LISTS, "sample_id"])
        for name, is_value in _LISTS.items():
            kind = table.schema.field(name).type
            if not pt.is_list(kind) or not is_value(kind.value_type):
                raise ReportError(f"column {name} of {file} is of type {kind}", hint=hint)
        table.validate(full=True)
        if not report.has_names(table["sample_id"]):
            raise ReportError(f"{file} belongs to another report", hint=hint)
        rows, values = (_whole(table[name]) for name in _LISTS)
        if rows.null_count or values.null_count or not rows.offsets.equals(values.offsets):
            raise ReportError(
                f"{file} is damaged: its lists of neighbors and similarities differ in length",
                hint=hint,
            )
        near, similar = rows.values, values.values
        if near.null_count or similar.null_count:
            raise ReportError(f"{file} is damaged: it has neighbors that are null", hint=hint)
        return NeighborLists(
            rows.offsets.to_numpy().astype(np.int64),
            near.to_numpy().astype(np.int64),
            similar.to_numpy().astype(np.float32),
        )


def read_places(run: Path, size: int) -> NDArray[np.float32] | None:
    """Return ``(N, 2)`` places on a plane, NaN where there is none; ``None`` if a run has none.

    Call `read_neighbors` first, which checks that the file is of the report.

    Args:
        run: The RUN folder.
        size: N.

    Raises:
        ReportError: The file cannot be read.
    """
    file = run / NEIGHBORS_NAME
    if not file.is_file():
        return None
    hint = f"audit again, or remove {NEIGHBORS_NAME}"
    with parquet_faults(ReportError, f"{file} cannot be read", hint):
        schema = pq.read_schema(file)
        if any(name not in schema.names for name in _AXES):
            return None
        table = _read(file, _AXES)
        if table.num_rows != size or any(not pt.is_floating(t) for t in table.schema.types):
            raise ReportError(f"{file} is damaged: its places are no numbers", hint=hint)
        columns = (table[name].to_numpy() for name in _AXES)
        places: NDArray[np.float32] = np.column_stack(list(columns)).astype(np.float32)
        return places


_AXES = ("x", "y")
"""The columns of places."""

_LISTS = {"neighbors": pt.is_integer, "similarities": pt.is_floating}
"""The columns of lists, and what their values have to be."""


def _read(file: Path, columns: Sequence[str]) -> pa.Table:
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        return parquet.read(columns=list(columns))


def _whole(column: pa.ChunkedArray) -> pa.ListArray:
    return pa.concat_arrays([pa.array([], column.type), *column.chunks])
