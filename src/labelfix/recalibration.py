"""What the decisions of people say of the scores: what is known, and which hypothesis fits it.

Letters: n samples, R of them reviewed, K classes, H hypotheses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from labelfix.label_priors import LabelPriors, Posteriors, squared
from labelfix.records import MISSING, Reviewed

SLIPS = 0.01
"""The share of decisions that are wrong: one slip of a person must not rule a hypothesis out."""

EVIDENCE = 20
"""However many decisions there are, the hypotheses are compared as if by fewer than so many."""

CURVE_SPREAD = np.array([1.0, 0.5])
"""Standard deviations, before any decision, of the shift and of the logarithm of the slope."""

TINY = 1e-7
"""Probabilities of an error are not taken to be nearer to 0 and 1 than this, for their odds."""

NEVER = np.float32(1e-36)
"""The prior of a class that a person has ruled out."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What people decided about R of n samples.

    Args:
        at: ``(R,)`` int64, their rows in the priors.
        samples: ``(R,)`` int64, which of the n samples they are.
        given: ``(R,)`` codes, their given labels.
        label: ``(R,)`` codes, the labels that were chosen or kept; ``MISSING`` for dropped samples.
        values: ``(R, K)`` float32, a copy of their priors, which know of no decision.
    """

    at: NDArray[np.int64]
    samples: NDArray[np.int64]
    given: NDArray[np.int64]
    label: NDArray[np.int64]
    values: NDArray[np.float32]

    @classmethod
    def on(cls, priors: LabelPriors, reviewed: Reviewed, rows: NDArray[np.int64]) -> "Verdicts":
        """Return the decisions on those samples that have priors.

        Args:
            priors: Of n samples.
            reviewed: The decisions on all N.
            rows: ``(n,)`` which of the N samples have priors.
        """
        at = np.flatnonzero(reviewed.is_settled[rows][priors.order])
        samples = priors.order[at]
        label = reviewed.label[rows][samples]
        return cls(at, samples, priors.given[at], label, priors.values[at])

    def write_to(self, priors: LabelPriors) -> None:
        """Make the priors of reviewed samples say what was decided, and nothing else.

        A dropped sample is none of its given class, and may be any other.
        """
        priors.values[self.at] = NEVER
        known = self.label != MISSING
        priors.values[self.at[known], self.label[known]] = 1
        others = self.values[~known]
        np.put_along_axis(others, self.given[~known, None], NEVER, axis=1)
        priors.values[self.at[~known]] = others / others.max(axis=1, keepdims=True)

    def settle(self, judged: Posteriors) -> None:
        """Make the verdicts on reviewed samples exactly what was decided."""
        is_wrong = self.label != self.given
        judged.wrong[self.samples] = is_wrong
        moved = is_wrong & (self.label != MISSING)
        judged.alternative_probability[self.samples] = moved
        judged.alternative_label[self.samples[moved]] = self.label[moved]


@dataclass(frozen=True, slots=True, eq=False)
class Recalibration:
    """What the decisions make of the scores of all other samples.

    Args:
        shares: ``(H,)`` float64, the weight of each hypothesis; their mean is 1.
        shift: What is added to the log odds of an error, multiplied by ``slope``.
        slope: Above 1 makes doubtful scores surer.
    """

    shares: NDArray[np.float64]
    shift: float = 0.0
    slope: float = 1.0

    def apply(self, judged: Posteriors) -> Posteriors:
        """Return the verdicts with the log odds of an error moved, and all that follows from it.

        The order of the samples stays. The shares of wrong labels under each hypothesis, and the
        expected samples of a class, are left as they are.
        """
        if self.shift == 0 and self.slope == 1:
            return judged
        wrong = expit(self.shift + self.slope * _log_odds(judged.wrong)).astype(np.float32)
        change = wrong / np.maximum(judged.wrong, TINY)
        probability = np.minimum(judged.alternative_probability * change, wrong)
        return replace(judged, wrong=wrong, alternative_probability=probability)


def recalibrate(verdicts: Verdicts, matrices: Sequence[NDArray[np.float64]]) -> Recalibration:
    """Return what the decisions say of the hypotheses, and of the probabilities that follow.

    The weight of a hypothesis is the likelihood of the decisions under it: the product of
    ``P(true = decided | x, given)`` over the samples whose label a person chose or kept, to the
    power ``EVIDENCE / (EVIDENCE + R)``: no hypothesis is quite true, and to trust the product as
    if one were would be sure of one of them after a few dozen decisions (the coarsened posterior
    of Miller and Dunson, JASA 2019). What all hypotheses together get wrong, a logistic curve
    mends: ``logit P' = shift + slope * logit P``, fitted to the same decisions with a weak prior
    (Platt, 1999). Without decisions all hypotheses are as likely, and the curve is a straight line.

    People look at the most suspicious labels first. That biases neither: they were selected by a
    function of the very x and given labels that the probabilities are conditioned on. But what
    holds for the most suspicious labels is all that is learned, and is taken to hold for the rest.
    People err too, in ``SLIPS`` of their decisions, as these formulas have it. A dropped sample
    says nothing of the hypotheses.

    Args:
        verdicts: The decisions; their priors are P(true | x) under the first hypothesis, squared
            for each further one.
        matrices: H of ``(K, K)``, P(given = k | true = j) in row j.
    """
    known = verdicts.label != MISSING
    values, given, label = verdicts.values[known], verdicts.given[known], verdicts.label[known]
    if not len(label):
        return Recalibration(np.ones(len(matrices)))
    rows, likelihood, right = np.arange(len(label)), [], []
    for number, matrix in enumerate(matrices):
        if number:
            values = squared(values)
        joint = values.astype(np.float64) * matrix.T[given]
        joint /= joint.sum(axis=1, keepdims=True)
        likelihood.append(np.log(_with_slips(joint[rows, label])).sum())
        right.append(joint[rows, given])
    trust = EVIDENCE / (EVIDENCE + len(label))
    weights = np.exp(trust * (np.array(likelihood) - max(likelihood)))
    wrong = 1 - np.average(right, axis=0, weights=weights)
    shift, slope = _fit_curve(_log_odds(wrong), label != given)
    return Recalibration(weights / weights.mean(), shift, slope)


def _fit_curve(log_odds: NDArray[np.floating], is_wrong: NDArray[np.bool_]) -> tuple[float, float]:
    """Return shift and slope under which the decisions, and they themselves, are most likely."""

    def loss(curve: NDArray[np.float64]) -> float:
        wrong = _with_slips(expit(curve[0] + np.exp(curve[1]) * log_odds))
        likelihood = np.log(np.where(is_wrong, wrong, 1 - wrong)).sum()
        return float(((curve / CURVE_SPREAD) ** 2).sum() / 2 - likelihood)

    shift, log_slope = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return float(shift), float(np.exp(log_slope))


def _with_slips(probability: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the probability that a person says what is so with the given one."""
    return SLIPS + (1 - 2 * SLIPS) * probability


def _log_odds(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(probability.astype(np.float64), TINY, 1 - TINY)))
