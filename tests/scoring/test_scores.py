from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noisy_evidence import evidence_of, noisy_data, priors_of
from sklearn.metrics import average_precision_score

from labelfix.config import ScoringConfig
from labelfix.data.probability_store import ArrayStore, block_rows
from labelfix.scoring.priors import LEAST_PROBABILITY, expected_counts, instead_of_zero, posteriors
from labelfix.scoring.scores import (
    fit_noise_matrix,
    score_labels,
    score_probabilities,
    temperature_of,
)
from labelfix.types import MISSING

RANGE = ScoringConfig().log_temperature_range


def test_em_recovers_the_noise_matrix_when_the_prior_is_right(pool):
    probs, given_label, _ = noisy_data(0, count=20_000)
    matrix = fit_noise_matrix(priors_of(probs, given_label, pool), ScoringConfig(), pool)
    expected = np.full((4, 4), 0.05)
    np.fill_diagonal(expected, 0.85)
    np.testing.assert_allclose(matrix, expected, atol=0.02)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)


def test_temperature_undoes_a_known_sharpening():
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(20_000, 5))
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    label = (np.exp(log_probs).cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    assert abs(temperature_of(log_probs, label, RANGE) - 1) < 0.05
    assert abs(temperature_of(3 * log_probs, label, RANGE) - 3) < 0.15


def test_wrong_labels_score_higher_than_right_ones():
    probs, given_label, true = noisy_data(2)
    scores = score_labels(evidence_of(probs), given_label)
    wrong = scores.label_error_probability
    is_wrong = given_label != true
    assert wrong[is_wrong].mean() > 0.6 > 0.2 > wrong[~is_wrong].mean()
    assert (scores.alternative_label != given_label).all()
    np.testing.assert_array_equal(scores.predicted_label, probs.argmax(axis=1))


def test_rows_that_were_not_scored_stay_so():
    probs, given_label, _ = noisy_data(3, count=200)
    probs[:5] = np.nan
    given_label[0] = MISSING
    scores = score_labels(evidence_of(probs), given_label)
    assert np.isnan(scores.label_error_probability[:5]).all()
    assert (scores.predicted_label[:5] == MISSING).all()
    assert np.isfinite(scores.label_error_probability[5:]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_scores_do_not_depend_on_the_order_of_samples_or_classes(seed):
    probs, given_label, _ = noisy_data(seed, count=300)
    rng = np.random.default_rng(seed)
    rows, classes = rng.permutation(300), rng.permutation(4)
    before = score_labels(evidence_of(probs), given_label)
    after = score_labels(
        evidence_of(probs[np.ix_(rows, classes)]), np.argsort(classes)[given_label[rows]]
    )
    np.testing.assert_allclose(
        after.label_error_probability, before.label_error_probability[rows], atol=2e-3
    )
    assert (after.label_error_probability >= 0).all()
    assert (after.label_error_probability <= 1).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 30), st.floats(0.3, 3), st.integers(1, 4000))
def test_a_pass_over_blocks_is_bayes_rule_on_each_row(seed, classes, temperature, count):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 0.3), count).astype(np.float32)
    given_label = rng.integers(0, classes, count)
    matrix = rng.dirichlet(np.ones(classes), classes)
    prior = np.maximum(probs.astype(np.float64), 1e-12) ** (1 / temperature)
    joint = prior * matrix.T[given_label]
    naive = joint / joint.sum(axis=1, keepdims=True)
    counts = np.zeros((classes, classes))
    np.add.at(counts.T, given_label, naive)

    with ThreadPoolExecutor(2) as threads:
        priors = priors_of(probs, given_label, threads, temperature)
        found = posteriors(priors, [matrix], threads)
        np.testing.assert_allclose(
            expected_counts(priors, matrix, threads), counts, rtol=1e-3, atol=1e-4
        )
    own = naive[np.arange(count), given_label]
    np.testing.assert_allclose(found.wrong, 1 - own, atol=1e-5)
    others = naive.copy()
    others[np.arange(count), given_label] = -1
    np.testing.assert_allclose(found.alternative_probability, others.max(axis=1), atol=1e-5)
    alternative = others[np.arange(count), found.alternative_label]
    np.testing.assert_allclose(alternative, others.max(axis=1), atol=1e-5)


def test_scores_depend_on_neither_the_threads_nor_the_layout(monkeypatch):
    probs, given_label, _ = noisy_data(4, count=3 * block_rows(4) // 4 + 7)
    probs = probs.astype(np.float32)
    rows = np.flatnonzero(np.arange(len(probs)) % 7)
    expected = score_probabilities(ArrayStore(probs), rows, given_label)
    layouts = [
        np.asfortranarray(probs),
        probs.astype(">f4"),
        probs.astype(np.float64),
        np.repeat(probs, 2, axis=0)[::2],
    ]
    for cores, values in zip((1, 2, 3, 8), layouts, strict=True):
        monkeypatch.setattr("labelfix.utils.threads.cores", lambda cores=cores: cores)
        found = score_probabilities(ArrayStore(values), rows, given_label)
        for name in ("label_error_probability", "alternative_probability", "noise_matrix"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
        for name in ("predicted_label", "alternative_label"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
        assert found.noise_rate == expected.noise_rate


def test_probabilities_of_nought_and_one_are_no_certainty():
    probs, given_label, true = noisy_data(5)
    hard = np.eye(4)[probs.argmax(axis=1)]
    scores = score_labels(evidence_of(hard), given_label)
    assert np.isfinite(scores.label_error_probability).all()
    assert np.isfinite(scores.noise_matrix).all()
    wrong = scores.label_error_probability
    assert wrong[given_label != true].mean() > wrong[given_label == true].mean()


@pytest.mark.parametrize("way", ["rounded", "top 2", "neighbor votes"])
def test_a_probability_of_zero_is_less_than_can_be_told_but_not_impossible(way):
    """What rounding, lists of top classes and neighbor votes cut off costs no more than it must."""
    probs, given_label, true = noisy_data(5, count=3000, classes=6, noise=0.3, sharpness=3.0)
    seen = 0.7 * probs + 0.05  # as a model that expects wrong labels sees them
    if way == "rounded":
        cut = (0.7 * probs + 0.04).round(1)
    elif way == "top 2":
        cut = np.where(seen < np.sort(seen, axis=1)[:, [-2]], 0, seen)
    else:
        rng = np.random.default_rng(0)
        cut = np.stack([rng.multinomial(12, row / row.sum()) for row in seen]) / 12
    assert (cut == 0).mean() > 0.1
    is_wrong = given_label != true
    scores = score_labels(evidence_of(cut), given_label)
    found = average_precision_score(is_wrong, scores.label_error_probability)
    plain = average_precision_score(is_wrong, -cut[np.arange(3000), given_label])
    assert found > plain - 0.01
    assert abs(scores.noise_rate - 0.3) < 0.12


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 5))
def test_what_stands_for_zero_equals_a_naive_loop(seed, count, classes):
    rng = np.random.default_rng(seed)
    probs = rng.multinomial(3, np.full(classes, 1 / classes), count).astype(np.float32) / 3
    given_label = rng.integers(0, classes, count)
    zeros = [
        (row, label) for row in range(count) for label in range(classes) if not probs[row, label]
    ]
    were_given = sum(given_label[row] == label for row, label in zeros)
    least = min(value for row in probs.tolist() for value in row if value)
    expected = min((were_given + 0.5) / (len(zeros) + 1), least) if zeros else LEAST_PROBABILITY
    assert instead_of_zero(probs, given_label) == pytest.approx(expected)
