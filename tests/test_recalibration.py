"""What decisions of people make of the scores."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.label_priors import posteriors
from labelfix.recalibration import (
    CURVE_SPREAD,
    EVIDENCE,
    SLIPS,
    Recalibration,
    Verdicts,
    recalibrate,
)
from labelfix.records import MISSING, Reviewed
from labelfix.scores import score_labels
from test_scores import evidence_of, noisy_data, priors_of


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
    for field in fields(plain):
        np.testing.assert_array_equal(getattr(plain, field.name), getattr(empty, field.name))


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


def test_decisions_on_samples_that_are_not_judged_are_left_alone():
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
        found = recalibrate(Verdicts.on(priors, reviewed, np.arange(100)), matrices)

    likelihood = []
    for number, matrix in enumerate(matrices):
        total = 0.0
        for row, label in labels.items():
            prior = [float(p) ** 2**number for p in probs[row]]
            joint = [p * matrix[k][given_label[row]] for k, p in enumerate(prior)]
            said = SLIPS + (1 - 2 * SLIPS) * joint[label] / sum(joint)
            total += math.log(said) * EVIDENCE / (EVIDENCE + count)
        likelihood.append(total)
    weights = np.exp(likelihood) / np.exp(likelihood).sum()
    np.testing.assert_allclose(found.shares / 3, weights, rtol=1e-3, atol=1e-6)


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


def test_the_rest_is_judged_better_with_decisions_than_without():
    """A model that is surer than it should be: half of its worst suspects are clean."""
    rng = np.random.default_rng(3)
    true = rng.integers(0, 4, 6000)
    given_label = np.where(rng.random(6000) < 0.1, (true + 1) % 4, true)
    logits = rng.normal(size=(6000, 4))
    logits[np.arange(6000), true] += 2.0
    probs = np.exp(logits * 1.5)
    probs /= probs.sum(axis=1, keepdims=True)
    before = score_labels(evidence_of(probs), given_label)
    reviewed, worst = reviewed_by_truth(before, true, 300)
    after = score_labels(evidence_of(probs), given_label, reviewed)
    rest = np.delete(np.arange(6000), worst)
    is_wrong = (given_label != true)[rest]

    def brier(scores):
        return ((scores.label_error_probability[rest] - is_wrong) ** 2).mean()

    assert brier(after) < brier(before)
    low, high = after.noise_rate_interval
    assert low <= (given_label != true).mean() <= high


def test_a_curve_keeps_the_order_and_the_shares_of_the_alternatives():
    probs, given_label, _ = noisy_data(4, count=500)
    with ThreadPoolExecutor(1) as pool:
        judged = posteriors(priors_of(probs, given_label, pool), [np.full((4, 4), 0.25)], pool)
    bent = Recalibration(np.ones(1), shift=-0.7, slope=0.8).apply(judged)
    order = np.argsort(judged.wrong, kind="stable")
    assert (np.diff(bent.wrong[order]) >= 0).all()
    assert (bent.alternative_probability <= bent.wrong).all()
    share = judged.alternative_probability / judged.wrong
    some = judged.wrong > 0.01
    np.testing.assert_allclose(
        (bent.alternative_probability / bent.wrong)[some], share[some], rtol=1e-4
    )
    odds = judged.wrong / (1 - judged.wrong)
    expected = math.exp(-0.7) * odds**0.8
    middle = (judged.wrong > 0.01) & (judged.wrong < 0.99)
    np.testing.assert_allclose((bent.wrong / (1 - bent.wrong))[middle], expected[middle], rtol=1e-3)


def test_few_decisions_hardly_move_the_curve_and_one_slip_rules_nothing_out():
    probs, given_label, _ = noisy_data(5)
    before = score_labels(evidence_of(probs), given_label)
    surest = int(np.argmax(before.label_error_probability))
    slip = reviewed_of(len(probs), {surest: given_label[surest]})
    after = score_labels(evidence_of(probs), given_label, slip)
    assert np.isfinite(after.label_error_probability).all()
    rest = np.arange(len(probs)) != surest
    change = np.abs(after.label_error_probability - before.label_error_probability)[rest]
    assert change.max() < 0.3
    assert (CURVE_SPREAD > 0).all()


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
