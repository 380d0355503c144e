"""What recording the evidence of a training costs, as a share of one step of that training.

    python benchmarks/evidence.py [--samples 50000] [--classes 10] [--image-size 96] [--rounds 20]

A step is the forward and backward pass and the update of the embedded network on random images;
recording is `labelfix.integrations.evidence.TrainingWatch.observe`, as the callbacks of all
libraries call it. Prints the fastest of the rounds; the bar is 1 %. Other jobs make times longer.
"""

import argparse
import os
from functools import partial

import numpy as np
import timm
import torch
from torch.nn.functional import cross_entropy

from harness import bar, new_parser, seconds_of, time_in_turn
from labelfix.integrations.evidence import TrainingWatch

MOST = 0.01
"""The bar: the time of recording over that of a step."""


def main() -> None:
    arguments = parse()
    rng = np.random.default_rng(0)
    labels = torch.as_tensor(rng.integers(arguments.classes, size=arguments.samples))
    rows = torch.as_tensor(rng.permutation(arguments.samples)[: arguments.batch_size])
    side = arguments.image_size
    images = torch.as_tensor(rng.random((len(rows), 3, side, side), dtype=np.float32))
    model = timm.create_model("tf_efficientnet_lite0", num_classes=arguments.classes)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watched = TrainingWatch(labels)
    logits = model(images).detach()

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(images), labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    ways = {"step": step, "recording": lambda: watched.observe(rows, logits)}
    walls = time_in_turn(
        {name: partial(seconds_of, way) for name, way in ways.items()}, arguments.rounds
    )
    fastest = {name: min(times) for name, times in walls.items()}
    share = fastest["recording"] / fastest["step"]
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    print(
        f"{arguments.samples:,} samples, {arguments.classes} classes, batches of {len(rows)}: "
        f"a step {fastest['step'] * 1e3:.1f} ms, recording {fastest['recording'] * 1e3:.3f} ms, "
        f"a share of {share:.3%} {bar(share <= MOST, f'{MOST:.0%}')}"
    )


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    main()
