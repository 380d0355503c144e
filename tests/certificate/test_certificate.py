"""A certificate: what is drawn, what follows, and that its intervals hold the truth."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from labelfix.certificate.inference import can_infer, expected_half_width, infer, recalibrate
from labelfix.certificate.sampling import draw_sample
from labelfix.config import CertificateConfig
from labelfix.errors import ConfigError, ReportError

CONFIG = CertificateConfig()


def population(seed, count=5000, *, bend=1.0):
    """Probabilities, flags, and errors as likely as they say to a power: 1 is calibrated."""
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.15, 0.6, count)
    is_wrong = rng.random(count) < probability**bend
    return probability, probability > 0.5, is_wrong


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(20, 120), st.booleans())
@example(2507, 33, 20, True)
def test_a_sample_holds_rows_once_and_every_stratum(seed, count, looks, with_flags):
    rng = np.random.default_rng(seed)
    probability = rng.choice([0.0, 0.5, 1.0, *rng.random(5)], count)
    probability[rng.random(count) < 0.1] = np.nan
    is_flagged = (probability > 0.5) & with_flags
    scored = np.flatnonzero(np.isfinite(probability))
    if not len(scored):
        with pytest.raises(ReportError, match="no label of the report was scored"):
            draw_sample(probability, is_flagged, looks, 0)
        return
    sample = draw_sample(probability, is_flagged, looks, seed)
    assert len(set(sample.row.tolist())) == len(sample) == min(looks, len(scored))
    assert np.isin(sample.row, scored).all()
    assert sample.size.sum() == len(scored)
    drawn = np.bincount(sample.stratum, minlength=len(sample.size))
    assert (drawn >= np.minimum(sample.size, CONFIG.least_of_stratum)).all()
    assert (drawn <= sample.size).all()
    assert (sample.is_flagged[sample.stratum] == is_flagged[sample.row]).all()
    assert (probability[sample.row] >= sample.lowest[sample.stratum]).all()
    again = draw_sample(probability, is_flagged, looks, seed)
    assert again.row.tolist() == sample.row.tolist()


def test_wherever_one_stops_each_stratum_has_had_its_share():
    probability, is_flagged, _ = population(0)
    sample = draw_sample(probability, is_flagged, 120, 0)
    whole = np.bincount(sample.stratum, minlength=len(sample.size))
    for upto in (30, 60, 90):
        so_far = np.bincount(sample.stratum[:upto], minlength=len(sample.size))
        assert (np.abs(so_far - whole * upto / 120) <= 2).all()


def test_estimates_equal_the_stratified_mean_of_a_naive_loop():
    probability, is_flagged, is_wrong = population(1)
    sample = draw_sample(probability, is_flagged, 100, 3)
    said = is_wrong[sample.row].astype(np.int8)
    said[::9] = -1
    assert can_infer(sample, said, CONFIG)
    shares = infer(sample, said)
    rate = flagged_wrong = all_wrong = flagged = 0.0
    for code, size in enumerate(sample.size):
        here = said[(sample.stratum == code) & (said >= 0)]
        rate += size / sample.size.sum() * here.mean()
        all_wrong += size * here.mean()
        flagged_wrong += size * here.mean() * sample.is_flagged[code]
        flagged += size * sample.is_flagged[code]
    assert shares.noise_rate.estimate == pytest.approx(rate)
    assert shares.precision.estimate == pytest.approx(flagged_wrong / flagged)
    assert shares.recall.estimate == pytest.approx(flagged_wrong / all_wrong)
    for share in (shares.noise_rate, shares.precision, shares.recall):
        assert 0 <= share.low <= share.estimate <= share.high <= 1
    assert sum(stratum.samples for stratum in shares.strata) == len(probability)
    assert [stratum.is_flagged for stratum in shares.strata] == sorted(sample.is_flagged)[::-1]


@pytest.mark.parametrize(("bend", "most"), [(1.0, 0.1), (0.4, 0.16), (3.0, 0.1)])
def test_intervals_hold_the_truth_as_often_as_they_say(bend, most):
    """Calibrated or far off, nine times of ten; 200 draws tell that within .04."""
    probability, is_flagged, is_wrong = population(2, bend=bend)
    config = CertificateConfig(draws=600)
    held = {"noise_rate": 0, "precision": 0, "recall": 0}
    truth = {
        "noise_rate": is_wrong.mean(),
        "precision": is_wrong[is_flagged].mean(),
        "recall": is_flagged[is_wrong].mean(),
    }
    widths = []
    for seed in range(200):
        sample = draw_sample(probability, is_flagged, 100, seed, config)
        shares = infer(sample, is_wrong[sample.row].astype(np.int8), config, seed)
        for name in held:
            share = getattr(shares, name)
            held[name] += share.low <= truth[name] <= share.high
        widths.append(shares.noise_rate.high - shares.noise_rate.low)
    for name, times in held.items():
        assert times / 200 >= 0.82, name
    assert np.mean(widths) < most
    assert expected_half_width(sample, config) < most


def test_no_error_seen_leaves_none_possible_and_looking_at_all_leaves_no_doubt():
    probability, is_flagged, is_wrong = population(3, count=60)
    sample = draw_sample(probability, is_flagged, 60, 0)
    said = is_wrong[sample.row].astype(np.int8)
    rate = infer(sample, said).noise_rate
    assert rate.low == pytest.approx(is_wrong.mean()) == pytest.approx(rate.high)
    probability, is_flagged, _ = population(4)
    sample = draw_sample(probability, is_flagged, 100, 0)
    shares = infer(sample, np.zeros(100, np.int8))
    assert (shares.noise_rate.estimate, shares.noise_rate.low, shares.recall) == (0, 0, None)
    assert 0 < shares.noise_rate.high < 0.07


def test_too_few_looks_are_refused():
    probability, is_flagged, _ = population(5)
    with pytest.raises(ConfigError, match="5 looks tell too little"):
        draw_sample(probability, is_flagged, 5, 0)
    sample = draw_sample(probability, is_flagged, 20, 0)
    assert not can_infer(sample, np.full(20, -1, np.int8), CONFIG)


@pytest.mark.parametrize("seed", range(8))
def test_calibration_is_the_isotonic_regression_of_the_strata(seed):
    probability, is_flagged, is_wrong = population(seed, bend=3.0 if seed % 2 else 0.4)
    sample = draw_sample(probability, is_flagged, 60, seed)
    said = is_wrong[sample.row].astype(np.int8)
    shares = infer(sample, said)
    seen, wrong = (np.bincount(sample.stratum, weight) for weight in (None, said))
    looks = seen + CONFIG.prior_looks
    expected = IsotonicRegression().fit_transform(
        sample.probability,
        (wrong + CONFIG.prior_looks * sample.probability) / looks,
        sample_weight=looks,
    )
    assert recalibrate(sample.probability, shares.calibration) == pytest.approx(expected)
    assert np.isnan(recalibrate(np.array([np.nan]), shares.calibration)).all()


def test_looks_correct_probabilities_that_are_off():
    probability, is_flagged, is_wrong = population(0, bend=4.0)
    errors = {"before": np.abs(probability - probability**4.0).mean()}
    sample = draw_sample(probability, is_flagged, 200, 0)
    shares = infer(sample, is_wrong[sample.row].astype(np.int8))
    after = recalibrate(probability, shares.calibration)
    errors["after"] = np.abs(after - probability**4.0).mean()
    assert errors["after"] < errors["before"] / 2
