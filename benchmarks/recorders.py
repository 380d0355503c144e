"""What self-labeling and recording evidence add to a training step.

    python benchmarks/recorders.py [--device cuda] [--samples 50000] [--step-ms 60]

Prints the median microseconds of one call, finished on the device, for batches of 256 and for 10
and 1000 classes; and its share of a training step of the given time. The first step of an epoch
looks at the beliefs in all samples: its share is spread over the steps of the epoch.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from labelfix.config import SelfLabelingConfig
from labelfix.training.recorder import EvidenceRecorder
from labelfix.training.self_labeling import SelfLabeler

BATCH = 256
WARM_UP = 20
SURVEY = "SelfLabeler.step, first of epoch"


def microseconds(call: Callable[[], object], device: torch.device, calls: int) -> float:
    """Return the median time of a call, the device's work included."""
    times = []
    for _ in range(WARM_UP + calls):
        wait(device)
        start = time.perf_counter()
        call()
        wait(device)
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times[WARM_UP:])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--step-ms", type=float, default=60.0, help="time of a training step")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{arguments.samples} samples, batches of {BATCH}, step of {arguments.step_ms} ms")
    for classes in (10, 1000):
        for what, call in calls_for(arguments.samples, classes, device).items():
            took = microseconds(call, device, arguments.calls)
            steps = arguments.samples / BATCH if what == SURVEY else 1
            share = took / (1e3 * arguments.step_ms * steps)
            print(f"{what:34} {classes:5} classes  {took:8.0f} us  {share:7.2%} of a step")


def calls_for(samples: int, classes: int, device: torch.device) -> dict[str, Callable[[], object]]:
    """Return the calls to time, by what they are."""
    given_label = torch.randint(0, classes, (samples,), device=device)
    rows = torch.randperm(samples, device=device)[:BATCH]
    logits = torch.randn(BATCH, classes, device=device)
    safe = SelfLabeler(given_label, classes, SelfLabelingConfig())
    paper = SelfLabeler(given_label, classes, SelfLabelingConfig.paper())
    recorder = EvidenceRecorder(samples, classes)
    slim = EvidenceRecorder(samples, classes, keep_probs=False)
    for part in torch.split(torch.arange(samples, device=device), BATCH):
        safe.step(part, logits[: len(part)], 1)
    epoch = iter(range(2, 1_000_000))
    return {
        "SelfLabeler.step, safe": lambda: safe.step(rows, logits, 20),
        "SelfLabeler.step, paper": lambda: paper.step(rows, logits, 20),
        "EvidenceRecorder.update": lambda: recorder.update(rows, logits, given_label[rows]),
        "the same without keep_probs": lambda: slim.update(rows, logits, given_label[rows]),
        SURVEY: lambda: safe.step(rows, logits, next(epoch) + 20),
    }


if __name__ == "__main__":
    main()
