"""Why a row of a report is flagged, not scored or has another issue: the sentences of ``reason``.

What needs all rows, such as which labels a set of copies has, is found once and kept for the rows
that it is told of; the sentences of a block are made when the block is.

Letters: N samples.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.data.splits import leaking, split_codes
from labelfix.issues.types import IssueKinds
from labelfix.modalities.base import Modality, get_modality, wording_of
from labelfix.types import (
    MISSING,
    Corrections,
    Duplicates,
    FoldAssignment,
    Label,
    LabelScores,
    Reviewed,
    Samples,
)

NAMED_LABELS = 3
"""How many labels of a conflicting set are named before the rest is only counted."""

_PERCENT = ("<1", *(str(percent) for percent in range(1, 100)), ">99")


_Texts: TypeAlias = Callable[[slice], "pa.StringArray | None"]
"""Returns the texts of some rows, null where there is none; ``None`` where no row has one."""


@dataclass(frozen=True, slots=True, eq=False)
class SomeTexts:
    """Texts that few of N rows have.

    Args:
        rows: ``(M,)`` int64, rising: which they are.
        texts: ``(M,)`` Arrow strings.
    """

    rows: NDArray[np.int64]
    texts: pa.StringArray

    def __call__(self, rows: slice) -> pa.StringArray | None:
        """Return the texts of some rows."""
        first, last = np.searchsorted(self.rows, [rows.start, rows.stop]).tolist()
        if first == last:
            return None
        here = self.rows[first:last] - rows.start
        return _scatter(here, self.texts.slice(first, last - first), rows.stop - rows.start)


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
) -> Callable[[slice], pa.StringArray]:
    """Return what makes the short sentences of some rows, null where there is nothing to say.

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
    names = pa.array([_quoted(name) for name in samples.class_names], pa.string())
    unscored = {
        row: why for row, why in assignment.exclusion_reason.items() if row not in unreadable
    }
    words = wording_of(None) if modality is None else modality.wording
    given = samples.given_label
    parts: list[_Texts] = [
        _of_mapping(unreadable, "unreadable: "),
        _of_mapping(unscored, ""),
        _of_flagged(given, names, scores, corrections, reviewed),
        _of_conflicts(
            given,
            names.to_pylist(),
            duplicates.exact_duplicate_set,
            duplicates.is_conflicting,
            f"byte-identical {words.noun}",
        ),
    ]
    if reviewed is not None:
        parts.insert(2, _of_reviewed(given, names, reviewed))
    if kinds is not None:
        modality = modality or get_modality("image")
        near = kinds.is_conflicting & ~duplicates.is_conflicting
        sets = kinds.near_duplicate_set
        parts += [
            _of_conflicts(given, names.to_pylist(), sets, near, "near-duplicate"),
            _of_leaks(samples.split, duplicates.exact_duplicate_set, sets, words.content),
            _of_kind(kinds.is_issue["outlier"], f"unlike all other {words.plural}"),
            *(_of_kind(kinds.is_issue[check.name], check.reason) for check in modality.checks()),
        ]
    return partial(_all_of, parts)


def _all_of(parts: Sequence[_Texts], rows: slice) -> pa.StringArray:
    found = [texts for texts in (part(rows) for part in parts) if texts is not None]
    return reduce(_join, found) if found else pa.nulls(rows.stop - rows.start, pa.string())


def _join(first: pa.StringArray, second: pa.StringArray) -> pa.StringArray:
    """Join two texts with ``"; "``, or take the one that is there.

    pyarrow's own ``null_handling="skip"`` loses the rows where every part is null.
    """
    return pc.coalesce(pc.binary_join_element_wise(first, second, "; "), first, second)


def _quoted(name: Label) -> str:
    return f"'{name}'" if isinstance(name, str) else str(name)


