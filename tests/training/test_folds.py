from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from appearances import plain_appearances
from hypothesis import given
from hypothesis import strategies as st

from labelfix.data.duplicates import find_duplicates
from labelfix.errors import DatasetError
from labelfix.training.folds import plan_folds
from labelfix.types import MISSING, DatasetSource, Features, LabeledDataset

FOLDS = 5


class NoImages:
    def __len__(self):
        return 0

    def read(self, index):
        raise AssertionError

    def location(self, index):
        raise AssertionError


def dataset_of(labels, splits=None):
    count = len(labels)
    return LabeledDataset(
        sample_id=pa.array([str(i) for i in range(count)]),
        split=pa.array(splits or [None] * count, type=pa.string()),
        given_label=np.asarray(labels, dtype=np.int64),
        class_names=tuple(f"class {k}" for k in range(max(labels) + 1)),
        store=NoImages(),
        source=DatasetSource("folder", Path("/nowhere"), {}),
        fingerprint="",
    )


def features_of(content, unreadable=()):
    digests = [f"{item:015d}x".encode() for item in content]
    return Features(
        values=np.zeros((len(content), 1), dtype=np.float16),
        content=np.array(digests, dtype="S16"),
        unreadable=dict.fromkeys(unreadable, "broken"),
        statistics=plain_appearances(len(content)),
    )


def plan(labels, content=None, splits=None, unreadable=(), seed=0):
    content = list(range(len(labels))) if content is None else content
    dataset, features = dataset_of(labels, splits), features_of(content, unreadable)
    duplicates = find_duplicates(features, dataset.given_label)
    return plan_folds(dataset, features, duplicates, folds=FOLDS, seed=seed)


def test_duplicates_are_numbered_by_first_appearance():
    features = features_of([9, 4, 9, 7, 4, 1])
    duplicates = find_duplicates(features, np.array([0, 1, 0, 0, 0, 1]))
    assert duplicates.exact_duplicate_set.tolist() == [0, 1, 0, MISSING, 1, MISSING]
    assert duplicates.is_conflicting.tolist() == [False, True, False, False, True, False]


def test_unreadable_and_unlabeled_images_are_no_conflict():
    features = features_of([5, 5, 6, 6], unreadable=[0, 1])
    duplicates = find_duplicates(features, np.array([0, 1, 0, MISSING]))
    assert duplicates.exact_duplicate_set.tolist() == [MISSING, MISSING, 0, 0]
    assert not duplicates.is_conflicting.any()


@given(
    st.lists(st.integers(0, 3), min_size=30, max_size=120),
    st.integers(0, 20),
    st.integers(0, 1000),
)
def test_folds_keep_copies_together_and_never_miss_a_class(labels, copies, seed):
    labels = [*labels, *[0] * FOLDS, *[1] * FOLDS]
    rng = np.random.default_rng(seed)
    content = np.arange(len(labels))
    content[rng.integers(0, len(labels), copies)] = rng.integers(0, len(labels), copies)
    content[-2 * FOLDS :] = np.arange(1000, 1000 + 2 * FOLDS)
    assignment = plan(labels, content.tolist(), seed=seed)
    fold, label = assignment.fold, np.asarray(labels)
    for image in np.unique(content):
        assert len(set(fold[content == image].tolist()) - {MISSING}) <= 1
    for code in np.unique(label[assignment.is_scored & (fold != MISSING)]):
        for number in range(FOLDS):
            in_training = (label == code) & (fold != MISSING) & (fold != number)
            assert in_training.sum() >= 1
    assert set(np.flatnonzero(~assignment.is_scored)) == set(assignment.exclusion_reason)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_small_class_is_not_scored_and_says_why(size):
    assignment = plan([0] * 20 + [1] * 20 + [2] * size)
    assert assignment.is_scored[:40].all()
    assert not assignment.is_scored[40:].any()
    assert "class 'class 2' has" in assignment.exclusion_reason[40]
    assert "5 are needed" in assignment.exclusion_reason[40]


def test_copies_of_one_image_do_not_make_a_class_large():
    assignment = plan([0] * 20 + [1] * 20 + [2] * 6, content=[*range(40), *[99] * 6])
    assert not assignment.is_scored[40:].any()
    assert "has 1 different readable sample to" in assignment.exclusion_reason[40]


def test_test_rows_are_scored_and_train_nothing():
    splits = ["train", "Test"] * 20
    assignment = plan([0, 1, 1, 0] * 10, splits=splits)
    assert assignment.is_scored.all()
    assert (assignment.fold[1::2] == MISSING).all()
    assert (assignment.fold[0::2] != MISSING).all()


def test_data_with_nothing_but_test_rows_train_on_them():
    assignment = plan([0, 1] * 10, splits=["test"] * 20)
    assert (assignment.fold != MISSING).all()


def test_unreadable_and_unlabeled_rows_take_no_part():
    labels = [0, 1] * 10
    labels[3] = MISSING
    assignment = plan(labels, unreadable=[0])
    assert assignment.fold[[0, 3]].tolist() == [MISSING, MISSING]
    assert not assignment.is_scored[[0, 3]].any()
    assert assignment.exclusion_reason[3] == "not scored: it has no label"


def test_too_few_large_classes_is_an_error():
    with pytest.raises(DatasetError, match="only 1 of 2 classes"):
        plan([0] * 20 + [1] * 3)
