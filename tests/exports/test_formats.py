"""Exports that other tools read, read back by them where they are installed."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from decided_run import Fate, write_run
from exported_runs import SURE, class_folder, files_of, png, run_of
from PIL import Image
from small_report import Sample, dataset_of, report_of

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.decisions import Decision, DecisionLog
from labelfix.errors import ConfigError, DatasetError, DecisionsError, RunError
from labelfix.exports.export import ExportFormat, export
from labelfix.exports.table import COLUMNS
from labelfix.report.frame import read_report
from labelfix.report.io import write_report
from labelfix.types import DatasetSource

PAGE = (Path(__file__).parents[2] / "docs" / "exports.md").read_text(encoding="utf-8")
NAMES = [
    "train/cat/a.png",
    "train/cat/b.png",
    "train/dog/a.png",
    "test/dog/=x.png",
    "test/cat/c.png",
]
LABELS = {  # by sample id: what has to come out
    "train/cat/a.png": "dog",
    "train/cat/b.png": "cat",
    "train/dog/a.png": "dog",
    "test/dog/=x.png": "dog",
}


def fate(action=None, chosen="dog", suggested=None) -> Fate:
    return Fate(action, chosen, suggested, 0.99, 0.97)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run on a class folder with splits; sorted, its rows are test/cat, test/dog, train/..."""
    data = class_folder(tmp_path / "data", *NAMES)
    fates = [fate("drop"), fate("keep"), fate("relabel"), fate(), fate("unsure", suggested="cat")]
    write_run(tmp_path / "run", data, fates)
    return tmp_path / "run"


@pytest.fixture
def parquet_run(tmp_path: Path) -> Path:
    """A run on images inside Parquet."""
    table = {"sample_id": ["../a", "b"], "image": [png(1), png(2)], "label": ["cat", "dog"]}
    pq.write_table(pa.table(table), tmp_path / "data.parquet")
    write_run(tmp_path / "run", tmp_path / "data.parquet", [fate("relabel"), fate()])
    return tmp_path / "run"


def test_the_page_tells_every_format_and_every_format_tells_the_page():
    named = set(re.findall(r"^labelfix export .*--format ([a-z-]+)", PAGE, re.MULTILINE))
    assert named == set(get_args(ExportFormat))


# Decisions


def test_decisions_join_the_report(run):
    frame = read_report(run).set_index("sample_id")
    assert frame["decision"].dropna().to_dict() == {
        "test/cat/c.png": "drop",
        "test/dog/=x.png": "keep",
        "train/cat/a.png": "relabel",
        "train/dog/a.png": "unsure",
    }
    assert frame["final_label"].dropna().to_dict() == {
        "test/dog/=x.png": "dog",
        "train/cat/a.png": "dog",
        "train/dog/a.png": "dog",
    }
    assert frame["decided_by"].isna().all()
    assert frame["decided_at"].dropna().str.endswith("Z").all()


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl"])
def test_tables_hold_the_decided_labels_and_the_decisions(tmp_path, run, name):
    result = export(run, tmp_path / name)
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": _read_lines}
    frame = read[name.partition(".")[2]](tmp_path / name).set_index("sample_id")
    assert frame["label"].to_dict() == LABELS
    assert frame["decision"].dropna().to_dict() == {
        "test/dog/=x.png": "keep",
        "train/cat/a.png": "relabel",
        "train/dog/a.png": "unsure",
    }
    assert list(frame.columns) == [
        "image", "split", "label", "sample_weight", "given_label", "decision", "final_label",
        "decided_at", "decided_by",
    ]  # fmt: skip
    assert (result.changed, result.dropped, result.test_rows) == (1, 1, 0)
    again = open_dataset(tmp_path / name, DatasetConfig())
    assert again.sample_id.to_pylist() == list(frame.index)


def _read_lines(path: Path) -> pd.DataFrame:
    return pd.read_json(path, lines=True)


