"""The order of a review: every suspect once, the surest first, random checks in between."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from labelfix.review.queue import CHECK_EVERY, order_with_checks

SIZES = st.integers(0, 400)
SEEDS = st.integers(0, 2**32)


@given(SEEDS, SIZES, st.floats(0, 1))
def test_every_suspect_comes_once_in_order(seed: int, size: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random(size).astype(np.float32)
    p[rng.random(size) < 0.1] = np.nan
    flags = (rng.random(size) < share) & np.isfinite(p)
    order = order_with_checks(p, flags, seed)
    assert len(set(order.row.tolist())) == len(order)
    assert set(np.flatnonzero(flags)) <= set(order.row.tolist())
    in_order = order.row[~order.is_check]
    assert np.all(flags[in_order])
    assert np.all(np.diff(p[in_order]) <= 0)
    assert np.all(np.isfinite(p[order.row]))
    again = order_with_checks(p, flags, seed)
    np.testing.assert_array_equal(again.row, order.row)


def test_checks_come_as_often_as_is_said_and_of_both_kinds() -> None:
    rng = np.random.default_rng(0)
    p = np.sort(rng.random(20_000))[::-1]
    flags = np.arange(20_000) < 2_000
    order = order_with_checks(p, flags, 1)
    checks = order.row[order.is_check]
    assert abs(len(checks) / len(order) - 1 / CHECK_EVERY) < 0.02
    missed = checks[~flags[checks]]
    early = checks[flags[checks]]
    assert len(missed) > 50
    assert len(early) > 50
    # a check among the flags is drawn from all of them, wherever the review stands
    first = order.row[:400][order.is_check[:400]]
    assert first[flags[first]].mean() > 700


def test_doubtful_labels_without_a_flag_are_checked_more_often() -> None:
    p = np.concatenate([np.full(900, 0.9), np.full(5_000, 0.3), np.full(5_000, 0.001)])
    order = order_with_checks(p, p > 0.5, 3)
    missed = order.row[order.is_check & (p[order.row] < 0.5)]
    doubtful = np.count_nonzero(p[missed] == 0.3)
    assert doubtful > 3 * (len(missed) - doubtful) > 0
