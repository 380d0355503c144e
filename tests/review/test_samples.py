"""Samples of a large report: those of the queues are in memory, others are read when shown."""

from pathlib import Path

import numpy as np
import pytest
from small_report import Sample, report_of

from labelfix.data.decisions import Decision, DecisionLog
from labelfix.report.io import read_report_table, write_report
from labelfix.review.queue import ALL, QueueFilter
from labelfix.review.samples import ShownSamples
from labelfix.review.session import Session, Wanted

NAMES = [f"s{row:02}" for row in range(40)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    drawn = [
        Sample(
            name,
            row % 2,
            None if row % 9 == 8 else 0.9 if row % 5 == 0 else 0.1,
            suggested=(row + 1) % 2 if row % 5 == 0 and row % 9 != 8 else None,
            exclusion_reason="why" if row % 9 == 8 else None,
        )
        for row, name in enumerate(NAMES)
    ]
    write_report(report_of(drawn), tmp_path / "report.parquet", group_values=12, part_rows=12)
    return tmp_path


def test_samples_in_memory_and_samples_that_are_read_are_the_same(run: Path) -> None:
    report = read_report_table(run)
    rows = [39, 0, 17, 8, 5]
    whole = ShownSamples(report).of(rows)
    some = ShownSamples(report, np.array([5, 17, 30])).of(rows)
    none = ShownSamples(report, np.array([], np.int64))
    assert whole == some == none.of(rows) == none.of(rows)
    table = report.table
    assert [sample.name for sample in whole] == [NAMES[row] for row in rows]
    assert [sample.reason for sample in whole] == [table["reason"][row].as_py() for row in rows]
    for sample, row in zip(whole, rows, strict=True):
        probs = table["pred_probs"][row].as_py()
        ranked = sorted(enumerate(probs or []), key=lambda pair: -pair[1])
        assert list(sample.top) == [(code, pytest.approx(share)) for code, share in ranked]


def test_a_review_of_a_large_report_is_that_of_a_small_one(run: Path) -> None:
    DecisionLog(run).append([Decision("s01", "keep"), Decision("s30", "drop")])
    report = read_report_table(run, pred_probs=False)
    small, large = Session(report, run), Session(report, run, most_kept=3)
    for queue_filter in (QueueFilter(), QueueFilter(kind=ALL), QueueFilter(is_decided=True)):
        found = [one.find(queue_filter, limit=9).row.tolist() for one in (small, large)]
        assert found[0] == found[1]
        assert small.samples.of(found[0]) == large.samples.of(found[0])
    assert [large.decision(row) for row in (1, 2, 30)] == [
        small.decision(row) for row in (1, 2, 30)
    ]
    large.decide([Wanted(2, "keep"), Wanted(5, "relabel", "dog")])
    DecisionLog(run).append([Decision("s33", "keep"), Decision("nobody", "keep")])
    for one in (small, large):
        assert np.flatnonzero(one.is_decided).tolist() == [1, 2, 5, 30, 33]
        assert one.decided_view().decided.rows.tolist() == [1, 2, 5, 30, 33]
    assert large.undo().changed == []  # it was on a sample of another report
    assert large.undo().changed == [33]
