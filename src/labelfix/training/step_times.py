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
from labelfix.training.recorder import EvidenceRecorder
from labelfix.training.regularization import LayerBalls
from labelfix.training.self_labeling import SelfLabeler

TIMED = 2
"""Steps that are timed."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """What one training step takes, in seconds.

    Args:
        passes: Forward and backward pass of one sample through the whole network.
        forward: The forward pass alone.
        passes_below: What of ``passes`` is spent below each module, by its name.
        forward_below: What of ``forward`` is.
        update: What follows once a step: optimizer, average of the weights, balls.
    """

    passes: float
    forward: float
    passes_below: Mapping[str, float]
    forward_below: Mapping[str, float]
    update: float

    def training(self, samples: int, steps: int, cut: str | None = None) -> float:
        """Return the seconds of so many steps that see so many samples in all.

        Args:
            samples: Those of all steps.
            steps: How many.
            cut: The module that is trained first; ``None`` trains the whole network.
        """
        spared = 0.0 if cut is None else self.passes_below[cut]
        return samples * (self.passes - spared) + steps * self.update

    def judging(self, samples: int, cut: str | None = None) -> float:
        """Return the seconds of the forward pass of so many samples, from a cut on."""
        return samples * (self.forward - (0.0 if cut is None else self.forward_below[cut]))

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
) -> StepTimes:
    """Train a network for a few steps, the first to warm up, and return what the fastest took.

    Args:
        model: The whole network with a head of K classes, on its device; it is changed.
        modules: Names of those where it can be cut.
        inputs: ``(B, ...)`` made-up samples.
        training: How it is trained.
        regularization: How its weights are held.
        classes: K, 2 or more.

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
            limit=_balls(model, regularization),
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


def _balls(model: nn.Module, regularization: RegularizationConfig) -> LayerBalls | None:
    if regularization.form == "none":
        return None
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return LayerBalls(model, state, regularization)


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
    """Note when the forward pass enters each module, and when the backward pass leaves it."""

    def entering(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            clock.entered[name] = clock.now()
            if isinstance(inputs[0], Tensor) and inputs[0].requires_grad:
                inputs[0].register_hook(lambda gradient: leaving(name))  # type: ignore[no-untyped-call]

        return hook

    def leaving(name: str, *_: Any) -> None:
        clock.left[name] = clock.now()

    def returning(module: nn.Module, inputs: tuple[Any, ...], outputs: Tensor) -> None:
        clock.left["forward"] = clock.now()

    first = next(model.parameters())  # its gradient comes last
    handles = [
        model.register_forward_pre_hook(entering(_WHOLE)),
        model.register_forward_hook(returning),
        first.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
            lambda parameter: leaving(_WHOLE)
        ),
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
    forward_below = {
        name: (moment - entered[_WHOLE]) / batch_size
        for name, moment in entered.items()
        if name != _WHOLE
    }
    return StepTimes(
        passes=(back - begin) / batch_size,
        forward=(left["forward"] - entered[_WHOLE]) / batch_size,
        forward_below=forward_below,
        passes_below={
            name: below + max(0.0, back - left.get(name, back)) / batch_size
            for name, below in forward_below.items()
        },
        update=end - back,
    )
