"""Data at an address: read like files of this machine, never written to, or refused in words."""

import io
import pickle
from importlib.util import find_spec
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import labelfix
from encoded_images import numbered

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.remote import data_path, is_remote
from labelfix.errors import ConfigError, DatasetError, UnreadableSample
from labelfix.exports.export import export
from labelfix.report.io import read_report_table
from labelfix.report.reopen import open_audited


@pytest.fixture
def bucket(request):
    """A folder of a file system in memory, by its address."""
    name = request.node.name.replace("[", "-").replace("]", "")
    yield f"memory://{name}"
    fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


def put(address, data):
    with fsspec.open(address, "wb") as file:
        file.write(data)


def parquet(rows, image=numbered):
    table = pa.table(
        {
            "image": pa.array([image(row) for row in rows], pa.binary()),
            "label": ["cat" if row % 2 else "dog" for row in rows],
        }
    )
    data = io.BytesIO()
    pq.write_table(table, data)
    return data.getvalue()


def opened(address):
    return open_dataset(data_path(address), DatasetConfig())


def test_shards_at_an_address_are_those_on_disk(bucket, tmp_path):
    for number in range(3):
        data = parquet(range(4 * number, 4 * number + 4))
        put(f"{bucket}/train/part-{number}.parquet", data)
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / "train" / f"part-{number}.parquet").write_bytes(data)
    put(f"{bucket}/train/.part-9.parquet", b"hidden")
    put(f"{bucket}/train/_metadata", b"a writer's note")
    far, near = opened(bucket), opened(str(tmp_path))
    assert far.sample_id.equals(near.sample_id)
    assert far.split.equals(near.split)
    assert far.class_names == near.class_names
    np.testing.assert_array_equal(far.given_label, near.given_label)
    for row in (0, 5, 11, 2):
        assert far.store.read(row) == near.store.read(row)
    assert far.store.location(5) == f"{bucket}/train/part-1.parquet:1"
    assert str(far.source.path) == bucket


def test_one_file_and_a_table_of_texts_are_read(bucket):
    put(f"{bucket}/one.parquet", parquet(range(4)))
    assert len(opened(f"{bucket}/one.parquet")) == 4
    put(f"{bucket}/texts.csv", b"text,label\nwhat a film,good\nwhat a bore,bad\n")
    texts = opened(f"{bucket}/texts.csv")
    assert texts.modality == "text"
    assert texts.store.read(1) == b"what a bore"
    put(f"{bucket}/texts.jsonl", b'{"text": "a", "label": 1}\n{"text": "b", "label": 2}\n')
    assert opened(f"{bucket}/texts.jsonl").class_names == (1, 2)


def test_a_class_folder_and_a_manifest_of_images_are_those_on_disk(bucket, tmp_path):
    files = {f"{label}/{row}.png": numbered(row) for row in range(6) for label in ("cat", "dog")}
    rows = [f"{path},{path[:3]}" for path in files] + ["dog/none.png,dog", "../out.png,cat"]
    rows[0] = f"./{rows[0]}"
    manifest = "\n".join(["image,label", *rows]).encode()
    for path, data in {**files, "list.csv": manifest}.items():
        put(f"{bucket}/{path}", data)
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    for name in ("", "/list.csv"):
        far, near = opened(bucket + name), opened(str(tmp_path) + name)
        assert far.sample_id.equals(near.sample_id)
        np.testing.assert_array_equal(far.given_label, near.given_label)
        assert [far.store.read(row) for row in range(12)] == [
            near.store.read(row) for row in range(12)
        ]
        assert far.store.location(0) == f"{bucket}/cat/0.png"
        assert far.fingerprint == opened(bucket + name).fingerprint
    with pytest.raises(UnreadableSample, match="file is missing"):
        far.store.read(12)
    with pytest.raises(UnreadableSample, match="out of the data folder"):
        far.store.read(13)
    whole = manifest.decode().replace("cat/", f"{bucket}/cat/").replace("./", "")
    put(f"{bucket}/whole.csv", whole.encode())
    assert opened(f"{bucket}/whole.csv").sample_id[2].as_py() == "cat/1.png"
    store = pickle.loads(pickle.dumps(far.store))
    assert store.read(3) == far.store.read(3)


