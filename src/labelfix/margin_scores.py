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

from labelfix.copies import Copies
from labelfix.records import Evidence, LabelScores, Reviewed
from labelfix.scores import score_labels


def score_with_margins(
    evidence: Evidence,
    given_label: NDArray[np.int64],
    reviewed: Reviewed | None = None,
    copies: NDArray[np.int64] | None = None,
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
        copies: ``(N,)`` the same number for byte-identical images, ``MISSING`` for one that has no
            copy; ``None`` if that is not known. Where their labels differ they keep their
            probability, so that at most one of them can be right; else all have the same one.
    """
    scores = score_labels(evidence, given_label, reviewed, copies)
    wrong = scores.label_error_probability
    decisions = Reviewed.nothing(len(wrong)) if reviewed is None else reviewed
    judged = np.flatnonzero(np.isfinite(wrong))
    same = Copies.among(copies, judged, given_label[judged], decisions).of_rows(judged)
    margin = same.evened(evidence.margin)
    is_open = np.isfinite(wrong) & np.isfinite(margin) & ~decisions.is_settled
    is_open[same.settled_samples] = False
    rows = np.flatnonzero(is_open)
    source = np.arange(len(wrong))
    source[rows] = rows[in_order_of_both(wrong[rows], margin[rows])]
    dealt = same.evened(wrong[source])
    share = np.divide(dealt, wrong, out=np.zeros_like(wrong), where=wrong > 0)
    return replace(
        scores,
        label_error_probability=dealt,
        under_hypotheses=same.evened(scores.under_hypotheses[:, source]),
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
