"""``labelfix.data.dataset`` on Parquet files that hold the images."""

import io
import json
import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opened_data import fault_of, labels_of, opened
from PIL import Image

from labelfix.data.stores import ParquetImages
from labelfix.errors import UnreadableSample
from labelfix.modalities.image.decode import decode_image


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, number // 256, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def next_handle() -> int:
    """Return the number that the next file to be opened gets."""
    with Path(os.devnull).open() as file:
        return file.fileno()


def write(path: Path, columns: dict[str, object], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


IMAGES = pa.array([png(0), png(1), png(2)], pa.binary())


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_plain_bytes(tmp_path, kind):
    path = write(tmp_path / "set.parquet", {"picture": IMAGES.cast(kind), "label": [2, 1, 2]})
    data = opened(path)
    assert data.sample_id.to_pylist() == ["set.parquet:0", "set.parquet:1", "set.parquet:2"]
    assert labels_of(data) == [2, 1, 2]
    assert data.class_names == (1, 2)
    assert [data.store.read(row) for row in range(3)] == IMAGES.to_pylist()
    assert data.store.location(2) == f"{path}:2"
    assert data.source.kind == "parquet"
    assert data.source.columns == {"image": "picture", "label": "label"}


def test_bytes_and_path_records_of_hugging_face(tmp_path):
    records = [{"bytes": png(row), "path": f"{row}.png"} for row in range(3)]
    data = opened(write(tmp_path / "set.parquet", {"image": records, "label": ["a", "b", "a"]}))
    assert data.sample_id.to_pylist() == ["0.png", "1.png", "2.png"]
    assert [data.store.read(row) for row in (2, 0, 1)] == [png(2), png(0), png(1)]


def test_records_without_bytes_are_read_from_their_path(tmp_path):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "sub" / "x.png").write_bytes(png(7))
    (tmp_path / "secret.png").write_bytes(png(8))
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret.png")
    outside = ["../secret.png", str(tmp_path / "secret.png"), "link.png"]
    paths = ["sub/x.png", "gone.png", *outside, None]
    records = [{"bytes": None, "path": path} for path in paths]
    path = write(tmp_path / "data" / "p.parquet", {"image": records, "label": list("abcdef")})
    images = opened(path).store
    assert images.read(0) == png(7)
    with pytest.raises(UnreadableSample, match="file is missing"):
        images.read(1)
    for row in (2, 3, 4):
        with pytest.raises(UnreadableSample, match="leads out of the data folder"):
            images.read(row)
    with pytest.raises(UnreadableSample, match="holds no image"):
        images.read(5)


def test_an_empty_cell_is_a_row_that_cannot_be_read(tmp_path):
    images = pa.array([png(0), None, b"", b"text"], pa.binary())
    data = opened(write(tmp_path / "p.parquet", {"image": images, "label": [0, 1, 0, 1]}))
    with pytest.raises(UnreadableSample, match="holds no image"):
        data.store.read(1)
    with pytest.raises(UnreadableSample, match="empty file"):
        decode_image(data.store.read(2))
    with pytest.raises(UnreadableSample, match="not an image"):
        decode_image(data.store.read(3))


class TestSampleId:
    labels = ("a", "b", "a")

    def ids(self, tmp_path: Path, **columns: object) -> list[str]:
        path = write(tmp_path / "p.parquet", {"image": IMAGES, "label": self.labels, **columns})
        return opened(path).sample_id.to_pylist()

    def test_the_id_column_comes_first(self, tmp_path):
        assert self.ids(tmp_path, path=["x", "y", "z"], id=[7, 8, 9]) == ["7", "8", "9"]

    def test_then_a_path(self, tmp_path):
        assert self.ids(tmp_path, path=["x", "y", "z"]) == ["x", "y", "z"]

    @pytest.mark.parametrize("paths", [["x", "x", "z"], ["x", None, "z"], ["x", "", "z"]])
    def test_a_path_that_does_not_tell_rows_apart_is_passed_over(self, tmp_path, paths):
        assert self.ids(tmp_path, path=paths) == ["p.parquet:0", "p.parquet:1", "p.parquet:2"]

    def test_a_named_id_has_to_be_unique(self, tmp_path):
        columns = {"image": IMAGES, "label": self.labels, "key": ["x", "x", "z"]}
        fault = fault_of(write(tmp_path / "p.parquet", columns), id_column="key")
        assert "'x'" in str(fault)

    def test_a_named_id_has_to_be_text_or_numbers(self, tmp_path):
        columns = {"image": IMAGES, "label": self.labels, "key": [[1], [2], [3]]}
        fault = fault_of(write(tmp_path / "p.parquet", columns), id_column="key")
        assert "not text" in str(fault)


