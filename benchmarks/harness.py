"""What the scripts of this folder share: arguments, audits by heads, figures, rows and timing.

A script says what it varies and prints; how data are opened, errors are planted, heads are trained,
rows are written and times are taken is said here, once.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
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
from labelfix.benchmark.data import needs_clean_probs, plant
from labelfix.benchmark.metrics import calibration_error, reliability
from labelfix.config import AuditConfig, BackboneConfig, DatasetConfig, HeadConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.duplicates import find_duplicates
from labelfix.data.trusted_labels import plan_with
from labelfix.recipes import HeadTuning
from labelfix.training.folds import plan_folds
from labelfix.types import Evidence, Features, LabeledDataset, LabelScores, Reviewed
from labelfix.utils.cache import default_cache
from labelfix.utils.progress import no_progress

RESULTS = Path(__file__).parent / "results"
CLEAN_COMPONENTS = 32
"""Principal components known to the model whose mistakes are planted."""


def new_parser(doc: str | None, *, data: bool = False, rows: str = "") -> argparse.ArgumentParser:
    """Return a parser with the arguments that most scripts take.

    Args:
        doc: The docstring of the script; its first line describes the command.
        data: Whether the script reads a labeled data set and trains on it.
        rows: Name of the file in ``results/`` that gets the rows; ``""`` where none are written.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    if data:
        parser.add_argument("data", type=Path)
        parser.add_argument("--label-column")
        parser.add_argument("--device", default="auto")
    if rows:
        parser.add_argument("--results", type=Path, default=RESULTS / rows)
    return parser


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row, with the commit that made it, to a JSON Lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"commit": source_commit(), **row}) + "\n")


@dataclass(frozen=True, slots=True, eq=False)
class HeadAudit:
    """A data set whose labels count as true, and what it takes to audit it by heads.

    Args:
        dataset: The data; replace its labels by `with_labels` to audit others.
        tuning: How heads are trained.
        features: Of its images.
    """

    dataset: LabeledDataset
    tuning: HeadTuning
    features: Features

    @classmethod
    def load(
        cls, data: Path, label_column: str | None, device: str, cache: Path | None
    ) -> "HeadAudit":
        """Open a data set and compute its features, or take them from a cache."""
        dataset = open_labels(data, label_column)
        config = AuditConfig(backbone=BackboneConfig(device=device))
        return cls.of(dataset, config, cache or default_cache())

    @classmethod
    def of(cls, dataset: LabeledDataset, config: AuditConfig, cache: Path) -> "HeadAudit":
        """Compute the features of a data set, or take them from a cache."""
        tuning = HeadTuning.load(dataset, replace(config, tune="head"))
        return cls(dataset, tuning, tuning.look(dataset, cache, no_progress))

    @property
    def config(self) -> AuditConfig:
        """Return the settings of the audit."""
        return self.tuning.config

    @property
    def given(self) -> NDArray[np.int64]:
        """Return the ``(N,)`` labels as codes."""
        return self.dataset.given_label

    def with_labels(self, given: NDArray[np.int64]) -> "HeadAudit":
        """Return the same data with other ``(N,)`` labels."""
        return replace(self, dataset=replace(self.dataset, given_label=given))

    def with_heads(self, heads: HeadConfig) -> "HeadAudit":
        """Return the same data with other settings of the heads."""
        config = replace(self.config, heads=heads)
        return replace(self, tuning=replace(self.tuning, config=config))

    def planted(self, kind: str, rate: float, seed: int) -> "HeadAudit":
        """Return the same data with wrong labels of a kind: see `labelfix.benchmark.data.plant`."""
        true = self.given
        return self.with_labels(
            plant(
                kind,
                rate,
                true,
                classes=len(self.dataset.class_names),
                seed=seed,
                clean_probs=self._clean_probs(seed) if needs_clean_probs(kind) else None,
            )
        )

    def train(self, reviewed: Reviewed | None = None) -> Evidence:
        """Return the evidence of cross-fitted heads, which trust decisions where there are some."""
        duplicates = find_duplicates(self.features, self.given)
        plan = plan_folds(
            self.dataset,
            self.features,
            duplicates,
            folds=self.tuning.folds,
            seed=self.config.seed,
        )
        plan = plan_with(reviewed, plan, self.given)
        return self.tuning.train(self.dataset, self.features, plan, reviewed, no_progress)

    def _clean_probs(self, seed: int) -> NDArray[np.float64]:
        """Return ``(N, K)`` out-of-fold probabilities of a weak model of the true labels."""
        model = make_pipeline(
            StandardScaler(), PCA(CLEAN_COMPONENTS, random_state=seed), GaussianNB()
        )
        values = self.features.values.astype(np.float32)
        probs: NDArray[np.float64] = cross_val_predict(
            model, values, self.given, method="predict_proba"
        )
        return probs


def kind_and_rate(text: str) -> tuple[str, float]:
    """Return the parts of ``KIND:RATE``."""
    kind, _, rate = text.partition(":")
    return kind, float(rate)


def open_labels(data: Path, column: str | None) -> LabeledDataset:
    """Return a data set with one column as its labels."""
    return open_dataset(data, DatasetConfig(label_column=column))


def detection_figures(
    scores: LabelScores, is_wrong: NDArray[np.bool_], flags: NDArray[np.bool_]
) -> dict[str, float]:
    """Return how well ``(n,)`` scores and flags find the wrong labels, all of them scored."""
    found = scores.label_error_probability
    low, high = scores.noise_rate_interval
    return {
        "average_precision": float(average_precision_score(is_wrong, found)),
        "f1": float(f1_score(is_wrong, flags)),
        "calibration_error": calibration_error(reliability(found.astype(np.float64), is_wrong)),
        "rate_error": float(found.mean(dtype=np.float64) - is_wrong.mean()),
        "rate_low": low,
        "rate_high": high,
    }


def time_in_turn(
    ways: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Return the ``rounds`` measurements of each way, taken in turn, so that load hits all alike.

    Args:
        ways: Name to what measures once: seconds, or a speed.
        rounds: How often each way counts.
        warm_up: Rounds before, which do not count.
    """
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(warm_up + rounds):
        for name, measure in ways.items():
            value = measure()
            measured[name] += [value] if number >= warm_up else []
    return measured


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_ratio(values: list[float], others: list[float]) -> float:
    """Return the median over rounds of one measurement by another."""
    return statistics.median(v / o for v, o in zip(values, others, strict=True))


def bar(is_met: bool, limit: str) -> str:  # noqa: FBT001 - reads as a sentence at each call
    """Return whether a figure meets its limit, to be printed beside it."""
    return f"({'meets' if is_met else 'MISSES'} {limit})"
