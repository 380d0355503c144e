"""A whole audit of split folders, with RUN and cache inside DATA."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from small_classes import CLASSES

import labelfix
from labelfix.errors import ConfigError
from labelfix.exports.plan import plan_export
from labelfix.report.reopen import open_audited
from labelfix.report.view import ReportView


def test_an_audit_of_splits_with_its_run_inside_the_data(small_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "photos"
    for label in CLASSES:
        for number, file in enumerate(sorted((small_data / label).iterdir())):
            split = ("Training", "Testing", "odd")[0 if number < 16 else 1 + number % 2]
            (data / split / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, data / split / label)
    # one label of the test splits that is surely wrong
    for split in ("Testing", "odd"):
        wrong = next((data / split / CLASSES[0]).iterdir())
        shutil.move(wrong, data / split / CLASSES[2] / f"moved-{wrong.name}")
    options = {"test_split": "odd", "cache": data / "cache", "device": "cpu", "tune": "head"}
    report = labelfix.audit(data, data / "run", **options).report
    table = report.table
    is_training = table.filter(pa.compute.equal(table["split"], "Training"))
    assert is_training["fold"].null_count == 0
    assert table["fold"].null_count == len(table) - len(is_training)
    assert (data / "cache" / "CACHEDIR.TAG").is_file()
    said = json.loads((data / "run" / "run.json").read_text())["assumptions"]
    assert "'Testing', 'odd' are for testing" in " ".join(one["text"] for one in said)

    plan = plan_export(ReportView(report), min_probability=0, drop=True)
    kept = table.take(pa.array(plan.rows))
    is_changed = kept.filter(pa.array(plan.is_changed))
    assert set(is_changed["split"].to_pylist()) <= {"Training"}
    assert plan.test_rows == len(table) - len(is_training)

    # what a second audit would read
    assert open_audited(report).fingerprint == report.run.fingerprint
    with pytest.raises(ConfigError, match=r"out .* is the data set"):
        labelfix.audit(data, data, **options)
    with pytest.raises(ConfigError, match=r"out .* holds the data set"):
        labelfix.audit(data, tmp_path, **options)
    with pytest.raises(ConfigError, match=r"cache .* is the data set"):
        labelfix.audit(data, tmp_path / "third", **{**options, "cache": data})
