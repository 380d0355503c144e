"""Which labels an export changes, which rows it leaves out, and what the rows weigh.

Letters: N rows of the report, M rows of the export.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.data.decisions import read_decisions
from labelfix.errors import ConfigError, DatasetError
from labelfix.report.decisions import Decided
from labelfix.report.io import read_report_table
from labelfix.report.reopen import open_audited
from labelfix.report.schema import codes_of, label_type
from labelfix.report.types import Report
from labelfix.report.view import ReportView
from labelfix.types import MISSING, Codes, Label, LabeledDataset, code_type
from labelfix.utils.progress import OnProgress


@dataclass(frozen=True, eq=False)
class ExportPlan:
    """The rows of an export.

    Args:
        rows: ``(M,)`` int64, rising: the rows of the report that are exported.
        names: The classes of the report, and after them those that decisions made.
        code: ``(M,)`` codes of the labels, positions in ``names``; ``MISSING`` for none.
        sample_weight: ``(M,)`` float32, at least 0, mean 1 (all 0 if no row can be used).
        label_probability: ``(M,)`` float32: how probably the label is right: 1 where somebody kept
            or chose it; NaN where nobody knows.
        is_changed: ``(M,)`` bool: the label is not the given one.
        test_rows: How many of the M rows are of a test split and undecided, and so untouched.
        decided: What people decided on the N rows.
    """

    rows: NDArray[np.int64]
    names: tuple[Label, ...]
    code: Codes
    sample_weight: NDArray[np.float32]
    label_probability: NDArray[np.float32]
    is_changed: NDArray[np.bool_]
    test_rows: int
    decided: Decided

    @cached_property
    def label(self) -> pa.Array:
        """Return the ``(M,)`` labels, null where a row has none: all of them in memory."""
        return self.labels_at(slice(None))

    def labels_at(self, places: slice | NDArray[Any]) -> pa.Array:
        """Return the labels at some of the M places."""
        code = self.code[places]
        names = pa.array(self.names, label_type(self.names))
        return names.take(pa.array(code, mask=code == MISSING))

    @property
    def changed(self) -> int:
        """How many labels are changed."""
        return int(np.count_nonzero(self.is_changed))

    @property
    def size(self) -> int:
        """Return N."""
        return self.decided.size

    @property
    def new_labels(self) -> dict[int, Label]:
        """Return the changed labels by row of the report."""
        labels = self.labels_at(self.is_changed).to_pylist()
        return dict(zip(self.rows[self.is_changed].tolist(), labels, strict=True))

    @property
    def left_out(self) -> NDArray[np.int64]:
        """Return the rows of the report that are not exported, rising."""
        is_out = np.ones(self.size, np.bool_)
        is_out[self.rows] = False
        return np.flatnonzero(is_out)


def plan_of_run(run: Path, *, min_probability: float, drop: bool) -> tuple[ReportView, ExportPlan]:
    """Return the report of a run with its decisions, and what an export writes: `plan_export`.

    Raises:
        ReportError: ``run`` holds no report.
        DecisionsError: The decisions on it cannot be read, or do not fit it.
        ConfigError: ``min_probability`` is no probability.
    """
    view = ReportView(read_report_table(run, pred_probs=False), read_decisions(run))
    return view, plan_export(view, min_probability=min_probability, drop=drop)


def plan_export(view: ReportView, *, min_probability: float, drop: bool) -> ExportPlan:
    """Decide on every row of a report.

    A decision counts before all else: a row is relabeled, kept, or left out. Of the others, a
    label changes where it is flagged, and both it is wrong and the suggested label right with at
    least ``min_probability`` each. With ``drop``, rows as surely wrong but whose suggestion is less
    sure are left out, and so are unreadable ones. Rows of a test split are changed or left out by
    decisions only.

    Raises:
        ConfigError: ``min_probability`` is no probability.
    """
    if not 0 <= min_probability <= 1:
        raise ConfigError(
            f"min_probability is {min_probability}, which is no probability",
            hint="choose --min-probability between 0 and 1, such as 0.95",
        )
    least = np.float32(min_probability)  # as coarse as the report, so that equal is equal
    decided = view.decided
    is_decided = view.is_decided
    is_open = ~view.is_test & ~is_decided
    is_wrong = view.is_flagged & is_open & (view.error_probability >= least)
    is_sure = view.is_surely_wrong(min_probability) & is_open
    is_readable = ~view.issue("unreadable")
    is_kept = ~decided.has("drop")
    if drop:
        is_kept &= ~(is_wrong & ~is_sure) & (is_readable | ~is_open)
    names = (*view.class_names, *decided.new_classes)
    code = np.where(is_sure, view.suggested, view.given).astype(code_type(len(names)))
    is_chosen = decided.are("relabel")
    chosen = decided.table["final_label"].combine_chunks()
    code[decided.rows[is_chosen]] = codes_of(chosen, pa.array(names, chosen.type))[is_chosen]
    is_changed = (code != view.given) & (code != MISSING)
    probability = np.where(is_sure, view.suggested_probability, view.label_score)
    is_known = decided.has("keep", "relabel") & decided.has_final_label
    probability[is_known] = 1
    has_new_weight = is_sure | (is_known & is_readable)
    weight = _weight_of_exported_label(view, has_new_weight, probability)[is_kept]
    return ExportPlan(
        rows=np.flatnonzero(is_kept),
        names=names,
        code=code[is_kept],
        sample_weight=_with_mean_1(weight),
        label_probability=probability[is_kept],
        is_changed=is_changed[is_kept],
        test_rows=int(np.count_nonzero(view.is_test & ~is_decided)),
        decided=decided,
    )


def _weight_of_exported_label(
    view: ReportView, is_new: NDArray[np.bool_], probability: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return ``(N,)`` weights, not yet of mean 1.

    The report weighs a given label in proportion to the probability that it is right,
    ``label_score``; a label that is new, or newly known to be right, weighs in the same proportion
    to its own ``probability``.
    """
    is_used = view.sample_weight > 0
    total = np.nan_to_num(view.label_score[is_used].astype(np.float64)).sum()
    used = view.sample_weight[is_used].astype(np.float64).sum()
    scale = used / total if total > 0 else 1.0
    weight = view.sample_weight.astype(np.float64)
    weight[is_new] = scale * probability[is_new]
    return weight


