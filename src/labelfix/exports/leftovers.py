"""What an export leaves: flagged labels that stay, copies that contradict each other, errors.

Letters: N rows of the report, M rows of the export.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.config import MIN_PROBABILITY
from labelfix.data.splits import in_several
from labelfix.exports.plan import ExportPlan, plan_export
from labelfix.report.checks import expected_errors
from labelfix.report.view import ReportView
from labelfix.types import MISSING, Codes, Label
from labelfix.utils.text import counted

STEPS = (0.9, 0.8, 0.7, 0.6, 0.5)
"""The lower values of ``min_probability`` of which it is told what they would change."""

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Untouched:
    """Flagged labels without a decision that an export keeps, test splits left aside.

    Args:
        count: How many there are.
        would_change: A lower ``min_probability``, and how many of them it would change; only
            values that change some, falling.
    """

    count: int
    would_change: tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Byte-identical samples of an export that have different labels.

    Args:
        rows: Their rows in the report.
        labels: The label that each gets.
    """

    rows: tuple[int, ...]
    labels: tuple[Label | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Conflicts:
    """All such sets of an export.

    Args:
        places: Places of their members among the M rows, set after set.
        starts: Where each set begins in ``places``.
        rows: ``(M,)`` rows in the report.
        code: ``(M,)`` codes of the labels.
        names: What the codes stand for.
    """

    places: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: NDArray[np.int64]
    code: Codes
    names: Sequence[Label]

    def __len__(self) -> int:
        """Return how many sets there are."""
        return len(self.starts)

    def first(self, limit: int) -> list[Conflict]:
        """Return the first sets."""
        sets = np.split(self.places, self.starts[1 : limit + 1])[: min(limit, len(self))]
        return [
            Conflict(tuple(self.rows[places].tolist()), tuple(map(self._label, self.code[places])))
            for places in sets
        ]

    def _label(self, code: int) -> Label | None:
        return None if code == MISSING else self.names[code]


@dataclass(frozen=True, slots=True, eq=False)
class WrongLeft:
    """How wrong the labels of an export are.

    Args:
        probability: ``(M,)`` float32: how probably each is wrong; NaN where nobody scored it.
        is_open: ``(M,)`` bool: it is the given label, on which nobody decided.
        rate: The share of wrong labels among those scored; ``None`` if nothing tells.
        interval: Between which shares it lies with a probability of 90 %.
    """

    probability: NDArray[np.float32]
    is_open: NDArray[np.bool_]
    rate: float | None
    interval: tuple[float, float] | None


def wrong_left(view: ReportView, plan: ExportPlan) -> WrongLeft:
    """Return how wrong the labels are that an export gives.

    A label that somebody kept or chose is right; one that the audit changes is wrong with 1 - the
    probability of the suggestion. The others are wrong with the probabilities of the report, scaled
    so that their mean over all given labels is the estimate of the report, or an end of its
    interval: without decisions and changes the share is that of the report.

    Args:
        view: N rows, and what people decided.
        plan: The M rows that are exported.
    """
    rows = plan.rows
    is_open = ~plan.is_changed & ~view.decided.has("keep", "relabel")[rows]
    wrong = np.where(is_open, view.error_probability[rows], 1 - plan.label_probability)
    probability = wrong.astype(np.float32)
    is_scored = ~np.isnan(probability)
    given, interval = view.report.run.noise_rate, view.report.run.noise_rate_interval
    scored = int(np.count_nonzero(is_scored))
    if not scored or given is None or interval is None:
        return WrongLeft(probability, is_open, None, None)
    stays = np.zeros(len(view), np.bool_)
    stays[rows[is_scored & is_open]] = True
    changed = float(probability[is_scored & ~is_open].sum(dtype=np.float64))
    rate, low, high = (
        min(1.0, (changed + expected_errors(view, stays, share)) / scored)
        for share in (given, *interval)
    )
    return WrongLeft(probability, is_open, rate, (low, high))


def untouched_of(view: ReportView, plan: ExportPlan, *, min_probability: float) -> Untouched:
    """Return which flagged labels an export keeps though nobody decided on them."""
    is_left = np.zeros(len(view), np.bool_)
    is_left[plan.rows[~plan.is_changed]] = True
    is_left &= view.is_flagged & ~view.is_test & ~plan.decided.is_decided
    sure = np.fmin(view.error_probability, view.suggested_probability)[is_left]
    counts = [(step, int(np.count_nonzero(sure >= np.float32(step)))) for step in STEPS]
    return Untouched(
        count=int(np.count_nonzero(is_left)),
        would_change=tuple((p, count) for p, count in counts if count and p < min_probability),
    )


def conflicts_of(view: ReportView, plan: ExportPlan) -> Conflicts:
    """Return the sets of byte-identical samples that an export leaves with different labels."""
    return _conflicts(view, plan.rows, plan.code, plan.names)


def _conflicts(
    view: ReportView, rows: NDArray[np.int64], code: Codes, names: Sequence[Label]
) -> Conflicts:
    """Return the sets of identical samples among some rows that have different labels.

    Args:
        view: N rows.
        rows: ``(M,)`` rows of it, rising.
        code: ``(M,)`` codes of their labels; a sample without one contradicts nobody.
        names: What the codes stand for.
    """
    sets = view.exact_set[rows]
    contradicts = in_several(np.where(code == MISSING, MISSING, sets), code)
    places = np.flatnonzero(contradicts)
    places = places[np.argsort(sets[places], kind="stable")]
    starts = np.flatnonzero(np.diff(sets[places], prepend=MISSING))
    return Conflicts(places, starts, rows, code, names)


def note_on_conflicts(view: ReportView, conflicts: Conflicts) -> tuple[str, ...]:
    """Return a warning that names the first of the samples that contradict each other."""
    if not len(conflicts):
        return ()
    named = "; ".join(_pair(view, conflict) for conflict in conflicts.first(_NAMED))
    more = f"; and {len(conflicts) - _NAMED:,} more" if len(conflicts) > _NAMED else ""
    return (f"{_sets(view, conflicts)} still have different labels: {named}{more}",)


def _sets(view: ReportView, conflicts: Conflicts) -> str:
    return f"{counted(len(conflicts), 'set')} of byte-identical {view.wording.plural}"


def _pair(view: ReportView, conflict: Conflict) -> str:
    """Return two samples of a conflict whose labels differ."""
    first = conflict.labels[0]
    other = next(i for i, label in enumerate(conflict.labels) if label != first)
    shown = view.names_of([conflict.rows[0], conflict.rows[other]])
    labels = conflict.labels[0], conflict.labels[other]
    return " and ".join(f"{name} ({label})" for name, label in zip(shown, labels, strict=True))


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an export with the default settings would do now.

    Args:
        changed: Labels that it would change.
        untouched: Flagged labels that it would keep though nobody decided on them.
        conflicts: Which identical samples came with different labels, a sentence; "" if none did.
    """

    changed: int
    untouched: int
    conflicts: str


def outlook_of(view: ReportView) -> Outlook:
    """Return what an export of a report with its decisions would do now."""
    plan = plan_export(view, min_probability=MIN_PROBABILITY, drop=False)
    untouched = untouched_of(view, plan, min_probability=MIN_PROBABILITY)
    conflicts = _conflicts(view, np.arange(len(view)), view.given, view.class_names)
    text = ""
    if len(conflicts):
        such = "such as " if len(conflicts) > 1 else ""
        pair = _pair(view, conflicts.first(1)[0])
        text = f"{_sets(view, conflicts)} with different labels, {such}{pair}"
    return Outlook(plan.changed, untouched.count, text)
