"""Evidence of a training by timm's own script, or any loop of data set, loss and loader.

Two lines, the first after the data set is made and the second after the loss is::

    dataset_train = watch(dataset_train)
    train_loss_fn = dataset_train.loss(train_loss_fn)

and ``dataset_train.label_issues()`` when training is over. The data set hands the number of each
sample on with its label, in one integer; the loss takes both apart, so nothing between them has
to be changed. Mixup and CutMix make mixed labels of integers, and have to be off.

Letters: N samples, B samples of a batch, K classes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from labelfix.errors import ConfigError
from labelfix.integrations.evidence import TrainingWatch
from labelfix.pipeline.label_issues import LabelIssues

__all__ = ["WatchedDataset", "watch"]


class WatchedDataset(Dataset[tuple[Any, int]]):
    """A data set whose labels carry the numbers of their samples; made by `watch`."""

    def __init__(self, dataset: Any, watched: TrainingWatch, classes: int) -> None:
        self._dataset, self._watched, self._classes = dataset, watched, classes

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        sample, label = self._dataset[row]
        return sample, int(label) + self._classes * row

    @property
    def transform(self) -> Any:
        """Return what turns an image into an input; ``timm.data.create_loader`` sets it."""
        return self._dataset.transform

    @transform.setter
    def transform(self, transform: Any) -> None:
        self._dataset.transform = transform

    def loss(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the loss with the usual labels, which notes what it is given."""

        def of_numbered(logits: Tensor, target: Tensor) -> Tensor:
            if target.ndim != 1 or target.is_floating_point():
                raise ConfigError(
                    "the loss is given mixed labels", hint="train without mixup and CutMix"
                )
            rows = target // self._classes
            self._watched.observe(rows, logits)
            return loss(logits, target % self._classes)

        return of_numbered

    def gather(self) -> None:
        """Sum what the processes of a distributed training have seen; each has to call it."""
        self._watched.gather()

    def state(self) -> dict[str, Tensor]:
        """Return what was recorded so far, to be saved beside a checkpoint of the model."""
        return self._watched.state()

    def go_on_from(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` returned."""
        self._watched.go_on_from(state)

    def label_issues(
        self, *, precision: float | None = None, budget: int | None = None
    ) -> LabelIssues:
        """Return what the evidence says so far, as `labelfix.integrations.evidence` does."""
        return self._watched.label_issues(precision=precision, budget=budget)


def watch(dataset: Any, labels: Any = None, *, classes: int | None = None) -> WatchedDataset:
    """Return the data set to train on, which records what training sees of each sample.

    Args:
        dataset: Yields an input and the position of a class.
        labels: ``(N,)`` the labels that it yields; found in a data set of timm or torchvision.
        classes: K, the number of outputs; one more than the largest label if left out.

    Raises:
        ConfigError: The labels are not found, or do not fit the data set.
    """
    if labels is None:
        labels = _labels_of(dataset)
    codes = np.asarray(labels)
    if len(codes) != len(dataset):
        raise ConfigError(
            f"the data set has {len(dataset):,} samples, and there are {len(codes):,} labels",
            hint="give the labels in the order of the samples",
        )
    watched = TrainingWatch(torch.as_tensor(codes))
    return WatchedDataset(dataset, watched, classes or int(watched.labels.max(initial=0)) + 1)


def _labels_of(dataset: Any) -> Any:
    """Return what data sets of timm (``reader.samples``) and torchvision (``targets``) know."""
    if hasattr(dataset, "targets"):
        return dataset.targets
    samples = getattr(getattr(dataset, "reader", dataset), "samples", None)
    if samples is None:
        raise ConfigError("the labels of the data set are not known", hint="pass labels=")
    return [label for _, label in samples]
