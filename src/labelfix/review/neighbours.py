"""The nearest neighbours of each sample: ``RUN/neighbors.parquet``, where an audit left one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelfix.errors import ReportError

NEIGHBOURS_NAME = "neighbors.parquet"


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Neighbours of N samples, laid end to end.

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


def read_neighbours(folder: Path, sample_id: pa.ChunkedArray) -> Neighbours | None:
    """Return the neighbours that lie in a RUN folder, ``None`` if there are none.

    Raises:
        ReportError: The file cannot be read, or belongs to another report.
    """
    file = folder / NEIGHBOURS_NAME
    if not file.is_file():
        return None
    try:
        table = pq.read_table(file, columns=["sample_id", "neighbors", "similarities"])
        lists = table["neighbors"].combine_chunks(), table["similarities"].combine_chunks()
        rows, values = (_whole(column) for column in lists)
        offsets = rows.offsets.to_numpy().astype(np.int64)
        if not table["sample_id"].equals(sample_id) or len(rows.values) != len(values.values):
            raise ReportError(f"{file} belongs to another report", hint="audit again, or delete it")
        near = rows.values.to_numpy().astype(np.int64)
        return Neighbours(offsets, near, values.values.to_numpy().astype(np.float32))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ReportError(f"{file} cannot be read: {error}", hint="audit again") from error


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.ListArray:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