def test_a_decided_label_weighs_as_one_that_is_surely_right(tmp_path):
    samples = [Sample("a", 0, 0.0, weight=1.5), Sample("b", 0, 0.5, weight=0.75)]
    samples += [Sample("c", 1, 0.9, weight=0.15), Sample("d", 1, 0.9, weight=0.15)]
    run_of(tmp_path, samples)
    DecisionLog(tmp_path).append([Decision("c", "keep"), Decision("d", "relabel", "cat")])
    export(tmp_path, tmp_path / "t.parquet")
    weights = pd.read_parquet(tmp_path / "t.parquet").set_index("sample_id")["sample_weight"]
    assert weights["c"] == weights["d"] == pytest.approx(weights["a"])
    assert weights["b"] == pytest.approx(weights["a"] / 2)


def test_decisions_that_do_not_fit_are_told(tmp_path):
    run_of(tmp_path)
    DecisionLog(tmp_path).append([Decision("gone", "keep"), Decision("clean", "relabel", "wolf")])
    result = export(tmp_path, tmp_path / "t.csv")
    assert result.notes == (
        "1 decision is on samples that the report does not hold, and left aside",
        "new classes: wolf",
    )
    DecisionLog(tmp_path).append([Decision("clean", "relabel", 3)])
    with pytest.raises(DecisionsError, match="the classes are text"):
        export(tmp_path, tmp_path / "u.csv")
    assert not (tmp_path / "u.csv").exists()


def test_cells_that_a_spreadsheet_takes_for_formulas_are_counted(tmp_path):
    samples = [Sample("=1+1", 0), Sample("@x", 1), Sample("-5", 0), Sample("plain", 1)]
    result = export(run_of(tmp_path, samples), tmp_path / "t.csv")
    [note] = result.notes
    assert note.startswith("2 cells begin with")
    assert "=1+1" in (tmp_path / "t.csv").read_text()


# Hugging Face


def test_huggingface_shards_hold_images_and_named_classes(tmp_path, run):
    result = export(run, tmp_path / "hf", format="huggingface")
    assert sorted(files_of(tmp_path / "hf")) == [
        "data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"
    ]  # fmt: skip
    assert (result.files, result.kept) == (2, 4)
    again = open_dataset(tmp_path / "hf", DatasetConfig())  # labelfix itself reads them
    labels = [again.class_names[code] for code in again.given_label]
    assert dict(zip(again.sample_id.to_pylist(), labels, strict=True)) == LABELS
    assert {again.split[row].as_py() for row in range(4)} == {"test", "train"}
    assert again.store.read(0) == (tmp_path / "data" / "test/dog/=x.png").read_bytes()


def test_datasets_reads_the_huggingface_export(tmp_path, run):
    datasets = pytest.importorskip("datasets", reason="the extra dev installs it")
    export(run, tmp_path / "hf", format="huggingface")
    loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    rows = [row for split in loaded.values() for row in split]
    names = loaded["train"].features["label"].names
    assert {row["sample_id"]: names[row["label"]] for row in rows} == LABELS
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 3, "test": 1}
    for row in rows:
        truth = Image.open(tmp_path / "data" / row["sample_id"])
        assert list(row["image"].getdata()) == list(truth.getdata())


def test_integer_classes_and_broken_images_in_a_huggingface_export(tmp_path):
    table = {"image": [png(1), png(2), None], "label": [3, 12, 3], "split": ["a b", None, "a-b"]}
    pq.write_table(pa.table(table), tmp_path / "d.parquet")
    write_run(tmp_path / "run", tmp_path / "d.parquet", [fate("relabel", 40), fate(), fate()])
    export(tmp_path / "run", tmp_path / "hf", format="huggingface")
    folder = tmp_path / "hf" / "data"
    rows = {
        path.name.partition("-")[0]: pq.read_table(path).to_pylist() for path in folder.iterdir()
    }
    assert {split: [row["label"] for row in rows[split]] for split in rows} == {
        "a_b": [40], "unsplit": [12], "a_b_2": [3]
    }  # fmt: skip
    assert rows["a_b_2"][0]["image"] is None


