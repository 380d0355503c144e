"""What an export would change: the same plan, told instead of written."""

from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from labelfix.data.decisions import decisions_file
from labelfix.exports.leftovers import (
    Untouched,
    conflicts_of,
    note_on_conflicts,
    untouched_of,
)
from labelfix.exports.plan import ExportPlan, plan_of_run
from labelfix.exports.table import write_table
from labelfix.report.io import report_file
from labelfix.report.view import ReportView
from labelfix.types import Label
from labelfix.utils.files import refuse_existing_file, refuse_overwriting_inputs

Action = Literal["relabel", "drop"]
Cause = Literal["decision", "probability", "unreadable"]


@dataclass(frozen=True, slots=True)
class Change:
    """One row that an export changes or leaves out.

    Args:
        sample_id: The sample.
        split: Its split, if it has one.
        action: ``relabel``, or ``drop`` where the row is left out.
        given_label: The label that it came with.
        label: The label that it gets; ``None`` where it is dropped.
        because: A decision, the probabilities of the report, or an image that cannot be read.
        label_error_probability: What the report says, 0 to 1; ``None`` where it does not.
        decided_by: Who decided, if that is known.
    """

    sample_id: str
    split: str | None
    action: Action
    given_label: Label | None
    label: Label | None
    because: Cause
    label_error_probability: float | None
    decided_by: str | None


@dataclass(frozen=True, slots=True)
class ChangedPair:
    """How many rows an export takes from one class to another; to ``None`` if it drops them."""

    given_label: Label | None
    label: Label | None
    count: int


@dataclass(frozen=True, slots=True)
class Diff:
    """What an export would change.

    Args:
        rows: Rows of the report.
        relabeled: Those that get another label.
        dropped: Those that are left out.
        changes: Both, in the order of the report.
        pairs: Their classes, most rows first.
        untouched: Flagged labels that stay though nobody decided on them.
        notes: What a person should know, a sentence each.
    """

    rows: int
    relabeled: int
    dropped: int
    changes: tuple[Change, ...]
    pairs: tuple[ChangedPair, ...]
    untouched: Untouched
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the difference as JSON values."""
        return asdict(self)


def diff_run(
    run: Path, *, min_probability: float, drop: bool, csv: Path | None = None, overwrite: bool
) -> Diff:
    """Return what an export of a run would change, and write it to a file if one is named.

    Raises:
        ReportError: ``run`` holds no report.
        DecisionsError: The decisions on it cannot be read, or do not fit it.
        ConfigError: ``min_probability`` is no probability.
        RunError: ``csv`` is there already, or cannot be written to.
    """
    view, plan = plan_of_run(run, min_probability=min_probability, drop=drop)
    diff = diff_of(view, plan, min_probability=min_probability)
    if csv is None:
        return diff
    refuse_overwriting_inputs(
        [csv], [report_file(run), decisions_file(run), view.report.run.source.path]
    )
    refuse_existing_file(csv, overwrite=overwrite)
    notes = write_table([diff_table(diff)], csv, "csv")
    return replace(diff, notes=diff.notes + notes)


def diff_of(view: ReportView, plan: ExportPlan, *, min_probability: float) -> Diff:
    """Return what an export by a plan, made with ``min_probability``, would change."""
    changes = tuple(_changes(view, plan))
    counts = Counter((change.given_label, change.label) for change in changes)
    dropped = sum(change.action == "drop" for change in changes)
    return Diff(
        rows=len(view),
        relabeled=len(changes) - dropped,
        dropped=dropped,
        changes=changes,
        pairs=tuple(ChangedPair(*pair, count) for pair, count in counts.most_common()),
        untouched=untouched_of(view, plan, min_probability=min_probability),
        notes=plan.decided.notes + note_on_conflicts(view, conflicts_of(view, plan)),
    )


def diff_table(diff: Diff) -> pa.Table:
    """Return the changes as a table, one row a change, in the order of the report."""
    names = list(Change.__slots__)
    columns = {name: [getattr(change, name) for change in diff.changes] for name in names}
    return pa.table({name: _column(values) for name, values in columns.items()})


def _changes(view: ReportView, plan: ExportPlan) -> list[Change]:
    new_labels = plan.new_labels
    rows = sorted([*new_labels, *plan.left_out.tolist()])
    names = ["sample_id", "split", "given_label", "label_error_probability", "is_unreadable_issue"]
    said = view.take(rows, names).to_pylist()
    decided = plan.decided.take(np.array(rows, np.int64)).to_pylist()
    return [
        Change(
            sample_id=values["sample_id"],
            split=values["split"],
            action="relabel" if row in new_labels else "drop",
            given_label=values["given_label"],
            label=new_labels.get(row),
            because=_cause(values, decision),
            label_error_probability=values["label_error_probability"],
            decided_by=decision["decided_by"],
        )
        for row, values, decision in zip(rows, said, decided, strict=True)
    ]


def _cause(values: dict[str, Any], decision: dict[str, Any]) -> Cause:
    if decision["decision"] is not None:
        return "decision"
    return "unreadable" if values["is_unreadable_issue"] else "probability"


def _column(values: list[Any]) -> pa.Array:
    array = pa.array(values)
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array
