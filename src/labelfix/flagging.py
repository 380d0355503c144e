"""How many labels to flag, of those that are most probably wrong.

Flags are always the labels with the highest probability of an error; what a user chooses is how
far down the list they go. Letters: n judged samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.config import FlagConfig


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


def flag(wrong: NDArray[np.floating], config: FlagConfig) -> NDArray[np.bool_]:
    """Return ``(n,)`` which labels to flag.

    By default as many as make the expected F1 of the flags the highest: the harmonic mean of
    precision and recall, ``2 sum(flagged p) / (flags + sum(all p))``.

    Args:
        wrong: ``(n,)`` the probability that each label is wrong.
        config: What the user wants of the flags.
    """
    order = np.argsort(-wrong, kind="stable")
    sorted_wrong = wrong[order].astype(np.float64)
    count = _how_many(sorted_wrong, config)
    flags = np.zeros(len(wrong), np.bool_)
    flags[order[:count]] = True
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


def _how_many(sorted_wrong: NDArray[np.float64], config: FlagConfig) -> int:
    """Return how many of the highest probabilities to flag; none that are 0."""
    possible = int(np.count_nonzero(sorted_wrong > 0))
    found = np.cumsum(sorted_wrong)[:possible]
    if config.budget is not None:
        return min(config.budget, possible)
    if not possible:
        return 0
    ranks = np.arange(1, possible + 1)
    if config.precision is not None:
        # the mean of a falling list falls: the last place that is good enough is the end
        return int(np.count_nonzero(found / ranks >= config.precision))
    return int(np.argmax(found / (ranks + found[-1]))) + 1
