"""Columns of a report as arrays, those that an older report does not have yet among them.

Letters: N samples, K classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.report.schema import label_type
from labelfix.report.types import Report
from labelfix.types import MISSING


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column of a table in one piece."""
    return pa.concat_arrays([pa.array([], column.type), *column.chunks])


def has_columns(report: Report, *names: str) -> bool:
    """Return whether a report has all of these columns."""
    return set(names) <= set(report.table.column_names)


def truths(report: Report, name: str) -> NDArray[np.bool_]:
    """Return an ``(N,)`` bool column; null counts as false."""
    values: NDArray[np.bool_] = pc.fill_null(report.table[name], False).to_numpy()
    return values


def numbers(report: Report, name: str) -> NDArray[np.int64]:
    """Return an ``(N,)`` column of whole numbers, ``MISSING`` where it is null."""
    values: NDArray[np.int64] = pc.fill_null(report.table[name], MISSING).to_numpy()
    return values


def floats(report: Report, name: str) -> NDArray[np.floating]:
    """Return an ``(N,)`` column of floats, NaN where it is null."""
    values: NDArray[np.floating] = report.table[name].to_numpy()
    return values


def label_codes(report: Report, name: str) -> NDArray[np.int64]:
    """Return ``(N,)`` positions in ``class_names``, ``MISSING`` where the label is null."""
    names = pa.array(report.class_names, label_type(report.class_names))
    codes = pc.fill_null(pc.index_in(report.table[name], names), MISSING)
    return codes.to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def rows_of(
    report: Report, rows: NDArray[np.int64] | Sequence[int], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the cells of some rows, a dictionary each."""
    table = report.table.select(list(names)).take(pa.array(rows, pa.int64()))
    return table.to_pylist()  # type: ignore[no-any-return]
