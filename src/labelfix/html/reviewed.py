"""What people have decided so far, and whether the probabilities keep their word.

Letters: n decided samples.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.decisions import Decision, Verdict
from labelfix.html.columns import floats
from labelfix.report import Report

BINS = 10

LEAST = 20
"""Fewer verdicts than that say nothing of calibration."""

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
        counts: How many there are of each verdict.
        bins: The tenths that hold a sample; empty where too few are decided. A relabelled sample
            was wrong, a kept one right; unsure and dropped ones do not count.
    """

    counts: Mapping[Verdict, int]
    bins: tuple[CheckedBin, ...]

    @property
    def total(self) -> int:
        """Return n."""
        return sum(self.counts.values())


def tally(report: Report, decisions: Mapping[str, Decision]) -> Reviewed:
    """Return the decisions on a report in figures; those on samples that it lacks do not count."""
    names = pa.array(decisions, pa.string())
    rows = pc.index_in(names, report.table["sample_id"].combine_chunks())
    held = [
        (row, decision.verdict)
        for row, decision in zip(rows.to_pylist(), decisions.values(), strict=True)
        if row is not None
    ]
    counts = Counter(verdict for _, verdict in held)
    error = floats(report, "label_error_probability")
    said = np.array(
        [(error[row], verdict == "relabel") for row, verdict in held if verdict in _SAYS_IT],
        np.float64,
    ).reshape(-1, 2)
    return Reviewed(dict(sorted(counts.items())), _bins(said[~np.isnan(said[:, 0])]))


_SAYS_IT = frozenset({"keep", "relabel"})


def _bins(said: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> tuple[CheckedBin, ...]:
    """Return the bins of ``(n, 2)``: what was promised, and whether it was so."""
    if len(said) < LEAST:
        return ()
    tenth = np.minimum((said[:, 0] * BINS).astype(np.int64), BINS - 1)
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
