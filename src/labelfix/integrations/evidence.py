"""From what a training loop saw of each sample to label issues, in two lines of anyone's loop.

::

    recorder = labelfix.EvidenceRecorder(len(labels), classes)
    ...
        recorder.update(rows, logits, labels[rows])  # in each step of training
    ...
    issues = label_issues(recorder, labels)

The evidence is in-sample: see `IN_SAMPLE`. Letters: N samples, B samples of a batch, K classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from labelfix.arguments import checks_arguments
from labelfix.config import AuditConfig
from labelfix.config.file import config_of, flag_changes, overridden
from labelfix.data.arrays import ProgramPredProbs, labels_of, pred_probs_of_arrays
from labelfix.errors import ConfigError
from labelfix.pipeline.label_issues import LabelIssues, OfProbabilities, issues_of
from labelfix.scoring.scores import score_with_margins
from labelfix.training.recorder import EvidenceRecorder
from labelfix.types import Assumption, Evidence, Label, LabelScores, TrainingEvidence
from labelfix.utils.text import percent

__all__ = ["IN_SAMPLE", "TrainingWatch", "label_issues"]

IN_SAMPLE = (
    "the evidence is in-sample: the model was trained on the labels that it scores, so that those "
    "it has learned by heart look right, and fewer labels look wrong than are; probabilities from "
    "cross-validation (pred_probs) do not have this fault"
)
"""What a report on the evidence of one training says."""

LEAST_SEEN = 0.95
"""The share of the samples that training has to have seen."""


@checks_arguments
def label_issues(
    recorder: EvidenceRecorder,
    labels: Any,
    *,
    class_names: Sequence[Any] | None = None,
    precision: float | None = None,
    budget: int | None = None,
) -> LabelIssues:
    """Return what the evidence of a training says of the labels that it trained on.

    Labels are scored by the mean of the probabilities over training, and ranked by that and the
    mean margin together, as in an audit that trains networks.

    Args:
        recorder: It was told of each step.
        labels: ``(N,)`` the labels that were trained on: positions of classes, or names.
        class_names: K names, in the order of the logits.
        precision: Flag as many labels as leave this share of the flags right.
        budget: Flag so many labels instead.

    Raises:
        ConfigError: The recorder kept no probabilities, or has seen too few samples.
        DatasetError: The labels do not fit what was recorded.
    """
    seen = recorder.result()
    if seen.mean_probs is None:
        raise ConfigError("the recorder kept no probabilities", hint="make it with keep_probs=True")
    share = float(np.mean(seen.num_updates > 0)) if len(seen.num_updates) else 0.0
    if share < LEAST_SEEN:
        raise ConfigError(
            f"training has seen {percent(share)} of the samples",
            hint="train at least one whole epoch, and number the samples from 0",
        )
    config = config_of(overridden({}, {"flags": flag_changes(precision, budget)}))
    probs = pred_probs_of_arrays(labels, seen.mean_probs, class_names, force=True)
    given = probs.given
    said = (Assumption("probabilities", IN_SAMPLE), *given.assumptions)
    source = replace(given.source, path=Path("training"))
    probs = replace(
        probs, given=replace(given, assumptions=said, source=source), models=("training",)
    )
    return issues_of(
        OfProbabilities(probs, _scores(probs, seen, config), None, config, None, force=True)
    )


def _scores(probs: ProgramPredProbs, seen: TrainingEvidence, config: AuditConfig) -> LabelScores:
    given = probs.given
    is_scored = given.is_scored
    values = given.pred_probs.read(slice(0, len(given)))
    values[~is_scored] = np.nan
    evidence = Evidence(
        pred_probs=values,
        fold=np.zeros(len(given), np.int16),
        margin=np.where(is_scored, seen.margin, np.float32(np.nan)).astype(np.float32),
        self_label=given.given_label,
    )
    return score_with_margins(evidence, given.given_label, config=config.scoring)


class TrainingWatch:
    """What a callback of a library keeps while it trains.

    Args:
        labels: ``(N,)`` positions of classes: the labels that are trained on.
        class_names: K names, in the order of the logits; ``None`` for none.
    """

    def __init__(self, labels: Any, class_names: Sequence[Label] | None = None) -> None:
        given = labels_of(labels)
        if given.are_names or given.values.null_count:
            raise ConfigError(
                "labels are no positions of classes", hint="give integers from 0, one a sample"
            )
        self._labels = torch.tensor(given.values.to_numpy(), dtype=torch.int64)
        self._names = class_names or given.categories
        self._recorder: EvidenceRecorder | None = None
        self._of_all: EvidenceRecorder | None = None
        self._processes = 1

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return ``(N,)`` positions of the classes: the labels that are trained on."""
        codes: NDArray[np.int64] = self._labels.numpy()
        return codes

    @property
    def recorder(self) -> EvidenceRecorder:
        """Return what was recorded, by all processes together.

        Raises:
            ConfigError: Nothing was, or it was not gathered from the processes.
        """
        if self._of_all is not None:
            return self._of_all
        if self._recorder is None:
            raise ConfigError("no step of training was seen", hint="train first")
        if self._processes > 1:
            raise ConfigError(
                f"this process saw its own samples only, as one of {self._processes}",
                hint="call gather() in every process, or train to the end",
            )
        return self._recorder

    def observe(self, rows: Tensor, logits: Tensor) -> None:
        """Note a step.

        Args:
            rows: ``(B,)`` numbers of the samples, from 0.
            logits: ``(B, K)`` of the forward pass that trains.
        """
        if self._recorder is None:
            self._recorder = EvidenceRecorder(len(self._labels), int(logits.shape[-1]))
            self._processes = _processes()
        self._of_all = None
        labels = self._labels[rows.to(self._labels.device)]
        self._recorder.update(rows, logits.detach(), labels)

    def label_issues(
        self, *, precision: float | None = None, budget: int | None = None
    ) -> LabelIssues:
        """Return what the evidence says so far; the arguments are those of `label_issues`."""
        return label_issues(
            self.recorder,
            self.labels,
            class_names=self._names,
            precision=precision,
            budget=budget,
        )

    def gather(self) -> None:
        """Sum what the processes of a distributed training have seen; each of them has to call it.

        Alone it does nothing.
        """
        state = self.state()
        if state and _processes() > 1:
            self._of_all = self._recorder_of(state)

    def state(self) -> dict[str, Tensor]:
        """Return what was recorded so far, to go on from; nothing before the first step.

        In a distributed training it is the sum of all processes, each of which has to call this.
        """
        state = {} if self._recorder is None else self._recorder.state_dict()
        state = {name: values.clone() for name, values in state.items()}
        if state and _processes() > 1:
            for values in state.values():
                dist.all_reduce(values)
        return state

    def go_on_from(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` returned; of several processes, the first one does."""
        if not state:
            return
        self._processes, self._of_all = _processes(), None
        if self._processes > 1 and dist.get_rank() > 0:
            state = {name: torch.zeros_like(values) for name, values in state.items()}
        self._recorder = self._recorder_of(state)

    def _recorder_of(self, state: dict[str, Tensor]) -> EvidenceRecorder:
        recorder = EvidenceRecorder(len(self._labels), int(state["probs"].shape[1]))
        recorder.load_state_dict(state)
        return recorder


def _processes() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
