"""Helpers of several tests, first written for test_scores."""

import numpy as np

from labelfix.data.probability_store import ArrayStore
from labelfix.scoring.priors import sharpened_priors
from labelfix.types import Evidence


def evidence_of(pred_probs):
    count = len(pred_probs)
    return Evidence(
        pred_probs=np.asarray(pred_probs, dtype=np.float32),
        fold=np.zeros(count, dtype=np.int16),
        margin=np.zeros(count, dtype=np.float32),
        self_label=np.zeros(count, dtype=np.int64),
    )


def noisy_data(seed, count=4000, classes=4, noise=0.15, sharpness=4.0):
    """Probabilities calibrated to the true labels, and given labels of which some are flipped."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(count, classes))
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    true = (probs.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    flips = rng.random(count) < noise
    given_label = np.where(flips, (true + rng.integers(1, classes, count)) % classes, true)
    return probs, given_label, true


def priors_of(probs, given_label, pool, temperature=1.0):
    store = ArrayStore(np.asarray(probs, np.float32))
    return sharpened_priors(store, np.arange(len(probs)), given_label, temperature, pool)
