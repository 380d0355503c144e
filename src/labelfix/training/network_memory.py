"""What networks take of memory while they are trained, told before: weights, batches, gradients.

Letters: B samples of a batch, F folds, N samples, K classes.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from labelfix.config import FineTuningConfig
from labelfix.training.gradients import batch_norms, half_precision

BACKWARD = 1.15
"""What a training pass takes at its peak, as a multiple of what its forward pass keeps: gradients
of a few layers come to that. Measured: 1.05 to 1.15."""

WEIGHTS_HELD = 4
"""Copies of all weights: those in training and their average, and the averages of the first network
and of the one before."""

TRAINED_HELD = 4
"""Numbers held for each trained weight beside its gradients: two moments of the optimizer, the
center of its ball, and its distance from there."""

BATCHES_AHEAD = 5
"""Batches of inputs that are ready, being made and in use."""

A_CELL, A_ROW = 2, 60
"""Bytes that a network in training keeps of each class of a sample, and of each sample."""

ALL_CELLS = 24
"""Bytes of each class of a sample for what networks predict: sums, and their mean."""


@dataclass(frozen=True, slots=True)
class NetworkMemory:
    """What a training of networks on a CPU takes, in bytes.

    Args:
        weights: Of one network, with its buffers.
        trained: Of the weights that are trained.
        kept: What the forward pass of one sample keeps for the backward pass, at most.
        input: Of one sample as it enters the network.
        batch_size: B, of this process.
        gradients: Of one network that are held at once.
        pretrained: Of the whole network as it starts.
    """

    weights: int
    trained: int
    kept: int
    input: int
    batch_size: int
    gradients: int
    pretrained: int

    def of(self, networks: int, samples: int, classes: int) -> int:
        """Return the bytes of so many networks at once.

        Args:
            networks: How many train at once.
            samples: N.
            classes: K.
        """
        one = WEIGHTS_HELD * self.weights + (TRAINED_HELD + self.gradients) * self.trained
        one += self.batch_size * (math.ceil(BACKWARD * self.kept) + BATCHES_AHEAD * self.input)
        one += samples * (A_CELL * classes + A_ROW)
        starts = 2 * self.pretrained  # a copy that stays, and one while a network is made of it
        return starts + networks * one + ALL_CELLS * samples * classes


def network_memory(
    model: nn.Module,
    inputs: Tensor,
    config: FineTuningConfig,
    *,
    batch_size: int,
    pretrained: Mapping[str, Tensor],
    portion: int | None = None,
) -> NetworkMemory:
    """Return what training such networks takes, by a forward pass of two samples.

    Args:
        model: One of them, on the CPU; the averages of its batch norms are changed.
        inputs: ``(2, ...)`` made-up samples of the largest size.
        config: How they are trained.
        batch_size: B, of this process.
        pretrained: The state that networks start from.
        portion: Samples of a batch that one core takes at most, each portion with a gradient of its
            own; ``None`` where a batch goes whole.
    """
    values = [*model.parameters(), *model.buffers()]
    trained = [value for value in model.parameters() if value.requires_grad]
    return NetworkMemory(
        weights=_bytes(values),
        trained=_bytes(trained),
        kept=_kept_bytes(model, inputs, config) // len(inputs),
        input=inputs[0].numel() * inputs.element_size(),
        batch_size=batch_size,
        gradients=1 if portion is None else math.ceil(batch_size / portion),
        pretrained=_bytes(pretrained.values()),
    )


def _kept_bytes(model: nn.Module, inputs: Tensor, config: FineTuningConfig) -> int:
    """Return the bytes that a forward pass of inputs keeps, without the weights themselves."""
    own = {value.untyped_storage().data_ptr() for value in model.parameters()}
    own |= {value.untyped_storage().data_ptr() for value in model.buffers()}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    model.train()
    if not config.update_norms:
        for norm in batch_norms(model):
            norm.eval()
    as_it_is: Callable[[Any], Any] = lambda value: value  # noqa: E731
    with (
        torch.random.fork_rng(devices=[]),  # drop-out draws
        torch.autograd.graph.saved_tensors_hooks(keep, as_it_is),
        half_precision(config, inputs.device),
    ):
        outputs = model(inputs)  # held, or places in memory would be used twice
    del outputs
    return sum(kept.values())


def _bytes(values: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in values)
