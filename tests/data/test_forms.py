"""Forms of data that people have: archives, WebDataset, Hugging Face's folders, hive."""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from opened_data import fault_of, labels_by_id, labels_of, opened
from written_forms import (
    CLASSES,
    folder_with_metadata,
    hugging,
    picture,
    shard,
    write_tar,
    write_zip,
)

from labelfix.errors import UnreadableSample


def fault_text(path: Path) -> str:
    fault = fault_of(path)
    return f"{fault} | {fault.hint}"


WRITERS = {"zip": write_zip, "tar": write_tar}


@pytest.mark.parametrize("form", WRITERS)
class TestArchives:
    def test_class_folders_are_read_in_place(self, tmp_path, form):
        path = WRITERS[form](tmp_path / f"photos.{form}", CLASSES)
        data = opened(path)
        assert labels_by_id(data) == {name: name.split("/")[0] for name in sorted(CLASSES)}
        assert data.source.kind == "archive"
        assert data.assumptions == ()
        for row, name in enumerate(data.sample_id.to_pylist()):
            assert data.store.read(row) == CLASSES[name]
            assert data.store.location(row) == f"{path}/{name}"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_folder_around_all_classes_is_no_class(self, tmp_path, form):
        files = {f"photos-v2/{name}": data for name, data in CLASSES.items()}
        files["photos-v2/README.md"] = b"hello"
        files["__MACOSX/photos-v2/cat/._0.png"] = b"x"
        data = opened(WRITERS[form](tmp_path / f"p.{form}", files))
        assert data.class_names == ("cat", "dog")
        assert data.sample_id[0].as_py() == "photos-v2/cat/0.png"
        assert data.store.read(0) == picture(0)

    def test_splits_above_classes(self, tmp_path, form):
        files = {f"{s}/{name}": data for s in ("train", "test") for name, data in CLASSES.items()}
        data = opened(WRITERS[form](tmp_path / f"p.{form}", files))
        assert data.class_names == ("cat", "dog")
        assert sorted(set(data.split.to_pylist())) == ["test", "train"]

    def test_a_manifest_inside(self, tmp_path, form):
        files = {f"images/{n}.png": picture(n) for n in range(3)}
        files["labels.csv"] = (
            "image;Etikett\nimages\\0.png;Käfer\nimages/1.png;cat\n./images/2.png;cat\nno.png;cat\n"
        ).encode("utf-16")
        data = opened(WRITERS[form](tmp_path / f"p.{form}", files), label_column="Etikett")
        assert labels_by_id(data) == {
            "images/0.png": "Käfer", "images/1.png": "cat", "images/2.png": "cat", "no.png": "cat",
        }  # fmt: skip
        assert data.store.read(2) == picture(2)
        with pytest.raises(UnreadableSample, match="missing"):
            data.store.read(3)
        again = opened(
            data.source.path, **{f"{r}_column": c for r, c in data.source.columns.items()}
        )
        assert again.fingerprint == data.fingerprint

    def test_names_that_lead_out_are_names(self, tmp_path, form):
        files = {"../../cat/0.png": picture(0), "/etc/dog/1.png": picture(1), **CLASSES}
        data = opened(WRITERS[form](tmp_path / f"p.{form}", files))
        rows = data.sample_id.to_pylist()
        assert data.store.read(rows.index("../../cat/0.png")) == picture(0)

    def test_stores_can_be_pickled_and_read_by_threads(self, tmp_path, form):
        data = opened(WRITERS[form](tmp_path / f"p.{form}", CLASSES))
        images = pickle.loads(pickle.dumps(data.store))
        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(images.read, list(range(4)) * 50))
        assert read == [CLASSES[name] for name in data.sample_id.to_pylist()] * 50

    def test_the_last_of_two_files_of_one_name_counts(self, tmp_path, form):
        path = WRITERS[form](tmp_path / f"p.{form}", CLASSES)
        if form == "zip":
            with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Dup"):
                archive.writestr("cat/0.png", picture(9))
        else:
            with tarfile.open(path, "a") as archive:
                info = tarfile.TarInfo("cat/0.png")
                info.size = len(picture(9))
                archive.addfile(info, io.BytesIO(picture(9)))
        data = opened(path)
        assert len(data) == 4
        assert data.store.read(data.sample_id.to_pylist().index("cat/0.png")) == picture(9)

    def test_one_damaged_file_is_a_row(self, tmp_path, form):
        if form == "tar":
            pytest.skip("a tar has no check of its contents")
        path = write_zip(tmp_path / "p.zip", CLASSES, zipfile.ZIP_STORED)
        data = path.read_bytes()
        at = data.index(picture(2))
        path.write_bytes(data[: at + 40] + b"\xff\xff\xff" + data[at + 43 :])
        opened_data = opened(path)
        row = opened_data.sample_id.to_pylist().index("cat/2.png")
        with pytest.raises(UnreadableSample, match="damaged"):
            opened_data.store.read(row)
        assert opened_data.store.read(1 - row % 2) in CLASSES.values()


