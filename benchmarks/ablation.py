"""What each part of the default contributes: heads on frozen features, less one part at a time.

    python benchmarks/ablation.py DATA --truth COLUMN --given COLUMN [COLUMN ...] [--cache FOLDER]
    python benchmarks/ablation.py DATA --truth COLUMN --plant KIND:RATE [KIND:RATE ...]

Audits DATA by heads once for each column of given labels, or with errors planted into the true
labels, and again without neighbors, without heads and without self-labeling. Then scores the same
evidence with all parts, and without each of them. Prints average precision, F1 of the flags,
calibration error, the error of the estimated share of wrong labels, and its interval, all against
the true labels, which nothing else reads. Appends a JSON row each.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import HeadAudit, append_row, detection_figures, kind_and_rate, new_parser, open_labels
from labelfix.config import FlagConfig, HeadConfig, ScoringConfig
from labelfix.scoring.flags import flag
from labelfix.scoring.scores import score_labels, score_with_margins
from labelfix.types import Evidence, LabelScores

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
        append_row(arguments.results, row)
        figures = " | ".join(
            f"{row[name]:.4f}"
            for name in ("average_precision", "f1", "calibration_error", "rate_error")
        )
        figures += f" | {row['rate_low']:.3f} to {row['rate_high']:.3f}"
        print(f"| {row['given']} | {row['wrong']:.3f} | {row['part']} | {figures} |", flush=True)


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the figures of each part, for each column of given labels."""
    truth = HeadAudit.load(arguments.data, arguments.truth, arguments.device, arguments.cache)
    config = truth.config
    for name, audit in audited(arguments, truth):
        given, is_wrong = audit.given, audit.given != truth.given
        common = {
            "data": arguments.data.name,
            "samples": len(given),
            "given": name,
            "wrong": float(is_wrong.mean()),
            "backbone": config.backbone.name,
            "seed": config.seed,
        }
        evidence = audit.train()
        for part in PARTS:
            scores = part.score(evidence, given, part.config)
            yield {**common, "part": part.name, **figures_of(scores, is_wrong)}
        for part_name, heads in TRAININGS.items():
            evidence = audit.with_heads(heads).train()
            scores = score_with_margins(evidence, given)
            yield {**common, "part": part_name, **figures_of(scores, is_wrong)}


def audited(arguments: argparse.Namespace, truth: HeadAudit) -> Iterator[tuple[str, HeadAudit]]:
    """Yield the data with each kind of given labels, and the name of those labels."""
    for column in arguments.given:
        dataset = open_labels(arguments.data, column)
        if dataset.class_names != truth.dataset.class_names:
            raise SystemExit(f"{column} and {arguments.truth} do not have the same classes")
        yield column, truth.with_labels(dataset.given_label)
    for kind, rate in arguments.plant:
        yield f"{kind} {rate:g}", truth.planted(kind, rate, truth.config.seed)


def figures_of(scores: LabelScores, is_wrong: NDArray[np.bool_]) -> dict[str, float]:
    """Return how well the wrong labels among the scored samples are found."""
    is_scored = ~np.isnan(scores.label_error_probability)
    found = scores.label_error_probability[is_scored]
    flags = flag(found, FlagConfig(), scores.under_hypotheses[:, is_scored])
    scored = replace(scores, label_error_probability=found)
    return detection_figures(scored, is_wrong[is_scored], flags)


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__, rows="ablation.jsonl")
    parser.add_argument("data", type=Path)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--given", nargs="+", default=[], metavar="COLUMN")
    parser.add_argument("--plant", nargs="+", default=[], type=kind_and_rate, metavar="KIND:RATE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
