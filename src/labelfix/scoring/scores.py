"""From what training saw to how probable it is that each given label is wrong.

Letters: N samples, n of them scored, K classes.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import rankdata

from labelfix.config import ScoringConfig
from labelfix.data.probability_store import ArrayStore, ChosenColumns, ProbabilityStore, blocks
from labelfix.scoring.class_noise import anchor_matrix, anchor_rows, without_class_noise
from labelfix.scoring.copies import Copies
from labelfix.scoring.decisions import ReviewedSamples, posterior_over_noise_models, rerank_scores
from labelfix.scoring.many_classes import (
    CandidatePriors,
    SparseMixture,
    SparseNoise,
    noise_cells,
)
from labelfix.scoring.priors import (
    LEAST_PROBABILITY,
    LabelPriors,
    Mistakes,
    expected_counts,
    instead_of_zero,
    mistake_concentration,
    mistaken_share,
    posteriors,
    sharpened_priors,
    some_classes,
)
from labelfix.types import (
    MISSING,
    Codes,
    Evidence,
    LabelScores,
    NoiseCells,
    Reviewed,
    code_type,
)
from labelfix.utils.scratch import new_array
from labelfix.utils.threads import one_thread_each


def score_labels(
    evidence: Evidence,
    given_label: NDArray[np.int64],
    reviewed: Reviewed | None = None,
    copies: NDArray[np.int64] | None = None,
    config: ScoringConfig = ScoringConfig(),
) -> LabelScores:
    """Return how probable it is that each given label is wrong, from given labels and decisions.

    The out-of-sample probabilities are calibrated to the given labels; mistakes that are made
    whatever the sample looks like are taken out of them (`without_class_noise`). What doubt is left
    may be the model's or the labels': under each of four hypotheses the remaining probabilities,
    to the power 1, 2, 4 or 8, stand for the true label's distribution; a class-to-class noise
    matrix is fitted to the given labels by EM, and Bayes' rule joins the two:
    ``P(true = k | x, given) ~ P(true = k | x) * P(given | true = k)``. The scores are the means.

    What people decided is taken as the truth: it replaces what the model says of those samples, so
    that their probabilities are 0 or 1 and the matrices follow it. All other probabilities are
    reassigned in the order that the hypotheses give if each weighs as much as it makes the
    decisions likely (`labelfix.scoring.decisions`): how many are wrong stays as all hypotheses
    together have it.

    Byte-identical images have one true label, whatever labels they were given
    (`labelfix.scoring.copies`). A class that no scored sample was given is left out: nothing is
    known of what its samples are called, so it is never suggested, its probability counts for
    nothing, and its row of the noise matrix is that of a class that is never mistaken, from 0 to 1.

    Args:
        evidence: Of N samples.
        given_label: ``(N,)`` codes.
        reviewed: What people decided about them; ``None`` for nothing.
        copies: ``(N,)`` the same number for byte-identical images, ``MISSING`` for one that has no
            copy; ``None`` if that is not known.
        config: How to score.
    """
    rows = np.flatnonzero(~np.isnan(evidence.pred_probs[:, 0]))
    return score_probabilities(
        ArrayStore(evidence.pred_probs), rows, given_label, reviewed, copies, config
    )


def score_probabilities(
    probs: ProbabilityStore,
    rows: NDArray[np.int64],
    given_label: NDArray[np.int64],
    reviewed: Reviewed | None = None,
    copies: NDArray[np.int64] | None = None,
    config: ScoringConfig = ScoringConfig(),
) -> LabelScores:
    """Return what `score_labels` does, of probabilities that need not lie in memory.

    The work takes one array of n times K float32, and one pass over the probabilities.

    Args:
        probs: Of N samples, out-of-sample.
        rows: ``(n,)`` rising: the samples to score.
        given_label: ``(N,)`` codes.
        reviewed: What people decided about the N samples; ``None`` for nothing.
        copies: ``(N,)`` as `score_labels` has them.
        config: How to score.
    """
    decisions = Reviewed.nothing(len(probs)) if reviewed is None else reviewed
    known = np.flatnonzero(np.bincount(given_label[rows], minlength=probs.classes))
    if len(known) in (0, probs.classes):
        return _score(probs, rows, given_label, decisions, copies, config)
    code = np.full(probs.classes, MISSING, code_type(probs.classes))
    code[known] = np.arange(len(known))
    scores = _score(
        ChosenColumns(probs, known),
        rows,
        _coded(given_label, code),
        replace(
            decisions,
            label=_coded(decisions.label, code),
            # a label that no scored sample was given: whatever else it is, it is not the given one
            is_dropped=decisions.is_dropped
            | ((decisions.label != MISSING) & (_coded(decisions.label, code) == MISSING)),
        ),
        copies,
        config,
    )
    whole = probs.classes <= config.dense_classes
    return _of_all_classes(scores, known, probs.classes, given_label, decisions, whole=whole)


def _coded(label: Codes, code: Codes) -> Codes:
    return np.where(label == MISSING, code.dtype.type(MISSING), code[label])


def _of_all_classes(
    scores: LabelScores,
    known: NDArray[np.int64],
    classes: int,
    given_label: Codes,
    reviewed: Reviewed,
    *,
    whole: bool,
) -> LabelScores:
    """Return the scores in the codes of all K classes, from those of the known ones alone."""
    is_scored = ~np.isnan(scores.label_error_probability)
    name = known.astype(code_type(classes))
    predicted = _coded(scores.predicted_label, name)
    alternative = _coded(scores.alternative_label, name)
    probability = scores.alternative_probability.copy()
    is_none = is_scored & (alternative == given_label)  # where there is but one class
    alternative[is_none], probability[is_none] = MISSING, 0
    chosen = is_scored & (reviewed.label != MISSING) & ~np.isin(reviewed.label, known)
    alternative[chosen], probability[chosen] = reviewed.label[chosen], 1
    return replace(
        scores,
        predicted_label=predicted,
        alternative_label=alternative,
        alternative_probability=probability,
        noise=scores.noise.among(known, classes, whole=whole),
    )


def _score(
    probs: ProbabilityStore,
    rows: NDArray[np.int64],
    given_label: Codes,
    decisions: Reviewed,
    sets: NDArray[np.int64] | None,
    config: ScoringConfig,
) -> LabelScores:
    given = given_label[rows].astype(code_type(probs.classes))
    copies = Copies.among(sets, rows, given, decisions)
    temperature, zero = _temperature_and_zero(probs, rows, given, config)
    # our threads share the work, so a BLAS library must not start its own; nor must sums depend on
    # how many it would take
    with one_thread_each() as pool:
        priors = sharpened_priors(probs, rows, given, temperature, pool, zero=zero)
        if config.remove_class_noise:
            anchors = _anchors(priors, config)
            priors = without_class_noise(priors, anchors, pool, rounds=config.unmixing_rounds)
        reviewed_samples = ReviewedSamples.on(priors, decisions, rows)
        reviewed_samples.clamp_priors(priors)
        noises = _noises(priors, config, pool)
        scored = posteriors(priors, noises, pool)
        is_best = copies.score(scored, priors, noises)
        if len(reviewed_samples):
            weights = posterior_over_noise_models(
                reviewed_samples, noises, error_rate=config.decision_error_rate
            )
            weighted = posteriors(priors, noises, pool, weights)
            copies.score(weighted, priors, noises, weights)
            scored = rerank_scores(scored, weighted, reviewed_samples, copies)
            reviewed_samples.apply_decisions(scored)
    return LabelScores(
        label_error_probability=_spread(scored.wrong, rows, len(probs), np.nan),
        under_hypotheses=_spread(scored.under, rows, len(probs), np.nan),
        predicted_label=_spread(priors.predicted_label, rows, len(probs), MISSING),
        alternative_label=_spread(scored.alternative_label, rows, len(probs), MISSING),
        alternative_probability=_spread(scored.alternative_probability, rows, len(probs), np.nan),
        is_best_of_copies=_spread(is_best, rows, len(probs), False),
        noise=_cells(noises, scored.of_class, config),
        noise_rate=float(scored.wrong.mean(dtype=np.float64)),
        noise_rate_interval=rate_interval(
            scored.under.mean(axis=1, dtype=np.float64), len(rows), config.interval_deviations
        ),
    )


def rate_interval(rates: NDArray[np.float64], count: int, deviations: float) -> tuple[float, float]:
    """Return the interval that holds the share of wrong labels, by default with 90 %.

    From the lowest to the highest of the hypotheses, wider by what chance does to a share among so
    many samples. Each of four is as likely: an interval without one would hold no more than 75 %.

    Args:
        rates: ``(H,)`` the share under each hypothesis.
        count: n.
        deviations: So many standard deviations it is wider on each side.
    """
    low, high = rates.min(), rates.max()
    spread = deviations * np.sqrt(np.array([low * (1 - low), high * (1 - high)]) / count)
    return max(0.0, float(low - spread[0])), min(1.0, float(high + spread[1]))


def matrix_interval(
    matrices: NDArray[np.float64], of_class: NDArray[np.float64], deviations: float
) -> NDArray[np.float64]:
    """Return ``(2, K, K)`` between which each cell lies, by default with 90 %.

    As `rate_interval`; a row is a share among as many samples as are expected of its class.

    Args:
        matrices: ``(H, K, K)`` under each hypothesis.
        of_class: ``(K,)`` the expected samples of each true class.
        deviations: As `rate_interval` has them.
    """
    bounds: NDArray[np.float64] = np.stack([matrices.min(axis=0), matrices.max(axis=0)])
    spread = deviations * np.sqrt(bounds * (1 - bounds) / np.maximum(of_class, 1)[None, :, None])
    spread[0] *= -1
    return np.clip(bounds + spread, 0, 1)


def _anchors(priors: LabelPriors, config: ScoringConfig) -> NDArray[np.float32] | SparseMixture:
    if priors.classes <= config.dense_classes:
        return anchor_matrix(priors.spaced(config.fitted_samples), config)
    rows = anchor_rows(priors.spaced(config.fitted_samples, as_view=True), config)
    return SparseMixture.of_rows(rows, priors.classes, mistakes=config.distinct_mistakes)


def _noises(
    priors: LabelPriors, config: ScoringConfig, pool: ThreadPoolExecutor
) -> list[NDArray[np.float64]] | list[SparseNoise]:
    """Return the noise of each hypothesis, from the priors to the power 1, 2, 4 ..."""
    if priors.classes > config.dense_classes:
        some = CandidatePriors.of(priors, config, pool)
        return [fit_sparse_noise(some, number, config, pool) for number in range(config.hypotheses)]
    matrices = []
    priors = priors.spaced(config.fitted_samples)
    for number in range(config.hypotheses):
        if number:
            priors = priors.squared()
        matrices.append(fit_noise_matrix(priors, config, pool))
    return matrices


def _cells(
    noises: list[NDArray[np.float64]] | list[SparseNoise],
    of_class: NDArray[np.float64],
    config: ScoringConfig,
) -> NoiseCells:
    sparse = [noise for noise in noises if isinstance(noise, SparseNoise)]
    if sparse:
        return noise_cells(sparse, of_class, config)
    matrices = np.stack([noise for noise in noises if isinstance(noise, np.ndarray)])
    interval = matrix_interval(matrices, of_class, config.interval_deviations)
    return NoiseCells.of_matrix(matrices.mean(axis=0), interval)


def temperature_of(
    log_probs: NDArray[np.floating], label: Codes, log_range: tuple[float, float]
) -> float:
    """Return the temperature that makes the labels most likely (Guo et al., ICML 2017).

    Args:
        log_probs: ``(N, K)``.
        label: ``(N,)`` codes.
        log_range: Between which logarithms it is looked for.
    """
    shift = np.log(log_probs.shape[1]) / 2  # as in `sharpened_priors`
    logits = (log_probs + shift).astype(np.float32)
    own = logits[np.arange(len(label)), label].mean(dtype=np.float64)
    parts = [logits[block] for block in blocks(*logits.shape)]

    def loss(log_temperature: float) -> float:
        power = np.float32(np.exp(-log_temperature))
        totals = [np.log(_exp(part * power).sum(axis=1)).sum(dtype=np.float64) for part in parts]
        return float(sum(totals) / len(label) - power * own)

    best = minimize_scalar(loss, bounds=log_range, method="bounded", options={"xatol": 1e-3})
    return float(np.exp(best.x))


def fit_noise_matrix(
    priors: LabelPriors, config: ScoringConfig, pool: ThreadPoolExecutor
) -> NDArray[np.float64]:
    """Return ``(K, K)`` P(given = k | true = j) in row j, by expectation maximization.

    After every two rounds it leaps ahead along the way that they took (SQUAREM, scheme S3 of
    Varadhan and Roland, Scandinavian Journal of Statistics 2008): a third of the passes that plain
    rounds take, to the same end.

    Args:
        priors: P(true | x) of n samples.
        config: When to end, and what is taken for granted of each class.
        pool: The threads to use.
    """
    classes = priors.classes
    start = np.full((classes, classes), 0.1 / max(classes - 1, 1))
    np.fill_diagonal(start, 0.9)

    def renew(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return _renewed(priors, matrix, config, pool)

    return _leaping(start, renew, _as_rows, config)


def fit_sparse_noise(
    priors: CandidatePriors, hypothesis: int, config: ScoringConfig, pool: ThreadPoolExecutor
) -> SparseNoise:
    """Return what `fit_noise_matrix` does, of many classes.

    Args:
        priors: P(true | x) of some samples, for the classes that are told apart.
        hypothesis: Which power of them.
        config: As `fit_noise_matrix` has it.
        pool: The threads to use.
    """

    def renew(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        return priors.renewed(parameters, hypothesis, config, pool)

    return priors.noise(_leaping(priors.start(), renew, priors.as_rows, config))


def _leaping(
    parameters: NDArray[np.float64],
    renew: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    as_rows: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    config: ScoringConfig,
) -> NDArray[np.float64]:
    """Return where rounds of expectation maximization end.

    Args:
        parameters: Where they begin.
        renew: A round.
        as_rows: Scales parameters that a leap led to so that they are probabilities again.
        config: After how many leaps, or how small a change, to end.
    """
    for _ in range(config.em_leaps):
        first = renew(parameters)
        second = renew(first)
        step = first - parameters
        if np.abs(step).max() < config.em_tolerance:
            return second
        bend = second - first - step
        length = max(1.0, float(np.linalg.norm(step)) / max(float(np.linalg.norm(bend)), 1e-300))
        ahead = parameters + 2 * length * step + length**2 * bend
        parameters = renew(as_rows(np.maximum(ahead, second / 10)))
    return parameters


def _renewed(
    priors: LabelPriors,
    matrix: NDArray[np.float64],
    config: ScoringConfig,
    pool: ThreadPoolExecutor,
) -> NDArray[np.float64]:
    counts = expected_counts(priors, matrix, pool)
    classes = len(counts)
    own = np.diagonal(counts).copy()
    np.fill_diagonal(counts, 0)
    of_class = counts.sum(axis=1)
    rate = mistaken_share(own, of_class, config)
    some = some_classes(classes, config)
    nothing = np.zeros(len(some), np.int64)
    cells = counts[some][some[:, None] != np.arange(classes)]
    mistakes = Mistakes(of_class[some], cells, nothing.astype(np.float64), nothing)
    # which class a sample is mistaken for: far fewer samples tell than tell how often
    counts += mistake_concentration(mistakes, classes, config) / max(classes - 1, 1) + 1e-9
    np.fill_diagonal(counts, 0)
    renewed: NDArray[np.float64] = _as_rows(counts) * rate[:, None] if classes > 1 else counts
    np.fill_diagonal(renewed, 1 - rate)
    return renewed


def _as_rows(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _exp(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.exp(values, out=values)


def _temperature_and_zero(
    probs: ProbabilityStore,
    rows: NDArray[np.int64],
    given: Codes,
    config: ScoringConfig,
) -> tuple[float, float]:
    most = max(1, min(config.temperature_samples, config.temperature_values // probs.classes))
    some = np.arange(0, len(rows), -(-len(rows) // most))
    part = probs.read(rows[some])
    zero = instead_of_zero(part, given[some])
    log_probs = np.log(np.maximum(np.where(part <= 0, zero, part), LEAST_PROBABILITY))
    return temperature_of(log_probs, given[some], config.log_temperature_range), zero


def _spread(values: NDArray[Any], rows: NDArray[np.int64], size: int, empty: float) -> NDArray[Any]:
    """Return ``(..., size)`` values: ``values[..., i]`` at ``rows[i]``, ``empty`` elsewhere."""
    if len(rows) == size:  # they rise, so they are all
        return values
    spread = new_array((*values.shape[:-1], size), values.dtype)
    spread[...] = empty
    spread[..., rows] = values
    return spread


def score_with_margins(
    evidence: Evidence,
    given_label: NDArray[np.int64],
    reviewed: Reviewed | None = None,
    copies: NDArray[np.int64] | None = None,
    config: ScoringConfig = ScoringConfig(),
) -> LabelScores:
    """Return what `score_labels` does, in the order that margins and probabilities share.

    How many labels are wrong with which probability stays as the out-of-sample probabilities have
    it; who gets which goes by the weighted mean of two ranks, that of the probability and that of
    the mean margin (AUM: Pleiss et al., NeurIPS 2020, equation 1).

    Args:
        evidence: Of N samples; those without a margin, which no network was trained on, keep their
            probability.
        given_label: ``(N,)`` codes.
        reviewed: What people decided: those samples keep 0 or 1, whatever their margin.
        copies: ``(N,)`` the same number for byte-identical images, ``MISSING`` for one that has no
            copy; ``None`` if that is not known. Where their labels differ they keep their
            probability, so that at most one of them can be right; else all have the same one.
        config: How to score, and how much margins count.
    """
    scores = score_labels(evidence, given_label, reviewed, copies, config)
    if config.margin_weight == 0:
        return scores
    wrong = scores.label_error_probability
    decisions = Reviewed.nothing(len(wrong)) if reviewed is None else reviewed
    scored = np.flatnonzero(np.isfinite(wrong))
    same = Copies.among(copies, scored, given_label[scored], decisions).of_rows(scored)
    margin = same.evened(evidence.margin)
    is_open = np.isfinite(wrong) & np.isfinite(margin) & ~decisions.is_settled
    is_open[same.settled_samples] = False
    rows = np.flatnonzero(is_open)
    source = np.arange(len(wrong))
    source[rows] = rows[in_order_of_both(wrong[rows], margin[rows], config.margin_weight)]
    evened = same.evened(wrong[source])
    share = np.divide(evened, wrong, out=np.zeros_like(wrong), where=wrong > 0)
    return replace(
        scores,
        label_error_probability=evened,
        under_hypotheses=same.evened(scores.under_hypotheses[:, source]),
        alternative_probability=np.minimum(scores.alternative_probability * share, evened),
    )


def in_order_of_both(
    wrong: NDArray[np.float32], margin: NDArray[np.float32], margin_weight: float
) -> NDArray[np.int64]:
    """Return ``(N,)`` whose probability each gets: the highest goes to whom both ranks put first.

    Args:
        wrong: ``(N,)`` the probability that the given label is wrong.
        margin: ``(N,)`` logit units; low is probably wrong.
        margin_weight: How much the rank by margin counts, 0 to 1.
    """
    ranks = (1 - margin_weight) * rankdata(wrong) + margin_weight * rankdata(-margin)
    order = np.lexsort((-margin, wrong, ranks))
    source = np.empty(len(wrong), np.int64)
    source[order] = np.argsort(wrong, kind="stable")
    return source
