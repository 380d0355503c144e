"""The map of the samples: the classes lie apart on it, and nothing else decides where."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from labelfix.issues.neighbors import Embedding, embed
from labelfix.issues.projection import project
from labelfix.types import MISSING


def embedded(values: np.ndarray) -> Embedding:
    return embed(values.astype(np.float32), np.arange(len(values)))


def clouds(classes: int, each: int = 60, seed: int = 0) -> tuple[Embedding, np.ndarray]:
    """Return classes that differ in two of forty directions, which vary less than the others."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(classes), each)
    values = rng.normal(0, 1, (len(label), 40))
    values[:, :2] += 4 * rng.normal(0, 1, (classes, 2))[label]
    return embedded(values), label


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_classes_that_differ_lie_apart(classes: int) -> None:
    embedding, label = clouds(classes)
    places = project(embedding, label)
    assert places.shape == (len(label), 2)
    assert places.min() == 0
    assert places.max() == 1
    nearest = KNeighborsClassifier(5).fit(places[::2], label[::2])
    assert nearest.score(places[1::2], label[1::2]) > 0.75


def test_a_wrong_label_moves_no_sample_to_its_class() -> None:
    embedding, label = clouds(3)
    given = label.copy()
    given[:6] = 1
    places = project(embedding, given)
    centers = [places[label == code].mean(axis=0) for code in range(3)]
    distance = np.linalg.norm(places[:6, None] - centers, axis=2)
    assert (distance.argmin(axis=1) == 0).all()


def test_the_same_samples_get_the_same_places_on_any_number_of_threads() -> None:
    embedding, label = clouds(4)
    once = project(embedding, label)
    with threadpool_limits(1, "blas"):
        assert np.array_equal(once, project(embedding, label))


def test_samples_without_a_label_are_placed_by_the_others() -> None:
    embedding, label = clouds(3)
    some = np.where(np.arange(len(label)) % 5 == 0, MISSING, label)
    places = project(embedding, some)
    assert np.isfinite(places).all()
    own = KNeighborsClassifier(5).fit(places[some != MISSING], label[some != MISSING])
    assert own.score(places[some == MISSING], label[some == MISSING]) > 0.75


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("same", [True, False])
def test_a_few_samples_and_equal_ones_have_places_too(size: int, same: bool) -> None:
    rng = np.random.default_rng(0)
    values = np.ones((size, 6)) if same else rng.normal(0, 1, (size, 6))
    places = project(embedded(values), np.arange(size) % 2)
    assert places.shape == (size, 2)
    assert np.isfinite(places).all()
