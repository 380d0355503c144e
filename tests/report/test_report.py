"""The report: what its rows say, and that it survives writing and reading."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_report import CLASS_NAMES, Sample, report_of, samples_of

from labelfix.errors import ReportError, RunError
from labelfix.report.frame import read_report
from labelfix.report.io import probability_table, read_report_table, write_report
from labelfix.report.schema import COLUMNS, ROW_GROUP_SIZE, schema_page
from labelfix.report.types import RunInfo
from labelfix.types import MISSING

DOCS = Path(__file__).parents[2] / "docs"


def rows_of(samples, class_names=("cat", "dog")):
    return report_of(samples, class_names).table.to_pylist()


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_reading_gives_back_what_was_written(tmp_path_factory, data):
    class_names = data.draw(CLASS_NAMES)
    report = report_of(data.draw(samples_of(len(class_names))), class_names)
    path = tmp_path_factory.mktemp("run") / "report.parquet"

    write_report(report, path)
    again = read_report_table(path)

    again.table.validate(full=True)
    assert again.table.equals(report.table)
    assert again.table.schema.equals(report.table.schema)
    assert again.class_names == report.class_names
    assert again.run == report.run


def test_rows_keep_the_order_of_the_input_and_the_columns_of_the_schema():
    report = report_of([Sample("z"), Sample("a"), Sample("m")])
    assert report.table["sample_id"].to_pylist() == ["z", "a", "m"]
    assert report.table.column_names == [column.name for column in COLUMNS]


def test_a_flagged_row_says_what_it_looks_like():
    (row,) = rows_of([Sample("a", given=1, error=0.99, suggested=0, certainty=0.97)])
    assert row["given_label"] == "dog"
    assert row["suggested_label"] == "cat"
    assert row["is_label_issue"] is True
    assert row["label_error_probability"] == np.float32(0.99)
    assert row["label_score"] == pytest.approx(0.01, abs=1e-6)
    assert row["suggested_label_probability"] == np.float32(0.97)
    assert row["reason"] == "looks like 'cat' (97 %), not 'dog' (1 %)"


def test_a_reason_never_claims_to_be_sure():
    (row,) = rows_of([Sample("a", given=1, error=1.0, suggested=0, certainty=0.999)])
    assert row["reason"] == "looks like 'cat' (>99 %), not 'dog' (<1 %)"


def test_a_row_that_is_not_flagged_has_no_suggestion_and_nothing_to_say():
    (row,) = rows_of([Sample("a", error=0.4, certainty=0.3)])
    assert row["suggested_label"] is None
    assert row["suggested_label_probability"] is None
    assert row["reason"] is None
    assert row["label_score"] == pytest.approx(0.6)
    assert row["fold"] == 0
    assert sum(row["pred_probs"]) == pytest.approx(1)


def test_a_row_that_is_not_scored_has_no_verdict():
    why = "not scored: class 'cat' has 2 readable samples, 5 are needed"
    (row,) = rows_of([Sample("a", error=None, exclusion_reason=why, weight=0)])
    scored = ["predicted_label", "label_score", "label_error_probability", "pred_probs", "fold"]
    assert [row[name] for name in scored] == [None] * 5
    assert row["reason"] == why


def test_an_unreadable_row_says_that_and_not_that_it_is_not_scored():
    broken = Sample(
        "a",
        error=None,
        unreadable="truncated image",
        exclusion_reason="not scored: unreadable",
        weight=0,
    )
    (row,) = rows_of([broken])
    assert row["is_unreadable_issue"] is True
    assert row["reason"] == "unreadable: truncated image"


def test_a_missing_label_is_null():
    (row,) = rows_of(
        [
            Sample(
                "a",
                given=MISSING,
                error=None,
                exclusion_reason="not scored: it has no label",
                weight=0,
            )
        ]
    )
    assert row["given_label"] is None
    assert row["reason"] == "not scored: it has no label"


def test_conflicting_copies_name_each_others_labels():
    samples = [
        Sample("a", 0, duplicate_set=0, conflicting=True),
        Sample("b", 1, duplicate_set=0, conflicting=True, error=0.9, suggested=0, certainty=0.8),
        Sample("c", 0, duplicate_set=1),
        Sample("d", 0, duplicate_set=1),
        Sample("e"),
    ]
    rows = rows_of(samples)
    assert rows[0]["reason"] == "byte-identical image is also labeled 'dog'"
    assert rows[1]["reason"] == (
        "looks like 'cat' (80 %), not 'dog' (10 %); byte-identical image is also labeled 'cat'"
    )
    assert rows[2]["reason"] is None
    assert [row["exact_duplicate_set"] for row in rows] == [0, 0, 1, 1, None]
    assert [row["is_exact_duplicate_issue"] for row in rows] == [True] * 4 + [False]
    assert [row["is_conflicting_duplicate_issue"] for row in rows] == [True] * 2 + [False] * 3


def test_a_long_list_of_conflicting_labels_is_cut():
    samples = [Sample(str(i), i, duplicate_set=0, conflicting=True) for i in range(6)]
    rows = rows_of(samples, class_names=range(6))
    assert rows[0]["reason"] == "byte-identical image is also labeled 1, 2, 3 and 2 more"


def test_integer_labels_come_back_as_integers(tmp_path):
    write_report(
        report_of([Sample("a", 1, 0.9, suggested=0), Sample("b", MISSING, None)], [3, 10]),
        tmp_path / "report.parquet",
    )
    frame = read_report(tmp_path)
    assert frame["given_label"].tolist() == [10, pd.NA]
    assert frame["suggested_label"].tolist() == [3, pd.NA]
    assert frame["fold"].dtype == "Int16"
    assert frame.attrs["class_names"] == [3, 10]
    assert frame.attrs["run"]["seed"] == 7


def test_plain_pandas_reads_the_report_too(tmp_path):
    samples = [Sample("a", 1, 0.9, suggested=0), Sample("b", error=None)]
    report = report_of(samples)
    write_report(report, tmp_path / "report.parquet")

    frame = pd.read_parquet(tmp_path / "report.parquet")

    assert list(frame.columns) == [column.name for column in COLUMNS]
    assert frame["given_label"].tolist() == ["dog", "cat"]
    assert frame["pred_probs"][0].tolist() == report.table["pred_probs"][0].as_py()
    assert frame["pred_probs"][0].dtype == np.float32
    assert frame["pred_probs"][1] is None


def test_the_same_report_makes_the_same_bytes(tmp_path):
    samples = [Sample(str(i), i % 2, i / 100) for i in range(100)]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write_report(report_of(samples), tmp_path / "one" / "report.parquet")
    write_report(report_of(samples), tmp_path / "two" / "report.parquet")
    one, two = (tmp_path / name / "report.parquet" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_probabilities_are_shared_with_the_evidence_and_not_copied():
    probs = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    column = report_of([Sample("a"), Sample("b")], probs=probs).table["pred_probs"]
    assert column.to_pylist() == probs.tolist()
    assert column.chunk(0).values.buffers()[1].address == probs.ctypes.data


def test_probabilities_of_many_row_groups_stay_with_their_rows(tmp_path):
    size = ROW_GROUP_SIZE + 3
    probs = np.arange(2 * size, dtype=np.float32).reshape(size, 2)
    samples = [Sample(str(i), error=None if i % 1000 == 7 else 0.1) for i in range(size)]
    write_report(report_of(samples, probs=probs), tmp_path / "report.parquet")

    column = read_report_table(tmp_path).table["pred_probs"]

    assert column.null_count == sum(sample.error is None for sample in samples)
    for row in (0, 6, 8, 1006, ROW_GROUP_SIZE - 1, ROW_GROUP_SIZE, size - 1):
        assert column[row].as_py() == probs[row].tolist()
    assert column[7].as_py() is None


def test_reading_without_probabilities_leaves_only_them_out(tmp_path):
    report = report_of([Sample("a"), Sample("b")])
    write_report(report, tmp_path / "report.parquet")
    table = read_report_table(tmp_path, pred_probs=False).table
    assert table.equals(report.table.drop_columns(["pred_probs"]))


def test_a_report_of_many_classes_is_written_a_few_rows_at_a_time(tmp_path):
    probs = np.random.default_rng(0).dirichlet(np.ones(300), 100).astype(np.float32)
    samples = [Sample(f"{row}.png", error=0.1) for row in range(100)]
    whole = report_of(samples, tuple(range(300)), probs=probs)
    parts = [probs[start : start + 32] for start in range(0, 100, 32)]
    lists = (probability_table(part, np.ones(len(part), np.bool_)) for part in parts)
    report = replace(whole, columns=whole.table.drop_columns(["pred_probs"]))
    write_report(report, tmp_path / "report.parquet", lists, group_values=300 * 32)
    file = pq.ParquetFile(tmp_path / "report.parquet")
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    assert sizes == [32, 32, 32, 4]
    assert read_report_table(tmp_path).table.equals(whole.table)


def test_an_unknown_noise_rate_stays_unknown(tmp_path):
    report = report_of([Sample("a", error=None)])
    values = report.run.to_json() | {"noise_rate": float("nan")}
    blind = type(report)(report.table, report.class_names, report.run.from_json(values))
    write_report(blind, tmp_path / "report.parquet")
    assert read_report_table(tmp_path).run.noise_rate is None


@pytest.mark.parametrize("content", [b"", b"PAR1", b"sample_id,label\na,cat\n"])
def test_a_file_that_is_not_parquet_is_refused(tmp_path, content):
    path = tmp_path / "report.parquet"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=r"report\.parquet cannot be read as Parquet") as caught:
        read_report_table(path)
    assert caught.value.hint


def test_a_cut_off_report_is_refused(tmp_path):
    path = tmp_path / "report.parquet"
    write_report(report_of([Sample(str(i)) for i in range(50)]), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ReportError, match="cannot be read as Parquet"):
        read_report_table(path)


def test_parquet_of_someone_else_is_refused(tmp_path):
    pq.write_table(pa.table({"sample_id": ["a"]}), tmp_path / "report.parquet")
    with pytest.raises(ReportError, match="no labelfix report") as caught:
        read_report_table(tmp_path)
    assert "labelfix audit" in caught.value.hint


def test_a_newer_schema_is_refused_with_the_way_out(tmp_path):
    path = rewritten(tmp_path, **{"labelfix.schema_version": "2"})
    with pytest.raises(
        ReportError, match="schema version 2; this labelfix reads up to 1"
    ) as caught:
        read_report_table(path)
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize(
    "damage",
    [
        {"labelfix.schema_version": "one"},
        {"labelfix.class_names": "[1"},
        {"labelfix.run": "[]"},
        {"labelfix.run": json.dumps({"source": {}})},
    ],
)
def test_damaged_metadata_are_refused(tmp_path, damage):
    with pytest.raises(ReportError, match="metadata are missing or damaged"):
        read_report_table(rewritten(tmp_path, **damage))


def test_a_report_with_other_columns_is_refused(tmp_path):
    path = rewritten(tmp_path)
    table = pq.read_table(path)
    scores = table["label_score"].cast(pa.float64())
    table = table.drop_columns(["fold", "label_score"]).append_column("label_score", scores)
    pq.write_table(table, path)
    with pytest.raises(ReportError, match=r"label_score \(float\), fold \(int16\)"):
        read_report_table(path)


def rewritten(folder: Path, **metadata: str) -> Path:
    """Write a report whose metadata someone changed."""
    path = folder / "report.parquet"
    write_report(report_of([Sample("a")]), path)
    table = pq.read_table(path)
    changed = {**table.schema.metadata, **{k.encode(): v for k, v in metadata.items()}}
    pq.write_table(table.replace_schema_metadata(changed), path)
    return path


def test_a_missing_report_is_named(tmp_path):
    with pytest.raises(ReportError, match=r"holds no report\.parquet"):
        read_report_table(tmp_path)
    with pytest.raises(ReportError, match="nothing does not exist"):
        read_report(tmp_path / "nothing")


def test_an_unwritable_place_is_an_expected_failure(tmp_path):
    with pytest.raises(RunError, match="cannot write"):
        write_report(report_of([Sample("a")]), tmp_path / "gone" / "report.parquet")


@pytest.mark.parametrize(("backbone", "modality"), [(None, None), ("resnet", "image")])
def test_a_run_record_without_a_modality_tells_it_by_its_backbone(backbone, modality):
    record = {**report_of([Sample("a")]).run.to_json(), "backbone": backbone}
    assert RunInfo.from_json({**record, "modality": "text"}).modality == "text"
    del record["modality"]
    assert RunInfo.from_json(record).modality == modality


def test_the_page_on_the_report_is_fresh():
    text = (DOCS / "report.md").read_text(encoding="utf-8")
    assert text == schema_page(), "run: python docs/generate.py"
    assert all(f"| `{column.name}` |" in text for column in COLUMNS)
