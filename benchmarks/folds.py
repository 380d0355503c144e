"""How many folds are worth their time, and what in-sample training alone tells.

    python benchmarks/folds.py DATA [--folds 2 3 5] [--kinds symmetric class-dependent]

Spoils labels that are right, fine-tunes a network a fold as ``--tune full`` does, and prints how
well the wrong labels are ranked by each kind of evidence: the probability of an error from the
out-of-sample actions; the mean margin that training saw of the given label (in-sample: it needs no
folds); the mean of both ranks. Appends a JSON row a run.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, train_test_split

from labelfix.benchmark.noise import class_dependent_noise, independent_noise, symmetric_noise
from labelfix.config import (
    BackboneConfig,
    FineTuningConfig,
    RegularizationConfig,
    SelfLabelingConfig,
)
from labelfix.modalities.image.backbone import choose_device, fresh_classifier
from labelfix.modalities.image.pixels import StoredPixels
from labelfix.modalities.image.transforms import Augment
from labelfix.modalities.image.views import ImageViews
from labelfix.recipes import MIN_CROP
from labelfix.scoring.scores import score_labels
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.cross_fit_networks import Networks, Recipe, cross_fit_networks
from labelfix.training.distributed import World
from labelfix.types import MISSING, Evidence, FoldAssignment
from paper_rows import Data, common, load

RESULTS = Path(__file__).parent / "results" / "folds.jsonl"
KINDS = {
    "symmetric": symmetric_noise,
    "class-dependent": class_dependent_noise,
    "independent": independent_noise,
}


def main() -> None:
    arguments = parse()
    data = load(arguments)
    figures: dict[tuple[str, int, str], list[float]] = {}
    for kind in arguments.kinds:
        for seed in arguments.seeds:
            rows, given = spoiled(data, arguments, kind, seed)
            is_wrong = given[rows] != data.label[rows]
            for folds in arguments.folds:
                start = time.perf_counter()
                evidence = judged(
                    data, rows, given, arguments.device, labelfix_recipe(arguments, folds, seed)
                )
                seconds = time.perf_counter() - start
                precisions = {
                    name: round(float(average_precision_score(is_wrong, score)), 4)
                    for name, score in scores(evidence, given, rows).items()
                }
                row = {
                    **common(arguments, data, rows, rows, float(is_wrong.mean())),
                    "kind": kind,
                    "seed": seed,
                    "folds": folds,
                    "epochs": arguments.epochs,
                    "average_precision": precisions,
                    "seconds": round(seconds, 1),
                }
                arguments.results.parent.mkdir(exist_ok=True)
                with arguments.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{kind} seed {seed} folds {folds} {precisions} {seconds:.0f} s", flush=True)
                for name, value in precisions.items():
                    figures.setdefault((kind, folds, name), []).append(value)
    for (kind, folds, name), values in figures.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{kind:16} {folds} folds, {name:24} {statistics.mean(values):.4f} +- {spread:.4f}")


def spoiled(
    data: Data, arguments: argparse.Namespace, kind: str, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return some rows, and ``(N,)`` given labels, right outside of them."""
    rows = np.arange(len(data.label))
    if arguments.train < len(rows):
        rows, _ = train_test_split(
            rows, train_size=arguments.train, stratify=data.label, random_state=seed
        )
    given = data.label.copy()
    given[rows] = KINDS[kind](data.label[rows], arguments.rate, len(data.class_names), seed)
    return np.sort(rows), given


def labelfix_recipe(arguments: argparse.Namespace, folds: int, seed: int) -> Recipe:
    """Return what labelfix does by default."""
    return Recipe(
        training=FineTuningConfig(
            folds=folds, epochs=arguments.epochs, batch_size=arguments.batch_size
        ),
        regularization=RegularizationConfig(),
        self_labeling=SelfLabelingConfig(),
        seed=seed,
    )


def judged(
    data: Data,
    rows: NDArray[np.int64],
    given: NDArray[np.int64],
    device_name: str,
    recipe: Recipe,
) -> Evidence:
    """Return what cross-fitted networks say of the rows."""
    device, folds = choose_device(device_name), recipe.training.folds
    fold = np.full(len(given), MISSING, dtype=np.int16)
    splits = StratifiedKFold(folds, shuffle=True, random_state=recipe.seed)
    for number, (_, held_out) in enumerate(splits.split(rows, given[rows])):
        fold[rows[held_out]] = number
    views = ImageViews(
        StoredPixels(data.pixels),
        data.network.preprocessing,
        Augment(scale=(MIN_CROP, 1.0), flip=data.flip),
        device,
    )

    def make(classes: int) -> torch.nn.Module:
        model = fresh_classifier(data.network, classes)
        return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    with tempfile.TemporaryDirectory() as folder:
        return cross_fit_networks(
            views,
            given,
            FoldAssignment(is_judged=fold != MISSING, fold=fold, exclusion_reason={}),
            Networks(make=make, pretrained=data.network.model.state_dict(), device=device),
            recipe,
            classes=len(data.class_names),
            checkpoints=Checkpoints(Path(folder), "benchmark"),
            world=World(),
        ).evidence


def scores(
    evidence: Evidence, given: NDArray[np.int64], rows: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Return each kind of evidence as ``(n,)`` scores of the rows; high is probably wrong."""
    wrong = score_labels(evidence, given).label_error_probability[rows]
    margin = evidence.margin[rows]
    return {
        "out-of-sample": wrong,
        "in-sample margin": -margin,
        "mean of ranks": rankdata(wrong) + rankdata(-margin),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--label-column")
    parser.add_argument("--folds", type=int, nargs="+", default=[2, 3, 5])
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=["symmetric", "class-dependent"]
    )
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--train", type=int, default=1000, help="images")
    parser.add_argument("--backbone", default=BackboneConfig().name)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
