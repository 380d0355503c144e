"""From what training saw to how probable it is that each given label is wrong.

Letters: N samples, K classes.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from labelfix.records import MISSING, Evidence, LabelScores

EM_ROUNDS = 100
EM_TOLERANCE = 1e-5

CLEAN_SHARE = 0.5
"""The true labels' temperature over the given labels': half of what a calibrated model leaves open
is put down to the noise in the labels, half to the model."""

PRIOR_COUNT = 1.0
"""Samples with each wrong label that every class is taken to have before any is seen."""


def score_labels(evidence: Evidence, given_label: NDArray[np.int64]) -> LabelScores:
    """Return how probable it is that each given label is wrong, from the given labels alone.

    The out-of-sample probabilities, sharpened, stand for the true label's distribution; the
    class-to-class noise matrix is fitted to the given labels by EM; Bayes' rule joins the two:
    ``P(true = k | x, given) ~ P(true = k | x) * P(given | true = k)``.

    Args:
        evidence: Of N samples.
        given_label: ``(N,)`` codes.
    """
    rows = np.flatnonzero(~np.isnan(evidence.pred_probs[:, 0]))
    given = given_label[rows]
    log_probs = np.log(np.maximum(evidence.pred_probs[rows].astype(np.float64), 1e-12))
    prior = _sharpened(log_probs, CLEAN_SHARE * temperature_of(log_probs, given))
    noise_matrix = fit_noise_matrix(prior, given)
    posterior = _posterior(prior, given, noise_matrix)
    return _scores(evidence, rows, given, posterior, noise_matrix)


def temperature_of(log_probs: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    """Return the temperature that makes the labels most likely (Guo et al., ICML 2017).

    Args:
        log_probs: ``(N, K)``.
        label: ``(N,)`` codes.
    """

    def loss(log_temperature: float) -> float:
        scaled = log_probs / np.exp(log_temperature)
        likelihood = scaled[np.arange(len(label)), label] - _log_sum(scaled)
        return -float(likelihood.mean())

    best = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(best.x))


def fit_noise_matrix(prior: NDArray[np.float64], given: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``(K, K)`` P(given = k | true = j) in row j, by expectation maximisation.

    Args:
        prior: ``(N, K)`` P(true | x).
        given: ``(N,)`` codes.
    """
    classes = prior.shape[1]
    matrix = np.full((classes, classes), 0.1 / max(classes - 1, 1))
    np.fill_diagonal(matrix, 0.9)
    order = np.argsort(given, kind="stable")
    ends = np.searchsorted(given[order], np.arange(classes + 1))
    for _ in range(EM_ROUNDS):
        posterior = _posterior(prior, given, matrix)[order]
        counts = np.stack(
            [posterior[ends[k] : ends[k + 1]].sum(axis=0) for k in range(classes)], axis=1
        )
        counts += PRIOR_COUNT / classes + 1e-9
        renewed = counts / counts.sum(axis=1, keepdims=True)
        change = np.abs(renewed - matrix).max()
        matrix = renewed
        if change < EM_TOLERANCE:
            break
    return matrix


def _posterior(
    prior: NDArray[np.float64], given: NDArray[np.int64], matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    joint = prior * matrix.T[given]
    return np.asarray(joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300))


def _sharpened(log_probs: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    scaled = log_probs / temperature
    return np.exp(scaled - _log_sum(scaled)[:, None])


def _log_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    top = values.max(axis=1)
    return np.asarray(top + np.log(np.exp(values - top[:, None]).sum(axis=1)))


def _scores(
    evidence: Evidence,
    rows: NDArray[np.int64],
    given: NDArray[np.int64],
    posterior: NDArray[np.float64],
    noise_matrix: NDArray[np.float64],
) -> LabelScores:
    count = len(evidence.pred_probs)
    index = np.arange(len(rows))
    wrong = np.full(count, np.nan, dtype=np.float32)
    wrong[rows] = np.clip(1 - posterior[index, given], 0, 1)
    predicted = np.full(count, MISSING, dtype=np.int64)
    predicted[rows] = evidence.pred_probs[rows].argmax(axis=1)
    others = posterior.copy()
    others[index, given] = -1
    alternative = np.full(count, MISSING, dtype=np.int64)
    alternative[rows] = others.argmax(axis=1)
    probability = np.full(count, np.nan, dtype=np.float32)
    probability[rows] = others.max(axis=1)
    return LabelScores(
        label_error_probability=wrong,
        predicted_label=predicted,
        alternative_label=alternative,
        alternative_probability=probability,
        noise_matrix=noise_matrix,
        noise_rate=float(np.nanmean(wrong)) if len(rows) else float("nan"),
    )
