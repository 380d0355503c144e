import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelfix.config import FlagConfig
from labelfix.errors import ConfigError
from labelfix.scoring.flags import expected_quality, flag

LEAST = FlagConfig().least_probability

probabilities = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12).map(
    lambda values: np.array(values, np.float32)
)


def expected_f1(wrong, flags):
    return 2 * wrong[flags].sum() / max(flags.sum() + wrong.sum(), 1e-12)


def whole_ties(wrong):
    """Return every set of flags that takes the worst, and of equals all or none."""
    return [np.zeros(len(wrong), bool), *(wrong >= value for value in np.unique(wrong[wrong > 0]))]


@given(probabilities)
def test_no_other_credible_flags_have_a_higher_expected_f1(wrong):
    wrong = wrong.astype(np.float64)
    flags = flag(wrong, FlagConfig())
    best = expected_f1(wrong, flags)
    every = ((np.arange(2 ** len(wrong))[:, None] >> np.arange(len(wrong))) & 1).astype(bool)
    credible = [one for one in every if (wrong[one] >= LEAST).all()]
    assert best >= max(expected_f1(wrong, one) for one in credible) - 1e-9
    assert (wrong[flags] >= LEAST).all()


@given(st.integers(1, 4), st.integers(1, 8), st.integers(0, 10_000))
def test_no_other_number_of_flags_reaches_more_of_what_each_hypothesis_allows(many, size, seed):
    rng = np.random.default_rng(seed)
    under = rng.beta(0.4, 1, (many, size)) * rng.random((many, 1))
    wrong = under.mean(axis=0)
    order = np.argsort(-wrong)
    credible = int((wrong >= LEAST).sum())

    def share(count):
        flags = np.isin(np.arange(size), order[:count])
        reached = [
            expected_f1(one, flags)
            / max(expected_f1(one, np.isin(np.arange(size), order[:k])) for k in range(1, size + 1))
            for one in under
        ]
        return np.mean(reached)

    flags = flag(wrong, FlagConfig(), under)
    assert set(np.flatnonzero(flags)) == set(order[: flags.sum()])
    assert flags.any() == (credible > 0)
    assert share(flags.sum()) >= max(share(count) for count in range(credible + 1)) - 1e-9


ties = st.lists(st.sampled_from([0.0, 1e-7, 0.01, 0.05, 0.2, 0.5, 0.5, 1.0]), min_size=1).map(
    lambda values: np.array(values, np.float32)
)
asked = st.one_of(
    st.just(FlagConfig()),
    st.integers(0, 12).map(lambda budget: FlagConfig(budget=budget)),
    st.floats(0.01, 1).map(lambda precision: FlagConfig(precision=precision)),
)


def test_many_samples_are_flagged_as_if_their_sums_were_taken_at_once():
    """In blocks, sums are those of all samples, bit for bit."""
    rng = np.random.default_rng(5)
    under = rng.beta(0.2, 1, (4, 600_001)).astype(np.float32)
    wrong = under.mean(axis=0)
    falling = np.argsort(-wrong, kind="stable")
    shares = []
    for one in under:
        found = np.cumsum(one[falling], dtype=np.float64)
        f1 = 2 * found / (np.arange(1, len(found) + 1) + one.sum(dtype=np.float64))
        shares.append(f1 / f1.max())
    values = wrong[falling]
    ends = np.flatnonzero(np.diff(values, append=-1)) + 1
    ends = ends[values[ends - 1] >= LEAST]
    best = ends[np.argmax(np.mean(shares, axis=0)[ends - 1])]
    flags = flag(wrong, FlagConfig(), under)
    assert np.array_equal(np.sort(falling[:best]), np.flatnonzero(flags))


@given(ties, asked, st.integers(0, 3))
def test_equally_probable_errors_are_flagged_together_or_not_at_all(wrong, config, seed):
    flags = flag(wrong, config)
    assert any(np.array_equal(flags, one) for one in whole_ties(wrong))
    if config.budget is not None:
        fitting = [one.sum() for one in whole_ties(wrong) if one.sum() <= config.budget]
        assert flags.sum() == max(fitting)
    order = np.random.default_rng(seed).permutation(len(wrong))
    np.testing.assert_array_equal(flag(wrong[order], config), flags[order])


def test_nothing_is_flagged_where_no_error_is_credible():
    assert not flag(np.full(2000, 1e-7), FlagConfig()).any()
    assert flag(np.array([1e-7] * 2000 + [0.9]), FlagConfig()).sum() == 1


def test_a_label_that_is_spared_makes_way_for_the_next():
    wrong, spared = np.array([0.9, 0.8, 0.7]), np.array([False, True, False])
    assert flag(wrong, FlagConfig(budget=2), spared=spared).tolist() == [True, False, True]
    assert flag(wrong, FlagConfig(), spared=spared).tolist() == [True, False, True]


def test_a_hypothesis_of_many_errors_does_not_decide_alone():
    few, many = np.zeros(100), np.full(100, 0.6)
    few[:10] = many[:10] = 1.0
    wrong = (few + many) / 2
    assert flag(wrong, FlagConfig()).sum() == 100
    assert flag(wrong, FlagConfig(), np.stack([few, many])).sum() == 10


def test_flags_of_calibrated_probabilities_are_as_good_as_expected():
    rng = np.random.default_rng(0)
    wrong = rng.beta(0.2, 1.5, 50_000)
    is_wrong = rng.random(50_000) < wrong
    flags = flag(wrong, FlagConfig())
    expected = expected_quality(wrong, flags)
    assert math.isclose(is_wrong[flags].mean(), expected.precision, abs_tol=0.02)
    assert math.isclose(flags[is_wrong].mean(), expected.recall, abs_tol=0.02)
    truth = [
        expected_f1(is_wrong.astype(float), wrong > threshold)
        for threshold in np.linspace(0.05, 0.95, 19)
    ]
    assert expected_f1(is_wrong.astype(float), flags) > max(truth) - 0.005


@given(probabilities, st.floats(0.01, 1))
def test_a_precision_is_kept_and_not_one_flag_wasted(wrong, precision):
    flags = flag(wrong, FlagConfig(precision=precision))
    if flags.any():
        assert wrong[flags].mean(dtype=np.float64) >= precision - 1e-6
    for one in whole_ties(wrong):
        if one.sum() > flags.sum():
            assert wrong[one].mean(dtype=np.float64) < precision + 1e-6


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12, unique=True), st.integers(0, 20)
)
def test_a_budget_takes_the_most_probable_errors(values, budget):
    wrong = np.array(values, np.float32)
    flags = flag(wrong, FlagConfig(budget=budget))
    assert flags.sum() == min(budget, np.count_nonzero(wrong))
    if flags.any() and not flags.all():
        assert wrong[flags].min() >= wrong[~flags].max()


def test_nothing_is_flagged_where_nothing_can_be_wrong():
    flags = flag(np.zeros(5, np.float32), FlagConfig())
    assert not flags.any()
    quality = expected_quality(np.zeros(5, np.float32), flags)
    assert quality.flagged == 0
    assert math.isnan(quality.precision)
    assert math.isnan(quality.recall)


@pytest.mark.parametrize(
    "wanted",
    [{"precision": 0.0}, {"precision": 1.5}, {"budget": -1}, {"precision": 0.9, "budget": 5}],
)
def test_wishes_that_cannot_be_met_are_refused(wanted):
    with pytest.raises(ConfigError):
        FlagConfig(**wanted)
