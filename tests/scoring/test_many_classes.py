"""Scoring with many classes: sparse where dense would not fit, and close to dense where both do."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
from hypothesis import given as given_that
from hypothesis import settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from labelfix.config import ScoringConfig
from labelfix.data import probability_store
from labelfix.data.probability_store import ArrayStore
from labelfix.pipeline.probabilities import audit_pred_probs
from labelfix.scoring.many_classes import SparseMixture
from labelfix.scoring.scores import score_labels, score_probabilities
from labelfix.types import MISSING, Evidence, Reviewed


def noisy(count, classes, seed=0):
    """Probabilities that confuse each class with the next two, and labels of which 15 % are wrong.

    Returns:
        ``(N, K)`` float32 probabilities, ``(N,)`` given and ``(N,)`` true labels.
    """
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, count)
    logits = rng.normal(0, 1, (count, classes))
    for step, gain in ((0, 7.0), (1, 4.0), (2, 3.0)):
        logits[np.arange(count), (true + step) % classes] += gain * rng.random(count)
    probs = np.exp(logits)
    probs /= probs.sum(axis=1, keepdims=True)
    given = true.copy()
    wrong = rng.random(count) < 0.15
    given[wrong] = np.where(rng.random(count) < 0.5, true + 1, rng.integers(0, classes, count))[
        wrong
    ]
    return probs.astype(np.float32), given % classes, true


def evidence_of(probs):
    nothing = np.zeros(len(probs))
    return Evidence(
        probs, nothing.astype(np.int16), nothing.astype(np.float32), nothing.astype(np.int64)
    )


@settings(max_examples=12, deadline=None)
@given_that(st.integers(0, 1000), st.integers(2, 30), st.integers(30, 300))
def test_where_all_cells_are_told_apart_nothing_is_lost(seed, classes, count):
    probs, given, _ = noisy(count, classes, seed)
    dense = score_labels(evidence_of(probs), given)
    every_cell = ScoringConfig(
        dense_classes=1, distinct_mistakes=classes, candidate_classes=classes, negligible_cell=0
    )
    sparse = score_labels(evidence_of(probs), given, config=every_cell)
    for name in ("label_error_probability", "under_hypotheses", "alternative_probability"):
        np.testing.assert_allclose(getattr(sparse, name), getattr(dense, name), atol=1e-2)
    np.testing.assert_allclose(sparse.noise_matrix, dense.noise_matrix, atol=1e-2)
    known = np.ix_(np.unique(given), np.unique(given))  # of others sparse noise has no cells
    for one in ("low", "high"):
        found, expected = (
            noise.whole(getattr(noise, one))[known] for noise in (sparse.noise, dense.noise)
        )
        np.testing.assert_allclose(found, expected, atol=1e-2)


def test_the_order_of_labels_is_nearly_that_of_dense_matrices():
    probs, given, true = noisy(4000, 300)
    sparse = score_labels(evidence_of(probs), given)
    dense = score_labels(evidence_of(probs), given, config=ScoringConfig(dense_classes=300))
    found, expected = sparse.label_error_probability, dense.label_error_probability
    assert spearmanr(found, expected)[0] > 0.998
    is_wrong = given != true
    loss = average_precision_score(is_wrong, expected) - average_precision_score(is_wrong, found)
    assert loss < 0.02
    assert abs(sparse.noise_rate - dense.noise_rate) < 0.01
    assert len(sparse.noise.probability) <= 300 * ScoringConfig().candidate_classes


def test_neither_threads_nor_blocks_change_anything(monkeypatch):
    probs, given, _ = noisy(700, 280, 1)
    rows = np.arange(0, 700, 2)
    expected = score_probabilities(ArrayStore(probs), rows, given)
    for cores in (1, 3):
        monkeypatch.setattr("labelfix.utils.threads.cores", lambda cores=cores: cores)
        found = score_probabilities(ArrayStore(np.asfortranarray(probs)), rows, given)
        np.testing.assert_array_equal(
            found.label_error_probability, expected.label_error_probability
        )
        np.testing.assert_array_equal(found.noise.probability, expected.noise.probability)


def test_decisions_are_taken_as_the_truth_with_many_classes_too():
    probs, given, true = noisy(900, 300, 2)
    label, dropped = np.full(900, MISSING), np.zeros(900, np.bool_)
    label[:100] = true[:100]
    dropped[100] = True
    found = score_labels(evidence_of(probs), given, Reviewed(label, dropped))
    np.testing.assert_array_equal(found.label_error_probability[:100], given[:100] != true[:100])
    assert found.label_error_probability[100] == 1


def test_classes_that_nobody_was_given_and_samples_fewer_than_classes_do_no_harm():
    probs, given, _ = noisy(40, 500, 3)
    found = score_labels(evidence_of(probs), given % 7)
    assert np.isfinite(found.label_error_probability).all()
    assert 0 <= found.noise_rate <= 1
    assert np.isfinite(found.noise.probability).all()


def test_hard_probabilities_do_no_harm():
    probs, given, _ = noisy(600, 300, 4)
    hard = np.eye(300, dtype=np.float32)[probs.argmax(axis=1)]
    found = score_labels(evidence_of(hard), given)
    assert np.isfinite(found.label_error_probability).all()


@settings(max_examples=20, deadline=None)
@given_that(st.integers(0, 1000), st.integers(12, 60))
def test_the_rows_of_a_sparse_mixture_sum_to_one(seed, classes):
    rows = np.random.default_rng(seed).dirichlet(np.full(classes, 0.2), classes)
    mixture = SparseMixture.of_rows(rows, classes, mistakes=8)
    matrix = mixture.mix(np.eye(classes, dtype=np.float32)).T
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(np.diag(matrix), np.diag(rows), atol=1e-5)
    np.testing.assert_allclose(mixture.pull(np.eye(classes, dtype=np.float32)), matrix, atol=1e-6)


def test_labels_of_many_samples_are_read_in_blocks(monkeypatch):
    probs, given, _ = noisy(500, 260, 5)
    given[:400] = 3
    expected = score_labels(evidence_of(probs), given)
    monkeypatch.setattr(probability_store, "BLOCK_ELEMENTS", 260 * 17)
    found = score_labels(evidence_of(probs), given)
    np.testing.assert_allclose(
        found.label_error_probability, expected.label_error_probability, atol=1e-3
    )


def test_the_table_of_many_classes_leaves_out_what_is_negligible(tmp_path):
    probs, given, _ = noisy(900, 300, 6)
    np.savez(tmp_path / "p.npz", pred_probs=probs, labels=given)
    audit_pred_probs(tmp_path / "p.npz", tmp_path / "run")
    table = pq.read_table(tmp_path / "run" / "noise_matrix.parquet").to_pydict()
    probability = np.array(table["probability"])
    is_own = np.array(table["true_label"]) == np.array(table["given_label"])
    assert is_own.sum() == 300
    assert len(probability) < 300 * 300 / 2
    assert (probability[~is_own] >= ScoringConfig().negligible_cell).all()
    sums = np.bincount(np.array(table["true_label"], np.int64), probability)
    assert (sums <= 1 + 1e-9).all()
    assert sums.mean() > 0.6
    assert (np.array(table["low"]) <= probability).all()
    assert (probability <= np.array(table["high"])).all()


def test_threads_share_the_work_of_unmixing():
    rows = np.random.default_rng(0).dirichlet(np.full(300, 0.1), 300)
    mixture = SparseMixture.of_rows(rows, 300, mistakes=8)
    weights = np.full((300, 32), 1 / 300, np.float32)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: mixture.mix(weights), range(8)))
    for one in found:
        np.testing.assert_array_equal(one, found[0])
