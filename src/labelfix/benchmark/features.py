"""The features that methods share: what the frozen backbone makes of the images of a task."""

from pathlib import Path
from typing import Any

from labelfix.benchmark.records import Problem
from labelfix.config import AuditConfig, DatasetConfig
from labelfix.dataset import open_dataset
from labelfix.head_tuning import HeadTuning
from labelfix.records import LabeledDataset, no_progress


def compute(problem: Problem, test: Path | None) -> dict[str, Any]:
    """Compute features as an audit does, and return where they lie, as JSON values.

    Args:
        problem: Names the manifest, the backbone and the cache.
        test: A manifest of further images that the same backbone shall look at, or ``None``.
    """
    if problem.data is None or problem.cache is None:
        raise AssertionError("the task has images, and a place for their features")
    config = AuditConfig(backbone=problem.backbone, tune="head", seed=problem.seed)
    dataset = open_dataset(problem.data, DatasetConfig())
    tuning = HeadTuning.load(dataset, config)
    others = None if test is None else open_dataset(test, DatasetConfig())
    return {
        "features": _look(tuning, dataset, problem.cache),
        "test_features": None if others is None else _look(tuning, others, problem.cache),
        "images": len(dataset) + (0 if others is None else len(others)),
        "image_size": tuning.backbone.preprocessing.size,
        "width": tuning.look(dataset, problem.cache, no_progress).values.shape[1],
    }


def _look(tuning: HeadTuning, dataset: LabeledDataset, cache: Path) -> str:
    return str(tuning.stored(dataset, cache, no_progress).folder)
