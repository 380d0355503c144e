"""Byte-identical samples whose labels contradict each other: at most one of them can be right.

Letters: N samples.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.data.splits import in_several
from labelfix.report.view import ReportView
from labelfix.types import MISSING, Label


@dataclass(frozen=True, slots=True)
class Conflict:
    """Byte-identical samples with more than one label.

    Args:
        sample_ids: The samples that have a label, in the order of the report.
        labels: The label of each.
    """

    sample_ids: tuple[str, ...]
    labels: tuple[Label, ...]


def find_conflicts(
    view: ReportView, rows: NDArray[np.int64], label: pa.Array
) -> tuple[Conflict, ...]:
    """Return the sets of identical samples that have several labels, in the order of the report.

    Args:
        view: The report that says which samples are identical.
        rows: ``(N,)`` rows of it, rising: those that are looked at.
        label: ``(N,)`` the label that each of them has or gets, null for none.
    """
    code = pc.fill_null(label.dictionary_encode().indices, MISSING)
    codes = code.to_numpy(zero_copy_only=False).astype(np.int64)
    sets = np.where(codes == MISSING, MISSING, view.exact_set[rows])
    found = np.flatnonzero(in_several(sets, codes))
    ids = view.sample_id.take(pa.array(rows[found], pa.int64())).to_pylist()
    labels = label.take(pa.array(found, pa.int64())).to_pylist()
    members: dict[int, list[tuple[str, Label]]] = {}
    for number, sample, name in zip(sets[found].tolist(), ids, labels, strict=True):
        members.setdefault(number, []).append((sample, name))
    return tuple(
        Conflict(tuple(sample for sample, _ in held), tuple(name for _, name in held))
        for held in members.values()
    )


def conflicts_as_given(view: ReportView) -> tuple[Conflict, ...]:
    """Return the sets of identical samples that came with several labels."""
    given = view.report.table["given_label"].combine_chunks()
    return find_conflicts(view, np.arange(len(view)), given)
