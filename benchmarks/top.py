"""What each part of training the upper stages contributes, and what its settings are worth.

    python benchmarks/top.py DATA --truth COLUMN --given COLUMN [COLUMN ...]
    python benchmarks/top.py DATA --truth COLUMN --plant KIND:RATE [KIND:RATE ...]
        [--ways plain "regularization only" "self-labeling only" both head] [--seeds 0 1 2]
        [--set top.epochs=3 top.views=2 ...] [--image-size 128] [--device cuda]

Trains the upper stages of a network (``--tune top``) once for each column of given labels, or with
errors planted into the true labels, in the four ways of Li & Zhang (NeurIPS 2021), and heads beside
them. Prints average precision, F1 of the flags, accuracy of the predictions, the likelihood of
held-out given labels, and seconds of training, all but the last two against the true labels, which
nothing else reads. Appends a JSON row each.
"""

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import HeadAudit, append_row, detection_figures, kind_and_rate, new_parser, open_labels
from labelfix.benchmark.cost import device_name, gpu_name, library_versions
from labelfix.config import AuditConfig, BackboneConfig, FlagConfig, SelfLabelingConfig
from labelfix.config.file import config_of
from labelfix.data.duplicates import find_duplicates
from labelfix.modalities.base import get_modality
from labelfix.recipes import FullTuning
from labelfix.scoring.flags import flag
from labelfix.scoring.scores import score_with_margins
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.distributed import World
from labelfix.training.folds import plan_folds
from labelfix.types import Evidence, LabeledDataset
from labelfix.utils.cache import default_cache
from labelfix.utils.progress import no_progress

WAYS = {
    "plain": (False, False),
    "regularization only": (True, False),
    "self-labeling only": (False, True),
    "both": (True, True),
}
"""Whether weights are held in balls, and whether labels are corrected and weighted."""


class NoCheckpoints(Checkpoints):
    """Keeps nothing: a benchmark begins anew each time."""

    def __init__(self) -> None:
        super().__init__(Path(), "")

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Keep nothing."""


def main() -> None:
    arguments = parse()
    print("| given labels | wrong | seed | | AP | F1 | accuracy | likelihood | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows(arguments):
        append_row(arguments.results, row)
        figures = " | ".join(
            f"{row[name]:.4f}"
            for name in ("average_precision", "f1", "accuracy", "given_log_likelihood")
        )
        start = f"| {row['given']} | {row['wrong']:.3f} | {row['seed']} | {row['way']} |"
        print(f"{start} {figures} | {row['seconds']:.0f} |", flush=True)


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the figures of each way, for each column of given labels and each seed."""
    truth = open_labels(arguments.data, arguments.truth)
    for seed in arguments.seeds:
        base = config_of_run(arguments, seed)
        for name, dataset in audited(arguments, truth, base):
            for way in arguments.ways:
                start = time.perf_counter()
                evidence = train(dataset, base, way)
                yield {
                    "data": arguments.data.name,
                    "samples": len(dataset.given_label),
                    "given": name,
                    "way": way,
                    "seed": seed,
                    "settings": arguments.set,
                    "image_size": arguments.image_size,
                    "device": device_name(gpu_name()),
                    "versions": library_versions(),
                    "seconds": time.perf_counter() - start,
                    **figures_of(evidence, dataset.given_label, truth.given_label),
                }


def train(dataset: LabeledDataset, config: AuditConfig, way: str) -> Evidence:
    """Return the evidence of one way to train; activations and features come from the cache."""
    cache = config.cache or default_cache()
    if way == "head":
        return HeadAudit.of(dataset, config, cache).train()
    is_held, is_self_labeled = WAYS[way]
    if not is_held:
        free = replace(config.top_regularization, distance=math.inf, head_distance=math.inf)
        config = replace(config, top_regularization=free)
    if not is_self_labeled:
        config = replace(config, self_labeling=SelfLabelingConfig.named("off"))
    tuning = FullTuning.load(dataset, config, World(), get_modality("image"))
    seen = tuning.look(dataset, cache, no_progress)
    duplicates = find_duplicates(seen, dataset.given_label)
    plan = plan_folds(dataset, seen, duplicates, folds=tuning.folds, seed=config.seed)
    return tuning.train(dataset, seen, plan, None, NoCheckpoints(), no_progress).evidence


def audited(
    arguments: argparse.Namespace, truth: LabeledDataset, config: AuditConfig
) -> Iterator[tuple[str, LabeledDataset]]:
    """Yield the data with each kind of given labels, and the name of those labels."""
    for column in arguments.given:
        dataset = open_labels(arguments.data, column)
        if dataset.class_names != truth.class_names:
            raise SystemExit(f"{column} and {arguments.truth} do not have the same classes")
        yield column, dataset
    if arguments.plant:
        heads = HeadAudit.of(truth, config, config.cache or default_cache())
        for kind, rate in arguments.plant:
            yield f"{kind} {rate:g}", heads.planted(kind, rate, config.seed).dataset


def figures_of(
    evidence: Evidence, given: NDArray[np.int64], truth: NDArray[np.int64]
) -> dict[str, float]:
    """Return how well the scored samples are scored, and how likely their given labels are."""
    scores = score_with_margins(evidence, given)
    is_scored = ~np.isnan(scores.label_error_probability)
    found = scores.label_error_probability[is_scored]
    flags = flag(found, FlagConfig(), scores.under_hypotheses[:, is_scored])
    own = evidence.pred_probs[is_scored, given[is_scored]].astype(np.float64)
    is_wrong = (given != truth)[is_scored]
    return {
        "wrong": float(is_wrong.mean()),
        "accuracy": float((scores.predicted_label == truth)[is_scored].mean()),
        "given_log_likelihood": float(np.log(np.maximum(own, 1e-6)).mean()),
        **detection_figures(replace(scores, label_error_probability=found), is_wrong, flags),
    }


def config_of_run(arguments: argparse.Namespace, seed: int) -> AuditConfig:
    """Return the settings of an audit with those that the command changes."""
    sections: dict[str, Any] = {}
    for setting in arguments.set:
        name, _, value = setting.partition("=")
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = float(value) if "." in value else int(value)
    backbone = BackboneConfig(image_size=arguments.image_size, device=arguments.device)
    return replace(
        config_of(sections), tune="top", backbone=backbone, seed=seed, cache=arguments.cache
    )


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__, rows="top_ways.jsonl")
    parser.add_argument("data", type=Path)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--given", nargs="+", default=[], metavar="COLUMN")
    parser.add_argument("--plant", nargs="+", default=[], type=kind_and_rate, metavar="KIND:RATE")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=[*WAYS, "head"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="+", default=[], metavar="SECTION.SETTING=VALUE")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
