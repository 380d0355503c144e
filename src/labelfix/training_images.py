"""Batches of pixels for a training loop: rows and pixels, never labels.

Letters: N samples, B samples of a batch on one process, W processes, S pixels a side.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from labelfix.batch_plan import (
    Rows,
    epoch_order,
    judging_batches,
    training_batches,
    training_steps,
)
from labelfix.errors import TrainingError
from labelfix.pixel_sources import Batch, PixelSource


class TrainingImages:
    """Some samples of a data set, batch by batch.

    Args:
        source: Where their pixels come from.
        rows: ``(N,)`` int64 numbers of the samples, each once, all readable.
        batch_size: B.
        seed: Of the order.
        rank: Which process this is, from 0.
        world_size: W.
        pin: Put pixels into memory that a GPU copies from without waiting.

    Raises:
        TrainingError: A row is there twice.
    """

    def __init__(
        self,
        source: PixelSource,
        rows: NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        pin: bool = False,
    ) -> None:
        self._rows: Rows = np.unique(rows).astype(np.int64)
        if len(self._rows) != len(rows):
            raise TrainingError("a sample is listed twice", hint="name each row once")
        self._source = source
        self._batch_size = batch_size
        self._seed = seed
        self._rank, self._world_size = rank, world_size
        self._pin = pin

    def steps(self) -> list[int]:
        """Return how many rows each step of an epoch takes, over all processes.

        Its length is the number of batches of each process. Where processes hold unequal parts of
        a step, a mean over all its rows is the sum of ``len(batch) * W / step`` times the means.

        Raises:
            TrainingError: There are fewer than two rows for each process.
        """
        return training_steps(
            len(self._rows), batch_size=self._batch_size, world_size=self._world_size
        )

    def training(self, epoch: int, *, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of this process: every row once over all processes, shuffled.

        Args:
            epoch: Each has its own order.
            start_batch: Batches before it are left out, and not read.

        Raises:
            TrainingError: There are fewer than two rows for each process, or an image is gone.
        """
        order = epoch_order(
            self._rows,
            seed=self._seed,
            epoch=epoch,
            block_rows=self._source.block_rows,
            mixed_blocks=self._source.mixed_blocks,
        )
        batches = training_batches(
            order, batch_size=self._batch_size, rank=self._rank, world_size=self._world_size
        )
        return self._source.batches(batches[start_batch:], pin=self._pin)

    def judging(self) -> Iterator[Batch]:
        """Yield batches to look at without training: every row once over all processes, rising.

        A process may have one batch more than another, so nothing may wait for the others between
        two batches. The last batch may hold a single row.

        Raises:
            TrainingError: An image is gone.
        """
        batches = judging_batches(
            self._rows, batch_size=self._batch_size, rank=self._rank, world_size=self._world_size
        )
        return self._source.batches(batches, pin=self._pin)
