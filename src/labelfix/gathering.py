"""What all networks of a run say of each sample, put together.

Letters: N samples, R rows of a batch, K classes.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.distributed import World
from labelfix.records import MISSING, Evidence, Judgeable


class Gathered:
    """The verdicts of all networks so far, sample by sample.

    Args:
        count: N.
        classes: K.
    """

    def __init__(self, count: int, classes: int) -> None:
        self._probs = torch.zeros(count, classes, dtype=torch.float64)
        self._judges = torch.zeros(count, dtype=torch.float64)
        self._margins: list[Tensor] = []
        self._labels: list[NDArray[np.int64]] = []

    def add(
        self,
        verdicts: Iterator[tuple[Tensor, Tensor]],
        margin: Tensor,
        self_label: NDArray[np.int64],
        world: World,
    ) -> None:
        """Add one network.

        Args:
            verdicts: Rows ``(R,)`` and probabilities ``(R, K)`` of samples that it never saw, of
                this process.
            margin: ``(N,)`` logit units, in-sample; NaN where it was not trained.
            self_label: ``(N,)`` the labels that it was trained on last.
            world: Of the processes that judged.

        Raises:
            TrainingError: Another process is gone.
        """
        new_probs, judged = torch.zeros_like(self._probs), torch.zeros_like(self._judges)
        for rows, probs in verdicts:
            new_probs[rows.cpu()] = probs.double().cpu()
            judged[rows.cpu()] = 1
        self._probs += world.sum(new_probs)
        self._judges += world.sum(judged)
        self._margins.append(margin)
        self._labels.append(self_label)

    def evidence(self, judgeable: Judgeable) -> Evidence:
        """Return the means of probabilities and margins, and the labels of most networks."""
        probs = (self._probs / self._judges[:, None]).float().numpy()
        probs[~judgeable.is_judged] = np.nan
        return Evidence(
            pred_probs=probs,
            fold=judgeable.fold,
            margin=torch.stack(self._margins).nanmean(dim=0).numpy(),
            self_label=_majority(np.stack(self._labels), probs.shape[1]),
        )


def _majority(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return ``(N,)`` the label that most networks trained a sample on, ``MISSING`` if none did."""
    votes = np.zeros((labels.shape[1], classes), dtype=np.int16)
    for of_network in labels:
        rows = np.flatnonzero(of_network != MISSING)
        votes[rows, of_network[rows]] += 1
    return np.where(votes.any(axis=1), votes.argmax(axis=1), MISSING)
