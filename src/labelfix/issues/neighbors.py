"""Which images look most alike: the nearest neighbors of each by the features of a frozen network.

Letters: N rows, D features, P principal components, k neighbors.

Every figure is worked out by one thread, so the same features give the same neighbors bit for bit,
however many threads there are.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

from labelfix.issues.cells import CellSearch, Vectors, find_candidates, nearest_columns
from labelfix.issues.types import Neighbors
from labelfix.types import MISSING
from labelfix.utils.scratch import new_array
from labelfix.utils.threads import blocks_of, cores, one_blas_thread, one_thread_each
from labelfix.utils.torch_utils import one_core_threads

NEIGHBORS = 10
"""k: how many neighbors of each row are found."""

COMPONENTS = 256
"""P: so many principal components of the features are compared."""

SAMPLE = 20_000
"""From so many rows, evenly spaced, the components are learnt."""

LARGEST_DEVIATION = 8.0
"""Standard deviations at which a feature is cut off, so that no single one decides."""

EXACT = 65_536
"""Up to so many rows, each is compared with all others; of more, with those of cells around it."""

BLOCK = 1024
"""Rows that are compared at a time, at most."""

COMPARISONS = 1 << 24
"""So many are held at a time, 64 MiB for each core."""

COLUMNS = 128
"""Features whose spread is found at a time."""

OUTLIER_DEVIATIONS = 3.5
"""At so many deviations an outlier scores one half."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Features as vectors whose directions say how alike images are.

    Args:
        vectors: ``(N, P)`` of length 1, or 0.
        lengths: ``(N,)`` that they had: far from the mean of all images they are large.
    """

    vectors: Vectors
    lengths: NDArray[np.float32]


def embed(values: NDArray[np.floating], rows: NDArray[np.int64]) -> Embedding:
    """Return the features of images as vectors that can be compared.

    Features are standardised, so that each counts alike, and reduced to their principal components.

    Args:
        values: ``(M, D)`` features.
        rows: ``(N,)`` numbers of the rows that are looked at.
    """
    spaced = rows[:: max(1, -(-len(rows) // SAMPLE))]
    sample = _finite(values[spaced])
    mean, spread = sample.mean(0, dtype=np.float64), _spread_of(sample)
    varies = spread > 1e-6 * np.maximum(
        np.abs(mean), 1e-6
    )  # what is left of a constant is rounding
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=varies)

    def standardised(part: Vectors) -> Vectors:
        """Return a part standardised, in its own place."""
        part -= mean.astype(np.float32)
        part *= scale.astype(np.float32)
        return part.clip(-LARGEST_DEVIATION, LARGEST_DEVIATION, out=part)

    count = min(COMPONENTS, *sample.shape)
    units: Vectors = new_array((len(rows), count), np.float32)
    lengths = np.empty(len(rows), np.float32)

    def project(block: slice) -> None:
        vectors: Vectors = standardised(_finite(values[rows[block]])) @ axes
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, length, out=units[block], where=length > 0)
        lengths[block] = length[:, 0]

    with one_thread_each() as pool:
        axes = randomized_svd(standardised(sample), n_components=count, random_state=0)[2].T
        del sample
        for _ in pool.map(project, blocks_of(len(rows), BLOCK)):
            pass
    return Embedding(units, lengths)


def find_neighbors(
    vectors: Vectors,
    *,
    count: int = NEIGHBORS,
    exact_rows: int = EXACT,
    search_in: CellSearch = CellSearch(),
) -> Neighbors:
    """Return the nearest neighbors of each row among the others.

    Up to ``exact_rows`` rows the search is exact. Of more, cells of vectors that point alike name
    the candidates (`labelfix.issues.cells`), so that time grows with N and not with its square.

    Args:
        vectors: ``(N, P)``, each of length 1.
        count: k, fewer where there are fewer others.
        exact_rows: Of so many rows, or fewer, each is compared with all others.
        search_in: Which cells are searched where there are more.
    """
    size = len(vectors)
    count = min(count, max(size - 1, 0))
    rows = np.zeros((size, count), np.int64)
    similarities = np.zeros((size, count), np.float32)
    if count == 0:
        return Neighbors(rows, similarities)
    block = BLOCK if size > exact_rows else max(1, min(BLOCK, COMPARISONS // size))
    with one_core_threads(cores()) as pool, one_blas_thread():
        candidates = _by_cells(vectors, count, pool, search_in) if size > exact_rows else None

        def search(block: slice) -> None:
            queries = np.arange(size)[block]
            if candidates is None:
                near = _by_comparing(vectors, queries, count)
            else:
                near = candidates[block]
            rows[block], similarities[block] = _ranked(vectors, queries, near)

        for _ in pool.map(search, blocks_of(size, block)):
            pass
    return Neighbors(rows, similarities)


def outlier_score(neighbors: Neighbors, lengths: NDArray[np.float32]) -> Vectors:
    """Return ``(N,)`` how near each sample is to its neighbors, set against all others.

    What counts is the mean distance to the k nearest. Its modified z-score (Iglewicz & Hoaglin
    1993; the deviations above the median alone make its scale, as those below it are of
    duplicates) goes through a logistic curve: 1/2 at 3.5, the authors' limit of an outlier.

    Args:
        neighbors: The nearest by direction.
        lengths: ``(N,)`` of the vectors: distances are between whole vectors.
    """
    own, other = lengths.astype(np.float64)[:, None], lengths.astype(np.float64)[neighbors.rows]
    squares = own**2 + other**2 - 2 * own * other * neighbors.similarities
    if squares.size == 0:
        return np.ones(len(lengths), np.float32)
    distance = np.sqrt(squares.clip(0)).mean(axis=1)
    middle = np.median(distance)
    above = distance[distance > middle] - middle
    deviation = 1.4826 * np.median(above) if above.size else np.inf
    beyond = (distance - middle) / deviation
    with np.errstate(over="ignore"):  # infinity makes 0, as it shall
        score: Vectors = (1 / (1 + np.exp(beyond - OUTLIER_DEVIATIONS))).astype(np.float32)
    return score


def _by_cells(
    vectors: Vectors, count: int, pool: ThreadPoolExecutor, how: CellSearch
) -> NDArray[np.int64]:
    """Return ``(N, count)`` rows that are probably the nearest to each, none of them itself."""
    near = find_candidates(vectors, count + 1, pool, how)
    is_own = near == np.arange(len(vectors))[:, None]
    # a row with many copies may not be among its own nearest: then the last one is too many
    dropped = np.where(is_own.any(axis=1), is_own.argmax(axis=1), count)
    near = near[np.arange(count + 1) != dropped[:, None]].reshape(-1, count)
    for row in np.flatnonzero((near == MISSING).any(axis=1)):  # its cells hold too few
        near[row] = _by_comparing(vectors, np.array([row]), count)
    return np.asarray(near)


def _by_comparing(vectors: Vectors, queries: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return ``(q, count)`` the rows that are nearest to each query, in no order."""
    scores = vectors[queries] @ vectors.T
    scores[np.arange(len(queries)), queries] = -np.inf
    return nearest_columns(scores, count)


def _ranked(
    vectors: Vectors, queries: NDArray[np.int64], near: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Vectors]:
    """Return neighbors, nearest first, and how near they are."""
    # one formula for both directions of a pair
    exact = np.einsum("qkp,qp->qk", vectors[near], vectors[queries]).clip(-1, 1)
    best = np.lexsort((near, -exact), axis=1)
    return np.take_along_axis(near, best, 1), np.take_along_axis(exact, best, 1)


def _finite(values: NDArray[np.floating]) -> Vectors:
    """Return a copy of features of which none is NaN, whatever the network made of an image."""
    return np.nan_to_num(values.astype(np.float32), copy=False)


def _spread_of(sample: Vectors) -> NDArray[np.float64]:
    """Return the ``(D,)`` standard deviations, some columns at a time: they are doubled in size."""
    parts = [
        sample[:, columns].std(0, dtype=np.float64)
        for columns in blocks_of(sample.shape[1], COLUMNS)
    ]
    return np.concatenate(parts)
