"""What layer-wise projection adds to a training step.

    python benchmarks/projection.py [--model tf_efficientnet_lite0] [--batch-size 32] [--rounds 15]

Times steps (forward, backward, AdamW) and projections in turn, round by round, on each device that
is there, and prints medians and the share. On a GPU a step runs under bf16 autocast, and twenty
of a kind are timed between two synchronisations.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import timm
import torch
from torch import Tensor, nn

from labelfix.config import RegularizationConfig
from labelfix.training.regularization import LayerBalls

BAR = 0.03
TIGHT = RegularizationConfig(schedule="relative", distance=0.001, head_distance=0.1)
"""So tight that each step leaves the balls, and each projection has work to do."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    for device in devices:
        for config in (TIGHT, replace(TIGHT, norm="max_row_sum")):
            measure(arguments, torch.device(device), config)


def measure(
    arguments: argparse.Namespace, device: torch.device, config: RegularizationConfig
) -> None:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(arguments.model, pretrained=False, num_classes=102)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    balls = LayerBalls(model, model.state_dict(), config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    side = arguments.image_size
    pixels = torch.randn(arguments.batch_size, 3, side, side, device=device)
    labels = torch.randint(0, 102, (arguments.batch_size,), device=device)
    steps, projections = [], []
    repeats = 20 if device.type == "cuda" else 1
    for _ in range(arguments.rounds + 2):
        steps.append(timed(lambda: step(model, optimizer, pixels, labels), device, repeats))
        projections.append(timed(balls.project, device, repeats))
    one_step, one_projection = statistics.median(steps[2:]), statistics.median(projections[2:])
    share = one_projection / one_step
    print(
        f"{arguments.model}, {device}, {config.norm}: step {one_step * 1e3:.2f} ms, "
        f"projection {one_projection * 1e3:.2f} ms, {share:.2%} of a step "
        f"({'below' if share < BAR else 'ABOVE'} {BAR:.0%})"
    )


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, pixels: Tensor, labels: Tensor
) -> None:
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
        loss = nn.functional.cross_entropy(model(pixels), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return seconds for one call of ``work``."""
    wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    wait(device)
    return (time.perf_counter() - start) / repeats


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
