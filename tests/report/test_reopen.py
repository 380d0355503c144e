"""The data of a run, read again as the audit read them."""

import json
import shutil
from pathlib import Path

from small_classes import CLASSES

import labelfix
from labelfix.report.reopen import open_audited
from labelfix.types import MISSING


def test_values_that_mean_no_label_still_do_when_the_data_are_opened_again(
    small_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "photos"
    shutil.copytree(small_data, data)
    (data / "unsorted").mkdir()
    moved = sorted((data / CLASSES[0]).iterdir())[:3]
    for file in moved:
        shutil.move(file, data / "unsorted")
    run = tmp_path / "run"
    result = labelfix.audit(data, run, label_missing="unsorted", device="cpu", tune="head")
    assert result.report.class_names == CLASSES
    rows = labelfix.read_report(run)
    without = rows[rows["given_label"].isna()]
    assert set(without["sample_id"]) == {f"unsorted/{file.name}" for file in moved}
    settings = json.loads((run / "run.json").read_text(encoding="utf-8"))["settings"]
    assert settings["label_missing"] == ["unsorted"]

    again = open_audited(result.report)
    assert again.class_names == CLASSES
    assert (again.given_label == MISSING).sum() == len(moved)
    assert again.fingerprint == result.report.run.fingerprint
