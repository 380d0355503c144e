"""From what training saw to how probable it is that each given label is wrong.

Letters: N samples, n of them judged, K classes.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from labelfix.label_priors import (
    LEAST_PROBABILITY,
    LabelPriors,
    expected_counts,
    posteriors,
    sharpened_priors,
)
from labelfix.probability_store import ArrayStore, ProbabilityStore, blocks, cores
from labelfix.records import MISSING, Evidence, LabelScores

EM_LEAPS = 34
EM_TOLERANCE = 1e-5

CLEAN_SHARE = 0.5
"""The true labels' temperature over the given labels': half of what a calibrated model leaves open
is put down to the noise in the labels, half to the model."""

PRIOR_COUNT = 1.0
"""Samples with each wrong label that every class is taken to have before any is seen."""

TEMPERATURE_ROWS = 1 << 14
"""The temperature, one number, is fitted to so many samples at most: it is then known to about one
part in a hundred, and a pass over all samples for each of its fifteen guesses is saved."""

LOG_TEMPERATURES = (-2.0, 3.0)
"""Where the temperature is looked for; sharper, and powers would leave what float32 can hold."""


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
    return score_probabilities(ArrayStore(evidence.pred_probs), rows, given_label)


def score_probabilities(
    probs: ProbabilityStore, rows: NDArray[np.int64], given_label: NDArray[np.int64]
) -> LabelScores:
    """Return what `score_labels` does, of probabilities that need not lie in memory.

    The work takes one array of n times K float32, and one pass over the probabilities.

    Args:
        probs: Of N samples, out-of-sample.
        rows: ``(n,)`` rising: the samples to judge.
        given_label: ``(N,)`` codes.
    """
    given = given_label[rows]
    temperature = CLEAN_SHARE * _temperature(probs, rows, given)
    with ThreadPoolExecutor(cores()) as pool:
        priors = sharpened_priors(probs, rows, given, temperature, pool)
        noise_matrix = fit_noise_matrix(priors, pool)
        judged = posteriors(priors, noise_matrix, pool)
    return LabelScores(
        label_error_probability=_spread(judged.wrong, rows, len(probs), np.nan),
        predicted_label=_spread(priors.predicted_label, rows, len(probs), MISSING),
        alternative_label=_spread(judged.alternative_label, rows, len(probs), MISSING),
        alternative_probability=_spread(judged.alternative_probability, rows, len(probs), np.nan),
        noise_matrix=noise_matrix,
        noise_rate=float(judged.wrong.mean(dtype=np.float64)),
    )


def temperature_of(log_probs: NDArray[np.floating], label: NDArray[np.int64]) -> float:
    """Return the temperature that makes the labels most likely (Guo et al., ICML 2017).

    Args:
        log_probs: ``(N, K)``.
        label: ``(N,)`` codes.
    """
    shift = np.log(log_probs.shape[1]) / 2  # as in `sharpened_priors`
    logits = (log_probs + shift).astype(np.float32)
    own = np.take_along_axis(logits, label[:, None], axis=1)[:, 0].mean(dtype=np.float64)
    parts = [logits[block] for block in blocks(*logits.shape)]

    def loss(log_temperature: float) -> float:
        power = np.float32(np.exp(-log_temperature))
        totals = [np.log(_exp(part * power).sum(axis=1)).sum(dtype=np.float64) for part in parts]
        return float(sum(totals) / len(label) - power * own)

    best = minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded", options={"xatol": 1e-3})
    return float(np.exp(best.x))


def fit_noise_matrix(priors: LabelPriors, pool: ThreadPoolExecutor) -> NDArray[np.float64]:
    """Return ``(K, K)`` P(given = k | true = j) in row j, by expectation maximisation.

    After every two rounds it leaps ahead along the way that they took (SQUAREM, scheme S3 of
    Varadhan and Roland, Scandinavian Journal of Statistics 2008): a third of the passes that plain
    rounds take, to the same end.

    Args:
        priors: P(true | x) of n samples.
        pool: The threads to use.
    """
    classes = priors.classes
    matrix = np.full((classes, classes), 0.1 / max(classes - 1, 1))
    np.fill_diagonal(matrix, 0.9)
    for _ in range(EM_LEAPS):
        first = _renewed(priors, matrix, pool)
        second = _renewed(priors, first, pool)
        step = first - matrix
        if np.abs(step).max() < EM_TOLERANCE:
            return second
        bend = second - first - step
        length = max(1.0, float(np.linalg.norm(step)) / max(float(np.linalg.norm(bend)), 1e-300))
        ahead = matrix + 2 * length * step + length**2 * bend
        matrix = _renewed(priors, _as_rows(np.maximum(ahead, second / 10)), pool)
    return matrix


def _renewed(
    priors: LabelPriors, matrix: NDArray[np.float64], pool: ThreadPoolExecutor
) -> NDArray[np.float64]:
    return _as_rows(expected_counts(priors, matrix, pool) + PRIOR_COUNT / len(matrix) + 1e-9)


def _as_rows(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _exp(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.exp(values, out=values)


def _temperature(
    probs: ProbabilityStore, rows: NDArray[np.int64], given: NDArray[np.int64]
) -> float:
    some = np.arange(0, len(rows), -(-len(rows) // TEMPERATURE_ROWS))
    part = probs.read(rows[some])
    return temperature_of(np.log(np.maximum(part, LEAST_PROBABILITY)), given[some])


def _spread(values: NDArray[Any], rows: NDArray[np.int64], size: int, empty: float) -> NDArray[Any]:
    """Return ``size`` values: ``values[i]`` at ``rows[i]``, ``empty`` elsewhere."""
    spread = np.full(size, empty, values.dtype)
    spread[rows] = values
    return spread
