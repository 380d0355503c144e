"""Votes of neighbors: against a plain loop, and where there are few to ask."""

import numpy as np
import pytest
import torch
from hypothesis import given as given_that
from hypothesis import settings
from hypothesis import strategies as st

from labelfix.config import HeadConfig
from labelfix.errors import TrainingError
from labelfix.issues.neighbors import embed
from labelfix.training.heads import scale_features
from labelfix.training.neighbor_votes import (
    ReferenceSet,
    draw_voters,
    leading_eigenvectors,
    neighbor_probabilities,
)
from labelfix.types import MISSING

CPU = torch.device("cpu")
FOLDS, CLASSES = 3, 4


def case(seed=0, count=200, width=12):
    """Features around four centers; voters whose labels and weights differ from fold to fold."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, CLASSES, count)
    centers = 2 * rng.normal(size=(CLASSES, width))
    values = (centers[true] + rng.normal(size=(count, width))).astype(np.float16)
    label = np.where(
        rng.random((count, FOLDS + 1)) < 0.2,
        rng.integers(0, CLASSES, (count, FOLDS + 1)),
        true[:, None],
    )
    weight = rng.random((count, FOLDS + 1)).astype(np.float32)
    fold = rng.permutation(np.arange(count) % FOLDS)
    return values, true, fold, label, weight


def asked(values, fold, label, weight, rows=None, voting=None, **limits):
    """Return ``(n, K)`` the probabilities of some rows, by the votes of some."""
    voting = np.arange(len(values)) if voting is None else voting
    rows = np.arange(len(values)) if rows is None else rows
    voters = ReferenceSet(
        rows=voting,
        fold=torch.from_numpy(fold[voting]),
        label=torch.from_numpy(label[voting]),
        weight=torch.from_numpy(weight[voting]),
    )
    features = scale_features(values, voting, CPU)
    blocks = list(
        neighbor_probabilities(
            features,
            rows,
            torch.from_numpy(fold),
            voters,
            classes=CLASSES,
            config=HeadConfig(),
            **limits,
        )
    )
    assert np.concatenate([part for part, _ in blocks]).tolist() == rows.tolist()
    return torch.cat([probs for _, probs in blocks]).numpy()


def by_plain_loop(values, fold, label, weight, count, components):
    values = values.astype(np.float64)
    deviations = (values - values.mean(0)) / values.std(0)
    _, lengths, axes = np.linalg.svd(deviations, full_matrices=False)
    points = deviations @ (axes[:components] / lengths[:components, None]).T
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    probs = np.zeros((len(values), CLASSES))
    for row, point in enumerate(points):
        others = np.flatnonzero(fold != fold[row])
        likeness = points[others] @ point
        nearest = np.argsort(-likeness)[:count]
        first, last = likeness[nearest[0]], likeness[nearest[-1]]
        for near in nearest:
            other = others[near]
            closeness = (likeness[near] - last) / (first - last)
            probs[row, label[other, fold[row]]] += closeness * weight[other, fold[row]]
        probs[row] /= probs[row].sum()
    return probs


@pytest.mark.parametrize("seed", [0, 1])
def test_votes_are_those_of_a_plain_loop(seed):
    values, _, fold, label, weight = case(seed)
    expected = by_plain_loop(values, fold, label, weight, count=10, components=12)
    np.testing.assert_allclose(asked(values, fold, label, weight), expected, atol=2e-3)


def test_neighbors_know_what_a_sample_is():
    values, true, fold, label, weight = case(2, count=600)
    assert (asked(values, fold, label, weight).argmax(axis=1) == true).mean() > 0.95


@settings(max_examples=25, deadline=None)
@given_that(st.integers(0, 1000), st.integers(2, 40))
def test_few_samples_give_probabilities_too(seed, count):
    values, _, fold, label, weight = case(seed, count)
    fold[count // 2 :] = 0  # one fold may be large
    probs = asked(values, fold, label, weight)
    assert np.isfinite(probs).all()
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)


def test_nobody_is_heard_in_his_own_fold():
    values, _, fold, label, weight = case(3)
    before = asked(values, fold, label, weight)
    changed = label.copy()
    changed[fold == 1, 1] = (changed[fold == 1, 1] + 1) % CLASSES
    np.testing.assert_array_equal(asked(values, fold, changed, weight), before)
    changed[fold == 2, 1] = (changed[fold == 2, 1] + 1) % CLASSES
    assert not np.allclose(asked(values, fold, changed, weight)[fold == 1], before[fold == 1])


def test_where_nobody_can_vote_all_classes_are_alike():
    values, _, _, label, weight = case(4, count=20)
    alone = np.zeros(20, dtype=np.int64)
    np.testing.assert_allclose(asked(values, alone, label, weight), 1 / CLASSES)


def test_samples_that_look_the_same_count_alike():
    _, _, fold, label, weight = case(5, count=30)
    values = np.ones((30, 6), dtype=np.float16)
    probs = asked(values, fold, label, np.ones_like(weight))
    assert ((probs > 0.15) | (probs < 1e-3)).all()  # each of five has a fifth


def test_a_copy_does_not_outvote_the_others():
    values, true, fold, _, weight = case(6, count=1200)
    label = np.repeat(true[:, None], FOLDS + 1, axis=1)
    copy = int(np.flatnonzero(fold == 1)[0])
    values[0], fold[0] = values[copy], 0
    label[copy] = (true[copy] + 1) % CLASSES
    probs = asked(values, fold, label, np.ones_like(weight), rows=np.array([0]))
    assert probs[0].argmax() == true[copy]


def test_a_sample_of_no_fold_hears_everybody_by_the_last_column():
    values, true, fold, label, weight = case(7)
    fold[:50] = MISSING
    label[:, -1] = true
    voting = np.flatnonzero(fold != MISSING)
    probs = asked(values, fold, label, weight, rows=np.arange(50), voting=voting)
    assert (probs.argmax(axis=1) == true[:50]).mean() > 0.9


def test_blocks_are_only_a_matter_of_memory():
    values, _, fold, label, weight = case(8)
    whole = asked(values, fold, label, weight)
    blocks = asked(values, fold, label, weight, similarities=1000)
    np.testing.assert_allclose(blocks, whole, atol=1e-5)


def test_of_many_samples_some_are_drawn():
    rows = np.arange(0, 1000, 2)
    assert draw_voters(rows, 500, 0) is rows
    drawn = draw_voters(rows, 100, 0)
    assert len(np.unique(drawn)) == 100
    assert set(drawn) <= set(rows)
    assert (np.diff(drawn) > 0).all()
    again, other = draw_voters(rows, 100, 0), draw_voters(rows, 100, 1)
    assert again.tolist() == drawn.tolist() != other.tolist()


def poor_features(kind, rows, width):
    """Features that say little: many of them are constant, copies of each other, or nothing."""
    rng = np.random.default_rng(rows)
    values = rng.normal(size=(rows, width)).astype(np.float32)
    shade = rng.integers(0, 4, rows)
    made = {
        "zero": lambda: np.zeros_like(values),
        "constant": lambda: np.full_like(values, 0.333),
        "mostly constant": lambda: np.where(np.arange(width) < 2 * width // 3, 0.1, values),
        "copies of one": lambda: np.repeat(values[:, :1], width, axis=1),
        "the same row": lambda: np.repeat(values[:1], rows, axis=0),
        "four rows": lambda: values[shade % rows],
        "two dimensions": lambda: values[:, :2] @ rng.normal(size=(2, width)),
        "one row differs": lambda: np.where(np.arange(rows)[:, None] == 0, values, 0),
        "tiny": lambda: values * 1e-7,
        "huge": lambda: np.sign(values) * 60_000,
    }[kind]()
    return made.astype(np.float16)


POOR = (
    "zero",
    "constant",
    "mostly constant",
    "copies of one",
    "the same row",
    "four rows",
    "two dimensions",
    "one row differs",
    "tiny",
    "huge",
)


def check_poor_features(kind, rows, width):
    values = poor_features(kind, rows, width)
    rng = np.random.default_rng(1)
    fold = np.arange(rows) % FOLDS
    label = rng.integers(0, CLASSES, (rows, FOLDS + 1))
    probs = asked(values, fold, label, np.ones((rows, FOLDS + 1), np.float32))
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-4)
    embedding = embed(values, np.arange(rows))
    assert np.isfinite(embedding.vectors).all()
    assert np.linalg.norm(embedding.vectors, axis=1).max() < 1.001
    return probs


@pytest.mark.parametrize("kind", POOR)
@pytest.mark.parametrize(("rows", "width"), [(10, 40), (400, 300)])
def test_features_that_say_little_are_no_obstacle(kind, rows, width):
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            check_poor_features(kind, rows, width)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("kind", POOR)
def test_many_features_that_say_little_are_no_obstacle(kind):
    for rows in (20_000, 50_000):
        check_poor_features(kind, rows, 600)


def test_leading_eigenvectors_are_those_of_numpy():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(30, 8))
    matrix = half @ half.T  # of rank 8
    spread, axes = leading_eigenvectors(matrix, 12)
    np.testing.assert_allclose(spread, np.linalg.eigvalsh(matrix)[-12:], atol=1e-9)
    np.testing.assert_allclose(matrix @ axes, axes * spread, atol=1e-9)


def test_of_a_matrix_that_is_not_finite_there_are_no_eigenvectors():
    with pytest.raises(TrainingError, match="principal components"):
        leading_eigenvectors(np.full((3, 3), np.nan), 2)
