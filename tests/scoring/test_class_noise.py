from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from labelfix.benchmark.noise import class_dependent_noise
from labelfix.config import ScoringConfig
from labelfix.data.probability_store import ArrayStore
from labelfix.scoring.class_noise import anchor_matrix, without_class_noise
from labelfix.scoring.priors import sharpened_priors
from labelfix.scoring.scores import score_labels
from labelfix.types import Evidence


def priors_of(probs, pool, given_label=None):
    label = np.zeros(len(probs), np.int64) if given_label is None else given_label
    store = ArrayStore(np.asarray(probs, np.float32))
    return sharpened_priors(store, np.arange(len(probs)), label, 1.0, pool)


def noise_matrix(classes, rate):
    matrix = np.full((classes, classes), rate / (classes - 1), np.float32)
    np.fill_diagonal(matrix, 1 - rate)
    return matrix


def peaked(rng, count, classes):
    """Return probabilities of which most rows are sure of one class."""
    return rng.dirichlet(np.full(classes, 0.05), count).astype(np.float32)


def test_the_surest_samples_show_how_classes_are_mistaken(pool):
    rng = np.random.default_rng(0)
    matrix = noise_matrix(4, 0.3)
    probs = peaked(rng, 8000, 4) @ matrix
    found = anchor_matrix(priors_of(probs, pool, probs.argmax(axis=1)), ScoringConfig())
    np.testing.assert_allclose(found, matrix, atol=0.02)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 8), st.floats(0.05, 0.4))
def test_unmixing_finds_what_was_mixed(seed, classes, rate):
    rng = np.random.default_rng(seed)
    true = peaked(rng, 200, classes)
    matrix = noise_matrix(classes, rate)
    with ThreadPoolExecutor(2) as threads:
        priors = without_class_noise(priors_of(true @ matrix, threads), matrix, threads, rounds=10)
    found = (priors.values / priors.values.sum(axis=1, keepdims=True))[priors.order.argsort()]
    assert np.abs(found - true).mean() < 0.9 * np.abs(true @ matrix - true).mean()


def test_without_class_noise_nothing_is_changed(pool):
    probs = np.random.default_rng(1).dirichlet(np.ones(5), 50).astype(np.float32)
    identity = np.eye(5, dtype=np.float32)
    values = without_class_noise(priors_of(probs, pool), identity, pool, rounds=10).values
    found = values / values.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, probs, atol=1e-5)


def test_a_model_that_has_learnt_the_mistakes_of_classes_still_tells_them():
    """The model gives the label that a class is mistaken for what it is given: .35 of the time."""
    rng = np.random.default_rng(2)
    true_probs = peaked(rng, 6000, 6)
    true = (true_probs.cumsum(axis=1) > rng.random((6000, 1))).argmax(axis=1)
    flips = np.roll(np.arange(6), 1)
    given_label = class_dependent_noise(true, 0.35, 6, 0, flips=flips)
    matrix = 0.65 * np.eye(6) + 0.35 * np.eye(6)[flips]
    probs = (true_probs @ matrix).astype(np.float32)
    evidence = Evidence(
        pred_probs=probs,
        fold=np.zeros(6000, np.int16),
        margin=np.zeros(6000, np.float32),
        self_label=given_label,
    )
    scores = score_labels(evidence, given_label)
    is_wrong = given_label != true
    plain = average_precision_score(is_wrong, 1 - probs[np.arange(6000), given_label])
    found = average_precision_score(is_wrong, scores.label_error_probability)
    assert found > plain + 0.05
    low, high = scores.noise_rate_interval
    assert low <= is_wrong.mean() <= high
    assert low <= scores.noise_rate <= high
