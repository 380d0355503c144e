"""The report of what an export gives, so that it is checked as given labels are.

Letters: N rows of the report, M rows of the export.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.config import MIN_PROBABILITY
from labelfix.data.splits import in_several
from labelfix.errors import ReportError
from labelfix.exports.plan import ExportPlan, plan_export
from labelfix.report.checks import ErrorRate, error_rate
from labelfix.report.schema import label_type
from labelfix.report.types import Report
from labelfix.report.view import ReportView
from labelfix.types import MISSING


def exported_view(view: ReportView) -> ReportView:
    """Return the M rows that an export with the default settings gives, as a report of their own.

    Labels are those of the export. One that somebody kept or chose is right; one that the
    probabilities changed is wrong with 1 - the probability of the suggestion; the others are wrong
    with the probabilities of the report. What copies there are, and whether they contradict each
    other, is found anew.

    Args:
        view: N rows, and what people decided.
    """
    plan = plan_export(view, min_probability=MIN_PROBABILITY, drop=False)
    rows = plan.rows
    is_known = view.decided.has("keep", "relabel")[rows]
    is_open = ~plan.is_changed & ~is_known
    wrong = np.where(is_open, view.error_probability[rows], 1 - plan.label_probability)
    wrong = wrong.astype(np.float32)
    names = (*view.class_names, *plan.decided.new_classes)
    codes = pc.fill_null(pc.index_in(plan.label, pa.array(names, label_type(names))), MISSING)
    label = codes.to_numpy(zero_copy_only=False).astype(np.int64)
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
    table = view.report.table.take(pa.array(rows, pa.int64()))
    for name, column in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
    rate, interval = _rate(view, plan, is_open, wrong)
    run = replace(view.report.run, noise_rate=rate, noise_rate_interval=interval)
    return ReportView(Report(table, names, run))


def _rate(
    view: ReportView, plan: ExportPlan, is_open: NDArray[np.bool_], wrong: NDArray[np.float32]
) -> tuple[float | None, tuple[float, float] | None]:
    """Return the share of wrong labels among the M rows, and its interval.

    The labels that stay as they came are wrong as often as `error_rate` says of all open ones.
    """
    is_judged = ~np.isnan(wrong)
    judged = int(np.count_nonzero(is_judged))
    if not judged:
        return None, None
    try:
        given: ErrorRate = error_rate(ReportView(view.report))
    except ReportError:
        return None, None
    stays = float(wrong[is_judged & is_open].sum(dtype=np.float64))
    changed = float(wrong[is_judged & ~is_open].sum(dtype=np.float64))
    scored = view.error_probability[view.is_scored]
    mean = float(scored.mean(dtype=np.float64)) if len(scored) else 0.0
    shares = (
        min(1.0, (changed + (stays * share / mean if mean else 0.0)) / judged)
        for share in (given.estimate, given.low, given.high)
    )
    rate, low, high = shares
    return rate, (low, high)


def _several(sets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``(M,)`` numbers of sets of which more than one row is exported, else ``MISSING``."""
    counts = np.bincount(sets[sets != MISSING], minlength=int(sets.max(initial=0)) + 1)
    return np.where((sets != MISSING) & (counts[sets] > 1), sets, MISSING)


def _contradict(sets: NDArray[np.int64], label: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return ``(M,)`` which rows are in a set with different labels; no label contradicts none."""
    return in_several(np.where(label == MISSING, MISSING, sets), label)


def _numbers(sets: NDArray[np.int64]) -> pa.Array:
    return pa.array(sets, mask=sets == MISSING)
