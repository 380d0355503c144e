"""``labelfix.cross_fit``: a program's own training gives probabilities of unseen samples."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loaded_modules import loaded_by
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import labelfix
from labelfix.errors import LabelfixError
from labelfix.pipeline.cross_fit import SomeRows


class Remembers:
    """Knows the samples that it was trained on by their numbers, and is sure of what it knows."""

    def __init__(self, classes=3):
        self.classes, self.trained, self.asked = classes, [], []

    def __call__(self, data, labels):
        assert len(data) == len(labels)
        known = {int(one): label for one, label in zip(data, labels, strict=True)}
        self.trained.append(known)

        def predict(others):
            self.asked.append([int(one) for one in others])
            assert not known.keys() & self.asked[-1]
            return np.full((len(others), self.classes), 1 / self.classes)

        return predict


def test_no_sample_is_scored_by_a_model_that_saw_it():
    labels = [0, 1, 2] * 10
    train = Remembers()
    probs = labelfix.cross_fit(train, np.arange(30), labels, folds=5)
    assert probs.shape == (30, 3)
    assert sorted(row for rows in train.asked for row in rows) == list(range(30))
    for known in train.trained:
        assert np.bincount(list(known.values())).tolist() == [8, 8, 8]
        assert all(labels[row] == label for row, label in known.items())
    again = Remembers()
    labelfix.cross_fit(again, np.arange(30), labels, folds=5, seed=1)
    assert again.asked != train.asked


def test_the_digits_by_a_classifier():
    pixels, true = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    is_wrong = rng.random(len(true)) < 0.1
    given = np.where(is_wrong, (true + rng.integers(1, 10, len(true))) % 10, true)
    names = np.array([f"digit {code}" for code in range(10)])[given]

    def train(samples, labels):
        return LogisticRegression(max_iter=50, tol=0.01).fit(samples, labels)

    probs = labelfix.cross_fit(train, pixels / 16, names, folds=3)
    issues = labelfix.find_label_issues(names, probs)
    assert is_wrong[issues.is_label_issue].mean() > 0.8
    assert issues.is_label_issue[is_wrong].mean() > 0.8


@pytest.mark.parametrize("form", ["array", "tensor", "list", "texts", "table", "pictures"])
def test_copies_are_in_one_fold(form):
    kinds = np.arange(40) % 20  # each sample twice
    labels = kinds % 2
    data = {
        "array": np.eye(20)[kinds],
        "tensor": torch.eye(20)[kinds],
        "list": list(torch.eye(20)[kinds]),
        "texts": [f"text {kind}" for kind in kinds],
        "table": pd.DataFrame({"a": kinds, "b": kinds.astype(str)}),
        "pictures": [Image.new("L", (2, 2), int(kind)) for kind in kinds],
    }[form]

    def names(samples):
        if form == "table":
            return set(samples["a"])
        if form == "pictures":
            return {one.getpixel((0, 0)) for one in samples}
        return set(samples) if form == "texts" else {int(np.argmax(one)) for one in samples}

    def train(samples, labels):
        known = names(samples)

        def predict(others):
            assert not known & names(others)
            return torch.full((len(others), 2), 0.5)

        return predict

    labelfix.cross_fit(train, data, labels, folds=4)


def test_groups_and_samples_without_a_label():
    labels, patients = np.array([0, 1, 0, 1, 0, 1] * 5), np.repeat(np.arange(10), 3).astype(str)
    labels[:3] = -1
    parts = []

    def train(data, given):
        assert set(given) == {0, 1}
        known = set(patients[data])
        parts.append(known)

        def predict(others):
            assert not known & set(patients[[row for row in others if row > 2]])
            return np.full((len(others), 2), [len(parts) / 4, 1 - len(parts) / 4])

        return predict

    probs = labelfix.cross_fit(train, np.arange(30), labels, folds=3, groups=patients)
    assert len(parts) == 3
    np.testing.assert_allclose(probs[:3], 0.5)


def test_anything_with_a_length_and_items_is_trained_on_as_a_view():
    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, row):
            return row

    seen = []

    def train(data, labels):
        assert isinstance(data, SomeRows)
        batches = list(torch.utils.data.DataLoader(data, 4))
        seen.append(torch.cat(batches).tolist())
        assert list(data[1:3]) == seen[-1][1:3]
        return lambda others: np.full((len(others), 2), 0.5)

    labelfix.cross_fit(train, Items(), [0, 1] * 6, folds=3)
    assert [len(rows) for rows in seen] == [8, 8, 8]


def uniform(data, labels):
    return lambda others: np.full((len(others), 2), 0.5)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: labelfix.cross_fit(uniform, [1, 2], [0, 1, 1]), "data holds 2 samples"),
        (lambda: labelfix.cross_fit(uniform, iter([1]), [0]), "samples without a length"),
        (lambda: labelfix.cross_fit(uniform, [1] * 4, [0, 0, 1, 1], folds=5), "folds is 5"),
        (lambda: labelfix.cross_fit(uniform, range(4), [0, 0, 1, 1], folds=1), "folds is 1"),
        (lambda: labelfix.cross_fit(uniform, range(4), [0, 0, 0, 0], folds=2), "hold 1 classes"),
        (
            lambda: labelfix.cross_fit(uniform, range(4), [0, 0, 0, 1], folds=2),
            "class '1' has one sample",
        ),
        (lambda: labelfix.cross_fit(3, range(4), [0, 0, 1, 1], folds=2), "train"),
        (
            lambda: labelfix.cross_fit(uniform, range(4), [0, 0, 1, 1], folds=2, groups=[1]),
            "groups",
        ),
    ],
)
def test_what_cannot_be_cross_fitted_is_refused(call, told):
    with pytest.raises(LabelfixError, match=told) as caught:
        call()
    assert caught.value.hint


@pytest.mark.parametrize(
    ("predicted", "told"),
    [
        (np.ones((1, 2)) / 2, "predicts 1 rows of 2"),
        (np.ones((2, 2)), "no probabilities"),
        (np.array([[-1.0, 2.0], [0.5, 0.5]]), "no probabilities"),
        (np.full((2, 2), np.nan), "no probabilities"),
        (np.ones(2), "what the model predicts"),
        (None, "what the model predicts"),
    ],
)
def test_what_is_no_probability_is_refused_after_the_first_fold(predicted, told):
    trained = []

    def train(data, labels):
        trained.append(len(data))
        return lambda others: predicted

    with pytest.raises(LabelfixError, match=told):
        labelfix.cross_fit(train, range(4), [0, 0, 1, 1], folds=2)
    assert trained == [2]
    with pytest.raises(LabelfixError, match="train returns NoneType, which predicts nothing"):
        labelfix.cross_fit(lambda data, labels: None, range(4), [0, 0, 1, 1], folds=2)


def test_models_of_different_classes_are_refused():
    sizes = iter([2, 3])

    def train(data, labels):
        size = next(sizes)
        return lambda others: np.full((len(others), size), 1 / size)

    with pytest.raises(LabelfixError, match="a model predicts 3 classes, and the first one 2"):
        labelfix.cross_fit(train, range(4), [0, 0, 1, 1], folds=2)


@settings(max_examples=40, deadline=None)
@given(
    data=st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers(), max_size=4)),
    labels=st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers(), max_size=4)),
    folds=st.one_of(st.integers(), st.none(), st.text()),
)
def test_any_input_gives_probabilities_or_one_error_with_a_hint(data, labels, folds):
    try:
        probs = labelfix.cross_fit(uniform, data, labels, folds=folds)
    except LabelfixError as error:
        told = error
    else:
        assert probs.shape == (len(labels), 2)
        return
    assert told.hint


def test_torch_is_not_loaded():
    program = (
        "import json, sys, labelfix\n"
        "def train(data, labels): return lambda others: [[.5, .5]] * len(others)\n"
        "labelfix.cross_fit(train, ['a', 'b', 'c', 'd'], [0, 0, 1, 1], folds=2)\n"
        "print(json.dumps(list(sys.modules)), file=sys.stderr)\n"
    )
    assert "torch" not in loaded_by(program)
