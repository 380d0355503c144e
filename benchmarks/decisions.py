"""What reviewing some suspects is worth for the labels that nobody looked at.

    python benchmarks/decisions.py DATA [--label-column label] [--kinds symmetric class-dependent]
        [--rates 0.05 0.2 0.4] [--decided 50 100 200] [--seeds 0 1 2] [--cache FOLDER]

Plants wrong labels in data whose labels count as right, audits by heads, lets the truth decide on
the most probably wrong labels, and audits again with those decisions. Prints how well the labels of
the *undecided* rest are scored before and after, and what the decisions do in training alone and in
the scores alone: average precision, F1 of the flags, calibration error, how far the estimated share
of wrong labels is off, and whether the interval of that share (of all samples) holds the true one.
Appends a JSON row each.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import HeadAudit, append_row, detection_figures, new_parser
from labelfix.config import FlagConfig
from labelfix.scoring.flags import correct
from labelfix.scoring.scores import score_labels
from labelfix.types import MISSING, LabelScores, Reviewed

KINDS = ("symmetric", "class-dependent")
FIGURES = ("average_precision", "f1", "calibration_error", "rate_error", "interval_holds")
BEFORE = "no decisions"


def main() -> None:
    arguments = parse()
    clean = HeadAudit.load(
        arguments.data, arguments.label_column, arguments.device, arguments.cache
    )
    table: defaultdict[tuple[str, float, int, str], list[list[float]]] = defaultdict(list)
    for kind in arguments.kinds:
        for rate in arguments.rates:
            for seed in arguments.seeds:
                noisy = clean.planted(kind, rate, seed)
                conditions = {**origin(arguments, clean), "kind": kind, "rate": rate, "seed": seed}
                for count, place, found in measure(noisy, clean.given, arguments.decided):
                    row = {**conditions, "decided": count, "decisions_in": place, **found}
                    append_row(arguments.results, row)
                    table[kind, rate, count, place].append([found[name] for name in FIGURES])
    print(f"| noise | rate | decided | decisions in | {' | '.join(FIGURES)} |")
    print("|---" * (4 + len(FIGURES)) + "|")
    for (kind, rate, count, place), values in table.items():
        means = " | ".join(f"{mean:.4f}" for mean in np.mean(np.abs(values), axis=0))
        print(f"| {kind} | {rate} | {count} | {place} | {means} |")


def origin(arguments: argparse.Namespace, clean: HeadAudit) -> dict[str, Any]:
    """Return which data and which network the rows come from."""
    return {
        "data": arguments.data.name,
        "samples": len(clean.given),
        "classes": len(clean.dataset.class_names),
        "backbone": clean.config.backbone.name,
    }


def measure(
    noisy: HeadAudit, true: NDArray[np.int64], counts: list[int]
) -> Iterator[tuple[int, str, dict[str, float]]]:
    """Yield how many were decided, what learned of it, and how well the rest is scored then."""
    given = noisy.given
    first = noisy.train()
    before = score_labels(first, given)
    suspects = np.argsort(-before.label_error_probability, kind="stable")  # NaN comes last
    for count in counts:
        reviewed = decide(true, suspects[:count])
        second = noisy.train(reviewed)
        scores = {
            BEFORE: before,
            "training": score_labels(second, given),
            "scores": score_labels(first, given, reviewed),
            "both": score_labels(second, given, reviewed),
        }
        for place, found in scores.items():
            yield count, place, figures_of(found, given != true, reviewed)


def decide(true: NDArray[np.int64], rows: NDArray[np.int64]) -> Reviewed:
    """Return what the truth decides about some samples."""
    reviewed = Reviewed.nothing(len(true))
    label = reviewed.label.copy()
    label[rows] = true[rows]
    return replace(reviewed, label=label)


def figures_of(
    scores: LabelScores, is_wrong: NDArray[np.bool_], reviewed: Reviewed
) -> dict[str, float]:
    """Return how well the undecided samples are scored."""
    is_scored = ~np.isnan(scores.label_error_probability)
    rest = is_scored & (reviewed.label == MISSING)
    flags = correct(scores, is_scored, FlagConfig()).is_label_issue
    found = detection_figures(
        replace(scores, label_error_probability=scores.label_error_probability[rest]),
        is_wrong[rest],
        flags[rest],
    )
    low, high = found.pop("rate_low"), found.pop("rate_high")
    found["interval_holds"] = float(low <= is_wrong[is_scored].mean() <= high)
    return {name: round(value, 4) for name, value in found.items()}


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__, data=True, rows="decisions.jsonl")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.05, 0.2, 0.4])
    parser.add_argument("--decided", nargs="+", type=int, default=[50, 100, 200])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cache", type=Path, help="where features are kept")
    return parser.parse_args()


if __name__ == "__main__":
    main()
