"""What else was found: copies, outliers, images of poor quality, unreadable and unjudged ones.

Letters: N samples.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.data.splits import in_several, split_codes
from labelfix.report.types import Report
from labelfix.report.view import floats, has_columns, numbers, rows_of, truths
from labelfix.types import MISSING, Label

SETS, OF_A_SET = 12, 6
"""How many sets of copies are shown, and how many pictures of each."""

SINGLES = 12
"""How many pictures are shown of what is no matter of sets."""

LISTED = 50
"""How many files or reasons a list names."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One sample: its row, name, label and split as they came."""

    row: int
    sample_id: str
    given_label: Label | None
    split: str | None


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Pictures that belong together, and how many of them are not shown."""

    pictures: tuple[Picture, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of issue.

    Args:
        key: A name for the page's anchors.
        title: What it is.
        lead: What that means, a sentence.
        samples: How many samples are concerned.
        count: How many sets; ``None`` where it is no matter of sets.
        sets: Those that are shown; of singles one, with the worst first.
    """

    key: str
    title: str
    lead: str
    samples: int
    count: int | None
    sets: tuple[PictureSet, ...]


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that cannot be read, and why."""

    sample_id: str
    given_label: Label | None
    reason: str


@dataclass(frozen=True, slots=True)
class Unjudged:
    """Samples that were not judged for one reason."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class BadFiles:
    """The files that cannot be read: how many, and the first of them."""

    count: int
    listed: tuple[BadFile, ...]


_SETS = (
    (
        "conflicting-copies",
        "Copies with different labels",
        "The same file, byte for byte, under two labels: at least one is wrong.",
        "exact_duplicate_set",
        "is_conflicting_duplicate_issue",
        None,
    ),
    (
        "conflicting-near-copies",
        "Near-copies with different labels",
        "Almost the same picture under two labels: at least one is probably wrong.",
        "near_duplicate_set",
        "is_conflicting_near_duplicate_issue",
        None,
    ),
    (
        "copies",
        "Copies with the same label",
        "The same file, byte for byte, more than once. A copy counts twice in training.",
        "exact_duplicate_set",
        "is_exact_duplicate_issue",
        "is_conflicting_duplicate_issue",
    ),
    (
        "near-copies",
        "Near-copies with the same label",
        "Almost the same picture more than once: resized, cropped or saved again.",
        "near_duplicate_set",
        "is_near_duplicate_issue",
        "is_conflicting_near_duplicate_issue",
    ),
)
"""Key, title, lead, the column of the sets, the column that says which samples are concerned, and
that which says which of them are not: those that are told of elsewhere."""

_LEAKS = (
    (
        "leaks",
        "Copies in several splits",
        "A model that is tested on what it was trained on looks better than it is.",
        "exact_duplicate_set",
    ),
    (
        "near-leaks",
        "Near-copies in several splits",
        "A model that is tested on almost what it was trained on looks better than it is.",
        "near_duplicate_set",
    ),
)
"""Key, title, lead, the column of the sets."""

_SINGLES = (
    ("outlier", "Outliers", "Pictures unlike the rest: perhaps of none of the classes."),
    ("dark", "Dark pictures", "Almost nothing to be seen for darkness."),
    ("bright", "Bright pictures", "Almost nothing to be seen for brightness."),
    ("blurry", "Blurry pictures", "No sharp edge anywhere."),
    ("odd_size", "Pictures of odd size", "Far larger or smaller than the rest."),
)
"""The columns are ``is_<name>_issue`` and ``<name>_score``, of which a low one is worse."""


def find_findings(report: Report) -> tuple[Finding, ...]:
    """Return the kinds of issue that occur, apart from wrong labels and unreadable files."""
    found = _leaks(report)
    found += [
        _of_sets(report, key, title, lead, numbers(report, sets), _apart(report, concerned, but))
        for key, title, lead, sets, concerned, but in _SETS
        if has_columns(report, sets, concerned)
    ]
    found += [
        _of_singles(report, name, title, lead)
        for name, title, lead in _SINGLES
        if has_columns(report, f"is_{name}_issue", f"{name}_score")
    ]
    return tuple(finding for finding in found if finding.samples)


def find_bad_files(report: Report) -> BadFiles:
    """Return the files that cannot be read, in the order of the report."""
    rows = np.flatnonzero(truths(report, "is_unreadable_issue"))
    cells = rows_of(report, rows[:LISTED], ["sample_id", "given_label", "reason"])
    listed = tuple(BadFile(c["sample_id"], c["given_label"], c["reason"] or "") for c in cells)
    return BadFiles(len(rows), listed)


def find_unjudged(report: Report) -> tuple[Unjudged, ...]:
    """Return why readable samples were not judged, the most frequent reason first."""
    error = report.table["label_error_probability"]
    is_it = pc.and_(pc.is_null(error), pc.invert(report.table["is_unreadable_issue"]))
    counted = pc.value_counts(pc.fill_null(report.table["reason"].filter(is_it), "")).to_pylist()
    counted.sort(key=lambda one: (-one["counts"], one["values"]))
    return tuple(Unjudged(one["values"], one["counts"]) for one in counted[:LISTED])


def _leaks(report: Report) -> list[Finding]:
    """Return the copies, and the near-copies, that lie in several splits."""
    codes = split_codes(report.table["split"])
    return [
        _of_sets(report, key, title, lead, sets, in_several(sets, codes))
        for key, title, lead, column in _LEAKS
        if has_columns(report, column)
        for sets in [numbers(report, column)]
    ]


def _apart(report: Report, name: str, but: str | None) -> NDArray[np.bool_]:
    """Return ``(N,)`` whether one column is true, and the other is not, if there is one."""
    is_it = truths(report, name)
    return is_it & ~truths(report, but) if but and has_columns(report, but) else is_it


def _of_sets(
    report: Report,
    key: str,
    title: str,
    lead: str,
    sets: NDArray[np.int64],
    is_concerned: NDArray[np.bool_],
) -> Finding:
    rows = np.flatnonzero(is_concerned & (sets != MISSING))
    rows = rows[np.argsort(sets[rows], kind="stable")]
    _, starts, sizes = np.unique(sets[rows], return_index=True, return_counts=True)
    largest = np.argsort(-sizes, kind="stable")[:SETS]
    shown = tuple(
        _picture_set(report, rows[start : start + size], OF_A_SET)
        for start, size in zip(starts[largest].tolist(), sizes[largest].tolist(), strict=True)
    )
    return Finding(key, title, lead, len(rows), len(starts), shown)


def _of_singles(report: Report, name: str, title: str, lead: str) -> Finding:
    rows = np.flatnonzero(truths(report, f"is_{name}_issue"))
    rows = rows[np.argsort(floats(report, f"{name}_score")[rows], kind="stable")]
    return Finding(name, title, lead, len(rows), None, (_picture_set(report, rows, SINGLES),))


def _picture_set(report: Report, rows: NDArray[np.int64], most: int) -> PictureSet:
    shown = rows[:most]
    cells = rows_of(report, shown, ["sample_id", "given_label", "split"])
    pictures = (Picture(row, **cell) for row, cell in zip(shown.tolist(), cells, strict=True))
    return PictureSet(tuple(pictures), len(rows) - len(shown))
