"""Linear heads in closed form: classes with centers of their own and one covariance for all.

What such a head is made of are sums over samples. Those of each fold are taken once; a head that
leaves folds out adds up the others, and needs no pass over the features.

Letters: N samples, B samples of a block, D features, K classes, F folds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.errors import TrainingError
from labelfix.training.heads import ScaledFeatures

BLOCK = 4096
"""Samples whose products are summed in float32; sums of blocks are float64."""

PRIOR_SAMPLES = 1.0
"""Samples at the mean of all classes that each class counts besides its own: the fewer its samples,
the less its mean is believed."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums over some samples, by class and on the whole, on the CPU.

    Args:
        count: ``(K,)`` float64, how many there are.
        total: ``(K, D)`` float64, of their features.
        square: ``(D, D)`` float64, of the outer products of their features.
    """

    count: Tensor
    total: Tensor
    square: Tensor

    @classmethod
    def of(
        cls, features: ScaledFeatures, rows: NDArray[np.int64], label: Tensor, classes: int
    ) -> "Moments":
        """Return the moments of some rows, by one pass over their features.

        Args:
            features: What is summed.
            rows: Over which samples.
            label: ``(N,)`` int64.
            classes: K.

        Raises:
            TrainingError: The features are not finite.
        """
        width = len(features.mean)
        label = label[rows].cpu()
        total = torch.zeros(classes, width, dtype=torch.float64)
        square = torch.zeros(width, width, dtype=torch.float64)
        for start in range(0, len(rows), BLOCK):
            values = features.batch(rows[start : start + BLOCK])
            total.index_add_(0, label[start : start + BLOCK], values.cpu().double())
            square += (values.T @ values).cpu()
        if not bool(square.isfinite().all()):
            raise TrainingError(
                "the heads cannot be trained: the features are not all finite",
                hint="the features may hold infinite values; try another backbone or --device cpu",
            )
        return cls(torch.bincount(label, minlength=classes).double(), total, square)

    @classmethod
    def sum(cls, parts: Iterable["Moments"]) -> "Moments":
        """Return the moments of several sets of samples together.

        They are added up, never taken off a total: what a head leaves out must not reach it even
        as a rounding error.
        """
        first, *others = parts
        whole = cls(first.count.clone(), first.total.clone(), first.square.clone())
        for part in others:
            whole.count.add_(part.count)
            whole.total.add_(part.total)
            whole.square.add_(part.square)
        return whole


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """One linear classifier.

    Args:
        weight: ``(K, D)`` float32.
        bias: ``(K,)`` float32.
    """

    weight: Tensor
    bias: Tensor

    def logits(self, values: Tensor) -> Tensor:
        """Return ``(B, K)``."""
        return torch.addmm(self.bias, values, self.weight.T)

    def times(self, factor: float) -> "LinearHead":
        """Return the head whose logits are so many times as large."""
        return LinearHead(self.weight * factor, self.bias * factor)

    @classmethod
    def mean(cls, heads: Sequence["LinearHead"]) -> "LinearHead":
        """Return the head whose logits are the means of those of some heads."""
        return cls(
            torch.stack([head.weight for head in heads]).mean(dim=0),
            torch.stack([head.bias for head in heads]).mean(dim=0),
        )


def discriminants(
    moments: Moments, shrinkages: Sequence[float], device: torch.device
) -> list[LinearHead]:
    """Return regularized linear discriminants (Friedman, JASA 1989), one for each shrinkage.

    The logit of class k is ``x @ C^-1 @ m_k - m_k @ C^-1 @ m_k / 2 + log(share of k)``: Bayes' rule
    where the samples of each class are spread as a normal distribution around its center m_k, all
    with the covariance C. C is that of the samples around the centers of their classes, moved by
    the shrinkage towards a sphere of the same trace.

    Args:
        moments: Of the samples to train on.
        shrinkages: Between 0, which takes the covariance as it is, and 1, which takes a sphere.
        device: Where the heads shall be.
    """
    count, total = moments.count, moments.total
    classes, width = total.shape
    samples = count.sum()
    center = total + PRIOR_SAMPLES * total.sum(dim=0) / samples
    center /= (count + PRIOR_SAMPLES)[:, None]
    spread = moments.square - (total / count.clamp_min(1)[:, None]).T @ total
    spread /= (samples - classes).clamp_min(1)
    sphere = (spread.trace() / width).clamp_min(1e-12)
    share = (count + PRIOR_SAMPLES) / (samples + PRIOR_SAMPLES * classes)
    heads = []
    for shrinkage in shrinkages:
        covariance = (1 - shrinkage) * spread
        covariance.diagonal().add_(shrinkage * sphere)
        axes = torch.cholesky_solve(center.T, torch.linalg.cholesky(covariance)).T
        bias = share.log() - (center * axes).sum(dim=1) / 2
        heads.append(LinearHead(axes.float().to(device), bias.float().to(device)))
    return heads
