"""What scoring costs, beside cleanlab's, and what the whole command costs.

    python benchmarks/scoring.py [--samples 200000] [--classes 100] [--rounds 5]
        [--command-samples 1000000] [--shapes 1000000x100 100000x1000 20000x10000] [--seed 0]
        [--folder DIR]

Makes probabilities like those of a model that is right about four times of five and confuses each
class with five others, and given labels of which a tenth are wrong, half of those within the
confused classes. On the same arrays, round by round, it times labelfix's scoring and
`cleanlab.filter.find_label_issues`, with one process and with cleanlab's own choice, and prints
medians; the bar is a tenth of cleanlab's time. Then it runs `labelfix audit --pred-probs` on a
larger file in a process of its own; the bars are a minute, and a peak of memory below twice the
file. With ``--shapes`` it only runs the command, once for each N x K, and prints how many times as
long scoring takes as for the first of them; the bar is 1.5. Other jobs on the machine make times
longer: there they are upper bounds.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray

from harness import bar, median_ratio, new_parser, seconds_of, time_in_turn
from labelfix.benchmark.scale import measured_command
from labelfix.scoring.scores import score_labels
from labelfix.types import Evidence

FASTER = 10.0
SECONDS = 60.0
MEMORY = 2.0
LONGER = 1.5
"""The bars: times as fast as cleanlab; wall time of the command; its peak over the file's size; the
time of scoring another shape over that of the first."""

LOOK_ALIKES = 5
CHUNK = 1 << 21
OURS, ALONE, DEFAULT = "labelfix", "cleanlab, n_jobs=1", "cleanlab, default n_jobs"


def make(
    samples: int, classes: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return ``(N, K)`` probabilities, ``(N,)`` given labels and ``(N,)`` true labels."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, samples)
    alike = np.stack([rng.permutation(classes)[:LOOK_ALIKES] for _ in range(classes)])
    probs = np.empty((samples, classes), np.float32)
    chunk = max(1, CHUNK // classes)
    for start in range(0, samples, chunk):
        some = true[start : start + chunk]
        concentration = np.full((len(some), classes), 0.02)
        np.put_along_axis(concentration, alike[some], 0.15, axis=1)
        np.put_along_axis(concentration, some[:, None], 2.5, axis=1)
        draws = rng.standard_gamma(concentration) + 1e-7
        probs[start : start + chunk] = draws / draws.sum(axis=1, keepdims=True)
    given = true.copy()
    wrong = np.flatnonzero(rng.random(samples) < 0.1)
    near = alike[true[wrong], rng.integers(0, LOOK_ALIKES, len(wrong))]
    far = rng.integers(0, classes, len(wrong))
    given[wrong] = np.where(rng.random(len(wrong)) < 0.5, near, far)
    return probs, given, true


def main() -> None:
    arguments = parse()
    print(f"{os.cpu_count()} cores, numpy {np.__version__}, load {os.getloadavg()[0]:.1f}")
    if arguments.shapes:
        times = [audit(samples, classes, arguments) for samples, classes in arguments.shapes]
        for (samples, classes), seconds in zip(arguments.shapes, times, strict=True):
            ratio = seconds / times[0]
            print(
                f"{samples:,} x {classes:,}: scored in {seconds:.1f} s, "
                f"{ratio:.2f} times the first {bar(ratio <= LONGER, str(LONGER))}"
            )
    else:
        compare(arguments)
        audit(arguments.command_samples, arguments.classes, arguments)
    print(f"load {os.getloadavg()[0]:.1f}")


def compare(arguments: argparse.Namespace) -> None:
    """Print the median times of both on the same arrays."""
    probs, given, true = make(arguments.samples, arguments.classes, arguments.seed)
    nothing = np.zeros(len(given))
    evidence = Evidence(
        probs, nothing.astype(np.int16), nothing.astype(np.float32), nothing.astype(np.int64)
    )
    ways: dict[str, Callable[[], NDArray[np.bool_]]] = {
        OURS: lambda: score_labels(evidence, given).label_error_probability > 0.5,
        ALONE: lambda: np.asarray(find_label_issues(given, probs, n_jobs=1)),
        DEFAULT: lambda: np.asarray(find_label_issues(given, probs)),
    }
    print(f"{len(probs):,} samples, {probs.shape[1]} classes, {np.mean(given != true):.1%} wrong")
    walls = time_in_turn(
        {name: partial(seconds_of, way) for name, way in ways.items()}, arguments.rounds
    )
    for name, way in ways.items():
        is_flagged = way()
        found, right = np.mean(is_flagged[given != true]), np.mean((given != true)[is_flagged])
        print(
            f"{name:26} {statistics.median(walls[name]):7.3f} s (fastest {min(walls[name]):.3f}), "
            f"flags {found:.1%} of the wrong labels, {right:.1%} of its flags are wrong labels"
        )
    for name in (ALONE, DEFAULT):
        ratio = median_ratio(walls[name], walls[OURS])
        print(f"{name + ' / labelfix':36} {ratio:5.1f} {bar(ratio >= FASTER, f'{FASTER:.0f}')}")


def audit(samples: int, classes: int, arguments: argparse.Namespace) -> float:
    """Print what the whole command costs, as a process; return the seconds of scoring."""
    probs, given, _ = make(samples, classes, arguments.seed)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        file, run = Path(folder) / "probs.npz", Path(folder) / "run"
        np.savez(file, pred_probs=probs, labels=given)
        size = file.stat().st_size / 2**20
        print(f"{len(probs):,} samples, {probs.shape[1]} classes, {size:.0f} MiB of float32 .npz")
        del probs, given
        words = ["audit", "--pred-probs", str(file), "--out", str(run), "--quiet"]
        cost = measured_command("the audit", words)
        scoring = float(json.loads((run / "run.json").read_text())["seconds"]["scoring"])
    wall, peak = cost["wall_seconds"], cost["peak_gib"] * 2**10
    print(f"{'labelfix audit --pred-probs':36} {wall:5.1f} s {bar(wall < SECONDS, str(SECONDS))}")
    print(f"{'peak memory':36} {peak:5.0f} MiB, {peak / size:.2f} of the file", end=" ")
    print(bar(peak / size < MEMORY, str(MEMORY)))
    return scoring


def shape(text: str) -> tuple[int, int]:
    """Return N and K of ``NxK``."""
    samples, classes = text.split("x")
    return int(samples), int(classes)


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--samples", type=int, default=200_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--command-samples", type=int, default=1_000_000)
    parser.add_argument("--shapes", type=shape, nargs="+", help="N x K, such as 20000x10000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to write the file of the command")
    return parser.parse_args()


if __name__ == "__main__":
    main()
