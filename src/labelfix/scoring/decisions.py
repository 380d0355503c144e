"""What the decisions of people say of the scores: what is known, and which hypothesis fits it.

Letters: n samples, R of them reviewed, K classes, H hypotheses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labelfix.scoring.copies import Copies
from labelfix.scoring.priors import LabelPriors, NoiseColumns, Posteriors, noise_columns, squared
from labelfix.types import MISSING, Codes, Reviewed

NEVER = np.float32(1e-36)
"""The prior of a class that a person has ruled out."""


@dataclass(frozen=True, slots=True, eq=False)
class ReviewedSamples:
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
    given: Codes
    label: NDArray[np.int64]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        """Return R."""
        return len(self.at)

    @classmethod
    def on(
        cls, priors: LabelPriors, reviewed: Reviewed, rows: NDArray[np.int64]
    ) -> "ReviewedSamples":
        """Return the decisions on those samples that have priors.

        Args:
            priors: Of n samples.
            reviewed: The decisions on all N.
            rows: ``(n,)`` which of the N samples have priors.
        """
        at = np.flatnonzero(reviewed.is_settled[rows][priors.order])
        samples = priors.order[at].astype(np.int64)
        label = reviewed.label[rows[samples]]
        return cls(at, samples, priors.given[at], label, priors.values[at])

    def clamp_priors(self, priors: LabelPriors) -> None:
        """Make the priors of reviewed samples say what was decided, and nothing else.

        A dropped sample is none of its given class, and may be any other.
        """
        priors.values[self.at] = NEVER
        known = self.label != MISSING
        priors.values[self.at[known], self.label[known]] = 1
        others = self.values[~known]
        others[np.arange(len(others)), self.given[~known]] = NEVER
        priors.values[self.at[~known]] = others / others.max(axis=1, keepdims=True)

    def apply_decisions(self, scored: Posteriors) -> None:
        """Make the reviewed_samples on reviewed samples exactly what was decided."""
        is_wrong = self.label != self.given
        scored.wrong[self.samples] = is_wrong
        scored.under[:, self.samples] = is_wrong
        moved = is_wrong & (self.label != MISSING)
        scored.alternative_probability[self.samples] = moved
        scored.alternative_label[self.samples[moved]] = self.label[moved]


def posterior_over_noise_models(
    reviewed_samples: ReviewedSamples,
    matrices: Sequence[NDArray[np.float64] | NoiseColumns],
    *,
    error_rate: float,
) -> NDArray[np.float64]:
    """Return ``(H,)`` how likely the decisions make each hypothesis, with a mean of 1.

    A weight is the likelihood of the decisions: the product of ``P(true = decided | x, given)``
    over the samples whose label a person chose or kept. People look at the most suspicious labels
    first. That biases nothing: they were selected by a function of the very x and given labels that
    the probability is conditioned on. People err too, in a share of their decisions. A dropped
    sample says nothing of the hypotheses; without decisions all are as likely.

    Args:
        reviewed_samples: The decisions; their priors are P(true | x) under the first hypothesis,
            squared for each further one.
        matrices: H of ``(K, K)``, P(given = k | true = j) in row j, or what gives its columns.
        error_rate: The share of decisions that are taken to be wrong.
    """
    known = reviewed_samples.label != MISSING
    if not known.any():
        return np.ones(len(matrices))
    values, given, label = (
        reviewed_samples.values[known],
        reviewed_samples.given[known],
        reviewed_samples.label[known],
    )
    likelihood = []
    for number, matrix in enumerate(matrices):
        if number:
            values = squared(values)
        joint = values.astype(np.float64) * _columns(matrix, given)
        decided = joint[np.arange(len(label)), label] / joint.sum(axis=1)
        likelihood.append(np.log(error_rate + (1 - 2 * error_rate) * decided).sum())
    weights = np.exp(np.array(likelihood) - max(likelihood))
    return np.asarray(weights / weights.mean())


def _columns(matrix: NDArray[np.float64] | NoiseColumns, given: Codes) -> NDArray[np.floating]:
    """Return ``(R, K)`` the probability of each of R given labels for each true class."""
    if isinstance(matrix, np.ndarray):
        return np.asarray(matrix.T[given])
    column = noise_columns(matrix)
    rows = [column(label) for label in given.tolist()]
    return np.array(rows, np.float32).reshape(len(given), -1)


def rerank_scores(
    scored: Posteriors,
    weighted: Posteriors,
    reviewed_samples: ReviewedSamples,
    copies: Copies | None = None,
) -> Posteriors:
    """Return the first posteriors with their probabilities assigned in the order of the second.

    Decisions on the most suspicious labels tell which hypothesis ranks labels best, and little of
    how many of all others are wrong: so nothing but the order of those is learned from them
    (docs/experiments.md).

    Args:
        scored: Of n samples, all hypotheses as likely.
        weighted: Of the same, the hypotheses weighted by the decisions.
        reviewed_samples: The decisions; the samples that they are on keep what they have.
        copies: Byte-identical images among the samples: those whose labels differ, or of which one
            is decided, keep what they have, and all others are assigned the same.
    """
    is_open = np.ones(len(scored.wrong), np.bool_)
    is_open[reviewed_samples.samples] = False
    if copies is not None:
        is_open[copies.settled_samples] = False
    rows = np.flatnonzero(is_open)
    order = rows[np.lexsort((scored.wrong[rows], weighted.wrong[rows]))]
    sorted_rows = rows[np.argsort(scored.wrong[rows], kind="stable")]
    wrong, under = scored.wrong.copy(), scored.under.copy()
    wrong[order], under[:, order] = scored.wrong[sorted_rows], scored.under[:, sorted_rows]
    if copies is not None:
        wrong, under = copies.evened(wrong), copies.evened(under)
    least = np.finfo(np.float32).tiny  # a sharp hypothesis alone can leave next to nothing
    share = weighted.alternative_probability / np.maximum(weighted.wrong, least)
    return replace(
        scored,
        wrong=wrong,
        under=under,
        alternative_label=np.where(is_open, weighted.alternative_label, scored.alternative_label),
        alternative_probability=np.where(
            is_open, np.minimum(share, 1) * wrong, scored.alternative_probability
        ),
    )
