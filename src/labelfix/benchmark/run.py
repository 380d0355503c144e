"""The benchmark: tasks x methods x seeds, to rows.

It knows the truth, and sets methods problems without it. Letters: N samples.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.benchmark.cost import device_name, library_versions, source_commit
from labelfix.benchmark.data import TaskData
from labelfix.benchmark.methods.registry import REFERENCE, Method
from labelfix.benchmark.metrics import binomial_error, score_result
from labelfix.benchmark.problem import (
    Downstream,
    MethodOutputs,
    Problem,
    Variant,
    read_answers,
    variants_of,
)
from labelfix.benchmark.process import ProcessResult, worked
from labelfix.benchmark.rows import BenchmarkRow, backbone_of
from labelfix.benchmark.stage import PreparedTask
from labelfix.benchmark.tasks import PlantedTask, Task
from labelfix.benchmark.worker import ANSWERS, METHOD, OUTCOME
from labelfix.config import EMBEDDED_BACKBONE, BackboneConfig
from labelfix.errors import BenchmarkError, LabelfixError
from labelfix.modalities.base import get_modality
from labelfix.utils.progress import OnProgress, Progress, no_progress

Key = tuple[str, int, str, int, int, str, str]
"""What makes two rows the same measurement; `key_of` says of what."""

OnRows = Callable[[Sequence[BenchmarkRow]], None]
OnFault = Callable[[str, LabelfixError], None]

TEST_ACCURACY = "test_accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How a benchmark is run.

    Args:
        methods: Which.
        seeds: Which.
        cache: Where samples and features are kept.
        backbone: Which network looks at the samples.
        with_downstream: Whether to train on the cleaned labels too, where there is a test set.
        done: What is left out because it was measured before.
        command: ``"run"``, or ``"inject"`` for data of the user's own; for the table's footnote.
        commit: Of labelfix.
        versions: Of the libraries.
    """

    methods: Sequence[Method]
    seeds: Sequence[int]
    cache: Path
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    with_downstream: bool = True
    done: frozenset[Key] = frozenset()
    command: str = "run"
    commit: str = field(default_factory=source_commit)
    versions: dict[str, str] = field(default_factory=library_versions)


def key_of(row: BenchmarkRow) -> Key:
    """Return what makes two rows the same measurement."""
    return (
        row.task,
        row.task_version,
        row.method.partition("/")[0],
        row.seed,
        row.samples,
        row.commit,
        backbone_of(row.settings),
    )


def is_repeatable(row: BenchmarkRow) -> bool:
    """Return whether a row says exactly which code made it: a changed checkout does not."""
    return bool(row.commit) and not row.commit.endswith("-dirty")


def run_task(
    task: Task,
    data: TaskData,
    setup: Setup,
    *,
    on_rows: OnRows,
    on_fault: OnFault,
    on_progress: OnProgress = no_progress,
) -> None:
    """Set a task to methods, seed after seed.

    Args:
        task: Which.
        data: Its labels, samples and truth.
        setup: How.
        on_rows: Given the rows of each method as soon as they are known.
        on_fault: Told what failed; the rest goes on.
        on_progress: Told what is going on.
    """
    runs = [
        (seed, name)
        for seed in setup.seeds
        for name in _names(data, setup)
        if _key(task, data, setup, name, seed) not in setup.done
    ]
    if not runs:
        return
    methods = {method.name: method for method in setup.methods}
    needed = [methods[name] for _, name in runs if name in methods]
    try:
        stage = PreparedTask.make(
            task,
            data,
            setup.backbone,
            setup.cache,
            on_progress,
            with_features=any(method.uses_features for method in needed) or _tests(data, setup),
        )
    except LabelfixError as error:
        on_fault(task.name, error)
        return
    for done, (seed, name) in enumerate(runs):
        on_progress(Progress(task.name, done, len(runs), "runs", f"{name}, seed {seed}"))
        try:
            on_rows(_Measurement(stage, setup, seed).rows(methods.get(name)))
        except LabelfixError as error:
            on_fault(f"{task.name}, {name}, seed {seed}", error)
    on_progress(Progress(task.name, len(runs), len(runs), "runs"))


def _names(data: TaskData, setup: Setup) -> list[str]:
    names = [method.name for method in setup.methods]
    return [REFERENCE, *names] if _tests(data, setup) else names


def _tests(data: TaskData, setup: Setup) -> bool:
    return setup.with_downstream and data.test is not None


def _key(task: Task, data: TaskData, setup: Setup, name: str, seed: int) -> Key:
    return (
        task.name,
        task.version,
        name,
        seed,
        len(data.true_label),
        setup.commit,
        backbone_of(_about_backbone(setup.backbone, data)),
    )


