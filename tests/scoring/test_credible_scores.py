"""Where few labels are wrong, few are said to be; what nobody was given is never suggested."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.config import FlagConfig, ScoringConfig
from labelfix.data.probability_store import ArrayStore
from labelfix.pipeline.probabilities import audit_pred_probs
from labelfix.report.io import read_report_table
from labelfix.scoring.flags import correct
from labelfix.scoring.scores import score_labels, score_probabilities, score_with_margins
from labelfix.types import MISSING, Evidence, Reviewed


def scored(probs, given_label):
    probs = np.asarray(probs, np.float32)
    scores = score_probabilities(ArrayStore(probs), np.arange(len(probs)), given_label)
    return scores, correct(scores, np.ones(len(probs), np.bool_), FlagConfig()).is_label_issue


def sure_probs(true, classes, kind, rng):
    """Return probabilities by which the classes are told apart: hard, all alike, or soft."""
    count = len(true)
    if kind == "hard":
        return np.eye(classes)[true]
    if kind == "alike":
        probs = np.full((count, classes), 0.01 / (classes - 1))
        probs[np.arange(count), true] = 0.99
        return probs
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), true] += 8
    probs = np.exp(logits)
    return probs / probs.sum(axis=1, keepdims=True)


def odd_labels(true, classes, odd, rng):
    """Return labels of which so many are wrong."""
    given_label = true.copy()
    rows = rng.choice(len(true), odd, replace=False)
    given_label[rows] = (given_label[rows] + rng.integers(1, classes, odd)) % classes
    return given_label


kinds = st.sampled_from(["hard", "alike", "soft"])
sizes = st.sampled_from(
    [(20, 2), (20, 8), (100, 10), (300, 40), (400, 100), (1500, 100), (3000, 4)]
)


@settings(max_examples=25, deadline=None)
@given(sizes, kinds, st.integers(0, 9), st.integers(0, 1000))
def test_the_noise_rate_of_classes_that_are_told_apart_is_that_of_their_odd_rows(
    size, kind, odd, seed
):
    count, classes = size
    odd = min(odd, count // 10)
    rng = np.random.default_rng([seed, count, classes])
    true = rng.integers(0, classes, count)
    given_label = odd_labels(true, classes, odd, rng)
    scores, flags = scored(sure_probs(true, classes, kind, rng), given_label)
    assert scores.noise_rate <= odd / count + 0.01
    assert scores.noise_rate_interval[0] <= odd / count + 1e-6
    assert scores.noise_rate_interval[1] <= odd / count + 0.03 + 4 * np.sqrt(odd) / count
    assert (scores.label_error_probability[flags] >= FlagConfig().least_probability).all()
    assert not flags[given_label == true].any()


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([(3000, 2, 7), (3000, 10, 7), (800, 3, 4), (300, 2, 3), (1000, 10, 1)]),
    st.sampled_from([4.0, 8.0]),
    st.booleans(),
    st.integers(0, 1000),
)
def test_a_rare_class_does_not_make_labels_wrong(size, sharpness, knows_it_is_rare, seed):
    count, classes, rare = size
    rng = np.random.default_rng([seed, count, classes])
    true = rng.integers(0, classes - 1, count)
    true[rng.choice(count, rare, replace=False)] = classes - 1
    given_label = odd_labels(true, classes, round(0.002 * count), rng)
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), true] += sharpness
    if knows_it_is_rare:
        logits += np.log((np.bincount(true, minlength=classes) + 0.1) / count)
    probs = np.exp(logits)
    scores, flags = scored(probs / probs.sum(axis=1, keepdims=True), given_label)
    assert scores.noise_rate < 0.03
    assert flags.sum() < 0.03 * count + 5


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([(60, 3), (300, 10), (300, 100), (3000, 10)]),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.integers(0, 1000),
)
def test_what_a_doubtful_model_says_of_labels_stays_below_its_doubt(size, rate, seed):
    count, classes = size
    rng = np.random.default_rng([seed, count, classes])
    logits = 3 * rng.normal(size=(count, classes))
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    true = (probs.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    given_label = odd_labels(true, classes, round(rate * count), rng)
    scores, _ = scored(probs, given_label)
    doubt = 1 - probs[np.arange(count), given_label].mean()
    assert scores.noise_rate < doubt
    assert scores.noise_rate_interval[0] <= max(rate, 0.6 * doubt)


@pytest.mark.parametrize("classes", [2, 10])
def test_labels_that_a_model_agrees_with_are_not_flagged(classes):
    true = np.random.default_rng(0).integers(0, classes, 2000)
    scores, flags = scored(sure_probs(true, classes, "alike", None), true)
    assert not flags.any()
    assert scores.noise_rate < 1e-3


def test_the_same_evidence_gets_the_same_flag():
    rng = np.random.default_rng(1)
    kinds = rng.dirichlet(np.full(7, 0.4), 23)
    row = rng.integers(0, 23, 2001)
    given_label = (kinds.argmax(axis=1)[row] + (rng.random(2001) < 0.3)) % 7
    scores, flags = scored(kinds[row], given_label)
    for one in range(23):
        for label in range(7):
            same = (row == one) & (given_label == label)
            if same.any():
                assert np.ptp(scores.label_error_probability[same]) < 1e-6
    for value in np.unique(scores.label_error_probability):
        assert len(set(flags[scores.label_error_probability == value])) == 1


def evidence_of(probs, margin):
    count = len(probs)
    return Evidence(
        np.asarray(probs, np.float32),
        np.zeros(count, np.int16),
        margin.astype(np.float32),
        np.zeros(count, np.int64),
    )


@settings(max_examples=12, deadline=None)
@given(
    st.integers(2, 9),
    st.integers(1, 4),
    st.floats(0.1, 5),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1000),
)
def test_a_class_that_nobody_was_given_is_never_suggested(
    classes, unknown, sharpness, is_sparse, is_reviewed, seed
):
    rng = np.random.default_rng(seed)
    count = 120
    names = rng.permutation(classes + unknown)
    known = np.sort(names[:classes])
    probs = rng.dirichlet(np.full(classes + unknown, 1 / sharpness), count)
    given_label = known[np.append(np.arange(classes), rng.integers(0, classes, count - classes))]
    reviewed = None
    if is_reviewed:
        label = np.full(count, MISSING)
        label[:3] = names[-1]
        reviewed = Reviewed(label, np.arange(count) == 5)
    evidence = evidence_of(probs, rng.normal(size=count))
    config = ScoringConfig(dense_classes=1) if is_sparse else ScoringConfig()
    for score in (score_labels, score_with_margins):
        scores = score(evidence, given_label, reviewed, config=config)
        asked = np.arange(count) >= (3 if is_reviewed else 0)
        assert np.isin(scores.predicted_label, known).all()
        assert np.isin(scores.alternative_label[asked], known).all()
        assert (scores.alternative_label != given_label).all()
        if is_reviewed:
            assert (scores.alternative_label[:3] == names[-1]).all()
            np.testing.assert_array_equal(scores.label_error_probability[:3], 1)
            np.testing.assert_array_equal(scores.alternative_probability[:3], 1)
        matrix = scores.noise.whole(scores.noise.probability)
        np.testing.assert_array_equal(
            matrix[names[classes:]], np.eye(classes + unknown)[names[classes:]]
        )
        assert not matrix[np.ix_(known, names[classes:])].any()
    plain = score_labels(
        evidence_of(probs[:, known], evidence.margin), np.searchsorted(known, given_label)
    )
    if not is_reviewed and not is_sparse:
        again = score_labels(evidence, given_label)
        np.testing.assert_array_equal(again.label_error_probability, plain.label_error_probability)


def test_where_all_samples_were_given_one_class_there_is_nothing_to_suggest():
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    given_label = np.full(50, 1)
    scores, flags = scored(probs, given_label)
    assert not flags.any()
    assert (scores.alternative_label == MISSING).all()
    np.testing.assert_array_equal(scores.label_error_probability, 0)


def test_probabilities_of_a_class_that_nobody_was_given_are_left_out_and_said_so(tmp_path):
    rng = np.random.default_rng(3)
    true = rng.integers(0, 3, 200)
    logits = rng.normal(size=(200, 4)) + 5 * np.eye(4)[true]
    logits[:6, 3] += 9
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = np.array(["cat", "dog", "hen", "zebra"])
    np.savez(tmp_path / "p.npz", pred_probs=probs, labels=true, class_names=names)
    run = audit_pred_probs(tmp_path / "p.npz", tmp_path / "run", budget=50).run
    report = read_report_table(run)
    assert "zebra" not in report.table["suggested_label"].to_pylist()
    assert "zebra" not in report.table["predicted_label"].to_pylist()
    assert any("zebra" in found.text for found in report.run.assumptions)
