"""What heads and networks showed while they learned, beside what they say of what they never saw.

What is trained on a sample learns a right label early and a wrong one late, against the pull of its
own class: the mean margin over training tells them apart, in-sample. With few images that says more
than the probabilities of a network that has seen even fewer, and with many it errs elsewhere
(docs/experiments.md). Letters: N samples.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from labelfix.records import Evidence, LabelScores, Reviewed
from labelfix.scores import score_labels


def score_with_margins(
    evidence: Evidence, given_label: NDArray[np.int64], reviewed: Reviewed | None = None
) -> LabelScores:
    """Return what `score_labels` does, in the order that margins and probabilities share.

    How many labels are wrong with which probability stays as the out-of-sample probabilities have
    it; who gets which goes by the mean of two ranks, that of the probability and that of the mean
    margin (AUM: Pleiss et al., NeurIPS 2020, equation 1).

    Args:
        evidence: Of N samples; those without a margin, which no network was trained on, keep their
            probability.
        given_label: ``(N,)`` codes.
        reviewed: What people decided: those samples keep 0 or 1, whatever their margin.
    """
    scores = score_labels(evidence, given_label, reviewed)
    wrong = scores.label_error_probability
    is_open = np.isfinite(wrong) & np.isfinite(evidence.margin)
    if reviewed is not None:
        is_open &= ~reviewed.is_settled
    rows = np.flatnonzero(is_open)
    source = np.arange(len(wrong))
    source[rows] = rows[in_order_of_both(wrong[rows], evidence.margin[rows])]
    dealt = wrong[source]
    share = np.divide(dealt, wrong, out=np.zeros_like(wrong), where=wrong > 0)
    return replace(
        scores,
        label_error_probability=dealt,
        under_hypotheses=scores.under_hypotheses[:, source],
        alternative_probability=np.minimum(scores.alternative_probability * share, dealt),
    )


def in_order_of_both(wrong: NDArray[np.float32], margin: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return ``(N,)`` whose probability each gets: the highest goes to whom both ranks put first.

    Args:
        wrong: ``(N,)`` the probability that the given label is wrong.
        margin: ``(N,)`` logit units; low is probably wrong.
    """
    ranks = rankdata(wrong) + rankdata(-margin)
    order = np.lexsort((-margin, wrong, ranks))
    source = np.empty(len(wrong), np.int64)
    source[order] = np.argsort(wrong, kind="stable")
    return source
