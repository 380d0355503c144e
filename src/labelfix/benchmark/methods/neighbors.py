"""Votes of nearest neighbors on the same frozen features, and chance.

Letters: N samples, D features, K classes, k neighbors.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from labelfix.benchmark.problem import ANY_SCORE, MethodOutputs, MethodResult, Problem, suggestions
from labelfix.types import MISSING

KNN_NEIGHBORS = 50
SIMIFEAT_NEIGHBORS = 10
CHANCE = 0.1
"""The share that chance flags."""


def knn_vote(problem: Problem) -> MethodOutputs:
    """Share of the 50 nearest neighbors (cosine) whose label is another one."""
    votes = neighbor_votes(problem, KNN_NEIGHBORS)
    own = votes[np.arange(len(problem)), problem.given_label]
    flags = votes.argmax(axis=1) != problem.given_label
    return {
        ANY_SCORE: MethodResult(
            score=1 - own,
            flags={"vote": flags},
            suggested_label=suggestions(flags, votes.argmax(axis=1), problem.given_label),
            predicted_label=votes.argmax(axis=1),
            noise_rate=float(flags.mean()),
        )
    }


def simifeat_vote(problem: Problem) -> MethodOutputs:
    """Votes and ranks after SimiFeat (Zhu et al., ICML 2022), 10 neighbors, one round.

    The score is one minus the cosine between the neighbors' votes and the given label. ``rank``
    flags as many of each class as the vote does, those of the highest score. Neither the rounds of
    augmented features nor the estimate of the noise matrix of the paper are made.
    """
    votes = neighbor_votes(problem, SIMIFEAT_NEIGHBORS)
    given = problem.given_label
    score = 1 - votes[np.arange(len(problem)), given] / np.linalg.norm(votes, axis=1)
    predicted = votes.argmax(axis=1)
    flags = predicted != given
    ranked = np.zeros(len(problem), dtype=bool)
    for code in range(problem.classes):
        rows = np.flatnonzero(given == code)
        worst = rows[np.argsort(-score[rows], kind="stable")]
        ranked[worst[: int(flags[rows].sum())]] = True
    return {
        ANY_SCORE: MethodResult(
            score=score,
            flags={"vote": flags, "rank": ranked},
            suggested_label=suggestions(flags, predicted, given),
            predicted_label=predicted,
            noise_rate=float(flags.mean()),
        )
    }


def chance(problem: Problem) -> MethodOutputs:
    """Drawn scores, of which the highest tenth is flagged: what any method has to beat."""
    score = np.random.default_rng(problem.seed).random(len(problem))
    return {
        ANY_SCORE: MethodResult(
            score=score,
            flags={"tenth": score > 1 - CHANCE},
            suggested_label=np.full(len(problem), MISSING),
            noise_rate=float("nan"),
        )
    }


def neighbor_votes(problem: Problem, neighbors: int) -> NDArray[np.float64]:
    """Return ``(N, K)`` shares of the labels among the nearest neighbors, oneself left out.

    Features are standardised, column by column, and compared by their cosine.
    """
    values = problem.feature_values().astype(np.float32)
    values -= values.mean(axis=0)
    spread = values.std(axis=0)
    values /= np.where(spread > 0, spread, 1)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    found = min(neighbors, len(problem) - 1)
    index = NearestNeighbors(n_neighbors=found, algorithm="brute").fit(values)
    near = index.kneighbors(return_distance=False)  # without an argument: oneself is left out
    votes = np.zeros((len(problem), problem.classes))
    rows = np.arange(len(problem))
    for column in near.T:
        votes[rows, problem.given_label[column]] += 1 / found
    return votes
