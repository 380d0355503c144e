"""Damaged files that random damage seldom makes: `tests/faults/test_fuzz.py` makes the others."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_report import Sample, report_of

from labelfix.data.decisions import read_decisions
from labelfix.data.probabilities import open_pred_probs
from labelfix.data.vectors import read_vectors
from labelfix.errors import DatasetError, DecisionsError, LabelfixError, ReportError
from labelfix.report.io import read_report_table, write_report
from labelfix.report.schema import DIGEST_KEY, RUN_KEY
from labelfix.types import CLASSES_KEY
from labelfix.utils.progress import no_progress

# Readers of probabilities


def refused(path: Path) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        open_pred_probs([path], path.parent, no_progress)
    assert caught.value.hint
    return caught.value


def test_arrays_that_claim_too_much(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    labels = np.zeros(8, int)
    np.savez(path, pred_probs=np.zeros((8, 0)), labels=labels)
    assert "no columns" in str(refused(path))

    def with_header(name: str, old: bytes, new: bytes) -> str:
        np.savez(path, pred_probs=np.full((8, 2), 0.5), labels=labels, class_names=["a", "b"])
        with zipfile.ZipFile(path) as archive:
            content = {item: archive.read(item) for item in archive.namelist()}
        data = content[f"{name}.npy"]
        assert old in data
        padded = data.replace(old + b" " * (len(new) - len(old)), new, 1)
        content[f"{name}.npy"] = padded if len(new) > len(old) else data.replace(old, new, 1)
        with zipfile.ZipFile(path, "w") as archive:
            for item, value in content.items():
                archive.writestr(item, value)
        return str(refused(path))

    huge = b"(8" + b"0" * 17
    for name, old in (("pred_probs", b"(8, 2), }"), ("labels", b"(8,), }")):
        new = old.replace(b"(8", huge)
        assert "cut short" in with_header(name, old + b" " * 17, new)
    assert "shape" in with_header("pred_probs", b"(8, 2)", b"(-8,2)")
    assert "cannot read" in with_header("pred_probs", b"(8, 2)", b"((((((")
    assert "cannot read" in with_header("labels", b"'<i8'", b"'|O8'")


def test_a_damaged_number_in_an_archive_is_told(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, pred_probs=np.full((800, 2), 0.5), labels=np.zeros(800, int))
    data = bytearray(path.read_bytes())
    place = data.find(np.full(4, 0.5).tobytes()) + 2000
    data[place] ^= 1
    path.write_bytes(data)
    assert "CRC" in str(refused(path))


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    size = 4
    bad = pa.StringArray.from_buffers(
        size, pa.array(np.arange(size + 1, dtype=np.int32)).buffers()[1], pa.py_buffer(b"\xff" * 4)
    )
    good = pa.array([f"{i}" for i in range(size)])
    probs = {"prob:a": pa.array([0.5] * size), "prob:b": pa.array([0.5] * size)}
    for ids, labels in ((bad, pa.array(["a"] * size)), (good, bad)):
        pq.write_table(pa.table({"sample_id": ids, "given_label": labels, **probs}), path)
        assert "UTF8" in str(refused(path))
    ids = pa.array([0.0, 1.0, float("nan"), 3.0])
    pq.write_table(
        pa.table({"sample_id": ids, "given_label": pa.array(["a"] * size), **probs}), path
    )
    assert "row 3" in str(refused(path))


def test_a_header_in_latin1_is_read_and_one_without_an_end_is_told(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes("sample_id,given_label,prob:café,prob:dog\na,café,.9,.1\n".encode("latin-1"))
    probabilities = open_pred_probs([path], tmp_path, no_progress)
    assert tuple(probabilities.class_names) == ("café", "dog")
    path.write_text(f"sample_id,given_label,prob:a,prob:{'b' * 200_000}\na,a,.9,.1\n")
    assert "first line" in str(refused(path))


def test_half_a_character_in_the_first_line_is_told(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(b"\xfe\xff\0a\0,\0b\n")
    assert "no utf-16 throughout" in str(refused(path))


def test_a_part_of_an_archive_that_is_no_array_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.writestr("features.npy", b"nonsense")
    with pytest.raises(DatasetError, match="features is no array"):
        read_vectors(tmp_path / "v.npz")


# Reports and what lies beside them


def test_reports_whose_cells_do_not_fit_are_told(tmp_path: Path) -> None:
    report = report_of([Sample("a"), Sample("b")])
    path = tmp_path / "report.parquet"
    write_report(report, path)
    good = pq.read_table(path)

    def told(table: pa.Table | None = None, **metadata: object) -> str:
        table = good if table is None else table
        known = dict(good.schema.metadata)
        del known[DIGEST_KEY]
        keys = {"names": CLASSES_KEY, "run": RUN_KEY}
        known |= {keys[name]: json.dumps(value).encode() for name, value in metadata.items()}
        pq.write_table(table.replace_schema_metadata(known), path)
        with pytest.raises(ReportError) as caught:
            read_report_table(tmp_path).table  # noqa: B018 - which reads all of it
        assert caught.value.hint
        return str(caught.value)

    run = json.loads(good.schema.metadata[RUN_KEY])
    assert "class names" in told(names=["x", "x"])
    assert "class names" in told(names="xy")
    assert "no class" in told(names=[f"other{i}" for i in report.class_names])
    assert "values for" in told(names=[*report.class_names, "one-more"])
    for key, value in (
        ("source", []), ("noise_rate", "much"), ("noise_rate_interval", [1]), ("seed", "0"),
        ("settings", {"notes": 3}), ("assumptions", [{"topic": 1}]), ("versions", None),
        ("modality", 1),
    ):  # fmt: skip
        assert key in told(run={**run, key: value})
    place = good.column_names.index("sample_id")
    nothing = good.set_column(place, "sample_id", pa.nulls(len(good), pa.string()))
    assert "sample_id is null in 2 rows" in told(nothing)
    for name in ("exact_duplicate_set", "near_duplicate_set"):
        for number in (2**62, 2, -1):
            odd = pa.array([number, None], pa.int64())
            place = good.column_names.index(name)
            assert f"{name} has numbers" in told(good.set_column(place, name, odd))


@pytest.mark.parametrize(
    "line",
    ["[" * 3000, '{"sample_id": "\\ud800", "decision": "keep", "decided_at": ""}',
     '{"sample_id": "a", "decision": ["keep"], "decided_at": ""}',
     '{"sample_id": "a", "decision": "relabel", "label": 9999999999999999999, "decided_at": ""}'],
)  # fmt: skip
def test_decisions_that_are_none_are_told(tmp_path: Path, line: str) -> None:
    (tmp_path / "decisions.jsonl").write_text(line + "\n")
    with pytest.raises(DecisionsError, match="line 1 of") as caught:
        read_decisions(tmp_path)
    assert isinstance(caught.value, LabelfixError)
    assert caught.value.hint
