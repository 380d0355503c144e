import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics

from labelfix.benchmark.metrics import (
    Ranked,
    calibration_error,
    precision_at,
    precision_at_recalls,
    reliability,
    score_result,
)
from labelfix.benchmark.problem import BINS, MethodResult, read_answers, suggestions, write_answers
from labelfix.types import MISSING


def problem(samples=400, classes=4, rate=0.3, seed=0):
    """Return true and given labels, and a score that is high where they differ, with noise."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, samples)
    given_label = np.where(rng.random(samples) < rate, rng.integers(0, classes, samples), truth)
    score = 1 / (1 + np.exp(-(2.0 * (given_label != truth) - 1 + rng.normal(size=samples))))
    return truth, given_label, score


def result_of(score, flags=None, **more):
    values = {
        "score": score,
        "flags": flags or {"half": score > 0.5},
        "suggested_label": np.full(len(score), MISSING),
        "noise_rate": 0.25,
        "probability": "score",
    }
    return MethodResult(**{**values, **more})


def test_the_figures_are_those_of_scikit_learn():
    truth, given_label, score = problem()
    is_wrong = truth != given_label
    rules = {"half": score > 0.5, "most": score > 0.2}
    scored = score_result(result_of(score, rules), given_label, truth)
    expected = {
        "average_precision": metrics.average_precision_score(is_wrong, score),
        "auroc": metrics.roc_auc_score(is_wrong, score),
        "brier": metrics.brier_score_loss(is_wrong, score),
        "log_loss": metrics.log_loss(is_wrong, score),
        "true_noise_rate": is_wrong.mean(),
        "noise_rate_error": abs(0.25 - is_wrong.mean()),
        "f1": metrics.f1_score(is_wrong, rules["half"]),
        "scored": 1.0,
    }
    for rule, flags in rules.items():
        expected[f"f1:{rule}"] = metrics.f1_score(is_wrong, flags)
        expected[f"precision:{rule}"] = metrics.precision_score(is_wrong, flags)
        expected[f"recall:{rule}"] = metrics.recall_score(is_wrong, flags)
    expected["f1_best_rule"] = max(expected["f1:half"], expected["f1:most"])
    for name, value in expected.items():
        assert scored.figures[name] == pytest.approx(value, abs=1e-6), name


def test_the_first_rows_and_the_best_threshold_are_those_of_a_naive_loop():
    truth, given_label, score = problem()
    is_wrong = truth != given_label
    figures = score_result(result_of(score), given_label, truth).figures
    order = sorted(range(len(score)), key=lambda row: -score[row])
    for name, count in {"precision_at_100": 100, "precision_at_errors": is_wrong.sum()}.items():
        found = sum(is_wrong[row] for row in order[:count])
        assert figures[name] == pytest.approx(found / count, abs=1e-6)
    best = 0.0
    for threshold in score:
        flags = score >= threshold
        best = max(best, 2 * (flags & is_wrong).sum() / (flags.sum() + is_wrong.sum()))
    assert figures["f1_best_threshold"] == pytest.approx(best, abs=1e-6)


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=3, max_size=30
    )
)
def test_the_draws_of_the_bootstrap_are_figures_of_scikit_learn(samples):
    score = np.array([s / 4 for s, _, _ in samples])
    is_wrong = np.array([wrong for _, wrong, _ in samples])
    weight = np.array([count for _, _, count in samples])
    assume(weight[is_wrong].any() and weight[~is_wrong].any())
    average_precision, auroc = Ranked.of(score, is_wrong).figures(weight)
    expected = metrics.average_precision_score(is_wrong, score, sample_weight=weight)
    assert average_precision == pytest.approx(expected)
    assert auroc == pytest.approx(metrics.roc_auc_score(is_wrong, score, sample_weight=weight))


def test_the_order_of_equal_scores_does_not_count():
    is_wrong = np.array([True, False, True, True, False, False])
    score = np.array([0.9, 0.8, 0.5, 0.5, 0.5, 0.1])
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]):
        found = precision_at(3, score[order], is_wrong[order])
        assert found == pytest.approx((1 + 2 / 3) / 3)


def test_suggestions_count_over_flags_and_over_the_errors_among_them():
    truth = np.array([0, 0, 1, 1, 2, 2])
    given_label = np.array([0, 1, 2, 0, 2, 0])  # rows 1, 2, 3 and 5 are wrong
    flags = np.array([True, True, True, False, False, True])
    suggested = np.array([1, 0, 0, 1, MISSING, 2])  # right in rows 1, 3 and 5
    predicted = np.array([0, 0, 1, 0, 2, MISSING])
    result = result_of(
        np.linspace(0, 1, 6), {"rule": flags}, suggested_label=suggested, predicted_label=predicted
    )
    figures = score_result(result, given_label, truth).figures
    assert figures["suggestion_accuracy"] == pytest.approx(2 / 4)
    assert figures["suggestion_accuracy_of_errors"] == pytest.approx(2 / 3, abs=1e-6)
    assert figures["flagged"] == 4
    assert figures["prediction_accuracy"] == pytest.approx(4 / 6, abs=1e-6)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
)
def test_the_calibration_error_is_that_of_a_naive_loop(pairs):
    probability = np.array([p for p, _ in pairs])
    is_wrong = np.array([wrong for _, wrong in pairs])
    expected = 0.0
    for number in range(BINS):
        inside = [(p, w) for p, w in pairs if min(int(p * BINS), BINS - 1) == number]
        if inside:
            gap = np.mean([p for p, _ in inside]) - np.mean([w for _, w in inside])
            expected += len(inside) / len(pairs) * abs(gap)
    bins = reliability(probability, is_wrong)
    assert calibration_error(bins) == pytest.approx(expected, abs=1e-12)
    assert sum(bins["bin_count"]) == len(pairs)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40),
)
def test_the_curve_holds_the_best_precision_at_each_recall_or_more(pairs):
    score = np.array([s / 5 for s, _ in pairs])
    is_wrong = np.array([wrong for _, wrong in pairs])
    assume(is_wrong.any() and not is_wrong.all())
    curves = precision_at_recalls(score, is_wrong)
    points = []
    for threshold in set(score.tolist()):
        flags = score >= threshold
        hit = (flags & is_wrong).sum()
        points.append((hit / is_wrong.sum(), hit / flags.sum()))
    for recall, precision in zip(curves["recall"], curves["precision"], strict=True):
        best = max(p for r, p in points if r >= recall - 1e-9)
        assert precision == pytest.approx(best, abs=1e-6)


def test_standard_errors_are_what_new_data_would_show():
    drawn = []
    for seed in range(30):
        truth, given_label, score = problem(seed=seed)
        drawn.append(score_result(result_of(score), given_label, truth))
    for name in ("average_precision", "auroc", "f1", "precision", "precision_at_100"):
        spread = np.std([one.figures[name] for one in drawn], ddof=1)
        told = np.mean([one.standard_errors[name] for one in drawn])
        assert told == pytest.approx(spread, rel=0.4), name
    again = score_result(result_of(score), given_label, truth)
    assert again.standard_errors == drawn[-1].standard_errors


def test_a_sample_that_was_not_scored_is_the_least_suspicious():
    truth, given_label, score = problem()
    hidden = np.flatnonzero(truth != given_label)[:20]
    score[hidden] = np.nan
    figures = score_result(result_of(score), given_label, truth).figures
    assert figures["scored"] == pytest.approx(1 - 20 / 400)
    filled = np.nan_to_num(score, nan=-1.0)
    expected = metrics.average_precision_score(truth != given_label, filled)
    assert figures["average_precision"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("is_wrong", [False, True])
def test_what_is_not_defined_is_left_out(is_wrong):
    truth = np.zeros(120, dtype=np.int64)
    given_label = truth + is_wrong
    silent = result_of(
        np.linspace(0, 1, 120),
        {"none": np.zeros(120, dtype=bool)},
        noise_rate=math.nan,
        probability="",
    )
    scored = score_result(silent, given_label, truth)
    assert scored.figures["f1"] == 0
    assert {"average_precision", "auroc", "noise_rate", "suggestion_accuracy", "brier"}.isdisjoint(
        scored.figures
    )
    assert scored.curves == {}
    assert all(map(math.isfinite, [*scored.figures.values(), *scored.standard_errors.values()]))


def test_answers_come_back_as_they_were_written(tmp_path):
    _, given_label, score = problem(samples=30)
    full = result_of(
        score,
        {"a/b": score > 0.5, "all": score > -1},
        sample_weight=score * 2,
        clean_label=given_label,
        clean_weight=score * 3,
        settings={"C": 0.1},
    )
    bare = result_of(-score, noise_rate=math.nan, probability="")
    write_answers({"one/score": full, "": bare}, tmp_path / "answers.npz")
    back = read_answers(tmp_path / "answers.npz")
    assert list(back) == ["one/score", ""]
    assert list(back["one/score"].flags) == ["a/b", "all"]
    for name in ("score", "suggested_label", "sample_weight", "clean_label", "clean_weight"):
        assert np.array_equal(getattr(back["one/score"], name), getattr(full, name))
    assert np.array_equal(back["one/score"].default_flags(), full.default_flags())
    assert back["one/score"].settings == {"C": 0.1}
    assert back[""].sample_weight is None
    assert math.isnan(back[""].noise_rate)


def test_an_answer_of_the_wrong_shape_is_told():
    score = np.zeros(5)
    assert result_of(score).lacks(5) == ""
    assert "score has the shape (5,)" in result_of(score).lacks(6)
    short = result_of(score, {"rule": np.zeros(4, dtype=bool)})
    assert "flags rule has the shape (4,)" in short.lacks(5)
    assert result_of(score * np.nan).lacks(5) == "every score is NaN"


def test_a_suggestion_is_another_class():
    flags = np.array([True, True, False])
    told = suggestions(flags, np.array([1, 0, 1]), np.array([0, 0, 0]))
    assert told.tolist() == [1, MISSING, MISSING]
