"""Scores of whole networks: probabilities of what was not seen, margins of what was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

from labelfix.scoring.scores import in_order_of_both, score_labels, score_with_margins
from labelfix.types import MISSING, Evidence, Reviewed

UNIT = st.floats(0, 1, width=32)
LOGITS = st.floats(-20, 20, width=32)


def evidence_of(size, classes=4, seed=0):
    """Two views of the same truth, each noisy for itself."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, size)
    given_label = np.where(rng.random(size) < 0.2, rng.integers(0, classes, size), truth)
    logits = rng.normal(0, 1.5, (size, classes))
    logits[np.arange(size), truth] += 2
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    margin = np.where(given_label == truth, 1.0, -1.0) + rng.normal(0, 1, size)
    evidence = Evidence(
        pred_probs=probs.astype(np.float32),
        fold=np.zeros(size, np.int16),
        margin=margin.astype(np.float32),
        self_label=given_label,
    )
    return evidence, given_label, truth


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 60).flatmap(
        lambda n: st.tuples(
            arrays(np.float32, n, elements=UNIT), arrays(np.float32, n, elements=LOGITS)
        )
    )
)
def test_the_same_probabilities_are_dealt_in_the_order_of_both_ranks(pair):
    wrong, margin = pair
    ranked = wrong[in_order_of_both(wrong, margin, 0.5)]
    assert np.array_equal(np.sort(ranked), np.sort(wrong))
    ranks = rankdata(wrong) + rankdata(-margin)
    for one in range(len(wrong)):
        for other in range(len(wrong)):
            if ranks[one] < ranks[other]:
                assert ranked[one] <= ranked[other]


def test_both_views_together_find_more_than_either():
    evidence, given_label, truth = evidence_of(4000)
    is_wrong = given_label != truth
    found = average_precision_score(
        is_wrong, score_with_margins(evidence, given_label).label_error_probability
    )
    alone = score_labels(evidence, given_label).label_error_probability
    assert found > average_precision_score(is_wrong, alone) + 0.02
    assert found > average_precision_score(is_wrong, -evidence.margin) + 0.02


def test_how_many_are_wrong_stays_and_alternatives_fit():
    evidence, given_label, _ = evidence_of(500)
    before, after = score_labels(evidence, given_label), score_with_margins(evidence, given_label)
    assert after.noise_rate == before.noise_rate
    np.testing.assert_allclose(
        after.under_hypotheses.mean(axis=0), after.label_error_probability, atol=1e-6
    )
    assert after.label_error_probability.sum() == pytest.approx(
        before.label_error_probability.sum(), rel=1e-5
    )
    assert np.all(after.alternative_probability <= after.label_error_probability)
    assert np.array_equal(after.alternative_label, before.alternative_label)


def test_a_sample_that_no_network_was_trained_on_keeps_its_probability():
    evidence, given_label, _ = evidence_of(300)
    margin = evidence.margin.copy()
    margin[:50] = np.nan
    probs = evidence.pred_probs.copy()
    probs[-10:] = np.nan  # not scored
    evidence = Evidence(probs, evidence.fold, margin, evidence.self_label)
    before, after = score_labels(evidence, given_label), score_with_margins(evidence, given_label)
    assert np.array_equal(after.label_error_probability[:50], before.label_error_probability[:50])
    assert np.isnan(after.label_error_probability[-10:]).all()
    assert not np.array_equal(
        after.label_error_probability[50:-10], before.label_error_probability[50:-10]
    )


def test_what_people_decided_stands_whatever_the_margin():
    evidence, given_label, truth = evidence_of(400)
    label = np.full(400, MISSING)
    label[:100] = truth[:100]
    is_dropped = np.arange(400) == 200
    scores = score_with_margins(evidence, given_label, Reviewed(label, is_dropped))
    wrong = scores.label_error_probability
    assert np.array_equal(wrong[:100], (given_label != truth)[:100])
    assert np.array_equal(scores.alternative_probability[:100], wrong[:100])
    assert wrong[200] == 1
    assert ((wrong[201:] > 0) & (wrong[201:] < 1)).all()
