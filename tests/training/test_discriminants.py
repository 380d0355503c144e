import numpy as np
import pytest
import torch
from hypothesis import given as given_that
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from labelfix.training.discriminants import LinearHead, Moments, discriminants
from labelfix.training.heads import scale_features

CPU = torch.device("cpu")


def made_up(seed, count=90, classes=4, width=6):
    """Return features and labels of which class 0 has next to none."""
    rng = np.random.default_rng(seed)
    label = np.append(rng.integers(1, classes, count - 1), 0)
    values = rng.normal(size=(classes, width))[label] + rng.normal(size=(count, width))
    features = scale_features(values.astype(np.float16), np.arange(count), CPU)
    return features, label


def naive_discriminant(values, label, classes, shrinkage):
    """Return weights and biases as the docstring has them, sample by sample."""
    mean = values.mean(axis=0)
    center = np.stack([np.vstack([values[label == k], mean]).mean(axis=0) for k in range(classes)])
    spread = np.zeros((values.shape[1], values.shape[1]))
    for vector, code in zip(values, label, strict=True):
        away = vector - values[label == code].mean(axis=0)
        spread += np.outer(away, away) / (len(label) - classes)
    sphere = np.eye(len(spread)) * np.trace(spread) / len(spread)
    inverse = np.linalg.inv((1 - shrinkage) * spread + shrinkage * sphere)
    weight = center @ inverse
    shares = (np.bincount(label, minlength=classes) + 1) / (len(label) + classes)
    bias = np.log(shares) - np.array([m @ inverse @ m / 2 for m in center])
    return weight, bias


@settings(max_examples=20, deadline=None)
@given_that(st.integers(0, 1000), st.sampled_from([0.05, 0.4, 1.0]))
def test_a_discriminant_equals_a_naive_loop(seed, shrinkage):
    features, label = made_up(seed)
    rows = np.arange(len(label))
    moments = Moments.of(features, rows, torch.from_numpy(label), 4)
    head = discriminants(moments, [shrinkage], CPU)[0]
    weight, bias = naive_discriminant(features.batch(rows).double().numpy(), label, 4, shrinkage)
    np.testing.assert_allclose(head.weight, weight, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(head.bias, bias, rtol=1e-3, atol=1e-3)


def test_with_many_samples_it_decides_as_that_of_scikit_learn():
    features, label = made_up(1, count=3000)
    values, label = features.batch(np.arange(2999)), label[:-1] - 1  # without that of class 0
    moments = Moments.of(features, np.arange(2999), torch.from_numpy(label), 3)
    ours = discriminants(moments, [0.2], CPU)[0].logits(values).argmax(dim=1).numpy()
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2).fit(values.numpy(), label)
    assert (ours == theirs.predict(values.numpy())).mean() > 0.995


def test_moments_of_parts_add_up_to_those_of_all_whatever_the_blocks():
    features, label = made_up(2, count=5000)  # more than one block
    labels, rows = torch.from_numpy(label), np.arange(5000)
    whole = Moments.of(features, rows, labels, 4)
    parts = [Moments.of(features, rows[k::3], labels, 4) for k in range(3)]
    again = Moments.sum(parts)
    torch.testing.assert_close(again.count, whole.count)
    torch.testing.assert_close(again.total, whole.total)
    torch.testing.assert_close(again.square, whole.square, rtol=1e-5, atol=1e-4)
    values = features.batch(rows).double()
    torch.testing.assert_close(whole.square, values.T @ values, rtol=1e-5, atol=1e-4)


def test_a_class_without_samples_and_constant_features_leave_it_finite():
    features = scale_features(np.full((6, 3), 2, np.float16), np.arange(6), CPU)
    moments = Moments.of(features, np.arange(6), torch.tensor([0, 0, 1, 1, 1, 1]), 3)
    head = discriminants(moments, [0.1], CPU)[0]
    assert bool(head.weight.isfinite().all())
    assert head.bias.argsort().tolist() == [2, 0, 1]  # by nothing but how many there are


def test_the_mean_of_heads_has_the_mean_logits():
    generator = torch.Generator().manual_seed(0)
    heads = [
        LinearHead(torch.randn(3, 5, generator=generator), torch.randn(3, generator=generator))
        for _ in range(4)
    ]
    values = torch.randn(7, 5, generator=generator)
    mean = torch.stack([head.logits(values) for head in heads]).mean(dim=0)
    torch.testing.assert_close(LinearHead.mean(heads).logits(values), mean)
    assert pytest.approx(2 * mean[0, 0]) == LinearHead.mean(heads).times(2).logits(values)[0, 0]
