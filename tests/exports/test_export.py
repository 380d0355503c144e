"""Exports: what changes, what stays, and that nothing else is touched."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exported_runs import CAT, DOG, SAMPLES, SURE, class_folder, files_of, png, run_of
from hypothesis import given, settings
from hypothesis import strategies as st
from small_report import CLASS_NAMES, Sample, dataset_of, report_of, samples_of

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.decisions import Decision, DecisionLog
from labelfix.errors import ConfigError, DatasetError, DecisionsError, ReportError, RunError
from labelfix.exports.export import export
from labelfix.exports.folder import safe_name
from labelfix.exports.plan import ExportPlan, plan_export
from labelfix.report.io import write_report
from labelfix.report.view import ReportView
from labelfix.types import MISSING


def audited(run: Path, data: Path, suggestions: dict[str, str] | None = None, **columns) -> Path:
    """Write the report of an audit of ``data`` that is sure of some suggestions, by sample id."""
    dataset = open_dataset(data, DatasetConfig(**columns))
    codes = {name: code for code, name in enumerate(dataset.class_names)}
    samples = []
    for name, label in zip(dataset.sample_id.to_pylist(), dataset.given_label, strict=True):
        better = codes[suggestions[name]] if name in (suggestions or {}) else None
        action = SURE if better is not None else {"error": None if label == MISSING else 0.01}
        samples.append(Sample(name, int(label), suggested=better, **action))
    run.mkdir(exist_ok=True)
    write_report(report_of(samples, dataset=dataset), run / "report.parquet")
    return run


def plan_of(report, decisions=None, **options) -> ExportPlan:
    return plan_export(ReportView(report, decisions or {}), **options)


def manifest(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    return frame.set_index("sample_id")


# What changes


@pytest.mark.parametrize("name", ["clean.csv", "clean.parquet"])
def test_a_manifest_changes_only_what_is_surely_wrong_and_surely_better(tmp_path, name):
    result = export(run_of(tmp_path), tmp_path / name)
    rows = manifest(tmp_path / name)
    assert list(rows.index) == [sample.name for sample in SAMPLES]
    assert rows["label"].dropna().to_dict() == {
        "clean": "cat",
        "sure": "dog",
        "unsure what": "cat",
        "maybe": "cat",
        "test": "cat",
        "broken": "cat",
        "test broken": "cat",
    }
    assert rows["label"].isna()["unlabeled"]
    assert rows.loc["sure", "given_label"] == "cat"
    assert rows.loc["test", "split"] == "Test"
    assert (result.rows, result.kept, result.changed, result.dropped) == (8, 8, 1, 0)
    assert (result.test_rows, result.without_image, result.files) == (2, 0, 1)
    assert result.to_json()["to"] == str(tmp_path / name)


def test_dropping_leaves_out_what_is_wrong_without_a_sure_suggestion_and_the_unreadable(tmp_path):
    result = export(run_of(tmp_path), tmp_path / "clean.csv", drop=True)
    gone = {sample.name for sample in SAMPLES} - set(manifest(tmp_path / "clean.csv").index)
    assert gone == {"unsure what", "broken"}
    assert (result.kept, result.dropped) == (6, 2)


def test_a_lower_bar_changes_more(tmp_path):
    export(run_of(tmp_path), tmp_path / "clean.csv", min_probability=0.7)
    rows = manifest(tmp_path / "clean.csv")
    assert rows.loc["maybe", "label"] == "dog"
    assert rows.loc["unsure what", "label"] == "cat"


def test_a_changed_label_weighs_by_its_own_probability(tmp_path):
    samples = [  # weighed with 1.5 times their label_score
        Sample("clean", CAT, 0.0, weight=1.5),
        Sample("wrong", CAT, 1.0, suggested=DOG, certainty=0.96, weight=0.0),
        Sample("half", CAT, 0.5, weight=0.75),
        Sample("broken", CAT, None, unreadable="empty file", weight=0.0),
    ]
    export(run_of(tmp_path, samples), tmp_path / "clean.csv")
    weights = manifest(tmp_path / "clean.csv")["sample_weight"]
    assert weights["wrong"] / weights["clean"] == pytest.approx(0.96, rel=1e-5)
    assert weights["half"] / weights["clean"] == pytest.approx(0.5, rel=1e-5)
    assert weights.mean() == pytest.approx(1, rel=1e-5)


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_exactly_the_rows_that_the_rule_names_change(data):
    class_names = data.draw(CLASS_NAMES)
    samples = data.draw(samples_of(len(class_names)))
    least = data.draw(st.sampled_from([0.0, 0.5, 0.95, 1.0]))
    drop = data.draw(st.booleans())
    plan = plan_of(report_of(samples, class_names), min_probability=least, drop=drop)

    labels, expected = plan.label.to_pylist(), []
    for row, sample in enumerate(samples):
        label = None if sample.given == MISSING else class_names[sample.given]
        if sample.split is None or sample.split.lower() != "test":
            if sample.suggested is not None and np.float32(sample.error) >= np.float32(least):
                if np.float32(sample.certainty) >= np.float32(least):
                    label = class_names[sample.suggested]
                elif drop:
                    continue
            if drop and sample.unreadable is not None:
                continue
        expected.append((row, label))
    assert list(zip(plan.rows.tolist(), labels, strict=True)) == expected
    changed = [
        label != (None if samples[row].given == MISSING else class_names[samples[row].given])
        for row, label in expected
    ]
    assert plan.is_changed.tolist() == changed
    assert (plan.sample_weight >= 0).all()
    if plan.sample_weight.any():
        assert plan.sample_weight.mean(dtype=np.float64) == pytest.approx(1, abs=1e-3)
    for weight, (row, _) in zip(plan.sample_weight, expected, strict=True):
        assert samples[row].unreadable is None or weight == 0


# Manifests


def test_integer_labels_stay_integers(tmp_path):
    samples = [Sample("a", 0, suggested=1, **SURE), Sample("b", 1), Sample("c", MISSING, None)]
    export(run_of(tmp_path, samples, [3, 12]), tmp_path / "clean.parquet")
    table = pq.read_table(tmp_path / "clean.parquet")
    assert table["label"].to_pylist() == [12, 12, None]
    assert table["given_label"].to_pylist() == [3, 12, None]
    export(tmp_path, tmp_path / "clean.csv")
    assert (tmp_path / "clean.csv").read_text().splitlines()[1].split(",")[1] == "12"


def test_a_manifest_of_a_class_folder_can_be_audited_again(tmp_path):
    names = ["cat/1.png", "cat/ein Hühnchen, 2.png", "dog/1.png", "dog/2.png"]
    data = class_folder(tmp_path / "data", *names)
    audited(tmp_path / "run", data, {"cat/1.png": "dog"})
    export(tmp_path / "run", tmp_path / "clean.csv")

    assert manifest(tmp_path / "clean.csv")["image"].tolist() == [f"data/{name}" for name in names]
    again = open_dataset(tmp_path / "clean.csv", DatasetConfig())

    assert again.sample_id.to_pylist() == names
    assert [again.class_names[code] for code in again.given_label] == ["dog", "cat", "dog", "dog"]
    assert [again.store.read(row) for row in range(4)] == [png(row) for row in range(4)]


def test_a_manifest_far_from_its_images_names_them_absolutely(tmp_path):
    data = class_folder(tmp_path / "data", "cat/1.png", "dog/1.png")
    audited(tmp_path / "run", data)
    export(tmp_path / "run", tmp_path / "elsewhere" / "clean.csv")
    image = manifest(tmp_path / "elsewhere" / "clean.csv")["image"]
    assert [Path(path) for path in image] == [data / "cat" / "1.png", data / "dog" / "1.png"]


def test_a_manifest_needs_no_images(tmp_path):
    run = run_of(tmp_path)  # its data never were
    export(run, tmp_path / "clean.csv")
    assert "image" not in manifest(tmp_path / "clean.csv").columns


# Class folders


def test_a_file_of_decisions_is_added_to_those_on_the_run(tmp_path):
    run, file = run_of(tmp_path), tmp_path / "decisions (1).jsonl"
    with pytest.raises(DecisionsError, match="no file of decisions"):
        export(run, tmp_path / "a.csv", decisions=file)
    DecisionLog(file).append([Decision("elsewhere", "keep")])
    with pytest.raises(DecisionsError, match="is on a sample of"):
        export(run, tmp_path / "a.csv", decisions=file)
    DecisionLog(file).append([Decision("clean", "relabel", "dog")])
    export(run, tmp_path / "a.csv", decisions=file)
    assert manifest(tmp_path / "a.csv")["label"]["clean"] == "dog"
    with pytest.raises(ConfigError, match="decisions"):
        export(run, file, format="jsonl", decisions=file, overwrite=True)
    DecisionLog(file).append([Decision("clean", "relabel", "ox")])
    with pytest.raises(DecisionsError, match="no class of the report"):
        export(run, tmp_path / "b.csv", decisions=file)


def test_a_class_folder_without_issues_comes_back_file_for_file(tmp_path):
    data = class_folder(tmp_path / "data", "cat/1.png", "cat/sub dir/1.png", "dög/1.png", "0%/x")
    (data / "cat" / "broken.jpg").write_bytes(b"")
    result = export(audited(tmp_path / "run", data), tmp_path / "clean")
    assert files_of(tmp_path / "clean") == files_of(data)
    assert (result.format, result.kept, result.files) == ("folder", 5, 5)


def test_splits_and_unlabeled_images_keep_their_place(tmp_path):
    data = class_folder(
        tmp_path / "data", "Train/cat/1.png", "Train/dog/1.png", "test/cat/1.png", "Train/stray.png"
    )
    run = audited(tmp_path / "run", data, {"Train/cat/1.png": "dog", "test/cat/1.png": "dog"})
    result = export(run, tmp_path / "clean")
    before = files_of(data)
    assert files_of(tmp_path / "clean") == {
        "Train/dog/1.png": before["Train/dog/1.png"],
        "Train/dog/1-2.png": before["Train/cat/1.png"],
        "Train/stray.png": before["Train/stray.png"],
        "test/cat/1.png": before["test/cat/1.png"],
    }
    assert (result.changed, result.test_rows) == (1, 1)
    assert len(before) == 4
    assert files_of(data) == before


def test_links_share_the_file(tmp_path):
    data = class_folder(tmp_path / "data", "cat/1.png", "cat/2.png", "dog/1.png")
    (data / "cat" / "2.png").unlink()
    (data / "cat" / "2.png").symlink_to(data / "cat" / "1.png")
    run = audited(tmp_path / "run", data, {"cat/1.png": "dog"})
    export(run, tmp_path / "clean", link=True)
    assert (tmp_path / "clean/dog/1-2.png").samefile(data / "cat/1.png")
    assert files_of(tmp_path / "clean") == {
        "cat/2.png": png(0), "dog/1.png": png(2), "dog/1-2.png": png(0)
    }  # fmt: skip


def listed(folder: Path, rows: str) -> Path:
    path = folder / "list.csv"
    path.write_text(rows, encoding="utf-8")
    return path


@pytest.mark.parametrize("link", [False, True])
def test_a_manifest_becomes_a_class_folder(tmp_path, link):
    class_folder(tmp_path, "a/1.png", "b/1.png", "c/1.png", "d/4.png")
    rows = ["image,label,split", "a/1.png,x/y,train", "b/1.png,..,train", "c/1.png,x/y,train"]
    data = listed(tmp_path, "\n".join([*rows, "gone.png,..,train", "d/4.png,,val"]))
    result = export(audited(tmp_path / "run", data), tmp_path / "out" / "clean", link=link)
    assert files_of(tmp_path / "out") == {
        "clean/train/x%2Fy/1.png": png(0),
        "clean/train/%2E%2E/1.png": png(1),
        "clean/train/x%2Fy/1-2.png": png(2),
        "clean/val/4.png": png(3),
    }
    assert (result.rows, result.kept, result.without_image, result.files) == (5, 4, 1, 4)


def test_images_in_parquet_become_files_with_fitting_names(tmp_path):
    table = {
        "sample_id": ["9", "../../up.png", "Ünï", "."],
        "image": [png(0), png(1), b"no image", png(3)],
        "label": [1, 2, 2, 1],
    }
    pq.write_table(pa.table(table), tmp_path / "data.parquet")
    run = audited(tmp_path / "run", tmp_path / "data.parquet", {"9": 2})
    export(run, tmp_path / "out" / "clean")
    assert files_of(tmp_path / "out") == {
        "clean/2/9.png": png(0),
        "clean/2/up.png": png(1),
        "clean/2/Ünï": b"no image",
        "clean/1/%.png": png(3),
    }


def test_images_in_parquet_cannot_be_linked(tmp_path):
    with pytest.raises(ConfigError, match="cannot be linked"):
        export(run_of(tmp_path), tmp_path / "clean", link=True)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=20))
def test_safe_names_are_one_part_of_a_path_and_differ(texts):
    names = [safe_name(text) for text in texts]
    assert len(set(names)) == len(texts)
    for name in names:
        assert Path(name).parts == (name,)
        assert not set(name) & set('/\\:*?"<>|\0\n')
        assert not name.startswith(".")
        assert not name.endswith((".", " "))


def test_long_names_are_cut_but_still_differ():
    names = {safe_name("ü" * 300 + end) for end in ("a", "b")}
    assert len(names) == 2
    assert all(len(name.encode()) <= 200 for name in names)


HEAVY = ("torch", "torchvision", "timm", "sklearn", "cleanlab")


def test_reading_summarizing_and_exporting_import_nothing_heavy(tmp_path, folder_run):
    code = f"""
