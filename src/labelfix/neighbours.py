"""Which images look most alike: the nearest neighbours of each by the features of a frozen network.

Letters: N rows, D features, P principal components, k neighbours, C cells.

Every figure is worked out by one thread, so the same features give the same neighbours bit for bit,
however many threads there are.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

from labelfix.issue_records import Neighbours
from labelfix.single_threads import blocks_of, one_thread_each

NEIGHBOURS = 10
"""k: how many neighbours of each row are found."""

COMPONENTS = 256
"""P: so many principal components of the features are compared."""

SAMPLE = 20_000
"""From so many rows, evenly spaced, the components are learnt."""

LARGEST_DEVIATION = 8.0
"""Standard deviations at which a feature is cut off, so that no single one decides."""

CELL = 512
"""Rows of a cell, on average."""

REACH = 16_384
"""With so many rows, those of the nearest cells, each row is compared: up to here all of them."""

BLOCK = 1024
"""Rows that are compared at a time."""

Vectors: TypeAlias = NDArray[np.float32]
"""A vector a row."""


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
    mean, spread = sample.mean(0, dtype=np.float64), sample.std(0, dtype=np.float64)
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)

    def standardised(part: Vectors) -> Vectors:
        deviations: Vectors = (part - mean.astype(np.float32)) * scale.astype(np.float32)
        return deviations.clip(-LARGEST_DEVIATION, LARGEST_DEVIATION)

    def project(block: slice) -> tuple[Vectors, Vectors]:
        vectors: Vectors = standardised(_finite(values[rows[block]])) @ axes
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        return units, lengths

    with one_thread_each() as pool:
        count = min(COMPONENTS, *sample.shape)
        axes = randomized_svd(standardised(sample), n_components=count, random_state=0)[2].T
        parts = list(pool.map(project, blocks_of(len(rows), BLOCK)))
    vectors, lengths = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Embedding(vectors, lengths[:, 0])


def find_neighbours(vectors: Vectors) -> Neighbours:
    """Return the nearest neighbours of each row among the others.

    Up to ``REACH`` rows the search is exact. Of more, the rows fall into cells around rows drawn
    at random, and each row is compared with those of the cells nearest to its own: an inverted
    file, as of Sivic & Zisserman (2003), so that time grows with N and not with its square.

    Args:
        vectors: ``(N, P)``, each of length 1.
    """
    size = len(vectors)
    count = min(NEIGHBOURS, max(size - 1, 0))
    rows = np.zeros((size, count), np.int64)
    similarities = np.zeros((size, count), np.float32)
    if count == 0:
        return Neighbours(rows, similarities)
    with one_thread_each() as pool:
        cells = _Cells.of(vectors, pool)

        def search(task: tuple[NDArray[np.int64], int]) -> None:
            queries, cell = task
            found = _nearest(vectors, queries, cells.around(cell), count)
            rows[queries], similarities[queries] = found

        for _ in pool.map(search, cells.tasks()):
            pass
    return Neighbours(rows, similarities)


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Rows in groups that lie close together.

    Args:
        members: ``(N,)`` rows, cell by cell.
        starts: ``(C + 1,)`` where each cell begins among them.
        order: ``(C, C)`` cells, nearest first.
    """

    members: NDArray[np.int64]
    starts: NDArray[np.int64]
    order: NDArray[np.int64]

    @classmethod
    def of(cls, vectors: Vectors, pool: ThreadPoolExecutor) -> "_Cells":
        """Put each row into the cell whose centre is nearest."""
        size = len(vectors)
        count = -(-size // CELL) if size > REACH else 1
        drawn = np.random.default_rng(0).choice(size, count, replace=False)
        centres = vectors[np.sort(drawn)]
        parts = pool.map(
            lambda block: (vectors[block] @ centres.T).argmax(1), blocks_of(size, BLOCK)
        )
        cell = np.concatenate(list(parts))
        return cls(
            members=np.argsort(cell, kind="stable"),
            starts=np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=count))]),
            order=np.argsort(-(centres @ centres.T), axis=1, kind="stable"),
        )

    def tasks(self) -> Iterator[tuple[NDArray[np.int64], int]]:
        """Yield rows of one cell at a time, and the cell."""
        for cell in range(len(self.order)):
            for start in range(self.starts[cell], self.starts[cell + 1], BLOCK):
                yield self.members[start : min(start + BLOCK, self.starts[cell + 1])], cell

    def around(self, cell: int) -> NDArray[np.int64]:
        """Return the rows of a cell and of those around it, ``REACH`` or somewhat more."""
        near = self.order[cell]
        sizes = np.diff(self.starts)[near]
        needed = int(np.searchsorted(np.cumsum(sizes), min(REACH, len(self.members)))) + 1
        return np.concatenate(
            [self.members[self.starts[c] : self.starts[c + 1]] for c in near[:needed]]
        )


def _nearest(
    vectors: Vectors,
    queries: NDArray[np.int64],
    others: NDArray[np.int64],
    count: int,
) -> tuple[NDArray[np.int64], Vectors]:
    """Return the ``count`` rows among ``others`` that are nearest to each query, and how near."""
    others = np.sort(others)
    scores = vectors[queries] @ vectors[others].T
    scores[np.arange(len(queries)), np.searchsorted(others, queries)] = -np.inf
    places = np.argpartition(scores, len(others) - count, axis=1)[:, len(others) - count :]
    found = others[places]
    # one formula for both directions of a pair
    exact = np.einsum("qkp,qp->qk", vectors[found], vectors[queries]).clip(-1, 1)
    best = np.lexsort((found, -exact), axis=1)
    return np.take_along_axis(found, best, 1), np.take_along_axis(exact, best, 1)


def _finite(values: NDArray[np.floating]) -> Vectors:
    """Return features of which none is NaN, whatever the network made of an image."""
    return np.nan_to_num(values.astype(np.float32))