def test_an_encrypted_zip_is_named(tmp_path):
    path = write_zip(tmp_path / "p.zip", CLASSES)
    data = bytearray(path.read_bytes())
    start = 0
    while (start := data.find(b"PK\x01\x02", start)) >= 0:
        flags = struct.unpack_from("<H", data, start + 8)[0]
        struct.pack_into("<H", data, start + 8, flags | 1)
        start += 4
    path.write_bytes(data)
    assert "is encrypted" in fault_text(path)


@pytest.mark.parametrize(
    ("holds", "says", "why"),
    [(5_000_000, 3_000_000_000, "more than 1 GiB"), (50_000_000, 1000, "damaged or cut off")],
)
def test_a_zip_whose_file_is_not_as_large_as_it_says_is_a_row(tmp_path, holds, says, why):
    path = write_zip(tmp_path / "p.zip", {**CLASSES, "cat/bomb.png": b"\0" * holds})
    data = bytearray(path.read_bytes())
    start = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, start + 24, says)
    path.write_bytes(data)
    bomb = opened(path)
    with pytest.raises(UnreadableSample, match=why):
        bomb.store.read(bomb.sample_id.to_pylist().index("cat/bomb.png"))


def test_names_in_a_zip_that_are_utf8_without_saying_so(tmp_path):
    path = write_zip(
        tmp_path / "p.zip", {f"k\u00e4fer/{n}.png": picture(n) for n in range(2)} | CLASSES
    )
    data = bytearray(path.read_bytes())
    for sign, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        start = 0
        while (start := data.find(sign, start)) >= 0:
            flags = struct.unpack_from("<H", data, start + at)[0]
            struct.pack_into("<H", data, start + at, flags & ~0x800)
            start += 4
    path.write_bytes(data)
    assert "käfer" in opened(path).class_names


def test_a_zip_of_windows_with_backslashes(tmp_path):
    files = {name.replace("/", "\\"): data for name, data in CLASSES.items()}
    assert opened(write_zip(tmp_path / "p.zip", files)).class_names == ("cat", "dog")


