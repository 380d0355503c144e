"""labelfix on probabilities of others: a module without torch, as it needs none.

Letters: N samples.
"""

import numpy as np

from labelfix.benchmark.problem import ANY_SCORE, MethodOutputs, MethodResult, Problem
from labelfix.config import FlagConfig
from labelfix.scoring.flags import correct
from labelfix.scoring.scores import score_labels
from labelfix.types import Evidence


def published(problem: Problem) -> MethodOutputs:
    """What labelfix makes of the probabilities that the task gives; of several, of their mean."""
    if problem.pred_probs is None:
        raise AssertionError("the task gives probabilities")
    count = len(problem)
    evidence = Evidence(
        pred_probs=problem.pred_probs.mean(axis=0).astype(np.float32),
        fold=np.zeros(count, dtype=np.int16),
        margin=np.full(count, np.nan, dtype=np.float32),
        self_label=problem.given_label,
    )
    scores = score_labels(evidence, problem.given_label)
    corrections = correct(scores, np.ones(count, dtype=bool), FlagConfig())
    return {
        ANY_SCORE: MethodResult(
            score=scores.label_error_probability.astype(np.float64),
            probability="label_error_probability",
            flags={"is_label_issue": corrections.is_label_issue},
            suggested_label=corrections.suggested_label,
            predicted_label=scores.predicted_label,
            noise_rate=scores.noise_rate,
            sample_weight=corrections.sample_weight.astype(np.float64),
        )
    }
