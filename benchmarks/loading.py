"""How near the speed of a training loop fed from disk comes to one with its data in memory.

    python benchmarks/loading.py DATA [--model tf_efficientnet_lite0] [--image-size 96]
        [--batch-size 32] [--steps 20] [--rounds 5] [--workers 2] [--device auto]

Times in turn, round by round: the bare loop (forward, backward, optimizer step) on one batch that
lies on the device; the same loop fed by `ImageViews` from pixels on disk (the bar: at least 85 % of
the bare loop); the batches alone, from disk, with and without augmentation. Then whole epochs that
worker processes decode again. Prints medians of images per second.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness import bar, median_ratio, new_parser, open_labels, time_in_turn
from labelfix.modalities.image.pixels import (
    DecodedPixels,
    PixelSource,
    StoredPixels,
    decode_once,
    stored_square,
)
from labelfix.modalities.image.transforms import (
    Augment,
    BatchTransform,
    Preprocessing,
    draw_chances,
    draw_crops,
)
from labelfix.modalities.image.views import ImageViews, TrainingImages
from labelfix.utils.torch_utils import choose_device

Feed = Generator[Tensor, None, None]

BAR = 0.85
BARE, FED, AUGMENTED = "bare loop, data on the device", "loop fed from disk", "augmentation alone"


class Loop:
    """A network and what a step does to it."""

    def __init__(self, name: str, device: torch.device) -> None:
        model = timm.create_model(name, pretrained=False, num_classes=10)
        self._model = model.to(device).to(memory_format=torch.channels_last).train()
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        self._device = device

    def step(self, inputs: Tensor) -> None:
        """Train on one batch, with arbitrary labels."""
        labels = torch.zeros(len(inputs), dtype=torch.int64, device=self._device)
        half = self._device.type == "cuda"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            loss = nn.functional.cross_entropy(self._model(inputs).float(), labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def wait(self) -> None:
        """Wait for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    arguments = parse()
    device = choose_device(arguments.device)
    wanted = Preprocessing(
        size=arguments.image_size,
        crop_share=1.0,
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    dataset = open_labels(arguments.data, arguments.label_column)
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        pixels = decode_once(
            dataset.store, "speed", stored_square(wanted), cache=Path(cache), limit=10**12
        )
        decoding = len(dataset) / (time.perf_counter() - start)
        assert pixels.values is not None, "the disk is too full for this"
        rows = np.setdiff1d(np.arange(len(dataset)), np.array(list(pixels.unreadable), np.int64))
        print(f"{len(rows)} images, {arguments.model} at {wanted.size} px, batches of ", end="")
        print(f"{arguments.batch_size}, {device.type}, torch {torch.__version__}, ", end="")
        print(f"{torch.get_num_threads()} threads, {os.cpu_count()} cores")
        print(f"{'decoding once, to disk':40} {decoding:8.0f} images/s")
        decoded = DecodedPixels(dataset.store, pixels.preprocessing, workers=arguments.workers)
        sources: dict[str, PixelSource] = {"disk": StoredPixels(pixels.values), "workers": decoded}
        feeds = Feeds(sources, rows, wanted, device, arguments.batch_size)
        compare(arguments, device, wanted, feeds)


def compare(
    arguments: argparse.Namespace, device: torch.device, wanted: Preprocessing, feeds: "Feeds"
) -> None:
    """Print images a second of each way, and what they are of the bare loop."""
    loop = Loop(arguments.model, device)
    in_memory = torch.randn(arguments.batch_size, 3, wanted.size, wanted.size, device=device)
    in_memory = in_memory.contiguous(memory_format=torch.channels_last)
    ways: dict[str, tuple[Callable[[], Feed], Callable[[Tensor], None], int]] = {
        BARE: (lambda: again_and_again(in_memory), loop.step, 1),
        FED: (feeds.views, loop.step, 1),
        AUGMENTED: (feeds.augmented, nothing, 5),
        "batches alone, from disk": (feeds.pixels, nothing, 20),
        "batches and views, from disk": (feeds.views, nothing, 20),
    }

    def speed(feed: Callable[[], Feed], use: Callable[[Tensor], None], factor: int) -> float:
        with closing(feed()) as inputs:  # nothing is loaded while others are timed
            return timed(inputs, use, arguments.steps * factor, loop.wait)

    speeds = time_in_turn(
        {name: partial(speed, *way) for name, way in ways.items()}, arguments.rounds
    )
    for name, values in speeds.items():
        share = median_ratio(values, speeds[BARE])
        print(f"{name:40} {statistics.median(values):8.0f} images/s {share:8.2f} of bare")
    decoding = statistics.median(feeds.decoding() for _ in range(3))
    print(f"{f'an epoch decoded by {arguments.workers} workers':40} {decoding:8.0f} images/s")
    cost = median_ratio(speeds[BARE], speeds[AUGMENTED])
    print(f"{'augmentation, as a share of a bare step':40} {cost:8.2%}")
    share = median_ratio(speeds[FED], speeds[BARE])
    print(f"{'fed loop / bare loop':40} {share:8.3f} {bar(share >= BAR, str(BAR))}")


class Feeds:
    """Endless batches, of several kinds."""

    def __init__(
        self,
        sources: dict[str, PixelSource],
        rows: NDArray[np.int64],
        wanted: Preprocessing,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self._sources, self._rows, self._wanted = sources, rows, wanted
        self._device, self._batch_size = device, batch_size

    def views(self) -> Feed:
        """Yield augmented inputs from disk, on the device."""
        views = ImageViews(self._sources["disk"], self._wanted, Augment(), self._device)
        for epoch in itertools.count(1):
            for _, inputs in views.training(self._rows, self._batch_size, seed=0, epoch=epoch):
                yield inputs

    def pixels(self) -> Feed:
        """Yield pixels from disk, on the CPU."""
        loader = self._loader("disk")
        for epoch in itertools.count(1):
            for batch in loader.training(epoch):
                yield batch.pixels

    def decoding(self) -> float:
        """Return images a second of an epoch that workers decode, their start included."""
        start = time.perf_counter()
        images = sum(len(batch.rows) for batch in self._loader("workers").training(1))
        return images / (time.perf_counter() - start)

    def _loader(self, source: str) -> TrainingImages:
        return TrainingImages(
            self._sources[source],
            self._rows,
            batch_size=self._batch_size,
            seed=0,
            pin=self._device.type == "cuda",
        )

    def augmented(self) -> Feed:
        """Yield augmented inputs of the same pixels again and again."""
        lens, size = BatchTransform(self._wanted, self._device), self._wanted.size
        pixels = torch.randint(0, 256, (self._batch_size, size, size, 3), dtype=torch.uint8)
        pixels = lens.moved(pixels)
        chances = draw_chances(self._batch_size, seed=0, epoch=1)
        while True:
            yield lens.train_inputs(pixels, draw_crops(chances, Augment()))


def again_and_again(inputs: Tensor) -> Feed:
    """Yield the same inputs forever."""
    while True:
        yield inputs


def nothing(inputs: Tensor) -> None:
    """Only take the batch."""


def timed(
    batches: Feed,
    use: Callable[[Tensor], None],
    steps: int,
    wait: Callable[[], None],
) -> float:
    """Return images a second over some steps."""
    use(next(batches))
    wait()
    start, images = time.perf_counter(), 0
    for inputs in itertools.islice(batches, steps):
        use(inputs)
        images += len(inputs)
    wait()
    return images / (time.perf_counter() - start)


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__, data=True)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    return parser.parse_args()


if __name__ == "__main__":
    main()