def test_names_in_a_tar_that_are_not_utf8(tmp_path):
    path = tmp_path / "p.tar"
    with tarfile.open(path, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        for name, data in {"k\xe4fer/1.png": picture(1), **CLASSES}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    data = opened(path)
    assert "k\\xe4fer" in data.class_names
    assert data.store.read(data.sample_id.to_pylist().index("k\\xe4fer/1.png")) == picture(1)


@pytest.mark.parametrize("deep", [60, 3000])
@pytest.mark.parametrize("form", WRITERS)
def test_files_that_lie_deep(tmp_path, form, deep):
    files = {f"{label}/{'d/' * deep}a.png": picture(1) for label in ("cat", "dog")}
    data = opened(WRITERS[form](tmp_path / f"p.{form}", files))
    assert data.class_names == ("cat", "dog")
    assert data.store.read(1) == picture(1)


def test_a_tar_that_is_cut_off_is_named(tmp_path):
    path = write_tar(tmp_path / "p.tar", CLASSES)
    whole = path.read_bytes()
    path.write_bytes(whole[:1500])
    assert "damaged" in fault_text(path)
    path.write_bytes(whole[:1100] + b"x" * 900)
    assert "damaged" in fault_text(path)


def test_links_in_a_tar(tmp_path):
    path = tmp_path / "p.tar"
    write_tar(path, CLASSES)
    with tarfile.open(path, "a") as archive:
        hard = tarfile.TarInfo("dog/link.png")
        hard.type, hard.linkname = tarfile.LNKTYPE, "cat/0.png"
        archive.addfile(hard)
        soft = tarfile.TarInfo("dog/passwd.png")
        soft.type, soft.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(soft)
        pipe = tarfile.TarInfo("dog/pipe.png")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
    data = opened(path)
    ids = data.sample_id.to_pylist()
    assert data.store.read(ids.index("dog/link.png")) == picture(0)
    assert "dog/passwd.png" not in ids
    assert "dog/pipe.png" not in ids


@pytest.mark.parametrize("name", ["p.tar.gz", "p.tgz", "p.tar"])
def test_a_compressed_tar_is_named(tmp_path, name):
    assert "compressed tar" in fault_text(write_tar(tmp_path / name, CLASSES, "w:gz"))


@pytest.mark.parametrize(
    ("note", "labels", "columns"),
    [
        ("cls", [0, 1, 0, 1], {"label": "cls"}),
        ("json", ["cat", "dog", "cat", "dog"], {"label": "label", "id": "id"}),
        ("txt", ["cat", "dog", "cat", "dog"], {"label": "txt"}),
    ],
)
def test_web_dataset_is_read_in_place(tmp_path, note, labels, columns):
    write_tar(tmp_path / "train-0000.tar", shard(range(2), note))
    write_tar(tmp_path / "test-0000.tar", shard(range(2, 4), note))
    data = opened(tmp_path)
    assert labels_of(data) == labels[2:] + labels[:2]
    assert data.split.to_pylist() == ["test", "test", "train", "train"]
    assert dict(data.source.columns) == columns
    ids = ["n2", "n3", "n0", "n1"] if note == "json" else [f"{n:04}.png" for n in (2, 3, 0, 1)]
    assert data.sample_id.to_pylist() == ids
    assert [data.store.read(row) for row in (3, 0)] == [picture(1), picture(2)]
    again = opened(data.source.path, **{f"{r}_column": c for r, c in data.source.columns.items()})
    assert again.fingerprint == data.fingerprint
    assert again.sample_id.equals(data.sample_id)


def test_shards_that_count_anew_keep_their_samples_apart(tmp_path):
    for name in ("a-0.tar", "a-1.tar"):
        write_tar(tmp_path / name, shard(range(2)))
    assert opened(tmp_path).sample_id.to_pylist() == [
        "a-0.tar/0000.png", "a-0.tar/0001.png", "a-1.tar/0000.png", "a-1.tar/0001.png",
    ]  # fmt: skip


def test_captions_are_no_labels(tmp_path):
    files = shard(range(6))
    files = {n: d for n, d in files.items() if n.endswith("png")} | {
        f"{n:04}.txt": f"a picture of {n}".encode() for n in range(6)
    }
    assert "which are no classes" in fault_text(write_tar(tmp_path / "w.tar", files))


def test_samples_without_an_image_or_a_label(tmp_path):
    files = shard(range(4))
    del files["0001.png"], files["0002.cls"]
    data = opened(write_tar(tmp_path / "w.tar", files))
    assert labels_by_id(data) == {"0000.png": 0, "0002.png": None, "0003.png": 1}
    assert [said.text for said in data.assumptions] == [
        f"1 sample of {tmp_path / 'w.tar'} has no image and is left out"
    ]


def test_two_images_a_sample_are_chosen_between(tmp_path):
    files = {}
    for n in range(2):
        files |= {f"{n}.left.png": picture(n), f"{n}.right.png": picture(n + 5)}
        files[f"{n}.cls"] = str(n).encode()
    path = write_tar(tmp_path / "w.tar", files)
    assert "--image-column" in fault_text(path)
    assert opened(path, image_column="right.png").store.read(0) == picture(5)


def test_save_to_disk_is_read(tmp_path, features):
    hugging(features, range(6)).save_to_disk(tmp_path / "d", num_shards=2)
    data = opened(tmp_path / "d")
    assert labels_of(data) == ["cat", "dog"] * 3
    assert data.sample_id.to_pylist() == [f"{n}.png" for n in range(6)]
    assert data.source.kind == "arrow"
    images = pickle.loads(pickle.dumps(data.store))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(images.read, [5, 0, 3])) == [picture(n) for n in (5, 0, 3)]
    assert data.store.location(4).endswith("data-00001-of-00002.arrow:1")


