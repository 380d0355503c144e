"""cleanlab on the same footing: the same features or the same network, its own scores and rules.

Letters: N samples, K classes, M models.
"""

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from cleanlab.count import compute_confident_joint, estimate_joint, estimate_latent
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_ensemble_scores, get_label_quality_scores
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelfix.benchmark.problem import ANY_SCORE, MethodOutputs, MethodResult, Problem, suggestions


def datalab(problem: Problem) -> MethodOutputs:
    """``Datalab.find_issues(features=...)``, label issues only."""
    from cleanlab import Datalab  # heavy, and only installed with the extra `benchmark`

    given = problem.given_label
    with contextlib.redirect_stdout(io.StringIO()):
        lab = Datalab({"label": given}, label_name="label")
        values = problem.feature_values().astype(np.float32)
        lab.find_issues(features=values, issue_types={"label": {}})
    issues = lab.get_issues("label")
    flags = issues["is_label_issue"].to_numpy()
    predicted = issues["predicted_label"].to_numpy().astype(np.int64)
    return {
        ANY_SCORE: MethodResult(
            score=1 - issues["label_score"].to_numpy().astype(np.float64),
            probability="1 - label_score",
            flags={"is_label_issue": flags},
            suggested_label=suggestions(flags, predicted, given),
            predicted_label=predicted,
            noise_rate=float(flags.mean()),
        )
    }


FOLDS = 5
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for C, rising; the search ends where the likelihood falls.

scikit-learn's default of 1 is nearly free of regularization on so many features.
"""


def clean_probs(problem: Problem) -> NDArray[np.float64]:
    """Return ``(N, K)`` out-of-fold probabilities of the labels of a problem."""
    values, label = problem.feature_values(), problem.given_label
    return cross_validated(values, label, problem.classes, problem.seed)[0]


def cross_validated(
    values: NDArray[np.float16], label: NDArray[np.int64], classes: int, seed: int
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Return ``(N, K)`` out-of-fold probabilities, and the settings that were chosen.

    Features are standardised. C is the candidate under which the labels of the first fold are
    likeliest: as labelfix chooses its ball.

    Args:
        values: ``(N, D)``.
        label: ``(N,)`` codes.
        classes: K.
        seed: Of the folds.
    """
    inputs = values.astype(np.float32)
    splits = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(inputs, label))
    train, test = splits[0]
    best, least, of_first = STRENGTHS[0], np.inf, np.empty(0)
    for strength in STRENGTHS:
        probs = _probs(strength, inputs[train], label[train], inputs[test], classes)
        loss = float(log_loss(label[test], probs, labels=list(range(classes))))
        if loss > least:  # and those that come are worse still
            break
        best, least, of_first = strength, loss, probs
    pred_probs = np.zeros((len(label), classes))
    pred_probs[test] = of_first
    for train, test in splits[1:]:
        pred_probs[test] = _probs(best, inputs[train], label[train], inputs[test], classes)
    return pred_probs, {"C": best}


def _probs(
    strength: float,
    inputs: NDArray[np.float32],
    label: NDArray[np.int64],
    others: NDArray[np.float32],
    classes: int,
) -> NDArray[np.float64]:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    model.fit(inputs, label)
    probs = np.zeros((len(others), classes))
    probs[:, model.classes_] = model.predict_proba(others)  # a fold may lack a class
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))  # they came as float32


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


def logistic(problem: Problem) -> MethodOutputs:
    """Score by cleanlab, on 5 folds of logistic regression on the features labelfix saw."""
    pred_probs, settings = cross_validated(
        problem.feature_values(), problem.given_label, problem.classes, problem.seed
    )
    return scored([pred_probs], problem.given_label, settings)


def published(problem: Problem) -> MethodOutputs:
    """Score by cleanlab, on the probabilities that the task gives; on all models of an ensemble."""
    if problem.pred_probs is None:
        raise AssertionError("the task gives probabilities")
    return scored(list(problem.pred_probs), problem.given_label, {})


def scored(
    models: list[Probs], given_label: NDArray[np.int64], settings: Mapping[str, Any]
) -> MethodOutputs:
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
