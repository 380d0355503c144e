"""What the samples that look most like one say of its label: a second witness beside the heads.

A linear head draws one border through the whole data set; neighbors know what it looks like
nearby, and err elsewhere. The votes are of the corrected and weighted labels that the heads learn
from, and nobody votes in his own fold.

Letters: N samples, B samples of a batch, R voters, D features, C components, K classes, F folds,
k neighbors.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, eigh
from torch import Tensor

from labelfix.config import HeadConfig
from labelfix.errors import TrainingError
from labelfix.training.heads import ScaledFeatures
from labelfix.utils.threads import one_blas_thread

VOTERS_PER_NEIGHBOR = 20
"""Fewer neighbors vote where there are fewer voters than this for each."""

VOTERS_PER_COMPONENT = 8
"""Fewer principal components are compared where there are fewer voters than this for each."""

SIMILARITIES = 2**24
"""So many similarities are held in memory at once; no result depends on it."""

NOTHING = 1e-6
"""The votes that all classes share where nobody votes."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceSet:
    """Samples that vote, and what for.

    Args:
        rows: ``(R,)`` their numbers.
        fold: ``(R,)`` int64: in this fold nobody hears them.
        label: ``(R, F + 1)`` int64: what they say to each fold, and to a sample of no fold.
        weight: ``(R, F + 1)`` float32: how much that counts.
    """

    rows: NDArray[np.int64]
    fold: Tensor
    label: Tensor
    weight: Tensor


def draw_voters(rows: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """Return the rows that vote, in order: all, or ``limit`` of them drawn at random."""
    if len(rows) <= limit:
        return rows
    drawn = np.random.default_rng([seed, limit]).choice(len(rows), limit, replace=False)
    return rows[np.sort(drawn)]


@torch.inference_mode()
def neighbor_probabilities(
    features: ScaledFeatures,
    rows: NDArray[np.int64],
    fold: Tensor,
    voters: ReferenceSet,
    *,
    classes: int,
    config: HeadConfig,
    similarities: int = SIMILARITIES,
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Yield, block by block, rows and their ``(B, K)`` probabilities by the vote of neighbors.

    The likeness of two samples is the cosine of their whitened principal components. A neighbor's
    vote counts by its weight and by how far it is from being the last of the k to the likeness of
    the first, the rule of Dudani (IEEE Trans. SMC 1976): no scale of likeness has to be known, and
    one copy of a picture does not outvote all others.

    Args:
        features: What is compared.
        rows: ``(N,)`` whose labels are asked for.
        fold: int64, by row number: the fold that a row is in, ``MISSING`` for none.
        voters: Who votes.
        classes: K.
        config: How many neighbors vote, and how many components are compared.
        similarities: So many are held in memory at once.
    """
    axes = _whitened_axes(features, voters.rows, config.neighbor_components)
    known = _directions(features, voters.rows, axes)
    count = _how_many(voters, config)
    size = max(1, similarities // len(voters.rows))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        listens = fold[part]
        alike = _directions(features, part, axes) @ known.T
        alike.masked_fill_(listens[:, None] == voters.fold[None, :], -torch.inf)
        likeness, who = alike.topk(count, dim=1)
        neighbor_labels = voters.label[
            who, listens[:, None]
        ]  # the last column is that of no fold, -1
        weights = _distance_weights(likeness) * voters.weight[who, listens[:, None]]
        votes = torch.full((len(part), classes), NOTHING / classes, device=features.device)
        votes.scatter_add_(1, neighbor_labels, weights)
        yield part, votes / votes.sum(dim=1, keepdim=True)


def _how_many(voters: ReferenceSet, config: HeadConfig) -> int:
    """Return k, at most the number of voters that the largest fold hears."""
    largest = int(torch.bincount(voters.fold).max())
    usual = max(len(voters.rows) // VOTERS_PER_NEIGHBOR, config.least_neighbors)
    wanted = min(usual, config.neighbors)
    return max(min(wanted, len(voters.rows) - largest), 1)


def _distance_weights(likeness: Tensor) -> Tensor:
    """Return ``(B, k)`` from 1, the nearest, to 0, the last; 0 for voters that are not heard.

    Args:
        likeness: ``(B, k)``, falling; -inf for voters that are not heard.
    """
    last = likeness[:, -1:]
    reach = likeness[:, :1] - last
    closeness = torch.where(reach > 0, (likeness - last) / reach, 1.0)
    return torch.where(likeness.isfinite(), closeness, 0.0)


def _whitened_axes(features: ScaledFeatures, rows: NDArray[np.int64], components: int) -> Tensor:
    """Return ``(D, C)``: the principal axes of some rows, each divided by its spread."""
    width = len(features.mean)
    covariance = torch.zeros(width, width, dtype=torch.float64)
    for start in range(0, len(rows), 4096):
        part = features.batch(rows[start : start + 4096])
        covariance += (part.T @ part).cpu().double()
    covered = covariance.numpy() / len(rows)
    varies = np.flatnonzero(covered.diagonal() > 0)
    count = min(components, len(varies), max(len(rows) // VOTERS_PER_COMPONENT, 1))
    whitened = np.zeros((width, max(count, 1)), np.float32)
    if count:
        spread, axes = leading_eigenvectors(covered[np.ix_(varies, varies)], count)
        is_kept = spread > 1e-9 * spread[-1]
        scale = np.divide(1, np.sqrt(spread.clip(0)), out=np.zeros_like(spread), where=is_kept)
        whitened[varies] = axes * scale
    return torch.from_numpy(whitened).to(features.device)


def leading_eigenvectors(
    matrix: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ``(c,)`` largest eigenvalues, rising, and their ``(D, c)`` eigenvectors.

    Of a rank-deficient matrix ``torch.linalg.eigh`` does not always converge, depending on the
    number of threads; LAPACK's drivers do, and where one does not, the next is slower and surer.

    Args:
        matrix: ``(D, D)`` symmetric, finite.
        count: c, at most D.

    Raises:
        TrainingError: The matrix is not finite, or no driver converges.
    """
    first = len(matrix) - count
    with one_blas_thread():  # or the figures would depend on how many threads there are
        for driver in ("evr", "evd", "ev"):
            subset = (first, len(matrix) - 1) if driver == "evr" else None
            try:
                spread, axes = eigh(matrix, driver=driver, subset_by_index=subset)
            except (LinAlgError, ValueError):
                continue
            if np.isfinite(spread).all() and np.isfinite(axes).all():
                return spread[-count:], axes[:, -count:]
    raise TrainingError(
        "the principal components of the features cannot be found",
        hint="the features may hold infinite values; try another backbone or --device cpu",
    )


def _directions(features: ScaledFeatures, rows: NDArray[np.int64], axes: Tensor) -> Tensor:
    """Return ``(B, C)`` vectors of length 1, or 0."""
    parts = [
        torch.nn.functional.normalize(features.batch(rows[start : start + 4096]) @ axes)
        for start in range(0, len(rows), 4096)
    ]
    return torch.cat(parts)