import sys
from pathlib import Path
from labelfix.exports.export import export
from labelfix.report.io import read_report_table
from labelfix.report.summary import summarize
from labelfix.report.view import ReportView
assert "pandas" not in sys.modules
run, place = Path({str(folder_run)!r}), Path({str(tmp_path)!r})
summarize(ReportView(read_report_table(run)))
export(run, place / "clean")
export(run, place / "clean.csv")
from labelfix.report.frame import read_report
read_report(run)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# What is refused


@pytest.fixture
def folder_run(tmp_path):
    data = class_folder(tmp_path / "data", "cat/1.png", "dog/1.png")
    return audited(tmp_path / "run", data)


def test_data_that_are_gone_are_named(tmp_path, folder_run):
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match="the audited data set, is gone") as caught:
        export(folder_run, tmp_path / "clean")
    assert "--format csv" in caught.value.hint
    assert not (tmp_path / "clean").exists()


@pytest.mark.parametrize("change", ["cat/1.png", "cat/new.png"])
def test_data_that_changed_are_refused(tmp_path, folder_run, change):
    (tmp_path / "data" / change).write_bytes(b"something else")
    with pytest.raises(DatasetError, match="has changed since the audit"):
        export(folder_run, tmp_path / "clean")


def test_a_folder_that_holds_something_is_never_overwritten(tmp_path, folder_run):
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean" / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match="not an empty folder"):
        export(folder_run, tmp_path / "clean", overwrite=True)
    assert files_of(tmp_path / "clean") == {"mine.txt": b"keep"}


