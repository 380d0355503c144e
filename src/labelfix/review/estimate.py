"""How many flags are right and how many errors are left, from what was decided so far.

The report's probabilities may be off, and people decide the most probable ones first, so a plain
share of right flags would mislead. Hence the probabilities are calibrated anew on the decisions: a
sample of probability p is wrong with probability sigmoid(f(logit p)), where f is the identity plus
an unknown offset, slope and smooth bend, a Gaussian process (Rasmussen and Williams 2006, section
3.4: Laplace's approximation of its posterior). Where nothing was decided yet f is wide open, and
the intervals say so. The samples that are drawn at random into the queue narrow it there.

Letters: N samples, B bins of logit p.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHARE = 0.9
"""The probability with which an interval should hold the truth."""

AHEAD = 50
"""Of so many suspects that come next the share of right flags is foretold."""

NOT_WORTH_IT = 0.1
"""Below this expected share of right flags among the next ones it is time to stop."""

OFFSET, SLOPE, BEND, LENGTH = 1.0, 0.4, 1.5, 0.8
"""Standard deviations of the prior of f, and the logits over which its bend is alike: real reports
may be right to a point and far off one logit further, so little is carried from here to there."""

_EDGE = 9.0  # logits: probabilities below 1e-4 are taken as alike
_BINS = 73
_DRAWS = 1000
_STEPS = 50


@dataclass(frozen=True, slots=True)
class Count:
    """A number that is not known, with the interval that holds it with probability `SHARE`."""

    expected: float
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the decisions so far say of all samples.

    Args:
        flagged: How many labels are flagged.
        right_flags: How many of them are wrong labels, those already found among them.
        left_flagged: Wrong labels among the flagged ones without a decision.
        left_unflagged: Wrong labels among the others without a decision.
        left: Both together.
        next_share: The expected share of wrong labels among the next `AHEAD` suspects; ``None``
            where no suspect is left.
        is_worth_it: Whether to go on: `next_share` is at least `NOT_WORTH_IT`.
    """

    flagged: int
    right_flags: Count
    left_flagged: Count
    left_unflagged: Count
    left: Count
    next_share: float | None
    is_worth_it: bool


def estimate(
    probability: NDArray[np.floating],
    is_flagged: NDArray[np.bool_],
    is_wrong: NDArray[np.int8],
    seed: int = 0,
) -> Estimate:
    """Estimate how many labels are wrong.

    Args:
        probability: ``(N,)`` the report's probability that each label is wrong, 0 to 1; NaN where
            it was not scored, which is left out.
        is_flagged: ``(N,)`` bool.
        is_wrong: ``(N,)`` what people said: 1 wrong, 0 right, -1 nothing or not sure.
        seed: What the draws come from.
    """
    is_scored = np.isfinite(probability)
    is_open = is_scored & (is_wrong < 0)
    logits, bins = _binned(probability)
    wrong = np.bincount(bins[is_scored & (is_wrong == 1)], minlength=_BINS)
    right = np.bincount(bins[is_scored & (is_wrong == 0)], minlength=_BINS)
    open_flagged = np.bincount(bins[is_open & is_flagged], minlength=_BINS)
    open_unflagged = np.bincount(bins[is_open & ~is_flagged], minlength=_BINS)
    rng = np.random.default_rng(seed)
    chance = _draw_chances(logits, wrong, right, rng)
    left_flagged = _draw_errors(open_flagged, chance, rng)
    left_unflagged = _draw_errors(open_unflagged, chance, rng)
    found = int(np.count_nonzero(is_scored & is_flagged & (is_wrong == 1)))
    share = _share_of_next(open_flagged, chance.mean(axis=0))
    return Estimate(
        flagged=int(np.count_nonzero(is_scored & is_flagged)),
        right_flags=_count(found + left_flagged),
        left_flagged=_count(left_flagged),
        left_unflagged=_count(left_unflagged),
        left=_count(left_flagged + left_unflagged),
        next_share=share,
        is_worth_it=share is not None and share >= NOT_WORTH_IT,
    )


def _binned(probability: NDArray[np.floating]) -> tuple[Floats, NDArray[np.int64]]:
    """Return the logits of the B bins, and ``(N,)`` the bin of each sample (0 where unknown)."""
    p = np.nan_to_num(probability, nan=0.0).astype(np.float64).clip(1e-9, 1 - 1e-9)
    logits = np.linspace(-_EDGE, _EDGE, _BINS)
    width = logits[1] - logits[0]
    place = (np.log(p / (1 - p)) + _EDGE) / width
    return logits, np.rint(place).clip(0, _BINS - 1).astype(np.int64)


def _draw_chances(
    x: Floats, wrong: NDArray[np.int64], right: NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """Return ``(draws, B)`` chances of an error from the posterior of f.

    With W the curvature of the likelihood at the mode, ``B = I + W^1/2 K W^1/2`` is well
    conditioned (Rasmussen and Williams 2006, algorithm 3.1).
    """
    gap = x[:, None] - x[None, :]
    prior = OFFSET**2 + SLOPE**2 * np.outer(x, x) + BEND**2 * np.exp(-0.5 * (gap / LENGTH) ** 2)
    tried = wrong + right
    f = x.copy()
    root = np.zeros(len(x))
    cut: NDArray[np.floating] = np.eye(len(x))
    for _ in range(_STEPS):
        chance = _sigmoid(f)
        root = np.sqrt(tried * chance * (1 - chance))
        cut = np.linalg.cholesky(np.eye(len(x)) + root[:, None] * prior * root[None, :])
        aim = root**2 * (f - x) + wrong - tried * chance
        inner = np.linalg.solve(cut, root * (prior @ aim))
        weights = aim - root * np.linalg.solve(cut.T, inner)
        step = x + prior @ weights - f
        f = f + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-6:
            break
    half = np.linalg.solve(cut, root[:, None] * prior)
    spread, axes = np.linalg.eigh(prior - half.T @ half)
    draws = rng.standard_normal((_DRAWS, len(x))) * np.sqrt(spread.clip(0))
    return _sigmoid(f + draws @ axes.T)


def _draw_errors(
    count: NDArray[np.int64], chance: Floats, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return ``(draws,)`` how many of ``(B,)`` samples are wrong."""
    held = count > 0
    return rng.binomial(count[held], chance[:, held]).sum(axis=1)  # type: ignore[no-any-return]


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _share_of_next(open_flagged: NDArray[np.int64], chance: Floats) -> float | None:
    """Return the expected share of errors among the next suspects, the most probable first."""
    falling = open_flagged[::-1]
    before = np.cumsum(falling) - falling
    taken = np.clip(AHEAD - before, 0, falling)
    return float(taken @ chance[::-1] / taken.sum()) if taken.any() else None


def _count(draws: NDArray[np.int64]) -> Count:
    outside = (1 - SHARE) / 2
    low, high = np.quantile(draws, [outside, 1 - outside], method="closest_observation")
    return Count(float(draws.mean()), int(low), int(high))
