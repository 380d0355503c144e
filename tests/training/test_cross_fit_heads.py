import numpy as np
import pytest
import torch
from frozen_blobs import blobs, features_of, score_all
from hypothesis import given as given_that
from hypothesis import settings
from hypothesis import strategies as st

from labelfix.config import HeadConfig
from labelfix.errors import TrainingError
from labelfix.training.cross_fit_heads import cross_fit_heads
from labelfix.training.heads import LinearHeads, scale_features
from labelfix.types import MISSING, FoldAssignment

CONFIG = HeadConfig(epochs=3, least_steps=60)
CLOSED_FORM = HeadConfig(least_steps=60, first_steps=20, trained_classes=1)
BOTH = pytest.mark.parametrize("config", [CONFIG, CLOSED_FORM], ids=["trained", "closed form"])
CPU = torch.device("cpu")


def fit(values, given, assignment, classes=3, seed=0, trusted_label=None, config=CONFIG):
    return cross_fit_heads(
        features_of(values),
        given,
        assignment,
        classes=classes,
        config=config,
        seed=seed,
        device=CPU,
        trusted_label=trusted_label,
    )


@BOTH
def test_wrong_labels_are_outvoted(config):
    values, given, true = blobs()
    evidence = fit(values, given, score_all(len(given)), config=config)
    assert (evidence.pred_probs.argmax(axis=1) == true).mean() > 0.97
    np.testing.assert_allclose(evidence.pred_probs.sum(axis=1), 1, atol=1e-4)
    corrected = evidence.self_label != given
    assert corrected.sum() > 10
    assert (evidence.self_label[corrected] == true[corrected]).all()


def test_margins_tell_wrong_labels_and_the_closed_form_has_none():
    values, given, true = blobs()
    margin = fit(values, given, score_all(len(given))).margin
    wrong = given != true
    assert margin[wrong].mean() < 0 < margin[~wrong].mean()
    assert np.isnan(fit(values, given, score_all(len(given)), config=CLOSED_FORM).margin).all()


@pytest.mark.parametrize(("config", "changes"), [(CONFIG, 40), (CLOSED_FORM, 1)])
def test_a_label_has_no_influence_on_its_own_probabilities(config, changes):
    """The guarantee of out-of-sample probabilities, of the beliefs that guide training included."""
    values, given, _ = blobs(1, count=200)
    assignment = score_all(len(given))
    before = fit(values, given, assignment, config=config).pred_probs
    held_out = assignment.fold == 2
    changed = given.copy()
    some = np.flatnonzero(held_out)[:changes]
    changed[some] = (changed[some] + 1) % 3
    # settings are chosen among few for all folds, the scale on features alone: so few labels decide
    # neither
    after = fit(values, changed, assignment, config=config).pred_probs
    np.testing.assert_array_equal(before[held_out], after[held_out])
    assert np.abs(before[~held_out] - after[~held_out]).max() > 0.01


def trusting(rows, labels, count):
    trusted = np.full(count, MISSING)
    trusted[rows] = labels
    return trusted


@settings(max_examples=8, deadline=None)
@given_that(st.integers(0, 1000), st.sampled_from([CONFIG, CLOSED_FORM]))
def test_trusted_labels_are_trained_on_as_they_are(seed, config):
    """Right or absurd: a person has the last word."""
    values, given, _ = blobs(seed, count=150)
    rng = np.random.default_rng(seed)
    rows = rng.choice(150, 30, replace=False)
    labels = rng.integers(0, 3, 30)
    trusted = trusting(rows, labels, 150)
    evidence = fit(values, given, score_all(150), trusted_label=trusted, config=config)
    np.testing.assert_array_equal(evidence.self_label[rows], labels)


def test_trusted_labels_teach_the_others_and_not_their_own_verdict():
    values, given, true = blobs(7, noise=0.4)
    rows = np.flatnonzero(given != true)[::2]
    plan = score_all(len(given))
    before = fit(values, given, plan)
    after = fit(values, given, plan, trusted_label=trusting(rows, true[rows], len(given)))
    rest = np.setdiff1d(np.arange(len(given)), rows)

    def sureness(evidence):
        return evidence.pred_probs[rest, true[rest]].mean()

    assert sureness(after) > sureness(before)
    held_out = rows[plan.fold[rows] == 2]  # the radius is chosen on fold 0
    other = trusting(rows, true[rows], len(given))
    other[held_out] = (other[held_out] + 1) % 3
    changed = fit(values, given, plan, trusted_label=other)
    in_fold = plan.fold == 2
    np.testing.assert_array_equal(after.pred_probs[in_fold], changed.pred_probs[in_fold])
    assert np.abs(after.pred_probs[~in_fold] - changed.pred_probs[~in_fold]).max() > 0.01