def test_an_arrow_file_that_is_cut_while_it_is_read_is_told(tmp_path, features):
    hugging(features, range(6)).save_to_disk(tmp_path / "d")
    data = opened(tmp_path / "d")
    assert data.store.read(5) == picture(5)
    os.truncate(tmp_path / "d" / "data-00000-of-00001.arrow", 100)  # its pages are gone
    with pytest.raises(UnreadableSample, match="was cut short while it was read"):
        data.store.read(5)


def test_a_dataset_dict_has_splits(tmp_path, features):
    datasets = pytest.importorskip("datasets")
    parts = {"train": hugging(features, range(4)), "holdout": hugging(features, range(4, 6))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "d")
    data = opened(tmp_path / "d")
    assert data.split.to_pylist() == ["train"] * 4 + ["holdout"] * 2
    assert data.store.read(5) == picture(5)


def test_save_to_disk_that_lacks_a_file_is_named(tmp_path, features):
    hugging(features, range(6)).save_to_disk(tmp_path / "d", num_shards=2)
    (tmp_path / "d" / "data-00001-of-00002.arrow").unlink()
    assert "is missing" in fault_text(tmp_path / "d")


def test_state_that_points_out_of_the_folder_is_refused(tmp_path, features):
    hugging(features, range(4)).save_to_disk(tmp_path / "d")
    state = json.loads((tmp_path / "d" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../secret.arrow"}]
    (tmp_path / "d" / "state.json").write_text(json.dumps(state))
    assert "does not list its files" in fault_text(tmp_path / "d")


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_metadata_beside_images(tmp_path, form):
    folder_with_metadata(tmp_path, form)
    (tmp_path / "train" / "extra.png").write_bytes(picture(9))
    data = opened(tmp_path)
    assert labels_by_id(data) == {
        "test/3.png": "dog", "test/4.png": "cat", "test/5.png": "dog",
        "train/0.png": "cat", "train/1.png": "dog", "train/2.png": "cat",
    }  # fmt: skip
    assert data.split.to_pylist() == ["test"] * 3 + ["train"] * 3
    assert [said.text for said in data.assumptions if said.topic == "files"] == [
        f"'train/extra.png' of {tmp_path} is in no metadata file, and left out; give it a row there"
    ]
    assert data.store.read(0) == picture(3)
    again = opened(tmp_path, **{f"{r}_column": c for r, c in data.source.columns.items()})
    assert again.fingerprint == data.fingerprint


def test_metadata_without_labels_leave_class_folders(tmp_path):
    for name, data in CLASSES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "metadata.csv").write_text("file_name,caption\ncat/0.png,a cat\n")
    assert opened(tmp_path).class_names == ("cat", "dog")


# Parquet


@pytest.mark.parametrize("labels", [("cat", "dog"), ("3", "10"), ("a%2Fb", "x")])
def test_folders_named_like_columns(tmp_path, labels):
    for number, label in enumerate(labels):
        for split in ("train", "test"):
            folder = tmp_path / f"split={split}" / f"label={label}"
            folder.mkdir(parents=True)
            images = [picture(number), picture(number + 2)]
            pq.write_table(pa.table({"image": images}), folder / "part-0.parquet")
    data = opened(tmp_path)
    expected = {"3": 3, "10": 10, "a%2Fb": "a/b"}
    assert set(labels_of(data)) == {expected.get(label, label) for label in labels}
    assert data.split.to_pylist() == ["test"] * 4 + ["train"] * 4
    again = opened(tmp_path, **{f"{r}_column": c for r, c in data.source.columns.items()})
    assert labels_of(again) == labels_of(data)


def parquet_with_bad_text(path: Path, column: str) -> Path:
    table = pa.table(
        {"image": [picture(0), picture(1)], "label": ["cat", "dogs"], "id": ["n1", "n2"]}
    )
    pq.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)
    good = {"label": b"dogs", "id": b"n2"}[column]
    data = path.read_bytes()
    path.write_bytes(data.replace(good, b"\xff" * len(good)))
    return path


