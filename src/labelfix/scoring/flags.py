"""How many labels to flag, of those that are most probably wrong.

Flags are always the labels with the highest probability of an error; what a user chooses is how
far down the list they go. Letters: n scored samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.config import FlagConfig
from labelfix.types import MISSING, Codes, Corrections, LabelScores, code_type
from labelfix.utils.scratch import new_array


@dataclass(frozen=True, slots=True)
class ExpectedQuality:
    """What may be expected of the flags, if the probabilities are right.

    Args:
        flagged: How many labels are flagged.
        precision: The share of flags that are right; NaN without flags.
        recall: The share of wrong labels that are flagged; NaN where none is expected.
    """

    flagged: int
    precision: float
    recall: float


def flag(
    wrong: NDArray[np.floating],
    config: FlagConfig,
    under: NDArray[np.floating] | None = None,
    spared: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Return ``(n,)`` which labels to flag; of equally probable errors all or none.

    By default as many as make the expected F1 of the flags the highest: the harmonic mean of
    precision and recall, ``2 sum(flagged p) / (flags + sum(all p))``; but none that is less
    probably wrong than ``config.least_probability``. Where there are hypotheses, each has a highest
    F1 of its own, and as many are flagged as reach the largest share of it, in the mean over them:
    otherwise those under which many labels are wrong, and F1 is easily high, would decide alone.

    A budget that ends between labels that are as probably wrong leaves all of those out.

    Args:
        wrong: ``(n,)`` the probability that each label is wrong.
        config: What the user wants of the flags.
        under: ``(H, n)`` the same under each of H hypotheses that are equally likely.
        spared: ``(n,)`` bool: labels that are not flagged, however probably they are wrong.
    """
    possible = _worst_first(wrong, spared)
    flags = np.zeros(len(wrong), np.bool_)
    hypotheses = wrong[None] if under is None else under
    flags[possible[: _how_many(wrong, hypotheses, possible, config)]] = True
    return flags


def _worst_first(wrong: NDArray[np.floating], spared: NDArray[np.bool_] | None) -> Codes:
    """Return the samples that may be wrong, the most probably wrong ones first."""
    may_be = wrong > 0 if spared is None else (wrong > 0) & ~spared
    order = np.argsort(-wrong, kind="stable").astype(code_type(len(wrong)))
    return order[may_be[order]]


def expected_quality(wrong: NDArray[np.floating], flags: NDArray[np.bool_]) -> ExpectedQuality:
    """Return what may be expected of flags.

    Args:
        wrong: ``(n,)`` the probability that each label is wrong.
        flags: ``(n,)`` bool.
    """
    count = int(np.count_nonzero(flags))
    found = float(wrong[flags].sum(dtype=np.float64))
    total = float(wrong.sum(dtype=np.float64))
    return ExpectedQuality(
        flagged=count,
        precision=found / count if count else float("nan"),
        recall=found / total if total > 0 else float("nan"),
    )


def _how_many(
    wrong: NDArray[np.floating],
    under: NDArray[np.floating],
    possible: Codes,
    config: FlagConfig,
) -> int:
    """Return how many of the samples that may be wrong to flag, which come with the worst first."""
    falling = wrong[possible]
    if config.budget is None and config.precision is None:  # no other one can be flagged
        falling = falling[: np.count_nonzero(falling >= config.least_probability) + 1]
    # how many there are up to the end of each run of equals
    ends = np.flatnonzero(np.diff(falling, append=-1)) + 1
    if config.budget is not None:
        ends = ends[ends <= config.budget]
    elif config.precision is not None:
        found = np.cumsum(falling, dtype=np.float64)
        ends = ends[(found / _ranks(found))[ends - 1] >= config.precision]
    else:
        ends = ends[falling[ends - 1] >= config.least_probability]
        if len(ends):
            shares = np.zeros(ends[-1])
            for one in under:
                shares += _shares_of_best_f1(one, possible, len(shares))
            shares /= len(under)
            return int(ends[np.argmax(shares[ends - 1])])
    return int(ends.max(initial=0))


_BLOCK = 1 << 18
"""Samples whose expected F1 is worked out at a time."""


def _shares_of_best_f1(
    wrong: NDArray[np.floating], possible: Codes, most: int
) -> NDArray[np.float64]:
    """Return the expected F1 of each number of flags, as a share of the highest of any number.

    Args:
        wrong: ``(n,)`` the probability that each label is wrong.
        possible: The samples that may be wrong, the worst first.
        most: The numbers of flags that are told, from 1.
    """
    shares = np.empty(most)
    total, found, best = wrong.sum(dtype=np.float64), 0.0, 0.0
    for start in range(0, len(possible), _BLOCK):
        some = wrong[possible[start : start + _BLOCK]].astype(np.float64)
        some[0] += found  # so that a sum over blocks is that over all of them, bit for bit
        np.cumsum(some, out=some)
        found = some[-1]
        some *= 2
        some /= np.arange(start + 1, start + len(some) + 1) + total
        best = max(best, some.max())
        told = shares[start : start + len(some)]
        told[:] = some[: len(told)]
    shares /= max(best, np.finfo(np.float64).tiny)
    return shares


def _ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.arange(1, len(values) + 1)


def correct(scores: LabelScores, usable: NDArray[np.bool_], flags: FlagConfig) -> Corrections:
    """Return what to flag, what to suggest and how much each sample should count.

    ``sample_weight = (1 - label_error_probability) / mean``: the expected share of right labels
    that a sample adds. A usable sample that was not scored counts like the average one.

    Args:
        scores: Of N samples.
        usable: ``(N,)`` bool: the image can be read and has a label.
        flags: How many labels to flag.
    """
    is_scored = ~np.isnan(scores.label_error_probability)
    is_issue = np.zeros(len(is_scored), dtype=bool)
    rows = slice(None) if is_scored.all() else is_scored  # of which a slice copies nothing
    is_issue[rows] = flag(
        scores.label_error_probability[rows],
        flags,
        scores.under_hypotheses[:, rows],
        # the label that all copies of an image would be suggested needs no flag itself
        None if scores.is_best_of_copies is None else scores.is_best_of_copies[rows],
    )
    return Corrections(
        is_label_issue=is_issue,
        suggested_label=np.where(
            is_issue, scores.alternative_label, scores.alternative_label.dtype.type(MISSING)
        ),
        sample_weight=_weights(scores.label_error_probability, is_scored, usable),
    )


def _weights(
    wrong: NDArray[np.float32], is_scored: NDArray[np.bool_], usable: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return ``(N,)`` the expected share of right labels that each sample adds, of mean 1."""
    right = new_array((len(wrong),), np.float64)
    np.subtract(1, wrong, out=right, where=is_scored, dtype=np.float64)
    is_open = usable & ~is_scored
    if is_open.any():
        right[is_open] = right[is_scored].mean() if is_scored.any() else 1.0
    mean = right.mean()
    if mean > 0:
        right /= mean
    else:
        right[:] = 1
    return right.astype(np.float32)
