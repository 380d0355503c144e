"""The features that methods share: what the frozen backbone makes of the images of a task."""

from pathlib import Path
from typing import Any

import numpy as np

from labelfix.benchmark.methods.heads import HeadTargets, accuracies, choose_radii, fit
from labelfix.benchmark.problem import Downstream, Problem
from labelfix.config import AuditConfig, DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.modalities.image.encoder import ImageEncoder
from labelfix.types import MISSING, LabeledDataset
from labelfix.utils.cache import read_column
from labelfix.utils.progress import no_progress
from labelfix.utils.torch_utils import choose_device


def downstream_accuracies(problem: Problem, downstream: Downstream) -> dict[str, float]:
    """Return the share of test samples that a head trained on each variant gets right.

    The heads of all variants are trained side by side, each with a radius of its own choice.

    Args:
        problem: Names the features, the device and the seed; its labels are not used.
        downstream: What to train and to test on.
    """
    labels, weights = zip(*downstream.variants.values(), strict=True)
    label = np.stack(labels, axis=1)
    weight = np.where(label == MISSING, 0.0, np.stack(weights, axis=1))
    targets = HeadTargets(
        values=problem.feature_values(),
        label=np.where(label == MISSING, 0, label),
        weight=np.nan_to_num(weight).astype(np.float32),
        classes=problem.classes,
        seed=problem.seed,
        device=choose_device(problem.backbone.device),
    )
    heads = fit(targets, choose_radii(targets))
    values = read_column(downstream.test_features, "values")
    found = accuracies(heads, targets, values, downstream.test_label)
    return dict(zip(downstream.variants, found, strict=True))


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
    encoder = ImageEncoder.load(config, dataset.store)
    others = None if test is None else open_dataset(test, DatasetConfig())
    return {
        "features": _look(encoder, dataset, problem.cache),
        "test_features": None if others is None else _look(encoder, others, problem.cache),
        "images": len(dataset) + (0 if others is None else len(others)),
        "image_size": encoder.backbone.preprocessing.size,
        "width": encoder.encode(
            dataset.store, dataset.fingerprint, problem.cache, no_progress
        ).values.shape[1],
    }


def _look(encoder: ImageEncoder, dataset: LabeledDataset, cache: Path) -> str:
    return str(encoder.stored(dataset.store, dataset.fingerprint, cache, no_progress).folder)
