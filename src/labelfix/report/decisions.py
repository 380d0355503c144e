"""The decisions on a run, row by row of its report.

Letters: N rows of the report, D decisions on them.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
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
    """What was decided on the rows of a report; only the D rows with a decision are held.

    Args:
        size: N.
        rows: ``(D,)`` int64 rows with a decision, rising.
        table: D rows, the columns of `labelfix.report.schema.DECISION_COLUMNS`.
        as_copy: ``(D,)`` bool: dropped as a copy of one that stays; its label was not scored.
        unmatched: How many decisions are on samples that the report does not hold.
        new_classes: Labels chosen that are no class of the report, sorted.
    """

    size: int
    rows: NDArray[np.int64]
    table: pa.Table
    as_copy: NDArray[np.bool_]
    unmatched: int
    new_classes: tuple[Label, ...]

    @property
    def columns(self) -> pa.Table:
        """Return the N rows, null where nothing was decided."""
        return self.take(np.arange(self.size))

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """Return ``(M,)`` rows of the report, null where nothing was decided."""
        if not len(self.rows):
            kinds = self.table.schema.types
            return pa.table([pa.nulls(len(rows), k) for k in kinds], schema=self.table.schema)
        place = np.searchsorted(self.rows, rows).clip(0, len(self.rows) - 1)
        is_none = self.rows[place] != rows
        return self.table.take(pa.array(place, mask=is_none))

    @property
    def is_decided(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` on which rows there is a decision."""
        return self._spread(np.ones(len(self.rows), np.bool_))

    @property
    def is_copy(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` which rows were dropped as a copy of one that stays."""
        return self._spread(self.as_copy)

    @property
    def has_final_label(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` which rows have a label that comes of a decision."""
        return self._spread(self.table["final_label"].is_valid().to_numpy())

    def has(self, *actions: str) -> NDArray[np.bool_]:
        """Return ``(N,)`` whether the decision on a row is one of these."""
        return self._spread(self.are(*actions))

    def are(self, *actions: str) -> NDArray[np.bool_]:
        """Return ``(D,)`` which decisions are one of these."""
        found = pc.is_in(self.table["decision"], pa.array(actions, pa.string()))
        return found.to_numpy()  # type: ignore[no-any-return]

    def _spread(self, of_decisions: NDArray[np.bool_]) -> NDArray[np.bool_]:
        spread = np.zeros(self.size, np.bool_)
        spread[self.rows[of_decisions]] = True
        return spread

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


def find_rows(report: Report, names: Sequence[str]) -> dict[str, int]:
    """Return the rows of some samples; those that the report does not hold are left out.

    The names of the samples are looked through batch by batch.
    """
    found: dict[str, int] = {}
    if not names:
        return found
    wanted = pa.array(names, pa.string())
    held: list[pa.RecordBatch] = []
    start, rows = 0, 0
    for begin, batch in report.batches(["sample_id"]):
        start = start if held else begin
        held.append(batch)
        rows += len(batch)
        if rows >= len(names):  # else the names would be hashed for every few rows
            found.update(_rows_among(wanted, held, start))
            held, rows = [], 0
        if len(found) == len(names):
            return found
    found.update(_rows_among(wanted, held, start) if held else ())
    return found


def _rows_among(
    wanted: pa.Array, batches: Sequence[pa.RecordBatch], start: int
) -> Iterator[tuple[str, int]]:
    names = pa.chunked_array([batch.column(0) for batch in batches])
    place = np.flatnonzero(pc.is_in(names, wanted).to_numpy())
    return zip(names.take(pa.array(place)).to_pylist(), (place + start).tolist(), strict=True)


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
        row_of = find_rows(report, list(decisions))
    held = sorted((row_of[name], name) for name in decisions if name in row_of)
    rows = np.array([row for row, _ in held], np.int64)
    kept = [decisions[name] for _, name in held]
    chosen = {decision.label for decision in kept if decision.label is not None}
    _refuse_unfitting(report, chosen, decisions)
    kind = label_type(report.class_names)
    given = report.take(rows, ["given_label"])["given_label"].combine_chunks()
    is_given = pa.array([d.action in ("keep", "unsure") for d in kept], pa.bool_())
    labels = pa.array([decision.label for decision in kept], kind)
    columns = {
        "decision": pa.array([decision.action for decision in kept], pa.string()),
        "final_label": pc.if_else(is_given, given, labels),
        "decided_at": pa.array([decision.decided_at for decision in kept], pa.string()),
        "decided_by": pa.array([decision.decided_by for decision in kept], pa.string()),
    }
    return Decided(
        size=len(report),
        rows=rows,
        table=pa.table([columns[c.name] for c in DECISION_COLUMNS], names=list(columns)),
        as_copy=np.array([decision.as_copy for decision in kept], np.bool_),
        unmatched=len(decisions) - len(held),
        new_classes=tuple(sorted(chosen - set(report.class_names))),
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
