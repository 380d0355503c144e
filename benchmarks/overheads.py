"""What labelfix adds to a training step: projection, recorder, self-labeling, checkpoints.

    python benchmarks/overheads.py [--samples 50000] [--classes 10] [--batch-size 64]
        [--image-size 96] [--rounds 15] [--device cuda]

Times a bare step (forward, backward, AdamW) and each addition in turn, round by round, and prints
medians and shares of the step; the bar of the projection is 3 %. What happens once an epoch (a
checkpoint, the first self-labeling step) is spread over the steps of an epoch of so many samples.
The whole state of a network is saved, as in an audit. On a GPU a step runs under bf16 autocast.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import timm
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from harness import bar, new_parser, seconds_of, time_in_turn
from labelfix.config import RegularizationConfig, SelfLabelingConfig
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.recorder import EvidenceRecorder
from labelfix.training.regularization import LayerBalls
from labelfix.training.self_labeling import SelfLabeler

BAR = 0.03
STEP, PROJECTION = "a bare step", "projection onto the balls"
TIGHT = RegularizationConfig(schedule="relative", distance=0.001, head_distance=0.1)
"""So tight that each step leaves the balls, and each projection has work to do."""


def main() -> None:
    arguments = parse()
    device = torch.device(arguments.device)
    print(
        f"{arguments.model} at {arguments.image_size} px, batches of {arguments.batch_size}, "
        f"{arguments.samples} samples, {arguments.classes} classes, {device}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    with tempfile.TemporaryDirectory() as folder:
        calls = parts(arguments, device, Path(folder))
        ways = {name: on_device(call, device) for name, (call, _) in calls.items()}
        seconds = time_in_turn(ways, arguments.rounds, warm_up=2)
    bare = statistics.median(seconds[STEP])
    for name, (_, per_step) in calls.items():
        took = statistics.median(seconds[name])
        share = took * per_step / bare
        told = bar(share < BAR, f"{BAR:.0%}") if name.startswith(PROJECTION) else ""
        print(f"{name:38} {took * 1e3:9.3f} ms  {share:8.2%} of a step {told}")


def parts(
    arguments: argparse.Namespace, device: torch.device, folder: Path
) -> dict[str, tuple[Callable[[], object], float]]:
    """Return what to time, by name, and how often it happens in a step."""
    torch.manual_seed(0)
    classes = arguments.classes
    model: nn.Module = timm.create_model(arguments.model, pretrained=False, num_classes=classes)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    side, size, count = arguments.image_size, arguments.batch_size, arguments.samples
    pixels = torch.randn(size, 3, side, side, device=device)
    given = torch.randint(0, classes, (count,), device=device)
    rows = torch.randperm(count, device=device)[:size]
    logits = torch.randn(size, classes, device=device)
    balls = LayerBalls(model, model.state_dict(), TIGHT)
    row_sums = LayerBalls(model, model.state_dict(), replace(TIGHT, norm="max_row_sum"))
    labeler = SelfLabeler(given, classes, SelfLabelingConfig())
    recorder = EvidenceRecorder(count, classes, keep_probs=False)
    average = ModelEmaV3(model, decay=0.99)
    checkpoints = Checkpoints(folder, "benchmark")
    for part in torch.split(torch.arange(count, device=device), size):  # beliefs in all samples
        labeler.step(part, logits[: len(part)], 1)
    labeler.step(rows, logits, 19)
    epochs = iter(range(20, 1_000_000))

    def save() -> None:
        state = {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "labeler": labeler.state_dict(),
            "recorder": recorder.state_dict(),
        }
        checkpoints.save("network", state)

    return {
        STEP: (lambda: step(model, optimizer, pixels, given[rows]), 1.0),
        PROJECTION: (balls.project, 1.0),
        f"{PROJECTION}, max row sum": (row_sums.project, 1.0),
        "self-labeling": (lambda: labeler.step(rows, logits, 19), 1.0),
        "self-labeling, first step of an epoch": (
            lambda: labeler.step(rows, logits, next(epochs)),
            size / count,
        ),
        "recording evidence": (lambda: recorder.update(rows, logits, given[rows]), 1.0),
        "averaging the weights": (lambda: average.update(model), 1.0),
        "a checkpoint, once an epoch": (save, size / count),
    }


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, pixels: Tensor, labels: Tensor
) -> None:
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
        loss = nn.functional.cross_entropy(model(pixels), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def on_device(call: Callable[[], object], device: torch.device) -> Callable[[], float]:
    """Return what times a call, the device's work included."""

    def finished() -> None:
        call()
        wait(device)

    def measure() -> float:
        wait(device)
        return seconds_of(finished)

    return measure


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
