"""What each part of the default earns: heads on frozen features, with one part at a time left out.

    python benchmarks/ablation.py DATA --truth COLUMN --given COLUMN [COLUMN ...] [--cache FOLDER]
    python benchmarks/ablation.py DATA --truth COLUMN --plant KIND:RATE [KIND:RATE ...]

Audits DATA by heads once for each column of given labels, or with mistakes that are planted into
the true ones, and once more without neighbors, without heads and without self-labeling. Then
scores the same evidence with all parts, and without each of them, and prints average precision, F1
of the flags, calibration error, how far the estimated share of wrong labels is off, and between
which shares it is said to lie, all against the true labels, which nothing else reads. Appends a
JSON row each.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelfix.benchmark.cost import source_commit
from labelfix.benchmark.metrics import calibration_error, reliability
from labelfix.benchmark.noise import (
    class_dependent_noise,
    instance_dependent_noise,
    symmetric_noise,
)
from labelfix.config import (
    AuditConfig,
    BackboneConfig,
    DatasetConfig,
    FlagConfig,
    HeadConfig,
    ScoringConfig,
)
from labelfix.data.dataset import open_dataset
from labelfix.data.duplicates import find_duplicates
from labelfix.recipes import HeadTuning
from labelfix.scoring.flags import flag
from labelfix.scoring.scores import score_labels, score_with_margins
from labelfix.training.folds import plan_folds
from labelfix.types import Evidence, Features, LabeledDataset, LabelScores
from labelfix.utils.cache import default_cache
from labelfix.utils.progress import no_progress

MISTAKEN_BY = 32
"""Principal components that the model knows whose mistakes are planted."""

RESULTS = Path(__file__).parent / "results" / "ablation.jsonl"
Score = Callable[[Evidence, NDArray[np.int64], ScoringConfig], LabelScores]


def scored(evidence: Evidence, given: NDArray[np.int64], config: ScoringConfig) -> LabelScores:
    """Return the scores as an audit has them."""
    return score_with_margins(evidence, given, config=config)


def by_mean_hypothesis(
    evidence: Evidence, given: NDArray[np.int64], config: ScoringConfig
) -> LabelScores:
    """Return the scores of the default, as if there were one hypothesis."""
    scores = scored(evidence, given, config)
    return replace(scores, under_hypotheses=scores.label_error_probability[None])


def by_self_confidence(
    evidence: Evidence, given: NDArray[np.int64], config: ScoringConfig
) -> LabelScores:
    """Return 1 - the probability that the heads give the label."""
    wrong = 1 - evidence.pred_probs[np.arange(len(given)), given]
    scores = score_labels(evidence, given, config=config)
    return replace(scores, label_error_probability=wrong, under_hypotheses=wrong[None])


@dataclass(frozen=True, slots=True)
class Part:
    """One way to score: the settings that leave a part out, and what scores by them."""

    name: str
    config: ScoringConfig = ScoringConfig()
    score: Score = scored


PARTS = (
    Part("all parts"),
    Part("flags by the mean hypothesis", score=by_mean_hypothesis),
    Part("without margins", ScoringConfig(margin_weight=0)),
    Part("without taking class noise out", ScoringConfig(remove_class_noise=False)),
    Part("without sharper hypotheses", ScoringConfig(hypotheses=1)),
    Part("1 - self_confidence alone", score=by_self_confidence),
)

TRAININGS = {
    "without neighbors": HeadConfig(neighbor_share=0),
    "neighbors without heads": HeadConfig(neighbor_share=1),
    "without self-labeling": HeadConfig(self_label_threshold=1, self_label_temperature=np.inf),
}
"""The settings that leave a part out of training."""


def main() -> None:
    arguments = parse()
    print("| given labels | wrong | | AP | F1 | calibration error | noise off by | interval |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows(arguments):
        arguments.results.parent.mkdir(exist_ok=True)
        with arguments.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        figures = " | ".join(
            f"{row[name]:.4f}"
            for name in ("average_precision", "f1", "calibration_error", "rate_error")
        )
        figures += f" | {row['rate_low']:.3f} to {row['rate_high']:.3f}"
        print(f"| {row['given']} | {row['wrong']:.3f} | {row['part']} | {figures} |", flush=True)


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the figures of each part, for each column of given labels."""
    config = AuditConfig(tune="head", backbone=BackboneConfig(device=arguments.device))
    truth = labels(arguments.data, arguments.truth)
    true = truth.given_label
    tuning = HeadTuning.load(truth, config)
    seen = tuning.look(truth, arguments.cache or default_cache(), no_progress)
    for name, dataset in audited(arguments, truth, seen, config.seed):
        given, wrong = dataset.given_label, dataset.given_label != true
        common = {
            "data": arguments.data.name,
            "samples": len(true),
            "given": name,
            "wrong": float(wrong.mean()),
            "backbone": config.backbone.name,
            "seed": config.seed,
            "commit": source_commit(),
        }
        evidence = trained(tuning, dataset, seen)
        for part in PARTS:
            scores = part.score(evidence, given, part.config)
            yield {**common, "part": part.name, **figures(scores, wrong)}
        for part_name, heads in TRAININGS.items():
            other = replace(tuning, config=replace(config, heads=heads))
            scores = score_with_margins(trained(other, dataset, seen), given)
            yield {**common, "part": part_name, **figures(scores, wrong)}


