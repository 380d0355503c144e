"""Columns of a report that are made a block at a time: they are those of the whole table."""

import numpy as np
import pyarrow as pa
import pytest
from small_report import Sample, report_of

from labelfix.report.made import MadeColumns

SAMPLES = [
    Sample(f"s{row:02}", row % 2, error=0.3, suggested=1 - row % 2 if row % 4 == 1 else None)
    if row % 7 != 3
    else Sample(f"s{row:02}", error=None, exclusion_reason=f"why {row}", split="train")
    for row in range(23)
]


@pytest.fixture
def columns():
    """Return the columns of 23 samples in blocks of 5 rows."""
    made = report_of(SAMPLES).columns
    assert isinstance(made, MadeColumns)
    return MadeColumns(made.size, made.schema, made.makers, 5)


def test_blocks_are_slices_of_the_whole(columns):
    whole = report_of(SAMPLES).table
    assert whole["reason"].null_count < len(whole)
    assert columns.read().equals(whole)
    for start in range(0, 23, 4):
        assert columns.block(start, start + 4).equals(whole.slice(start, 4))


def test_batches_follow_one_another(columns):
    names, place = ["reason", "sample_id"], 0
    whole = columns.read(names)
    for start, batch in columns.batches(names):
        assert start == place
        assert batch.to_pylist() == whole.slice(start, len(batch)).to_pylist()
        place += len(batch)
    assert place == 23


@pytest.mark.parametrize("rows", [[], [22, 0, 22, 7], [3, 4]])
def test_rows_are_taken_in_any_order(columns, rows):
    taken = columns.take(np.array(rows, np.int64), ["sample_id", "reason"])
    assert taken.equals(columns.read(["sample_id", "reason"]).take(pa.array(rows, pa.int64())))
    with pytest.raises(IndexError, match="no such row"):
        columns.take(np.array([23]), ["sample_id"])
