"""The table of the paper: test accuracy after training on labels that are partly wrong.

    python benchmarks/paper_rows.py DATA [--rates .2 .4] [--seeds 0 1 2] [--train 1000]
    python benchmarks/paper_rows.py DATA --labeler-epochs 2      # correlated noise
    python benchmarks/paper_rows.py DATA --rates 0 --train 100    # few samples, all of them right

Splits a data set whose labels are right into a training and a test part, plants wrong labels in the
training part, and fine-tunes the same network in four ways: plainly, with layer-wise
regularization, with self-labeling, and with both (``--ways`` also offers the authors' own
self-labeling rules). Independent noise is drawn as in the authors' code; correlated noise is what
the same network predicts after a few epochs on the right labels. ``--backbone`` takes any model of
timm, such as a ResNet or a ViT. The test labels stay right and are read once, after the last epoch:
they choose no epoch and no setting. Appends a JSON row for each network.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from harness import append_row, new_parser, open_labels
from labelfix.benchmark.noise import correlated_noise, independent_noise
from labelfix.config import (
    BackboneConfig,
    FineTuningConfig,
    RegularizationConfig,
    SelfLabelingConfig,
)
from labelfix.modalities.image.backbone import (
    Network,
    fresh_classifier,
    load_network,
)
from labelfix.modalities.image.encoder import MIN_CROP
from labelfix.modalities.image.features import typical_side
from labelfix.modalities.image.pixels import StoredPixels, decode_once, stored_square
from labelfix.modalities.image.transforms import Augment, flip_probability
from labelfix.modalities.image.views import ImageViews
from labelfix.training.finetune import FineTuning, TrainingSetup, predict
from labelfix.training.recorder import EvidenceRecorder
from labelfix.training.regularization import LayerBalls
from labelfix.training.self_labeling import SelfLabeler
from labelfix.types import MISSING
from labelfix.utils.torch_utils import choose_device

NO_LIMIT = RegularizationConfig(form="none")
NO_SELF_LABELS = SelfLabelingConfig(correct_from=None, reweight_from=None)
PLAIN, BOTH = "plain", "both"
WAYS = {
    PLAIN: (NO_LIMIT, NO_SELF_LABELS),
    "regularization only": (RegularizationConfig(), NO_SELF_LABELS),
    "self-labeling only": (NO_LIMIT, SelfLabelingConfig()),
    BOTH: (RegularizationConfig(), SelfLabelingConfig()),
    "both, the authors' rules": (RegularizationConfig(), SelfLabelingConfig.paper()),
}
BY_DEFAULT = list(WAYS)[:4]
CORRELATED = "correlated"


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Pixels in memory and right labels.

    Args:
        pixels: ``(N, S, S, 3)`` uint8.
        label: ``(N,)`` codes.
        class_names: K.
        network: What is fine-tuned.
        flip: The probability of mirroring.
    """

    pixels: NDArray[np.uint8]
    label: NDArray[np.int64]
    class_names: tuple[str | int, ...]
    network: Network
    flip: float


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One split of the data with one draw of wrong labels.

    Args:
        train: Row numbers.
        test: Row numbers.
        given_label: ``(N,)``, ``MISSING`` outside ``train``.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    given_label: NDArray[np.int64]


def main() -> None:
    arguments = parse()
    data = load(arguments)
    config = FineTuningConfig(
        epochs=arguments.epochs, batch_size=arguments.batch_size, half_precision=arguments.half
    )
    print(
        f"{arguments.data.stem}: {arguments.train} images to train on, "
        f"{min(arguments.test, len(data.label) - arguments.train)} to test, "
        f"{len(data.class_names)} classes, "
        f"{arguments.backbone} at {data.network.preprocessing.size} px, {config.epochs} epochs"
    )
    accuracies: dict[tuple[float | str, str], list[float]] = {}
    for rate in [CORRELATED] if arguments.labeler_epochs else arguments.rates:
        for seed in arguments.seeds:
            task = split(data, arguments.train, arguments.test, seed)
            if rate == CORRELATED:
                task = with_correlated_noise(data, task, config, arguments, seed)
            else:
                task = with_independent_noise(data, task, float(rate), seed)
            is_wrong = task.given_label[task.train] != data.label[task.train]
            wrong_share = float(is_wrong.mean())
            for way in arguments.ways:
                start = time.perf_counter()
                trained = train(data, task, way, config, seed, arguments.device)
                figures = figures_of(trained, data, task, config)
                row = {
                    **common(arguments, data, task.train, task.test, wrong_share),
                    "rate": rate,
                    "seed": seed,
                    "way": way,
                    **figures,
                    "seconds": round(time.perf_counter() - start, 1),
                    "fine_tuning": asdict(config),
                }
                append_row(arguments.results, row)
                accuracies.setdefault((rate, way), []).append(figures["accuracy"])
                print(f"rate {rate} seed {seed} {way:20} {figures} {row['seconds']} s", flush=True)
    show(accuracies)


def load(arguments: argparse.Namespace) -> Data:
    """Return all images, decoded once."""
    dataset = open_labels(arguments.data, arguments.label_column)
    backbone = BackboneConfig(name=arguments.backbone, image_size=arguments.image_size)
    network = load_network(backbone, typical_side(dataset.store))
    with tempfile.TemporaryDirectory() as cache:
        seen = decode_once(
            dataset.store,
            dataset.fingerprint,
            stored_square(network.preprocessing),
            cache=Path(cache),
        )
        if seen.values is None or seen.unreadable:
            sys.exit("this table needs images that can all be read and fit on the disk")
        pixels = np.array(seen.values)
    label = dataset.given_label
    return Data(pixels, label, dataset.class_names, network, flip_probability(pixels, label))


