"""Candidates for the nearest neighbors of many rows, by cells of vectors that point alike.

Rows are split into cells by spherical k-means, again and again until each cell is small. A row is
compared with the rows of the cells whose means are the nearest to it, whole cells at a time, so
that nearly all of the work is products of matrices and grows with N. Every product has the same
shape whatever the number of threads, so the same vectors give the same candidates bit for bit.

Letters: N rows, P components, C cells, B rows of a block, k candidates of a row.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from labelfix.types import MISSING
from labelfix.utils.threads import blocks_of

Vectors: TypeAlias = NDArray[np.float32]
"""A vector a row."""

Rows: TypeAlias = NDArray[np.int64]
"""Numbers of rows, or of cells."""


@dataclass(frozen=True, slots=True)
class CellSearch:
    """How cells are made, and how many of them are searched.

    Args:
        largest: Rows of a cell at most.
        ways: Into so many parts rows are split at a time.
        sample: Rows of a part that its mean is learned from.
        rounds: Of k-means.
        probes: Cells that each row is compared with.
        nearby: Among so many cells around its own they are looked for.
        block: Rows that are searched for at a time.
    """

    largest: int = 512
    ways: int = 32
    sample: int = 64
    rounds: int = 6
    probes: int = 64
    nearby: int = 512
    block: int = 16_384

    @property
    def compared(self) -> int:
        """Return about how many rows each is compared with: cells are half full."""
        return self.probes * self.largest // 2


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Rows, by the cells that they lie in.

    Args:
        order: ``(N,)`` the rows, cell by cell.
        starts: ``(C + 1,)`` where each cell begins in them.
        means: ``(C, P)`` the mean direction of each, of length 1.
    """

    order: Rows
    starts: Rows
    means: Vectors

    def __len__(self) -> int:
        """Return C."""
        return len(self.means)

    def rows(self, cell: int) -> Rows:
        """Return the rows of a cell."""
        return self.order[self.starts[cell] : self.starts[cell + 1]]

    def runs(self, size: int) -> Iterator[range]:
        """Yield runs of cells of so many rows together, or of one cell."""
        first = 0
        while first < len(self):
            last = int(np.searchsorted(self.starts, self.starts[first] + size, "right")) - 1
            yield range(first, max(last, first + 1))
            first = max(last, first + 1)


