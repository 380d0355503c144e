"""The gradient of one batch, in as many portions as memory asks for.

Letters: B samples of a batch, K classes, S pixels a side.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labelfix.config import FineTuningConfig
from labelfix.utils.torch_utils import CorePool, MicroBatcher, is_out_of_memory

COMPILE_FROM = 2000
"""Steps of a run above which compiling, minutes for each network, should pay; not yet measured."""


class BatchLabeler(Protocol):
    """Decides which label each sample is trained on, and what it weighs."""

    @property
    def weighs_batches(self) -> bool:
        """Whether a weight depends on what else is in the batch."""
        ...

    def step(self, rows: Tensor, logits: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return ``(B,)`` labels and ``(B,)`` weights whose sum is the batch's share of a step."""
        ...


class BatchTargets:
    """Labels and weights of the samples of one step: each decided once, however it is cut.

    A labeler takes note of what it is shown, so a step that is done anew must not show it again.

    Args:
        rows: ``(B,)`` sample numbers.
        labeler: Who decides.
        epoch: Counted from 1.
    """

    def __init__(self, rows: Tensor, labeler: BatchLabeler, epoch: int) -> None:
        self._rows, self._labeler, self._epoch = rows, labeler, epoch
        self._label = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
        self._weight = torch.empty(len(rows), device=rows.device)
        self._decided = 0

    @property
    def needs_whole_batch(self) -> bool:
        """Whether what is still open cannot be decided portion by portion."""
        return self._labeler.weighs_batches and self._decided < len(self._rows)

    def of(self, portion: slice, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels and weights of a portion, from its logits where that is still open."""
        start = max(portion.start, self._decided)
        if start < portion.stop:
            rows = self._rows[start : portion.stop]
            label, weight = self._labeler.step(rows, logits[start - portion.start :], self._epoch)
            self._label[start : portion.stop] = label
            self._weight[start : portion.stop] = weight * (len(rows) / len(self._rows))
            self._decided = portion.stop
        return self._label[portion], self._weight[portion]


class Gradients:
    """Adds up the gradient of a batch where memory is too small for all its images at once.

    The optimizer still sees that of the batch. Weights that depend on the whole batch come from a
    forward pass of their own before; batch norms take the statistics of a portion, of two images
    or more. Several processes never cut a batch: one cannot do a step anew while the others wait.

    Args:
        model: The network, on its device, in float32.
        wrapped: What is called: ``model`` itself or `DistributedDataParallel`.
        config: Precision, and whether to compile.
        steps: Of one epoch.
        processes: How many share each step.
        micro_batch_size: Images at once, to begin with; ``None`` takes whole batches.
        penalty: What is added to the loss, ``None`` for nothing.
        pool: Cores that each take a portion of a batch; ``None`` runs it whole on all of them.
    """

    def __init__(
        self,
        model: nn.Module,
        wrapped: nn.Module,
        config: FineTuningConfig,
        *,
        steps: int,
        processes: int,
        micro_batch_size: int | None,
        penalty: Callable[[], Tensor] | None,
        pool: CorePool | None = None,
    ) -> None:
        self._model, self._config, self._penalty = model, config, penalty
        self._pool = pool
        device = next(model.parameters()).device
        self._call = self._plain = wrapped
        if uses_compile(config, device, steps):
            torch.compiler.reset()  # forget the networks of other folds
            self._call = torch.compile(wrapped)  # type: ignore[assignment]
        least = 2 if batch_norms(model) else 1  # one image alone has no variance
        self.portions = MicroBatcher(micro_batch_size, least=least if processes == 1 else None)
        self.compile_fault: str | None = None
        """Why the network could not be compiled; ``None`` if it was, or was not tried."""

    def train(self) -> None:
        """Put the network into training mode; batch norms only if they follow the batches."""
        self._call.train()
        if not self._config.update_norms:
            for norm in batch_norms(self._model):
                norm.eval()

    def of(self, inputs: Tensor, targets: BatchTargets, share: float) -> tuple[Tensor, Tensor]:
        """Put the gradient of a batch in place; return its loss and the ``(B, K)`` logits.

        Args:
            inputs: ``(B, 3, S, S)``.
            targets: Labels and weights, by the logits.
            share: What each weight is multiplied by.

        Raises:
            TrainingError: Memory is too small for the smallest portion of the batch.
        """
        return self.portions.run(
            len(inputs), lambda portions: self._compiled_or_not(portions, inputs, targets, share)
        )

    def _compiled_or_not(
        self, portions: list[slice], inputs: Tensor, targets: BatchTargets, share: float
    ) -> tuple[Tensor, Tensor]:
        """Add up; a form of the network that cannot be compiled gives way to the plain one."""
        try:
            return self._add_up(portions, inputs, targets, share)
        except RuntimeError as error:
            if self._call is self._plain or is_out_of_memory(error):
                raise
            self.compile_fault, self._call = type(error).__name__, self._plain
        return self._add_up(portions, inputs, targets, share)

    def _add_up(
        self, portions: list[slice], inputs: Tensor, targets: BatchTargets, share: float
    ) -> tuple[Tensor, Tensor]:
        self._model.zero_grad(set_to_none=True)
        if self._pool is not None and len(portions) == 1:
            return self._on_cores(self._pool, inputs, targets, share)
        if len(portions) > 1 and targets.needs_whole_batch:
            targets.of(slice(0, len(inputs)), self._untrained_logits(inputs, portions))
        total, logits_of = torch.zeros((), device=inputs.device), []
        for portion in portions:
            logits = self._forward(inputs[portion])
            logits_of.append(logits.detach())
            label, weight = targets.of(portion, logits.detach())
            loss = self._loss(logits, label, weight * share, is_last=portion is portions[-1])
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total, torch.cat(logits_of)

    def _on_cores(
        self, pool: CorePool, inputs: Tensor, targets: BatchTargets, share: float
    ) -> tuple[Tensor, Tensor]:
        """Add up portions that may run at once; sums are in the order of the portions."""
        portions = pool.split(len(inputs))
        trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        logits_of = pool.map(self._forward, [inputs[portion] for portion in portions])
        logits = torch.cat([logits.detach() for logits in logits_of])
        label, weight = targets.of(slice(0, len(inputs)), logits)

        def backward(portion: slice, logits: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            is_last = portion.stop == len(inputs)
            loss = self._loss(logits, label[portion], weight[portion] * share, is_last=is_last)
            return loss.detach(), torch.autograd.grad(loss, trained)

        (total, gradient), *others = pool.map(backward, portions, logits_of)
        for loss, of_portion in others:
            total += loss
            torch._foreach_add_(gradient, of_portion)
        for parameter, value in zip(trained, gradient, strict=True):
            parameter.grad = value
        return total, logits

    def _forward(self, inputs: Tensor) -> Tensor:
        """Return ``(B, K)`` logits in float32."""
        with half_precision(self._config, inputs.device):
            logits: Tensor = self._call(inputs)
        return logits.float()

    def _loss(self, logits: Tensor, label: Tensor, weight: Tensor, *, is_last: bool) -> Tensor:
        """Return the loss of a portion; the penalty is a part of that of the last one."""
        errors = nn.functional.cross_entropy(logits, label, reduction="none")
        loss = (errors * weight).sum()
        if self._penalty is not None and is_last:
            loss = loss + self._penalty()
        return loss

    @torch.no_grad()
    def _untrained_logits(self, inputs: Tensor, portions: list[slice]) -> Tensor:
        """Return ``(B, K)`` logits of a pass that leaves no trace in the batch norms."""
        norms = batch_norms(self._model)
        tracking = [norm.track_running_stats for norm in norms]
        for norm in norms:
            norm.track_running_stats = False
        try:
            with half_precision(self._config, inputs.device):
                logits = [self._model(inputs[portion]) for portion in portions]
        finally:
            for norm, was_tracking in zip(norms, tracking, strict=True):
                norm.track_running_stats = was_tracking
        return torch.cat(logits).float()


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms of a network."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def half_precision(config: FineTuningConfig, device: torch.device) -> torch.autocast:
    """Return the context in which a forward pass runs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_half(config, device))


def uses_half(config: FineTuningConfig, device: torch.device) -> bool:
    """Return whether forward passes run in bfloat16."""
    wanted = config.half_precision
    return device.type == "cuda" if wanted is None else wanted


def uses_compile(config: FineTuningConfig, device: torch.device, steps: int) -> bool:
    """Return whether the network is compiled, in a run of so many steps an epoch and network."""
    if config.compile is not None:
        return config.compile
    return device.type == "cuda" and config.folds * config.epochs * steps > COMPILE_FROM
