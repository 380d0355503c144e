"""Soft labels: how probable each class is for a sample, as targets to train on.

Letters: M rows of the export, B rows of a batch, K classes, those that reviewers added among them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.exports.plan import ExportPlan
from labelfix.report.io import probability_lists
from labelfix.report.schema import PROBABILITIES
from labelfix.report.view import ReportView
from labelfix.types import MISSING, Label

SOFT_LABEL = "soft_label"
"""The column of soft labels in an export."""


@dataclass(frozen=True, slots=True, eq=False)
class Beliefs:
    """What is known of the labels of B samples.

    Args:
        label: ``(B,)`` codes of the exported label of samples that are decided or not scored, of
            the given label of the others; ``MISSING`` for none.
        is_certain: ``(B,)`` bool: the label is taken as it is.
        label_score: ``(B,)`` how probably the given label is right.
        suggested: ``(B,)`` codes of suggested labels, ``MISSING`` for none.
        suggested_probability: ``(B,)`` how probably they are right.
    """

    label: NDArray[np.int64]
    is_certain: NDArray[np.bool_]
    label_score: NDArray[np.float32]
    suggested: NDArray[np.int64]
    suggested_probability: NDArray[np.float32]

    def among(self, rows: slice) -> "Beliefs":
        """Return those of some samples."""
        return Beliefs(*(getattr(self, name)[rows] for name in self.__slots__))


def soft_labels(beliefs: Beliefs, pred_probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``(B, K)`` how probable each class is; a row sums to 1, to 0 without a label.

    A label that is certain has all of it. Else the given label has its ``label_score`` and the
    suggested one its own probability; what is left is shared among the other classes as the model
    predicts them, evenly where it gives none of them anything.

    Args:
        beliefs: Of B samples.
        pred_probs: ``(B, K)`` out-of-sample, at least 0; looked at where a label is not certain.
    """
    count, classes = pred_probs.shape
    soft = np.zeros((count, classes), np.float32)
    row = np.flatnonzero(beliefs.is_certain & (beliefs.label != MISSING))
    soft[row, beliefs.label[row]] = 1
    row = np.flatnonzero(~beliefs.is_certain & (beliefs.label != MISSING))
    place, given = np.arange(len(row)), beliefs.label[row]
    known = np.zeros((len(row), classes))
    known[place, given] = np.clip(beliefs.label_score[row], 0, 1)
    is_other = np.ones((len(row), classes), np.bool_)
    is_other[place, given] = False
    has = (beliefs.suggested[row] != MISSING) & (beliefs.suggested[row] != given)
    told, suggested = place[has], beliefs.suggested[row[has]]
    known[told, suggested] = np.clip(beliefs.suggested_probability[row[has]], 0, 1)
    is_other[told, suggested] = False
    others = np.where(is_other, pred_probs[row].astype(np.float64), 0)
    total = others.sum(axis=1, keepdims=True)
    others = np.where(total > 0, others / np.where(total > 0, total, 1), _evenly(is_other))
    known += others * np.maximum(1 - known.sum(axis=1, keepdims=True), 0)
    total = known.sum(axis=1, keepdims=True)
    soft[row] = known / np.where(total > 0, total, 1)
    return soft


def soft_labels_of(
    view: ReportView, plan: ExportPlan, pred_probs: Iterable[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    """Yield the soft labels of an export block by block, ``(B, K)``, the classes of `soft_classes`.

    They do not depend on how sure a label must be to be changed. What people kept or chose is
    certain, and so are labels of a test split and those that were not scored.

    Args:
        view: The report.
        plan: M rows of it.
        pred_probs: The probabilities of all rows of the report in its order, block by block, over
            the classes of the report; NaN where a row has none.
    """
    beliefs, classes = _beliefs(view, plan), len(soft_classes(view, plan))
    start, used = 0, 0
    for block in pred_probs:
        rows = plan.rows[used : int(np.searchsorted(plan.rows, start + len(block)))]
        probs = np.zeros((len(rows), classes), np.float32)
        probs[:, : block.shape[1]] = np.nan_to_num(block[rows - start])
        yield soft_labels(beliefs.among(slice(used, used + len(rows))), probs)
        start, used = start + len(block), used + len(rows)


def soft_label_columns(
    view: ReportView, plan: ExportPlan, pred_probs: Iterable[NDArray[np.float32]], step: int
) -> Iterator[pa.ChunkedArray]:
    """Yield the soft labels of an export as lists of K; see `soft_labels_of`.

    Args:
        view: The report.
        plan: M rows of it.
        pred_probs: As for `soft_labels_of`.
        step: Rows of each column; the last has the rest, which may be none only if M is 0.
    """
    held, left = pa.chunked_array([], PROBABILITIES), max(len(plan.rows), 1)
    for soft in soft_labels_of(view, plan, pred_probs):
        lists = probability_lists(soft, np.asarray(soft.any(axis=1)))
        held = pa.chunked_array([*held.chunks, *lists.chunks], PROBABILITIES)
        while len(held) >= step:
            yield held.slice(0, step)
            held, left = held.slice(step), left - step
    if left > 0:
        yield held


def soft_classes(view: ReportView, plan: ExportPlan) -> tuple[Label, ...]:
    """Return the K classes of soft labels: those of the report, then those that people added."""
    return (*view.class_names, *plan.decided.new_classes)


def _beliefs(view: ReportView, plan: ExportPlan) -> Beliefs:
    rows = plan.rows
    is_decided = plan.decided.has("keep", "relabel")[rows]
    is_scored = view.is_scored[rows] & ~view.is_test[rows]
    is_certain = is_decided | ~is_scored
    return Beliefs(
        label=np.where(is_certain, plan.code, view.given[rows]).astype(np.int64),
        is_certain=is_certain,
        label_score=view.label_score[rows],
        suggested=view.suggested[rows].astype(np.int64),
        suggested_probability=view.suggested_probability[rows],
    )


def _evenly(is_other: NDArray[np.bool_]) -> NDArray[np.float64]:
    count = is_other.sum(axis=1, keepdims=True)
    return np.asarray(is_other / np.maximum(count, 1))
