"""Which labels an export changes, which rows it leaves out, and what the rows weigh.

Letters: N rows of the report, M rows of the export.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.errors import ConfigError
from labelfix.records import TEST_SPLIT
from labelfix.report import Report


@dataclass(frozen=True, slots=True, eq=False)
class ExportPlan:
    """The rows of an export.

    Args:
        rows: ``(M,)`` int64, rising: the rows of the report that are exported.
        label: ``(M,)`` Arrow labels, null where a row has none.
        sample_weight: ``(M,)`` float32, at least 0, mean 1 (all 0 if no row can be used).
        is_changed: ``(M,)`` bool: ``label`` is the suggested one.
        test_rows: How many of the M rows are of a test split, and untouched.
    """

    rows: NDArray[np.int64]
    label: pa.Array
    sample_weight: NDArray[np.float32]
    is_changed: NDArray[np.bool_]
    test_rows: int

    @property
    def changed(self) -> int:
        """How many labels are changed."""
        return int(np.count_nonzero(self.is_changed))


def plan_export(report: Report, *, min_probability: float, drop: bool) -> ExportPlan:
    """Decide on every row of a report.

    A label is changed where ``label_error_probability`` *and* ``suggested_label_probability`` are
    at least ``min_probability``. With ``drop``, flagged rows that are as surely wrong but whose
    suggestion is less sure are left out, and so are unreadable ones; without it nothing is. Rows of
    a test split are never changed or left out.

    Raises:
        ConfigError: ``min_probability`` is no probability.
    """
    if not 0 <= min_probability <= 1:
        raise ConfigError(
            f"min_probability is {min_probability}, which is no probability",
            hint="choose --min-probability between 0 and 1, such as 0.95",
        )
    least = np.float32(min_probability)  # as coarse as the report, so that equal is equal
    is_test = _is_test(report.table["split"])
    is_wrong = _column(report, "is_label_issue") & ~is_test
    is_wrong &= _column(report, "label_error_probability") >= least
    is_sure = _column(report, "suggested_label_probability") >= least
    is_kept = np.ones(len(report), np.bool_)
    if drop:
        is_kept = ~(is_wrong & ~is_sure) & ~(_column(report, "is_unreadable_issue") & ~is_test)
    is_changed = is_wrong & is_sure
    label = pc.if_else(
        pa.array(is_changed), _array(report, "suggested_label"), _array(report, "given_label")
    )
    weight = _weight_of_exported_label(report, is_changed)[is_kept]
    return ExportPlan(
        rows=np.flatnonzero(is_kept),
        label=label.filter(pa.array(is_kept)),
        sample_weight=_with_mean_1(weight),
        is_changed=is_changed[is_kept],
        test_rows=int(np.count_nonzero(is_test)),
    )


def _is_test(split: pa.ChunkedArray) -> NDArray[np.bool_]:
    is_test = pc.equal(pc.utf8_lower(split), TEST_SPLIT).fill_null(False)
    return is_test.to_numpy()  # type: ignore[no-any-return]


def _weight_of_exported_label(report: Report, is_changed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return ``(N,)`` weights, not yet of mean 1.

    The report weighs a given label in proportion to the probability that it is right,
    ``label_score``; a changed label weighs in the same proportion to
    ``suggested_label_probability``.
    """
    weight = _column(report, "sample_weight").astype(np.float64)
    score = np.nan_to_num(_column(report, "label_score").astype(np.float64))
    suggested = _column(report, "suggested_label_probability")
    is_used = weight > 0
    total = score[is_used].sum()
    scale = weight[is_used].sum() / total if total > 0 else 1.0
    return np.where(is_changed, scale * suggested, weight)


def _with_mean_1(weight: NDArray[np.float64]) -> NDArray[np.float32]:
    mean = weight.mean() if len(weight) else 0.0
    return (weight / mean if mean > 0 else np.zeros_like(weight)).astype(np.float32)


def _column(report: Report, name: str) -> NDArray[Any]:
    values: NDArray[Any] = report.table[name].to_numpy()
    return values


def _array(report: Report, name: str) -> pa.Array:
    column = report.table[name]
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
