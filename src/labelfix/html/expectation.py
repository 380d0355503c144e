"""What is to be expected of a review, from the probabilities of the report.

Letters: n judged samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.html.columns import floats, truths
from labelfix.report import Report

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
        points: In rising order; empty where nothing is judged or no label is doubtful.
        bins: Equally wide, from 0 to 1; empty where nothing is judged.
    """

    flagged: int
    points: tuple[ReviewPoint, ...]
    bins: tuple[Bin, ...]

    @property
    def start(self) -> int:
        """Return which point to show first: that of the flags, else the last one."""
        reviewed = [point.reviewed for point in self.points]
        return reviewed.index(self.flagged) if self.flagged in reviewed else len(reviewed) - 1


def expect(report: Report) -> Expectation:
    """Return what to expect of a review of a report."""
    wrong = floats(report, "label_error_probability").astype(np.float64)
    wrong = wrong[~np.isnan(wrong)]
    flagged = int(np.count_nonzero(truths(report, "is_label_issue")))
    return Expectation(flagged, _points(wrong, flagged), _bins(wrong))


def _points(wrong: NDArray[np.float64], flagged: int) -> tuple[ReviewPoint, ...]:
    found = np.cumsum(-np.sort(-wrong))
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
