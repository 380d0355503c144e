import numpy as np
import pytest

from labelfix.benchmark.noise import (
    class_dependent_noise,
    correlated_noise,
    independent_noise,
    instance_dependent_noise,
    random_flips,
    symmetric_noise,
)
from labelfix.errors import ConfigError

COUNT = 60_000


def truth(classes, count=COUNT):
    return np.random.default_rng(7).integers(0, classes, count)


def tempered(labels, classes):
    """Return probabilities of a model that finds low rows hard and takes a class for the next."""
    doubt = np.linspace(0.9, 0.0, len(labels))
    probs = np.full((len(labels), classes), 0.01)
    rows = np.arange(len(labels))
    probs[rows, labels] += 1 - doubt
    probs[rows, (labels + 1) % classes] += doubt
    return probs / probs.sum(axis=1, keepdims=True)


MAKERS = {
    "independent": lambda y, r, k, s: independent_noise(y, r, k, s),
    "symmetric": lambda y, r, k, s: symmetric_noise(y, r, k, s),
    "class-dependent": lambda y, r, k, s: class_dependent_noise(y, r, k, s),
    "instance-dependent": lambda y, r, k, s: instance_dependent_noise(y, tempered(y, k), r, s),
}


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.8])
@pytest.mark.parametrize("classes", [2, 10, 67])
def test_independent_noise_gives_r_k_minus_1_over_k_wrong_labels(rate, classes):
    labels = truth(classes)
    noisy = independent_noise(labels, rate, classes, seed=1)
    expected = rate * (classes - 1) / classes
    spread = np.sqrt(rate * (classes - 1) / classes**2 / COUNT)
    assert abs((noisy != labels).mean() - expected) < 5 * spread
    drawn = np.bincount(noisy[noisy != labels], minlength=classes)
    assert drawn.min() > 0.7 * drawn.mean()


@pytest.mark.parametrize("maker", ["symmetric", "class-dependent", "instance-dependent"])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.4])
def test_the_other_kinds_give_exactly_r(maker, rate):
    labels = truth(10)
    noisy = MAKERS[maker](labels, rate, 10, 3)
    assert (noisy != labels).sum() == round(rate * COUNT)
    assert 0 <= noisy.min() <= noisy.max() < 10


@pytest.mark.parametrize("maker", MAKERS)
def test_the_seed_decides_and_the_input_stays(maker):
    labels = truth(10, 2000)
    before = labels.copy()
    first, again, other = (MAKERS[maker](labels, 0.3, 10, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(labels, before)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.dtype == np.int64


def test_symmetric_noise_takes_every_other_class_alike():
    labels = np.zeros(COUNT, dtype=np.int64)
    counts = np.bincount(symmetric_noise(labels, 0.9, 10, seed=0), minlength=10)
    assert counts[0] == round(0.1 * COUNT)
    np.testing.assert_allclose(counts[1:] / COUNT, 0.1, atol=0.008)


def test_class_dependent_noise_follows_the_flips_and_spares_a_class_that_has_none():
    labels, flips = truth(4), np.array([1, 0, 2, 0])
    noisy = class_dependent_noise(labels, 0.3, 4, seed=0, flips=flips)
    wrong = noisy != labels
    np.testing.assert_array_equal(noisy[wrong], flips[labels[wrong]])
    rates = [wrong[labels == k].mean() for k in range(4)]
    np.testing.assert_allclose(rates, [0.3, 0.3, 0.0, 0.3], atol=0.02)


@pytest.mark.parametrize("classes", [2, 3, 67])
def test_random_flips_are_one_ring(classes):
    flips, seen, k = random_flips(classes, seed=classes), [], 0
    for _ in range(classes):
        k = int(flips[k])
        seen.append(k)
    assert sorted(seen) == list(range(classes))


def test_instance_dependent_noise_takes_hard_samples_for_what_they_look_like():
    labels = truth(5)
    probs = tempered(labels, 5)
    noisy = instance_dependent_noise(labels, probs, 0.2, seed=0)
    wrong = noisy != labels
    hard, easy = wrong[: COUNT // 4].mean(), wrong[-COUNT // 4 :].mean()
    assert hard > 3 * easy
    likeliest = (labels + 1) % 5
    assert (noisy[wrong] == likeliest[wrong]).mean() > 0.8


def test_a_model_that_is_sure_can_still_be_made_to_err():
    labels = truth(3, 100)
    noisy = instance_dependent_noise(labels, np.eye(3)[labels], 0.5, seed=0)
    assert (noisy != labels).sum() == 50


def test_correlated_noise_is_what_the_model_says():
    said = np.array([2, 0, 1], dtype=np.int32)
    noisy = correlated_noise(said)
    noisy[0] = 1
    assert said.tolist() == [2, 0, 1]
    assert noisy.dtype == np.int64


@pytest.mark.parametrize(
    "call",
    [
        lambda: independent_noise(np.array([0, 1]), 1.2, 2, 0),
        lambda: symmetric_noise(np.array([0, 2]), 0.2, 2, 0),
        lambda: symmetric_noise(np.array([0, 0]), 0.2, 1, 0),
        lambda: independent_noise(np.array([0, -1]), 0.2, 2, 0),
        lambda: class_dependent_noise(np.array([0, 1]), 0.2, 2, 0, flips=np.array([0, 5])),
        lambda: instance_dependent_noise(np.array([0, 1]), np.eye(3), 0.2, 0),
        lambda: instance_dependent_noise(np.array([0, 1]), np.full((2, 2), np.nan), 0.2, 0),
    ],
)
def test_what_cannot_be_is_refused(call):
    with pytest.raises(ConfigError):
        call()
