"""Byte-identical images have one true label, whatever labels they were given."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import labelfix
from labelfix.config import FlagConfig
from labelfix.scoring.flags import correct
from labelfix.scoring.scores import score_labels, score_with_margins
from labelfix.types import MISSING, Evidence, Reviewed


def with_copies(seed, count=300, classes=4, sets=25, largest=5):
    """Probabilities and labels in which some samples are the same image."""
    rng = np.random.default_rng(seed)
    number = np.full(count, MISSING)
    some = rng.permutation(count)
    for one in range(sets):
        size = rng.integers(2, largest + 1)
        number[some[:size]], some = one, some[size:]
    logits = rng.normal(0, rng.uniform(0.3, 4), (count, classes))
    true = rng.integers(0, classes, count)
    for one in range(sets):
        rows = np.flatnonzero(number == one)
        logits[rows], true[rows] = logits[rows[0]], true[rows[0]]
    logits[np.arange(count), true] += 2
    given_label = np.where(rng.random(count) < 0.3, rng.integers(0, classes, count), true)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    margin = np.where(given_label == true, 1.0, -1.0) + rng.normal(0, 1, count)
    margin[rng.random(count) < 0.1] = np.nan
    evidence = Evidence(
        probs.astype(np.float32), np.zeros(count, np.int16), margin.astype(np.float32), given_label
    )
    return evidence, given_label, true, number


def check(scores, given_label, number, suggested):
    for one in range(number.max() + 1):
        rows = np.flatnonzero((number == one) & ~np.isnan(scores.label_error_probability))
        if len(rows) < 2:
            continue
        labels, first = np.unique(given_label[rows], return_index=True)
        for values in (scores.label_error_probability, *scores.under_hypotheses):
            assert values[rows[first]].sum(dtype=np.float64) >= len(labels) - 1 - 1e-5
            for label in labels:
                of_label = values[rows[given_label[rows] == label]]
                assert of_label.max() - of_label.min() < 1e-6
        assert len(set(suggested[rows].tolist()) - {MISSING}) <= 1
        assert (suggested[rows] != given_label[rows]).all()


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.booleans(), st.booleans())
def test_at_most_one_label_of_an_image_can_be_right(seed, classes, has_margins, is_reviewed):
    evidence, given_label, true, number = with_copies(seed, classes=classes)
    reviewed = None
    if is_reviewed:
        label = np.full(len(true), MISSING)
        alone = np.flatnonzero(number == MISSING)[:20]
        label[alone] = true[alone]
        reviewed = Reviewed(label, np.zeros(len(true), np.bool_))
    score = score_with_margins if has_margins else score_labels
    scores = score(evidence, given_label, reviewed, number)
    for flags in (FlagConfig(), FlagConfig(budget=150), FlagConfig(precision=0.3)):
        found = correct(scores, np.ones(len(true), np.bool_), flags)
        check(scores, given_label, number, found.suggested_label)
    assert scores.noise_rate == pytest.approx(
        scores.label_error_probability.mean(dtype=np.float64), abs=1e-5
    )


def test_samples_without_copies_are_scored_as_before():
    evidence, given_label, _, number = with_copies(0)
    alone = number == MISSING
    before = score_labels(evidence, given_label)
    after = score_labels(evidence, given_label, None, number)
    for name in ("label_error_probability", "alternative_label", "alternative_probability"):
        np.testing.assert_array_equal(getattr(after, name)[alone], getattr(before, name)[alone])
    np.testing.assert_array_equal(after.noise.probability, before.noise.probability)


def test_a_label_that_is_copied_with_its_file_vouches_for_itself_only_once():
    evidence, given_label, _, _ = with_copies(1, sets=0)
    number = np.full(len(given_label), MISSING)
    row = int(np.argmax(score_labels(evidence, given_label).label_error_probability))
    probs, copied = evidence.pred_probs.copy(), given_label.copy()
    probs[:6], copied[:6], number[:6] = probs[row], given_label[row], 0
    evidence = Evidence(probs, evidence.fold, evidence.margin, evidence.self_label)
    each = score_labels(evidence, copied)
    together = score_labels(evidence, copied, None, number)
    np.testing.assert_allclose(
        together.label_error_probability, each.label_error_probability, atol=1e-5
    )


def test_what_people_decide_of_an_image_holds_for_its_copies():
    evidence, given_label, _, number = with_copies(2)
    label, dropped = np.full(len(number), MISSING), np.zeros(len(number), np.bool_)
    rows = np.flatnonzero(number == 0)
    label[rows[0]] = (given_label[rows[0]] + 1) % 4
    dropped[np.flatnonzero(number == 1)[0]] = True
    for score in (score_labels, score_with_margins):
        scores = score(evidence, given_label, Reviewed(label, dropped), number)
        is_wrong = given_label[rows] != label[rows[0]]
        np.testing.assert_allclose(scores.label_error_probability[rows], is_wrong, atol=1e-4)
        moved = rows[is_wrong]
        assert (scores.alternative_label[moved] == label[rows[0]]).all()


def test_labels_that_people_chose_and_that_contradict_each_other_stand_as_they_are():
    evidence, given_label, _, number = with_copies(3)
    rows = np.flatnonzero(number == 0)[:2]
    label = np.full(len(number), MISSING)
    label[rows] = (given_label[rows[0]] + np.array([1, 2])) % 4
    scores = score_labels(
        evidence, given_label, Reviewed(label, np.zeros(len(number), np.bool_)), number
    )
    is_wrong = label[rows] != given_label[rows]
    np.testing.assert_array_equal(scores.label_error_probability[rows], is_wrong)
    np.testing.assert_array_equal(scores.alternative_label[rows][is_wrong], label[rows][is_wrong])


def test_an_audit_of_copies_under_two_labels_and_of_a_class_of_two_images(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(24):
        name = ("bird", "cat")[number % 2]
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 80, (32, 32, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    for number in (0, 2, 4):
        content = (tmp_path / "data" / "bird" / f"{number}.png").read_bytes()
        (tmp_path / "data" / "cat" / f"copy{number}.png").write_bytes(content)
    (tmp_path / "data" / "owl").mkdir()
    for number in range(2):
        pixels = rng.integers(0, 80, (32, 32, 3))  # as those of a bird
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "data" / "owl" / f"{number}.png")
    found = labelfix.audit(tmp_path / "data", tmp_path / "run", cache=tmp_path / "cache")
    report = labelfix.read_report(found.run)
    for _, copies in report[report["exact_duplicate_set"].notna()].groupby("exact_duplicate_set"):
        assert copies["label_error_probability"].sum() >= 1 - 1e-5
        assert copies["suggested_label"].dropna().nunique() <= 1
    assert not report[["suggested_label", "predicted_label"]].isin(["owl"]).any(axis=None)
    noise = pd.read_parquet(found.run / "noise_matrix.parquet")
    owl = noise[noise["true_label"] == "owl"].set_index("given_label")["probability"]
    assert owl.to_dict() == {"bird": 0, "cat": 0, "owl": 1}
