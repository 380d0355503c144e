"""The report: one row a sample, as a Parquet file.

Letters: N samples, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.issues.types import IssueKinds
from labelfix.modalities.base import Modality
from labelfix.modalities.image.checks import IMAGE_CHECKS
from labelfix.report.io import probability_lists
from labelfix.report.made import ColumnMaker, MadeColumns
from labelfix.report.reasons import reasons
from labelfix.report.schema import (
    PRED_PROBS,
    Column,
    arrow_schema,
    columns_of,
    label_type,
    row_group_rows,
)
from labelfix.report.types import Report, RunInfo
from labelfix.types import (
    MISSING,
    Corrections,
    Duplicates,
    Evidence,
    FoldAssignment,
    Label,
    LabelScores,
    Reviewed,
    Samples,
)


def noise_table(scores: LabelScores, class_names: Sequence[Label]) -> pa.Table:
    """Return K * K rows: the probability that a sample of a true class is given a label.

    Columns ``true_label``, ``given_label``, ``probability``, and ``low`` and ``high``, between
    which it lies with a probability of 90 %. The probabilities of a true class sum to 1. Of more
    than 256 classes, only cells of at least .0001 and the diagonal have a row: what a true class
    lacks to 1 is spread over all labels that it has no row with.

    Args:
        scores: What was found.
        class_names: K names.
    """
    names = pa.array(class_names, label_type(class_names))
    noise = scores.noise
    return pa.table(
        {
            "true_label": names.take(pa.array(noise.true_label)),
            "given_label": names.take(pa.array(noise.given_label)),
            "probability": noise.probability,
            "low": noise.low,
            "high": noise.high,
        }
    )


def build_report(
    *,
    samples: Samples,
    unreadable: Mapping[int, str],
    assignment: FoldAssignment,
    evidence: Evidence | None,
    scores: LabelScores,
    corrections: Corrections,
    duplicates: Duplicates,
    kinds: IssueKinds | None,
    run: RunInfo,
    reviewed: Reviewed | None = None,
    modality: Modality | None = None,
) -> Report:
    """Return the report on a run, whose columns are made when they are written or asked for.

    Args:
        samples: N samples.
        unreadable: Row to reason, for the samples that could not be read.
        assignment: Which samples were scored, and in which fold.
        evidence: The out-of-sample probabilities; ``None`` if they were given: then the table lacks
            ``pred_probs``, which `labelfix.report.io.write_report` takes from where they lie.
        scores: How far the given labels can be believed.
        corrections: Flags, suggestions and weights.
        duplicates: Byte-identical samples.
        kinds: What else was found of the samples; ``None`` if none was looked at.
        run: Where all that came from.
        reviewed: What people decided, for the ``reason``; the scores know of it already.
        modality: Of the samples; ``None`` gives the report the columns of images.
    """
    report_columns = columns_of(IMAGE_CHECKS if modality is None else modality.checks())
    makers = {
        "sample_id": samples.sample_id.__getitem__,
        "split": samples.split.__getitem__,
        "sample_weight": _cells(pa.array, corrections.sample_weight),
        "is_label_issue": _cells(pa.array, corrections.is_label_issue),
        "suggested_label_probability": _cells(
            _floats, scores.alternative_probability, corrections.is_label_issue
        ),
        "is_unreadable_issue": _cells(pa.array, _marked(unreadable, len(samples))),
        "is_exact_duplicate_issue": _cells(_are_any, duplicates.exact_duplicate_set),
        "exact_duplicate_set": _cells(_numbers, duplicates.exact_duplicate_set),
        "is_conflicting_duplicate_issue": _cells(pa.array, duplicates.is_conflicting),
        "reason": reasons(
            samples,
            unreadable,
            assignment,
            scores,
            corrections,
            duplicates,
            kinds,
            reviewed,
            modality=modality,
        ),
        **_kind_makers(kinds, report_columns),
        **_label_makers(samples, scores, corrections),
        **_scored_makers(assignment, scores),
    }
    schema = arrow_schema(samples.class_names, report_columns)
    if evidence is None:
        schema = schema.remove(schema.get_field_index(PRED_PROBS))
    else:
        makers[PRED_PROBS] = _cells(probability_lists, evidence.pred_probs, assignment.is_scored)
    step = row_group_rows(len(samples.class_names))
    columns = MadeColumns(len(samples), schema, makers, step)
    return Report(columns, samples.class_names, run, noise_table(scores, samples.class_names))


def _cells(cells: Callable[..., pa.Array], *arrays: NDArray[Any]) -> ColumnMaker:
    """Return what makes the cells of a column, from the rows of arrays."""
    return lambda rows: cells(*(array[rows] for array in arrays))


def _kind_makers(kinds: IssueKinds | None, columns: Sequence[Column]) -> dict[str, ColumnMaker]:
    """Return what makes the columns of the kinds of issue; they say nothing if there are none."""
    if kinds is None:
        return {column.name: partial(_nothing, column) for column in columns if column.is_late}
    makers = {
        "near_duplicate_set": _cells(_numbers, kinds.near_duplicate_set),
        "is_conflicting_near_duplicate_issue": _cells(pa.array, kinds.is_conflicting),
    }
    for kind, score in kinds.scores.items():
        makers[f"is_{kind}_issue"] = _cells(pa.array, kinds.is_issue[kind])
        makers[f"{kind}_score"] = _cells(_scores, score)
    return makers


def _nothing(column: Column, rows: slice) -> pa.Array:
    return column.nothing(rows.stop - rows.start)


def _label_makers(
    samples: Samples, scores: LabelScores, corrections: Corrections
) -> dict[str, ColumnMaker]:
    names = pa.array(samples.class_names, label_type(samples.class_names))

    def named(codes: NDArray[np.integer]) -> pa.Array:
        return names.take(_numbers(codes))

    return {
        "given_label": _cells(named, samples.given_label),
        "predicted_label": _cells(named, scores.predicted_label),
        "suggested_label": _cells(named, corrections.suggested_label),
    }


def _scored_makers(assignment: FoldAssignment, scores: LabelScores) -> dict[str, ColumnMaker]:
    is_scored, error = assignment.is_scored, scores.label_error_probability
    return {
        "label_score": _cells(lambda one, known: _floats(1 - one, known), error, is_scored),
        "label_error_probability": _cells(_floats, error, is_scored),
        "fold": _cells(_folds, assignment.fold, is_scored),
    }


def _marked(rows: Mapping[int, str], size: int) -> NDArray[np.bool_]:
    is_marked = np.zeros(size, np.bool_)
    is_marked[np.fromiter(rows.keys(), np.int64, len(rows))] = True
    return is_marked


def _are_any(values: NDArray[np.integer]) -> pa.Array:
    return pa.array(values != MISSING)


def _folds(fold: NDArray[np.integer], is_scored: NDArray[np.bool_]) -> pa.Array:
    return _numbers(np.where(is_scored, fold, MISSING).astype(np.int16))


def _numbers(values: NDArray[np.integer]) -> pa.Array:
    return pa.array(values, mask=values == MISSING)


def _scores(values: NDArray[np.floating]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


def _floats(values: NDArray[np.floating], is_known: NDArray[np.bool_]) -> pa.FloatArray:
    return pa.array(values.astype(np.float32), mask=~is_known)
