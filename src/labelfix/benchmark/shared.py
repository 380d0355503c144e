"""The features that methods share: what the encoder makes of the samples of a task."""

from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from labelfix.benchmark.methods.heads import HeadTargets, accuracies, choose_radii, fit
from labelfix.benchmark.problem import Downstream, Problem
from labelfix.config import AuditConfig, DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.modalities.base import Encoder, get_modality
from labelfix.types import MISSING, LabeledDataset
from labelfix.utils.cache import cache_key, read_column
from labelfix.utils.files import atomic_folder, make_folder
from labelfix.utils.progress import no_progress
from labelfix.utils.torch_utils import choose_device

FEATURES, VALUES = "benchmark-features", "values"


def downstream_accuracies(problem: Problem, downstream: Downstream) -> dict[str, float]:
    """Return the share of test samples that a head trained on each variant gets right.

    The heads of all variants are trained side by side, each with a radius of its own choice.

    Args:
        problem: Names the features, the device and the seed; its labels are not used.
        downstream: What to train and to test on.
    """
    variants = list(downstream.variants.values())
    label = np.stack([variant.label for variant in variants], axis=1)
    weight = np.where(label == MISSING, 0.0, np.stack([v.weight for v in variants], axis=1))
    soft = {place: v.soft_label for place, v in enumerate(variants) if v.soft_label is not None}
    targets = HeadTargets(
        values=problem.feature_values(),
        label=np.where(label == MISSING, 0, label),
        weight=np.nan_to_num(weight).astype(np.float32),
        soft_label=soft,
        classes=problem.classes,
        seed=problem.seed,
        device=choose_device(problem.backbone.device),
    )
    heads = fit(targets, choose_radii(targets))
    values = read_column(downstream.test_features, VALUES)
    found = accuracies(heads, targets, values, downstream.test_label)
    return dict(zip(downstream.variants, found, strict=True))


def compute(problem: Problem, test: Path | None) -> dict[str, Any]:
    """Compute features as an audit does, and return in which folders, as JSON values.

    Args:
        problem: Names the manifest, the backbone and the cache.
        test: A manifest of further samples that the same encoder shall look at, or ``None``.
    """
    if problem.data is None or problem.cache is None:
        raise AssertionError("the task has samples, and a place for their features")
    config = AuditConfig(backbone=problem.backbone, tune="head", seed=problem.seed)
    dataset = open_dataset(problem.data, DatasetConfig())
    encoder = get_modality(dataset.modality).encoder(config, dataset.store)
    others = None if test is None else open_dataset(test, DatasetConfig())
    return {
        "features": _look(encoder, dataset, problem.cache),
        "test_features": None if others is None else _look(encoder, others, problem.cache),
    }


def _look(encoder: Encoder, dataset: LabeledDataset, cache: Path) -> str:
    """Return the folder of the features of all samples: that of the cache, or one made here.

    Features of texts are not in the cache, as the other texts of the data set shape them.
    """
    values = encoder.encode(dataset.store, dataset.fingerprint, cache, no_progress).values
    if isinstance(values, np.memmap) and values.filename is not None:
        return str(Path(values.filename).parent)
    folder = cache / FEATURES / cache_key(dataset.fingerprint, encoder.name, encoder.settings())
    make_folder(folder.parent)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            with atomic_folder(folder) as draft:
                np.save(draft / f"{VALUES}.npy", values)
    return str(folder)
