"""Evidence of a training by Keras 3, on any of its backends.

::

    evidence = LabelEvidence(labels, classes=10)
    model.compile("adam", loss=evidence.loss("sparse_categorical_crossentropy"), metrics=[evidence])
    model.fit(samples, evidence.targets, epochs=5)
    issues = evidence.label_issues()

A callback of Keras is told neither the samples nor the outputs of a step; its metrics are told the
outputs, and the samples if their numbers come with the labels. Letters: N samples, B samples of a
batch, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import torch
from keras import ops
from numpy.typing import NDArray

from labelfix.errors import ConfigError
from labelfix.integrations.evidence import TrainingWatch
from labelfix.pipeline.label_issues import LabelIssues
from labelfix.types import Label

__all__ = ["LabelEvidence"]


class LabelEvidence(keras.metrics.Metric):  # type: ignore[misc] # keras has no types
    """Records what training sees of each sample; its value is the accuracy of the epoch.

    Validation data with labels of the usual form take no part in the evidence.

    Args:
        labels: ``(N,)`` positions of classes: the labels that are trained on.
        classes: K, the number of outputs of the model.
        from_logits: Whether the model ends with logits; it ends with probabilities if not.
        class_names: K names, in the order of the outputs; ``None`` for none.
        name: How the progress of the training calls the value.

    Raises:
        ConfigError: The labels are no positions of classes.
    """

    def __init__(
        self,
        labels: Any,
        classes: int,
        *,
        from_logits: bool = False,
        class_names: Sequence[Label] | None = None,
        name: str = "accuracy",
    ) -> None:
        super().__init__(name=name)
        self._watched = TrainingWatch(labels, class_names)
        self._from_logits = from_logits
        count = len(self._watched.labels)
        self._sums = {
            "margin": self._sum("margin", (count,)),
            "given_probability": self._sum("given_probability", (count,)),
            "updates": self._sum("updates", (count,)),
            "wrong_predictions": self._sum("wrong_predictions", (count,)),
            "probs": self._sum("probs", (count, classes)),
        }
        self._right = self._sum("right", ())
        self._seen = self._sum("seen", ())

    def _sum(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.add_variable(shape=shape, initializer="zeros", name=name, dtype="float32")

    @property
    def targets(self) -> NDArray[np.int64]:
        """Return ``(N, 2)`` what ``fit`` takes as ``y``: each sample's label and its number."""
        labels = self._watched.labels
        return np.stack([labels, np.arange(len(labels))], axis=1)

    def loss(self, loss: Any) -> Callable[[Any, Any], Any]:
        """Return a loss of Keras, by name or itself, that takes `targets` and usual labels."""
        of_labels = keras.losses.get(loss)

        def of_targets(y_true: Any, y_pred: Any) -> Any:
            return of_labels(_labels_and_rows(y_true)[0], y_pred)

        return of_targets

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Note a step.

        Args:
            y_true: ``(B, 2)`` a part of `targets`, or ``(B,)`` usual labels.
            y_pred: ``(B, K)`` outputs of the model.
            sample_weight: Of no effect: evidence does not depend on weights.
        """
        labels, rows = _labels_and_rows(y_true)
        outputs = ops.cast(y_pred, "float32")
        is_given = ops.one_hot(labels, outputs.shape[-1])
        predicted = ops.cast(ops.argmax(outputs, axis=-1), "int32")
        self._right.assign_add(ops.sum(ops.cast(ops.equal(predicted, labels), "float32")))
        self._seen.assign_add(ops.sum(is_given))
        if rows is None:
            return
        log_probs = (
            ops.log_softmax(outputs) if self._from_logits else ops.log(ops.maximum(outputs, 1e-30))
        )
        given = ops.sum(log_probs * is_given, axis=-1)
        other = ops.max(log_probs - 1e30 * is_given, axis=-1)
        probs = ops.exp(log_probs)
        self._add("margin", rows, given - other)
        self._add("given_probability", rows, ops.sum(probs * is_given, axis=-1))
        self._add("updates", rows, ops.ones_like(given))
        self._add("wrong_predictions", rows, ops.cast(given < other, "float32"))
        self._add("probs", rows, probs)

    def _add(self, name: str, rows: Any, values: Any) -> None:
        total = self._sums[name]
        so_far = ops.take(total.value, rows, axis=0)
        total.assign(ops.scatter_update(total.value, rows[:, None], so_far + values))

    def result(self) -> Any:
        """Return the share of the epoch's labels that were predicted."""
        return self._right / ops.maximum(self._seen, 1)

    def reset_state(self) -> None:
        """Begin an epoch; the evidence of those before is kept."""
        self._right.assign(0)
        self._seen.assign(0)

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return what was recorded so far, to be saved beside a checkpoint of the model."""
        return {name: ops.convert_to_numpy(total.value) for name, total in self._sums.items()}

    def go_on_from(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Take up what `state` returned.

        Raises:
            ConfigError: It counts other samples or classes.
        """
        shapes = {name: tuple(total.shape) for name, total in self._sums.items()}
        if shapes != {name: values.shape for name, values in state.items()}:
            raise ConfigError(
                "the recorded evidence is of other samples or classes",
                hint="go on with the labels that it was recorded with",
            )
        for name, total in self._sums.items():
            total.assign(state[name])

    def label_issues(
        self, *, precision: float | None = None, budget: int | None = None
    ) -> LabelIssues:
        """Return what the evidence says so far, as `labelfix.integrations.evidence` does.

        Raises:
            ConfigError: No step of training was seen.
        """
        state = {name: torch.tensor(values) for name, values in self.state().items()}
        if state["updates"].any():
            for name in ("updates", "wrong_predictions"):
                state[name] = state[name].to(torch.int32)
            self._watched.go_on_from(state)
        return self._watched.label_issues(precision=precision, budget=budget)


def _labels_and_rows(y_true: Any) -> tuple[Any, Any]:
    """Return the labels of a batch, and the numbers of its samples if they come with them."""
    y_true = ops.cast(y_true, "int32")
    if len(y_true.shape) == 2 and y_true.shape[1] == 2:
        return y_true[:, 0], y_true[:, 1]
    return ops.reshape(y_true, (-1,)), None
