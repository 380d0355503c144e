"""What a model would say of the true labels, from what it says of the given ones.

A model that is trained on wrong labels learns to expect them: where every tenth cat is called a
dog, it gives a clear picture of a cat .9. How labels are mistaken regardless of the picture shows
on the samples that the model is surest of; taking that out leaves what depends on the picture.

Letters: n samples, K classes.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from labelfix.config import ScoringConfig
from labelfix.scoring.many_classes import SparseMixture, unmixed
from labelfix.scoring.priors import LabelPriors
from labelfix.utils.threads import in_order

COLUMNS_AT_ONCE = 16
"""Classes whose probabilities are laid side by side at a time: one alone is slow to gather, all of
them would be a second copy."""

LEAST_SHARE = 1e-6
"""No class is taken to be less likely than this share of the likeliest."""


def anchor_matrix(priors: LabelPriors, config: ScoringConfig) -> NDArray[np.float32]:
    """Return ``(K, K)``: in row j what the model expects as the label of a sure sample of class j.

    The mean of the probabilities over the anchors of the class, the samples to which it gives most
    (Patrini et al., CVPR 2017, take the single surest). The rarer a class is, the fewer they are,
    and the nearer its row is to that of a class that is never mistaken.

    Args:
        priors: P(given | x), of samples enough to find anchors among.
        config: How many anchors a class has.
    """
    return np.stack([row.astype(np.float32) for row in anchor_rows(priors, config)])


def anchor_rows(priors: LabelPriors, config: ScoringConfig) -> Iterator[NDArray[np.float64]]:
    """Yield the rows of `anchor_matrix`, ``(K,)`` each, one after the other."""
    count, classes = priors.values.shape
    of_class = np.bincount(priors.given, minlength=classes)
    most = np.ceil(config.most_of_class * of_class).astype(np.int64)
    of_average = int(config.anchor_share * count / classes)
    wanted = np.minimum(most, max(config.least_anchors, of_average))
    total = priors.values.sum(axis=1)
    for start in range(0, classes, COLUMNS_AT_ONCE):
        some = slice(start, start + COLUMNS_AT_ONCE)
        columns = np.ascontiguousarray(priors.values[:, some].T) / total
        for label, column in enumerate(columns, start):
            first = count - wanted[label]
            surest = np.sort(np.argpartition(column, min(first, count - 1))[first:])
            seen = (priors.values[surest] / total[surest, None]).sum(axis=0, dtype=np.float64)
            seen[label] += config.noiseless_anchors
            yield seen / seen.sum()


def without_class_noise(
    priors: LabelPriors,
    matrix: NDArray[np.float32] | SparseMixture,
    pool: ThreadPoolExecutor,
    *,
    rounds: int,
) -> LabelPriors:
    """Return P(true | x), up to a factor, whose mixture by the matrix is nearest to P(given | x).

    For each sample the weights c of the rows of the matrix that maximize
    ``sum_k P(given = k | x) log (c @ matrix)_k``, by expectation maximization from equal weights
    (Richardson-Lucy). Overwrites the values of ``priors``.

    Args:
        priors: P(given | x) of n samples, up to a factor.
        matrix: ``(K, K)`` P(given = k | true = j) in row j.
        pool: The threads to use.
        rounds: Of expectation maximization.
    """
    if isinstance(matrix, SparseMixture):
        return unmixed(priors, matrix, pool, rounds=rounds, least_share=LEAST_SHARE)
    classes = priors.classes
    back = np.ascontiguousarray(matrix.T)

    def unmix(rows: slice) -> None:
        part = priors.values[rows]
        part /= part.sum(axis=1, keepdims=True)
        weights = np.full_like(part, 1 / classes)
        for _ in range(rounds):
            mixed = weights @ matrix
            np.maximum(mixed, np.float32(1e-12), out=mixed)
            weights *= (part / mixed) @ back
        weights /= weights.max(axis=1, keepdims=True)
        np.maximum(weights, np.float32(LEAST_SHARE), out=part)

    pieces = [slice(piece.start, piece.stop) for piece in priors.pieces]
    for _ in in_order(unmix, pieces, pool):
        pass
    return priors
