"""What a training loop asks for: augmented and plain inputs of the images it names, on the device.

Letters: N samples, B samples of a batch, T pixels a side of what the network sees.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.errors import TrainingError
from labelfix.modalities.batching import (
    Rows,
    epoch_order,
    evaluation_batches,
    training_batches,
    training_steps,
)
from labelfix.modalities.image.pixels import Batch, PixelSource
from labelfix.modalities.image.transforms import (
    Augment,
    BatchTransform,
    Preprocessing,
    draw_chances,
    draw_crops,
)


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

    def training(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of this process: every row once over all processes, shuffled.

        Args:
            epoch: Each has its own order.

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
        return self._source.batches(batches, pin=self._pin)

    def evaluation(self) -> Iterator[Batch]:
        """Yield batches to look at without training: every row once over all processes, rising.

        A process may have one batch more than another, so nothing may wait for the others between
        two batches. The last batch may hold a single row.

        Raises:
            TrainingError: An image is gone.
        """
        batches = evaluation_batches(
            self._rows, batch_size=self._batch_size, rank=self._rank, world_size=self._world_size
        )
        return self._source.batches(batches, pin=self._pin)


class ImageViews:
    """Batches of inputs of a data set's images.

    Args:
        source: Where pixels come from.
        preprocessing: What the network wants.
        augment: What training may do to an image.
        device: Where inputs are wanted.
        rank: Which process this is, from 0.
        world_size: How many there are.
    """

    def __init__(
        self,
        source: PixelSource,
        preprocessing: Preprocessing,
        augment: Augment,
        device: torch.device,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._source = source
        self._augment = augment
        self._device = device
        self._lens = BatchTransform(preprocessing, device)
        self._rank, self._world_size = rank, world_size

    def step_sizes(self, rows: NDArray[np.int64], batch_size: int) -> list[int]:
        """Return how many rows each step of an epoch takes, over all processes."""
        return self._images(rows, batch_size, seed=0).steps()

    def training(
        self, rows: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows ``(B,)`` and augmented inputs ``(B, 3, T, T)``, in a new order each epoch.

        Args:
            rows: ``(N,)`` numbers of the samples to train on.
            batch_size: B.
            seed: Of the order and the augmentation.
            epoch: Each has its own.
        """
        images = self._images(rows, batch_size, seed=seed)
        chances = draw_chances(int(rows.max(initial=-1)) + 1, seed=seed, epoch=epoch)
        for numbers, pixels in images.training(epoch):
            crops = draw_crops(chances[numbers.numpy()], self._augment)
            yield self._lens.moved(numbers), self._lens.train_inputs(pixels, crops)

    def evaluation(
        self, rows: NDArray[np.int64], batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows ``(B,)`` and plain inputs ``(B, 3, T, T)``, each row once over all processes.

        Args:
            rows: ``(N,)`` numbers of the samples to look at.
            batch_size: B.
        """
        for numbers, pixels in self._images(rows, batch_size, seed=0).evaluation():
            yield self._lens.moved(numbers), self._lens.eval_inputs(pixels)

    def _images(self, rows: NDArray[np.int64], batch_size: int, *, seed: int) -> TrainingImages:
        return TrainingImages(
            self._source,
            rows,
            batch_size=batch_size,
            seed=seed,
            rank=self._rank,
            world_size=self._world_size,
            pin=self._device.type == "cuda",
        )
