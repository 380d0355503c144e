"""What heads of many classes cost beside the products of matrices that they cannot do without.

    python benchmarks/many_classes.py [--shapes 6000x1792x1000 20000x1792x1000] [--kind groups]
        [--from-zero] [--scored 20000] [--seed 0] [--folder DIR] [--results FILE]
        [--audit [--memory 4GiB]]

Makes features up, N x D of K classes, writes them to disk as an audit keeps them (float16), and
gives a tenth of them wrong labels: half anything, half of a class that looks alike. ``groups`` has
classes in groups of ten that look alike, and one covariance for all; ``rectified`` is far from
normal, and samples are spread unlike. Cross-fitted heads are then trained in a process of their
own, which reads the features from disk, and printed are

- the time, by stage, and the peak of memory;
- the floor: one Gram matrix of all features, and one product of each sample with the weights of
  each of the five heads that must score it (the four that left out its fold and another, and the
  one that left out its fold), at the speed that two products of such blocks take on this machine;
- the mean logarithm of the out-of-sample probability of the given labels, by which alone settings
  are chosen, and, up to ``--scored`` samples, the average precision for the planted errors.

``--from-zero`` trains heads as for few classes (``trained_classes`` = K), for comparison.

``--audit`` runs the whole `labelfix audit` on the features instead, and prints the time by stage,
the peak of resident and of anonymous memory, and the average precision for the planted errors. At
ImageNet's shape, 1281167x1792x1000, features, scratch files and the report take some 22 GB of disk.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from harness import append_row, new_parser, seconds_of
from labelfix.benchmark.scale import measured_command, seconds_of_parts
from labelfix.config import HeadConfig
from labelfix.scoring.scores import score_labels
from labelfix.training.cross_fit_heads import cross_fit_heads
from labelfix.types import Features, FoldAssignment
from labelfix.utils.progress import Progress

BLOCK = 4096
FOLDS = 5
WRONG = 0.1
ALIKE = 10
"""Classes of a group that look alike."""

HIDDEN = 96
"""Numbers behind the features of ``rectified``."""

HEADS_A_SAMPLE = 5


def main() -> None:
    arguments = parse()
    if arguments.child:
        print(json.dumps(measured(arguments)))
        return
    for shape in arguments.shapes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            write(Path(folder), arguments.kind, shape, arguments.seed)
            row = {"kind": arguments.kind, "shape": "x".join(map(str, shape))}
            if arguments.audit:
                row |= audited(Path(folder), arguments.memory)
                print(json.dumps(row), flush=True)
                append_row(arguments.results, row)
                continue
            words = [sys.executable, __file__, "--child", folder, "--scored", arguments.scored]
            words += ["--seed", arguments.seed, *(["--from-zero"] * arguments.from_zero)]
            told = subprocess.run(
                [str(word) for word in words],
                stdout=subprocess.PIPE,
                encoding="utf-8",
                check=True,
            )
        row |= {"from_zero": arguments.from_zero, **json.loads(told.stdout)}
        print(json.dumps(row), flush=True)
        append_row(arguments.results, row)


def write(folder: Path, kind: str, shape: tuple[int, int, int], seed: int) -> None:
    """Write features, given labels and true labels, a block at a time."""
    samples, width, classes = shape
    rng = np.random.default_rng(seed)
    true = rng.permutation(np.arange(samples) % classes)
    values = np.lib.format.open_memmap(
        folder / "values.npy", mode="w+", dtype=np.float16, shape=(samples, width)
    )
    make = {"groups": grouped, "rectified": rectified}[kind](width, classes, rng)
    for start in range(0, samples, BLOCK):
        values[start : start + BLOCK] = make(true[start : start + BLOCK])
    given = true.copy()
    wrong = np.flatnonzero(rng.random(samples) < WRONG)
    given[wrong] = rng.integers(0, classes, len(wrong))
    near = true[wrong[::2]] // ALIKE * ALIKE + rng.integers(0, ALIKE, len(wrong[::2]))
    given[wrong[::2]] = np.minimum(near, classes - 1)
    np.save(folder / "given.npy", given)
    np.save(folder / "true.npy", true)


Maker = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Makes the features of samples of some classes."""


