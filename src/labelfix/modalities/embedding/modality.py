"""Embeddings as a modality: the features are given, and heads alone are trained on them.

Letters: N samples, B samples of a block, D features, E pairs.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.config import AuditConfig
from labelfix.data.vectors import MODALITY, VectorStore, kind_shown
from labelfix.modalities.base import Modality, Renderer, get_modality, no_pictures
from labelfix.types import Assumption, Features, SampleStore
from labelfix.utils.progress import OnProgress, Progress
from labelfix.utils.sample_reader import DIGEST_BYTES, content_digest
from labelfix.utils.scratch import new_array
from labelfix.utils.threads import blocks_of, cores

BLOCK = 2048
"""B: rows that are read, and pairs that are compared, at a time."""

LARGEST_ERROR = 0.02
"""What float16 may take from a feature, as a share of its standard deviation."""

SHARPNESS = 11
"""Power of the cosine: one of 0.98 is then 0.8, the usual least similarity of near-duplicates."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorStatistics:
    """What pairs of samples are compared by.

    Args:
        values: ``(N, D)`` float16 features of all samples.
        rows: ``(n,)`` int64: those that are looked at.
        mean: ``(D,)`` float32, over the readable samples.
        scale: ``(D,)`` float32: 1 / standard deviation, 0 of a constant.
    """

    values: NDArray[np.float16]
    rows: NDArray[np.int64]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    def of(self, rows: NDArray[np.int64]) -> "VectorStatistics":
        """Return that of some rows, in that order."""
        return VectorStatistics(self.values, self.rows[rows], self.mean, self.scale)

    def directions(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return ``(B, D)`` vectors of length 1: the features, each counting alike."""
        vectors = self.values[self.rows[rows]].astype(np.float32)
        vectors -= self.mean
        vectors *= self.scale
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units: NDArray[np.float32] = np.divide(
            vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0
        )
        return units


@dataclass(frozen=True, slots=True, eq=False)
class _Moments:
    """What the columns of the features look like, over the readable samples.

    Args:
        mean: ``(D,)`` float64.
        spread: ``(D,)`` float64, the standard deviation; 0 of what is constant but for rounding.
        lost: ``(D,)`` float64, root mean square of what float16 takes away; infinite beyond it.
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    lost: NDArray[np.float64]

    @property
    def fits(self) -> bool:
        """Return whether float16 holds the features as they are."""
        return bool(np.all(self.lost <= LARGEST_ERROR * self.spread))

    @property
    def scale(self) -> NDArray[np.float64]:
        """Return ``(D,)`` 1 / the standard deviation, 0 of a constant."""
        return np.divide(1, self.spread, out=np.zeros_like(self.spread), where=self.spread > 0)


class VectorEncoder:
    """Hands vectors on as features.

    Features are kept as float16. Where that would take something from them they are standardized
    first, feature by feature, which heads and neighbors do anyway.

    Args:
        shown_kind: The modality of what the vectors stand for.
        config: Names the file of the features.
    """

    name = "given features"

    def __init__(self, shown_kind: str, config: AuditConfig) -> None:
        self._shown_kind = shown_kind
        self._file = config.dataset.features

    def encode(
        self, store: SampleStore, fingerprint: str, cache: Path, on_progress: OnProgress
    ) -> Features:
        """Return the vectors of all samples; nothing is cached."""
        if not isinstance(store, VectorStore):
            raise TypeError("only vectors are features as they are")
        count = len(store)
        content = np.zeros(count, f"S{DIGEST_BYTES}")
        unreadable: dict[int, str] = {}
        sums = _Sums(store.width)
        for rows, vectors, faults in _blocks(store):
            unreadable |= {rows.start + place: why for place, why in faults.items()}
            for place, vector in enumerate(vectors):
                if place not in faults:
                    content[rows.start + place] = content_digest(vector.data)
            sums.add(_usable(vectors, faults).astype(np.float64))
            on_progress(Progress("reading the features", rows.stop, count, "samples"))
        moments = sums.moments()
        mean, scale = np.zeros(1), np.ones(1)
        assumptions: tuple[Assumption, ...] = ()
        if not moments.fits:
            mean, scale = moments.mean, moments.scale
            said = (
                "each feature was standardized: float16, which labelfix keeps features in, would "
                "lose digits of them as they are (give smaller numbers of similar size otherwise)"
            )
            assumptions = (Assumption("values", said),)
        values = _kept(store, mean, scale)
        as_kept = moments if moments.fits else _standard(moments)
        statistics = VectorStatistics(
            values,
            np.arange(count),
            as_kept.mean.astype(np.float32),
            as_kept.scale.astype(np.float32),
        )
        return Features(values, content, unreadable, statistics, assumptions)

    def settings(self) -> Mapping[str, Any]:
        """Return where the features came from, and what pages show of the samples."""
        file = {} if self._file is None else {"features": str(self._file)}
        return {"shown": self._shown_kind, **file}


class EmbeddingModality(Modality):
    """Vectors of numbers, with or without the pictures or texts that they were made from."""

    name = MODALITY

    def encoder(self, config: AuditConfig, store: SampleStore) -> VectorEncoder:
        """Return what hands the vectors on."""
        return VectorEncoder(kind_shown(store), config)

    def confirm_duplicates(
        self, statistics: VectorStatistics, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return ``(E,)`` the cosine of each pair to the power of `SHARPNESS`, 0 if negative."""
        alike = np.zeros(len(first), np.float32)

        def compare(block: slice) -> None:
            pairs = statistics.directions(first[block]), statistics.directions(second[block])
            alike[block] = np.einsum("ed,ed->e", *pairs).clip(0, 1) ** SHARPNESS

        with ThreadPoolExecutor(cores()) as pool:
            for _ in pool.map(compare, blocks_of(len(first), BLOCK)):
                pass
        return alike

    def renderer(
        self, store: SampleStore, settings: Mapping[str, Any], on_progress: OnProgress
    ) -> Renderer:
        """Return who shows the pictures or texts that the data name beside the vectors."""
        kind = settings.get("shown", MODALITY)
        if kind == self.name:
            return no_pictures(
                "Only features were given: the data name no column of pictures or texts to show."
            )
        return get_modality(kind).renderer(store, {}, on_progress)


def _standard(moments: _Moments) -> _Moments:
    """Return the moments of features that were standardized."""
    varies = (moments.spread > 0).astype(np.float64)
    return _Moments(np.zeros_like(moments.mean), varies, np.zeros_like(moments.lost))


def _blocks(
    store: VectorStore,
) -> Iterator[tuple[slice, NDArray[np.float32], Mapping[int, str]]]:
    """Yield rows, their ``(B, D)`` vectors, and place to reason for those of no use."""
    for rows in blocks_of(len(store), BLOCK):
        yield rows, *store.read_block(rows)


def _usable(vectors: NDArray[np.float32], faults: Mapping[int, str]) -> NDArray[np.float32]:
    return np.delete(vectors, list(faults), axis=0) if faults else vectors


def _kept(
    store: VectorStore, mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float16]:
    """Return ``(N, D)`` vectors, shifted and scaled; zeros where they are of no use."""
    values = new_array((len(store), store.width), np.float16)
    for rows, vectors, faults in _blocks(store):
        is_usable = np.ones(len(vectors), np.bool_)
        is_usable[list(faults)] = False
        part = (vectors[is_usable].astype(np.float64) - mean) * scale
        values[rows][is_usable] = part
    return values


class _Sums:
    """Sums over the readable samples, block by block.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        self._count, self._sums, self._first = 0, np.zeros((3, width)), np.zeros(width)

    def add(self, vectors: NDArray[np.float64]) -> None:
        """Add ``(B, D)`` vectors."""
        if not len(vectors):
            return
        if self._count == 0:
            self._first = vectors[0].copy()
        with np.errstate(over="ignore"):
            lost = vectors - vectors.astype(np.float16)
        moved = vectors - self._first  # so that a large mean takes no digits from the spread
        self._sums += np.stack([moved.sum(0), np.square(moved).sum(0), np.square(lost).sum(0)])
        self._count += len(vectors)

    def moments(self) -> _Moments:
        """Return what the columns look like."""
        means = self._sums / max(self._count, 1)
        mean = self._first + means[0]
        spread = np.sqrt((means[1] - np.square(means[0])).clip(0))
        varies = spread > 1e-6 * np.abs(mean)  # what is left of a constant is rounding
        lost = np.where(varies | np.isinf(means[2]), np.sqrt(means[2]), 0)
        return _Moments(mean, np.where(varies, spread, 0), lost)
