"""Many linear heads on the same frozen features, trained side by side.

All heads see every batch; each counts only the samples of its own folds. One product of matrices
serves them all, so ten cost little more than one.

Letters: N samples, B samples of a batch, D features, K classes, M heads.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelfix.config import HeadConfig
from labelfix.errors import TrainingError
from labelfix.training.regularization import project_onto_balls
from labelfix.utils.torch_utils import warm_up_and_cosine

SUM_CHUNK = 8192


@dataclass(frozen=True, slots=True, eq=False)
class ScaledFeatures:
    """Features as the heads see them: mean 0 and equal spread, a sample's mean square norm 1.

    Args:
        values: ``(N, D)`` float16, may lie on disk.
        mean: ``(D,)`` float32, over the samples that are trained on.
        scale: ``(D,)`` float32.
        device: Where the heads are.
    """

    values: NDArray[np.float16]
    mean: Tensor
    scale: Tensor
    device: torch.device

    def batch(self, rows: NDArray[np.int64]) -> Tensor:
        """Return ``(B, D)`` float32."""
        values = torch.from_numpy(np.ascontiguousarray(self.values[rows]))
        return values.to(self.device).float().sub_(self.mean).mul_(self.scale)


def scale_features(
    values: NDArray[np.float16], rows: NDArray[np.int64], device: torch.device
) -> ScaledFeatures:
    """Return the features scaled by what the given rows look like.

    Args:
        values: ``(N, D)``.
        rows: Which samples are trained on.
        device: Where the heads are.
    """
    total = np.zeros(values.shape[1])
    squares = np.zeros(values.shape[1])
    for start in range(0, len(rows), SUM_CHUNK):
        part = values[rows[start : start + SUM_CHUNK]].astype(np.float64)
        total += part.sum(axis=0)
        squares += (part * part).sum(axis=0)
    mean = total / len(rows)
    spread = np.sqrt(np.maximum(squares / len(rows) - mean * mean, 0))
    varies = spread > 1e-6 * np.maximum(np.abs(mean), 1e-6)
    scale = np.divide(1.0, spread * math.sqrt(len(mean)), out=np.zeros_like(mean), where=varies)
    return ScaledFeatures(
        values=values,
        mean=torch.from_numpy(mean.astype(np.float32)).to(device),
        scale=torch.from_numpy(scale.astype(np.float32)).to(device),
        device=device,
    )


class LinearHeads(nn.Module):
    """M linear classifiers that read the same input."""

    def __init__(self, heads: int, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads, classes, features))
        self.bias = nn.Parameter(torch.zeros(heads, classes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(B, M, K)`` logits of ``(B, D)`` inputs."""
        heads, classes, _ = self.weight.shape
        flat = torch.addmm(self.bias.flatten(), inputs, self.weight.flatten(0, 1).T)
        return flat.view(len(inputs), heads, classes)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the heads are to learn from one batch.

    Args:
        label: ``(B, M)`` int64, or ``(B, M, K)`` float32 how probable each class is.
        weight: ``(B, M)`` float32; 0 where a head must not see a sample.
    """

    label: Tensor
    weight: Tensor


def fit_heads(
    features: ScaledFeatures,
    rows: NDArray[np.int64],
    targets_of: Callable[[NDArray[np.int64]], Batch],
    *,
    classes: int,
    radius: Tensor,
    config: HeadConfig,
    seed: int,
    on_epoch: Callable[[int, int, float], None],
    on_logits: Callable[[NDArray[np.int64], Tensor], None] | None = None,
) -> LinearHeads:
    """Train M heads and return them.

    Each minimizes its weighted cross-entropy within a ball around zero (Li & Zhang, NeurIPS 2021).

    Args:
        features: What the heads see.
        rows: The samples that any head trains on.
        targets_of: Labels and weights of a batch of rows.
        classes: K.
        radius: ``(M,)`` Frobenius radius of each head's ball.
        config: Epochs, batch size, learning rate.
        seed: Of the order of the samples.
        on_epoch: Told the epoch, the number of epochs and the mean loss.
        on_logits: Given the rows and the ``(B, M, K)`` logits of every batch.

    Raises:
        TrainingError: The loss is no longer finite.
    """
    heads = LinearHeads(len(radius), len(features.mean), classes).to(features.device)
    optimizer = torch.optim.Adam(heads.parameters(), lr=config.learning_rate, foreach=True)
    steps_per_epoch = math.ceil(len(rows) / config.batch_size)
    enough = math.ceil(config.least_steps / steps_per_epoch)
    epochs = max(config.epochs, min(enough, config.most_epochs))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, warm_up_and_cosine(epochs * steps_per_epoch)
    )
    radius = radius.to(features.device)
    for epoch in range(epochs):
        losses = []
        for batch_rows in _shuffled(rows, config.batch_size, seed, epoch):
            logits = heads(features.batch(batch_rows))
            loss = _loss(logits, targets_of(batch_rows))
            optimizer.zero_grad()
            loss.sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            project_onto_balls(heads.weight, radius)
            losses.append(loss.detach().mean())
            if on_logits is not None:
                on_logits(batch_rows, logits.detach())
        mean_loss = float(torch.stack(losses).mean())
        if not math.isfinite(mean_loss):
            raise TrainingError(
                f"the loss of the heads is {mean_loss} in epoch {epoch + 1} of {epochs}",
                hint="the features may hold infinite values; try another backbone or --device cpu",
            )
        on_epoch(epoch + 1, epochs, mean_loss)
    return heads


@torch.inference_mode()
def head_probabilities(
    heads: LinearHeads, features: ScaledFeatures, rows: NDArray[np.int64], chunk: int = 4096
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Yield, chunk by chunk, the rows and their ``(B, M, K)`` probabilities."""
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        yield part, heads(features.batch(part)).softmax(dim=2)


def cross_entropy(log_probs: Tensor, label: Tensor) -> Tensor:
    """Return the ``(B, M)`` cross-entropy of labels.

    Args:
        log_probs: ``(B, M, K)``.
        label: As `Batch` has them.
    """
    if label.ndim == log_probs.ndim:
        return -(label * log_probs).sum(dim=2)
    return -log_probs.gather(2, label.unsqueeze(2)).squeeze(2)


def _loss(logits: Tensor, batch: Batch) -> Tensor:
    """Return each head's ``(M,)`` weighted mean cross-entropy."""
    loss = cross_entropy(logits.log_softmax(dim=2), batch.label)
    return (loss * batch.weight).sum(dim=0) / batch.weight.sum(dim=0).clamp_min(1e-6)


def _shuffled(
    rows: NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> Iterator[NDArray[np.int64]]:
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    for start in range(0, len(order), batch_size):
        # rising row numbers within a batch: features on disk are read front to back
        yield np.sort(order[start : start + batch_size])