# cleanlab


@pytest.mark.parametrize("name", ["issues.csv", "issues.parquet"])
def test_cleanlab_takes_the_four_columns_as_its_own(tmp_path, name):
    cleanlab = pytest.importorskip("cleanlab.classification", reason="the extra dev installs it")
    run_of(tmp_path)
    DecisionLog(tmp_path).append([Decision("clean", "drop")])
    result = export(tmp_path, tmp_path / name, format="cleanlab")
    assert (result.kept, result.changed, result.dropped) == (8, 0, 0)
    frame = (pd.read_csv if name.endswith("csv") else pd.read_parquet)(tmp_path / name)
    report = read_report(tmp_path)
    assert tuple(frame.columns) == COLUMNS
    assert frame["is_label_issue"].tolist() == report["is_label_issue"].tolist()
    issues = frame[["is_label_issue", "label_score"]].set_axis(
        ["is_label_issue", "label_quality"], axis=1
    )
    features = np.arange(len(frame), dtype=float)[:, None]
    labels = np.arange(len(frame)) % 2
    model = cleanlab.CleanLearning(verbose=False)
    model.fit(features, labels, label_issues=issues)
    assert model.get_label_issues()["is_label_issue"].tolist() == frame["is_label_issue"].tolist()


def test_datalab_itself_names_its_columns_so(tmp_path):
    pytest.importorskip("datasets", reason="Datalab needs it; the extra dev installs it")
    from cleanlab import Datalab

    export(run_of(tmp_path), tmp_path / "issues.parquet", format="cleanlab")
    ours = pd.read_parquet(tmp_path / "issues.parquet")
    probs = np.random.default_rng(0).dirichlet(np.ones(2), 40)
    lab = Datalab({"label": ["cat", "dog"] * 20}, label_name="label", verbosity=0)
    lab.find_issues(pred_probs=probs, issue_types={"label": {}})
    theirs = lab.get_issues("label")
    assert list(ours.columns) == list(theirs.columns)
    assert [ours[name].dtype.kind for name in ours] == [theirs[name].dtype.kind for name in theirs]


# Label Studio, Argilla


def test_label_studio_tasks_fit_the_interface_beside_them(tmp_path, run):
    result = export(run, tmp_path / "tasks.json", format="label-studio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    by_id = {task["data"]["sample_id"]: task for task in tasks}
    assert set(by_id) == set(LABELS)
    task = by_id["test/dog/=x.png"]
    assert task["data"]["image"] == "/data/local-files/?d=data/test/dog/%3Dx.png"
    assert [t["predictions"][0]["result"][0]["value"]["choices"] for t in tasks] == [
        ["dog"], ["dog"], ["cat"], ["cat"]
    ]  # fmt: skip
    decided = {name for name, task in by_id.items() if "annotations" in task}
    assert decided == {"test/dog/=x.png", "train/cat/a.png"}
    view = ElementTree.parse(tmp_path / "tasks.xml")
    assert [choice.get("value") for choice in view.iter("Choice")] == ["cat", "dog"]
    assert result.files == 2
    assert "tasks.xml" in result.notes[0]


def test_label_studios_own_interface_takes_the_tasks(tmp_path, run):
    reason = "label-studio-sdk is heavy; run by hand, see docs/exports.md"
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason=reason)
    export(run, tmp_path / "tasks.json", format="label-studio")
    view = interface.LabelInterface((tmp_path / "tasks.xml").read_text())
    view.validate()
    for task in json.loads((tmp_path / "tasks.json").read_text()):
        assert view.validate_prediction(task["predictions"][0], return_errors=True) == []
        assert all(map(view.validate_annotation, task.get("annotations", [])))


