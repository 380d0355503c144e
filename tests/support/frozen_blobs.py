"""Made-up features with wrong labels, and plans that score all of them."""

import numpy as np
from appearances import plain_appearances

from labelfix.types import Features, FoldAssignment


def blobs(seed=0, count=600, classes=3, width=20, noise=0.15):
    """Gaussian classes, and labels of which some are wrong."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, count)
    centers = 3 * rng.normal(size=(classes, width))
    values = (centers[true] + rng.normal(size=(count, width))).astype(np.float16)
    flips = rng.random(count) < noise
    given = np.where(flips, (true + rng.integers(1, classes, count)) % classes, true)
    return values, given, true


def features_of(values):
    return Features(
        values=values,
        content=np.zeros(len(values), dtype="S16"),
        unreadable={},
        statistics=plain_appearances(len(values)),
    )


def score_all(count, folds=5, seed=0):
    fold = np.random.default_rng(seed).permutation(np.arange(count) % folds)
    return FoldAssignment(
        is_scored=np.ones(count, dtype=bool), fold=fold.astype(np.int16), exclusion_reason={}
    )
