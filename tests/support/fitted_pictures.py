"""Networks that are cross-fitted on pictures in memory: no files, no decoding, no augmentation."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.config import FineTuningConfig, RegularizationConfig, SelfLabelingConfig
from labelfix.data.trusted_labels import plan_with
from labelfix.modalities.batching import (
    epoch_order,
    evaluation_batches,
    training_batches,
    training_steps,
)
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.cross_fit_networks import (
    AtOnce,
    FineTuned,
    Networks,
    Recipe,
    cross_fit_networks,
)
from labelfix.training.distributed import World
from labelfix.types import MISSING, FoldAssignment, Reviewed
from labelfix.utils.progress import OnProgress, no_progress

CLASSES, FOLDS, SIDE = 3, 2, 32
FREE = RegularizationConfig(form="none")
NO_SELF_LABELING = SelfLabelingConfig(correct_from=None, reweight_from=None)


@dataclass(frozen=True)
class PicturesInMemory:
    """The views of ``(N, 3, S, S)`` pictures that one process has."""

    inputs: Tensor
    world: World

    def step_sizes(self, rows: NDArray[np.int64], batch_size: int) -> list[int]:
        return training_steps(len(rows), batch_size=batch_size, world_size=self.world.size)

    def training(
        self, rows: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        order = epoch_order(rows, seed=seed, epoch=epoch)
        return self._of(training_batches(order, batch_size=batch_size, **self._place()))

    def evaluation(
        self, rows: NDArray[np.int64], batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        return self._of(evaluation_batches(rows, batch_size=batch_size, **self._place()))

    def _of(self, batches: list[NDArray[np.int64]]) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in batches:
            yield torch.from_numpy(rows), self.inputs[rows]

    def _place(self) -> dict[str, int]:
        return {"rank": self.world.rank, "world_size": self.world.size}


def noisy_pictures(count: int, noise: float = 0.2) -> tuple[Tensor, NDArray[Any], NDArray[Any]]:
    """Return pictures whose class is their color, given labels, and true ones."""
    rng = np.random.default_rng(0)
    true = np.arange(count) % CLASSES
    inputs = rng.normal(0, 0.3, (count, 3, SIDE, SIDE)).astype(np.float32)
    inputs[np.arange(count), true] += 1
    is_wrong = rng.random(count) < noise
    given = np.where(is_wrong, (true + rng.integers(1, CLASSES, count)) % CLASSES, true)
    return torch.from_numpy(inputs), given, true


def score_all(count: int) -> FoldAssignment:
    fold = (np.arange(count) // CLASSES % FOLDS).astype(np.int16)
    return FoldAssignment(np.ones(count, np.bool_), fold, {})


def fit_pictures(
    inputs: Tensor,
    given_label: NDArray[np.int64],
    assignment: FoldAssignment,
    checkpoints: Path,
    *,
    trusted_label: NDArray[np.int64] | None = None,
    rules: SelfLabelingConfig = NO_SELF_LABELING,
    epochs: int = 2,
    world: World = World(),  # noqa: B008 - frozen
    networks: Networks | None = None,
    regularization: RegularizationConfig = FREE,
    at_once: AtOnce | None = None,
    on_progress: OnProgress = no_progress,
    **changes: Any,
) -> FineTuned:
    """Fine-tune two networks, by default ones without norms of batches, which processes share."""
    usual = {"folds": FOLDS, "batch_size": 16, "optimizer": "sgd", "learning_rate": 0.001}
    training = FineTuningConfig(**{**usual, "epochs": epochs, **changes})
    networks = networks or Networks(
        lambda classes: timm.create_model("test_vit", num_classes=classes, img_size=SIDE),
        pretrained={},
        device=torch.device("cpu"),
    )
    return cross_fit_networks(
        PicturesInMemory(inputs, world),
        given_label,
        assignment,
        networks,
        Recipe(
            training=training,
            regularization=regularization,
            self_labeling=rules,
            seed=0,
        ),
        classes=CLASSES,
        checkpoints=Checkpoints(checkpoints, "pictures"),
        world=world,
        trusted_label=trusted_label,
        at_once=at_once,
        on_progress=on_progress,
    )


def fit_decided_pictures(checkpoints: Path, world: World) -> FineTuned:
    """Fine-tune on pictures some of which people decided on, in steps that do not divide by two."""
    count = 97
    inputs, given, true = noisy_pictures(count)
    label = np.where(np.arange(count) % 5 == 0, true, MISSING)
    is_dropped = np.arange(count) % 7 == 3
    label[is_dropped] = MISSING
    reviewed = Reviewed(label, is_dropped)
    return fit_pictures(
        inputs,
        given,
        plan_with(reviewed, score_all(count), given),
        checkpoints,
        trusted_label=reviewed.label,
        rules=SelfLabelingConfig(correct_from=2, reweight_from=2, threshold=0.5, floor=0.1),
        epochs=3,
        world=world,
    )