def test_hostile_class_names_stay_in_their_place(tmp_path):
    names = ['"/><script>', "a\x00b\x1b"]
    table = {"image": [png(1), png(2)], "label": names}
    pq.write_table(pa.table(table), tmp_path / "d.parquet")
    write_run(tmp_path / "run", tmp_path / "d.parquet", [fate("keep"), fate("keep")])
    export(tmp_path / "run", tmp_path / "t.json", format="label-studio")
    view = ElementTree.parse(tmp_path / "t.xml")
    choices = [choice.get("value") for choice in view.iter("Choice")]
    assert choices == ['"/><script>', "a\ufffdb\ufffd"]
    tasks = json.loads((tmp_path / "t.json").read_text())
    chosen = [task["annotations"][0]["result"][0]["value"]["choices"][0] for task in tasks]
    assert chosen == choices


def test_images_inside_parquet_travel_in_the_tasks(tmp_path, parquet_run):
    export(parquet_run, tmp_path / "t.json", format="label-studio")
    export(parquet_run, tmp_path / "r.json", format="argilla")
    uris = [task["data"]["image"] for task in json.loads((tmp_path / "t.json").read_text())]
    assert uris == [rec["fields"]["image"] for rec in json.loads((tmp_path / "r.json").read_text())]
    head, _, data = uris[0].partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (4, 4)


def test_argilla_records_suggest_labels(tmp_path, run):
    export(run, tmp_path / "r.json", format="argilla")
    records = json.loads((tmp_path / "r.json").read_text())
    labels = {rec["id"]: rec["suggestions"]["label"]["value"] for rec in records}
    assert labels == LABELS | {"train/dog/a.png": "cat"}  # nobody was sure of it
    assert Path(records[0]["fields"]["image"]).read_bytes()
    scores = {rec["id"]: rec["suggestions"]["label"]["score"] for rec in records}
    assert scores["train/cat/a.png"] == 1
    assert scores["train/cat/b.png"] == pytest.approx(0.99)


def test_argilla_reads_the_records(tmp_path, run):
    reason = "argilla is heavy; run by hand, see docs/exports.md"
    io_of = pytest.importorskip("argilla.records._io", reason=reason)
    export(run, tmp_path / "r.json", format="argilla")
    records = io_of.JsonIO._records_from_json(tmp_path / "r.json")
    assert {record.id for record in records} == set(LABELS)


# FiftyOne


@pytest.mark.parametrize("link", [False, True])
def test_fiftyone_labels_name_the_files_beside_them(tmp_path, run, link):
    result = export(run, tmp_path / "fo", format="fiftyone", link=link)
    labels = json.loads((tmp_path / "fo" / "labels.json").read_text())
    assert labels["classes"] == ["cat", "dog"]
    by_id = {entry["attributes"]["sample_id"]: name for name, entry in labels["labels"].items()}
    assert {name: labels["labels"][at]["label"] for name, at in by_id.items()} == LABELS
    for name, at in by_id.items():
        file = tmp_path / "fo" / "data" / f"{at}.png"
        assert file.read_bytes() == (tmp_path / "data" / name).read_bytes()
        assert file.samefile(tmp_path / "data" / name) == link
    assert result.files == 5


def test_fiftyones_own_importer_reads_the_folder(tmp_path, run):
    reason = "fiftyone is heavy; run by hand, see docs/exports.md"
    data = pytest.importorskip("fiftyone.utils.data", reason=reason)
    export(run, tmp_path / "fo", format="fiftyone")
    importer = data.FiftyOneImageClassificationDatasetImporter(dataset_dir=str(tmp_path / "fo"))
    with importer:
        assert {label.sample_id: label.label for _, _, label in importer} == LABELS


def test_names_in_parquet_cannot_lead_out_of_an_export(tmp_path, parquet_run):
    for form in ("fiftyone", "huggingface", "folder"):
        export(parquet_run, tmp_path / "out" / form, format=form)
    inside = {path.split("/")[0] for path in files_of(tmp_path / "out")}
    assert inside == {"fiftyone", "huggingface", "folder"}
    others = {path.split("/")[0] for path in files_of(tmp_path)}
    assert others == {"data.parquet", "run", "out"}


