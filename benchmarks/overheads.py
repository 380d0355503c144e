"""What labelfix adds to a training step: projection, recorder, self-labeling, checkpoints.

    python benchmarks/overheads.py [--samples 50000] [--batch-size 64] [--image-size 96]

Times a bare step (forward, backward, AdamW) and each addition in turn, round by round, and prints
medians and shares of the step. A checkpoint is written once an epoch: its share is spread over the
steps of an epoch of so many samples. The whole state of a network is saved, as in an audit.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from labelfix.config import SelfLabelingConfig
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.recorder import EvidenceRecorder
from labelfix.training.regularization import LayerBalls
from labelfix.training.self_labeling import SelfLabeler
from projection import TIGHT, step, timed

CLASSES = 10
STEP = "a bare step"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(
        f"{arguments.model} at {arguments.image_size} px, batches of {arguments.batch_size}, "
        f"{arguments.samples} samples, {CLASSES} classes, {device}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )
    with tempfile.TemporaryDirectory() as folder:
        calls = parts(arguments, device, Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(arguments.rounds + 2):  # two warm up
            for name, (call, _) in calls.items():
                took = timed(call, device, 1)
                seconds[name] += [took] if number > 1 else []
    bare = statistics.median(seconds[STEP])
    for name, (_, per_step) in calls.items():
        took = statistics.median(seconds[name])
        print(f"{name:34} {took * 1e3:9.3f} ms  {took * per_step / bare:8.2%} of a step")


def parts(
    arguments: argparse.Namespace, device: torch.device, folder: Path
) -> dict[str, tuple[Callable[[], object], float]]:
    """Return what to time, by name, and how often it happens in a step."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(arguments.model, pretrained=False, num_classes=CLASSES)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    side, size, count = arguments.image_size, arguments.batch_size, arguments.samples
    pixels = torch.randn(size, 3, side, side, device=device)
    given = torch.randint(0, CLASSES, (count,), device=device)
    rows = torch.randperm(count, device=device)[:size]
    logits = torch.randn(size, CLASSES, device=device)
    balls = LayerBalls(model, model.state_dict(), TIGHT)
    labeler = SelfLabeler(given, CLASSES, SelfLabelingConfig())
    recorder = EvidenceRecorder(count, CLASSES, keep_probs=False)
    average = ModelEmaV3(model, decay=0.99)
    checkpoints = Checkpoints(folder, "benchmark")
    labeler.step(rows, logits, 19)

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
        "projection onto the balls": (balls.project, 1.0),
        "self-labeling": (lambda: labeler.step(rows, logits, 19), 1.0),
        "recording evidence": (lambda: recorder.update(rows, logits, given[rows]), 1.0),
        "averaging the weights": (lambda: average.update(model), 1.0),
        "a checkpoint, once an epoch": (save, size / count),
    }


if __name__ == "__main__":
    main()