def split_into_cells(vectors: Vectors, pool: ThreadPoolExecutor, how: CellSearch) -> Cells:
    """Return cells of vectors that point alike.

    Args:
        vectors: ``(N, P)``, each of length 1 or 0; N > 0.
        pool: Threads of one core each.
        how: How large cells are.
    """
    done: list[Rows] = []
    waiting = [np.arange(len(vectors))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= how.largest:
            done.append(rows)
            continue
        parts = _split(vectors, rows, pool, how)
        if len(parts) == 1:  # all at one place: any of them are as near as others
            done += [rows[block] for block in blocks_of(len(rows), how.largest)]
        else:
            waiting += parts[::-1]
    starts = np.cumsum([0, *map(len, done)])
    means = np.stack([_direction(vectors[rows].mean(axis=0)) for rows in done])
    return Cells(np.concatenate(done), starts, means)


def find_candidates(
    vectors: Vectors, count: int, pool: ThreadPoolExecutor, how: CellSearch = CellSearch()
) -> Rows:
    """Return ``(N, k)`` rows that are probably the nearest to each, itself among them.

    The nearest come first; ``MISSING`` where the cells that were searched hold fewer.

    Args:
        vectors: ``(N, P)``, each of length 1 or 0; N > 0.
        count: k.
        pool: Threads of one core each.
        how: How many cells are searched.
    """
    cells = split_into_cells(vectors, pool, how)
    nearby = _nearest_cells(cells.means, pool, how)
    found = np.empty((len(vectors), count), np.int64)

    def search(run: range) -> None:
        rows = cells.order[cells.starts[run.start] : cells.starts[run.stop]]
        queries = vectors[rows]
        probed = _probed(queries, run, cells, nearby, how.probes)
        found[rows] = _search(vectors, queries, probed, cells, count)

    for _ in pool.map(search, cells.runs(how.block)):
        pass
    return found


def _split(vectors: Vectors, rows: Rows, pool: ThreadPoolExecutor, how: CellSearch) -> list[Rows]:
    """Return the parts of some rows, none of them empty."""
    ways = min(how.ways, -(-2 * len(rows) // how.largest))
    means = _means(vectors[rows[:: max(1, len(rows) // (ways * how.sample))]], ways, how.rounds)

    def assign(block: slice) -> Rows:
        return _nearest(vectors[rows[block]], means)

    part = np.concatenate(list(pool.map(assign, blocks_of(len(rows), how.block))))
    order = np.argsort(part, kind="stable")
    ends = np.cumsum(np.bincount(part, minlength=ways))
    return [some for some in np.split(rows[order], ends[:-1]) if len(some)]


def _means(sample: Vectors, count: int, rounds: int) -> Vectors:
    """Return ``(count, P)`` mean directions of a sample, by k-means from evenly spaced rows."""
    means = sample[np.linspace(0, len(sample) - 1, count).astype(np.int64)]
    for _ in range(rounds):
        is_of = np.zeros((count, len(sample)), np.float32)
        is_of[_nearest(sample, means), np.arange(len(sample))] = 1
        sums = is_of @ sample
        means = np.where(is_of.any(axis=1, keepdims=True), _direction(sums), means)
    return means


def _direction(vectors: Vectors) -> Vectors:
    """Return vectors scaled to a length of 1; those of length 0 stay as they are."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)


def _nearest(vectors: Vectors, means: Vectors) -> Rows:
    return np.asarray((vectors @ means.T).argmax(axis=1))


def _nearest_cells(means: Vectors, pool: ThreadPoolExecutor, how: CellSearch) -> Rows:
    """Return ``(C, nearby)`` the cells around each, itself among them."""
    count = min(how.nearby, len(means))

    def search(block: slice) -> Rows:
        return nearest_columns(means[block] @ means.T, count)

    return np.concatenate(list(pool.map(search, blocks_of(len(means), how.largest))))


def _probed(queries: Vectors, run: range, cells: Cells, nearby: Rows, probes: int) -> Rows:
    """Return ``(B, probes)`` the cells that each row of a run of cells is compared with."""
    first = cells.starts[run.start]
    parts = []
    for cell in run:
        own = queries[cells.starts[cell] - first : cells.starts[cell + 1] - first]
        some = nearby[cell]
        parts.append(some[nearest_columns(own @ cells.means[some].T, min(probes, len(some)))])
    return np.concatenate(parts)


def _search(vectors: Vectors, queries: Vectors, probed: Rows, cells: Cells, count: int) -> Rows:
    """Return ``(B, k)`` the nearest to each query among the rows of the cells it is compared with.

    Each cell is compared with all that ask for it at once.
    """
    nearest = torch.full((len(queries), count), -torch.inf)
    rows = torch.full((len(queries), count), MISSING)
    by_cell = np.argsort(probed, axis=None, kind="stable")
    asked, starts = np.unique(probed.ravel()[by_cell], return_index=True)
    askers = np.split(by_cell // probed.shape[1], starts[1:])
    for cell, some in zip(asked.tolist(), askers, strict=True):
        members = cells.rows(cell)
        scores = torch.from_numpy(queries[some] @ vectors[members].T)
        asking = torch.from_numpy(some)
        best = torch.cat([nearest[asking], scores], dim=1).topk(count, dim=1)
        known = torch.cat([rows[asking], torch.from_numpy(members).expand(len(some), -1)], dim=1)
        nearest[asking], rows[asking] = best.values, known.gather(1, best.indices)
    return np.asarray(rows.numpy())


def nearest_columns(scores: Vectors, count: int) -> Rows:
    """Return ``(B, count)`` the columns of the highest scores of each row, in no order."""
    # eight times as fast as numpy's argpartition, which took longer than the products
    return np.asarray(torch.from_numpy(scores).topk(count, dim=1, sorted=False).indices.numpy())
