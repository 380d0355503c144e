"""How often each class is taken for each other one, as a table that other programs read.

Letters: K classes.
"""

from collections.abc import Sequence
from pathlib import Path

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
    which it lies with a probability of 90 %. The probabilities of a true class sum to 1. Of more
    than 256 classes, only cells of at least .0001 and the diagonal have a row: what a true class
    lacks to 1 is spread over all labels that it has no row with.

    Args:
        scores: What was found.
        class_names: K names.
    """
    names = pa.array(class_names, label_type(class_names))
    noise = scores.noise
    return pa.table(
        {
            "true_label": names.take(pa.array(noise.true_label)),
            "given_label": names.take(pa.array(noise.given_label)),
            "probability": noise.probability,
            "low": noise.low,
            "high": noise.high,
        }
    )


def write_noise_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet.

    Raises:
        RunError: The disk is full, or the place cannot be written to.
    """
    with atomic_path(path) as draft:
        pq.write_table(table, draft, compression="zstd")
