"""``RUN/neighbors.parquet``: the images most like each one, for this and for other programs.

Letters: N samples, k neighbours.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelfix.errors import ReportError
from labelfix.files import atomic_path
from labelfix.issue_records import Neighbours
from labelfix.records import MISSING

NEIGHBORS_NAME = "neighbors.parquet"
"""What the table is called in a RUN folder."""

ROW_GROUP_SIZE = 65_536
"""Fixed, so that the same rows always make the same bytes."""


def write_neighbors(neighbours: Neighbours, sample_id: pa.StringArray, path: Path) -> None:
    """Write one row a sample, in the order of the report.

    Columns ``sample_id``; ``neighbors``, a list of rows of the report, counted from 0, nearest
    first; ``similarities``, a list of their cosines, -1 to 1. The lists are empty where an image
    could not be read.

    Args:
        neighbours: Of N samples.
        sample_id: ``(N,)``.
        path: The file, replaced if it is there.

    Raises:
        RunError: The disk is full, or the place cannot be written to.
    """
    is_there = neighbours.rows != MISSING
    ends = np.concatenate([[0], np.cumsum(is_there.sum(axis=1))]).astype(np.int32)
    lists = {
        "neighbors": neighbours.rows[is_there],
        "similarities": neighbours.similarities[is_there],
    }
    columns = {name: pa.ListArray.from_arrays(ends, values) for name, values in lists.items()}
    with atomic_path(path) as draft:
        pq.write_table(
            pa.table({"sample_id": sample_id, **columns}),
            draft,
            compression="zstd",
            row_group_size=ROW_GROUP_SIZE,
        )


@dataclass(frozen=True, slots=True, eq=False)
class NeighborLists:
    """Neighbours of N samples as they are read, laid end to end.

    Args:
        start: ``(N + 1,)`` int64: where those of a sample begin, and the next one's.
        row: The rows of the neighbours, nearest first.
        similarity: Their cosine similarity, -1 to 1.
    """

    start: NDArray[np.int64]
    row: NDArray[np.int64]
    similarity: NDArray[np.float32]

    def of(self, row: int) -> list[tuple[int, float]]:
        """Return the rows and similarities of the neighbours of one sample."""
        part = slice(int(self.start[row]), int(self.start[row + 1]))
        near = zip(self.row[part].tolist(), self.similarity[part].tolist(), strict=True)
        return [(other, value) for other, value in near if 0 <= other < len(self.start) - 1]


def read_neighbors(run: Path, sample_id: pa.ChunkedArray) -> NeighborLists | None:
    """Return the neighbours that lie in a RUN folder, ``None`` if there are none.

    Raises:
        ReportError: The file cannot be read, or belongs to another report.
    """
    file = run / NEIGHBORS_NAME
    if not file.is_file():
        return None
    hint = f"audit again, or remove {NEIGHBORS_NAME}"
    try:
        table = pq.read_table(file, columns=["sample_id", "neighbors", "similarities"])
        lists = table["neighbors"].combine_chunks(), table["similarities"].combine_chunks()
        rows, values = (_whole(column) for column in lists)
        offsets = rows.offsets.to_numpy().astype(np.int64)
        if not table["sample_id"].equals(sample_id) or len(rows.values) != len(values.values):
            raise ReportError(f"{file} belongs to another report", hint=hint)
        near = rows.values.to_numpy().astype(np.int64)
        return NeighborLists(offsets, near, values.values.to_numpy().astype(np.float32))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ReportError(f"{file} cannot be read: {error}", hint=hint) from error


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.ListArray:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
