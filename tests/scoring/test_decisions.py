"""What decisions of people make of the scores."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noisy_evidence import evidence_of, noisy_data, priors_of
from sklearn.metrics import average_precision_score

from labelfix.scoring.decisions import (
    ReviewedSamples,
    posterior_over_noise_models,
    rerank_scores,
)
from labelfix.scoring.priors import posteriors
from labelfix.scoring.scores import score_labels
from labelfix.types import MISSING, Reviewed


def reviewed_of(count, labels=(), dropped=()):
    label, is_dropped = np.full(count, MISSING), np.zeros(count, bool)
    for row, code in dict(labels).items():
        label[row] = code
    is_dropped[list(dropped)] = True
    return Reviewed(label, is_dropped)


def reviewed_by_truth(scores, true, count):
    worst = np.argsort(-scores.label_error_probability, kind="stable")[:count]
    return reviewed_of(len(true), {row: true[row] for row in worst.tolist()}), worst


def test_no_decisions_change_nothing():
    probs, given_label, _ = noisy_data(0)
    plain = score_labels(evidence_of(probs), given_label)
    empty = score_labels(evidence_of(probs), given_label, Reviewed.nothing(len(probs)))
    for one, other in ((plain, empty), (plain.noise, empty.noise)):
        for field in fields(one):
            if field.name != "noise":
                np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_reviewed_samples_are_sure_and_the_noise_rate_counts_them_so():
    probs, given_label, true = noisy_data(1, count=600)
    is_wrong = given_label != true
    labels = {row: true[row] for row in range(200)}
    reviewed = reviewed_of(600, labels, dropped=[300, 301])
    scores = score_labels(evidence_of(probs), given_label, reviewed)
    wrong = scores.label_error_probability
    np.testing.assert_array_equal(wrong[:200], is_wrong[:200])
    np.testing.assert_array_equal(scores.alternative_probability[:200], is_wrong[:200])
    moved = np.flatnonzero(is_wrong[:200])
    np.testing.assert_array_equal(scores.alternative_label[moved], true[moved])
    np.testing.assert_array_equal(wrong[[300, 301]], 1)
    np.testing.assert_array_equal(scores.alternative_probability[[300, 301]], 0)
    assert (scores.alternative_label != given_label).all()
    assert scores.noise_rate == pytest.approx(wrong.mean(dtype=np.float64))
    low, high = scores.noise_rate_interval
    assert low <= scores.noise_rate <= high
    np.testing.assert_array_equal(scores.predicted_label, probs.argmax(axis=1))


def test_decisions_on_samples_that_are_not_scored_are_left_alone():
    probs, given_label, _ = noisy_data(2, count=300)
    probs[:9] = np.nan
    reviewed = reviewed_of(300, {0: 1, 1: 2}, dropped=[2])
    scores = score_labels(evidence_of(probs), given_label, reviewed)
    assert np.isnan(scores.label_error_probability[:9]).all()
    plain = score_labels(evidence_of(probs), given_label)
    np.testing.assert_array_equal(scores.noise_matrix, plain.noise_matrix)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 9), st.integers(1, 60))
def test_a_hypothesis_weighs_what_a_naive_loop_finds(seed, classes, count):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 0.5), 100).astype(np.float32)
    given_label = rng.integers(0, classes, 100)
    rows = rng.choice(100, count, replace=False)
    labels = {int(row): int(rng.integers(0, classes)) for row in rows}
    reviewed = reviewed_of(100, labels, dropped=set(range(100)) - set(labels))
    matrices = [rng.dirichlet(np.ones(classes), classes) for _ in range(3)]
    with ThreadPoolExecutor(1) as pool:
        priors = priors_of(probs, given_label, pool)
        found = posterior_over_noise_models(
            ReviewedSamples.on(priors, reviewed, np.arange(100)), matrices, error_rate=0.01
        )

    likelihood = []
    for number, matrix in enumerate(matrices):
        total = 0.0
        for row, label in labels.items():
            prior = [float(p) ** 2**number for p in probs[row]]
            joint = [p * matrix[k][given_label[row]] for k, p in enumerate(prior)]
            said = 0.01 + 0.98 * joint[label] / sum(joint)
            total += math.log(said)
        likelihood.append(total)
    weights = np.exp(likelihood) / np.exp(likelihood).sum()
    np.testing.assert_allclose(found / 3, weights, rtol=1e-3, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 9))
def test_the_posterior_is_the_weighted_mean_over_hypotheses(seed, classes):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 0.5), 200).astype(np.float32)
    given_label = rng.integers(0, classes, 200)
    matrices = [rng.dirichlet(np.ones(classes), classes) for _ in range(3)]
    weights = 3 * rng.dirichlet(np.ones(3))
    naive = np.zeros((200, classes))
    for number, (matrix, weight) in enumerate(zip(matrices, weights, strict=True)):
        joint = probs.astype(np.float64) ** 2**number * matrix.T[given_label]
        naive += weight / 3 * joint / joint.sum(axis=1, keepdims=True)
    with ThreadPoolExecutor(1) as pool:
        found = posteriors(priors_of(probs, given_label, pool), matrices, pool, weights)
    np.testing.assert_allclose(
        found.wrong, 1 - naive[np.arange(200), given_label], rtol=1e-3, atol=1e-5
    )


def test_the_rest_is_ranked_better_with_decisions_than_without():
    """A model that takes one class for another, and given labels that do so too."""
    rng = np.random.default_rng(3)
    true = rng.integers(0, 4, 6000)
    given_label = np.where((rng.random(6000) < 0.3) & (true == 0), 1, true)
    logits = 0.7 * rng.normal(size=(6000, 4))
    logits[np.arange(6000), true] += 2.5
    logits[true == 0, 1] += 2.0
    probs = np.exp(logits)
    probs /= probs.sum(axis=1, keepdims=True)
    before = score_labels(evidence_of(probs), given_label)
    reviewed, worst = reviewed_by_truth(before, true, 200)
    after = score_labels(evidence_of(probs), given_label, reviewed)
    rest = np.delete(np.arange(6000), worst)
    is_wrong = (given_label != true)[rest]
    found = [
        average_precision_score(is_wrong, scores.label_error_probability[rest])
        for scores in (before, after)
    ]
    assert found[1] > found[0]
    low, high = after.noise_rate_interval
    assert low <= (given_label != true).mean() <= high


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_the_same_probabilities_are_dealt_to_all_that_nobody_looked_at(seed):
    probs, given_label, true = noisy_data(seed, count=300)
    rows = np.random.default_rng(seed).choice(300, 30, replace=False)
    reviewed = reviewed_of(300, {row: true[row] for row in rows.tolist()})
    matrices = [np.full((4, 4), 0.1) + 0.6 * np.eye(4)] * 2
    with ThreadPoolExecutor(1) as pool:
        priors = priors_of(probs, given_label, pool)
        actions = ReviewedSamples.on(priors, reviewed, np.arange(300))
        scored = posteriors(priors, matrices, pool)
        weighted = posteriors(priors, matrices, pool, np.array([0.1, 1.9]))
    ranked = rerank_scores(scored, weighted, actions)
    rest = np.delete(np.arange(300), rows)
    np.testing.assert_array_equal(np.sort(ranked.wrong[rest]), np.sort(scored.wrong[rest]))
    order = np.lexsort((scored.wrong[rest], weighted.wrong[rest]))  # float32 has equals
    assert (np.diff(ranked.wrong[rest][order]) >= 0).all()
    np.testing.assert_array_equal(ranked.wrong[rows], scored.wrong[rows])
    assert (ranked.alternative_probability <= ranked.wrong).all()
    np.testing.assert_allclose(ranked.under.mean(axis=0), ranked.wrong, atol=1e-6)
    np.testing.assert_array_equal(np.sort(ranked.under), np.sort(scored.under))


def test_a_sharp_hypothesis_that_rules_all_others_out_leaves_numbers():
    probs, given_label, true = noisy_data(7, count=2000, sharpness=30.0)
    scores = score_labels(evidence_of(probs), given_label)
    reviewed, _ = reviewed_by_truth(scores, true, 1000)
    after = score_labels(evidence_of(probs), given_label, reviewed)
    assert np.isfinite(after.alternative_probability).all()
    assert (after.alternative_probability <= after.label_error_probability).all()


def test_one_slip_rules_no_hypothesis_out():
    probs = np.array([[1, 0], [0, 1]], np.float32)
    given_label = np.array([0, 1])
    matrices = [np.full((2, 2), 0.5), np.array([[0.999, 0.001], [0.001, 0.999]])]
    with ThreadPoolExecutor(1) as pool:
        priors = priors_of(probs, given_label, pool)
        slip = ReviewedSamples.on(priors, reviewed_of(2, {0: 1}), np.arange(2))
        weights = posterior_over_noise_models(slip, matrices, error_rate=0.01)
    np.testing.assert_allclose(weights, 1, atol=0.01)


def test_a_decision_on_one_order_of_the_samples_is_one_on_any():
    probs, given_label, true = noisy_data(6, count=400)
    reviewed, _ = reviewed_by_truth(score_labels(evidence_of(probs), given_label), true, 40)
    order = np.random.default_rng(0).permutation(400)
    before = score_labels(evidence_of(probs), given_label, reviewed)
    moved = replace(reviewed, label=reviewed.label[order], is_dropped=reviewed.is_dropped[order])
    after = score_labels(evidence_of(probs[order]), given_label[order], moved)
    np.testing.assert_allclose(
        after.label_error_probability, before.label_error_probability[order], atol=3e-3
    )
