"""What the decisions of people say of the scores: what is known, and which hypothesis fits it.

Letters: n samples, R of them reviewed, K classes, H hypotheses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.label_priors import LabelPriors, Posteriors, squared
from labelfix.records import MISSING, Reviewed

LEAST_PROBABILITY = 0.01
"""No decision is taken to be less likely than this, nor surer than the rest: people err too, and
one slip must not rule a hypothesis out."""

COPIES = 20
"""Weights of hypotheses are rounded to one part in so many."""

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
        label = np.where(reviewed.is_dropped, MISSING, reviewed.label)[rows]
        is_reviewed = (label != MISSING) | reviewed.is_dropped[rows]
        at = np.flatnonzero(is_reviewed[priors.order])
        samples = priors.order[at]
        return cls(at, samples, priors.given[at], label[samples], priors.values[at])

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


def hypothesis_copies(
    verdicts: Verdicts, matrices: Sequence[NDArray[np.float64]]
) -> NDArray[np.int64]:
    """Return ``(H,)`` how many of some equally likely hypotheses are each of the H.

    The weight of a hypothesis is the likelihood of the decisions under it: the product of
    ``P(true = decided | x, given)`` over the samples whose label a person chose or kept. People
    look at the most suspicious labels first; that they were selected biases nothing, because what
    they were selected by is a function of the very x and given labels that the probability is
    conditioned on. Without decisions all hypotheses are as likely; a dropped sample says nothing.

    Args:
        verdicts: The decisions; their priors are P(true | x) under the first hypothesis, squared
            for each further one.
        matrices: H of ``(K, K)``, P(given = k | true = j) in row j.
    """
    known = verdicts.label != MISSING
    values, given, label = verdicts.values[known], verdicts.given[known], verdicts.label[known]
    likelihood = []
    for number, matrix in enumerate(matrices):
        if number:
            values = squared(values)
        joint = values.astype(np.float64) * matrix.T[given]
        decided = joint[np.arange(len(label)), label] / joint.sum(axis=1)
        sure = np.clip(decided, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        likelihood.append(np.log(sure).sum())
    weights = np.exp(np.array(likelihood) - max(likelihood))
    copies = np.rint(COPIES * weights / weights.sum()).astype(np.int64)
    return np.asarray(copies // np.gcd.reduce(copies))
