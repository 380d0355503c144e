"""How far feature extraction is from its floor, the bare forward pass; and what made that faster.

    python benchmarks/features.py DATA [--images 4000] [--rounds 5]

Times in turn, round by round: the bare forward pass of the model that extraction uses, on a batch
in memory; the whole of `compute_features` on DATA (reading, decoding, resizing, forward, writing);
and the plain eager float32 model. Prints medians, and the rank correlation between the similarities
that plain and fast features give.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from harness import median_ratio, new_parser, open_labels, time_in_turn
from labelfix.config import BackboneConfig
from labelfix.modalities.image.backbone import Backbone, embedded_model, load_backbone
from labelfix.modalities.image.features import compute_features, typical_side
from labelfix.types import SampleStore


class FirstImages:
    """The first images of a store."""

    def __init__(self, images: SampleStore, count: int) -> None:
        self._images, self._count = images, min(count, len(images))

    def __len__(self) -> int:
        """Return how many."""
        return self._count

    def read(self, index: int) -> bytes:
        """Return an encoded image."""
        return self._images.read(index)

    def location(self, index: int) -> str:
        """Return where it lies."""
        return self._images.location(index)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--label-column")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image-size", type=int)
    arguments = parser.parse_args()
    dataset = open_labels(arguments.data, arguments.label_column)
    images = FirstImages(dataset.store, arguments.images)
    config = BackboneConfig(image_size=arguments.image_size)
    fast = load_backbone(config, typical_side(images))
    plain = replace(fast, model=embedded_model(), dtype=torch.float32)
    size, batch_size = fast.preprocessing.size, fast.best_batch_size
    print(f"{len(images)} images at {size} px, batches of {batch_size}, {fast.dtype}, ")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    pixels = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8)
    ways: dict[str, Callable[[], float]] = {
        "bare forward pass": lambda: bare(fast, pixels, len(images)),
        "bare, one batch per core": lambda: bare_side_by_side(fast, pixels, len(images)),
        "extraction": lambda: extraction(images, fast, batch_size),
        "plain eager float32 pass": lambda: bare(plain, pixels, min(len(images), 512)),
    }
    speeds = time_in_turn(ways, arguments.rounds)
    for name, values in speeds.items():
        median = statistics.median(values)
        print(f"{name:28} {median:7.1f} images/s ({min(values):.1f} to {max(values):.1f})")
    bare_pass, side_by_side = speeds["bare forward pass"], speeds["bare, one batch per core"]
    share = median_ratio(speeds["extraction"], bare_pass)
    floor = median_ratio(speeds["extraction"], side_by_side)
    gain = median_ratio(bare_pass, speeds["plain eager float32 pass"])
    print(f"extraction / bare pass       {share:.3f}")
    print(f"extraction / bare, one per core {floor:.3f}")
    print(f"bare pass / plain eager      {gain:.2f}")
    print(f"rank correlation of similarities, plain and fast: {agreement(images, plain, fast):.5f}")


def bare_side_by_side(backbone: Backbone, pixels: torch.Tensor, count: int) -> float:
    """Return images per second of the bare pass, one batch on each core instead of one on all."""
    threads = torch.get_num_threads()
    start = time.perf_counter()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        share = count // threads
        list(pool.map(lambda _: bare(backbone, pixels, share), range(threads)))
    torch.set_num_threads(threads)
    return share * threads / (time.perf_counter() - start)


@torch.inference_mode()
def bare(backbone: Backbone, pixels: torch.Tensor, count: int) -> float:
    """Return images a second of the model's own forward pass, nothing else."""
    batch = backbone.normalize(pixels).contiguous(memory_format=torch.channels_last)
    if backbone.dtype is torch.float32:
        batch = batch.contiguous()
    start = time.perf_counter()
    passes = max(1, count // len(pixels))
    for _ in range(passes):
        backbone.model(batch)
    return passes * len(pixels) / (time.perf_counter() - start)


def extraction(images: SampleStore, backbone: Backbone, batch_size: int) -> float:
    """Return images a second from encoded images to features on disk."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        compute_features(images, "speed", backbone, cache=Path(folder), batch_size=batch_size)
        return len(images) / (time.perf_counter() - start)


def agreement(images: SampleStore, plain: Backbone, fast: Backbone) -> float:
    """Return Spearman's rank correlation of all cosine similarities among 512 images."""
    first = FirstImages(images, 512)
    parts = []
    for backbone in (plain, fast):
        with tempfile.TemporaryDirectory() as folder:
            features = compute_features(first, "s", backbone, cache=Path(folder), batch_size=64)
            parts.append(_similarities(np.asarray(features.values, dtype=np.float64)))
    return float(spearmanr(*parts).statistic)


def _similarities(values: NDArray[np.float64]) -> NDArray[np.float64]:
    values = values - values.mean(axis=0)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray((values @ values.T)[np.triu_indices(len(values), k=1)])


if __name__ == "__main__":
    main()