def test_an_empty_folder_is_filled(tmp_path, folder_run):
    (tmp_path / "clean").mkdir()
    export(folder_run, tmp_path / "clean")
    assert len(files_of(tmp_path / "clean")) == 2


def test_a_manifest_is_overwritten_only_if_asked(tmp_path, folder_run):
    (tmp_path / "clean.csv").write_text("mine")
    with pytest.raises(RunError, match="is there already"):
        export(folder_run, tmp_path / "clean.csv")
    assert (tmp_path / "clean.csv").read_text() == "mine"
    export(folder_run, tmp_path / "clean.csv", overwrite=True)
    assert len(manifest(tmp_path / "clean.csv")) == 2


@pytest.mark.parametrize("to", ["data/clean.csv", "data/cat/new", "data", "run/report.parquet"])
def test_nothing_is_written_into_what_was_read(tmp_path, folder_run, to):
    before = files_of(tmp_path)
    with pytest.raises(ConfigError, match="never changes"):
        export(folder_run, tmp_path / to, overwrite=True)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("clean.json", {}, "cannot tell from 'clean.json' what to write"),
        ("clean.csv", {"link": True}, "no files that could be links"),
        ("clean.csv", {"min_probability": 95}, "no probability"),
        ("clean.csv", {"min_probability": float("nan")}, "no probability"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, folder_run, to, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        export(folder_run, tmp_path / to, **options)
    assert caught.value.hint
    assert not (tmp_path / to).exists()


def test_the_form_can_be_said(tmp_path, folder_run):
    result = export(folder_run, tmp_path / "set.v2", format="folder")
    assert result.format == "folder"
    assert len(files_of(tmp_path / "set.v2")) == 2
    export(folder_run, tmp_path / "table.txt", format="csv")
    assert len(manifest_text(tmp_path / "table.txt")) == 3


def manifest_text(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_without_a_report_there_is_no_export(tmp_path):
    with pytest.raises(ReportError):
        export(tmp_path, tmp_path / "clean.csv")


class Interrupted(BaseException):
    """Like Ctrl-C, but not caught by pytest."""


def test_an_interrupted_export_leaves_nothing(tmp_path, folder_run):
    def stop(progress):
        if progress.stage == "writing files":
            raise Interrupted

    before = files_of(tmp_path)
    with pytest.raises(Interrupted):
        export(folder_run, tmp_path / "clean", on_progress=stop)
    assert files_of(tmp_path) == before


def test_a_report_that_was_tampered_with_writes_nothing_outside(tmp_path):
    data = class_folder(tmp_path / "data", "cat/1.png", "dog/1.png")
    dataset = open_dataset(data, DatasetConfig())
    forged = dataset_of(
        [Sample("cat/1.png", 1), Sample("dog/1.png", 2)], ("../../up", "cat", "dog"), dataset.source
    )
    object.__setattr__(forged, "fingerprint", dataset.fingerprint)
    samples = [Sample("cat/1.png", 1, suggested=0, **SURE), Sample("dog/1.png", 2)]
    (tmp_path / "run").mkdir()
    write_report(report_of(samples, dataset=forged), tmp_path / "run" / "report.parquet")
    export(tmp_path / "run", tmp_path / "a" / "b" / "clean")
    assert set(files_of(tmp_path / "a")) == {
        "b/clean/%2E.%2F..%2Fup/1.png", "b/clean/dog/1.png"
    }  # fmt: skip
