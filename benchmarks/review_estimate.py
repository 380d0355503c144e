"""Whether the estimate of the review page is honest: simulated reviews against the known truth.

    python benchmarks/review_estimate.py [--reviews 200] [--pred-probs FILE.npz]
        [--run RUN --truth TRUTH.csv] [--out benchmarks/results/review_estimate.jsonl]

A review takes the samples in the order of the page, random checks included, and stops at several
points; the truth answers in place of a reviewer. At each stop the estimate is made, and the row
tells in which share of the reviews its 90 % intervals held the truth, and how wide they were.
Populations:

- ``drawn``: each review draws its number of samples, the spread of the probabilities, and a
  miscalibration (offset, slope and two bumps, in logits) from which the truth is drawn;
- ``--pred-probs``: what labelfix makes of published probabilities (`SET__p`, `SET__given`,
  `SET__true` in an `.npz`); each review draws 2,000 to 20,000 rows;
- ``--run``: the report of a run whose truth is known (a CSV with `sample_id` and `true`); each
  review draws half of its rows.
"""

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness import new_parser
from labelfix.config import FlagConfig
from labelfix.report.io import read_report_table
from labelfix.review.estimate import Count, estimate
from labelfix.review.queue import order_with_checks
from labelfix.scoring.flags import flag
from labelfix.scoring.scores import score_labels
from labelfix.types import Evidence

STOPS = (50, 200, 500, 0.5, 1.0)
"""After how many samples, or which share of the suspects, a review stops."""


@dataclass(frozen=True)
class Population:
    """Probabilities that labels are wrong, ``(N,)``, and whether they are."""

    probability: NDArray[np.float64]
    is_wrong: NDArray[np.bool_]


def drawn(rng: np.random.Generator) -> Population:
    """Draw probabilities, and a truth for which they are miscalibrated."""
    size = int(np.exp(rng.uniform(np.log(800), np.log(20_000))))
    looks_wrong = rng.random(size) < rng.uniform(0.02, 0.3)
    high = rng.normal(rng.uniform(0.5, 3), rng.uniform(1, 2), size)
    low = rng.normal(rng.uniform(-6, -2.5), rng.uniform(1, 2), size)
    x = np.where(looks_wrong, high, low)
    true_logit = rng.normal(0, 0.7) + np.exp(rng.normal(0, 0.25)) * x
    for _ in range(2):
        place, width = rng.uniform(-4, 3), rng.uniform(0.3, 2)
        true_logit += rng.normal() * np.exp(-0.5 * ((x - place) / width) ** 2)
    return Population(_sigmoid(x), rng.random(size) < _sigmoid(true_logit))


def part_of(whole: Population, rng: np.random.Generator, least: int, most: int) -> Population:
    """Draw some rows of a population."""
    size = int(rng.integers(min(least, len(whole.is_wrong)), min(most, len(whole.is_wrong)) + 1))
    rows = rng.choice(len(whole.is_wrong), size, replace=False)
    return Population(whole.probability[rows], whole.is_wrong[rows])


def published(file: Path) -> Iterator[tuple[str, Population]]:
    """Yield what labelfix makes of each set of published probabilities."""
    with np.load(file) as arrays:
        for name in sorted(key.removesuffix("__p") for key in arrays if key.endswith("__p")):
            probs = arrays[f"{name}__p"].astype(np.float32)
            probs /= probs.sum(axis=1, keepdims=True)
            given = arrays[f"{name}__given"].astype(np.int64)
            size = len(given)
            nothing = np.full(size, np.nan, np.float32)
            evidence = Evidence(probs, np.zeros(size, np.int16), nothing, given)
            wrong = score_labels(evidence, given).label_error_probability.astype(np.float64)
            yield name, Population(wrong, given != arrays[f"{name}__true"])


