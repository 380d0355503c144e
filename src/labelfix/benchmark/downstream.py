"""What cleaner labels are worth: the accuracy of one and the same head on clean test samples.

Letters: N samples, V variants of labels and weights.
"""

import numpy as np

from labelfix.backbone import choose_device
from labelfix.benchmark.heads import Lessons, accuracies, choose_radii, fit
from labelfix.benchmark.records import Problem
from labelfix.benchmark.variants import Downstream
from labelfix.disk_cache import read_column
from labelfix.records import MISSING


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
    lessons = Lessons(
        values=problem.feature_values(),
        label=np.where(label == MISSING, 0, label),
        weight=np.nan_to_num(weight).astype(np.float32),
        classes=problem.classes,
        seed=problem.seed,
        device=choose_device(problem.backbone.device),
    )
    heads = fit(lessons, choose_radii(lessons))
    values = read_column(downstream.test_features, "values")
    found = accuracies(heads, lessons, values, downstream.test_label)
    return dict(zip(downstream.variants, found, strict=True))