class TestLabels:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (pa.array([3, None, 1], pa.int8()), [3, None, 1]),
            (pa.array([3, None, 1], pa.uint64()), [3, None, 1]),
            (pa.array([3, None, 1], pa.float16()), [3, None, 1]),
            (pa.array([3.0, float("nan"), 1.0]), [3, None, 1]),
            (pa.array([True, None, False]), ["True", None, "False"]),
            (pa.array(["b", " ", "a"]), ["b", None, "a"]),
            (pa.array(["1", "nan", "2"]), ["1", "nan", "2"]),
            (pa.array(["b", None, "a"], pa.large_string()), ["b", None, "a"]),
            (pa.array(["b", None, "a"]).dictionary_encode(), ["b", None, "a"]),
            (pa.array([5, None, 1]).dictionary_encode(), [5, None, 1]),
        ],
    )
    def test_types(self, tmp_path, values, expected):
        path = write(tmp_path / "p.parquet", {"image": IMAGES, "label": values})
        assert labels_of(opened(path)) == expected

    @pytest.mark.parametrize(
        ("values", "what"),
        [
            (pa.array([0.5, 1, 2]), "fractions"),
            (pa.array([2**64 - 1, 1, 2], pa.uint64()), "beyond 64 bits"),
            (pa.array([[1], [2], [1]]), "lists"),
            (pa.array([1, 2, 3], pa.date32()), "date32"),
        ],
    )
    def test_what_is_no_label(self, tmp_path, values, what):
        path = write(tmp_path / "p.parquet", {"image": IMAGES, "label": values})
        assert what in str(fault_of(path))

    def hugging_face(self, path: Path, codes: list[int | None], names: list[str]) -> Path:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = pa.table({"image": IMAGES, "label": codes}).replace_schema_metadata(metadata)
        pq.write_table(table, path)
        return path

    def test_a_class_label_is_given_by_name(self, tmp_path):
        path = self.hugging_face(tmp_path / "p.parquet", [1, 0, -1], ["dog", "cat", "bird"])
        data = opened(path)
        assert labels_of(data) == ["cat", "dog", None]
        assert data.class_names == ("cat", "dog")

    def test_a_class_label_without_a_name_is_an_error(self, tmp_path):
        path = self.hugging_face(tmp_path / "p.parquet", [1, 0, 2], ["dog", "cat"])
        assert "holds 2, but the file names only 2" in str(fault_of(path))

    def test_names_in_other_metadata_leave_integers_alone(self, tmp_path):
        table = pa.table({"image": IMAGES, "label": [0, 1, 0]})
        table = table.replace_schema_metadata({"classes": '["dog", "cat"]', "huggingface": "{"})
        pq.write_table(table, tmp_path / "p.parquet")
        assert opened(tmp_path / "p.parquet").class_names == (0, 1)


