"""How training went, as ``show`` and the end of an audit tell it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command import labelfix
from small_report import Sample, report_of
from whole_networks import config_of, log_of, write_weights

from labelfix.errors import RunError
from labelfix.pipeline.samples import audit
from labelfix.report.io import read_report_table, write_report
from labelfix.report.training_log import LayerWay, summarize_training
from labelfix.report.types import Report


def entry(fold: int, epoch: int, corrected: int, share: float | None) -> dict[str, object]:
    return {"fold": fold, "epoch": epoch, "corrected": corrected, "boundary_share": share}


def layer(
    name: str, relative: float | None, *, role: str = "stage", at: bool = False
) -> dict[str, object]:
    return {"name": name, "role": role, "relative_distance": relative, "at_boundary": at}


LOG = [entry(0, 1, 90, 0.0), entry(0, 2, 4, 0.2), entry(1, 1, 90, 0.0), entry(1, 2, 7, 0.4)]
LAYERS = [
    layer("stem.weight", 0.05, role="stem"),
    layer("a.weight", 0.3, at=True),
    layer("b.weight", 0.1),
    layer("a.bias", 40.0, role="bias"),
    layer("norm.weight", 2.0, role="norm"),
    layer("head.weight", None, role="head"),
]


def write_run(folder: Path, log: object = LOG, layers: object = LAYERS) -> Report:
    report = report_of([Sample("a.png"), Sample("b.png", 1, 0.99, suggested=0, certainty=0.99)])
    report = replace(report, run=replace(report.run, settings={"tune": "full"}))
    write_report(report, folder / "report.parquet")
    (folder / "training_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    (folder / "layers.json").write_text(json.dumps(layers))
    return report


def test_the_last_epoch_is_told_on_average_over_the_networks(tmp_path: Path) -> None:
    report = write_run(tmp_path)
    told = summarize_training(tmp_path, report)
    assert told is not None
    assert (told.networks, told.epochs, told.corrected) == (2, 2, 5.5)
    assert told.boundary_share == pytest.approx(0.3)
    assert told.farthest == (
        LayerWay("a.weight", 0.3, at_boundary=True),
        LayerWay("b.weight", 0.1, at_boundary=False),
        LayerWay("stem.weight", 0.05, at_boundary=False),
    )
    assert summarize_training(tmp_path / "report.parquet", report) == told


def test_a_run_without_regularization_has_no_boundary(tmp_path: Path) -> None:
    report = write_run(tmp_path, [entry(0, 1, 0, None)], [])
    told = summarize_training(tmp_path, report)
    assert told is not None
    assert (told.boundary_share, told.farthest) == (None, ())
    shown = labelfix("show", tmp_path, "--top", "5").stdout
    assert "Training" in shown
    assert "boundary" not in shown


def test_runs_of_heads_and_reports_without_their_run_say_nothing(tmp_path: Path) -> None:
    report = write_run(tmp_path)
    heads = replace(report, run=replace(report.run, settings={"tune": "head"}))
    assert summarize_training(tmp_path, heads) is None
    (tmp_path / "training_log.jsonl").unlink()
    assert summarize_training(tmp_path, report) is None
    assert "Training" not in labelfix("show", tmp_path, "--top", "5").stdout


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    report = write_run(tmp_path)
    (tmp_path / "training_log.jsonl").write_text("{")
    with pytest.raises(RunError, match=r"training_log\.jsonl, line 1 is damaged"):
        summarize_training(tmp_path, report)


def test_show_tells_it_without_torch(tmp_path: Path) -> None:
    write_run(tmp_path)
    shown = labelfix("show", tmp_path, "--top", "5")
    for words in ("at their boundary  30 %", "corrected             6", "a.weight", "30.0 %"):
        assert words in shown.stdout, shown.stdout
    training = json.loads(labelfix("show", tmp_path, "--json").stdout)["training"]
    assert training["farthest"][0] == {
        "name": "a.weight", "relative_distance": 0.3, "at_boundary": True,
    }  # fmt: skip


def test_a_real_run_says_what_its_own_files_say(small_data: Path, tmp_path: Path) -> None:
    config = config_of(write_weights(tmp_path), tmp_path / "cache", epochs=2)
    audit(small_data, tmp_path / "run", config)
    told = summarize_training(tmp_path / "run", read_report_table(tmp_path / "run"))
    last = [row for row in log_of(tmp_path / "run") if row["epoch"] == 2]
    assert told is not None
    assert (told.networks, told.epochs) == (2, 2)
    assert told.boundary_share == pytest.approx(sum(row["boundary_share"] for row in last) / 2)
    assert told.corrected == sum(row["corrected"] for row in last) / 2
    assert len(told.farthest) == 5
    assert all(0 < way.relative_distance < 0.31 for way in told.farthest if "conv1" not in way.name)
