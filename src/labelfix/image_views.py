"""What a training loop asks for: augmented and plain inputs of the images it names, on the device.

Letters: N samples, B samples of a batch, T pixels a side of what the network sees.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.augmentation import Augment, ImageLens, draw_crops
from labelfix.pixel_sources import PixelSource
from labelfix.preprocessing import Preprocessing
from labelfix.training_images import TrainingImages


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
        self._lens = ImageLens(preprocessing, device)
        self._rank, self._world_size = rank, world_size

    def step_sizes(self, rows: NDArray[np.int64], batch_size: int) -> list[int]:
        """Return how many rows each step of an epoch takes, over all processes."""
        return self._images(rows, batch_size, seed=0).steps()

    def training(
        self,
        rows: NDArray[np.int64],
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        start_batch: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows ``(B,)`` and augmented inputs ``(B, 3, T, T)``, in a new order each epoch.

        Args:
            rows: ``(N,)`` numbers of the samples to train on.
            batch_size: B.
            seed: Of the order and the augmentation.
            epoch: Each has its own.
            start_batch: Batches before it are left out, and not read.
        """
        images = self._images(rows, batch_size, seed=seed)
        for numbers, pixels in images.training(epoch, start_batch=start_batch):
            crops = draw_crops(numbers, self._augment, seed=seed, epoch=epoch)
            yield self._lens.moved(numbers), self._lens.training_view(pixels, crops)

    def judging(self, rows: NDArray[np.int64], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows ``(B,)`` and plain inputs ``(B, 3, T, T)``, each row once over all processes.

        Args:
            rows: ``(N,)`` numbers of the samples to look at.
            batch_size: B.
        """
        for numbers, pixels in self._images(rows, batch_size, seed=0).judging():
            yield self._lens.moved(numbers), self._lens.judging_view(pixels)

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
