"""Which labels and which samples whole networks are trained on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fitted_pictures import CLASSES, NO_SELF_LABELING, fit_pictures, noisy_pictures, score_all

from labelfix.config import SelfLabelingConfig
from labelfix.data.trusted_labels import plan_with
from labelfix.types import MISSING, Reviewed

COUNT = 60
EAGER = {"correct_from": 2, "reweight_from": 2, "threshold": 0.4}
RULES = {
    "off": NO_SELF_LABELING,
    "safe": SelfLabelingConfig(**EAGER, floor=0.1),
    "paper": SelfLabelingConfig.paper(**EAGER),
}


def another_class(label):
    return (label + 1) % CLASSES


def trusting(rows, labels):
    trusted = np.full(COUNT, MISSING)
    trusted[rows] = labels
    return trusted


def same_networks(one, other):
    """Whether the networks of fold 0 are the same, bit for bit."""
    return all(
        torch.equal(value, other.model_state[name]) for name, value in one.model_state.items()
    )


def test_networks_that_trust_decided_labels_are_those_of_data_that_came_with_them(tmp_path):
    inputs, given, true = noisy_pictures(COUNT)
    rows = np.flatnonzero(given != true)
    assert len(rows) > 5
    plan = score_all(COUNT)
    trusted = trusting(rows, true[rows])
    decided = fit_pictures(inputs, given, plan, tmp_path / "decided", trusted_label=trusted)
    clean = fit_pictures(inputs, true, plan, tmp_path / "clean")
    noisy = fit_pictures(inputs, given, plan, tmp_path / "noisy")
    assert same_networks(decided, clean)
    assert not same_networks(decided, noisy)
    np.testing.assert_array_equal(decided.evidence.pred_probs, clean.evidence.pred_probs)
    np.testing.assert_array_equal(decided.evidence.self_label, true)
    # margins stay those of the given labels: training on the right ones lowers them
    assert (decided.evidence.margin[rows] < 0).all()
    assert decided.evidence.margin[rows].mean() < noisy.evidence.margin[rows].mean()
    rest = np.setdiff1d(np.arange(COUNT), rows)
    np.testing.assert_array_equal(decided.evidence.margin[rest], clean.evidence.margin[rest])


@pytest.mark.parametrize("name", RULES)
def test_no_rule_corrects_a_decided_label(name, tmp_path):
    """Right or absurd: a person has the last word, though the network believes otherwise."""
    inputs, given, true = noisy_pictures(COUNT)
    rows = np.arange(0, COUNT, 5)
    trusted = trusting(rows, another_class(true[rows]))
    fitted = fit_pictures(
        inputs,
        given,
        score_all(COUNT),
        tmp_path,
        trusted_label=trusted,
        rules=RULES[name],
        epochs=3,
    )
    np.testing.assert_array_equal(fitted.evidence.self_label[rows], trusted[rows])
    others = np.setdiff1d(np.arange(COUNT), rows)
    is_corrected = fitted.evidence.self_label[others] != given[others]
    assert is_corrected.any() == (name != "off"), "the rules do correct where nobody decided"


def test_a_decided_label_has_no_say_on_its_own_probabilities(tmp_path):
    inputs, given, true = noisy_pictures(COUNT)
    plan = score_all(COUNT)
    rows = np.arange(0, COUNT, 5)
    held_out = plan.fold == 1
    found = []
    for name, shift in (("one", 0), ("other", 1)):
        trusted = trusting(rows, true[rows])
        own = rows[held_out[rows]]
        trusted[own] = (trusted[own] + shift) % CLASSES
        fitted = fit_pictures(
            inputs, given, plan, tmp_path / name, trusted_label=trusted, rules=RULES["safe"]
        )
        found.append(fitted.evidence.pred_probs)
    np.testing.assert_array_equal(found[0][held_out], found[1][held_out])
    assert np.abs(found[0][~held_out] - found[1][~held_out]).max() > 1e-3


def dropped(plan, given, rows):
    is_dropped = np.isin(np.arange(COUNT), rows)
    return plan_with(Reviewed(np.full(COUNT, MISSING), is_dropped), plan, given)


def excluded(plan, given, rows):
    is_out = np.isin(np.arange(COUNT), rows)
    return replace(
        plan, is_scored=plan.is_scored & ~is_out, fold=np.where(is_out, MISSING, plan.fold)
    )


@pytest.mark.parametrize("without", [dropped, excluded])
def test_samples_that_are_left_out_teach_nothing(without, tmp_path):
    """Whatever they look like and whatever they are called, the networks stay the same."""
    inputs, given, _ = noisy_pictures(COUNT)
    rows = np.arange(0, COUNT, 5)
    rest = np.setdiff1d(np.arange(COUNT), rows)
    plan = without(score_all(COUNT), given, rows)
    first = fit_pictures(inputs, given, plan, tmp_path / "first", rules=RULES["safe"])
    inputs[rows] = -3 * inputs[rows]
    changed = given.copy()
    changed[rows] = another_class(changed[rows]) if without is dropped else MISSING
    second = fit_pictures(inputs, changed, plan, tmp_path / "second", rules=RULES["safe"])
    assert same_networks(first, second)
    for name in ("pred_probs", "margin", "self_label"):
        one, other = (getattr(fitted.evidence, name)[rest] for fitted in (first, second))
        np.testing.assert_array_equal(one, other, err_msg=name)
    for fitted in (first, second):
        evidence = fitted.evidence
        assert np.isnan(evidence.margin[rows]).all()
        assert np.isfinite(evidence.margin[rest]).all()
        assert (evidence.self_label[rows] == MISSING).all()
        # what was dropped is scored by all networks, what is excluded by none
        is_scored = np.isfinite(evidence.pred_probs[rows]).all(axis=1)
        assert is_scored.all() if without is dropped else not is_scored.any()
    whole = fit_pictures(inputs, given, score_all(COUNT), tmp_path / "whole", rules=RULES["safe"])
    assert not same_networks(first, whole)
