"""A task made ready: files and features that methods may share, labels planted for a seed.

Letters: N samples, K classes.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.benchmark.data import TaskData, needs_clean_probs, plant
from labelfix.benchmark.problem import Problem
from labelfix.benchmark.process import worked
from labelfix.benchmark.sample_files import SAMPLES, TEST, PreparedSamples, prepare_samples
from labelfix.benchmark.tasks import PlantedTask, Task
from labelfix.benchmark.worker import OUTCOME, PROBS
from labelfix.config import BackboneConfig
from labelfix.modalities.base import get_modality
from labelfix.utils.cache import cache_key
from labelfix.utils.progress import OnProgress, Progress

NOISE_SEED = 0
"""Of the folds behind instance-dependent noise; the noise itself is drawn by the run's seed."""


@dataclass(frozen=True, slots=True)
class SharedFeatures:
    """The features of a task's samples, computed once.

    Args:
        folder: Of the N samples.
        test_folder: Of the test samples, or ``None``.
        cost: ``wall_seconds``, ``cpu_seconds`` and ``peak_gib`` of computing them.
    """

    folder: Path
    test_folder: Path | None
    cost: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class PreparedTask:
    """A task, ready to be set to methods.

    Args:
        task: Which.
        data: Its labels, and the truth.
        backbone: Which network looks at the samples.
        cache: Where samples and features are kept.
        samples: The files, or ``None`` for published probabilities.
        features: Or ``None`` where no method asks for them.
    """

    task: Task
    data: TaskData
    backbone: BackboneConfig
    cache: Path
    samples: PreparedSamples | None
    features: SharedFeatures | None

    @classmethod
    def make(
        cls,
        task: Task,
        data: TaskData,
        backbone: BackboneConfig,
        cache: Path,
        on_progress: OnProgress,
        *,
        with_features: bool,
    ) -> "PreparedTask":
        """Write the files of a task and compute its features, unless they are there.

        Raises:
            BenchmarkError: The features cannot be computed.
            RunError: The cache cannot be written to.
        """
        if data.samples is None or data.modality is None:
            return cls(task, data, backbone, cache, None, None)
        modality, place = get_modality(data.modality), cache / "benchmark"
        samples = prepare_samples(data.samples, data.test, modality, place, on_progress)
        bare = cls(task, data, backbone, cache, samples, None)
        if not with_features and not needs_clean_probs(_kind(task)):
            return bare
        plural = modality.plural
        on_progress(Progress(f"{task.name}: looking at the {plural}", 0, None, plural))
        return cls(task, data, backbone, cache, samples, bare.shared_features(samples))

    def given_label(self, seed: int) -> NDArray[np.int64]:
        """Return ``(N,)`` labels: those of the task, or ones with noise planted by a seed."""
        if self.data.given_label is not None or not isinstance(self.task, PlantedTask):
            return np.asarray(self.data.given_label)
        return plant(
            self.task.kind,
            self.task.rate,
            self.data.true_label,
            classes=self.data.classes,
            seed=seed,
            clean_probs=self._clean_probs() if needs_clean_probs(self.task.kind) else None,
        )

    @contextmanager
    def problem(self, given_label: NDArray[np.int64], seed: int) -> Iterator[Problem]:
        """Yield the problem that methods are set; its manifest is gone afterwards."""
        values: dict[str, Any] = {
            "given_label": given_label,
            "classes": self.data.classes,
            "seed": seed,
            "backbone": self.backbone,
        }
        if self.samples is None:
            yield Problem(**values, pred_probs=self.data.pred_probs)
            return
        folder = None if self.features is None else self.features.folder
        with self.samples.manifest(given_label.tolist()) as manifest:
            yield Problem(**values, data=manifest, cache=self.cache, features=folder)

    def shared_features(self, samples: PreparedSamples) -> SharedFeatures:
        """Compute the features of all samples in a process of its own, unless they are there."""
        name = f"features-{self._backbone_key()}"
        kept = samples.kept(name)
        if kept is None or not Path(kept["features"]).is_dir():
            kept = self._compute_features(samples)
            samples.keep(name, kept)
        test = kept["test_features"]
        return SharedFeatures(
            folder=Path(kept["features"]),
            test_folder=None if test is None else Path(test),
            cost=kept["cost"],
        )

    def _compute_features(self, samples: PreparedSamples) -> dict[str, Any]:
        # two labels in turn: a manifest needs them, and features must not depend on them
        count, of_test = len(self.data.true_label), len(self.data.test or ())
        with (
            samples.manifest([row % 2 for row in range(count)], SAMPLES) as manifest,
            _manifest_of_test(samples, of_test) as test,
        ):
            problem = Problem(
                given_label=np.zeros(count, dtype=np.int64),
                classes=self.data.classes,
                seed=NOISE_SEED,
                data=manifest,
                cache=self.cache,
                backbone=self.backbone,
            )
            with worked("features", problem, test=None if test is None else str(test)) as ended:
                found = json.loads((ended.folder / OUTCOME).read_text(encoding="utf-8"))
        return {**found, "cost": asdict(ended.cost)}

    def _clean_probs(self) -> NDArray[np.float64]:
        if self.samples is None or self.features is None:
            raise AssertionError("noise of this kind is made from features")
        name = f"clean-probs-{self._backbone_key()}"
        kept = self.samples.kept_array(name)
        if kept is not None:
            return kept
        problem = Problem(
            given_label=self.data.true_label,
            classes=self.data.classes,
            seed=NOISE_SEED,
            features=self.features.folder,
            backbone=self.backbone,
        )
        with worked("clean-probs", problem) as ended:
            probs: NDArray[np.float64] = np.load(ended.folder / PROBS)
        self.samples.keep_array(name, probs)
        return probs

    def _backbone_key(self) -> str:
        weights = self.backbone.weights
        values = asdict(self.backbone) | {"weights": None}
        if weights is not None and weights.exists():
            values["weights"] = [str(weights.absolute()), weights.stat().st_mtime_ns]
        return cache_key(values)


def _manifest_of_test(samples: PreparedSamples, count: int) -> AbstractContextManager[Path | None]:
    if not count:
        return nullcontext()
    return samples.manifest([row % 2 for row in range(count)], TEST)


def _kind(task: Task) -> str:
    return task.kind if isinstance(task, PlantedTask) else ""