class TestShards:
    def test_they_are_read_in_the_order_of_their_names(self, tmp_path):
        for number in (2, 0, 1):
            write(
                tmp_path / "data" / f"train-{number:05}-of-00003.parquet",
                {"image": pa.array([png(number), png(9)]), "label": [f"c{number}", "z"]},
            )
        (tmp_path / "README.md").write_text("about")
        data = opened(tmp_path)
        assert data.sample_id.to_pylist()[:3] == [
            "data/train-00000-of-00003.parquet:0",
            "data/train-00000-of-00003.parquet:1",
            "data/train-00001-of-00003.parquet:0",
        ]
        assert labels_of(data) == ["c0", "z", "c1", "z", "c2", "z"]
        assert [data.store.read(row) for row in (0, 2, 4)] == [png(0), png(1), png(2)]
        assert data.store.read(1) == png(9)
        assert data.store.location(3) == f"{tmp_path}/data/train-00001-of-00003.parquet:1"

    def test_splits_are_told_by_their_names(self, tmp_path):
        names = {
            "train-00000-of-00001.parquet": "train",
            "test.parquet": "test",
            "Validation_0.parquet": "Validation",
            "valid1.parquet": "valid",
            "Testing.parquet": "Testing",
            "extra-00000-of-00001.parquet": "extra",
            "training.parquet": "training",
            "test_tube.parquet": None,
            "pets_train.parquet": "pets_train",
            "pets_test.parquet": "pets_test",
            "all.parquet": None,
            "default/val/0000.parquet": "val",
            "Eval/deep/0000.parquet": "Eval",
        }
        for number, name in enumerate(names):
            write(tmp_path / name, {"image": [png(number)], "label": [number]})
        data = opened(tmp_path)
        found = dict(zip(data.sample_id.to_pylist(), data.split.to_pylist(), strict=True))
        assert found == {f"{name}:0": split for name, split in names.items()}

    def test_a_split_column_is_believed_before_the_name(self, tmp_path):
        columns = {"image": IMAGES, "label": [1, 2, 1], "split": ["a", "", None]}
        data = opened(write(tmp_path / "train-0.parquet", columns))
        assert data.split.to_pylist() == ["a", None, None]

    def test_types_may_differ_between_shards(self, tmp_path):
        kinds = (pa.int8(), pa.int64(), pa.float64(), pa.null())
        for number, kind in enumerate(kinds):
            value = None if kind == pa.null() else number
            columns = {"image": pa.array([png(0)]), "label": pa.array([value], kind)}
            write(tmp_path / f"{number}.parquet", columns)
        assert labels_of(opened(tmp_path)) == [0, 1, 2, None]

    def test_text_and_numbers_may_not_mix(self, tmp_path):
        for number, label in enumerate(("a", 1)):
            write(tmp_path / f"{number}.parquet", {"image": [png(0)], "label": [label]})
        assert "mixes text and numbers" in str(fault_of(tmp_path))

    def test_empty_shards_are_fine(self, tmp_path):
        write(tmp_path / "0.parquet", {"image": IMAGES[:0], "label": pa.array([], pa.int64())})
        write(tmp_path / "1.parquet", {"image": IMAGES, "label": [1, 2, 1]})
        data = opened(tmp_path)
        assert len(data) == 3
        assert data.store.read(2) == png(2)

    def test_a_shard_with_other_columns_is_named(self, tmp_path):
        write(tmp_path / "0.parquet", {"image": IMAGES, "label": [1, 2, 1]})
        write(tmp_path / "1.parquet", {"image": IMAGES, "other": [1, 2, 1]})
        fault = fault_of(tmp_path)
        assert "1.parquet has no column 'label'" in str(fault)
        assert "image, other" in str(fault)

    def test_a_class_folder_with_a_parquet_file_stays_a_class_folder(self, tmp_path):
        write(tmp_path / "features.parquet", {"x": [1]})
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "a.png").write_bytes(png(0))
        assert opened(tmp_path).source.kind == "folder"

    def test_many_shards_do_not_use_up_the_file_handles(self, tmp_path):
        resource = pytest.importorskip("resource")
        for number in range(60):
            columns = {"image": [png(number)], "label": [number % 2]}
            write(tmp_path / f"{number:03}.parquet", columns)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_handle() + 20, hard))
        try:
            data = opened(tmp_path)
            assert [data.store.read(row) for row in range(60)] == [png(row) for row in range(60)]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestImages:
    rows = (7, 5)

    def written(self, root: Path, *, group: int = 3) -> ParquetImages:
        first = 0
        names = []
        for number, rows in enumerate(self.rows):
            images = pa.array([png(row) for row in range(first, first + rows)], pa.binary())
            write(root / f"{number}.parquet", {"image": images}, row_group_size=group)
            names.append(f"{number}.parquet")
            first += rows
        return ParquetImages(root, names, self.rows, "image")

    @given(order=st.lists(st.integers(0, 11), max_size=30), group=st.sampled_from([1, 3, 100]))
    @settings(deadline=None, max_examples=25)
    def test_any_order_gives_the_same_images(self, tmp_path_factory, order, group):
        images = self.written(tmp_path_factory.mktemp("shards"), group=group)
        assert [images.read(index) for index in order] == [png(index) for index in order]

    def test_rows_that_are_not_there(self, tmp_path):
        images = self.written(tmp_path)
        assert len(images) == 12
        for index in (-1, 12):
            with pytest.raises(IndexError):
                images.read(index)
            with pytest.raises(IndexError):
                images.location(index)

    def test_they_can_be_sent_to_another_process_while_open(self, tmp_path):
        images = self.written(tmp_path)
        images.read(8)
        assert pickle.loads(pickle.dumps(images)).read(3) == png(3)
        assert images.read(9) == png(9)

    def test_large_row_groups_are_not_held_whole(self, tmp_path):
        blob = os.urandom(1 << 20)
        images = pa.array([blob[row:] + blob[:row] for row in range(96)], pa.binary())
        write(
            tmp_path / "big.parquet", {"image": images},
            use_dictionary=False, compression="none", write_batch_size=8,
        )  # fmt: skip
        del images
        store = ParquetImages(tmp_path, ["big.parquet"], [96], "image")
        before = pa.total_allocated_bytes()
        held = 0
        for row in range(96):
            assert store.read(row)[:8] == (blob[row : row + 8])
            held = max(held, pa.total_allocated_bytes() - before)
        assert held < 72 << 20

    def test_a_damaged_page_loses_its_row_group_only(self, tmp_path):
        path = tmp_path / "p.parquet"
        blobs = [bytes([65 + row]) * 4000 for row in range(9)]
        table = pa.table({"image": pa.array(blobs, pa.binary())})
        pq.write_table(table, path, row_group_size=3, use_dictionary=False, compression="gzip")
        column = pq.read_metadata(path).row_group(1).column(0)
        data = bytearray(path.read_bytes())
        start = column.data_page_offset + 30
        data[start : column.data_page_offset + column.total_compressed_size] = b"\xff" * (
            column.total_compressed_size - 30
        )
        path.write_bytes(data)
        images = ParquetImages(tmp_path, ["p.parquet"], [9], "image")
        for row in (3, 4, 5, 3):
            with pytest.raises(UnreadableSample, match="cannot be read from the Parquet file"):
                images.read(row)
        assert [images.read(row) for row in (0, 2, 6, 8)] == [blobs[row] for row in (0, 2, 6, 8)]

    def test_a_shard_that_vanishes_or_breaks_is_unreadable(self, tmp_path):
        images = self.written(tmp_path)
        (tmp_path / "0.parquet").unlink()
        (tmp_path / "1.parquet").write_bytes(b"PAR1 no more")
        with pytest.raises(UnreadableSample, match="file is missing"):
            images.read(0)
        with pytest.raises(UnreadableSample, match="cannot be read"):
            images.read(8)