def split(data: Data, count: int, tested: int, seed: int) -> Task:
    """Return a split, the same share of each class in both parts, with right labels."""
    train, test = train_test_split(
        np.arange(len(data.label)),
        train_size=count,
        test_size=min(tested, len(data.label) - count),
        stratify=data.label,
        random_state=seed,
    )
    given = np.full(len(data.label), MISSING, dtype=np.int64)
    given[train] = data.label[train]
    return Task(np.sort(train), np.sort(test), given)


def with_independent_noise(data: Data, task: Task, rate: float, seed: int) -> Task:
    """Return the task with labels that are wrong at random."""
    given = task.given_label.copy()
    given[task.train] = independent_noise(
        task.given_label[task.train], rate, len(data.class_names), seed
    )
    return replace(task, given_label=given)


def with_correlated_noise(
    data: Data, task: Task, config: FineTuningConfig, arguments: argparse.Namespace, seed: int
) -> Task:
    """Return the task with the labels that a briefly trained network gives the same images."""
    brief = replace(config, epochs=arguments.labeler_epochs)
    weak = train(data, task, PLAIN, brief, seed + 1000, arguments.device)
    given = task.given_label.copy()
    rows, names = answers(weak.average, weak.views, task.train, config)
    given[rows] = correlated_noise(names)
    return replace(task, given_label=given)


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """One network after its last epoch: its last weights, their average, what labeled it."""

    last: torch.nn.Module
    average: torch.nn.Module
    labeler: SelfLabeler
    views: ImageViews


def train(
    data: Data, task: Task, way: str, config: FineTuningConfig, seed: int, device_name: str
) -> Trained:
    """Fine-tune one network in one way."""
    device = choose_device(device_name)
    regularization, self_labeling = WAYS[way]
    torch.manual_seed(seed)
    classes = len(data.class_names)
    model = fresh_classifier(data.network, classes)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    views = ImageViews(
        StoredPixels(data.pixels),
        data.network.preprocessing,
        Augment(scale=(MIN_CROP, 1.0), flip=data.flip),
        device,
    )
    given = torch.from_numpy(task.given_label).to(device)
    labeler = SelfLabeler(given, classes, self_labeling)
    limit = None
    if regularization.form != "none":
        limit = LayerBalls(model, data.network.model.state_dict(), regularization)
    setup = TrainingSetup(
        given_label=given,
        batches=lambda epoch: views.training(task.train, config.batch_size, seed=seed, epoch=epoch),
        step_sizes=views.step_sizes(task.train, config.batch_size),
        labeler=labeler,
        recorder=EvidenceRecorder(len(given), classes, keep_probs=False),
        limit=limit,
    )
    tuning = FineTuning(model, setup, config, wrapped=model)
    for _ in range(config.epochs):
        tuning.run_epoch(lambda *_: None)
    return Trained(model, tuning.average.module, labeler, views)


def figures_of(
    trained: Trained, data: Data, task: Task, config: FineTuningConfig
) -> dict[str, float]:
    """Return what is known of a network; the only place where test labels are looked at."""
    seen = trained.labeler.statistics(torch.tensor(data.label))
    accuracies = [
        round(float((names == data.label[rows]).mean()), 4)
        for rows, names in (
            answers(model, trained.views, task.test, config)
            for model in (trained.average, trained.last)
        )
    ]
    return {
        "accuracy": accuracies[0],
        "accuracy_of_last_weights": accuracies[1],
        "corrected": seen.corrected,
        "right_labels": seen.right_labels or 0,
    }


def answers(
    model: torch.nn.Module, views: ImageViews, rows: NDArray[np.int64], config: FineTuningConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ``(n,)`` rows, in another order, and the classes that the network names for them."""
    named, names = zip(
        *(
            (part.cpu().numpy(), probs.argmax(dim=1).cpu().numpy())
            for part, probs in predict(model, views.evaluation(rows, 128), config)
        ),
        strict=True,
    )
    return np.concatenate(named), np.concatenate(names)


def common(
    arguments: argparse.Namespace,
    data: Data,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    wrong_share: float,
) -> dict[str, Any]:
    """Return what every row says of its origin."""
    return {
        "data": arguments.data.stem,
        "backbone": arguments.backbone,
        "image_size": data.network.preprocessing.size,
        "train": len(train),
        "test": len(test),
        "wrong_share": round(wrong_share, 4),
        "device": f"{platform.machine()} {arguments.device}, {torch.get_num_threads()} threads of "
        f"{os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("labelfix", "torch", "timm", "numpy")},
    }


def show(accuracies: dict[tuple[float | str, str], list[float]]) -> None:
    """Print mean and spread of each way, and what it gains over plain fine-tuning."""
    for (rate, way), values in accuracies.items():
        plain = accuracies.get((rate, PLAIN), values)
        gains = [value - other for value, other in zip(values, plain, strict=True)]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(
            f"rate {rate} {way:20} {statistics.mean(values):.4f} +- {spread:.4f} "
            f"({statistics.mean(gains):+.4f} over plain, {len(values)} seeds)"
        )


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__, data=True, rows="paper_rows.jsonl")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.2, 0.4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=BY_DEFAULT)
    parser.add_argument("--labeler-epochs", type=int, help="correlated noise, from so many")
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--test", type=int, default=10_000, help="test images at most")
    parser.add_argument("--backbone", default=BackboneConfig().name)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--half", action=argparse.BooleanOptionalAction)
    return parser.parse_args()


if __name__ == "__main__":
    main()
