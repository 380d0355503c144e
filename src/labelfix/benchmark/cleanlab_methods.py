"""cleanlab on the same footing: the same features or the same network, its own scores and rules.

Letters: N samples, K classes, M models.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from cleanlab.count import compute_confident_joint, estimate_joint, estimate_latent
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_ensemble_scores, get_label_quality_scores
from numpy.typing import NDArray

from labelfix.benchmark.linear import cross_validated
from labelfix.benchmark.records import Answers, MethodResult, Problem, suggestions

SCORES: Mapping[str, tuple[str, bool]] = {
    "self_confidence": ("self_confidence", False),
    "normalized_margin": ("normalized_margin", False),
    "confidence_weighted_entropy": ("confidence_weighted_entropy", False),
    "self_confidence_adjusted": ("self_confidence", True),
    "normalized_margin_adjusted": ("normalized_margin", True),
}
"""Name to cleanlab's ``method`` and ``adjust_pred_probs``; the first is its default."""

RULES = (
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
)
"""cleanlab's ``filter_by``; the first is its default."""

CLIP = 1e-3
"""The least P(given = k | true = k) that cleanlab divides by."""

Probs = NDArray[np.floating]


def logistic(problem: Problem) -> Answers:
    """Judge by cleanlab, on 5 folds of logistic regression on the features labelfix saw."""
    pred_probs, settings = cross_validated(
        problem.feature_values(), problem.given_label, problem.classes, problem.seed
    )
    return judged([pred_probs], problem.given_label, settings)


def published(problem: Problem) -> Answers:
    """Judge by cleanlab, on the probabilities that the task gives; on all models of an ensemble."""
    if problem.pred_probs is None:
        raise AssertionError("the task gives probabilities")
    return judged(list(problem.pred_probs), problem.given_label, {})


def judged(
    models: list[Probs], given_label: NDArray[np.int64], settings: Mapping[str, Any]
) -> Answers:
    """Return what cleanlab makes of out-of-sample probabilities, score by score.

    Several models are joined as cleanlab joins them: scores by its ensemble function with default
    weights, flags on the average of the probabilities with the same weights.

    Args:
        models: M times ``(N, K)``.
        given_label: ``(N,)`` codes.
        settings: What shaped the probabilities.
    """
    pred_probs = _average(models, given_label)
    flags = {
        rule: find_label_issues(given_label, pred_probs, filter_by=rule, n_jobs=1) for rule in RULES
    }
    joint = compute_confident_joint(given_label, pred_probs)
    default = flags[RULES[0]]
    predicted = pred_probs.argmax(axis=1)
    common: dict[str, Any] = {
        "flags": flags,
        "suggested_label": suggestions(default, predicted, given_label),
        "predicted_label": predicted,
        "noise_rate": float(
            1 - np.trace(estimate_joint(given_label, pred_probs, confident_joint=joint))
        ),
        "sample_weight": class_weights(joint, given_label, default),
        "settings": settings,
    }
    return {
        name: MethodResult(
            score=1 - _quality(models, given_label, name),
            probability="1 - self_confidence" if name == "self_confidence" else "",
            **common,
        )
        for name in SCORES
    }


def class_weights(
    joint: NDArray[np.integer], given_label: NDArray[np.int64], flags: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return ``(N,)`` the weights of ``CleanLearning``: one a class, 0 for what is pruned."""
    _, noise_matrix, _ = estimate_latent(joint, given_label)
    of_class = 1 / np.maximum(np.diag(noise_matrix), CLIP)
    return np.where(flags, 0.0, of_class[given_label])


def _quality(
    models: list[Probs], given_label: NDArray[np.int64], score: str
) -> NDArray[np.float64]:
    method, is_adjusted = SCORES[score]
    options: dict[str, Any] = {"method": method, "adjust_pred_probs": is_adjusted}
    if len(models) == 1:
        quality = get_label_quality_scores(given_label, models[0], **options)
    else:
        quality = get_label_quality_ensemble_scores(given_label, models, verbose=False, **options)
    return np.asarray(quality, dtype=np.float64)


def _average(models: list[Probs], given_label: NDArray[np.int64]) -> Probs:
    """Return ``(N, K)``; the weights are the models' accuracies, as in the scores."""
    if len(models) == 1:
        return models[0]
    accuracy = np.array([(model.argmax(axis=1) == given_label).mean() for model in models])
    return np.tensordot(accuracy / accuracy.sum(), np.stack(models), axes=1)
