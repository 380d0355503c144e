"""What heads on frozen features are trained on: samples, folds and labels, given and believed.

Letters: N samples, B samples of a batch, F folds, J classes that some scored sample was given.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.config import HeadConfig
from labelfix.training.heads import Batch, ScaledFeatures, scale_features
from labelfix.types import MISSING, Features, FoldAssignment
from labelfix.utils.progress import OnProgress


@dataclass(frozen=True, slots=True, eq=False)
class HeadTask:
    """One cross-fitting: rows to train on, their folds and labels among the J scored classes.

    Args:
        features: What the heads see.
        names: ``(J,)`` the code of each scored class.
        rows: Which samples are trained on, rising.
        fold: ``(N,)`` int64.
        given_label: ``(N,)`` int64.
        label: ``(N,)`` int64, what training begins with: the given label, or the one that a person
            has reviewed.
        is_trusted: ``(N,)`` bool, where a person has.
        config: How to train.
        seed: Of the order of the samples.
        on_progress: Told what is going on.
    """

    features: ScaledFeatures
    names: NDArray[np.int64]
    rows: NDArray[np.int64]
    fold: Tensor
    given_label: Tensor
    label: Tensor
    is_trusted: Tensor
    config: HeadConfig
    seed: int
    on_progress: OnProgress

    @classmethod
    def of(
        cls,
        features: Features,
        given_label: NDArray[np.int64],
        trusted_label: NDArray[np.int64] | None,
        assignment: FoldAssignment,
        config: HeadConfig,
        *,
        seed: int,
        device: torch.device,
        on_progress: OnProgress,
    ) -> "HeadTask":
        """Return the task of scoring some samples, as `labelfix.training.cross_fit_heads` does."""
        names, compact = np.unique(given_label[assignment.is_scored], return_inverse=True)
        label = np.zeros(len(given_label), dtype=np.int64)
        label[assignment.is_scored] = compact
        rows = np.flatnonzero(assignment.fold != MISSING)
        is_trusted = np.zeros(len(label), dtype=np.bool_)
        start = label.copy()
        if trusted_label is not None:
            is_trusted[rows] = trusted_label[rows] != MISSING
            start[is_trusted] = np.searchsorted(names, trusted_label[is_trusted])
        return cls(
            features=scale_features(features.values, rows, device),
            names=names,
            rows=rows,
            fold=torch.from_numpy(assignment.fold.astype(np.int64)).to(device),
            given_label=torch.from_numpy(label).to(device),
            label=torch.from_numpy(start).to(device),
            is_trusted=torch.from_numpy(is_trusted).to(device),
            config=config,
            seed=seed,
            on_progress=on_progress,
        )

    @property
    def classes(self) -> int:
        """Return J."""
        return len(self.names)

    def labels(self, rows: NDArray[np.int64], heads: int) -> Tensor:
        """Return ``(B, heads)`` the labels that training begins with, the same for each head."""
        return self.label[rows][:, None].expand(-1, heads)

    def rows_of(self, fold: int) -> NDArray[np.int64]:
        """Return the rows of a fold, rising."""
        is_in = (self.fold[self.rows] == fold).cpu().numpy()
        return np.asarray(self.rows[is_in])


@dataclass(frozen=True, slots=True, eq=False)
class PseudoLabels:
    """What the head of each fold is to learn from each sample.

    Args:
        label: ``(N, F)`` int64, by the pair that knows neither the fold nor the sample.
        weight: ``(N, F)`` float32, 0 in the sample's own fold.
        majority: ``(N,)`` int64, the label by all pairs that do not know the sample.
    """

    label: Tensor
    weight: Tensor
    majority: Tensor

    @classmethod
    def none_yet(cls, task: HeadTask) -> "PseudoLabels":
        """Return those of nothing learned: the labels that training begins with, weight 0."""
        folds = task.config.folds
        return cls(
            task.label[:, None].repeat(1, folds),
            torch.zeros(len(task.label), folds, device=task.features.device),
            task.label.clone(),
        )

    def __call__(self, rows: NDArray[np.int64]) -> Batch:
        """Return the labels and weights of a batch of rows."""
        return Batch(self.label[rows], self.weight[rows])
