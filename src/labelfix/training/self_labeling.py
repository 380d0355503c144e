"""Self-labeling while a whole network trains: which label to train on, and how much it counts.

After Li & Zhang (NeurIPS 2021), section 4, in two forms. ``"paper"`` follows the authors' code rule
by rule. ``"safe"`` mends what is weak there: it decides from an average over epochs and not from
one augmented view, its thresholds adapt to each class, what it corrects it can take back, and its
weights are normalized over the data set, so that a batch of only wrong labels takes a small step.
Neither ever writes to a given label.

Letters: N samples, B samples of a batch, K classes, E_c and E_r the epochs from which labels are
corrected and samples weighted.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.config import SelfLabelingConfig
from labelfix.errors import ConfigError, TrainingError
from labelfix.types import MISSING, SelfLabelingStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfLabeling:
    """The two rules.

    Args:
        threshold: p_t: a label is corrected where another class is believed more than this.
        temperature: tau: a sample weighs its label's believed probability to the power 1/tau.
    """

    threshold: float = 0.9
    temperature: float = 2.0


def self_label(belief: Tensor, given_label: Tensor, rules: SelfLabeling) -> tuple[Tensor, Tensor]:
    """Return the ``(...)`` label to train on and its weight.

    The weight is ``p_label ** (1 / tau)``, the softmax of ``-loss / tau`` before it is normalized:
    normalizing over all samples instead of over a batch keeps a batch of wrong labels from taking
    a full step.

    Args:
        belief: ``(..., K)`` probabilities, rows sum to 1.
        given_label: ``(...)`` int64.
        rules: The threshold (strict) and the temperature.
    """
    top, best = belief.max(dim=-1)
    label = torch.where(top > rules.threshold, best, given_label)
    believed = belief.gather(-1, label.unsqueeze(-1)).squeeze(-1)
    return label, believed.pow(1 / rules.temperature)


_UNTRAINED = -1.0
"""The weight that is kept for a sample until it is first trained on."""


def temperature_at(config: SelfLabelingConfig, epoch: int) -> float:
    """Return tau in an epoch, counted from 1.

    The authors change tau at the end of each epoch e > E_r to
    ``tau0 * max(0.5, exp(-0.1 * (e - E_r)))``; so epochs E_r and E_r + 1 still use tau0.
    """
    if not config.decay or config.reweight_from is None:
        return config.temperature
    since = max(0, epoch - 1 - config.reweight_from)
    return config.temperature * max(0.5, math.exp(-0.1 * since))


class SelfLabeler:
    """Says of each batch which label to train on and what weight each sample has.

    ::

        labeler = SelfLabeler(given_label, classes, SelfLabelingConfig())
        label, weight = labeler.step(rows, logits.detach(), epoch)
        loss = (weight * cross_entropy(logits, label, reduction="none")).sum()

    **paper.** From epoch E_c a label becomes the class that the present batch gives more than p_t:
    at once, for good, and again whenever another class passes. From epoch E_r the weights are the
    softmax over the batch of ``-loss / tau``. The batch is the one that this process sees.

    **safe.** The belief in a sample's classes is the running average of its probabilities over the
    epochs, with bias correction (temporal ensembling, Laine & Aila 2017). From epoch E_c a given
    label is replaced by class k where the belief in k is more than::

        threshold_k = max(floor, p_t * confidence_k)

    where confidence_k is the mean belief in k over the samples that are given k and believed to be
    k (1 where there is none). This is confident learning's threshold for a class (Northcutt et al.
    2021), over the samples on which model and label agree, scaled by p_t; like the threshold of
    FreeMatch (Wang et al. 2023) it follows what the model makes of that class at present. From
    epoch E_r the weight is ``belief_label ** (1 / tau)``, divided by its mean over the data set.
    Thresholds and mean are taken once an epoch, from what all samples were believed to be before
    it; so what happens to a sample does not depend on which others share its batch or its process.

    **Several processes.** The state of a row is owned by the process that trains on it. At the end
    of an epoch, before the next one's first step, send the ``read_rows`` of your ``rows_touched``
    to the others and ``write_rows`` what they send; then each process knows every row.

    **Trusted labels**, which a person has reviewed, take the place of given ones and are never
    corrected. They count as a label does that is believed for sure: with p = 1, and a loss of 0.

    No step waits for the device. Memory on it: 14 N bytes for paper, (18 + 2 K) N for safe.

    Args:
        given_label: ``(N,)`` integers in ``[0, K)``, ``MISSING`` for samples that are never trained
            on; copied. Its device is where the state lives and logits are expected.
        classes: K.
        config: The form and its settings.
        trusted_label: ``(N,)`` integers in ``[0, K)``: labels that are right, ``MISSING`` where
            that is not known; ``None`` for none. On the same device.

    Raises:
        ConfigError: A given label is not a class.
    """

    def __init__(
        self,
        given_label: Tensor,
        classes: int,
        config: SelfLabelingConfig,
        trusted_label: Tensor | None = None,
    ) -> None:
        trusted = torch.full_like(given_label, MISSING) if trusted_label is None else trusted_label
        first = torch.where(trusted == MISSING, given_label, trusted)
        if bool(((first < MISSING) | (first >= classes)).any()):
            raise ConfigError(f"a given label is not one of the {classes} classes")
        count, device = len(given_label), given_label.device
        self._config = config
        self._given = first.to(torch.int32, copy=True)
        self._is_trusted = trusted != MISSING
        self._state = {
            "label": self._given.clone(),
            "weight": torch.full((count,), _UNTRAINED, device=device),
        }
        if config.preset == "safe":
            self._state["updates"] = torch.zeros(count, dtype=torch.int32, device=device)
            self._state["belief"] = torch.zeros(count, classes, dtype=torch.float16, device=device)
        self._touched = torch.zeros(count, dtype=torch.bool, device=device)
        self._threshold = torch.full((classes,), torch.inf, device=device)
        self._mean_value = torch.zeros((), device=device)
        self._epoch = 0

    @property
    def weighs_batches(self) -> bool:
        """Whether a weight depends on what else is in the batch: then `step` must see it whole."""
        return self._config.preset == "paper" and self._config.reweight_from is not None

    @torch.no_grad()
    def step(self, rows: Tensor, logits: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return the ``(B,)`` int64 labels to train on and ``(B,)`` float32 weights.

        The loss of the batch is the sum of weight times loss of a sample; before epoch E_r every
        weight is 1/B, and that is the mean.

        Args:
            rows: ``(B,)`` sample numbers, none twice.
            logits: ``(B, K)`` of the present forward pass; no gradient flows through the weights.
            epoch: Counted from 1.
        """
        if epoch != self._epoch:
            self._begin(epoch)
        rows = rows.to(self._given.device)
        log_probs = logits.float().log_softmax(dim=1)
        if self._config.preset == "paper":
            label, weight = self._paper(rows, log_probs)
        else:
            label, weight = self._safe(rows, log_probs)
        self._state["label"][rows] = label.to(torch.int32)
        self._state["weight"][rows] = weight * len(rows)
        self._touched[rows] = True
        return label, weight

    def statistics(self, true_label: Tensor | None = None) -> SelfLabelingStatistics:
        """Return what self-labeling does at present, over the samples trained on so far.

        Args:
            true_label: ``(N,)``, in a benchmark that knows it.
        """
        label, weight = self._state["label"], self._state["weight"]
        trained = weight != _UNTRAINED
        is_corrected = label != self._given
        corrected = trained & is_corrected
        record = SelfLabelingStatistics(
            trained=int(trained.sum()),
            corrected=int(corrected.sum()),
            kept_weight=float(weight[trained & ~is_corrected].mean()),
            corrected_weight=float(weight[corrected].mean()),
        )
        if true_label is None:
            return record
        true_label = true_label.to(label.device)
        return replace(record, right_labels=int((label == true_label)[trained].sum()))

    def labels(self) -> NDArray[np.int64]:
        """Return ``(N,)`` the labels last trained on; the given one where there was no training."""
        return self._state["label"].cpu().numpy().astype(np.int64)

    def rows_touched(self) -> Tensor:
        """Return ``(R,)`` int64: the rows whose state this process changed in this epoch."""
        return self._touched.nonzero().squeeze(1)

    def read_rows(self, rows: Tensor) -> dict[str, Tensor]:
        """Return copies of the state of some rows, each ``(R, ...)``."""
        return {name: values[rows] for name, values in self._state.items()}

    def write_rows(self, rows: Tensor, values: Mapping[str, Tensor]) -> None:
        """Take over the state of rows that another process trained on.

        Args:
            rows: ``(R,)``.
            values: What `read_rows` gave there.
        """
        rows = rows.to(self._given.device)
        for name, mine in self._state.items():
            mine[rows] = values[name].to(mine.device)

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that later steps depend on; live tensors, to be saved or cloned."""
        return {
            **self._state,
            "given": self._given,
            "touched": self._touched,
            "threshold": self._threshold,
            "mean_value": self._mean_value,
            "epoch": torch.tensor(self._epoch),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state.

        Raises:
            TrainingError: It belongs to another configuration or to other labels.
        """
        mine = self.state_dict()
        shapes = {name: values.shape for name, values in mine.items()}
        if shapes != {name: values.shape for name, values in state.items()}:
            raise TrainingError(
                "the saved self-labeling is of another form or size than this run's",
                hint="resume with the settings that the run was started with",
            )
        if not torch.equal(self._given, state["given"].to(self._given.device)):
            raise TrainingError(
                "the given labels are not those that the saved self-labeling began with",
                hint="the data have changed: start the run anew",
            )
        for name, values in mine.items():
            values.copy_(state[name])
        self._epoch = int(state["epoch"])

    def _paper(self, rows: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        label = self._state["label"][rows].long()
        if self._is_on(self._config.correct_from):
            top, best = log_probs.exp().max(dim=1)
            label = torch.where(self._corrects(rows, top > self._config.threshold), best, label)
        if not self._is_on(self._config.reweight_from):
            return label, _equal_weights(log_probs)
        loss = -log_probs.gather(1, label[:, None]).squeeze(1)
        loss = loss.masked_fill(self._is_trusted[rows], 0.0)
        return label, torch.softmax(-loss / temperature_at(self._config, self._epoch), dim=0)

    def _safe(self, rows: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        belief = self._update_belief(rows, log_probs)
        label = self._given[rows].long()
        if self._is_on(self._config.correct_from):
            top, best = belief.max(dim=1)
            label = torch.where(self._corrects(rows, top > self._threshold[best]), best, label)
        weight = _equal_weights(log_probs)
        if not self._is_on(self._config.reweight_from):
            return label, weight
        believed = belief.gather(1, label[:, None]).squeeze(1)
        believed = believed.masked_fill(self._is_trusted[rows], 1.0)
        value = believed ** (1 / temperature_at(self._config, self._epoch))
        # before the first epoch's end there is no mean to divide by
        return label, torch.where(self._mean_value > 0, value / self._mean_value, 1.0) * weight

    def _update_belief(self, rows: Tensor, log_probs: Tensor) -> Tensor:
        """Take a batch into the running averages; return these, ``(B, K)`` float32."""
        updates = self._state["updates"][rows] + 1
        keep = self._config.momentum
        # Z / (1 - keep^t) of the paper, kept in this form: f16 then always holds a distribution.
        rate = (1 - keep) / (1 - keep ** updates.float())
        old = self._state["belief"][rows].float()
        belief = torch.lerp(old, log_probs.softmax(dim=1), rate[:, None])
        self._state["belief"][rows] = belief.half()
        self._state["updates"][rows] = updates
        return belief

    def _corrects(self, rows: Tensor, is_sure: Tensor) -> Tensor:
        """Return ``(B,)`` which labels give way to the class that is believed most."""
        return is_sure & ~self._is_trusted[rows]

    def _is_on(self, first_epoch: int | None) -> bool:
        return first_epoch is not None and self._epoch >= first_epoch

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._touched.zero_()
        if self._config.preset == "safe":
            self._survey()

    def _survey(self) -> None:
        """Take the thresholds and the mean weight of an epoch from all beliefs.

        On the CPU and in float64, so that every process finds the very same numbers.
        """
        known = ((self._state["updates"] > 0) & (self._given != MISSING)).cpu().numpy()
        if not known.any():
            return
        top_values, best_classes = self._state["belief"].max(dim=1)
        index = self._given.clamp(min=0).long()[:, None]
        own_values = self._state["belief"].gather(1, index).squeeze(1)
        top = top_values.float().cpu().numpy()[known]
        best = best_classes.cpu().numpy()[known]
        own = own_values.float().cpu().numpy()[known]
        given = self._given.cpu().numpy()[known]
        threshold = self._class_thresholds(top[best == given], best[best == given])
        self._threshold.copy_(torch.from_numpy(threshold))
        if self._is_on(self._config.correct_from):
            own = np.where(top > threshold[best], top, own)
        own[self._is_trusted.cpu().numpy()[known]] = 1.0
        value = own.astype(np.float64) ** (1 / temperature_at(self._config, self._epoch))
        self._mean_value.fill_(float(value.mean()))

    def _class_thresholds(
        self, agreed: NDArray[np.float32], label: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return ``(K,)`` thresholds from the beliefs on which model and label agree."""
        classes = len(self._threshold)
        count = np.bincount(label, minlength=classes)
        total = np.bincount(label, weights=agreed, minlength=classes)
        confidence = np.where(count > 0, total / np.maximum(count, 1), 1.0)
        scaled = self._config.threshold * confidence
        return np.maximum(scaled, self._config.floor).astype(np.float32)


def _equal_weights(log_probs: Tensor) -> Tensor:
    return log_probs.new_full((len(log_probs),), 1 / len(log_probs))
