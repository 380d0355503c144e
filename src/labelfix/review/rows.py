"""What the review page knows of each sample of a report, as arrays.

Letters: N samples, K classes, T classes shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelfix.errors import ReportError
from labelfix.report.io import report_file
from labelfix.report.types import Report
from labelfix.types import MISSING, Label
from labelfix.utils.reading import parquet_faults

LABEL = "label"
"""The kind of issue that the page is for."""

SHOWN_CLASSES = 5
_BATCH_VALUES = 16_000_000  # probabilities in memory at a time


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The samples of a report.

    Args:
        class_names: K names.
        sample_id: ``(N,)`` Arrow strings.
        given: ``(N,)`` int64 codes in ``[0, K)``, or ``MISSING``; likewise the next two.
        predicted: The most probable class.
        suggested: The class that a flagged sample should have.
        probability: ``(N,)`` float32, that the given label is wrong; NaN where not judged.
        suggested_probability: ``(N,)`` float32, that the suggested label is right.
        split_names: The names of the splits.
        split: ``(N,)`` int64 codes of `split_names`, or ``MISSING``.
        issues: Kind of issue to ``(N,)`` bool.
        scores: Kind of issue to ``(N,)`` float32, 0 the worst to 1; not for every kind.
        reason: ``(N,)`` Arrow strings.
        top: ``(N, T)`` int64, the most probable classes, falling; ``MISSING`` where not judged.
        top_probability: ``(N, T)`` float32.
    """

    class_names: tuple[Label, ...]
    sample_id: pa.ChunkedArray
    given: NDArray[np.int64]
    predicted: NDArray[np.int64]
    suggested: NDArray[np.int64]
    probability: NDArray[np.float32]
    suggested_probability: NDArray[np.float32]
    split_names: tuple[str, ...]
    split: NDArray[np.int64]
    issues: Mapping[str, NDArray[np.bool_]]
    scores: Mapping[str, NDArray[np.float32]]
    reason: pa.ChunkedArray
    top: NDArray[np.int64]
    top_probability: NDArray[np.float32]

    def __len__(self) -> int:
        """Return N."""
        return len(self.sample_id)

    @property
    def is_flagged(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` which labels are flagged."""
        return self.issues[LABEL]

    def name(self, code: int) -> Label | None:
        """Return the class of a code, ``None`` for ``MISSING``."""
        return None if code == MISSING else self.class_names[code]


def read_rows(report: Report, run: Path) -> Rows:
    """Return what the page needs of a report.

    Args:
        report: The report, with or without ``pred_probs``.
        run: Where it is; the probabilities are read from there, some rows at a time.

    Raises:
        ReportError: The report cannot be read.
    """
    table, names = report.table, report.class_names
    splits = tuple(sorted(filter(None, pc.unique(table["split"]).to_pylist())))
    top, top_probability = _read_top(report_file(run), len(report), len(names))
    return Rows(
        class_names=names,
        sample_id=table["sample_id"],
        given=_codes(table["given_label"], names),
        predicted=_codes(table["predicted_label"], names),
        suggested=_codes(table["suggested_label"], names),
        probability=_floats(table["label_error_probability"]),
        suggested_probability=_floats(table["suggested_label_probability"]),
        split_names=splits,
        split=_codes(table["split"], splits),
        issues=_issues(table),
        scores=_scores(table),
        reason=table["reason"],
        top=top,
        top_probability=top_probability,
    )


def _codes(column: pa.ChunkedArray, names: tuple[Any, ...]) -> NDArray[np.int64]:
    known = pa.array(names, column.type)
    found = pc.fill_null(pc.index_in(column, value_set=known), MISSING)
    return found.to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def _floats(column: pa.ChunkedArray) -> NDArray[np.float32]:
    return column.to_numpy().astype(np.float32)  # type: ignore[no-any-return]


def _issues(table: pa.Table) -> dict[str, NDArray[np.bool_]]:
    """Return the flags of every kind of issue that the report has, whatever they are."""
    names = [n for n in table.column_names if n.startswith("is_") and n.endswith("_issue")]
    return {
        name.removeprefix("is_").removesuffix("_issue"): pc.fill_null(table[name], False)
        .to_numpy()
        .astype(np.bool_)
        for name in names
    }


def _scores(table: pa.Table) -> dict[str, NDArray[np.float32]]:
    return {
        name.removesuffix("_score"): _floats(table[name])
        for name in table.column_names
        if name.endswith("_score") and name != "label_score"
    }


def _read_top(file: Path, size: int, classes: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the codes and probabilities of the T most probable classes of each row."""
    count = min(SHOWN_CLASSES, classes)
    codes = np.full((size, count), MISSING, np.int64)
    probability = np.full((size, count), np.nan, np.float32)
    step = max(1, min(65_536, _BATCH_VALUES // max(classes, 1)))
    start = 0
    with (
        parquet_faults(ReportError, f"the probabilities in {file} cannot be read", "audit again"),
        pq.ParquetFile(file) as parquet,
    ):
        for batch in parquet.iter_batches(step, columns=["pred_probs"]):
            lists = batch.column(0)
            rows = start + np.flatnonzero(lists.is_valid().to_numpy(zero_copy_only=False))
            probs = lists.flatten().to_numpy().reshape(len(rows), classes)
            best = _largest(probs, count)
            codes[rows] = best
            probability[rows] = np.take_along_axis(probs, best, axis=1)
            start += len(lists)
    return codes, probability


def _largest(probs: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return ``(n, count)`` the columns of the largest values of each row, falling."""
    if not len(probs):
        return np.empty((0, count), np.int64)
    some = np.argpartition(-probs, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(probs, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)
