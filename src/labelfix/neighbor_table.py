"""``RUN/neighbors.parquet``: the images most like each one, as a table that other programs read.

Letters: N samples, k neighbours.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
