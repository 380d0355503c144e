"""The running estimate of a review: honest about what it does not know."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.review.estimate import NOT_WORTH_IT, estimate

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from review_estimate import drawn, measure  # the script that states the figures

REVIEWS = 200


def populations() -> Iterator:
    for number in range(REVIEWS):
        yield drawn(np.random.default_rng([17, number]))


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rows = measure("drawn", populations(), 17, stops=(120,))
    assert {row["figure"] for row in rows} >= {"right_flags", "left"}
    for row in rows:
        assert row["reviews"] == REVIEWS or row["reviews"] > 0.9 * REVIEWS
        assert 0.85 <= float(str(row["holds_truth"])) <= 0.99, row
    assert 0.85 <= np.mean([float(str(row["holds_truth"])) for row in rows]) <= 0.97


def test_nothing_is_left_to_estimate_when_everything_is_decided() -> None:
    rng = np.random.default_rng(0)
    p, flags = rng.random(300), rng.random(300) < 0.5
    said = (rng.random(300) < 0.4).astype(np.int8)
    found = estimate(p, flags, said)
    right = int(said[flags].sum())
    assert (found.right_flags.low, found.right_flags.high) == (right, right)
    assert found.left.high == 0
    assert found.next_share is None


def test_what_is_not_scored_is_left_out() -> None:
    p = np.array([0.9, np.nan, 0.8, np.nan], np.float32)
    flags = np.array([True, True, True, False])
    found = estimate(p, flags, np.array([1, 1, 0, -1], np.int8))
    assert found.flagged == 2
    assert (found.right_flags.low, found.right_flags.high, found.left.high) == (1, 1, 0)


def test_it_says_when_to_stop() -> None:
    p = np.linspace(0.99, 0.5, 400)
    flags, said = np.ones(400, np.bool_), np.full(400, -1, np.int8)
    assert estimate(p, flags, said).is_worth_it
    said[:150], said[150:300] = 1, 0
    found = estimate(p, flags, said)
    assert found.next_share is not None
    assert found.next_share < NOT_WORTH_IT
    assert not found.is_worth_it


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 400), st.floats(0, 1))
def test_the_parts_fit_together(seed: int, size: int, decided: float) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random(size) ** rng.uniform(0.1, 10)
    p[rng.random(size) < 0.1] = np.nan
    flags = rng.random(size) < 0.3
    said = np.where(rng.random(size) < decided, rng.random(size) < 0.5, -1).astype(np.int8)
    found = estimate(p, flags, said)
    scored = np.isfinite(p)
    least = int((scored & flags & (said == 1)).sum())
    most = int((scored & flags & (said != 0)).sum())
    # of a sum of independent events the median, which the interval holds, is within one of the mean
    assert least <= found.right_flags.low <= np.ceil(found.right_flags.expected)
    assert np.floor(found.right_flags.expected) <= found.right_flags.high <= most
    assert found.left.expected == pytest.approx(
        found.left_flagged.expected + found.left_unflagged.expected
    )
    again = estimate(p, flags, said)
    assert again == found
