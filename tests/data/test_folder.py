"""``labelfix.data.dataset`` on class folders."""

import os
import pickle
import shutil
from pathlib import Path

import pytest
from opened_data import fault_of, labels_of, opened
from PIL import Image

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.errors import UnreadableSample
from labelfix.modalities.image.decode import decode_image
from labelfix.utils.progress import Progress


def put(root: Path, *names: str) -> Path:
    """Write a small image, each different, under each name."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 100, 200)).save(path, "PNG")
    return root


def test_class_folders(tmp_path):
    data = opened(put(tmp_path, "dog/b.png", "cat/x/deep.png", "cat/a.png", "dog/B.JPG", "2/c.png"))
    assert data.sample_id.to_pylist() == [
        "2/c.png", "cat/a.png", "cat/x/deep.png", "dog/B.JPG", "dog/b.png",
    ]  # fmt: skip
    assert data.class_names == ("2", "cat", "dog")
    assert labels_of(data) == ["2", "cat", "cat", "dog", "dog"]
    assert data.split.null_count == len(data) == len(data.store) == 5
    assert (data.source.kind, data.source.path, data.source.columns) == ("folder", tmp_path, {})


def test_images_go_with_their_rows(tmp_path):
    names = ["cat/b.png", "dog/a.png", "cat/a.png"]
    data = opened(put(tmp_path, *names))
    for row, name in enumerate(data.sample_id.to_pylist()):
        assert data.store.location(row) == str(tmp_path / name)
        assert data.store.read(row) == (tmp_path / name).read_bytes()
        assert decode_image(data.store.read(row)).getpixel((0, 0))[0] == names.index(name)


def test_split_folders_are_recognized_in_any_case(tmp_path):
    data = opened(put(tmp_path, "Train/cat/a.png", "train/dog/a.png", "TEST/cat/x/b.png"))
    assert dict(zip(data.sample_id.to_pylist(), data.split.to_pylist(), strict=True)) == {
        "TEST/cat/x/b.png": "TEST", "Train/cat/a.png": "Train", "train/dog/a.png": "train",
    }  # fmt: skip
    assert data.class_names == ("cat", "dog")


@pytest.mark.parametrize("split", ["train", "val", "valid", "validation", "test"])
def test_every_name_of_a_split(tmp_path, split):
    data = opened(put(tmp_path, f"{split}/cat/a.png", f"{split}/dog/a.png"))
    assert data.split.to_pylist() == [split, split]


def test_a_class_called_like_a_split_is_a_class_among_others(tmp_path):
    data = opened(put(tmp_path, "train/a.png", "plane/b.png"))
    assert data.class_names == ("plane", "train")
    assert data.split.null_count == 2


def test_an_unlabeled_split_has_missing_labels(tmp_path):
    data = opened(put(tmp_path, "train/cat/a.png", "train/dog/a.png", "test/1.png", "test/2.png"))
    assert labels_of(data) == [None, None, "cat", "dog"]
    assert data.split.to_pylist() == ["test", "test", "train", "train"]


def test_images_beside_class_folders_have_no_label_and_other_files_are_no_samples(tmp_path):
    put(tmp_path, "cat/a.png", "dog/a.png", "stray.jpg")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "report.parquet").write_bytes(b"not mine")
    data = opened(tmp_path)
    assert data.sample_id.to_pylist() == ["cat/a.png", "dog/a.png", "stray.jpg"]
    assert labels_of(data) == ["cat", "dog", None]


def test_every_file_in_a_class_folder_is_a_sample_but_hidden_ones(tmp_path):
    put(tmp_path, "cat/a.png", "dog/a.png")
    for name in ("cat/notes.txt", "cat/empty.png", "cat/.DS_Store", "dog/Thumbs.db"):
        (tmp_path / name).write_bytes(b"")
    put(tmp_path, ".git/x.png", "dog/.ipynb_checkpoints/a.png", "__MACOSX/dog/a.png")
    data = opened(tmp_path)
    assert data.sample_id.to_pylist() == [
        "cat/a.png", "cat/empty.png", "cat/notes.txt", "dog/a.png",
    ]  # fmt: skip
    with pytest.raises(UnreadableSample, match="empty file"):
        decode_image(data.store.read(1))


def test_unicode_spaces_and_undecodable_names(tmp_path):
    put(tmp_path, "Kätzchen 猫/ein Bild ü.png", "chien d'été/🐶 1.png", "new\nline/a.png")
    put(tmp_path, "odd/" + os.fsdecode(b"\xff\xfe.png"))
    data = opened(tmp_path)
    assert "Kätzchen 猫/ein Bild ü.png" in data.sample_id.to_pylist()
    assert "odd/\\xff\\xfe.png" in data.sample_id.to_pylist()
    assert data.class_names == ("Kätzchen 猫", "chien d'été", "new\nline", "odd")
    for row in range(len(data)):
        assert decode_image(data.store.read(row)).size == (8, 8)


def test_linked_images_and_class_folders_are_followed_if_asked(tmp_path):
    store = put(tmp_path / "store", "1.png", "2.png", "3.png")
    root = tmp_path / "data"
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "a.png").symlink_to(store / "1.png")
    (root / "dog").symlink_to(store)
    data = open_dataset(root, DatasetConfig(outside_files=True))
    assert data.sample_id.to_pylist() == ["cat/a.png", "dog/1.png", "dog/2.png", "dog/3.png"]
    assert data.source.follow_links
    assert data.store.read(0) == data.store.read(1)


def test_loops_of_links_end(tmp_path):
    root = put(tmp_path / "data", "cat/a.png", "dog/a.png")
    (root / "cat" / "itself").symlink_to(root / "cat")
    (root / "cat" / "top").symlink_to(root)
    (root / "dog" / "above").symlink_to(tmp_path)
    (root / "dog" / "everything").symlink_to("/")
    (root / "cat" / "round.png").symlink_to(root / "cat" / "round.png")
    data = opened(root)
    assert data.sample_id.to_pylist() == ["cat/a.png", "cat/round.png", "dog/a.png"]
    with pytest.raises(UnreadableSample, match="too many levels of symbolic links"):
        data.store.read(1)


def test_two_folders_that_link_to_each_other_end(tmp_path):
    put(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "cat" / "dogs").symlink_to(tmp_path / "dog")
    (tmp_path / "dog" / "cats").symlink_to(tmp_path / "cat")
    assert opened(tmp_path).sample_id.to_pylist() == [
        "cat/a.png", "cat/dogs/b.png", "dog/b.png", "dog/cats/a.png",
    ]  # fmt: skip


def test_broken_links_are_samples_whose_file_is_missing(tmp_path):
    put(tmp_path, "cat/a.png", "dog/a.png")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "bird").symlink_to(tmp_path / "unmounted")
    data = opened(tmp_path)
    assert data.sample_id.to_pylist() == ["bird", "cat/a.png", "cat/gone.png", "dog/a.png"]
    assert labels_of(data) == [None, "cat", "cat", "dog"]
    for row in (0, 2):
        with pytest.raises(UnreadableSample, match="file is missing"):
            data.store.read(row)


def test_pipes_are_never_opened(tmp_path):
    put(tmp_path, "cat/a.png", "dog/a.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    os.mkfifo(tmp_path / "far")
    (tmp_path / "cat" / "linked.png").symlink_to(tmp_path / "far")
    data = opened(tmp_path)
    assert data.sample_id.to_pylist() == ["cat/a.png", "cat/linked.png", "dog/a.png"]
    with pytest.raises(UnreadableSample, match="not a regular file"):
        data.store.read(1)


def test_files_that_change_after_opening_are_unreadable(tmp_path):
    data = opened(put(tmp_path, "cat/a.png", "cat/b.png", "dog/a.png"))
    (tmp_path / "cat/a.png").unlink()
    (tmp_path / "cat/b.png").unlink()
    (tmp_path / "cat/b.png").mkdir()
    with pytest.raises(UnreadableSample, match="file is missing"):
        data.store.read(0)
    with pytest.raises(UnreadableSample, match="not a regular file"):
        data.store.read(1)


@pytest.fixture
def permissions_count(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where the tests run as somebody who may read everything."""
    path = tmp_path_factory.mktemp("closed") / "file"
    path.touch(mode=0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")


@pytest.mark.usefixtures("permissions_count")
def test_a_file_without_permission_is_unreadable(tmp_path):
    data = opened(put(tmp_path, "cat/a.png", "dog/a.png"))
    (tmp_path / "cat/a.png").chmod(0)
    with pytest.raises(UnreadableSample, match="cannot be read: permission denied"):
        data.store.read(0)


@pytest.mark.usefixtures("permissions_count")
def test_a_folder_that_cannot_be_listed_stops_the_run(tmp_path):
    put(tmp_path, "cat/a.png", "dog/a.png")
    (tmp_path / "cat").chmod(0)
    try:
        assert "cannot list the folder" in str(fault_of(tmp_path))
    finally:
        (tmp_path / "cat").chmod(0o755)


def test_the_images_can_be_sent_to_another_process(tmp_path):
    images = opened(put(tmp_path, "cat/a.png", "dog/a.png")).store
    assert pickle.loads(pickle.dumps(images)).read(1) == images.read(1)


def test_progress_is_told(tmp_path):
    steps: list[Progress] = []
    open_dataset(put(tmp_path, "cat/a.png", "dog/a.png"), DatasetConfig(), steps.append)
    assert (steps[-1].done, steps[-1].total, steps[-1].unit) == (2, 2, "files")


class TestFingerprint:
    def test_it_moves_with_the_folder(self, tmp_path):
        first = put(tmp_path / "here", "cat/a.png", "dog/a.png")
        second = tmp_path / "there" / "copy"
        shutil.copytree(first, second)  # keeps the times
        assert opened(first).fingerprint == opened(second).fingerprint

    def test_it_tells_new_names_sizes_times_and_missing_files(self, tmp_path):
        put(tmp_path, "cat/a.png", "dog/a.png", "dog/b.png")
        os.utime(tmp_path / "dog/a.png", ns=(1, 1))
        seen = [opened(tmp_path).fingerprint]
        os.utime(tmp_path / "dog/a.png", ns=(1, 2))
        seen.append(opened(tmp_path).fingerprint)
        (tmp_path / "dog/a.png").write_bytes(b"longer" * 1000)
        os.utime(tmp_path / "dog/a.png", ns=(1, 2))
        seen.append(opened(tmp_path).fingerprint)
        (tmp_path / "dog/a.png").rename(tmp_path / "dog/c.png")
        seen.append(opened(tmp_path).fingerprint)
        (tmp_path / "dog/b.png").unlink()
        (tmp_path / "dog/b.png").symlink_to("nowhere")
        seen.append(opened(tmp_path).fingerprint)
        assert len(set(seen)) == 5

    def test_it_does_not_depend_on_what_is_no_sample(self, tmp_path):
        before = opened(put(tmp_path, "cat/a.png", "dog/a.png")).fingerprint
        (tmp_path / "notes.txt").write_text("x")
        assert opened(tmp_path).fingerprint == before


class TestBadInput:
    def test_missing_folder(self, tmp_path):
        fault = fault_of(tmp_path / "none")
        assert str(fault) == f"{tmp_path / 'none'} does not exist"

    def test_empty_folder(self, tmp_path):
        assert "is empty" in str(fault_of(tmp_path))

    def test_empty_class_folders(self, tmp_path):
        (tmp_path / "cat").mkdir()
        (tmp_path / "dog").mkdir()
        assert "is empty" in str(fault_of(tmp_path))

    def test_images_without_class_folders(self, tmp_path):
        fault = fault_of(put(tmp_path, "a.png", "b.png"))
        assert "none of the 2 files" in str(fault)
        assert "a folder of its own" in fault.hint

    def test_one_class(self, tmp_path):
        assert "only one class, 'cat'" in str(fault_of(put(tmp_path, "cat/a.png", "cat/b.png")))

    def test_a_manifest_lying_in_the_folder_is_pointed_at(self, tmp_path):
        put(tmp_path, "a.png", "b.png")
        (tmp_path / "labels.csv").write_text("image,label\na.png,x\nb.png,y\n")
        assert "labels.csv" in fault_of(tmp_path).hint
        for name in ("a.png", "b.png"):
            (tmp_path / "images").mkdir(exist_ok=True)
            (tmp_path / name).rename(tmp_path / "images" / name)
        assert "labels.csv" in fault_of(tmp_path).hint

    def test_a_file_of_an_unknown_kind(self, tmp_path):
        (tmp_path / "data.dat").write_bytes(b"PK")
        fault = fault_of(tmp_path / "data.dat")
        assert "data.dat" in str(fault)
        assert "manifest" in fault.hint
