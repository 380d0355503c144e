"""Plain linear heads on frozen features, for baselines and for what cleaner labels are worth.

They are trained side by side. Each has its own labels and weights, and a ball whose radius is
chosen by the likelihood of its own labels on a held-out fifth.

Letters: N samples, T test samples, D features, K classes, M heads, R candidate radii.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from labelfix.config import HeadConfig
from labelfix.training.heads import (
    Batch,
    LinearHeads,
    ScaledFeatures,
    cross_entropy,
    fit_heads,
    head_probabilities,
    scale_features,
)

HELD_OUT = 5
"""One in so many samples is held out to choose a radius."""

OnLogits = Callable[[NDArray[np.int64], Tensor], None]


@dataclass(frozen=True, slots=True, eq=False)
class HeadTargets:
    """What M heads are to learn.

    Args:
        values: ``(N, D)`` features.
        label: ``(N, M)`` int64 codes in ``[0, K)``.
        weight: ``(N, M)`` float32, at least 0.
        classes: K.
        seed: Of the order of the samples and of the held-out part.
        device: Where the heads are.
        soft_label: Head to ``(N, K)`` how probable each class is, which it learns in place of
            ``label``.
    """

    values: NDArray[np.float16]
    label: NDArray[np.int64]
    weight: NDArray[np.float32]
    classes: int
    seed: int
    device: torch.device
    soft_label: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Return the samples that any head trains on."""
        return np.flatnonzero((self.weight > 0).any(axis=1))

    def targets_of(self, rows: NDArray[np.int64], heads: Tensor) -> Tensor:
        """Return what some heads learn of B rows: ``(B, M)`` codes, or ``(B, M, K)`` shares."""
        label = torch.from_numpy(self.label[rows])[:, heads]
        if not self.soft_label:
            return label
        shares = one_hot(label, self.classes).float()
        for head, soft in self.soft_label.items():
            shares[:, heads == head] = torch.from_numpy(soft[rows])[:, None]
        return shares

    def scaled(self) -> ScaledFeatures:
        """Return the features as the heads see them."""
        return scale_features(self.values, self.rows, self.device)


def choose_radii(targets: HeadTargets, config: HeadConfig = HeadConfig()) -> Tensor:
    """Return ``(M,)`` radii under which each head's labels of the held-out part are likeliest."""
    radii = torch.tensor(config.radii) * targets.classes**0.5
    heads = targets.label.shape[1]
    rng = np.random.default_rng([targets.seed, HELD_OUT])
    is_held_out = np.zeros(len(targets.label), dtype=bool)
    is_held_out[rng.permutation(targets.rows)[::HELD_OUT]] = True
    which = torch.arange(heads).repeat_interleave(len(radii))
    weight = torch.from_numpy(targets.weight)[:, which]
    trains = torch.from_numpy(~is_held_out)[:, None]
    features = targets.scaled()
    fitted = _fit(targets, features, which, weight * trains, radii.repeat(heads), config)
    loss = torch.zeros(heads * len(radii), dtype=torch.float64)
    for part, probs in head_probabilities(fitted, features, np.flatnonzero(is_held_out)):
        log_probs = probs.cpu().clamp_min(1e-12).log()
        each = cross_entropy(log_probs, targets.targets_of(part, which)) * weight[part]
        loss += each.double().sum(dim=0)
    best = loss.view(heads, len(radii)).argmin(dim=1)
    return torch.index_select(radii, 0, best)


def fit(
    targets: HeadTargets,
    radii: Tensor,
    on_logits: OnLogits | None = None,
    config: HeadConfig = HeadConfig(),
) -> LinearHeads:
    """Return M heads trained on all their samples.

    Args:
        targets: What they learn.
        radii: ``(M,)``.
        on_logits: Given the rows and the ``(B, M, K)`` logits of every batch.
        config: How they are trained.
    """
    which, weight = torch.arange(targets.label.shape[1]), torch.from_numpy(targets.weight)
    return _fit(targets, targets.scaled(), which, weight, radii, config, on_logits)


def accuracies(
    heads: LinearHeads,
    targets: HeadTargets,
    values: NDArray[np.float16],
    label: NDArray[np.int64],
) -> list[float]:
    """Return the share of other samples whose label each of M heads predicts.

    Args:
        heads: M, trained on ``targets``.
        targets: For the scale of the features.
        values: ``(T, D)`` features.
        label: ``(T,)`` codes.
    """
    is_right = predictions(heads, targets, values) == label[:, None]
    return [float(count) / len(label) for count in is_right.sum(axis=0)]


def predictions(
    heads: LinearHeads, targets: HeadTargets, values: NDArray[np.float16]
) -> NDArray[np.int64]:
    """Return ``(T, M)`` the class that each of M heads gives other samples.

    Args:
        heads: M, trained on ``targets``.
        targets: For the scale of the features.
        values: ``(T, D)`` features.
    """
    scaled = targets.scaled()
    features = ScaledFeatures(values, scaled.mean, scaled.scale, scaled.device)
    predicted = np.empty((len(values), len(heads.weight)), np.int64)
    for part, probs in head_probabilities(heads, features, np.arange(len(values))):
        predicted[part] = probs.argmax(dim=2).cpu().numpy()
    return predicted


def _fit(
    targets: HeadTargets,
    features: ScaledFeatures,
    heads: Tensor,
    weight: Tensor,
    radii: Tensor,
    config: HeadConfig,
    on_logits: OnLogits | None = None,
) -> LinearHeads:
    device = targets.device

    def targets_of(rows: NDArray[np.int64]) -> Batch:
        target = targets.targets_of(rows, heads)
        return Batch(target.to(device), weight[rows].float().to(device))

    return fit_heads(
        features,
        targets.rows,
        targets_of,
        classes=targets.classes,
        radius=radii,
        config=config,
        seed=targets.seed,
        on_epoch=lambda epoch, epochs, loss: None,
        on_logits=on_logits,
    )
