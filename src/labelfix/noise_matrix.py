"""How often each class is taken for each other one, as a table that other programs read.

Letters: K classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.files import atomic_path
from labelfix.records import Label, LabelScores
from labelfix.report_schema import label_type

NOISE_MATRIX_NAME = "noise_matrix.parquet"
"""What the table is called in a RUN folder."""


def noise_table(scores: LabelScores, class_names: Sequence[Label]) -> pa.Table:
    """Return K * K rows: the probability that a sample of a true class is given a label.

    Columns ``true_label``, ``given_label``, ``probability``, and ``low`` and ``high``, between
    which it lies with a probability of 90 %. The probabilities of a true class sum to 1.

    Args:
        scores: What was found.
        class_names: K names.
    """
    names = pa.array(class_names, label_type(class_names))
    count = len(class_names)
    every = np.arange(count)
    low, high = scores.noise_matrix_interval
    return pa.table(
        {
            "true_label": names.take(pa.array(np.repeat(every, count))),
            "given_label": names.take(pa.array(np.tile(every, count))),
            "probability": scores.noise_matrix.ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
        }
    )


def write_noise_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet.

    Raises:
        RunError: The disk is full, or the place cannot be written to.
    """
    with atomic_path(path) as draft:
        pq.write_table(table, draft, compression="zstd")
