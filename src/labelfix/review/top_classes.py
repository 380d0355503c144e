"""The most probable classes of each sample, read from a report some rows at a time.

Letters: N samples, K classes, T classes shown.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelfix.errors import ReportError
from labelfix.report.io import report_file
from labelfix.types import MISSING
from labelfix.utils.reading import parquet_faults

SHOWN_CLASSES = 5
_BATCH_VALUES = 16_000_000  # probabilities in memory at a time


@dataclass(frozen=True, slots=True, eq=False)
class TopClasses:
    """The most probable classes of the samples of a report.

    Args:
        code: ``(N, T)`` int64, the most probable classes, falling; ``MISSING`` where not scored.
        probability: ``(N, T)`` float32, NaN where not scored.
    """

    code: NDArray[np.int64]
    probability: NDArray[np.float32]


def read_top_classes(run: Path, size: int, classes: int) -> TopClasses:
    """Return the T most probable classes of each sample: 5, or K if that is less.

    Args:
        run: The RUN folder, or the report in it.
        size: N.
        classes: K.

    Raises:
        ReportError: The probabilities cannot be read.
    """
    file = report_file(run)
    count = min(SHOWN_CLASSES, classes)
    step = max(1, min(65_536, _BATCH_VALUES // max(classes, 1)))
    start = 0
    with (
        parquet_faults(ReportError, f"the probabilities in {file} cannot be read", "audit again"),
        pq.ParquetFile(file, page_checksum_verification=True) as parquet,
    ):
        codes = np.full((size, count), MISSING, np.int64)
        probability = np.full((size, count), np.nan, np.float32)
        for batch in parquet.iter_batches(step, columns=["pred_probs"]):
            lists = batch.column(0)
            rows = start + np.flatnonzero(lists.is_valid().to_numpy(zero_copy_only=False))
            probs = lists.flatten().to_numpy().reshape(len(rows), classes)
            best = _largest(probs, count)
            codes[rows] = best
            probability[rows] = np.take_along_axis(probs, best, axis=1)
            start += len(lists)
    return TopClasses(codes, probability)


def _largest(probs: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return ``(n, count)`` the columns of the largest values of each row, falling."""
    if not len(probs):
        return np.empty((0, count), np.int64)
    some = np.argpartition(-probs, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(probs, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)
