"""The nearest neighbors: the right ones, and the same ones whatever does the work."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

import labelfix.issues.neighbors as neighbors
from labelfix.issues.cells import CellSearch, split_into_cells
from labelfix.issues.neighbors import NEIGHBORS, embed, find_neighbors


def clustered(count, width=40, seed=0):
    rng = np.random.default_rng(seed)
    centers = 2 * rng.normal(size=(12, width))
    values = centers[rng.integers(0, 12, count)] + rng.normal(size=(count, width))
    return values.astype(np.float16)


def unit(count, width=16, seed=0):
    vectors = clustered(count, width, seed).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_they_are_those_of_scikit_learn():
    vectors = unit(700)
    found = find_neighbors(vectors)
    reference = NearestNeighbors(n_neighbors=NEIGHBORS + 1, metric="cosine").fit(vectors)
    distances, rows = reference.kneighbors(vectors)
    assert (rows[:, 0] == np.arange(700)).all()
    np.testing.assert_allclose(1 - found.similarities, distances[:, 1:], atol=1e-5)
    assert (found.rows == rows[:, 1:]).mean() > 0.999


@given(st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=25)
def test_no_row_is_its_own_neighbor_and_none_is_there_twice(count, seed):
    found = find_neighbors(unit(count, seed=seed))
    assert found.rows.shape == found.similarities.shape == (count, min(NEIGHBORS, count - 1))
    for row, near in enumerate(found.rows.tolist()):
        assert row not in near
        assert len(set(near)) == len(near)
    assert (np.diff(found.similarities, axis=1) <= 0).all()
    assert (np.abs(found.similarities) <= 1).all()


def test_rows_at_one_place_come_in_their_order():
    vectors = np.repeat(np.eye(3, dtype=np.float32), [14, 1, 1], axis=0)
    assert find_neighbors(vectors).rows[13].tolist() != [13] * NEIGHBORS
    assert (find_neighbors(vectors).similarities[:14] == 1).all()


SMALL = CellSearch(largest=64, probes=16, block=700)


def test_cells_find_nearly_all_that_an_exact_search_finds():
    vectors = unit(4000)
    exact = find_neighbors(vectors)
    near = find_neighbors(vectors, exact_rows=1000, search_in=SMALL)
    shared = [len(set(a) & set(b)) for a, b in zip(exact.rows, near.rows, strict=True)]
    assert np.mean(shared) / NEIGHBORS > 0.97
    assert (exact.rows[:, 0] == near.rows[:, 0]).mean() > 0.97
    assert not (near.rows == np.arange(4000)[:, None]).any()


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 4), st.integers(0, 1000))
@settings(max_examples=25)
def test_where_every_cell_is_searched_the_search_is_exact(count, largest, ways, seed):
    vectors = unit(count, seed=seed)
    search = CellSearch(largest=largest, ways=ways + 1, probes=count, nearby=count, block=50)
    found = find_neighbors(vectors, exact_rows=0, search_in=search)
    exact = find_neighbors(vectors)
    np.testing.assert_array_equal(found.rows, exact.rows)
    np.testing.assert_array_equal(found.similarities, exact.similarities)


@given(st.integers(1, 400), st.integers(1, 40), st.integers(0, 1000), st.booleans())
@settings(max_examples=25)
def test_each_row_is_in_one_cell_and_none_is_too_large(count, largest, seed, are_alike):
    vectors = unit(count, seed=seed)
    if are_alike:
        vectors[count // 2 :] = vectors[0]
    with ThreadPoolExecutor(2) as pool:
        cells = split_into_cells(vectors, pool, CellSearch(largest=largest))
    assert sorted(cells.order.tolist()) == list(range(count))
    assert 1 <= np.diff(cells.starts).min() <= np.diff(cells.starts).max() <= largest
    runs = [cell for run in cells.runs(50) for cell in run]
    assert runs == list(range(len(cells)))


def test_rows_without_a_direction_have_neighbors_too():
    vectors = unit(300)
    vectors[::3] = 0
    found = find_neighbors(vectors, exact_rows=0, search_in=CellSearch(largest=20, probes=2))
    assert all(len(set(near)) == NEIGHBORS for near in found.rows.tolist())
    assert np.isfinite(found.similarities).all()


def test_many_copies_are_their_own_neighbors_in_cells_too():
    vectors = np.concatenate([unit(600), np.repeat(unit(1, seed=5), 300, axis=0)])
    found = find_neighbors(vectors, exact_rows=100, search_in=SMALL)
    assert not (found.rows == np.arange(900)[:, None]).any()
    assert all(len(set(near)) == NEIGHBORS for near in found.rows.tolist())
    np.testing.assert_allclose(found.similarities[600:], 1, atol=1e-5)


@pytest.mark.parametrize("exact", [16_384, 500])
def test_the_number_of_threads_changes_nothing(monkeypatch, exact):
    values = clustered(2500, 300)
    results = []
    for cores in (1, 3):
        monkeypatch.setattr("labelfix.utils.threads.cores", lambda cores=cores: cores)
        monkeypatch.setattr(neighbors, "cores", lambda cores=cores: cores)
        embedding = embed(values, np.arange(2500))
        found = find_neighbors(embedding.vectors, exact_rows=exact, search_in=SMALL)
        results.append((embedding.vectors, embedding.lengths, found.rows, found.similarities))
    for one, three in zip(*results, strict=True):
        assert one.tobytes() == three.tobytes()


def test_features_count_alike_whatever_their_scale():
    values = clustered(600).astype(np.float32)
    scaled = values * np.where(np.arange(values.shape[1]) % 2, 1000, 1)
    rows = np.arange(600)
    plain, other = (find_neighbors(embed(v, rows).vectors).rows for v in (values, scaled))
    assert (plain[:, 0] == other[:, 0]).mean() > 0.99


def test_constant_and_missing_features_do_no_harm():
    values = clustered(50)
    values[:, 3], values[7, 5], values[8] = 2, np.nan, np.inf
    embedding = embed(values, np.arange(50))
    assert np.isfinite(embedding.vectors).all()
    assert np.isfinite(find_neighbors(embedding.vectors).similarities).all()
