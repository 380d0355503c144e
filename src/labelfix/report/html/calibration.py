"""What is to be expected of a review, from the probabilities of the report.

Letters: n scored samples.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.data.decisions import DecisionAction
from labelfix.report.view import ReportView

POINTS = 160
"""Places of the curve at most."""

LEAST = 50
"""The curve goes to twice the flags, and at least to so many samples."""

BINS = 20


@dataclass(frozen=True, slots=True)
class ReviewPoint:
    """What to expect of the first so many samples, most surely wrong first.

    Args:
        reviewed: How many are looked at.
        wrong: How many of them are wrong, expected.
        precision: That as a share of them.
        recall: That as a share of all wrong labels.
    """

    reviewed: int
    wrong: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class Bin:
    """How many samples have a probability of an error from ``low`` to ``high``."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the probabilities promise.

    Args:
        flagged: How many samples are flagged: one of the points.
        points: In rising order; empty where nothing is scored or no label is doubtful.
        bins: Equally wide, from 0 to 1; empty where nothing is scored.
    """

    flagged: int
    points: tuple[ReviewPoint, ...]
    bins: tuple[Bin, ...]

    @property
    def start(self) -> int:
        """Return which point to show first: that of the flags, else the last one."""
        reviewed = [point.reviewed for point in self.points]
        return reviewed.index(self.flagged) if self.flagged in reviewed else len(reviewed) - 1


def expect(view: ReportView) -> Expectation:
    """Return what to expect of a review of a report."""
    wrong = view.error_probability[view.is_scored].astype(np.float64)
    flagged, bins = len(view.suspects), _bins(wrong)
    return Expectation(flagged, _points(wrong, flagged), bins)


def _points(wrong: NDArray[np.float64], flagged: int) -> tuple[ReviewPoint, ...]:
    """Return what reviewing the worst of some samples finds; sorts them where they lie."""
    np.negative(wrong, out=wrong)
    wrong.sort()
    np.negative(wrong, out=wrong)
    found = np.cumsum(wrong, out=wrong)
    if not len(found) or not found[-1] > 0:
        return ()
    end = min(len(found), max(2 * flagged, LEAST))
    places = np.unique(np.linspace(1, end, min(POINTS, end)).round().astype(np.int64))
    if flagged:
        places = np.union1d(places, flagged)
    return tuple(
        ReviewPoint(n, value, value / n, value / found[-1])
        for n, value in zip(places.tolist(), found[places - 1].tolist(), strict=True)
    )


def _bins(wrong: NDArray[np.float64]) -> tuple[Bin, ...]:
    if not len(wrong):
        return ()
    counts, edges = np.histogram(wrong, BINS, (0.0, 1.0))
    sides = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    return tuple(Bin(low, high, count) for low, high, count in sides)


REVIEWED_BINS = 10

LEAST_REVIEWED = 20
"""Fewer actions than that say nothing of calibration."""

Z_90 = 1.6448536269514722
"""The normal quantile of a two-sided interval of 90 %."""


@dataclass(frozen=True, slots=True)
class CheckedBin:
    """Samples whose probability of an error lies in one tenth of 0 to 1.

    Args:
        promised: Their mean probability of an error.
        wrong: The share of them that people found wrong.
        low: That share lies between here, with a probability of 90 % (Wilson's score interval),
        high: and here.
        count: How many they are.
    """

    promised: float
    wrong: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Reviewed:
    """The decisions in force.

    Args:
        counts: How many there are of each action.
        bins: The tenths that hold a sample; empty where too few are decided. A sample that
            was relabeled to another class was wrong, one that was kept right; unsure and dropped
            ones do not count.
    """

    counts: Mapping[DecisionAction, int]
    bins: tuple[CheckedBin, ...]

    @property
    def total(self) -> int:
        """Return n."""
        return sum(self.counts.values())


def tally(view: ReportView) -> Reviewed:
    """Return the decisions on a report in figures; those on samples that it lacks do not count."""
    counts = Counter(view.decided.table["decision"].to_pylist())
    says_it = view.decided.has("keep", "relabel") & view.is_scored
    said = np.column_stack(
        [view.error_probability[says_it].astype(np.float64), view.is_decided_wrong[says_it]]
    )
    return Reviewed(dict(sorted(counts.items())), _reviewed_bins(said))


def _reviewed_bins(
    said: "np.ndarray[tuple[int, int], np.dtype[np.float64]]",
) -> tuple[CheckedBin, ...]:
    """Return the bins of ``(n, 2)``: what was promised, and whether it was so."""
    if len(said) < LEAST_REVIEWED:
        return ()
    tenth = np.minimum((said[:, 0] * REVIEWED_BINS).astype(np.int64), REVIEWED_BINS - 1)
    return tuple(_bin(said[tenth == number]) for number in np.unique(tenth))


def _bin(said: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> CheckedBin:
    promised, wrong = said.mean(axis=0).tolist()
    low, high = wilson(wrong, len(said))
    return CheckedBin(promised, wrong, low, high, len(said))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return between which shares the true one lies with a probability of 90 %.

    Wilson (1927), equation for p at the bounds of the normal approximation of the observed share.

    Args:
        share: The share observed, 0 to 1.
        count: Of how many, at least 1.
    """
    width = Z_90**2 / count
    middle = (share + width / 2) / (1 + width)
    half = math.sqrt(share * (1 - share) * width + width**2 / 4) / (1 + width)
    return max(middle - half, 0.0), min(middle + half, 1.0)