def _about_backbone(backbone: BackboneConfig, data: TaskData) -> dict[str, Any]:
    if data.modality is None:
        return {}
    default = get_modality(data.modality).default_backbone
    return {
        "backbone": default if backbone.name == EMBEDDED_BACKBONE else backbone.name,
        "weights": None if backbone.weights is None else backbone.weights.name,
        "asked_image_size": backbone.image_size,
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Measurement:
    """One method, or the labels themselves, on a task with a seed."""

    stage: PreparedTask
    setup: Setup
    seed: int

    def rows(self, method: Method | None) -> list[BenchmarkRow]:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        given = self.stage.given_label(self.seed)
        with self.stage.problem(given, self.seed) as problem:
            if method is None:
                return self._reference(problem, started)
            with worked(f"{METHOD}{method.name}", problem) as ended:
                answers = read_answers(ended.folder / ANSWERS)
            fault = next((f for answer in answers.values() if (f := answer.lacks(len(given)))), "")
            if fault:
                raise BenchmarkError(f"{method.name} gave no proper answer: {fault}")
            accuracy = self._downstream(problem, answers)
        return self._scored(method, given, answers, ended, accuracy, started)

    def _scored(
        self,
        method: Method,
        given: NDArray[np.int64],
        answers: MethodOutputs,
        ended: ProcessResult,
        accuracy: dict[str, float],
        started: str,
    ) -> list[BenchmarkRow]:
        rows = []
        for number, (score, result) in enumerate(answers.items()):
            scored = score_result(result, given, self.stage.data.true_label)
            figures = {**scored.figures, **(self._features_cost() if method.uses_features else {})}
            errors = dict(scored.standard_errors)
            if number == 0:
                figures |= accuracy
                errors |= self._accuracy_errors(accuracy)
            settings: dict[str, Any] = {
                "is_default_score": number == 0,
                "probability": result.probability,
                "rules": list(result.flags),
                "chosen": dict(result.settings),
            }
            name = f"{method.name}/{score}" if score else method.name
            row = self._row(name, ended, started, figures, errors, settings, scored.curves)
            rows.append(row)
        return rows

    def _reference(self, problem: Problem, started: str) -> list[BenchmarkRow]:
        """Return what training on the given labels and on the true ones gives."""
        true = self.stage.data.true_label
        ones = np.ones(len(true))
        variants = {"given": Variant(problem.given_label, ones), "true": Variant(true, ones)}
        rows = []
        with self._trained(problem, variants) as ended:
            accuracy = _outcome(ended)
        for name, value in accuracy.items():
            figures = {TEST_ACCURACY: value}
            errors = self._accuracy_errors(figures)
            settings = {"is_default_score": True, "rules": [], "probability": "", "chosen": {}}
            row = self._row(f"{REFERENCE}/{name}", ended, started, figures, errors, settings, {})
            rows.append(row)
        return rows

    def _downstream(self, problem: Problem, answers: MethodOutputs) -> dict[str, float]:
        """Return the test accuracy after cleaning by the default score; nothing without a test."""
        if not _tests(self.stage.data, self.setup):
            return {}
        variants = variants_of(next(iter(answers.values())), problem.given_label)
        with self._trained(problem, variants) as ended:
            return {f"{TEST_ACCURACY}:{name}": value for name, value in _outcome(ended).items()}

    def _trained(
        self, problem: Problem, variants: dict[str, Variant]
    ) -> AbstractContextManager[ProcessResult]:
        data, features = self.stage.data, self.stage.features
        if data.test is None or features is None or features.test_folder is None:
            raise AssertionError("there is a test set, and its features are computed")
        downstream = Downstream(variants, features.test_folder, data.test.true_label)
        return worked("downstream", problem, downstream=downstream)

    def _accuracy_errors(self, accuracy: dict[str, float]) -> dict[str, float]:
        tested = 0 if self.stage.data.test is None else len(self.stage.data.test)
        return {name: binomial_error(value, tested) for name, value in accuracy.items()}

    def _features_cost(self) -> dict[str, float]:
        features = self.stage.features
        cost = {} if features is None else features.cost
        return {f"features_{name}": round(value, 3) for name, value in cost.items()}

    def _row(
        self,
        name: str,
        ended: ProcessResult,
        started: str,
        figures: dict[str, float],
        errors: dict[str, float],
        settings: dict[str, Any],
        curves: Any,
    ) -> BenchmarkRow:
        data = self.stage.data
        if ended.gpu:
            figures = {**figures, "gpu_peak_gib": round(ended.gpu_peak_gib, 3)}
        about: dict[str, Any] = {**settings, **data.about, "classes": data.classes}
        about["command"] = self.setup.command
        about |= _about_backbone(self.setup.backbone, data)
        if isinstance(self.stage.task, PlantedTask):
            about |= {"kind": self.stage.task.kind, "rate": self.stage.task.rate}
        return BenchmarkRow(
            task=self.stage.task.name,
            task_version=self.stage.task.version,
            method=name,
            seed=self.seed,
            samples=len(data.true_label),
            figures=figures,
            standard_errors=errors,
            wall_seconds=round(ended.cost.wall_seconds, 3),
            cpu_seconds=round(ended.cost.cpu_seconds, 3),
            peak_gib=round(ended.cost.peak_gib, 3),
            settings=about,
            versions=self.setup.versions,
            commit=self.setup.commit,
            device=device_name(ended.gpu),
            python=python_version(),
            started_at=started,
            curves=curves,
        )


def _outcome(ended: ProcessResult) -> dict[str, float]:
    values: dict[str, float] = json.loads((ended.folder / OUTCOME).read_text(encoding="utf-8"))
    return values
