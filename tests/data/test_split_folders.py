"""Which folders of a data set are splits, which are classes, and which are neither."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opened_data import labels_of, opened, said

from labelfix.data.splits import rows_for_testing
from labelfix.errors import ConfigError, DatasetError
from labelfix.types import LabeledDataset


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")
    return root


def rows_of(data: LabeledDataset) -> dict[str, tuple[str | None, object]]:
    pairs = zip(data.split.to_pylist(), labels_of(data), strict=True)
    return dict(zip(data.sample_id.to_pylist(), pairs, strict=True))


def splits_of(root: Path, *splits: str) -> Path:
    """Write folders of splits, each with the classes cat and dog."""
    return put(root, *(f"{split}/{label}/1.png" for split in splits for label in ("cat", "dog")))


@pytest.mark.parametrize(
    ("splits", "testing"),
    [
        (["Training", "Testing"], ["Testing"]), (["train2017", "val2017"], []),
        (["train", "dev", "eval"], ["eval"]), (["train", "test", "extra"], ["test"]),
        (["imagenet_train", "imagenet_val", "imagenet_test"], ["imagenet_test"]),
        (["01_train", "02_test"], ["02_test"]), (["train_images", "test_images"], ["test_images"]),
        (["TRAIN", "holdout"], ["holdout"]), (["training-set", "eval-set"], ["eval-set"]),
        (["train", "test", "unlabeled"], ["test"]), (["train"], []), (["my_train"], []),
        (["train_a", "train_b", "test_a"], ["test_a"]), (["trainset", "testset"], ["testset"]),
    ],
)  # fmt: skip
def test_folders_of_splits_are_no_classes(tmp_path, splits, testing):
    data = opened(splits_of(tmp_path, *splits))
    assert data.class_names == ("cat", "dog")
    assert {split for split, _ in rows_of(data).values()} == set(splits)
    is_test = rows_for_testing(data.split, data.test_splits)
    assert sorted(set(data.split.filter(pa.array(is_test)).to_pylist())) == testing
    if testing and set(splits) - {"train", "test"}:
        assert all(f"{name!r}" in said(data) for name in splits)


@pytest.mark.parametrize(
    "folders",
    [
        ["train", "car", "bus"], ["train", "plane"], ["test_tube", "flask"], ["trainer", "coach"],
        ["evil", "devil"], ["training", "running", "swimming"], ["bullet_train", "steam_train"],
        ["blood_test", "urine_test"], ["validated", "rejected"], ["images", "scans"],
        ["training", "testing", "cooking", "reading", "writing"],
    ],
)  # fmt: skip
def test_folders_of_classes_are_no_splits(tmp_path, folders):
    data = opened(put(tmp_path, *(f"{folder}/1.png" for folder in folders)))
    assert data.class_names == tuple(sorted(folders))
    assert data.split.null_count == len(folders)
    assert ("not a split" in said(data)) == ("train" in folders or "running" in folders)


def test_classes_with_folders_inside_are_no_splits(tmp_path):
    data = opened(put(tmp_path, "train/steam/1.png", "car/red/1.png", "bus/old/1.png"))
    assert data.class_names == ("bus", "car", "train")


def test_splits_below_the_classes(tmp_path):
    put(tmp_path, "cat/train/1.png", "cat/test/1.png", "dog/train/1.png", "dog/val/2.png")
    data = opened(tmp_path)
    assert rows_of(data)["cat/test/1.png"] == ("test", "cat")
    assert data.class_names == ("cat", "dog")
    assert "'test', 'train', 'val'" in said(data)


@pytest.mark.parametrize(
    "names",
    [
        ["train/1.png", "test/1.png"], ["Training/1.png", "Testing/1.png", "other/1.png"],
        ["train/1.png"], ["train/1.png", "unlabeled/1.png"],
        ["train/images/1.png", "val/images/1.png"],
        ["train/front/1.png", "car/front/1.png"], ["train/1.png", "val/1.png", "car/1.png"],
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_asked(tmp_path, names):
    with pytest.raises(DatasetError, match="splits or classes") as caught:
        opened(put(tmp_path, *names))
    assert "manifest" in caught.value.hint


def test_a_manifest_beside_splits_without_classes_is_pointed_at(tmp_path):
    put(tmp_path, "train/1.png", "test/1.png")
    (tmp_path / "labels.csv").write_text("image,label\n")
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path)
    assert "labels.csv" in caught.value.hint


def test_what_lies_beside_splits_is_a_split_or_is_left_out_and_said(tmp_path):
    splits_of(tmp_path, "train", "test")
    put(tmp_path, "more/cat/2.png", "spare/3.png", "models/net/4.png", "docs/a.md", "docs/b/c.md")
    data = opened(tmp_path)
    rows = rows_of(data)
    assert rows["more/cat/2.png"] == ("more", "cat")
    assert rows["spare/3.png"] == ("spare", None)
    assert not any(name.startswith(("models", "docs")) for name in rows)
    assert "'models' left out" in said(data)
    assert "'more', 'spare' beside the splits are splits" in said(data)


def test_a_test_folder_with_one_folder_of_no_class_has_no_labels(tmp_path):
    splits_of(tmp_path, "train")
    data = opened(put(tmp_path, "test/images/1.png", "test/images/2.png"))
    assert rows_of(data)["test/images/1.png"] == ("test", None)
    assert data.class_names == ("cat", "dog")


def test_a_data_set_one_folder_further_down_is_pointed_at(tmp_path):
    with pytest.raises(DatasetError, match="only one class folder, 'pets'") as caught:
        opened(splits_of(tmp_path / "pets", "train", "test").parent)
    assert str(tmp_path / "pets") in caught.value.hint


@settings(max_examples=25)
@given(
    train=st.sampled_from(["train", "Training", "TRAIN_SET", "trn", "train2017", "x_train"]),
    test=st.sampled_from(["test", "Testing", "TEST-images", "tst", "test1", "eval", "x_test"]),
    extra=st.sampled_from([None, "extra", "misc", "zebra", "unlabeled", "2021"]),
)
def test_any_names_of_splits_above_the_same_classes(train, test, extra):
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in (train, test, extra) if name is not None]
        if ("x_" in train) != ("x_" in test):
            return  # names of one scheme
        data = opened(splits_of(Path(folder), *names))
    assert data.class_names == ("cat", "dog")
    assert set(data.split.to_pylist()) == set(names)
    for name, (split, _) in rows_of(data).items():
        row = data.sample_id.to_pylist().index(name)
        assert rows_for_testing(data.split)[row] == (split == test)


class TestNamedTestSplit:
    def test_it_is_never_trained_on(self, tmp_path):
        data = opened(splits_of(tmp_path, "train", "Prüfung"), test_split=("prüfung",))
        assert data.test_splits == ("prüfung",)
        assert rows_for_testing(data.split, data.test_splits).sum() == 2

    def test_it_has_to_be_there(self, tmp_path):
        with pytest.raises(ConfigError, match="its splits are: 'test', 'train'") as caught:
            opened(splits_of(tmp_path, "train", "test"), test_split=("tests",))
        assert "'test'" in caught.value.hint

    def test_data_without_splits_have_none(self, tmp_path):
        with pytest.raises(ConfigError, match="has no splits") as caught:
            opened(put(tmp_path, "cat/1.png", "dog/1.png"), test_split=("prod",))
        assert "--split-column" in caught.value.hint


def table(path: Path, splits: list[object], name: str = "split") -> Path:
    put(path.parent, "a.png")
    rows = [f"{row}.png,{'xy'[row % 2]},{split}" for row, split in enumerate(["train", *splits])]
    path.write_text("\n".join([f"image,label,{name}", "a.png,x,train", *rows]) + "\n")
    return path


@pytest.mark.parametrize("split", ["Testing", "TEST", "eval", "holdout", "PublicTest", "test_hard"])
def test_rows_of_a_test_split_by_column(tmp_path, split):
    data = opened(table(tmp_path / "m.csv", [split, "train", "validation", "dev"]))
    is_test = rows_for_testing(data.split, data.test_splits)
    assert data.split.filter(pa.array(is_test)).to_pylist() == [split]
    assert f"'{split}' is for testing" in said(data)


def test_splits_that_say_nothing_are_said_to_be_trained_on(tmp_path):
    data = opened(table(tmp_path / "m.csv", [0, 1, 2]))
    assert "'0', '1', '2', 'train' are trained on (--test-split" in said(data)
    data = opened(table(tmp_path / "m.csv", [0, 1, 2]), test_split=("2",))
    assert "'2' is for testing" in said(data)


def test_plain_names_need_no_word(tmp_path):
    assert not opened(table(tmp_path / "m.csv", ["test", "val", "Train"])).assumptions


def test_data_of_a_test_split_alone_are_trained_on_and_said(tmp_path):
    assert "trained on all the same" in said(opened(splits_of(tmp_path, "test")))


@pytest.mark.parametrize("name", ["run", "a/deep/run"])
@pytest.mark.parametrize("mark", ["run.json", "unfinished.json"])
def test_runs_inside_the_data_are_passed_over_and_said(tmp_path, name, mark):
    put(tmp_path, "cat/1.png", "dog/1.png")
    before = opened(tmp_path).fingerprint
    put(tmp_path, f"{name}/report.html", f"{name}/pictures/1.png")
    content = '{"config": {}, "fingerprint": "f", "noise_rate": 0, "versions": {"labelfix": "1"}}'
    (tmp_path / name / mark).write_text(content)
    data = opened(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.fingerprint == before
    assert f"'{name}' is no part of the data" in said(data)
    with pytest.raises(DatasetError, match="no data set: labelfix wrote it"):
        opened(tmp_path / name)


def test_files_of_other_tools_with_such_a_name_are_no_runs(tmp_path):
    put(tmp_path, "cat/1.png", "dog/1.png", "fox/1.png")
    (tmp_path / "fox" / "run.json").write_text('{"loss": 1}')
    assert opened(tmp_path).class_names == ("cat", "dog", "fox")


def test_shards_inside_a_run_are_no_shards_of_the_data(tmp_path):
    (tmp_path / "run").mkdir()
    table = pa.table({"image": [b"1", b"2"], "label": ["x", "y"]})
    for name in ("data.parquet", "run/report.parquet"):
        pq.write_table(table, tmp_path / name)
    (tmp_path / "run" / "unfinished.json").write_text('{"config": {}, "fingerprint": ""}')
    assert len(opened(tmp_path)) == 2
