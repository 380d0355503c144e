"""The demo data: what is planted, that it is stable, and that the score counts right."""

import csv
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from command import labelfix
from PIL import Image
from sklearn.datasets import load_digits
from small_report import Sample, report_of

from labelfix.benchmark.demo import LOOK_ALIKE, DemoData, write_demo
from labelfix.benchmark.demo_score import score_demo
from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.errors import ReportError, RunError
from labelfix.report.io import write_report
from labelfix.types import LabeledDataset


def truth_of(demo: DemoData) -> list[dict[str, str]]:
    with demo.truth.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def of_kind(demo: DemoData, *kinds: str) -> list[dict[str, str]]:
    return [row for row in truth_of(demo) if row["kind"] in kinds]


def test_every_digit_is_there_with_the_label_of_its_folder(demo_data: DemoData) -> None:
    dataset = open_dataset(demo_data.data, DatasetConfig())
    rows = truth_of(demo_data)
    assert dataset.sample_id.to_pylist() == [row["sample_id"] for row in rows]
    assert all(row["sample_id"].split("/")[0] == row["given_label"] for row in rows)
    digits = Counter(map(str, load_digits().target.tolist()))
    true = Counter(r["true_label"] for r in rows if r["kind"] not in {"copy", "broken"})
    assert true == digits
    assert demo_data.samples == len(rows) == 1797 + 2


def test_eight_per_cent_are_planted_half_of_them_alike(demo_data: DemoData) -> None:
    at_random, alike = of_kind(demo_data, "random"), of_kind(demo_data, "look-alike")
    assert len(at_random) == len(alike) == 72
    assert demo_data.planted == 144
    assert all(row["given_label"] != row["true_label"] for row in at_random + alike)
    assert all(LOOK_ALIKE[int(row["true_label"])] == int(row["given_label"]) for row in alike)
    clean = of_kind(demo_data, "clean", "broken")
    assert all(row["given_label"] == row["true_label"] for row in clean)


def test_one_file_is_broken_and_one_picture_has_two_labels(demo_data: DemoData) -> None:
    [broken], [copy] = of_kind(demo_data, "broken"), of_kind(demo_data, "copy")
    with (
        Image.open(demo_data.data / broken["sample_id"]) as image,
        pytest.raises(OSError, match="truncated"),
    ):
        image.load()
    contents = {p: p.read_bytes() for p in demo_data.data.rglob("*.png")}
    wrong = demo_data.data / copy["sample_id"]
    [twin] = [p for p, content in contents.items() if content == contents[wrong] and p != wrong]
    assert twin.parent.name == copy["true_label"] != copy["given_label"] == wrong.parent.name
    assert len(set(contents.values())) == len(contents) - 1, "no other two pictures are the same"


def test_one_seed_writes_the_same_bytes_and_another_other_labels(
    demo_data: DemoData, tmp_path: Path
) -> None:
    again, other = write_demo(tmp_path / "again"), write_demo(tmp_path / "other", seed=1)
    assert again.truth.read_bytes() == demo_data.truth.read_bytes()
    for file in demo_data.data.rglob("*.png"):
        assert (again.data / file.relative_to(demo_data.data)).read_bytes() == file.read_bytes()
    assert other.truth.read_bytes() != demo_data.truth.read_bytes()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match="not empty"):
        write_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def report_on(demo: DemoData, tmp_path: Path) -> tuple[LabeledDataset, Path]:
    """Write a report that flags all that is wrong but the first random one, and one clean row."""
    dataset = open_dataset(demo.data, DatasetConfig())
    rows = truth_of(demo)
    missed = of_kind(demo, "random")[0]["sample_id"]
    false_alarm = of_kind(demo, "clean")[0]["sample_id"]
    copy = of_kind(demo, "copy")[0]["sample_id"]
    content = (demo.data / copy).read_bytes()
    samples = []
    for row in rows:
        name, given, true = row["sample_id"], int(row["given_label"]), int(row["true_label"])
        pair = (demo.data / name).read_bytes() == content
        if row["kind"] == "broken":
            samples.append(Sample(name, given, None, unreadable="truncated image", weight=0))
        elif name == false_alarm:
            samples.append(Sample(name, given, 0.999, suggested=(given + 1) % 10))
        elif given != true and name != missed:
            samples.append(Sample(name, given, 0.9, suggested=true, conflicting=pair))
        else:
            samples.append(Sample(name, given, conflicting=pair))
    write_report(report_of(samples, dataset=dataset), tmp_path / "report.parquet")
    return dataset, tmp_path


def test_the_score_counts_what_was_found(demo_data: DemoData, tmp_path: Path) -> None:
    _, run = report_on(demo_data, tmp_path)
    done = labelfix("demo", demo_data.data.parent, "--score", run, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "planted": 144,
        "planted_flagged": 143,
        "flagged": 145,  # and the wrong copy, and the false alarm
        "flagged_wrong": 144,
        "first": 50,
        "first_wrong": 49,  # the false alarm is the surest
        "suggested_right": 144,
        "broken_reported": True,
        "pair_reported": True,
    }
    told = labelfix("demo", demo_data.data.parent, "--score", run).stdout
    assert "143 of the 144 planted errors are flagged (99 %)" in told
    assert "49 of the first 50 rows are really wrong" in told
    assert str(run / "report.parquet") in told


def test_only_a_report_on_the_demo_data_is_scored(demo_data: DemoData, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="not on the demo data"):
        score_demo(report_of([Sample("a.png"), Sample("b.png")]), demo_data.truth)
    with pytest.raises(ReportError, match="cannot read the truth"):
        score_demo(report_of([Sample("a.png")]), tmp_path / "truth.csv")


def test_the_truth_lies_beside_the_data(demo_data: DemoData) -> None:
    assert demo_data.truth.parent == demo_data.data.parent
    assert {path.suffix for path in demo_data.data.rglob("*") if path.is_file()} == {".png"}
    assert pa.array([row["sample_id"] for row in truth_of(demo_data)]).unique().__len__() == 1799