def test_trusting_given_labels_leaves_margins_of_the_given_ones():
    values, given, true = blobs(8)
    plan = score_all(len(given))
    evidence = fit(values, given, plan, trusted_label=true)
    wrong = given != true
    assert evidence.margin[wrong].max() < 0 < evidence.margin[~wrong].mean()
    nobody = fit(values, given, plan, trusted_label=np.full(len(given), MISSING))
    np.testing.assert_array_equal(nobody.pred_probs, fit(values, given, plan).pred_probs)


@BOTH
def test_two_runs_are_bit_for_bit_equal_and_another_seed_is_not(config):
    values, given, _ = blobs(2, noise=0.3)
    assignment = score_all(len(given))
    first, second = (fit(values, given, assignment, config=config) for _ in range(2))
    np.testing.assert_array_equal(first.pred_probs, second.pred_probs)
    np.testing.assert_array_equal(first.margin, second.margin)
    other = fit(values, given, assignment, seed=1, config=config)
    if config is CONFIG:  # in closed form nothing is drawn as long as every sample may vote
        assert not np.array_equal(first.pred_probs, other.pred_probs)


@BOTH
def test_samples_that_train_nothing_are_scored_by_all_heads(config):
    values, given, true = blobs(3)
    assignment = score_all(len(given))
    fold = assignment.fold.copy()
    fold[:50] = MISSING
    is_scored = assignment.is_scored.copy()
    is_scored[:10] = False
    assignment = FoldAssignment(is_scored=is_scored, fold=fold, exclusion_reason={})
    evidence = fit(values, given, assignment, config=config)
    assert np.isnan(evidence.pred_probs[:10]).all()
    assert (evidence.pred_probs[10:50].argmax(axis=1) == true[10:50]).mean() > 0.9
    assert (evidence.self_label[:50] == MISSING).all()


@BOTH
def test_a_class_without_scored_samples_gets_probability_0(config):
    values, given, _ = blobs(4)
    evidence = fit(values, given + 1, score_all(len(given)), classes=5, config=config)
    assert (evidence.pred_probs[:, [0, 4]] == 0).all()
    np.testing.assert_allclose(evidence.pred_probs.sum(axis=1), 1, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "told"),
    [(CONFIG, "the loss of the heads is nan"), (CLOSED_FORM, "the features are not all finite")],
)
def test_infinite_features_stop_training_with_a_clear_error(config, told):
    values, given, _ = blobs(5, count=100)
    values[3, 2] = np.inf
    with pytest.raises(TrainingError, match=told), np.errstate(all="ignore"):
        fit(values, given, score_all(len(given)), config=config)


def test_scaled_features_have_mean_0_and_mean_square_norm_1_and_ignore_constants():
    values, _, _ = blobs(6)
    values = np.concatenate([values, np.full((len(values), 1), 7, np.float16)], axis=1)
    rows = np.arange(0, len(values), 2)
    scaled = scale_features(values, rows, CPU).batch(rows)
    np.testing.assert_allclose(scaled.mean(dim=0), 0, atol=1e-5)
    share = (values.shape[1] - 1) / values.shape[1]
    np.testing.assert_allclose(float(scaled.pow(2).sum(dim=1).mean()), share, rtol=1e-3)
    assert bool((scaled[:, -1] == 0).all())


def test_heads_side_by_side_equal_heads_alone():
    heads = LinearHeads(3, 6, 4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        heads.weight.copy_(torch.randn(3, 4, 6, generator=generator))
        heads.bias.copy_(torch.randn(3, 4, generator=generator))
    inputs = torch.randn(5, 6, generator=generator)
    alone = torch.stack(
        [inputs @ weight.T + bias for weight, bias in zip(heads.weight, heads.bias, strict=True)], 1
    )
    torch.testing.assert_close(heads(inputs), alone)


def test_small_heads_are_trained_by_one_thread_and_the_others_come_back():
    values, given, _ = blobs(5, count=60)
    seen = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        cross_fit_heads(
            features_of(values),
            given,
            score_all(60),
            classes=3,
            config=CONFIG,
            seed=0,
            device=CPU,
            on_progress=lambda step: seen.append((step.unit, torch.get_num_threads())),
        )
        assert {threads for unit, threads in seen if unit == "epochs"} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
