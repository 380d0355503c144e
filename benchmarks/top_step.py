"""How far training of the upper stages is from the bare passes of the network.

    python benchmarks/top_step.py [--backbone tf_efficientnet_lite0] [--image-size 128]
        [--samples 1280] [--rounds 5]

Cuts the network where ``--tune top`` does, fills its activations with random numbers, and times in
turn, on one thread as each network has it on a CPU: forward and backward passes alone over the
batches of an epoch, and an epoch as an audit trains it, with reading from disk, optimizer, balls,
self-labeling, recorder and averaged weights. Prints milliseconds a sample and the ratio; the bar is
1.15. Prints what a step of the whole network takes, too.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from harness import bar, median_ratio, new_parser, seconds_of, time_in_turn
from labelfix.config import (
    BackboneConfig,
    SelfLabelingConfig,
    TopConfig,
    TopRegularizationConfig,
)
from labelfix.modalities.activations import ActivationViews
from labelfix.modalities.image.backbone import fresh_classifier, load_network
from labelfix.training.cut import choose_cut, possible_cuts, upper_network
from labelfix.training.finetune import FineTuning, TrainingSetup
from labelfix.training.layers import group_layers
from labelfix.training.recorder import EvidenceRecorder
from labelfix.training.regularization import LayerBalls
from labelfix.training.self_labeling import SelfLabeler

CLASSES = 10
BAR = 1.15
BARE, EPOCH, WHOLE = "bare passes", "an epoch of training", "bare passes of the whole network"


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    network = load_network(
        BackboneConfig(name=arguments.backbone, image_size=arguments.image_size), 640
    )
    model = fresh_classifier(network, CLASSES)
    layers = group_layers(model)
    config = TopConfig()
    cut = choose_cut(
        possible_cuts(model, torch.rand(1, 3, arguments.image_size, arguments.image_size)),
        arguments.samples,
        largest_share=config.largest_step,
        budget=config.cache_bytes,
    )
    upper = upper_network(model, layers, cut).to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as folder:
        values = random_activations(Path(folder), arguments.samples, cut.shape)
        views = ActivationViews(
            values, training_views=(0, 1), evaluation_views=(0,), device=torch.device("cpu")
        )
        rows = np.arange(arguments.samples)
        batches = [inputs for _, inputs in views.training(rows, config.batch_size, seed=0, epoch=1)]
        label = torch.randint(0, CLASSES, (arguments.samples,))
        tuning = FineTuning(
            upper,
            TrainingSetup(
                given_label=label,
                batches=lambda epoch: views.training(rows, config.batch_size, seed=0, epoch=epoch),
                step_sizes=views.step_sizes(rows, config.batch_size),
                labeler=SelfLabeler(label, CLASSES, SelfLabelingConfig()),
                recorder=EvidenceRecorder(arguments.samples, CLASSES, keep_probs=False),
                limit=LayerBalls(
                    upper, network.model.state_dict(), TopRegularizationConfig(), layers=layers
                ),
            ),
            config,
            wrapped=upper,
        )
        size = network.preprocessing.size
        pixels = [torch.rand(len(batch), 3, size, size) for batch in batches[:4]]
        whole = model.to(memory_format=torch.channels_last)
        seconds = time_in_turn(
            {
                BARE: lambda: seconds_of(lambda: passes(upper, batches)),
                EPOCH: lambda: seconds_of(lambda: tuning.run_epoch(lambda *_: None)),
                WHOLE: lambda: seconds_of(lambda: passes(whole, pixels)),
            },
            arguments.rounds,
        )
    samples = {WHOLE: sum(map(len, pixels))}
    print(f"{arguments.backbone} at {size} px, cut before {cut.module}")
    for name, values_of in seconds.items():
        each = statistics.median(values_of) / samples.get(name, arguments.samples)
        print(f"{name:34} {each * 1e3:8.2f} ms a sample")
    ratio = median_ratio(seconds[EPOCH], seconds[BARE])
    print(f"{ratio:.3f} times the bare passes {bar(ratio <= BAR, f'{BAR:g}')}")


def random_activations(
    folder: Path, samples: int, shape: tuple[int, ...]
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    """Return ``(N, 2, ...)`` bits of random bfloat16 numbers, mapped from disk."""
    numbers = torch.rand(samples, 2, *shape).to(torch.bfloat16)
    np.save(folder / "values.npy", numbers.view(torch.int16).numpy().view(np.uint16))
    mapped: np.ndarray[tuple[int, ...], np.dtype[np.uint16]] = np.load(
        folder / "values.npy", mmap_mode="r"
    )
    return mapped


def passes(model: nn.Module, batches: list[Tensor]) -> None:
    """Run every batch forward and backward."""
    model.eval()
    for inputs in batches:
        model.zero_grad(set_to_none=True)
        labels = torch.zeros(len(inputs), dtype=torch.int64)
        nn.functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--backbone", default=BackboneConfig().name)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
