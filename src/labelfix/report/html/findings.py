"""What else was found: copies, outliers, images of poor quality, unreadable and unscored ones.

Letters: N samples.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.data.splits import in_several
from labelfix.report.schema import columns_known
from labelfix.report.view import LEAKAGE, ReportView
from labelfix.types import MISSING, Codes, Label

SETS, OF_A_SET = 12, 6
"""How many sets of copies are shown, and how many pictures of each."""

SINGLES = 12
"""How many pictures are shown of what is no matter of sets."""

LISTED = 50
"""How many files or reasons a list names."""


FindingTab = Literal["copies", "near-copies", "outliers", "quality"]
"""The tabs of the page that show findings."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One sample: its row, name, label and split as they came, and whether its label is flagged."""

    row: int
    sample_id: str
    given_label: Label | None
    split: str | None
    is_label_issue: bool


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
        tab: Where the page shows it.
    """

    key: str
    title: str
    lead: str
    samples: int
    count: int | None
    sets: tuple[PictureSet, ...]
    tab: FindingTab


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that cannot be read, and why."""

    sample_id: str
    given_label: Label | None
    reason: str


@dataclass(frozen=True, slots=True)
class Unscored:
    """Samples that were not scored for one reason."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class BadFiles:
    """The files that cannot be read: how many, and the first of them."""

    count: int
    listed: tuple[BadFile, ...]


_LEAKS, _CONFLICTS, _SAME = range(3)
"""What may be wrong with a set of copies, the gravest first; a set is told of once."""

_OF_SETS: dict[FindingTab, tuple[tuple[str, str, str], ...]] = {
    "copies": (
        (
            "leaks",
            "Copies in several splits",
            "A model that is tested on what it was trained on looks better than it is.",
        ),
        (
            "conflicting-copies",
            "Copies with different labels",
            "The same file, byte for byte, under two labels: at least one is wrong.",
        ),
        (
            "same-copies",
            "Copies with the same label",
            "The same file, byte for byte, more than once. A copy counts twice in training.",
        ),
    ),
    "near-copies": (
        (
            "near-leaks",
            "Near-copies in several splits",
            "A model that is tested on almost what it was trained on looks better than it is.",
        ),
        (
            "conflicting-near-copies",
            "Near-copies with different labels",
            "Almost the same {content} under two labels: at least one is probably wrong.",
        ),
        (
            "same-near-copies",
            "Near-copies with the same label",
            "Almost the same {content} more than once{how}.",
        ),
    ),
}
"""Key, title and lead of each fault, in the order of the faults."""

_NAMED_SINGLES = (
    ("outlier", "Outliers", "{contents} unlike the rest: perhaps of none of the classes."),
    ("dark", "Dark pictures", "Almost nothing to be seen for darkness."),
    ("bright", "Bright pictures", "Almost nothing to be seen for brightness."),
    ("blurry", "Blurry pictures", "No sharp edge anywhere."),
    ("odd_size", "Pictures of odd size", "Far larger or smaller than the rest."),
)
"""The columns are ``is_<name>_issue`` and ``<name>_score``, of which a low one is worse."""


def _singles(view: ReportView) -> list[tuple[str, str, str]]:
    """Return name, title and lead of each kind that is no matter of sets.

    A kind that only a modality from outside checks is called by its name.
    """
    columns = columns_known(view.report.run.modality)
    known = {column.name for column in columns if column.name in view.report.column_names}
    named = [
        (name, title, _worded(lead, view))
        for name, title, lead in _NAMED_SINGLES
        if f"is_{name}_issue" in known
    ]
    others = [k for k in view.kinds if k != LEAKAGE and f"is_{k}_issue" not in known]
    return named + [
        (
            kind,
            kind.replace("_", " ").capitalize(),
            f"Low by the score of this check, {kind}_score.",
        )
        for kind in others
    ]


def find_findings(view: ReportView) -> tuple[Finding, ...]:
    """Return the kinds of issue that occur, apart from wrong labels and unreadable files."""
    found = [
        *_of_copies(view, "copies", view.exact_set),
        *_of_copies(view, "near-copies", near_sets(view)),
        *(_of_singles(view, *single) for single in _singles(view)),
    ]
    return tuple(finding for finding in found if finding.samples)


def near_sets(view: ReportView) -> Codes:
    """Return ``(N,)`` sets of near-copies in which byte-identical samples stand for one another.

    A near-copy is not byte-identical: of identical samples only the first is in a set, and a set of
    nothing else is none.
    """
    if not (view.near_set != MISSING).any():
        return view.near_set
    exact = view.exact_set
    is_again = np.ones(len(view), np.bool_)
    is_again[np.unique(exact, return_index=True)[1]] = False
    sets = np.where((exact != MISSING) & is_again, MISSING, view.near_set)
    sizes = np.bincount(sets[sets != MISSING], minlength=int(sets.max(initial=-1)) + 1)
    is_set = sets != MISSING
    is_set[is_set] = sizes[sets[is_set]] > 1
    return np.where(is_set, sets, MISSING)


def find_bad_files(view: ReportView) -> BadFiles:
    """Return the files that cannot be read, in the order of the report."""
    rows = np.flatnonzero(view.issue("unreadable"))
    cells = view.cells(rows[:LISTED], ["sample_id", "given_label", "reason"])
    listed = tuple(BadFile(c["sample_id"], c["given_label"], c["reason"] or "") for c in cells)
    return BadFiles(len(rows), listed)


def find_unscored(view: ReportView) -> tuple[Unscored, ...]:
    """Return why readable samples were not scored, the most frequent reason first."""
    rows = np.flatnonzero(~view.is_scored & ~view.issue("unreadable"))
    reasons = pc.fill_null(view.take(rows, ["reason"])["reason"], "")
    counted = pc.value_counts(reasons).to_pylist()
    counted.sort(key=lambda one: (-one["counts"], one["values"]))
    return tuple(Unscored(one["values"], one["counts"]) for one in counted[:LISTED])


def _of_copies(view: ReportView, tab: FindingTab, sets: Codes) -> list[Finding]:
    """Return the sets of copies by their gravest fault; nothing where there are no sets."""
    if not (sets != MISSING).any():
        return []
    has_label = view.given != MISSING
    is_leak = in_several(sets, view.split_code)
    is_conflict = in_several(np.where(has_label, sets, MISSING), view.given)
    conflicting = np.isin(sets, sets[is_conflict])
    fault = np.select([is_leak, conflicting], [_LEAKS, _CONFLICTS], _SAME)
    return [
        _of_sets(view, tab, key, title, lead, sets, fault == number)
        for number, (key, title, lead) in enumerate(_OF_SETS[tab])
    ]


def _of_sets(
    view: ReportView,
    tab: FindingTab,
    key: str,
    title: str,
    lead: str,
    sets: Codes,
    is_concerned: NDArray[np.bool_],
) -> Finding:
    rows = np.flatnonzero(is_concerned & (sets != MISSING))
    rows = rows[np.argsort(sets[rows], kind="stable")]
    _, starts, sizes = np.unique(sets[rows], return_index=True, return_counts=True)
    largest = np.argsort(-sizes, kind="stable")[:SETS]
    shown = tuple(
        _picture_set(view, rows[start : start + size], OF_A_SET)
        for start, size in zip(starts[largest].tolist(), sizes[largest].tolist(), strict=True)
    )
    return Finding(key, title, _worded(lead, view), len(rows), len(starts), shown, tab)


def _of_singles(view: ReportView, name: str, title: str, lead: str) -> Finding:
    rows, score = np.flatnonzero(view.issue(name)), view.score(name)
    if score is not None:
        rows = rows[np.argsort(score[rows], kind="stable")]
    shown = (_picture_set(view, rows, SINGLES),)
    return Finding(name, title, lead, len(rows), None, shown, _tab_of(name))


def _tab_of(kind: str) -> FindingTab:
    return "outliers" if kind == "outlier" else "quality"


def _worded(lead: str, view: ReportView) -> str:
    """Return a lead with the words of the modality in place of its fields."""
    content = view.wording.content
    how = ": resized, cropped or saved again" if view.shows_images else ""
    return lead.format(content=content, contents=f"{content}s".capitalize(), how=how)


def _picture_set(view: ReportView, rows: NDArray[np.int64], most: int) -> PictureSet:
    shown = rows[:most]
    cells = view.cells(shown, ["sample_id", "given_label", "split", "is_label_issue"])
    pictures = (Picture(row, **cell) for row, cell in zip(shown.tolist(), cells, strict=True))
    return PictureSet(tuple(pictures), len(rows) - len(shown))
