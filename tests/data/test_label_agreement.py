"""Columns or rows in another order are refused by name; noise is not."""

import json
from pathlib import Path

import numpy as np
import pytest
from given_probs import FORMS, Probs, write
from hypothesis import given, settings
from hypothesis import strategies as st

import labelfix
from labelfix.data.label_agreement import (
    Compared,
    GivenTrust,
    compare_with_chance,
    moved_columns,
    moved_rows,
    notes_on_labels,
    row_lag,
)
from labelfix.data.probabilities import open_pred_probs
from labelfix.errors import DatasetError
from labelfix.utils.progress import no_progress


def probable(seed=0, *, count=600, classes=5, accuracy=0.9, noise=0.1, names=None) -> Probs:
    """Return probabilities of a model that is right so often, and labels with symmetric noise."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, count)
    given_label = np.where(
        rng.random(count) < noise, (true + rng.integers(1, classes, count)) % classes, true
    )
    seen = np.where(rng.random(count) < accuracy, true, rng.integers(0, classes, count))
    values = rng.dirichlet(np.full(classes, 0.3), count) * 0.3
    values[np.arange(count), seen] += 0.7
    names = names or [f"c{code:03}" for code in range(classes)]
    labels = [names[code] for code in given_label]
    return Probs([f"{i}.png" for i in range(count)], labels, names, values.astype(np.float32))


def opened(path: Path, **options):
    return open_pred_probs([path], path.parent, no_progress, **options)


def refusal(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        opened(path)
    assert "--force" in caught.value.hint
    assert any("--force" in one.text for one in opened(path, force=True).assumptions)
    return str(caught.value)


well_ordered = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "count": st.integers(300, 2000),
        "classes": st.integers(2, 12),
        "accuracy": st.floats(0.5, 1),
        "noise": st.floats(0, 0.25),
    }
)


@given(model=well_ordered, data=st.data())
@settings(max_examples=40, deadline=None)
def test_columns_in_any_other_order_are_told(tmp_path_factory, model, data):
    probs, classes = probable(**model), model["classes"]
    order = data.draw(st.permutations(range(classes)).filter(lambda o: o != sorted(o)))
    path = tmp_path_factory.mktemp("given") / "p.npz"
    if len({code for code, to in enumerate(order) if code != to}) < classes / 2:
        model["accuracy"], model["noise"] = 0.95, 0.05  # few rows speak of a few classes
        model["count"] = max(model["count"], 80 * classes)
        probs = probable(**model)
    message = refusal(write(path, probs.but(values=probs.values[:, order])))
    assert "columns" in message or "no better than chance" in message
    if model["accuracy"] > 0.8 and model["noise"] < 0.15:
        assert "columns" in message
        assert "agrees best with column" in message


@given(model=well_ordered, by=st.integers(-3, 3).filter(bool))
@settings(max_examples=25, deadline=None)
def test_shifted_columns_are_told(tmp_path_factory, model, by):
    model |= {"classes": max(model["classes"], 4), "accuracy": 0.95, "noise": 0.05}
    probs = probable(**model)
    path = tmp_path_factory.mktemp("given") / "p.npz"
    message = refusal(write(path, probs.but(values=np.roll(probs.values, by, axis=1))))
    assert "columns" in message
    if by in (-1, 1) and model["classes"] > 5:
        assert "shifted by one" in message
        assert ("counted from 1" in message) == (by == -1)


@given(model=well_ordered, form=st.sampled_from(FORMS), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_shuffled_rows_are_told(tmp_path_factory, model, form, seed):
    model["count"] = max(model["count"], 600)
    probs = probable(**model)
    path = tmp_path_factory.mktemp("given") / f"p.{form}"
    shuffled = np.random.default_rng(seed).permutation(probs.values)
    found = opened(write(path, probs.but(values=shuffled)), force=True)
    text = found.assumptions[0].text
    assert "chance" in text
    if "too few rows" not in text:
        assert "rows in another order?" in refusal(path)


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(20, 3000),
    classes=st.integers(2, 40),
    accuracy=st.floats(0.5, 1),
    noise=st.floats(0, 0.6),
)
@settings(max_examples=60, deadline=None)
def test_what_agrees_clearly_above_chance_is_taken(
    tmp_path_factory, seed, count, classes, accuracy, noise
):
    expected = (1 - noise) * accuracy + (1 - accuracy) / classes
    margin = (expected - 1 / classes) * np.sqrt(count) / np.sqrt(expected * (1 - expected) + 1e-9)
    if margin < 6:
        noise = 0.0
    probs = probable(seed, count=count, classes=classes, accuracy=accuracy, noise=noise)
    agreeing = np.mean(
        [
            probs.classes[p] == label
            for p, label in zip(probs.values.argmax(axis=1), probs.labels, strict=True)
        ]
    )
    if (agreeing - 1 / classes) * np.sqrt(count) > 4 * np.sqrt(1 / classes):
        opened(write(tmp_path_factory.mktemp("given") / "p.npz", probs))


@pytest.mark.parametrize("noise", [0.4, 0.6, 0.7])
def test_heavy_noise_is_no_mix_up(tmp_path, noise):
    probs = probable(count=3000, classes=10, accuracy=0.95, noise=noise)
    assert opened(write(tmp_path / "p.csv", probs)).assumptions == ()


@pytest.mark.parametrize(("share", "is_told"), [(0.45, False), (0.6, True)])
def test_flips_to_the_next_class_are_a_shift_only_above_half(share, is_told):
    rng = np.random.default_rng(0)
    true = rng.integers(0, 10, 5000)
    flipped = np.where(rng.random(5000) < share, (true + 1) % 10, true)
    assert bool(moved_columns(Compared(flipped, true, 10))) == is_told


def test_two_columns_of_ten_that_are_swapped_are_found_and_no_others():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 10, 2000)
    swapped = np.where(true == 3, 7, np.where(true == 7, 3, true))
    assert {(move.given, move.column) for move in moved_columns(Compared(true, swapped, 10))} == {
        (3, 7),
        (7, 3),
    }


def test_a_class_that_is_taken_for_another_is_no_swap():
    rng = np.random.default_rng(0)
    true = rng.choice(10, 3000, p=[0.55, *[0.05] * 9])
    rare = np.where(true > 6, 0, true)  # the rare classes are never predicted
    assert moved_columns(Compared(true, rare, 10)) == ()
    constant = np.zeros(3000, np.int64)  # nor does a model that only knows the largest class err
    assert moved_columns(Compared(true, constant, 10)) == ()
    assert not compare_with_chance(Compared(true, constant, 10)).is_unrelated
    to_unused = np.where(true == 4, 11, true)  # a finer class of the model that nobody was given
    assert moved_columns(Compared(true, to_unused, 12)) == ()


def test_a_column_too_many_in_front_is_a_chain():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 9, 900)
    assert len(moved_columns(Compared(true, true + 1, 10))) == 9


@pytest.mark.parametrize("classes", [100, 5000])
def test_many_classes_in_another_order(classes):
    rng = np.random.default_rng(0)
    true = rng.integers(0, classes, 20 * classes)
    noisy = np.where(rng.random(len(true)) < 0.3, rng.integers(0, classes, len(true)), true)
    assert moved_columns(Compared(noisy, true, classes)) == ()
    assert len(moved_columns(Compared(noisy, rng.permutation(classes)[true], classes))) > (
        0.9 * classes
    )


def test_labels_that_are_one_row_off():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 5, 2000)
    assert row_lag(Compared(np.roll(true, 1), true, 5)) == -1
    half = np.concatenate([true[:1000], true[999:-1]])
    found = moved_rows(Compared(half, true, 5))
    assert found is not None
    assert abs(found.start - 1000) <= 120
    assert found.stop == 2000
    assert found.lag == -1


def test_half_of_the_rows_in_another_order_are_said_and_taken(tmp_path):
    probs = probable(count=4000)
    values = probs.values.copy()
    values[2000:] = np.random.default_rng(0).permutation(values[2000:])
    (said,) = opened(write(tmp_path / "p.npz", probs.but(values=values))).assumptions
    assert "rows 2," in said.text or "rows 1,9" in said.text
    assert "another order" in said.text


def test_classes_in_blocks_with_a_bad_one_are_no_stretch():
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(10), 500)
    bad = np.where(true == 4, rng.integers(0, 10, 5000), true)  # one class labeled by dice
    assert moved_rows(Compared(bad, true, 10)) is None
    assert moved_columns(Compared(bad, true, 10)) == ()


def test_labels_counted_from_one_beyond_the_last_column(tmp_path):
    probs = probable(classes=4, names=[0, 1, 2, 3])
    codes = np.array(probs.labels) + 1
    np.savez(tmp_path / "p.npz", pred_probs=probs.values, labels=codes)
    write(tmp_path / "p.csv", probs.but(labels=codes.tolist()))
    for name in ("p.npz", "p.csv"):
        with pytest.raises(DatasetError) as caught:
            opened(tmp_path / name)
        assert "counted from 1" in caught.value.hint


def test_columns_sorted_as_text_are_told(tmp_path):
    probs = probable(count=3000, classes=12, names=list(range(12)))
    order = sorted(range(12), key=str)
    assert "sorted as text" in refusal(
        write(tmp_path / "p.npz", probs.but(values=probs.values[:, order]))
    )


def test_every_file_of_an_ensemble_is_checked(tmp_path):
    good = probable()
    bad = good.but(values=good.values[:, [1, 0, 2, 3, 4]])
    files = [write(tmp_path / "good.csv", good), write(tmp_path / "bad.npz", bad)]
    with pytest.raises(DatasetError, match=r"bad\.npz look"):
        open_pred_probs([files[1], files[0]], tmp_path, no_progress)


def test_force_goes_on_and_run_json_says_so(tmp_path):
    probs = probable(classes=4)
    path = write(tmp_path / "p.csv", probs.but(values=probs.values[:, [1, 0, 3, 2]]))
    with pytest.raises(DatasetError, match="in another order"):
        labelfix.audit_pred_probs(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    labelfix.audit_pred_probs(path, tmp_path / "run", force=True)
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert "by --force" in told["assumptions"][0]["text"]
    assert told["assumptions"][0]["topic"] == "probabilities"
    assert "scored labels are flagged" in told["settings"]["notes"][0] or (
        "no better than chance" in told["settings"]["notes"][0]
    )


def test_trust_is_that_of_drawn_orders():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(4, 0.4), 60).astype(np.float32)
    labels = rng.choice(4, 60, p=[0.5, 0.3, 0.1, 0.1])
    drawn = [probs[np.arange(60), rng.permutation(labels)].sum() for _ in range(4000)]
    trust = GivenTrust(labels, 4)
    trust.add(probs[:25], labels[:25])
    trust.add(probs[25:], labels[25:])
    value = (probs[np.arange(60), labels].sum() - np.mean(drawn)) / np.std(drawn)
    assert trust.value() == pytest.approx(value, abs=0.1)


def test_labels_unrelated_to_samples_are_noted():
    rng = np.random.default_rng(0)
    true, none = rng.integers(0, 4, 400), np.zeros(400, np.bool_)
    assert notes_on_labels(true, true, none, 4, by="images") == []
    (note,) = notes_on_labels(rng.permutation(true), true, none, 4, by="images")
    assert "no better than chance" in note
    (note,) = notes_on_labels(true, true, ~none, 4, by="images")
    assert "400 of 400 scored labels are flagged" in note
