"""labelfix with whole networks beside cleanlab with the same network, on real label noise.

    python benchmarks/whole_networks.py DATA --truth clean_label --given random_label1 worse_label
        [--samples 5000] [--image-size 64] [--epochs 6]

Both fine-tune the same pretrained backbone for the same epochs with the same optimizer, batches and
augmentation: labelfix in its folds, regularized and self-labeling; for cleanlab plainly in 5
folds, and then its scores and every one of its filter rules. The truth is used to score alone.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score

from folds import judged, labelfix_recipe
from labelfix.config import BackboneConfig, FineTuningConfig, FlagConfig
from labelfix.scoring.flags import correct
from labelfix.scoring.scores import score_labels, score_with_margins
from labelfix.training.cross_fit_networks import Recipe
from labelfix.types import Evidence
from paper_rows import NO_LIMIT, NO_SELF_LABELS, Data, common, load

RESULTS = Path(__file__).parent / "results" / "whole_networks.jsonl"
CLEANLAB_FOLDS = 5
RULES = (
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
)
SCORES = ("self_confidence", "normalized_margin")


def main() -> None:
    arguments = parse()
    arguments.label_column = arguments.truth
    data = load(arguments)
    rows = np.arange(len(data.label))
    if arguments.samples < len(rows):
        rows = np.random.default_rng(0).choice(len(rows), arguments.samples, replace=False)
        rows.sort()
    for column in arguments.given:
        given = codes(arguments.data, column, data)
        is_wrong = given[rows] != data.label[rows]
        for method in arguments.methods:
            start = time.perf_counter()
            evidence = judged(data, rows, given, arguments.device, recipe(arguments, method))
            seconds = time.perf_counter() - start
            figures = {"labelfix": of_labelfix, "cleanlab": of_cleanlab}[method](
                evidence, given, rows, is_wrong
            )
            predicted = evidence.pred_probs[rows].argmax(axis=1)
            row = {
                **common(arguments, data, rows, rows, float(is_wrong.mean())),
                "given": column,
                "method": method,
                "epochs": arguments.epochs,
                "accuracy": round(float((predicted == data.label[rows]).mean()), 4),
                **figures,
                "seconds": round(seconds, 1),
            }
            arguments.results.parent.mkdir(exist_ok=True)
            with arguments.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{column} {method} accuracy {row['accuracy']} {figures} {seconds:.0f} s",
                flush=True,
            )


def codes(path: Path, column: str, data: Data) -> NDArray[np.int64]:
    """Return ``(N,)`` a column of labels as codes of the true classes."""
    values = pq.read_table(path, columns=[column])[column].to_numpy()
    found: NDArray[np.int64] = np.searchsorted(np.array(data.class_names), values).astype(np.int64)
    return found


def recipe(arguments: argparse.Namespace, method: str) -> Recipe:
    """Return how the networks of a method are trained."""
    if method == "labelfix":
        return labelfix_recipe(arguments, FineTuningConfig().folds, arguments.seed)
    training = FineTuningConfig(
        folds=CLEANLAB_FOLDS, epochs=arguments.epochs, batch_size=arguments.batch_size
    )
    return Recipe(
        training=training,
        regularization=NO_LIMIT,
        self_labeling=NO_SELF_LABELS,
        seed=arguments.seed,
    )


def of_labelfix(
    evidence: Evidence,
    given: NDArray[np.int64],
    rows: NDArray[np.int64],
    is_wrong: NDArray[np.bool_],
) -> dict[str, Any]:
    """Return how good labelfix's scores and flags are, and what each half of the evidence is."""
    scores = score_with_margins(evidence, given)
    unseen = score_labels(evidence, given).label_error_probability[rows]
    flags = correct(scores, evidence.fold >= 0, FlagConfig()).is_label_issue[rows]
    return {
        "average_precision": rounded(
            average_precision_score(is_wrong, scores.label_error_probability[rows])
        ),
        "average_precision of probabilities": rounded(average_precision_score(is_wrong, unseen)),
        "average_precision of margins": rounded(
            average_precision_score(is_wrong, -evidence.margin[rows])
        ),
        "f1": rounded(f1_score(is_wrong, flags)),
    }


def of_cleanlab(
    evidence: Evidence,
    given: NDArray[np.int64],
    rows: NDArray[np.int64],
    is_wrong: NDArray[np.bool_],
) -> dict[str, Any]:
    """Return how good each of cleanlab's scores and rules is."""
    probs, labels = evidence.pred_probs[rows].astype(np.float64), given[rows]
    probs /= probs.sum(axis=1, keepdims=True)
    figures: dict[str, Any] = {}
    for name in SCORES:
        score = 1 - get_label_quality_scores(labels, probs, method=name)
        figures[f"average_precision of {name}"] = rounded(average_precision_score(is_wrong, score))
    for rule in RULES:
        flags = find_label_issues(labels, probs, filter_by=rule, n_jobs=1)
        figures[f"f1 of {rule}"] = rounded(f1_score(is_wrong, flags))
    return figures


def rounded(value: float) -> float:
    return round(float(value), 4)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--given", nargs="+", required=True)
    parser.add_argument("--methods", nargs="+", default=["labelfix", "cleanlab"])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", default=BackboneConfig().name)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
