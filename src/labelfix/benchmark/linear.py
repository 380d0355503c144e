"""Cross-validated logistic regression, cleanlab's usual companion.

Instance-dependent noise is made of its mistakes too. Letters: N samples, D features, K classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelfix.benchmark.records import Problem

FOLDS = 5
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Candidates for C, rising; the search ends where the likelihood falls.

scikit-learn's default of 1 is nearly free of regularisation on so many features.
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
