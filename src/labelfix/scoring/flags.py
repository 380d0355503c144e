"""How many labels to flag, of those that are most probably wrong.

Flags are always the labels with the highest probability of an error; what a user chooses is how
far down the list they go. Letters: n scored samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.config import FlagConfig
from labelfix.types import MISSING, Corrections, LabelScores


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
    may_be = wrong > 0 if spared is None else (wrong > 0) & ~spared
    order = np.argsort(-wrong, kind="stable")
    possible = order[may_be[order]]
    flags = np.zeros(len(wrong), np.bool_)
    hypotheses = wrong[None] if under is None else under
    flags[possible[: _how_many(wrong, hypotheses, possible, config)]] = True
    return flags


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
    possible: NDArray[np.int64],
    config: FlagConfig,
) -> int:
    """Return how many of the samples that may be wrong to flag, which come with the worst first."""
    falling = wrong[possible]
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
            shares = [_shares_of_best_f1(one, possible) for one in under]
            return int(ends[np.argmax(np.mean(shares, axis=0)[ends - 1])])
    return int(ends.max(initial=0))


def _shares_of_best_f1(
    wrong: NDArray[np.floating], possible: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the expected F1 of each number of flags, as a share of the highest."""
    found = np.cumsum(wrong[possible], dtype=np.float64)
    f1 = 2 * found / (_ranks(found) + wrong.sum(dtype=np.float64))
    return np.asarray(f1 / max(f1.max(), np.finfo(np.float64).tiny))


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
    wrong = scores.label_error_probability
    is_scored = ~np.isnan(wrong)
    is_issue = np.zeros(len(wrong), dtype=bool)
    is_issue[is_scored] = flag(
        wrong[is_scored],
        flags,
        scores.under_hypotheses[:, is_scored],
        # the label that all copies of an image would be suggested needs no flag itself
        None if scores.is_best_of_copies is None else scores.is_best_of_copies[is_scored],
    )
    right = np.zeros(len(wrong), dtype=np.float64)
    right[is_scored] = 1 - wrong[is_scored].astype(np.float64)
    right[usable & ~is_scored] = right[is_scored].mean() if is_scored.any() else 1.0
    mean = right.mean()
    weight = right / mean if mean > 0 else np.ones_like(right)
    return Corrections(
        is_label_issue=is_issue,
        suggested_label=np.where(is_issue, scores.alternative_label, MISSING),
        sample_weight=weight.astype(np.float32),
    )