def test_a_class_folder_at_an_address_is_audited_shown_and_exported(bucket, demo_data, tmp_path):
    for label in ("0", "1"):
        for file in sorted((demo_data.data / label).glob("*.png"))[:20]:
            put(f"{bucket}/{label}/{file.name}", file.read_bytes())
    done = labelfix(
        "audit", bucket, "--out", tmp_path / "run", "--tune", "head", "--image-size", "32"
    )
    assert done.returncode == 0, done.stderr
    assert "data:image" in (tmp_path / "run" / "report.html").read_text()
    shown = labelfix("show", tmp_path / "run", "--html")
    assert shown.returncode == 0, shown.stderr
    export(tmp_path / "run", tmp_path / "clean")
    assert len(list((tmp_path / "clean").glob("*/*.png"))) == 40


def test_another_version_of_a_file_is_another_data_set(bucket):
    put(f"{bucket}/one.parquet", parquet(range(4)))
    before = opened(bucket).fingerprint
    assert opened(bucket).fingerprint == before
    put(f"{bucket}/one.parquet", parquet(range(4)))
    assert opened(bucket).fingerprint != before


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("list.csv", b"image,label\na.png,cat\nb.png,dog\n", "none of the 2 images"),
        ("photos.zip", b"PK", "and nothing else"),
        ("cat/1.png", numbered(1), "only one class"),
        ("part.parquet", b"PAR1 not really", "is not a Parquet file"),
        (None, b"", "there is nothing at memory"),
    ],
)
def test_what_is_not_read_at_an_address_is_said(bucket, name, data, told):
    put(f"{bucket}/{name or 'other'}", data)
    is_file = name in ("list.csv", "part.parquet")
    address = f"{bucket}/{name}" if is_file else f"{bucket}/nothing" if name is None else bucket
    with pytest.raises(DatasetError, match=told) as refused:
        opened(address)
    assert refused.value.hint


def test_images_beside_a_shard_are_rows_that_cannot_be_read(bucket):
    cells = [{"bytes": numbered(1), "path": "1.png"}, {"bytes": None, "path": "2.png"}]
    table = pa.table({"image": cells, "label": ["cat", "dog"]})
    data = io.BytesIO()
    pq.write_table(table, data)
    put(f"{bucket}/one.parquet", data.getvalue())
    dataset = opened(bucket)
    assert dataset.store.read(0) == numbered(1)
    with pytest.raises(UnreadableSample, match="beside Parquet at an address"):
        dataset.store.read(1)


@pytest.mark.parametrize(("address", "package"), [("s3://b/k", "s3fs"), ("gs://b/k", "gcsfs")])
def test_a_missing_package_is_named(address, package):
    if find_spec(package):
        pytest.skip(f"{package} is here")
    with pytest.raises(DatasetError, match=f"needs the package {package}") as refused:
        data_path(address)
    assert refused.value.hint == f"pip install {package}"


def test_a_path_is_no_address(tmp_path):
    assert data_path(f"file://{tmp_path}") == tmp_path
    assert data_path(str(tmp_path)) == tmp_path
    assert not is_remote(tmp_path)
    assert not is_remote("s3://bucket")
    assert is_remote(data_path("memory://somewhere"))


def test_an_audit_of_an_address_is_that_of_the_file(bucket, tmp_path):
    rows = [f"what a {word} film,{label}" for label, word in [("good", "fine"), ("bad", "dull")]]
    data = "\n".join(["text,label", *(f"{number} {row}" for number in range(30) for row in rows)])
    put(f"{bucket}/texts.csv", data.encode())
    far = labelfix("audit", f"{bucket}/texts.csv", "--out", tmp_path / "far", "--tune", "head")
    assert far.returncode == 0, far.stderr
    (tmp_path / "texts.csv").write_text(data)
    near = labelfix("audit", tmp_path / "texts.csv", "--out", tmp_path / "near", "--tune", "head")
    assert near.returncode == 0, near.stderr
    reports = [read_report_table(tmp_path / name) for name in ("far", "near")]
    assert reports[0].table.equals(reports[1].table)

    assert str(reports[0].run.source.path) == f"{bucket}/texts.csv"
    assert open_audited(reports[0]).store.read(0) == b"0 what a fine film"
    export(tmp_path / "far", tmp_path / "clean.csv")
    with pytest.raises(ConfigError, match="an address, which labelfix only reads"):
        export(tmp_path / "far", tmp_path / "own.csv", format="own")


def test_data_that_are_gone_are_said_to_be(bucket, tmp_path):
    done = labelfix("audit", f"{bucket}/nothing.parquet", "--out", tmp_path / "run", cwd=Path("/"))
    put(f"{bucket}/other", b"")
    assert done.returncode == 1
    assert "there is nothing at memory://" in done.stderr
    assert "hint" in done.stderr.lower()
