"""What an export leaves as it came: flagged labels that stay, copies that contradict each other.

Letters: N rows of the report, M rows of the export.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.exports.plan import ExportPlan
from labelfix.report.view import ReportView
from labelfix.types import MISSING, Label

STEPS = (0.9, 0.8, 0.7, 0.6, 0.5)
"""The lower values of ``min_probability`` of which it is told what they would change."""

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Untouched:
    """Flagged labels without a decision that an export keeps, test splits left aside.

    Args:
        count: How many there are.
        would_change: A lower ``min_probability``, and how many of them it would change; only
            values that change some, falling.
    """

    count: int
    would_change: tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Byte-identical samples of an export that have different labels.

    Args:
        rows: Their rows in the report.
        labels: The label that each gets.
    """

    rows: tuple[int, ...]
    labels: tuple[Label | None, ...]


def untouched_of(view: ReportView, plan: ExportPlan, *, min_probability: float) -> Untouched:
    """Return which flagged labels an export keeps though nobody decided on them."""
    is_left = np.zeros(len(view), np.bool_)
    is_left[plan.rows[~plan.is_changed]] = True
    is_decided = plan.decided.columns["decision"].is_valid().to_numpy()
    is_left &= view.is_flagged & ~view.is_test & ~is_decided
    sure = np.fmin(view.error_probability, view.suggested_probability)[is_left]
    counts = [(step, int(np.count_nonzero(sure >= np.float32(step)))) for step in STEPS]
    return Untouched(
        count=int(np.count_nonzero(is_left)),
        would_change=tuple((p, count) for p, count in counts if count and p < min_probability),
    )


def conflicts_of(view: ReportView, plan: ExportPlan) -> list[Conflict]:
    """Return the sets of byte-identical samples that an export leaves with different labels."""
    sets = view.exact_set[plan.rows]
    label = pc.fill_null(pc.index_in(plan.label, pc.unique(plan.label)), MISSING).to_numpy()
    return [
        Conflict(
            rows=tuple(plan.rows[members].tolist()),
            labels=tuple(plan.label.take(members).to_pylist()),
        )
        for members in _groups(sets)
        if len(np.unique(label[members])) > 1
    ]


def note_on_conflicts(view: ReportView, conflicts: list[Conflict]) -> tuple[str, ...]:
    """Return a warning that names the first of the samples that contradict each other."""
    if not conflicts:
        return ()
    first = [
        " and ".join(
            f"{view.sample_id[row].as_py()} ({label})"
            for row, label in zip(conflict.rows[:2], conflict.labels[:2], strict=True)
        )
        for conflict in conflicts[:_NAMED]
    ]
    sets = "1 set" if len(conflicts) == 1 else f"{len(conflicts):,} sets"
    more = "; and more" if len(conflicts) > _NAMED else ""
    return (
        f"{sets} of byte-identical {view.wording.plural} still have different labels: "
        f"{'; '.join(first)}{more}",
    )


def _groups(number: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the places of each number but ``MISSING``, rising."""
    held = np.flatnonzero(number != MISSING)
    held = held[np.argsort(number[held], kind="stable")]
    edges = np.flatnonzero(np.diff(number[held])) + 1
    return [group for group in np.split(held, edges) if len(group)]
