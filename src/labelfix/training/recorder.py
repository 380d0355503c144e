"""What training sees of each sample while it goes on.

Letters: N samples, B samples of a batch, M models, K classes, E epochs.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.arguments import checks_arguments
from labelfix.errors import ConfigError, TrainingError
from labelfix.types import TrainingEvidence


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return ``(...)`` the logit of each label minus the largest other one.

    Args:
        logits: ``(..., K)``.
        labels: ``(...)`` int64.
    """
    index = labels.unsqueeze(-1)
    other = logits.scatter(-1, index, -torch.inf).amax(dim=-1)
    return logits.gather(-1, index).squeeze(-1) - other


def mean_over(total: Tensor, count: Tensor) -> Tensor:
    """Return sums divided by counts, NaN where nothing was counted, in the type of the sums."""
    return torch.where(count > 0, total / count, torch.nan).to(total.dtype)


class MarginRecorder:
    """Averages each sample's margin over training: the area under the margin, or AUM.

    The margin is the given label's logit minus the largest other logit (Pleiss et al., NeurIPS
    2020, equation 1). A sample whose given label is wrong is pulled the other way by its own
    class, and keeps a low margin.
    """

    def __init__(self, count: int) -> None:
        self._sum = torch.zeros(count, dtype=torch.float64)
        self._updates = torch.zeros(count, dtype=torch.int64)

    def update(self, rows: Tensor, logits: Tensor, given_label: Tensor, counts: Tensor) -> None:
        """Add one batch.

        Args:
            rows: ``(B,)`` sample numbers, none twice.
            logits: ``(B, M, K)``.
            given_label: ``(B,)`` int64.
            counts: ``(B, M)`` bool: which models train on which sample.
        """
        with torch.no_grad():
            labels = given_label[:, None].expand(-1, logits.shape[1])
            margin = (margins(logits, labels) * counts).sum(dim=1)
            self._sum[rows] += margin.double().cpu()
            self._updates[rows] += counts.sum(dim=1).cpu()

    def margin(self) -> NDArray[np.float32]:
        """Return ``(N,)`` mean margins, logit units, high is clean; NaN where never measured."""
        return mean_over(self._sum, self._updates).float().numpy()