def _with_mean_1(weight: NDArray[np.float64]) -> NDArray[np.float32]:
    mean = weight.mean() if len(weight) else 0.0
    return (weight / mean if mean > 0 else np.zeros_like(weight)).astype(np.float32)


_TABLE = ", or export a table, which needs no images: --format csv, parquet or jsonl"


def reopen_dataset(report: Report, on_progress: OnProgress) -> LabeledDataset:
    """Open the data set that was audited, to read it once more.

    Raises:
        DatasetError: It is gone, or its images or labels are not those that were audited.
    """
    source = report.run.source
    dataset = open_audited(report, on_progress, instead=_TABLE)
    if dataset is None:
        raise DatasetError(
            f"{source.path} holds probabilities, and no images or manifest to write again",
            hint="export a table: end the name in .csv, .parquet or .jsonl",
        )
    labels = _labels_of(dataset)
    same = (
        labels.slice(start, len(batch)).equals(batch.column(0))
        for start, batch in report.batches(["given_label"])
    )
    if not all(same):
        raise DatasetError(
            f"{source.path} has changed since the audit: its labels are not those of the report",
            hint="audit it again, or put the labels back that were audited",
        )
    return dataset


def _labels_of(dataset: LabeledDataset) -> pa.Array:
    names = pa.array(dataset.class_names, label_type(dataset.class_names))
    return names.take(pa.array(dataset.given_label, mask=dataset.given_label == MISSING))
