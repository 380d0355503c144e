"""The decisions on a run, row by row of its report.

Letters: N rows of the report.
"""

from collections.abc import Mapping, Set
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
from labelfix.utils.text import counted


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
            many = counted(self.unmatched, "decision is", "decisions are")
            notes.append(f"{many} on samples that the report does not hold, and left aside")
        if self.new_classes:
            notes.append(f"new classes: {', '.join(map(str, self.new_classes))}")
        return tuple(notes)


def join_decisions(
    report: Report, decisions: Mapping[str, Decision], row_of: Mapping[str, int] | None = None
) -> Decided:
    """Set the decisions in force beside the rows of a report.

    ``final_label`` is the given label where it is kept or nobody is sure, the chosen one where the
    sample is relabeled, and null where it is dropped or nothing was decided.

    Args:
        report: N rows.
        decisions: By sample id, as `labelfix.data.decisions.read_decisions` returns them. Those on
            samples that the report does not hold are counted, no more.
        row_of: The row of each sample, where somebody knows it already; ``None`` looks them up.

    Raises:
        DecisionsError: A chosen label is text where the classes are integers, or the other way.
    """
    if row_of is None:
        names = pa.array(list(decisions), pa.string())
        found = pc.index_in(names, report.table["sample_id"]).to_pylist()
    else:
        found = [row_of.get(name) for name in decisions]
    held = [
        (row, d.action, d.label, d.decided_at, d.decided_by, d.as_copy)
        for row, d in zip(found, decisions.values(), strict=True)
        if row is not None
    ]
    rows, actions, labels, times, people, copies = zip(*held, strict=True) if held else [()] * 6
    chosen = set(labels) - {None}
    _refuse_unfitting(report, chosen, decisions)
    spread = _Spread(len(report), np.array(rows, np.int64))
    action = spread(pa.array(actions, pa.string()))
    is_given = pc.fill_null(pc.is_in(action, pa.array(["keep", "unsure"])), False)
    given = report.table["given_label"].combine_chunks()
    columns = {
        "decision": action,
        "final_label": pc.if_else(is_given, given, spread(pa.array(labels, given.type))),
        "decided_at": spread(pa.array(times, pa.string())),
        "decided_by": spread(pa.array(people, pa.string())),
    }
    is_copy = np.zeros(len(report), np.bool_)
    is_copy[np.array(rows, np.int64)[np.array(copies, np.bool_)]] = True
    return Decided(
        columns=pa.table([columns[c.name] for c in DECISION_COLUMNS], names=list(columns)),
        unmatched=len(decisions) - len(held),
        new_classes=tuple(sorted(chosen - set(report.class_names))),
        is_copy=is_copy,
    )


def _refuse_unfitting(
    report: Report, chosen: Set[Label], decisions: Mapping[str, Decision]
) -> None:
    """Refuse a label that is text where the classes are integers, or the other way."""
    wanted = int if label_type(report.class_names) == pa.int64() else str
    unfitting = {label for label in chosen if not isinstance(label, wanted)}
    if not unfitting:
        return
    first = next(d for d in decisions.values() if d.label in unfitting)
    classes = "integers" if wanted is int else "text"
    raise DecisionsError(
        f"{first.sample_id} was relabeled {first.label!r}, but the classes are {classes}",
        hint="take the decision back in `labelfix review`, or mend it in decisions.jsonl",
    )


class _Spread:
    """Puts values, one for each of some rows, into a column that is null elsewhere."""

    def __init__(self, size: int, rows: NDArray[np.int64]) -> None:
        place = np.full(size, -1)
        place[rows] = np.arange(len(rows))
        self._place = pa.array(place, mask=place < 0)

    def __call__(self, values: pa.Array) -> pa.Array:
        return values.take(self._place)