def test_a_link_out_of_a_folder_of_shards_is_not_followed(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "data").mkdir()
    for name, label in (("a", "cat"), ("b", "dog")):
        table = pa.table({"image": [name.encode()], "label": [label]})
        pq.write_table(table, tmp_path / "data" / f"{name}.parquet")
    (tmp_path / "data" / "notes.txt").write_text("mine")
    (tmp_path / "data" / "link.txt").symlink_to(tmp_path / "secret.txt")
    write_run(tmp_path / "run", tmp_path / "data", [fate("relabel"), fate()])
    export(tmp_path / "run", tmp_path / "clean")
    assert set(files_of(tmp_path / "clean")) == {"a.parquet", "b.parquet", "notes.txt"}


# torch


def lines_for_torch(word):
    [code] = [
        block
        for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        if word in block
    ]
    return code


def test_the_lines_for_soft_labels_run_as_they_stand(tmp_path, run):
    export(run, tmp_path / "soft.parquet", soft_labels=True)
    check = "assert targets.shape == (4, 2); assert len(classes) == 2; assert 0 < loss < 1"
    program = f"{lines_for_torch('soft_label')}\n{check}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_lines_for_torch_run_as_they_stand(tmp_path, run):
    code = lines_for_torch("WeightedRandomSampler")
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 5
    export(run, tmp_path / "clean.parquet")
    check = "assert len(list(sampler)) == 4; assert losses.shape == (4,)"
    program = f"{code}\n{check}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# What is refused


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("issues.json", {"format": "cleanlab"}, "whether to write CSV or Parquet"),
        ("hf", {"format": "huggingface", "link": True}, "no files that could be links"),
        ("t.json", {}, "cannot tell from"),
    ],
)
def test_formats_that_cannot_be_are_refused(tmp_path, run, to, options, message):
    with pytest.raises(ConfigError, match=message):
        export(run, tmp_path / to, **options)
    assert not (tmp_path / to).exists()


def test_the_own_form_keeps_its_ending(tmp_path, parquet_run):
    with pytest.raises(ConfigError, match="under another ending"):
        export(parquet_run, tmp_path / "clean.csv", format="own")


def test_given_probabilities_have_no_own_form(tmp_path):
    source = DatasetSource("pred_probs", tmp_path / "probs.csv", {})
    dataset = dataset_of([Sample("a", 0), Sample("b", 1, **SURE)], ("cat", "dog"), source)
    report = report_of([Sample("a"), Sample("b", 1)], dataset=dataset)
    write_report(report, tmp_path / "report.parquet")
    with pytest.raises(DatasetError, match="no images or manifest"):
        export(tmp_path, tmp_path / "c.csv", format="own")


def test_labels_that_changed_since_the_audit_are_refused(tmp_path):
    class_folder(tmp_path, "a.png", "b.png")
    (tmp_path / "list.csv").write_text("image,label\na.png,cat\nb.png,dog\n")
    write_run(tmp_path / "run", tmp_path / "list.csv", [fate("relabel"), fate()])
    (tmp_path / "list.csv").write_text("image,label\na.png,dog\nb.png,cat\n")
    with pytest.raises(DatasetError, match="its labels are not those of the report"):
        export(tmp_path / "run", tmp_path / "clean.csv", format="own")


def test_the_interface_beside_tasks_is_not_overwritten_unasked(tmp_path, run):
    (tmp_path / "tasks.xml").write_text("mine")
    with pytest.raises(RunError, match="is there already"):
        export(run, tmp_path / "tasks.json", format="label-studio")
    assert (tmp_path / "tasks.xml").read_text() == "mine"
    assert not (tmp_path / "tasks.json").exists()


def test_the_decisions_are_never_written_over(tmp_path, run):
    with pytest.raises(ConfigError, match="never changes"):
        export(run, run / "decisions.jsonl", overwrite=True)
