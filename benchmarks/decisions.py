"""What reviewing some suspects is worth for the labels that nobody looked at.

    python benchmarks/decisions.py DATA [--label-column label] [--kinds symmetric class-dependent]
        [--rates 0.05 0.2 0.4] [--decided 50 100 200] [--seeds 0 1 2] [--cache FOLDER]

Plants wrong labels in data that are taken as clean, audits by heads, lets the truth decide on the
most probably wrong labels, and audits again with those decisions. Prints how good the actions on
the *undecided* rest are before and after, and what the decisions do in training alone and in the
scores alone: average precision, F1 of the flags, calibration error, how far the estimated share of
wrong labels is off, and whether the interval of that share (of all samples) holds the true one.
Appends a JSON row each.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score

from labelfix.benchmark.cost import source_commit
from labelfix.benchmark.metrics import calibration_error, reliability
from labelfix.benchmark.noise import class_dependent_noise, symmetric_noise
from labelfix.config import AuditConfig, BackboneConfig, DatasetConfig, FlagConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.duplicates import find_duplicates
from labelfix.data.trusted_labels import plan_with
from labelfix.recipes import HeadTuning
from labelfix.scoring.flags import correct
from labelfix.scoring.scores import score_labels
from labelfix.training.folds import plan_folds
from labelfix.types import MISSING, Evidence, Features, LabeledDataset, LabelScores, Reviewed
from labelfix.utils.cache import default_cache
from labelfix.utils.progress import no_progress

RESULTS = Path(__file__).parent / "results" / "decisions.jsonl"
KINDS = {"symmetric": symmetric_noise, "class-dependent": class_dependent_noise}
FIGURES = ("average_precision", "f1", "calibration_error", "rate_error", "interval_holds")
BEFORE = "no decisions"


@dataclass(frozen=True, slots=True, eq=False)
class Spoiled:
    """A data set with planted errors, and what there is to audit it with."""

    dataset: LabeledDataset
    true_label: NDArray[np.int64]
    tuning: HeadTuning
    seen: Features

    @property
    def is_wrong(self) -> NDArray[np.bool_]:
        """Return which labels are planted errors."""
        return np.asarray(self.dataset.given_label != self.true_label)

    def train(self, reviewed: Reviewed | None) -> Evidence:
        """Return what heads say that are trained with some decisions."""
        given = self.dataset.given_label
        duplicates = find_duplicates(self.seen, given)
        plan = plan_folds(
            self.dataset,
            self.seen,
            duplicates,
            folds=self.tuning.folds,
            seed=self.tuning.config.seed,
        )
        plan = plan_with(reviewed, plan, given)
        return self.tuning.train(self.dataset, self.seen, plan, reviewed, no_progress)

    def decided(self, rows: NDArray[np.int64]) -> Reviewed:
        """Return what the truth decides about some samples."""
        reviewed = Reviewed.nothing(len(self.dataset))
        label = reviewed.label.copy()
        label[rows] = self.true_label[rows]
        return replace(reviewed, label=label)


def main() -> None:
    arguments = parse()
    table: defaultdict[tuple[str, float, int, str], list[list[float]]] = defaultdict(list)
    for conditions, spoiled in problems(arguments):
        for count, way, figures in ways(spoiled, arguments.decided):
            row = {**conditions, "decided": count, "decisions_in": way, **figures}
            arguments.results.parent.mkdir(exist_ok=True)
            with arguments.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            key = (conditions["kind"], conditions["rate"], count, way)
            table[key].append([figures[name] for name in FIGURES])
    print(f"| noise | rate | decided | decisions in | {' | '.join(FIGURES)} |")
    print("|---" * (4 + len(FIGURES)) + "|")
    for (kind, rate, count, way), values in table.items():
        means = " | ".join(f"{mean:.4f}" for mean in np.mean(np.abs(values), axis=0))
        print(f"| {kind} | {rate} | {count} | {way} | {means} |")


def problems(arguments: argparse.Namespace) -> Iterator[tuple[dict[str, Any], Spoiled]]:
    """Yield each planting of errors, with what it was."""
    clean = open_dataset(arguments.data, DatasetConfig(label_column=arguments.label_column))
    config = AuditConfig(tune="head", backbone=BackboneConfig(device=arguments.device))
    tuning = HeadTuning.load(clean, config)
    seen = tuning.look(clean, arguments.cache or default_cache(), no_progress)
    true, commit = clean.given_label, source_commit()
    for kind in arguments.kinds:
        for rate in arguments.rates:
            for seed in arguments.seeds:
                given = KINDS[kind](true, rate, len(clean.class_names), seed)
                conditions = {
                    "data": arguments.data.name,
                    "samples": len(true),
                    "classes": len(clean.class_names),
                    "kind": kind,
                    "rate": rate,
                    "seed": seed,
                    "backbone": config.backbone.name,
                    "commit": commit,
                }
                yield conditions, Spoiled(replace(clean, given_label=given), true, tuning, seen)


def ways(spoiled: Spoiled, counts: list[int]) -> Iterator[tuple[int, str, dict[str, float]]]:
    """Yield how many were decided, what learned of it, and how good the rest is judged then."""
    given = spoiled.dataset.given_label
    first = spoiled.train(None)
    before = score_labels(first, given)
    suspects = np.argsort(-before.label_error_probability, kind="stable")  # NaN comes last
    for count in counts:
        reviewed = spoiled.decided(suspects[:count])
        second = spoiled.train(reviewed)
        scores = {
            BEFORE: before,
            "training": score_labels(second, given),
            "scores": score_labels(first, given, reviewed),
            "both": score_labels(second, given, reviewed),
        }
        for way, found in scores.items():
            yield count, way, figures_of(spoiled, found, reviewed)


def figures_of(spoiled: Spoiled, scores: LabelScores, reviewed: Reviewed) -> dict[str, float]:
    """Return how good the actions on the undecided samples are."""
    wrong, is_wrong = scores.label_error_probability, spoiled.is_wrong
    is_judged = ~np.isnan(wrong)
    rest = is_judged & (reviewed.label == MISSING)
    flags = correct(scores, is_judged, FlagConfig()).is_label_issue
    low, high = scores.noise_rate_interval
    figures = {
        "average_precision": average_precision_score(is_wrong[rest], wrong[rest]),
        "f1": f1_score(is_wrong[rest], flags[rest]),
        "calibration_error": calibration_error(
            reliability(wrong[rest].astype(np.float64), is_wrong[rest])
        ),
        "rate_error": wrong[rest].mean(dtype=np.float64) - is_wrong[rest].mean(),
        "interval_holds": float(low <= is_wrong[is_judged].mean() <= high),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--label-column")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.05, 0.2, 0.4])
    parser.add_argument("--decided", nargs="+", type=int, default=[50, 100, 200])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", type=Path, help="where features are kept")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