def _of_mapping(text: Mapping[int, str], prefix: str) -> SomeTexts:
    rows = sorted(text)
    texts = pa.array([prefix + text[row] for row in rows], pa.string())
    return SomeTexts(np.array(rows, np.int64), texts)


def _of_reviewed(
    given_label: NDArray[np.int64], names: pa.StringArray, reviewed: Reviewed
) -> SomeTexts:
    dropped = np.flatnonzero(reviewed.is_dropped).tolist()
    texts = dict.fromkeys(dropped, "reviewed: to be left out")
    for row in np.flatnonzero(reviewed.label != MISSING).tolist():
        given, label = int(given_label[row]), int(reviewed.label[row])
        is_kept, instead = given == label, "" if given == MISSING else f", not {names[given]}"
        texts[row] = f"reviewed: {names[label]}" + (" is right" if is_kept else instead)
    return _of_mapping(texts, "")


def _of_flagged(
    given_label: NDArray[np.int64],
    names: pa.StringArray,
    scores: LabelScores,
    advice: Corrections,
    reviewed: Reviewed | None,
) -> _Texts:
    # these alone: of all hypotheses nothing is held while a report is written
    wrong, certainty = scores.label_error_probability, scores.alternative_probability

    def texts(block: slice) -> pa.StringArray | None:
        is_told = advice.is_label_issue[block]
        if reviewed is not None:
            is_told = is_told & (reviewed.label[block] == MISSING) & ~reviewed.is_dropped[block]
        here = np.flatnonzero(is_told)
        if not len(here):
            return None
        rows = here + block.start
        text = pc.binary_join_element_wise(
            "looks like ",
            names.take(pa.array(advice.suggested_label[rows])),
            " (",
            _percent(certainty[rows]),
            " %), not ",
            names.take(_codes(given_label[rows])),
            " (",
            _percent(1 - wrong[rows]),
            " %)",
            "",
        )
        return _scatter(here, text, block.stop - block.start)

    return texts


def _of_conflicts(
    given_label: NDArray[np.int64],
    names: Sequence[str],
    sets: NDArray[np.int64],
    is_told: NDArray[np.bool_],
    what: str,
) -> SomeTexts:
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
    return SomeTexts(rows, pa.array(texts, pa.string()))


def _conflict(others: Sequence[int], names: Sequence[str], what: str) -> str | None:
    if not others:
        return None
    named = ", ".join(names[label] for label in others[:NAMED_LABELS])
    more = len(others) - NAMED_LABELS
    return f"{what} is also labeled {named}" + (f" and {more} more" * (more > 0))


def _of_leaks(
    split: pa.StringArray, exact_set: NDArray[np.int64], near_set: NDArray[np.int64], content: str
) -> SomeTexts:
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
    return SomeTexts(rows, pa.array(texts, pa.string()))


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


def _of_kind(is_issue: NDArray[np.bool_], text: str) -> _Texts:
    def texts(block: slice) -> pa.StringArray | None:
        rows = np.flatnonzero(is_issue[block])
        if not len(rows):
            return None
        return _scatter(rows, pa.array([text] * len(rows), pa.string()), block.stop - block.start)

    return texts


def _percent(probability: NDArray[np.floating]) -> pa.StringArray:
    """Return whole per cents as text; neither 0 nor 100, which would claim to be sure."""
    percent = np.rint(100 * np.clip(np.nan_to_num(probability), 0, 1))
    return pa.array(_PERCENT).take(pa.array(percent.astype(np.int64)))


def _codes(codes: NDArray[np.integer]) -> pa.Array:
    return pa.array(codes, mask=codes == MISSING)


def _scatter(rows: NDArray[np.int64], texts: pa.StringArray, size: int) -> pa.StringArray:
    """Return ``size`` texts: ``texts[i]`` at ``rows[i]``, null elsewhere."""
    position = np.full(size, MISSING, np.int64)
    position[rows] = np.arange(len(rows))
    return texts.take(_codes(position))
