"""What an export leaves as it is: flagged labels, and identical samples with different labels.

Letters: N rows of the report, M rows of the export.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from labelfix.config import MIN_PROBABILITY
from labelfix.exports.plan import ExportPlan, plan_export
from labelfix.report.conflicts import Conflict, conflicts_as_given, find_conflicts
from labelfix.report.view import ReportView

LOWER = (0.8, 0.65, 0.5)
"""Probabilities that may be proposed in place of a higher one that leaves flagged labels."""


@dataclass(frozen=True, slots=True)
class Left:
    """What an export leaves.

    Args:
        flagged: Rows of the export whose label is flagged, unchanged, and not decided on.
        of_test: Those of a test split among them, which only decisions change.
        lower: The highest probability of `LOWER` that would change some of them; ``None`` if none
            would.
        lower_changes: How many of them it would change.
        conflicts: The sets of byte-identical samples that keep or get different labels.
    """

    flagged: int
    of_test: int
    lower: float | None
    lower_changes: int
    conflicts: tuple[Conflict, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)


def left_by(view: ReportView, plan: ExportPlan, *, min_probability: float) -> Left:
    """Return what an export leaves.

    Args:
        view: N rows.
        plan: Of the export, M rows.
        min_probability: Which it was made with, 0 to 1.
    """
    is_settled = view.decided.has("keep", "relabel", "drop", "unsure")
    is_left = view.is_flagged & ~is_settled
    is_left[plan.left_out] = False
    is_left[plan.rows[plan.is_changed]] = False
    is_open = is_left & ~view.is_test
    sure = np.minimum(view.error_probability[is_open], view.suggested_probability[is_open])
    lower, changes = None, 0
    for least in LOWER:
        changes = int(np.count_nonzero(sure >= np.float32(least))) if least < min_probability else 0
        if changes:
            lower = least
            break
    return Left(
        flagged=int(np.count_nonzero(is_left)),
        of_test=int(np.count_nonzero(is_left & view.is_test)),
        lower=lower,
        lower_changes=changes,
        conflicts=find_conflicts(view, plan.rows, plan.label),
    )


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an export with the default settings would do now.

    Args:
        changed: Labels that it would change.
        left: What it would leave.
        conflicts: The sets of identical samples that came with different labels.
    """

    changed: int
    left: Left
    conflicts: tuple[Conflict, ...]


def outlook_of(view: ReportView) -> Outlook:
    """Return what an export of a report with its decisions would do now."""
    plan = plan_export(view, min_probability=MIN_PROBABILITY, drop=False)
    left = left_by(view, plan, min_probability=MIN_PROBABILITY)
    return Outlook(plan.changed, left, conflicts_as_given(view))
