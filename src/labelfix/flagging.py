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


def flag(
    wrong: NDArray[np.floating],
    config: FlagConfig,
    under: NDArray[np.floating] | None = None,
) -> NDArray[np.bool_]:
    """Return ``(n,)`` which labels to flag.

    By default as many as make the expected F1 of the flags the highest: the harmonic mean of
    precision and recall, ``2 sum(flagged p) / (flags + sum(all p))``. Where there are hypotheses,
    each has a highest F1 of its own, and as many are flagged as reach the largest share of it, in
    the mean over them: otherwise those under which many labels are wrong, and F1 is easily high,
    would decide alone.

    Args:
        wrong: ``(n,)`` the probability that each label is wrong.
        config: What the user wants of the flags.
        under: ``(H, n)`` the same under each of H hypotheses that are equally likely.
    """
    order = np.argsort(-wrong, kind="stable")
    possible = order[: np.count_nonzero(wrong > 0)]
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
    if config.budget is not None:
        return min(config.budget, len(possible))
    if not len(possible):
        return 0
    if config.precision is not None:
        # the mean of a falling list falls: the last place that is good enough is the end
        found = np.cumsum(wrong[possible], dtype=np.float64)
        return int(np.count_nonzero(found / _ranks(found) >= config.precision))
    shares = [_shares_of_best_f1(one[possible]) for one in under]
    return int(np.argmax(np.mean(shares, axis=0))) + 1


def _shares_of_best_f1(falling: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the expected F1 of each number of flags, as a share of the highest."""
    found = np.cumsum(falling, dtype=np.float64)
    f1 = 2 * found / (_ranks(found) + found[-1])
    return np.asarray(f1 / max(f1.max(), np.finfo(np.float64).tiny))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.arange(1, len(values) + 1)
