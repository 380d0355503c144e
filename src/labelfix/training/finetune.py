"""Fine-tune one whole network on labels that it may come to doubt.

The loop knows nothing of folds, files or processes: batches, views, labels and limits are handed
to it. Letters: N samples, B samples of a batch, K classes, S pixels a side.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from labelfix.config import FineTuningConfig
from labelfix.errors import TrainingError
from labelfix.training.gradients import (
    BatchLabeler,
    BatchTargets,
    Gradients,
    batch_norms,
    half_precision,
)
from labelfix.utils.torch_utils import CorePool, MicroBatcher, warm_up_and_cosine

LOOK_EVERY = 20
"""Steps between two looks at the loss: a look waits for the device."""


class Diverged(TrainingError):
    """The loss or the weights are no longer finite."""


class Labeler(BatchLabeler, Protocol):
    """Decides on labels and weights, and can be gone on with."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that a later session needs to go on."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        ...


class Recorder(Protocol):
    """Keeps what training sees of each sample."""

    def update(self, rows: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one batch."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all that a later session needs to go on."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        ...


class Limit(Protocol):
    """Holds the weights near where they started."""

    def project(self) -> None:
        """Move weights that went too far back."""
        ...

    def penalty(self) -> Tensor:
        """Return what is added to the loss."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSetup:
    """What one network is trained with.

    Args:
        given_label: ``(N,)`` int64 on the device.
        batches: Of an epoch, counted from 1: rows ``(B,)`` and inputs ``(B, 3, S, S)`` on the
            device, augmented and normalized.
        step_sizes: Of each step of an epoch, the samples over all processes.
        labeler: Labels and weights of each batch.
        recorder: Sees the logits of each batch.
        limit: Applied after each step; ``None`` lets the network go where it likes.
        penalised: Whether ``limit`` adds a penalty to the loss instead.
        processes: How many share each step.
    """

    given_label: Tensor
    batches: Callable[[int], Iterator[tuple[Tensor, Tensor]]]
    step_sizes: Sequence[int]
    labeler: Labeler
    recorder: Recorder
    limit: Limit | None = None
    penalised: bool = False
    processes: int = 1


@dataclass(frozen=True, slots=True)
class EpochLog:
    """What one epoch came to.

    Args:
        epoch: Counted from 1.
        loss: The mean over its steps.
        learning_rate: Of the backbone, at its end.
        images_per_second: Of this process.
    """

    epoch: int
    loss: float
    learning_rate: float
    images_per_second: float


class FineTuning:
    """One network in training: its weights, their average, the optimizer, and where they stand."""

    def __init__(
        self,
        model: nn.Module,
        setup: TrainingSetup,
        config: FineTuningConfig,
        *,
        wrapped: nn.Module,
        micro_batch_size: int | None = None,
        pool: CorePool | None = None,
    ) -> None:
        """Make ready to train.

        Args:
            model: The network, on its device, in float32.
            setup: What to train it with.
            config: How long and how fast.
            wrapped: What is called in a step: ``model`` itself or `DistributedDataParallel`.
            micro_batch_size: Images that go through the network at once, to begin with; ``None``
                takes whole batches.
            pool: Cores that each take a portion of a batch; ``None`` runs it whole.
        """
        self.model, self.setup, self.config = model, setup, config
        self.average = ModelEmaV3(model, decay=config.average_decay, use_warmup=True)
        self._optimizer = create_optimizer_v2(
            _parameter_groups(model, config),
            opt=config.optimizer,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self._peak_rates = [group["lr"] for group in self._optimizer.param_groups]
        self._factor = warm_up_and_cosine(config.epochs * len(setup.step_sizes))
        self._device = next(model.parameters()).device
        self._gradients = Gradients(
            model,
            wrapped,
            config,
            steps=len(setup.step_sizes),
            processes=setup.processes,
            micro_batch_size=micro_batch_size,
            penalty=setup.limit.penalty if setup.limit and setup.penalised else None,
            pool=pool,
        )
        self.epoch = 0
        self._step = 0

    @property
    def micro_batch_size(self) -> int | None:
        """Images that go through the network at once, ``None`` as long as batches fit whole."""
        return self._gradients.portions.size

    @property
    def compile_fault(self) -> str | None:
        """Why the network could not be compiled; ``None`` if it was, or was not tried."""
        return self._gradients.compile_fault

    def run_epoch(self, on_step: Callable[[int, float, float], None]) -> EpochLog:
        """Train for one epoch.

        Args:
            on_step: Told, at times, the steps of the epoch so far, the mean loss since the last
                time and images a second.

        Raises:
            Diverged: Loss or weights are no longer finite; the message names step and learning
                rate. What `state_dict` then gives must not be kept.
            TrainingError: Memory is too small for the smallest portion of a batch.
        """
        self.epoch += 1
        self._gradients.train()
        start, images = time.perf_counter(), 0
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        recent = total.clone()
        looked = done = 0
        for rows, inputs in self.setup.batches(self.epoch):
            loss = self._take_step(rows, inputs, self.setup.step_sizes[done])
            recent += loss
            images += len(rows)
            done += 1
            if done - looked == LOOK_EVERY or done == len(self.setup.step_sizes):
                mean = float(recent) / (done - looked)
                if not math.isfinite(mean):
                    raise self._diverged(f"the loss is {mean}")
                on_step(done, mean, images / (time.perf_counter() - start))
                total += recent
                recent.zero_()
                looked = done
        if not self._has_finite_weights():  # the last step may have had a finite loss
            raise self._diverged("a weight is no longer finite")
        return EpochLog(
            epoch=self.epoch,
            loss=float(total) / max(done, 1),
            learning_rate=float(self._optimizer.param_groups[0]["lr"]),
            images_per_second=images / (time.perf_counter() - start),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that a later session needs to go on from the end of this epoch."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "labeler": self.setup.labeler.state_dict(),
            "recorder": self.setup.recorder.state_dict(),
            "epoch": self.epoch,
            "step": self._step,
            "micro_batch_size": self.micro_batch_size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.setup.labeler.load_state_dict(state["labeler"])
        self.setup.recorder.load_state_dict(state["recorder"])
        self.epoch, self._step = state["epoch"], state["step"]
        self._gradients.portions.size = state["micro_batch_size"]

    def _take_step(self, rows: Tensor, inputs: Tensor, step_size: int) -> Tensor:
        factor = self._factor(self._step)
        for group, peak in zip(self._optimizer.param_groups, self._peak_rates, strict=True):
            group["lr"] = peak * factor
        targets = BatchTargets(rows, self.setup.labeler, self.epoch)
        # gradients are averaged over processes, whose parts of a step may be unequal
        share = len(rows) * self.setup.processes / step_size
        loss, logits = self._gradients.of(inputs, targets, share)
        self.setup.recorder.update(rows, logits, self.setup.given_label[rows])
        self._optimizer.step()
        limit = self.setup.limit
        if limit is not None and not self.setup.penalised:
            limit.project()
        self._step += 1
        self.average.update(self.model, step=self._step)
        return loss

    def _has_finite_weights(self) -> bool:
        norms = batch_norms(self.model)
        averages = [buffer for norm in norms for buffer in norm.buffers()]
        values = [*self.model.parameters(), *averages]
        return bool(torch.stack([value.detach().isfinite().all() for value in values]).all())

    def _diverged(self, what: str) -> Diverged:
        rate = self._optimizer.param_groups[0]["lr"]
        where = f"step {self._step} (epoch {self.epoch}, learning rate {rate:.2e})"
        return Diverged(f"{what} at {where}", hint="start anew with a lower learning rate")


def predict(
    model: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    config: FineTuningConfig,
    pool: CorePool | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows ``(B,)`` and ``(B, K)`` probabilities of a network in eval mode.

    Args:
        model: It is put into eval mode.
        batches: Rows ``(B,)`` and inputs.
        config: Of the precision.
        pool: Cores that each take a portion of a batch; ``None`` runs it whole.

    Raises:
        TrainingError: Memory is too small for a single image.
    """
    model.eval()
    portions = MicroBatcher()

    @torch.inference_mode()
    def logits_of(inputs: Tensor) -> Tensor:
        with half_precision(config, inputs.device):
            return model(inputs)  # type: ignore[no-any-return]

    for rows, inputs in batches:
        if pool is None:
            cut = lambda slices: [logits_of(inputs[part]) for part in slices]  # noqa: B023, E731
            parts = portions.run(len(rows), cut)
        else:
            parts = pool.map(logits_of, [inputs[part] for part in pool.split(len(rows))])
        yield rows, torch.cat(parts).float().softmax(dim=1)


def _parameter_groups(model: nn.Module, config: FineTuningConfig) -> list[dict[str, Any]]:
    """Return the head with its own rate and the rest; norms and biases without weight decay."""
    head = {id(parameter) for parameter in model.get_classifier().parameters()}  # type: ignore[operator]
    parts: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:  # below a cut
            continue
        key = (id(parameter) in head, parameter.ndim > 1)
        parts.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.learning_rate * (config.head_rate_factor if is_head else 1.0),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in parts.items()
    ]
