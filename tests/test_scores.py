import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.records import MISSING, Evidence
from labelfix.scores import fit_noise_matrix, score_labels, temperature_of


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


def test_em_recovers_the_noise_matrix_when_the_prior_is_right():
    probs, given_label, _ = noisy_data(0, count=20_000)
    matrix = fit_noise_matrix(probs, given_label)
    expected = np.full((4, 4), 0.05)
    np.fill_diagonal(expected, 0.85)
    np.testing.assert_allclose(matrix, expected, atol=0.02)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)


def test_temperature_undoes_a_known_sharpening():
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(20_000, 5))
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    label = (np.exp(log_probs).cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    assert abs(temperature_of(log_probs, label) - 1) < 0.05
    assert abs(temperature_of(3 * log_probs, label) - 3) < 0.15


def test_wrong_labels_score_higher_than_right_ones():
    probs, given_label, true = noisy_data(2)
    scores = score_labels(evidence_of(probs), given_label)
    wrong = scores.label_error_probability
    is_wrong = given_label != true
    assert wrong[is_wrong].mean() > 0.6 > 0.2 > wrong[~is_wrong].mean()
    assert (scores.alternative_label != given_label).all()
    np.testing.assert_array_equal(scores.predicted_label, probs.argmax(axis=1))


def test_rows_that_were_not_judged_stay_so():
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
