"""The nearest neighbours that a run left in ``neighbors.parquet``.

Letters: N samples.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelfix.errors import ReportError

NEIGHBOURS_NAME = "neighbors.parquet"
"""What the table is called in a RUN folder."""


class Neighbours:
    """The samples that look most like each sample, nearest first.

    Args:
        neighbors: ``(N,)`` Arrow lists of rows of the report.
        similarities: ``(N,)`` Arrow lists of cosines, -1 to 1.
    """

    def __init__(self, neighbors: pa.ChunkedArray, similarities: pa.ChunkedArray) -> None:
        self._neighbors, self._similarities = neighbors, similarities

    def of(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rows of the neighbours of one row and their similarities."""
        return (
            np.array(self._neighbors[row].as_py() or [], np.int64),
            np.array(self._similarities[row].as_py() or [], np.float32),
        )


def read_neighbours(run: Path, samples: int) -> Neighbours | None:
    """Return the neighbours of a run, ``None`` where it has none.

    Args:
        run: The RUN folder.
        samples: N.

    Raises:
        ReportError: The table is damaged, or of another report.
    """
    path = run / NEIGHBOURS_NAME
    if not path.is_file():
        return None
    hint = f"audit again, or remove {NEIGHBOURS_NAME}"
    try:
        table = pq.read_table(path, columns=["neighbors", "similarities"])
    except (pa.ArrowException, OSError) as error:
        raise ReportError(f"{path} cannot be read: {error}", hint=hint) from error
    if len(table) != samples:
        raise ReportError(
            f"{path} has {len(table)} rows, and the report {samples}: it is of another run",
            hint=hint,
        )
    return Neighbours(table["neighbors"], table["similarities"])