class EvidenceRecorder:
    """Averages what a training run sees of each sample; two lines in anyone's own loop.

    ::

        recorder = EvidenceRecorder(len(dataset), classes)
        for rows, images, labels in loader:
            logits = model(images)
            recorder.update(rows, logits, labels)  # the given labels, not corrected ones
            ...
        evidence = recorder.result()

    Sums are kept on the device of the logits, and no update waits for it. Memory there:
    ``4 N (K + 4)`` bytes, or ``16 N`` without ``keep_probs``; per-epoch margins add ``3 E N``.

    Every tensor of the state is a sum or a count. So the evidence of several processes, each of
    which saw its own samples, is the sum of their states: ``merge`` one after the other, or
    ``all_reduce`` every tensor of ``state_dict()`` in place.

    Args:
        count: N.
        classes: K, 2 or more.
        epochs: E, to keep the margin of every epoch as well; ``update`` then needs the epoch.
        keep_probs: Whether to average the probabilities of all classes; if not, only the given
            label's.

    Raises:
        ConfigError: There are less than 2 classes.
    """

    @checks_arguments
    def __init__(
        self, count: int, classes: int, *, epochs: int = 0, keep_probs: bool = True
    ) -> None:
        if count < 0 or epochs < 0:
            raise ConfigError(
                f"there cannot be {min(count, epochs)} samples or epochs", hint="choose 0 or more"
            )
        if classes < 2:
            raise ConfigError(
                f"{classes} classes leave no other class to be mistaken for",
                hint="give the number of outputs of the network, 2 or more",
            )
        self._classes = classes
        self._state = {
            "margin": torch.zeros(count),
            "given_probability": torch.zeros(count),
            "updates": torch.zeros(count, dtype=torch.int32),
            "wrong_predictions": torch.zeros(count, dtype=torch.int32),
        }
        if keep_probs:
            self._state["probs"] = torch.zeros(count, classes)
        if epochs:
            self._state["epoch_margin"] = torch.zeros(epochs, count, dtype=torch.float16)
            self._state["epoch_updates"] = torch.zeros(epochs, count, dtype=torch.uint8)

    @torch.no_grad()
    def update(
        self, rows: Tensor, logits: Tensor, labels: Tensor, *, epoch: int | None = None
    ) -> None:
        """Add one batch.

        Args:
            rows: ``(B,)`` sample numbers in ``[0, N)``.
            logits: ``(B, K)`` of the forward pass that trains, any floating type.
            labels: ``(B,)`` the given labels.
            epoch: Counted from 1; needed if the margins of every epoch are kept.

        Raises:
            ConfigError: The shapes do not fit together, or the epoch is missing or too large.
        """
        self._check(rows, logits, labels, epoch)
        self._move_to(logits.device)
        rows = rows.to(logits.device, torch.int64)
        labels = labels.to(logits.device, torch.int64)
        values = logits.float()
        margin = margins(values, labels)
        probs = values.softmax(dim=1)
        self._add("margin", rows, margin)
        self._add("given_probability", rows, probs.gather(1, labels[:, None]).squeeze(1))
        self._add("updates", rows, torch.ones_like(rows))
        self._add("wrong_predictions", rows, margin < 0)
        if "probs" in self._state:
            self._add("probs", rows, probs)
        if epoch is not None and "epoch_margin" in self._state:
            self._state["epoch_margin"][epoch - 1].index_add_(0, rows, margin.half())
            self._state["epoch_updates"][epoch - 1].index_add_(
                0, rows, torch.ones_like(rows, dtype=torch.uint8)
            )

    def result(self) -> TrainingEvidence:
        """Return the averages so far."""
        state = {name: values.cpu() for name, values in self._state.items()}
        updates = state["updates"]
        probs, of_epoch = state.get("probs"), state.get("epoch_margin")
        return TrainingEvidence(
            margin=mean_over(state["margin"], updates).numpy(),
            given_probability=mean_over(state["given_probability"], updates).numpy(),
            mean_probs=None if probs is None else mean_over(probs, updates[:, None]).numpy(),
            epoch_margin=(
                None if of_epoch is None else mean_over(of_epoch, state["epoch_updates"]).numpy()
            ),
            num_updates=updates.numpy().copy(),
            wrong_predictions=state["wrong_predictions"].numpy().copy(),
        )

    def merge(self, other: Mapping[str, Tensor]) -> None:
        """Add the ``state_dict()`` of another recorder of the same data set.

        Raises:
            TrainingError: It counts other samples, classes or epochs.
        """
        self._check_state(other)
        for name, values in self._state.items():
            values += other[name].to(values.device)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums and counts; live tensors, to be saved or cloned."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state.

        Raises:
            TrainingError: It counts other samples, classes or epochs.
        """
        self._check_state(state)
        for name, values in self._state.items():
            values.copy_(state[name])

    def _add(self, name: str, rows: Tensor, values: Tensor) -> None:
        total = self._state[name]
        total.index_add_(0, rows, values.to(total.dtype))

    def _move_to(self, device: torch.device) -> None:
        if self._state["margin"].device != device:
            self._state = {name: values.to(device) for name, values in self._state.items()}

    def _check(self, rows: Tensor, logits: Tensor, labels: Tensor, epoch: int | None) -> None:
        if not all(isinstance(given, Tensor) for given in (rows, logits, labels)):
            raise ConfigError("rows, logits and labels are no tensors", hint="pass torch tensors")
        if not logits.ndim:
            raise ConfigError("the logits are one number", hint="they should be (B, K)")
        expected = ((len(logits),), (len(logits), self._classes), (len(logits),))
        if (rows.shape, logits.shape, labels.shape) != expected:
            raise ConfigError(
                f"rows {tuple(rows.shape)}, logits {tuple(logits.shape)} and labels "
                f"{tuple(labels.shape)} do not fit together",
                hint=f"they should be (B,), (B, {self._classes}) and (B,)",
            )
        epochs = len(self._state.get("epoch_margin", ()))
        if epochs and (epoch is None or not 1 <= epoch <= epochs):
            raise ConfigError(
                f"epoch {epoch} is not one of the {epochs} that are recorded",
                hint="pass epoch=, counted from 1",
            )

    def _check_state(self, state: Mapping[str, Tensor]) -> None:
        mine = {name: values.shape for name, values in self._state.items()}
        if mine != {name: values.shape for name, values in state.items()}:
            raise TrainingError(
                "the recorded evidence is of other samples, classes or epochs than this run's",
                hint="go on with the settings and the data that it was recorded with",
            )
