"""Nothing outside DATA is read, shown or copied unless an audit was told to follow links."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from encoded_images import numbered
from small_report import Sample, report_of

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.stores import shown_images
from labelfix.errors import DatasetError, UnreadableSample
from labelfix.exports.export import export
from labelfix.report.io import read_report_table, write_report
from labelfix.report.reopen import open_audited
from labelfix.types import LabeledDataset

SECRET = b"root:x:0:0"
FORMS = [("folder", "to"), ("fiftyone", "to"), ("huggingface", "to"), ("label-studio", "to.json"),
         ("argilla", "to.json")]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(4):
            (root / name / f"{number}.png").write_bytes(numbered(number))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "passwd").write_bytes(SECRET)
    return root


def write_run(data: Path, run: Path, *, follow: bool = False) -> Path:
    dataset = open_dataset(data, DatasetConfig(outside_files=follow))
    samples = []
    for row, name in enumerate(dataset.sample_id.to_pylist()):
        reason = None
        try:
            dataset.store.read(row)
        except UnreadableSample as error:
            reason = str(error)
        given = int(dataset.given_label[row])
        error = None if reason else 0.01
        samples.append(Sample(name, given, error, unreadable=reason, weight=0 if reason else 1))
    run.mkdir()
    write_report(report_of(samples, dataset=dataset), run / "report.parquet")
    return run


def reasons_of(dataset: LabeledDataset) -> dict[str, str]:
    reasons = {}
    for row, name in enumerate(dataset.sample_id.to_pylist()):
        try:
            dataset.store.read(row)
        except UnreadableSample as error:
            reasons[name] = str(error)
    return reasons


def bytes_in(place: Path) -> bytes:
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return b"\n".join(path.read_bytes() for path in files)


def make_links(data: Path) -> None:
    outside = data.parent / "outside"
    (data / "cat" / "passwd.png").symlink_to(outside / "passwd")
    (data / "cat" / "hop.png").symlink_to(data / "cat" / "passwd.png")
    (data / "cat" / "more").symlink_to(outside)
    (data / "dog" / "loop.png").symlink_to(data / "dog" / "loop.png")
    (data / "dog" / "inside.png").symlink_to(data / "cat" / "1.png")
    (data / "dog" / "hard.png").hardlink_to(outside / "passwd")  # the same file, no link to follow


def test_links_out_are_rows_with_a_reason(data: Path) -> None:
    make_links(data)
    dataset = open_dataset(data, DatasetConfig())
    reasons = reasons_of(dataset)
    assert set(reasons) == {"cat/passwd.png", "cat/hop.png", "cat/more", "dog/loop.png"}
    for name in ("cat/passwd.png", "cat/hop.png", "cat/more"):
        assert "leads out of the data folder" in reasons[name]
        assert "--outside-files" in reasons[name]
    assert "symbolic links" in reasons["dog/loop.png"]
    (said,) = dataset.assumptions
    assert said.topic == "files"
    assert said.text.startswith("3 images were not read as they lie outside the data folder")
    assert "--outside-files" in said.text


def test_links_out_are_read_if_asked(data: Path) -> None:
    make_links(data)
    dataset = open_dataset(data, DatasetConfig(outside_files=True))
    assert set(reasons_of(dataset)) == {"dog/loop.png"}
    assert "cat/more/passwd" in dataset.sample_id.to_pylist()
    assert dataset.assumptions == ()
    assert dataset.fingerprint != open_dataset(data, DatasetConfig()).fingerprint


@pytest.mark.parametrize(("form", "to"), FORMS)
@pytest.mark.parametrize("follow", [False, True])
def test_exports_hold_what_the_audit_was_to_read(
    data: Path, tmp_path: Path, form: str, to: str, follow: bool
) -> None:
    make_links(data)
    (data / "dog" / "hard.png").unlink()
    run = write_run(data, tmp_path / "run", follow=follow)
    export(run, tmp_path / to, format=form)
    written = bytes_in(tmp_path / to)
    if form in {"folder", "fiftyone", "huggingface"}:
        assert (SECRET in written) == follow
    else:
        assert (b"passwd.png" in written) == follow
    assert b"loop.png" not in written or form == "huggingface"  # a row without an image there


def test_a_linked_export_holds_no_link_out(data: Path, tmp_path: Path) -> None:
    make_links(data)
    run = write_run(data, tmp_path / "run")
    export(run, tmp_path / "to", format="folder", link=True)
    assert {path.name for path in (tmp_path / "to" / "cat").iterdir()} == {
        "0.png", "1.png", "2.png", "3.png",
    }  # fmt: skip


def test_the_report_keeps_the_choice(data: Path, tmp_path: Path) -> None:
    make_links(data)
    run = write_run(data, tmp_path / "run", follow=True)
    report = read_report_table(run)
    assert report.run.source.follow_links
    assert json.loads(json.dumps(report.run.to_json()))["source"]["follow_links"]
    dataset = open_audited(report)
    assert dataset is not None
    row = dataset.sample_id.to_pylist().index("cat/passwd.png")
    assert shown_images(dataset, follow_links=False).read(row) == SECRET
    plain = replace(dataset, source=replace(dataset.source, follow_links=False))
    with pytest.raises(UnreadableSample, match="leads out of the data folder"):
        shown_images(plain, follow_links=False).read(row)


def test_class_folders_that_are_links_are_asked_about(data: Path, tmp_path: Path) -> None:
    (tmp_path / "store" / "emu").mkdir(parents=True)
    (tmp_path / "store" / "emu" / "0.png").write_bytes(numbered(0))
    (data / "emu").symlink_to(tmp_path / "store" / "emu")
    with pytest.raises(DatasetError, match=r"1 of the folders.* lead out of it: emu") as caught:
        open_dataset(data, DatasetConfig())
    assert "--outside-files" in caught.value.hint
    dataset = open_dataset(data, DatasetConfig(outside_files=True))
    assert dataset.class_names == ("cat", "dog", "emu")


def test_class_folders_under_splits_that_are_links_are_asked_about(tmp_path: Path) -> None:
    (tmp_path / "store" / "cat").mkdir(parents=True)
    (tmp_path / "store" / "cat" / "0.png").write_bytes(numbered(0))
    for split in ("train", "test"):
        (tmp_path / "data" / split / "dog").mkdir(parents=True)
        (tmp_path / "data" / split / "dog" / "0.png").write_bytes(numbered(0))
        (tmp_path / "data" / split / "cat").symlink_to(tmp_path / "store" / "cat")
    with pytest.raises(DatasetError, match="lead out of it: test/cat, train/cat"):
        open_dataset(tmp_path / "data", DatasetConfig())


def test_images_that_are_mostly_links_are_asked_about(data: Path, tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / "outside" / f"{number}.png").write_bytes(numbered(number))
        (data / "cat" / f"link{number}.png").symlink_to(tmp_path / "outside" / f"{number}.png")
    with pytest.raises(DatasetError, match="9 of the 17 images") as caught:
        open_dataset(data, DatasetConfig())
    assert "--outside-files" in caught.value.hint


def test_data_may_itself_be_a_link(data: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(data)
    dataset = open_dataset(tmp_path / "alias", DatasetConfig())
    assert reasons_of(dataset) == {}
    assert dataset.assumptions == ()


def test_shards_that_are_links_are_asked_about(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "blob").write_bytes(b"PAR1")
    (tmp_path / "data" / "train-0.parquet").symlink_to(tmp_path / "blob")
    with pytest.raises(DatasetError, match=r"are links that lead out of it: train-0.parquet"):
        open_dataset(tmp_path / "data", DatasetConfig())


def test_a_folder_that_becomes_a_link_is_not_followed(data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(data, DatasetConfig())
    row = dataset.sample_id.to_pylist().index("cat/1.png")
    for number in range(4):
        (data / "cat" / f"{number}.png").unlink()
    (data / "cat").rmdir()
    (data / "cat").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "1.png").write_bytes(SECRET)
    with pytest.raises(UnreadableSample, match="leads out"):
        shown_images(dataset, follow_links=False).read(row)