def audited(
    arguments: argparse.Namespace, truth: LabeledDataset, seen: Features, seed: int
) -> Iterator[tuple[str, LabeledDataset]]:
    """Yield each data set and what its labels are called."""
    for column in arguments.given:
        dataset = labels(arguments.data, column)
        if dataset.class_names != truth.class_names:
            raise SystemExit(f"{column} and {arguments.truth} do not have the same classes")
        yield column, dataset
    for kind, rate in map(kind_and_rate, arguments.plant):
        given = planted(kind, rate, truth, seen, seed)
        yield f"{kind} {rate:g}", replace(truth, given_label=given)


def kind_and_rate(text: str) -> tuple[str, float]:
    """Return what ``KIND:RATE`` says."""
    kind, _, rate = text.partition(":")
    return kind, float(rate)


def planted(
    kind: str, rate: float, truth: LabeledDataset, seen: Features, seed: int
) -> NDArray[np.int64]:
    """Return labels of which some are wrong."""
    true, classes = truth.given_label, len(truth.class_names)
    if kind == "symmetric":
        return symmetric_noise(true, rate, classes, seed)
    if kind == "class-dependent":
        return class_dependent_noise(true, rate, classes, seed)
    if kind == "instance-dependent":
        model = make_pipeline(StandardScaler(), PCA(MISTAKEN_BY, random_state=seed), GaussianNB())
        probs = cross_val_predict(
            model, seen.values.astype(np.float32), true, method="predict_proba"
        )
        return instance_dependent_noise(true, probs, rate, seed)
    raise SystemExit(f"{kind} is no kind of noise that can be planted here")


def labels(data: Path, column: str) -> LabeledDataset:
    """Return the data set with one column as its labels."""
    return open_dataset(data, DatasetConfig(label_column=column))


def trained(tuning: HeadTuning, dataset: LabeledDataset, seen: Features) -> Evidence:
    """Return what the heads say."""
    duplicates = find_duplicates(seen, dataset.given_label)
    plan = plan_folds(dataset, seen, duplicates, folds=tuning.folds, seed=tuning.config.seed)
    return tuning.train(dataset, seen, plan, None, no_progress)


def figures(scores: LabelScores, wrong: NDArray[np.bool_]) -> dict[str, float]:
    """Return how good some scores are, over the samples that were judged."""
    is_judged = ~np.isnan(scores.label_error_probability)
    found, wrong = scores.label_error_probability[is_judged], wrong[is_judged]
    low, high = scores.noise_rate_interval
    return {
        "average_precision": float(average_precision_score(wrong, found)),
        "f1": float(
            f1_score(wrong, flag(found, FlagConfig(), scores.under_hypotheses[:, is_judged]))
        ),
        "calibration_error": calibration_error(reliability(found.astype(np.float64), wrong)),
        "rate_error": float(found.mean(dtype=np.float64) - wrong.mean()),
        "rate_low": low,
        "rate_high": high,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--given", nargs="+", default=[], metavar="COLUMN")
    parser.add_argument("--plant", nargs="+", default=[], metavar="KIND:RATE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
