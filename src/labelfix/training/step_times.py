"""How long a training step of a network takes, and which part of it lies below each cut.

One step of the real training, with its optimizer, average and balls, is run on made-up inputs.
Marks at the modules where the network can be cut tell what each cut would spare.

Letters: B samples of a batch, K classes.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from labelfix.config import FineTuningConfig, RegularizationConfig, SelfLabelingConfig
from labelfix.training.finetune import FineTuning, TrainingSetup
from labelfix.training.layers import LayerParameter
from labelfix.training.recorder import EvidenceRecorder
from labelfix.training.regularization import LayerBalls
from labelfix.training.self_labeling import SelfLabeler

TIMED = 3
"""Steps that are timed."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """What one training step takes, in seconds.

    Args:
        passes: Forward and backward pass of one sample through the whole network.
        forward: The forward pass alone.
        forward_below: What of ``forward`` is spent below each module, by its name.
        update: What follows once a step: optimizer, average of the weights, balls.
    """

    passes: float
    forward: float
    forward_below: Mapping[str, float]
    update: float

    def training(self, samples: int, steps: int) -> float:
        """Return the seconds of so many steps that see so many samples in all."""
        return samples * self.passes + steps * self.update

    def evaluation(self, samples: int) -> float:
        """Return the seconds of the forward pass of so many samples."""
        return samples * self.forward

    def share_below(self, cut: str) -> float:
        """Return which share of a forward pass lies below a cut."""
        return self.forward_below[cut] / self.forward


def time_step(
    model: nn.Module,
    modules: Sequence[str],
    inputs: Tensor,
    training: FineTuningConfig,
    regularization: RegularizationConfig,
    *,
    classes: int,
    layers: Sequence[LayerParameter] | None = None,
) -> StepTimes:
    """Train a network for a few steps, the first to warm up, and return what the fastest took.

    Args:
        model: A network with a head of K classes, on its device, or the upper half of one; it is
            changed.
        modules: Names of those whose forward pass is marked.
        inputs: ``(B, ...)`` made-up samples.
        training: How it is trained.
        regularization: How its weights are held.
        classes: K, 2 or more.
        layers: Of the whole network, where the model is the upper half of one.

    Raises:
        TrainingError: Memory is too small for a single sample.
        BackboneError: A parameter fits no group.
    """
    device = next(model.parameters()).device
    batch_size = len(inputs)
    inputs = inputs.to(device)
    rows = torch.arange(batch_size, device=device)
    label = rows % 2
    tuning = FineTuning(
        model,
        TrainingSetup(
            given_label=label,
            batches=lambda epoch: iter([(rows, inputs)]),
            step_sizes=[batch_size],
            labeler=SelfLabeler(label, classes, SelfLabelingConfig()),
            recorder=EvidenceRecorder(batch_size, classes, keep_probs=False),
            limit=_balls(model, regularization, layers),
            penalised=regularization.form == "penalty",
        ),
        training,
        wrapped=model,
    )
    tuning.run_epoch(_no_matter)
    timed = [_timed_step(tuning, model, modules, device, batch_size) for _ in range(TIMED)]
    return min(timed, key=lambda step: step.passes)  # what else goes on only makes it slower


def _timed_step(
    tuning: FineTuning,
    model: nn.Module,
    modules: Sequence[str],
    device: torch.device,
    batch_size: int,
) -> StepTimes:
    clock = _Clock(device)
    with _marked(model, modules, clock):
        begin = clock.now()
        tuning.run_epoch(_no_matter)
        end = clock.now()
    return _step_times(clock, begin, end, batch_size)


def _balls(
    model: nn.Module,
    regularization: RegularizationConfig,
    layers: Sequence[LayerParameter] | None,
) -> LayerBalls | None:
    if regularization.form == "none":
        return None
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return LayerBalls(model, state, regularization, layers=layers)


def _no_matter(step: int, loss: float, speed: float) -> None:
    """Leave out what a step tells."""


@dataclass(frozen=True, slots=True)
class _Clock:
    """When the passes came to each mark, in the last step."""

    device: torch.device
    entered: dict[str, float] = field(default_factory=dict)
    left: dict[str, float] = field(default_factory=dict)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


_WHOLE = ""
"""The mark of the whole network."""


@contextmanager
def _marked(model: nn.Module, modules: Sequence[str], clock: _Clock) -> Iterator[None]:
    """Note when the forward pass enters each module, and when the passes end."""

    def entering(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            clock.entered[name] = clock.now()

        return hook

    def ending(parameter: Tensor) -> None:
        clock.left[_WHOLE] = clock.now()

    def returning(module: nn.Module, inputs: tuple[Any, ...], outputs: Tensor) -> None:
        clock.left["forward"] = clock.now()

    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    first = next(trained)  # its gradient comes last
    handles = [
        model.register_forward_pre_hook(entering(_WHOLE)),
        model.register_forward_hook(returning),
        first.register_post_accumulate_grad_hook(ending),  # type: ignore[no-untyped-call]
        *(model.get_submodule(name).register_forward_pre_hook(entering(name)) for name in modules),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _step_times(clock: _Clock, begin: float, end: float, batch_size: int) -> StepTimes:
    entered, left = clock.entered, clock.left
    back = left[_WHOLE]
    return StepTimes(
        passes=(back - begin) / batch_size,
        forward=(left["forward"] - entered[_WHOLE]) / batch_size,
        forward_below={
            name: (moment - entered[_WHOLE]) / batch_size
            for name, moment in entered.items()
            if name != _WHOLE
        },
        update=end - back,
    )
