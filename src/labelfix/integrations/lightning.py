"""Evidence of a training by Lightning.

::

    evidence = LabelEvidence(labels)
    Trainer(callbacks=[evidence]).fit(model, loader)
    issues = evidence.label_issues()

Letters: N samples, B samples of a batch, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback

from labelfix.errors import ConfigError
from labelfix.integrations.evidence import TrainingWatch
from labelfix.pipeline.label_issues import LabelIssues
from labelfix.types import Label

__all__ = ["LabelEvidence"]


class LabelEvidence(Callback):  # type: ignore[misc]
    """Records what training sees of each sample.

    The training step has to return ``{"loss": loss, "logits": logits, "rows": rows}``: the
    ``(B, K)`` logits, and the ``(B,)`` numbers of the samples, which the data set gives beside
    them. What was recorded is kept in checkpoints. Of several processes, each records the samples
    that it sees, and the sum of all is there in each when training ends.

    Args:
        labels: ``(N,)`` positions of classes: the labels that are trained on.
        class_names: K names, in the order of the logits; ``None`` for none.

    Raises:
        ConfigError: The labels are no positions.
    """

    def __init__(self, labels: Any, *, class_names: Sequence[Label] | None = None) -> None:
        self._watched = TrainingWatch(labels, class_names)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note a step.

        Raises:
            ConfigError: The training step did not return what is needed.
        """
        if not isinstance(outputs, Mapping) or not {"logits", "rows"} <= set(outputs):
            raise ConfigError(
                "the training step returns no logits and rows",
                hint='return {"loss": loss, "logits": logits, "rows": rows} from training_step',
            )
        self._watched.observe(outputs["rows"], outputs["logits"])

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Sum what all processes have seen."""
        self._watched.gather()

    def label_issues(
        self, *, precision: float | None = None, budget: int | None = None
    ) -> LabelIssues:
        """Return what the evidence says so far, as `labelfix.integrations.evidence` does."""
        return self._watched.label_issues(precision=precision, budget=budget)

    def state_dict(self) -> dict[str, Any]:
        """Return what was recorded, for a checkpoint."""
        return self._watched.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._watched.go_on_from(state_dict)
