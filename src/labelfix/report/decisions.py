"""The decisions on a run, row by row of its report.

Letters: N rows of the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.data.decisions import Decision
from labelfix.errors import DecisionsError
from labelfix.report.schema import DECISION_COLUMNS, label_type
from labelfix.report.types import Report
from labelfix.types import Label


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """What was decided on the rows of a report.

    Args:
        columns: N rows, the columns of `labelfix.report.schema.DECISION_COLUMNS`.
        unmatched: How many decisions are on samples that the report does not hold.
        new_classes: Labels chosen that are no class of the report, sorted.
        is_copy: ``(N,)`` bool: dropped as a copy of one that stays; its label was not judged.
    """

    columns: pa.Table
    unmatched: int
    new_classes: tuple[Label, ...]
    is_copy: NDArray[np.bool_]

    @property
    def final_label(self) -> pa.Array:
        """Return the ``(N,)`` labels that were decided, null without a decision or if dropped."""
        return self.columns["final_label"].combine_chunks()

    def has(self, *actions: str) -> NDArray[np.bool_]:
        """Return ``(N,)`` whether the decision on a row is one of these."""
        found = pc.is_in(self.columns["decision"], pa.array(actions, pa.string()))
        return found.to_numpy()  # type: ignore[no-any-return]

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what did not go as usual, a sentence each."""
        notes = []
        if self.unmatched:
            many = "1 decision is" if self.unmatched == 1 else f"{self.unmatched:,} decisions are"
            notes.append(f"{many} on samples that the report does not hold, and left aside")
        if self.new_classes:
            notes.append(f"new classes: {', '.join(map(str, self.new_classes))}")
        return tuple(notes)


def join_decisions(report: Report, decisions: Mapping[str, Decision]) -> Decided:
    """Set the decisions in force beside the rows of a report.

    ``final_label`` is the given label where it is kept or nobody is sure, the chosen one where the
    sample is relabeled, and null where it is dropped or nothing was decided.

    Args:
        report: N rows.
        decisions: By sample id, as `labelfix.data.decisions.read_decisions` returns them. Those on
            samples that the report does not hold are counted, no more.

    Raises:
        DecisionsError: A chosen label is text where the classes are integers, or the other way.
    """
    kind = label_type(report.class_names)
    found = pc.index_in(pa.array(list(decisions), pa.string()), report.table["sample_id"])
    held = [
        (row, decision)
        for row, decision in zip(found.to_pylist(), decisions.values(), strict=True)
        if row is not None
    ]
    spread = _Spread(len(report), [row for row, _ in held])
    action = spread(pa.array([decision.action for _, decision in held], pa.string()))
    chosen = spread(pa.array([_fitting(decision, kind) for _, decision in held], kind))
    is_given = pc.fill_null(pc.is_in(action, pa.array(["keep", "unsure"])), False)
    final = pc.if_else(is_given, report.table["given_label"].combine_chunks(), chosen)
    columns = {
        "decision": action,
        "final_label": final,
        "decided_at": spread(pa.array([d.decided_at for _, d in held], pa.string())),
        "decided_by": spread(pa.array([d.decided_by for _, d in held], pa.string())),
    }
    labels = {decision.label for _, decision in held if decision.label is not None}
    is_copy = np.zeros(len(report), np.bool_)
    is_copy[[row for row, decision in held if decision.as_copy]] = True
    return Decided(
        columns=pa.table([columns[c.name] for c in DECISION_COLUMNS], names=list(columns)),
        unmatched=len(decisions) - len(held),
        new_classes=tuple(sorted(labels - set(report.class_names))),
        is_copy=is_copy,
    )


def _fitting(decision: Decision, kind: pa.DataType) -> Label | None:
    """Return the chosen label, if there is one, of the type of the report's labels."""
    if decision.label is None:
        return None
    wanted = int if kind == pa.int64() else str
    if isinstance(decision.label, wanted):
        return decision.label
    classes = "integers" if wanted is int else "text"
    raise DecisionsError(
        f"{decision.sample_id} was relabeled {decision.label!r}, but the classes are {classes}",
        hint="take the decision back in `labelfix review`, or mend it in decisions.jsonl",
    )


class _Spread:
    """Puts values, one for each of some rows, into a column that is null elsewhere."""

    def __init__(self, size: int, rows: Sequence[int]) -> None:
        place = np.full(size, -1)
        place[np.array(rows, np.int64)] = np.arange(len(rows))
        self._place = pa.array(place, mask=place < 0)

    def __call__(self, values: pa.Array) -> pa.Array:
        return values.take(self._place)
