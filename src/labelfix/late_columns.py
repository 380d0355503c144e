"""Columns of the report that say nothing where no image was looked at, or in older reports.

Letters: N samples.
"""

import numpy as np
import pyarrow as pa

from labelfix.issue_records import KINDS, IssueKinds
from labelfix.records import MISSING
from labelfix.report_schema import COLUMNS, Column


def kind_columns(kinds: IssueKinds | None, size: int) -> dict[str, pa.Array]:
    """Return ``(N,)`` columns by name.

    Args:
        kinds: What was found of images; ``None`` if none was looked at.
        size: N.
    """
    if kinds is None:
        return {column.name: _nothing(column, size) for column in COLUMNS if column.is_late}
    sets = kinds.near_duplicate_set
    columns = {
        "near_duplicate_set": pa.array(sets, mask=sets == MISSING),
        "is_conflicting_near_duplicate_issue": pa.array(kinds.is_conflicting),
    }
    for kind in KINDS:
        score = kinds.scores[kind]
        columns[f"is_{kind}_issue"] = pa.array(kinds.is_issue[kind])
        columns[f"{kind}_score"] = pa.array(score, mask=np.isnan(score))
    return columns


def with_late_columns(table: pa.Table) -> pa.Table:
    """Return a table with the columns that it lacks because it was written before there were any.

    Args:
        table: Of a report.
    """
    for column in COLUMNS:
        if column.is_late and column.name not in table.column_names:
            field = pa.field(column.name, column.kind, nullable=column.nullable)
            table = table.append_column(field, _nothing(column, table.num_rows))
    return table


def _nothing(column: Column, size: int) -> pa.Array:
    if column.nullable:
        return pa.nulls(size, column.kind)
    return pa.array(np.zeros(size, np.bool_))
