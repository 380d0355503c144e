"""The report: one row a sample, as a Parquet file.

Letters: N samples, K classes.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.data.splits import leaking, split_codes
from labelfix.issues.types import IssueKinds
from labelfix.modalities.base import Modality, get_modality, wording_of
from labelfix.modalities.image.checks import IMAGE_CHECKS
from labelfix.report.io import (
    probability_lists,
    with_pred_probs,
)
from labelfix.report.schema import (
    PRED_PROBS,
    arrow_schema,
    columns_of,
    kind_columns,
    label_type,
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


NAMED_LABELS = 3
"""How many labels of a conflicting set are named before the rest is only counted."""

_PERCENT = ("<1", *(str(percent) for percent in range(1, 100)), ">99")


def reasons(
    samples: Samples,
    unreadable: Mapping[int, str],
    assignment: FoldAssignment,
    scores: LabelScores,
    corrections: Corrections,
    duplicates: Duplicates,
    kinds: IssueKinds | None,
    reviewed: Reviewed | None = None,
    *,
    modality: Modality | None,
) -> pa.StringArray:
    """Return ``(N,)`` short sentences, null where there is nothing to say.

    Args:
        samples: The samples, with their given labels.
        unreadable: Row to reason, for the samples that could not be read.
        assignment: Why samples are not scored.
        scores: The probabilities that a sentence quotes.
        corrections: Which labels are flagged, and what is suggested.
        duplicates: Which byte-identical samples have labels that differ.
        kinds: What else was found of the samples; ``None`` if none was looked at.
        reviewed: What people decided; it takes the place of what the scores say.
        modality: Has the checks whose findings are told.
    """
    size = len(samples)
    decisions = Reviewed.nothing(size) if reviewed is None else reviewed
    names = pa.array([_quoted(name) for name in samples.class_names], pa.string())
    unscored = {
        row: why for row, why in assignment.exclusion_reason.items() if row not in unreadable
    }
    words = wording_of(None) if modality is None else modality.wording
    parts = [
        _of_mapping(unreadable, "unreadable: ", size),
        _of_mapping(unscored, "", size),
        _of_reviewed(samples.given_label, names, decisions),
        _of_flagged(samples.given_label, names, scores, corrections, decisions.is_settled),
        _of_conflicts(
            samples.given_label,
            names.to_pylist(),
            duplicates.exact_duplicate_set,
            duplicates.is_conflicting,
            f"byte-identical {words.noun}",
        ),
    ]
    if kinds is not None:
        modality = modality or get_modality("image")
        near = kinds.is_conflicting & ~duplicates.is_conflicting
        sets = kinds.near_duplicate_set
        parts += [
            _of_conflicts(samples.given_label, names.to_pylist(), sets, near, "near-duplicate"),
            _of_leaks(samples.split, duplicates.exact_duplicate_set, sets, words.content),
            _of_kind(kinds.is_issue["outlier"], f"unlike all other {words.plural}"),
            *(_of_kind(kinds.is_issue[check.name], check.reason) for check in modality.checks()),
        ]
    return reduce(_join, parts)


def _join(first: pa.StringArray, second: pa.StringArray) -> pa.StringArray:
    """Join two texts with ``"; "``, or take the one that is there.

    pyarrow's own ``null_handling="skip"`` loses the rows where every part is null.
    """
    return pc.coalesce(pc.binary_join_element_wise(first, second, "; "), first, second)


def _quoted(name: Label) -> str:
    return f"'{name}'" if isinstance(name, str) else str(name)


def _of_mapping(text: Mapping[int, str], prefix: str, size: int) -> pa.StringArray:
    rows = np.fromiter(text.keys(), np.int64, len(text))
    return _scatter(rows, pa.array([prefix + why for why in text.values()], pa.string()), size)


def _of_reviewed(
    given_label: NDArray[np.int64], names: pa.StringArray, reviewed: Reviewed
) -> pa.StringArray:
    dropped = np.flatnonzero(reviewed.is_dropped).tolist()
    texts = dict.fromkeys(dropped, "reviewed: to be left out")
    for row in np.flatnonzero(reviewed.label != MISSING).tolist():
        given, label = int(given_label[row]), int(reviewed.label[row])
        is_kept, instead = given == label, "" if given == MISSING else f", not {names[given]}"
        texts[row] = f"reviewed: {names[label]}" + (" is right" if is_kept else instead)
    return _of_mapping(texts, "", len(given_label))


def _of_flagged(
    given_label: NDArray[np.int64],
    names: pa.StringArray,
    scores: LabelScores,
    advice: Corrections,
    is_settled: NDArray[np.bool_],
) -> pa.StringArray:
    rows = np.flatnonzero(advice.is_label_issue & ~is_settled)
    text = pc.binary_join_element_wise(
        "looks like ",
        names.take(pa.array(advice.suggested_label[rows])),
        " (",
        _percent(scores.alternative_probability[rows]),
        " %), not ",
        names.take(_codes(given_label[rows])),
        " (",
        _percent(1 - scores.label_error_probability[rows]),
        " %)",
        "",
    )
    return _scatter(rows, text, len(given_label))


def _of_conflicts(
    given_label: NDArray[np.int64],
    names: Sequence[str],
    sets: NDArray[np.int64],
    is_told: NDArray[np.bool_],
    what: str,
) -> pa.StringArray:
    """Return which other labels a set has, for the rows that are told."""
    labels: defaultdict[int, set[int]] = defaultdict(set)
    members = np.flatnonzero((sets != MISSING) & (given_label != MISSING))
    for number, label in zip(sets[members].tolist(), given_label[members].tolist(), strict=True):
        labels[number].add(label)
    rows = np.flatnonzero(is_told)
    texts = [
        _conflict(sorted(labels[number] - {label}), names, what)
        for number, label in zip(sets[rows].tolist(), given_label[rows].tolist(), strict=True)
    ]
    return _scatter(rows, pa.array(texts, pa.string()), len(given_label))


def _conflict(others: Sequence[int], names: Sequence[str], what: str) -> str | None:
    if not others:
        return None
    named = ", ".join(names[label] for label in others[:NAMED_LABELS])
    more = len(others) - NAMED_LABELS
    return f"{what} is also labeled {named}" + (f" and {more} more" * (more > 0))


def _of_leaks(
    split: pa.StringArray, exact_set: NDArray[np.int64], near_set: NDArray[np.int64], content: str
) -> pa.StringArray:
    """Return in which other splits a sample, or a near-copy of it, is, for the rows that leak."""
    codes = split_codes(split)
    rows = np.flatnonzero(leaking(exact_set, near_set, codes))
    splits: defaultdict[tuple[int, int], dict[int, str | None]] = defaultdict(dict)
    sets = np.stack([exact_set, near_set], axis=1)[rows].tolist()
    of_row = [[place for place in enumerate(pair) if place[1] != MISSING] for pair in sets]
    members = list(zip(of_row, codes[rows].tolist(), strict=True))
    for (places, code), name in zip(members, split.take(pa.array(rows)).to_pylist(), strict=True):
        for place in places:
            splits[place].setdefault(code, name)
    texts = []
    for places, code in members:
        others = {other: name for place in places for other, name in splits[place].items()}
        texts.append(_leak([name for other, name in others.items() if other != code], content))
    return _scatter(rows, pa.array(texts, pa.string()), len(codes))


def _leak(others: Sequence[str | None], content: str) -> str:
    """Return that a sample is in other splits, too; ``None`` is a sample without a split."""
    named = sorted(name for name in others if name is not None)
    where = ["split " if len(named) == 1 else "splits "][: len(named)]
    where += [", ".join(f"'{name}'" for name in named[:NAMED_LABELS])]
    more = len(named) - NAMED_LABELS
    where += [f" and {more} more" * (more > 0)]
    parts = ["".join(where)] if named else []
    parts += ["a sample without a split"] if None in others else []
    return f"the same {content} is in {' and '.join(parts)}"


def _of_kind(is_issue: NDArray[np.bool_], text: str) -> pa.StringArray:
    rows = np.flatnonzero(is_issue)
    return _scatter(rows, pa.array([text] * len(rows), pa.string()), len(is_issue))


def _percent(probability: NDArray[np.floating]) -> pa.StringArray:
    """Return whole per cents as text; neither 0 nor 100, which would claim to be sure."""
    percent = np.rint(100 * np.clip(np.nan_to_num(probability), 0, 1))
    return pa.array(_PERCENT).take(pa.array(percent.astype(np.int64)))


def _codes(codes: NDArray[np.int64]) -> pa.Int64Array:
    return pa.array(codes, mask=codes == MISSING)


def _scatter(rows: NDArray[np.int64], texts: pa.StringArray, size: int) -> pa.StringArray:
    """Return ``size`` texts: ``texts[i]`` at ``rows[i]``, null elsewhere."""
    position = np.full(size, MISSING, np.int64)
    position[rows] = np.arange(len(rows))
    return texts.take(_codes(position))


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
    """Return the report on a run; where every row is scored, ``pred_probs`` is not copied.

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
    is_flagged = corrections.is_label_issue
    is_unreadable = np.zeros(len(samples), np.bool_)
    is_unreadable[np.fromiter(unreadable.keys(), np.int64, len(unreadable))] = True
    columns = {
        "sample_id": samples.sample_id,
        "split": samples.split,
        "sample_weight": pa.array(corrections.sample_weight.astype(np.float32)),
        "is_label_issue": pa.array(is_flagged),
        "suggested_label_probability": _floats(scores.alternative_probability, is_flagged),
        "is_unreadable_issue": pa.array(is_unreadable),
        "is_exact_duplicate_issue": pa.array(duplicates.exact_duplicate_set != MISSING),
        "exact_duplicate_set": _numbers(duplicates.exact_duplicate_set),
        "is_conflicting_duplicate_issue": pa.array(duplicates.is_conflicting),
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
        **kind_columns(kinds, len(samples), report_columns),
        **_label_columns(samples, scores, corrections),
        **_scored_columns(assignment, scores),
    }
    schema = arrow_schema(samples.class_names, report_columns)
    schema = schema.remove(schema.get_field_index(PRED_PROBS))
    table = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
    if evidence is not None:
        probs = probability_lists(evidence.pred_probs, assignment.is_scored)
        table = with_pred_probs(table, probs)
    return Report(table, samples.class_names, run, noise_table(scores, samples.class_names))


def _label_columns(
    samples: Samples, scores: LabelScores, corrections: Corrections
) -> dict[str, pa.Array]:
    names = pa.array(samples.class_names, label_type(samples.class_names))
    return {
        "given_label": names.take(_numbers(samples.given_label)),
        "predicted_label": names.take(_numbers(scores.predicted_label)),
        "suggested_label": names.take(_numbers(corrections.suggested_label)),
    }


def _scored_columns(assignment: FoldAssignment, scores: LabelScores) -> dict[str, pa.Array]:
    is_scored, error = assignment.is_scored, scores.label_error_probability
    return {
        "label_score": _floats(1 - error, is_scored),
        "label_error_probability": _floats(error, is_scored),
        "fold": _numbers(np.where(is_scored, assignment.fold, MISSING).astype(np.int16)),
    }


def _numbers(values: NDArray[np.integer]) -> pa.Array:
    return pa.array(values, mask=values == MISSING)


def _floats(values: NDArray[np.floating], is_known: NDArray[np.bool_]) -> pa.FloatArray:
    return pa.array(values.astype(np.float32), mask=~is_known)
