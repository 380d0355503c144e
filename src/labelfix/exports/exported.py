"""The report of what an export gives, so that it is checked as given labels are.

Letters: N rows of the report, M rows of the export.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.data.splits import in_several
from labelfix.exports.leftovers import wrong_left
from labelfix.exports.plan import plan_export
from labelfix.report.types import Report
from labelfix.report.view import ReportView
from labelfix.types import MISSING, Codes


def exported_view(view: ReportView, *, min_probability: float, drop: bool) -> ReportView:
    """Return the M rows that an export gives, as a report of their own.

    Labels are those of the export, and as wrong as `wrong_left` says. What copies there are, and
    whether they contradict each other, is found anew.

    Args:
        view: N rows, and what people decided.
        min_probability: As for `labelfix.exports.plan.plan_export`.
        drop: Likewise.

    Raises:
        ConfigError: ``min_probability`` is no probability.
    """
    plan = plan_export(view, min_probability=min_probability, drop=drop)
    rows = plan.rows
    left = wrong_left(view, plan)
    wrong, is_open = left.probability, left.is_open
    names, label = plan.names, plan.code
    exact, near = (_several(sets[rows]) for sets in (view.exact_set, view.near_set))
    columns = {
        "given_label": plan.label,
        "label_error_probability": pa.array(wrong, mask=np.isnan(wrong)),
        "is_label_issue": pa.array(view.is_flagged[rows] & is_open),
        "exact_duplicate_set": _numbers(exact),
        "is_exact_duplicate_issue": pa.array(exact != MISSING),
        "is_conflicting_duplicate_issue": pa.array(_contradict(exact, label)),
        "near_duplicate_set": _numbers(near),
        "is_near_duplicate_issue": pa.array(near != MISSING),
        "is_conflicting_near_duplicate_issue": pa.array(_contradict(near, label)),
    }
    table = view.take(rows, view.report.column_names)
    for name, column in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
    run = replace(view.report.run, noise_rate=left.rate, noise_rate_interval=left.interval)
    return ReportView(Report(table, names, run))


def _several(sets: Codes) -> Codes:
    """Return ``(M,)`` numbers of sets of which more than one row is exported, else ``MISSING``."""
    counts = np.bincount(sets[sets != MISSING], minlength=int(sets.max(initial=0)) + 1)
    return np.where((sets != MISSING) & (counts[sets] > 1), sets, MISSING)


def _contradict(sets: Codes, label: Codes) -> NDArray[np.bool_]:
    """Return ``(M,)`` which rows are in a set with different labels; no label contradicts none."""
    return in_several(np.where(label == MISSING, MISSING, sets), label)


def _numbers(sets: Codes) -> pa.Array:
    return pa.array(sets, pa.int64(), mask=sets == MISSING)