class TestFingerprint:
    def columns(self) -> dict[str, object]:
        return {"image": IMAGES, "label": [0, 1, 0], "worse": ["x", "y", "y"], "thumb": IMAGES}

    def test_it_does_not_depend_on_the_label_column_nor_on_the_place(self, tmp_path):
        path = write(tmp_path / "a" / "p.parquet", self.columns())
        copy = write(tmp_path / "b" / "p.parquet", self.columns())
        os.utime(path, ns=(5, 5))
        os.utime(copy, ns=(5, 5))
        first = opened(path)
        assert first.fingerprint == opened(path, label_column="worse").fingerprint
        assert first.fingerprint == opened(copy).fingerprint

    def test_it_tells_the_image_column_and_the_times(self, tmp_path):
        path = write(tmp_path / "p.parquet", self.columns())
        first = opened(path).fingerprint
        assert opened(path, image_column="thumb").fingerprint != first
        os.utime(path, ns=(5, 5))
        assert opened(path).fingerprint != first

    def test_it_tells_files_that_records_point_to(self, tmp_path):
        (tmp_path / "x.png").write_bytes(png(1))
        records = [{"bytes": png(0), "path": "y.png"}, {"bytes": None, "path": "x.png"}]
        path = write(tmp_path / "p.parquet", {"image": records, "label": [0, 1]})
        first = opened(path).fingerprint
        assert opened(path).fingerprint == first
        os.utime(tmp_path / "x.png", ns=(5, 5))
        assert opened(path).fingerprint != first


class TestBadInput:
    @pytest.mark.parametrize("content", [b"", b"not parquet at all", b"PAR1" * 8])
    def test_what_is_not_parquet(self, tmp_path, content):
        (tmp_path / "p.parquet").write_bytes(content)
        assert "p.parquet" in str(fault_of(tmp_path / "p.parquet"))
        assert "p.parquet" in str(fault_of(tmp_path))

    def test_a_cut_off_file(self, tmp_path):
        path = write(tmp_path / "p.parquet", {"image": IMAGES, "label": [1, 2, 1]})
        path.write_bytes(path.read_bytes()[:-20])
        assert "p.parquet" in str(fault_of(path))

    def test_no_column_of_images(self, tmp_path):
        path = write(tmp_path / "p.parquet", {"pixels": [[1], [2]], "label": [1, 2]})
        fault = fault_of(path)
        assert "pixels, label" in str(fault)
        assert "--image-column" in fault.hint
        assert "not text" in str(fault_of(path, image_column="pixels"))

    def test_a_named_column_that_is_not_there(self, tmp_path):
        path = write(tmp_path / "p.parquet", {"image": IMAGES, "label": [1, 2, 1]})
        assert "its columns are: image, label" in str(fault_of(path, image_column="photo"))
        assert "its columns are: image, label" in str(fault_of(path, label_column="truth"))

    def test_two_columns_of_bytes(self, tmp_path):
        columns = {"left": IMAGES, "right": IMAGES, "label": [1, 2, 1]}
        path = write(tmp_path / "p.parquet", columns)
        assert "left, right" in str(fault_of(path))
        assert opened(path, image_column="right").source.columns["image"] == "right"

    def test_one_class_and_no_label(self, tmp_path):
        path = write(tmp_path / "p.parquet", {"image": IMAGES, "label": [1, 1, None]})
        assert "only one class, 1" in str(fault_of(path))
        path = write(tmp_path / "p.parquet", {"image": IMAGES, "label": [None, None, None]})
        assert "no label at all" in str(fault_of(path))

    def test_no_rows(self, tmp_path):
        columns = {"image": IMAGES[:0], "label": pa.array([], pa.int64())}
        assert "has no samples" in str(fault_of(write(tmp_path / "p.parquet", columns)))