@pytest.mark.parametrize("column", ["label", "id"])
def test_text_in_parquet_that_is_not_utf8_is_named(tmp_path, column):
    fault = fault_text(parquet_with_bad_text(tmp_path / "p.parquet", column))
    assert f"column '{column}' of" in fault


def test_names_in_parquet_that_are_not_utf8_are_named(tmp_path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"image": [picture(0)], "labelname": ["x"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"labelname", b"\xff\xfebelname"))
    assert "damaged" in fault_text(path)


@pytest.mark.parametrize(
    "note",
    [
        b"[" * 5000,
        b"\xff",
        b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": 5}}}}',
        b'{"info": {"features": []}}',
        b'{"info": {"features": {"label": "x"}}}',
    ],
)
def test_odd_notes_of_hugging_face_are_left_alone(tmp_path, note):
    table = pa.table({"image": [picture(0), picture(1)], "label": [0, 1]})
    table = table.replace_schema_metadata({"huggingface": note})
    pq.write_table(table, tmp_path / "p.parquet")
    assert labels_of(opened(tmp_path / "p.parquet")) == [0, 1]


# What is not read is named


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("labels.xlsx", "an Excel workbook"), ("x.npy", "a NumPy array"), ("x.npz", "NumPy arrays"),
        ("model.pt", "never loads pickles"), ("data.pkl", "never loads pickles"),
        ("train.tfrecord-00000-of-00002", "TFRecord"), ("data.mdb", "LMDB"), ("x.h5", "HDF5"),
        ("x.sqlite", "SQLite"), ("x.rar", "RAR"), ("x.7z", "7-Zip"), ("x.txt", ".csv or .tsv"),
        ("train-images-idx3-ubyte.gz", "IDX"), ("x.parquet.gz", "unpack it"), ("a.orc", "ORC"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(tmp_path, name, what):
    (tmp_path / name).write_bytes(b"content")
    assert what in fault_text(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "what"),
    [("data.mdb", "LMDB"), ("a.tfrecord", "TFRecord"), ("batch.pkl", "pickles"), ("x.h5", "HDF5")],
)
def test_folders_of_what_is_not_read_are_named(tmp_path, name, what):
    (tmp_path / name).write_bytes(b"content")
    assert what in fault_text(tmp_path)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://bucket/data", "s3://bucket/data"), ("gs://b/x.csv", "gs://b/x.csv"),
        ("https://x.org/a.zip", "https://x.org/a.zip"), ("hf://datasets/a/b", "hf://datasets/a/b"),
    ],
)  # fmt: skip
def test_addresses_are_named(address, shown):
    fault = fault_text(Path(address))
    assert shown in fault
    assert "download" in fault
