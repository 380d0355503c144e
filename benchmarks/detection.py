"""How well wrong labels are ranked: labelfix beside cleanlab on the very same features.

    python benchmarks/detection.py DATA.parquet --truth clean_label --given aggre_label worse_label

Runs the real command once a label column (the first with an empty feature cache, the others with a
full one), then cleanlab with 5-fold logistic regression on the cached features, each scored by the
average precision against the truth. Appends one JSON row a method to benchmarks/results.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelfix.report import read_report_table

RESULTS = Path(__file__).parent / "results"
FOLDS = 5
STRENGTHS = (1e-4, 1e-3, 1e-2)
"""Tried on held-out given labels. scikit-learn's C = 1 is nearly free of regularisation on so many
features: see docs/experiments.md."""
FILTERS = (
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One method on one column of given labels.

    Args:
        average_precision: Of the score, for finding the wrong labels; high is good.
        auroc: Likewise.
        f1: Of the flags.
        flagged: How many.
        accuracy: Share of predictions that equal the true label.
        noise_rate: The method's estimate.
        seconds: Of the whole command, or of cross-validation and scoring.
        peak_gib: Largest resident memory of the process; 0 where it was not measured.
    """

    task: str
    samples: int
    true_noise_rate: float
    method: str
    seed: int
    average_precision: float
    auroc: float
    f1: float
    flagged: int
    accuracy: float
    noise_rate: float
    seconds: float
    peak_gib: float
    device: str
    versions: dict[str, str]
    commit: str


def main() -> None:
    arguments = _arguments()
    truth_table = pq.read_table(arguments.data, columns=[arguments.truth, *arguments.given])
    truth = truth_table[arguments.truth].to_numpy().astype(np.int64)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        cache = arguments.cache or Path(scratch) / "cache"
        for given_name in arguments.given:
            given = truth_table[given_name].to_numpy().astype(np.int64)
            task = f"{arguments.data.stem}/{given_name}"
            common = _common(task, given, truth, arguments.seed)
            run = Path(scratch) / given_name
            if "labelfix" in arguments.methods:
                rows.append(_labelfix(arguments, given_name, run, cache, given, truth, common))
                _show(rows[-1])
            if "cleanlab" in arguments.methods:
                features = np.load(next(cache.glob("features/*/values.npy")), mmap_mode="r")
                for row in _cleanlab(features, given, truth, arguments.seed, common):
                    rows.append(row)
                    _show(row)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "detection.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--given", nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="keep the features here")
    parser.add_argument(
        "--methods", nargs="+", choices=("labelfix", "cleanlab"), default=["labelfix", "cleanlab"]
    )
    return parser.parse_args()


def _common(
    task: str, given: NDArray[np.int64], truth: NDArray[np.int64], seed: int
) -> dict[str, Any]:
    names = ("labelfix", "cleanlab", "scikit-learn", "torch", "timm", "numpy")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "task": task,
        "samples": len(given),
        "true_noise_rate": round(float((given != truth).mean()), 4),
        "seed": seed,
        "device": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in names},
        "commit": commit,
    }


def _labelfix(
    arguments: argparse.Namespace,
    given_name: str,
    run: Path,
    cache: Path,
    given: NDArray[np.int64],
    truth: NDArray[np.int64],
    common: dict[str, Any],
) -> Row:
    is_cold = not list(cache.glob("features/*/values.npy"))
    command = [sys.executable, "-m", "labelfix", "audit", str(arguments.data), "--out", str(run)]
    command += ["--label-column", given_name, "--cache", str(cache)]
    start = time.perf_counter()
    subprocess.run([*command, "--seed", str(arguments.seed), "--quiet"], check=True)
    seconds = time.perf_counter() - start
    table = read_report_table(run, pred_probs=False)
    column = {name: table.table[name].to_numpy() for name in _NEEDED}
    wrong = column["label_error_probability"]
    return _row(
        common,
        f"labelfix head ({'cold' if is_cold else 'cached features'})",
        wrong,
        column["is_label_issue"].astype(bool),
        column["predicted_label"].astype(np.int64),
        given,
        truth,
        noise_rate=float(table.run.noise_rate or 0),
        seconds=seconds,
        peak_gib=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
    )


_NEEDED = ("label_error_probability", "is_label_issue", "predicted_label")


def _cleanlab(
    features: NDArray[np.float16],
    given: NDArray[np.int64],
    truth: NDArray[np.int64],
    seed: int,
    common: dict[str, Any],
) -> list[Row]:
    start = time.perf_counter()
    values = features.astype(np.float32)
    pred_probs = np.zeros((len(given), int(given.max()) + 1))
    splits = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(values, given))
    strength = _best_strength(values, given, *splits[0])
    for train, test in splits:
        model = _logistic_regression(strength).fit(values[train], given[train])
        pred_probs[test] = model.predict_proba(values[test])
    fitted = time.perf_counter() - start
    rows = []
    for method in ("self_confidence", "normalized_margin"):
        score = 1 - get_label_quality_scores(given, pred_probs, method=method)
        for rule in FILTERS:
            flags = find_label_issues(given, pred_probs, filter_by=rule, n_jobs=1)
            rows.append(
                _row(
                    common,
                    f"cleanlab logistic regression (C={strength}), {method}, {rule}",
                    score,
                    flags,
                    pred_probs.argmax(axis=1),
                    given,
                    truth,
                    noise_rate=float(flags.mean()),
                    seconds=fitted,
                    peak_gib=0.0,
                )
            )
    return rows


def _logistic_regression(strength: float) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def _best_strength(
    values: NDArray[np.float32],
    given: NDArray[np.int64],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> float:
    """Return the C under which held-out given labels are likeliest: as labelfix picks its ball."""
    losses = {
        strength: log_loss(
            given[test],
            _logistic_regression(strength)
            .fit(values[train], given[train])
            .predict_proba(values[test]),
        )
        for strength in STRENGTHS
    }
    return min(losses, key=lambda strength: losses[strength])


def _row(
    common: dict[str, Any],
    method: str,
    wrong: NDArray[Any],
    flags: NDArray[np.bool_],
    predicted: NDArray[np.int64],
    given: NDArray[np.int64],
    truth: NDArray[np.int64],
    *,
    noise_rate: float,
    seconds: float,
    peak_gib: float,
) -> Row:
    is_wrong = given != truth
    return Row(
        **common,
        method=method,
        average_precision=round(float(average_precision_score(is_wrong, wrong)), 4),
        auroc=round(float(roc_auc_score(is_wrong, wrong)), 4),
        f1=round(float(f1_score(is_wrong, flags)), 4),
        flagged=int(flags.sum()),
        accuracy=round(float((predicted == truth).mean()), 4),
        noise_rate=round(noise_rate, 4),
        seconds=round(seconds, 1),
        peak_gib=round(peak_gib, 2),
    )


def _show(row: Row) -> None:
    print(
        f"{row.task:32} {row.method:64} AP {row.average_precision:.4f} F1 {row.f1:.4f} "
        f"accuracy {row.accuracy:.4f} noise {row.noise_rate:.4f} ({row.true_noise_rate}) "
        f"{row.seconds:.0f} s {row.peak_gib:.2f} GiB",
        flush=True,
    )


if __name__ == "__main__":
    main()
