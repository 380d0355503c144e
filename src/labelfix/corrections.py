"""From probabilities to advice: what to flag, what to suggest, how much to weigh.

Letters: N samples.
"""

import numpy as np
from numpy.typing import NDArray

from labelfix.config import FlagConfig
from labelfix.flagging import flag
from labelfix.records import MISSING, Corrections, LabelScores


def correct(scores: LabelScores, usable: NDArray[np.bool_], flags: FlagConfig) -> Corrections:
    """Return what to flag, what to suggest and how much each sample should count.

    ``sample_weight = (1 - label_error_probability) / mean``: the expected share of right labels
    that a sample adds. A usable sample that was not judged counts like the average one.

    Args:
        scores: Of N samples.
        usable: ``(N,)`` bool: the image can be read and has a label.
        flags: How many labels to flag.
    """
    wrong = scores.label_error_probability
    is_judged = ~np.isnan(wrong)
    is_issue = np.zeros(len(wrong), dtype=bool)
    is_issue[is_judged] = flag(
        wrong[is_judged],
        flags,
        scores.under_hypotheses[:, is_judged],
        # the label that all copies of an image would be suggested needs no flag itself
        None if scores.is_best_of_copies is None else scores.is_best_of_copies[is_judged],
    )
    right = np.zeros(len(wrong), dtype=np.float64)
    right[is_judged] = 1 - wrong[is_judged].astype(np.float64)
    right[usable & ~is_judged] = right[is_judged].mean() if is_judged.any() else 1.0
    mean = right.mean()
    weight = right / mean if mean > 0 else np.ones_like(right)
    return Corrections(
        is_label_issue=is_issue,
        suggested_label=np.where(is_issue, scores.alternative_label, MISSING),
        sample_weight=weight.astype(np.float32),
    )