def of_run(run: Path, truth: Path) -> Population:
    """Return what a report says of the samples whose truth a CSV holds."""
    table = read_report_table(run, pred_probs=False).table
    with truth.open(encoding="utf-8", newline="") as file:
        true = {row["sample_id"]: row["true"] for row in csv.DictReader(file)}
    names, given = table["sample_id"].to_pylist(), table["given_label"].to_pylist()
    p = table["label_error_probability"].to_numpy().astype(np.float64)
    is_wrong = np.array([true[n] != str(g) for n, g in zip(names, given, strict=True)], np.bool_)
    return Population(p[np.isfinite(p)], is_wrong[np.isfinite(p)])


def review(
    population: Population, seed: int, stops: Sequence[float] = STOPS
) -> Iterator[tuple[str, dict[str, tuple[Count, int]]]]:
    """Yield the estimates of one review at each stop, with the truth of each figure."""
    p, is_wrong = population.probability, population.is_wrong
    flags = flag(p, FlagConfig())
    order = order_with_checks(p, flags, seed).row
    for stop in stops:
        seen = int(stop * len(order)) if isinstance(stop, float) else stop
        if seen > len(order):
            continue
        said = np.full(len(p), -1, np.int8)
        said[order[:seen]] = is_wrong[order[:seen]]
        found, is_open = estimate(p, flags, said, seed), said < 0
        truths = {
            "right_flags": (found.right_flags, is_wrong & flags),
            "left_flagged": (found.left_flagged, is_wrong & flags & is_open),
            "left_unflagged": (found.left_unflagged, is_wrong & ~flags & is_open),
            "left": (found.left, is_wrong & is_open),
        }
        name = f"{stop:.0%} of the suspects" if isinstance(stop, float) else f"{stop} samples"
        yield name, {key: (count, int(mask.sum())) for key, (count, mask) in truths.items()}


def measure(
    name: str, populations: Iterator[Population], seed: int, stops: Sequence[float] = STOPS
) -> list[dict[str, object]]:
    """Return the rows of some reviews: one for each stop and figure."""
    seen: dict[tuple[str, str], list[tuple[bool, float, float]]] = {}
    for number, population in enumerate(populations):
        for stop, figures in review(population, seed + number, stops):
            for key, (count, truth) in figures.items():
                if stop == "100% of the suspects" and key in {"right_flags", "left_flagged"}:
                    continue  # nothing is left to estimate
                width = (count.high - count.low) / max(truth, 1)
                holds = count.low <= truth <= count.high
                off = abs(count.expected - truth) / max(truth, 1)
                seen.setdefault((stop, key), []).append((holds, width, off))
    return [
        {
            "population": name,
            "stop": stop,
            "figure": key,
            "reviews": len(values),
            "holds_truth": round(float(np.mean([v[0] for v in values])), 4),
            "median_width": round(float(np.median([v[1] for v in values])), 3),
            "median_error": round(float(np.median([v[2] for v in values])), 3),
        }
        for (stop, key), values in seen.items()
    ]


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def _populations(
    arguments: argparse.Namespace,
) -> Iterator[tuple[str, Iterator[Population]]]:
    reviews, seed = arguments.reviews, arguments.seed
    rngs = [np.random.default_rng([seed, number]) for number in range(reviews)]
    yield "drawn", (drawn(rng) for rng in rngs)
    if arguments.pred_probs is not None:
        for name, whole in published(arguments.pred_probs):
            yield name, (part_of(whole, rng, 2_000, 20_000) for rng in rngs)
    if arguments.run is not None:
        whole = of_run(arguments.run, arguments.truth)
        half = len(whole.is_wrong) // 2
        yield arguments.run.name, (part_of(whole, rng, half, half) for rng in rngs)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--reviews", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pred-probs", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for name, populations in _populations(arguments):
        new = measure(name, populations, arguments.seed)
        rows += new
        for row in new:
            print(
                f"{row['population']:45} {row['stop']:22} {row['figure']:15} "
                f"held {row['holds_truth']:.3f} of {row['reviews']:4} "
                f"width {row['median_width']:7.3f} off {row['median_error']:.3f}",
                flush=True,
            )
    share = np.average(
        [float(str(row["holds_truth"])) for row in rows],
        weights=[int(str(row["reviews"])) for row in rows],
    )
    print(f"all: the intervals held the truth in {share:.3f}")
    if arguments.out is not None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
