"""The highest probabilities of each sample in place of all: what is kept, and that all read it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_report import Sample, report_of

import labelfix
from labelfix.errors import ReportError
from labelfix.report.io import read_pred_probs, read_report_table, write_report
from labelfix.report.schema import COLUMNS, TOP_COLUMNS
from labelfix.report.top_classes import largest, top_lists
from labelfix.report.types import Report
from labelfix.review.samples import ShownSamples

CLASSES = tuple(f"c{code}" for code in range(7))
PROBS = np.random.default_rng(0).dirichlet(np.full(7, 0.3), 23).astype(np.float32)
SAMPLES = [
    Sample(f"s{row:02}", row % 7, None if row % 9 == 8 else 0.1, exclusion_reason="why")
    for row in range(23)
]
IS_SCORED = np.array([sample.error is not None for sample in SAMPLES])


def written(folder: Path, top: int, *, part_rows: int = 100) -> Report:
    """Write the same report with the top of the classes, and open it."""
    folder.mkdir()
    whole = report_of(SAMPLES, CLASSES, probs=PROBS)
    report = replace(whole, columns=whole.table.drop_columns(["pred_probs"]))
    groups = (
        top_lists(PROBS[start : start + 5], IS_SCORED[start : start + 5], top)
        for start in range(0, 23, 5)
    )
    write_report(
        report, folder / "report.parquet", groups, top_classes=top,
        group_values=5 * min(top, 7), part_rows=part_rows,
    )  # fmt: skip
    return read_report_table(folder)


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 9), st.integers(1, 30)),
        elements=st.sampled_from([0.0, -0.0, 1e-40, 1e-8, 0.1, 0.25, 0.5, 1.0])
        | st.floats(0, 1, width=32),
    ),
    st.integers(1, 40),
    st.data(),
)
@settings(max_examples=150)
def test_the_top_is_that_of_a_naive_loop(probs, top, data):
    is_scored = data.draw(hnp.arrays(np.bool_, len(probs)))
    table = top_lists(probs, is_scored, top)
    table.validate(full=True)
    expected = []
    for row, scored in zip(probs.tolist(), is_scored, strict=True):
        # Python sorts stably: ties stay in the order of the classes
        order = sorted(range(len(row)), key=lambda code: -row[code])[:top]
        expected.append((order, [row[code] for code in order]) if scored else (None, None))
    assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == expected
    if len(probs):
        assert (largest(probs, 1)[:, 0] == probs.argmax(axis=1)).all()


@pytest.mark.parametrize("top", [1, 3, 7, 50])
def test_all_else_of_the_report_stays(tmp_path, top):
    report = written(tmp_path / "run", top)
    whole = report_of(SAMPLES, CLASSES, probs=PROBS)
    kept = report.table.drop_columns(["top_classes", "top_probs"])
    assert kept.equals(whole.table.drop_columns(["pred_probs"]))
    names = [column.name for column in COLUMNS]
    place = names.index("pred_probs")
    expected = [*names[:place], *(one.name for one in TOP_COLUMNS), *names[place + 1 :]]
    assert report.column_names == expected
    assert report.table.column_names == expected
    for row, codes in enumerate(report.table["top_classes"].to_pylist()):
        assert (codes is None) == (not IS_SCORED[row])
        if codes is not None:
            assert codes == np.argsort(-PROBS[row], kind="stable")[:top].tolist()
            assert report.table["top_probs"][row].as_py() == PROBS[row][codes].tolist()


def test_reports_in_parts_and_frames_have_the_columns(tmp_path):
    one, parts = written(tmp_path / "one", 3), written(tmp_path / "parts", 3, part_rows=10)
    assert (tmp_path / "parts" / "report").is_dir()
    assert parts.table.equals(one.table)
    frame = labelfix.read_report(tmp_path / "parts")
    assert frame["top_classes"][0].tolist() == np.argsort(-PROBS[0])[:3].tolist()
    assert "pred_probs" not in frame.columns
    without = read_report_table(tmp_path / "one", pred_probs=False)
    assert without.table.equals(one.table.drop_columns(["top_classes", "top_probs"]))


@pytest.mark.parametrize("top", [2, 5, 6])
def test_a_review_shows_the_classes_of_the_whole_report(tmp_path, top):
    whole = report_of(SAMPLES, CLASSES, probs=PROBS)
    write_report(whole, tmp_path / "report.parquet")
    rows = [*range(23)]
    all_classes = ShownSamples(read_report_table(tmp_path)).of(rows)
    kept = ShownSamples(written(tmp_path / "run", top), np.array([3, 8, 20])).of(rows)
    assert [(one.name, one.reason, one.top[:top]) for one in all_classes] == [
        (one.name, one.reason, one.top) for one in kept
    ]
    assert max(len(one.top) for one in kept) == min(top, 5)


def test_what_needs_all_classes_says_so_at_once(tmp_path):
    written(tmp_path / "run", 3)
    with pytest.raises(ReportError, match="keeps the likeliest classes") as caught:
        read_pred_probs(tmp_path / "run")
    assert "--top-classes" in str(caught.value.hint)
    with pytest.raises(ReportError, match="keeps the likeliest classes"):
        labelfix.export(tmp_path / "run", tmp_path / "soft.parquet", soft_labels=True)
    assert not (tmp_path / "soft.parquet").exists()


LISTS = [[0, 1], [2, 3]]
SHARES = [[0.5, 0.25], [0.5, 0.25]]


@pytest.mark.parametrize(
    ("codes", "probs", "told"),
    [
        ([[0, 7], [2, 3]], SHARES, "codes that are not from 0 to 6"),
        ([[0, -1], [2, 3]], SHARES, "codes that are not from 0 to 6"),
        ([[0, None], [2, 3]], SHARES, "a list with a hole"),
        (LISTS, [[0.5, None], [0.5, 0.25]], "a list with a hole"),
        (LISTS, [[0.5, 0.25], [0.5]], "of different lengths"),
        (LISTS, [[0.5, 0.25], None], "of different lengths"),
        ([[0], [2, 3]], [[0.5], [0.5, 0.25]], "has [1, 2] values"),
        ([[], []], [[], []], "has [0] values"),
        ([[*range(7), 0]] * 2, [[0.1] * 8] * 2, "has [8] values"),
    ],
)
def test_lists_that_no_audit_writes_are_told(tmp_path, codes, probs, told):
    good = written(tmp_path / "run", 2)
    path = tmp_path / "run" / "report.parquet"
    table = pq.read_table(path).slice(0, 2)
    for column, values in ((TOP_COLUMNS[0], codes), (TOP_COLUMNS[1], probs)):
        place = table.column_names.index(column.name)
        table = table.set_column(place, column.name, pa.array(values, column.kind))
    pq.write_table(table, path)
    assert len(good.class_names) == 7
    with pytest.raises(ReportError, match="is damaged") as caught:
        ShownSamples(read_report_table(tmp_path / "run"))
    assert told in str(caught.value)


def test_one_column_without_the_other_is_told(tmp_path):
    written(tmp_path / "run", 2)
    path = tmp_path / "run" / "report.parquet"
    table = pq.read_table(path)
    for name in ("top_classes", "top_probs"):
        pq.write_table(table.drop_columns([name]), path)
        with pytest.raises(ReportError, match="lacks columns of a report"):
            read_report_table(tmp_path / "run")
