"""How right a method was: the one place where its answer meets the truth.

Letters: N samples, W wrong labels, B bins.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    auc,
    average_precision_score,
    brier_score_loss,
    log_loss,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
)

from labelfix.benchmark.problem import BINS, MethodResult
from labelfix.types import MISSING

DRAWS = 100
"""Bootstrap draws behind a standard error; always the same draws for the same N."""

CURVE_POINTS = 50
FIRST = 100
DIGITS = 6

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """How right a method was.

    Args:
        figures: Name to figure; what is not defined (no wrong label, no probability) is left out.
        standard_errors: Name to standard error: of the bootstrap over samples for average
            precision, AUROC and F1; binomial for shares of a known number of samples.
        curves: ``recall`` and ``precision``, the highest precision at each recall or above;
            ``bin_mean``, ``bin_share`` and ``bin_count`` of a probability's reliability.
    """

    figures: Mapping[str, float]
    standard_errors: Mapping[str, float]
    curves: Mapping[str, Sequence[float]]


def score_result(
    result: MethodResult, given_label: NDArray[np.int64], true_label: NDArray[np.int64]
) -> Scored:
    """Compare what a method says with the truth.

    A sample that was not scored counts as the least suspicious one.

    Args:
        result: Of N samples.
        given_label: ``(N,)`` codes.
        true_label: ``(N,)`` codes.
    """
    is_wrong = given_label != true_label
    scored = ~np.isnan(result.score)
    score = _filled(result.score)
    flags = result.default_flags()
    figures: dict[str, float] = {
        "noise_rate": result.noise_rate,
        "noise_rate_error": abs(result.noise_rate - float(is_wrong.mean())),
        "true_noise_rate": float(is_wrong.mean()),
        "scored": float(scored.mean()),
        "flagged": float(flags.sum()),
        **_of_flags(result.flags, is_wrong),
        **_of_suggestions(result.suggested_label, flags, true_label, is_wrong),
    }
    if result.predicted_label is not None:
        figures["prediction_accuracy"] = float((result.predicted_label == true_label).mean())
    errors = _errors_of_shares(flags, is_wrong, figures)
    curves: dict[str, list[float]] = {}
    if is_wrong.any() and not is_wrong.all():
        figures |= _of_ranking(score, is_wrong)
        errors |= _bootstrap(score, flags, is_wrong)
        curves |= precision_at_recalls(score, is_wrong)
        errors |= _errors_of_first(figures, int(is_wrong.sum()))
    if result.probability:
        probability = np.clip(result.score[scored], 0, 1)
        curves |= reliability(probability, is_wrong[scored])
        figures |= _of_probability(probability, is_wrong[scored], curves)
    return Scored(
        _known(figures),
        _known(errors),
        {name: [round(value, DIGITS) for value in values] for name, values in curves.items()},
    )


def precision_at_recalls(score: Floats, is_wrong: Bools) -> dict[str, list[float]]:
    """Return the highest precision at each of evenly spread recalls, or above it."""
    precision, recall, _ = precision_recall_curve(is_wrong, score)
    rising = np.maximum.accumulate(precision)  # recall falls: the best at this recall or more
    at = np.arange(1, CURVE_POINTS + 1) / CURVE_POINTS
    place = np.searchsorted(-recall, -at + 1e-12, side="right") - 1
    return {"recall": at.tolist(), "precision": rising[place].tolist()}


def reliability(probability: Floats, is_wrong: Bools) -> dict[str, list[float]]:
    """Return what was claimed and what was so, bin by bin; empty bins are left out."""
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    claimed = np.bincount(place, probability, minlength=BINS)
    wrong = np.bincount(place, is_wrong, minlength=BINS)
    held = count > 0
    return {
        "bin_mean": (claimed[held] / count[held]).tolist(),
        "bin_share": (wrong[held] / count[held]).tolist(),
        "bin_count": count[held].astype(float).tolist(),
    }


def calibration_error(bins: Mapping[str, Sequence[float]]) -> float:
    """Return the mean distance between claim and share over samples (ECE), from `reliability`."""
    count = np.array(bins["bin_count"])
    distance = np.abs(np.array(bins["bin_mean"]) - np.array(bins["bin_share"]))
    return float((count * distance).sum() / count.sum())


def _of_ranking(score: Floats, is_wrong: Bools) -> dict[str, float]:
    precision, recall, _ = precision_recall_curve(is_wrong, score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    found = {
        "average_precision": float(average_precision_score(is_wrong, score)),
        "auroc": float(roc_auc_score(is_wrong, score)),
        "f1_best_threshold": float(f1.max()),
        "precision_at_errors": precision_at(int(is_wrong.sum()), score, is_wrong),
    }
    if len(score) >= FIRST:
        found[f"precision_at_{FIRST}"] = precision_at(FIRST, score, is_wrong)
    return found


def precision_at(count: int, score: Floats, is_wrong: Bools) -> float:
    """Return the share of wrong labels among so many of the highest scores.

    Of equal scores at the end of the list any may be in it: what is to be expected counts, not the
    order of the rows.
    """
    last = np.partition(score, len(score) - count)[len(score) - count]
    above, equal = score > last, score == last
    of_equal = (count - int(above.sum())) * float(is_wrong[equal].mean())
    return float((is_wrong[above].sum() + of_equal) / count)


def _of_flags(flags: Mapping[str, Bools], is_wrong: Bools) -> dict[str, float]:
    figures: dict[str, float] = {}
    for rule, flagged in flags.items():
        precision, recall, f1, _ = precision_recall_fscore_support(
            is_wrong, flagged, average="binary", zero_division=0
        )
        of_rule = {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
        if not figures:
            figures |= of_rule
        figures |= {f"{name}:{rule}": value for name, value in of_rule.items()}
    figures["f1_best_rule"] = max(figures[f"f1:{rule}"] for rule in flags)
    return figures


def _of_suggestions(
    suggested: NDArray[np.int64], flags: Bools, truth: NDArray[np.int64], is_wrong: Bools
) -> dict[str, float]:
    if (suggested == MISSING).all():  # a method that suggests nothing is not wrong either
        return {"suggestion_accuracy": math.nan, "suggestion_accuracy_of_errors": math.nan}
    is_right = (suggested == truth) & (suggested != MISSING)
    found = flags & is_wrong
    return {
        "suggestion_accuracy": float(is_right[flags].mean()) if flags.any() else math.nan,
        "suggestion_accuracy_of_errors": float(is_right[found].mean()) if found.any() else math.nan,
    }


def _of_probability(
    probability: Floats, is_wrong: Bools, bins: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    # float64, or the clip of log_loss would let a certain 1 through as 1
    return {
        "calibration_error": calibration_error(bins),
        "brier": float(brier_score_loss(is_wrong, probability)),
        "log_loss": float(log_loss(is_wrong, probability.astype(np.float64), labels=[0, 1])),
    }


def _bootstrap(score: Floats, flags: Bools, is_wrong: Bools) -> dict[str, float]:
    rng = np.random.default_rng(0)
    ranked = Ranked.of(score, is_wrong)
    drawn: dict[str, list[float]] = {"average_precision": [], "auroc": [], "f1": []}
    for _ in range(DRAWS):
        weight = np.bincount(rng.integers(0, len(score), len(score)), minlength=len(score))
        if not weight[is_wrong].any() or not weight[~is_wrong].any():
            continue
        average_precision, auroc = ranked.figures(weight)
        drawn["average_precision"].append(average_precision)
        drawn["auroc"].append(auroc)
        hit, said, wrong = (weight[mask].sum() for mask in (flags & is_wrong, flags, is_wrong))
        drawn["f1"].append(float(2 * hit / (said + wrong)))
    return {name: float(np.std(values, ddof=1)) for name, values in drawn.items() if values[1:]}


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Samples in falling order of a score: sorted once for all the draws of a bootstrap.

    Args:
        order: ``(N,)`` rows.
        ends: The last place of each run of equal scores.
        is_wrong: ``(N,)`` in that order.
    """

    order: NDArray[np.int64]
    ends: NDArray[np.int64]
    is_wrong: Bools

    @classmethod
    def of(cls, score: Floats, is_wrong: Bools) -> "Ranked":
        """Sort the samples."""
        order = np.argsort(-score, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
        return cls(order, ends, is_wrong[order])

    def figures(self, weight: NDArray[np.int64]) -> tuple[float, float]:
        """Return average precision and AUROC where sample i counts ``weight[i]`` times."""
        in_order = weight[self.order]
        said = np.cumsum(in_order)[self.ends]
        hit = np.cumsum(in_order * self.is_wrong)[self.ends]
        recall, false = hit / hit[-1], (said - hit) / (said[-1] - hit[-1])
        precision = hit / np.maximum(said, 1)
        average_precision = np.diff(recall, prepend=0.0) @ precision
        return float(average_precision), float(auc(np.r_[0, false], np.r_[0, recall]))


def _errors_of_shares(
    flags: Bools, is_wrong: Bools, figures: Mapping[str, float]
) -> dict[str, float]:
    counts = {
        "precision": int(flags.sum()),
        "recall": int(is_wrong.sum()),
        "suggestion_accuracy": int(flags.sum()),
        "suggestion_accuracy_of_errors": int((flags & is_wrong).sum()),
    }
    return {name: binomial_error(figures[name], count) for name, count in counts.items()}


def _errors_of_first(figures: Mapping[str, float], wrong: int) -> dict[str, float]:
    counts = {"precision_at_errors": wrong, f"precision_at_{FIRST}": FIRST}
    return {
        name: binomial_error(figures[name], count)
        for name, count in counts.items()
        if name in figures
    }


def binomial_error(share: float, count: int) -> float:
    """Return the standard error of a share of so many samples; NaN of none."""
    return math.sqrt(share * (1 - share) / count) if count else math.nan


def _filled(score: Floats) -> Floats:
    """Return the scores with those of samples that were not scored below all others."""
    scored = ~np.isnan(score)
    lowest = float(score[scored].min()) if scored.any() else 0.0
    return np.where(scored, score, lowest - 1)


def _known(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in figures.items() if math.isfinite(value)}
