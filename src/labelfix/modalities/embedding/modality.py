"""Embeddings as a modality: the features are given, and heads alone are trained on them.

Letters: N samples, B samples of a block, D features, E pairs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.config import AuditConfig
from labelfix.data.vectors import MODALITY, kind_shown
from labelfix.modalities.base import Modality, Renderer, get_modality, no_pictures
from labelfix.types import Assumption, Features, SampleStore
from labelfix.utils.progress import OnProgress, Progress
from labelfix.utils.sample_reader import DIGEST_BYTES, content_digest, read_rows
from labelfix.utils.threads import blocks_of

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
        vectors = (self.values[self.rows[rows]].astype(np.float32) - self.mean) * self.scale
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
        count = len(store)
        content = np.zeros(count, f"S{DIGEST_BYTES}")
        unreadable: dict[int, str] = {}
        for start, block in _blocks(store):
            for row, data in enumerate(block, start):
                if isinstance(data, str):
                    unreadable[row] = data
                else:
                    content[row] = content_digest(data)
            on_progress(Progress("reading the features", start + len(block), count, "samples"))
        moments = _moments_of(store)
        mean, scale = np.zeros(1), np.ones(1)
        assumptions: tuple[Assumption, ...] = ()
        if not moments.fits:
            mean, scale = moments.mean, moments.scale
            said = (
                "each feature was standardized: float16, which labelfix keeps features in, would "
                "lose digits of them as they are (give smaller numbers of similar size otherwise)"
            )
            assumptions = (Assumption("values", said),)
        values = np.zeros((count, len(moments.mean)), np.float16)
        for rows, vectors in _vectors(store):
            values[rows] = (vectors - mean) * scale
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
        for block in blocks_of(len(first), BLOCK):
            pairs = statistics.directions(first[block]), statistics.directions(second[block])
            alike[block] = np.einsum("ed,ed->e", *pairs).clip(0, 1) ** SHARPNESS
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


def _blocks(store: SampleStore) -> Iterator[tuple[int, list[bytes | str]]]:
    for start in range(0, len(store), BLOCK):
        yield start, read_rows(store, range(start, min(start + BLOCK, len(store))))


def _vectors(store: SampleStore) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Yield rows ``(B,)`` and vectors ``(B, D)``, those that can be read."""
    for start, block in _blocks(store):
        there = [(row, data) for row, data in enumerate(block, start) if isinstance(data, bytes)]
        if there:
            vectors = np.stack([np.frombuffer(data, "<f4") for _, data in there])
            yield np.array([row for row, _ in there]), vectors.astype(np.float64)


def _moments_of(store: SampleStore) -> _Moments:
    count, sums, first = 0, np.zeros((3, 1)), np.zeros(1)
    for _, vectors in _vectors(store):
        if count == 0:
            first, sums = vectors[0], np.zeros((3, vectors.shape[1]))
        with np.errstate(over="ignore"):
            lost = vectors - vectors.astype(np.float16)
        moved = vectors - first  # so that a large mean takes no digits from the spread
        sums += np.stack([moved.sum(0), np.square(moved).sum(0), np.square(lost).sum(0)])
        count += len(vectors)
    means = sums / max(count, 1)
    mean = first + means[0]
    spread = np.sqrt((means[1] - np.square(means[0])).clip(0))
    varies = spread > 1e-6 * np.abs(mean)  # what is left of a constant is rounding
    lost = np.where(varies | np.isinf(means[2]), np.sqrt(means[2]), 0)
    return _Moments(mean, np.where(varies, spread, 0), lost)
