"""What the frozen lower stages of a network make of each sample, as inputs of the upper ones.

Letters: N samples, V views of each, B samples of a batch.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.modalities.batching import (
    Rows,
    epoch_order,
    evaluation_batches,
    prefetched,
    training_batches,
    training_steps,
)
from labelfix.types import Assumption


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Activations:
    """The inputs of the upper stages, computed once.

    Args:
        values: ``(N, V, ...)`` uint16, the bits of bfloat16 numbers, mapped from disk; view 0 is
            the sample as it is.
        content: ``(N,)`` 16-byte digests of the encoded samples; equal means byte-identical.
        unreadable: Row to reason, for the samples that could not be read.
        assumptions: What was taken for granted on the way here.
    """

    values: NDArray[np.uint16]
    content: NDArray[np.bytes_]
    unreadable: Mapping[int, str]
    assumptions: tuple[Assumption, ...] = ()


class ActivationViews:
    """Batches of activations: each epoch shows one view of each sample, drawn at random.

    Args:
        values: ``(N, V, ...)`` uint16 bits of bfloat16 numbers.
        training_views: Numbers of the views that training draws from.
        evaluation_views: Numbers of those that a sample is scored by, each as good as the other.
        device: Where inputs are wanted.
        rank: Which process this is, from 0.
        world_size: How many there are.
    """

    def __init__(
        self,
        values: NDArray[np.uint16],
        *,
        training_views: Sequence[int],
        evaluation_views: Sequence[int],
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._values = values
        self._evaluation_views = tuple(evaluation_views)
        self._training_views = np.array(training_views)
        self._device = device
        self._rank, self._world_size = rank, world_size

    def step_sizes(self, rows: Rows, batch_size: int) -> list[int]:
        """Return how many rows each step of an epoch takes, over all processes."""
        return training_steps(len(rows), batch_size=batch_size, world_size=self._world_size)

    def training(
        self, rows: Rows, batch_size: int, *, seed: int, epoch: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows ``(B,)`` and inputs ``(B, ...)``, in a new order and of new views each epoch.

        Args:
            rows: Numbers of the samples to train on.
            batch_size: B.
            seed: Of the order and the views.
            epoch: Each has its own.
        """
        order = epoch_order(np.unique(rows), seed=seed, epoch=epoch)
        stream = 2  # not that of the epoch's order
        chance = np.random.default_rng([seed, epoch, stream])
        drawn = self._training_views[
            chance.integers(len(self._training_views), size=int(rows.max(initial=-1)) + 1)
        ]
        batches = training_batches(
            order, batch_size=batch_size, rank=self._rank, world_size=self._world_size
        )
        yield from self._ahead((batch, drawn[batch]) for batch in batches)

    def evaluation(self, rows: Rows, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows ``(B,)`` and inputs, each row once an evaluation view over all processes."""
        batches = evaluation_batches(
            rows, batch_size=batch_size, rank=self._rank, world_size=self._world_size
        )
        yield from self._ahead(
            (batch, np.full(len(batch), view))
            for batch in batches
            for view in self._evaluation_views
        )

    def _ahead(
        self, batches: Iterable[tuple[Rows, NDArray[np.int64]]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for rows, bits in prefetched(self._gathered, batches, self._device):
            yield rows, _as_inputs(bits)

    def _gathered(self, batch: tuple[Rows, NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        rows, views = batch
        return torch.from_numpy(rows), torch.from_numpy(self._values[rows, views].view(np.int16))


def _as_inputs(bits: Tensor) -> Tensor:
    values = bits.view(torch.bfloat16).float()
    if values.ndim == 4:
        return values.contiguous(memory_format=torch.channels_last)
    return values