def centers(width: int, classes: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return ``(K, D)`` centers of classes, of which each ten are near each other."""
    groups = rng.standard_normal((-(-classes // ALIKE), width), np.float32)
    own = rng.standard_normal((classes, width), np.float32)
    return np.asarray(0.5 * groups[np.arange(classes) // ALIKE] + 0.35 * own)


def grouped(width: int, classes: int, rng: np.random.Generator) -> Maker:
    """Return who makes samples of normal classes, whose directions differ in spread."""
    spread = (1 + np.arange(width, dtype=np.float32)) ** -0.5
    spread /= np.sqrt(np.mean(spread**2))
    center = centers(width, classes, rng) * spread**1.5
    turn = np.linalg.qr(rng.standard_normal((width, width), np.float32))[0]

    def make(label: NDArray[np.int64]) -> NDArray[np.float32]:
        noise = rng.standard_normal((len(label), width), np.float32) * spread
        return np.asarray((center[label] + noise) @ turn)

    return make


def rectified(width: int, classes: int, rng: np.random.Generator) -> Maker:
    """Return who makes samples as a last layer does: hidden numbers, mixed and cut off below 0."""
    center = 1.3 * centers(HIDDEN, classes, rng)
    mixing = rng.standard_normal((HIDDEN, width), np.float32) / HIDDEN**0.5

    def make(label: NDArray[np.int64]) -> NDArray[np.float32]:
        spread = np.exp(0.3 * rng.standard_normal((len(label), 1), np.float32)) / 2
        hidden = center[label] + rng.standard_normal((len(label), HIDDEN), np.float32) * spread
        noise = rng.standard_normal((len(label), width), np.float32)
        return np.asarray(np.maximum(hidden @ mixing + 0.3 * noise - 0.3, 0) ** 1.5)

    return make


def audited(folder: Path, memory: str | None) -> dict[str, Any]:
    """Return what an audit of the features of a folder costs, and how good it is."""
    given, true = np.load(folder / "given.npy"), np.load(folder / "true.npy")
    names = pa.array([f"c{code}" for code in range(int(given.max()) + 1)])
    table = pa.table({"label": names.take(pa.array(given))})
    pa_csv.write_csv(table, folder / "labels.csv")
    run = folder / "run"
    words = ["audit", folder / "labels.csv", "--features", folder / "values.npy", "--out", run]
    words += ["--cache", folder / "cache", "--quiet", *(["--memory", memory] if memory else [])]
    cost = measured_command("the audit", [str(word) for word in words])
    report = pq.read_table(run / "report.parquet", columns=["label_error_probability"])
    wrong = report["label_error_probability"].to_numpy()
    is_scored = np.isfinite(wrong)  # a class may be too small
    is_wrong = (given != true)[is_scored]
    told = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return {
        "audit": True,
        "memory": memory,
        **cost,
        "stages": seconds_of_parts(run),
        "average_precision": round(float(average_precision_score(is_wrong, wrong[is_scored])), 4),
        "report_gb": round((run / "report.parquet").stat().st_size / 1e9, 2),
        "threads": told["threads"],
        "load": round(os.getloadavg()[0], 1),
    }


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what training on the features of a folder costs, and how good it is."""
    folder = Path(arguments.child)
    values = np.load(folder / "values.npy", mmap_mode="r")
    given, true = np.load(folder / "given.npy"), np.load(folder / "true.npy")
    samples, width, classes = len(values), values.shape[1], int(given.max()) + 1
    config = HeadConfig(trained_classes=classes) if arguments.from_zero else HeadConfig()
    stages: dict[str, float] = {}
    steps: list[tuple[int, str]] = []
    clock = time.perf_counter()

    def note(progress: Progress) -> None:
        stages[progress.stage] = time.perf_counter() - clock
        if progress.note and progress.unit == "steps":
            steps.append((progress.done, progress.note))

    evidence = cross_fit_heads(
        Features(values, np.zeros(samples, "S16"), {}),
        given,
        FoldAssignment(np.ones(samples, np.bool_), folds_of(given, arguments.seed), {}),
        classes=classes,
        config=config,
        seed=arguments.seed,
        device=torch.device("cpu"),
        on_progress=note,
    )
    seconds = time.perf_counter() - clock
    row: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "processor_seconds": round(time.process_time(), 1),
        "until": {name: round(took, 1) for name, took in stages.items()},
        "steps": steps,
        "floor": round(floor(samples, width, classes), 3),
        "log_likelihood_given": round(log_likelihood(evidence.pred_probs, given), 4),
        "log_likelihood_true": round(log_likelihood(evidence.pred_probs, true), 4),
        "accuracy": round(float(np.mean(evidence.pred_probs.argmax(axis=1) == true)), 4),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
    }
    if samples <= arguments.scored:
        start = time.perf_counter()
        found = score_labels(evidence, given).label_error_probability
        row["scoring_seconds"] = round(time.perf_counter() - start, 1)
        row["average_precision"] = round(float(average_precision_score(given != true, found)), 4)
    return row


def folds_of(given: NDArray[np.int64], seed: int) -> NDArray[np.int16]:
    """Return ``(N,)`` folds of equal class shares."""
    order = np.random.default_rng(seed).permutation(len(given))
    fold = np.empty(len(given), np.int16)
    fold[order[np.argsort(given[order], kind="stable")]] = np.arange(len(given)) % FOLDS
    return fold


def log_likelihood(probs: NDArray[np.float32], label: NDArray[np.int64]) -> float:
    """Return the mean logarithm of the probability of each label."""
    own = probs[np.arange(len(label)), label].astype(np.float64)
    return float(np.log(np.maximum(own, 1e-12)).mean())


def floor(samples: int, width: int, classes: int) -> float:
    """Return the seconds of the products that no way of training heads in folds does without."""
    values, weight = torch.randn(BLOCK, width), torch.randn(classes, width)
    gram = min(seconds_of(lambda: values.T @ values) for _ in range(3))
    product = min(seconds_of(lambda: values @ weight.T) for _ in range(3))
    return samples / BLOCK * (gram + HEADS_A_SAMPLE * product)


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__, rows="many_classes.jsonl")
    parser.add_argument("--shapes", type=shape, nargs="+", default=[(6000, 1792, 1000)])
    parser.add_argument("--kind", choices=["groups", "rectified"], default="groups")
    parser.add_argument("--from-zero", action="store_true")
    parser.add_argument("--scored", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--audit", action="store_true")
    parser.add_argument("--memory", help="how much of it the audit may take")
    parser.add_argument("--folder", help="where the features are written for a while")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def shape(text: str) -> tuple[int, int, int]:
    """Return the numbers of ``NxDxK``."""
    samples, width, classes = map(int, text.split("x"))
    return samples, width, classes


if __name__ == "__main__":
    main()
