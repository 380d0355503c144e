"""A report on disk: what is asked for is read, and nothing else."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_report import Sample, report_of

from labelfix.data.decisions import Decision
from labelfix.errors import ReportError
from labelfix.report.decisions import find_rows, join_decisions
from labelfix.report.io import read_report_table, write_report
from labelfix.report.schema import codes_of
from labelfix.report.stored import StoredColumns
from labelfix.report.types import Report
from labelfix.report.view import ReportView
from labelfix.types import MISSING, code_type

ROWS = 23
NAMES = [f"s{row:02}" for row in range(ROWS)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return a report of 23 rows in row groups of 3, in parts of 9."""
    path = tmp_path_factory.mktemp("run") / "report.parquet"
    drawn = [
        Sample(name, row % 2, suggested=1 if row % 4 == 0 else None, split=("a", "", None)[row % 3])
        for row, name in enumerate(NAMES)
    ]
    write_report(report_of(drawn), path, group_values=6, part_rows=9)
    return read_report_table(path.parent)


@given(st.lists(st.integers(0, ROWS - 1), max_size=12))
def test_rows_are_taken_in_the_order_in_which_they_are_asked_for(
    stored: Report, rows: list[int]
) -> None:
    columns = ["sample_id", "given_label", "split"]
    taken = stored.take(rows, columns)
    assert taken.equals(stored.table.select(columns).take(np.array(rows, np.int64)))


def test_rows_that_are_not_there_are_refused(stored: Report) -> None:
    for rows in ([ROWS], [-1], [3, ROWS, 5]):
        with pytest.raises(IndexError):
            stored.take(rows, ["sample_id"])


def test_only_the_row_groups_and_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    path = tmp_path / "report.parquet"
    write_report(report_of([Sample(name) for name in NAMES]), path, group_values=6)
    names = pq.ParquetFile(path).schema_arrow.names
    cell = pq.ParquetFile(path).metadata.row_group(4).column(names.index("sample_id"))
    content = bytearray(path.read_bytes())
    at = cell.dictionary_page_offset or cell.data_page_offset
    content[at + cell.total_compressed_size - 2] ^= 0xFF
    path.write_bytes(bytes(content))
    report = read_report_table(tmp_path)
    assert ReportView(report).given.tolist() == [0] * ROWS
    assert report.take([0, 11, 22], ["sample_id"])["sample_id"].to_pylist() == [
        "s00", "s11", "s22",
    ]  # fmt: skip
    with pytest.raises(ReportError, match="cannot be read as Parquet"):
        report.take([12], ["sample_id"])


def test_a_file_that_is_replaced_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "report.parquet"
    write_report(report_of([Sample("a"), Sample("b")]), path)
    report = read_report_table(tmp_path)
    write_report(report_of([Sample("c"), Sample("d"), Sample("e")]), path)
    with pytest.raises(ReportError, match="was replaced while it was read") as caught:
        report.read(["given_label"])
    assert caught.value.hint == "start the command again"


def test_a_view_of_a_report_on_disk_is_that_of_one_in_memory(stored: Report) -> None:
    assert isinstance(stored.columns, StoredColumns)
    memory = Report(stored.table, stored.class_names, stored.run)
    decisions = {
        "s03": Decision("s03", "drop"),
        "s20": Decision("s20", "relabel", "eel"),
        "nobody": Decision("nobody", "keep"),
    }
    here, there = (ReportView(one, decisions) for one in (memory, stored))
    for name in (
        "given", "predicted", "suggested", "error_probability", "label_score", "fold", "suspects",
        "exact_set", "near_set", "split_code", "split_name", "is_test", "is_decided",
        "is_decided_wrong", "is_leaking",
    ):  # fmt: skip
        assert np.array_equal(getattr(here, name), getattr(there, name), equal_nan=True), name
        assert getattr(here, name).dtype == getattr(there, name).dtype
    assert here.split_names == there.split_names == ("a",)
    assert here.decided.columns.equals(there.decided.columns)
    assert there.decided.unmatched == 1
    assert {kind: here.count(kind) for kind in here.kinds} == {
        kind: there.count(kind) for kind in there.kinds
    }


def test_decisions_find_their_rows_in_any_part(stored: Report) -> None:
    assert find_rows(stored, ["s22", "gone", "s00"]) == {"s22": 22, "s00": 0}
    assert find_rows(stored, []) == {}
    decided = join_decisions(stored, {"s22": Decision("s22", "keep")})
    assert decided.take(np.array([22, 0]))["decision"].to_pylist() == ["keep", None]
    assert np.flatnonzero(decided.has("keep")).tolist() == [22]


@pytest.mark.parametrize(
    ("classes", "kind"), [(1, np.int8), (128, np.int8), (129, np.int16), (40_000, np.int32)]
)
def test_codes_are_of_the_smallest_type_that_holds_them(classes: int, kind: type) -> None:
    assert code_type(classes) is kind
    names = pa.array([f"c{number}" for number in range(classes)])
    column = pa.array([f"c{classes - 1}", None, "c0", "other"])
    for one in (column, column.dictionary_encode()):
        codes = codes_of(one, names)
        assert codes.dtype == kind
        assert codes.tolist() == [classes - 1, MISSING, 0, MISSING]
