"""The same table in any encoding, compression, delimiter and line end is the same data set."""

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from compressed_tables import compressed
from hypothesis import given, settings
from hypothesis import strategies as st
from opened_data import assumed, labels_of, opened
from PIL import Image

from labelfix.errors import DatasetError

NAMES = [f"{letter}.png" for letter in "abcdef"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for number, name in enumerate([*NAMES, "sub/g.png"]):
        (root / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name)
    return root


WORDS = (
    "Käfer",
    "niño",
    "crème brûlée",
    "cat",
    "a, b",
    "x;y",
    'say "x"',
    "two\nlines",
    "40 % | 50",
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be",
             "cp1252", "latin-1")  # fmt: skip


@given(
    labels=st.lists(st.sampled_from(WORDS), min_size=6, max_size=6).filter(
        lambda labels: len(set(labels)) > 1
    ),
    encoding=st.sampled_from(ENCODINGS),
    delimiter=st.sampled_from(",;\t|"),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    suffix=st.sampled_from(["", ".gz", ".bz2", ".xz", ".zst", ".lz4"]),
    is_announced=st.booleans(),
    form=st.sampled_from(["csv", "tsv", "jsonl", "json"]),
)
@settings(max_examples=120)
def test_a_table_is_the_same_however_it_was_saved(
    photos, labels, encoding, delimiter, ending, suffix, is_announced, form
):
    splits = ["train", "test"] * 3
    names = ("image", "label", "split")
    rows = [dict(zip(names, row, strict=True)) for row in zip(NAMES, labels, splits, strict=True)]
    if form == "jsonl":
        text = ending.join(json.dumps(row, ensure_ascii=False) for row in rows) + ending
    elif form == "json":
        text = json.dumps(rows, ensure_ascii=False, indent=2)
    else:
        stream = io.StringIO(newline="")
        if is_announced:
            stream.write(f"sep={delimiter}{ending}")
        writer = csv.DictWriter(
            stream, names, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL
        )
        writer.writeheader()
        writer.writerows(rows)
        text = stream.getvalue()
    path = photos / f"m.{form}{suffix}"
    try:
        path.write_bytes(compressed(text.encode(encoding), suffix))
        data = opened(path)
        assert data.sample_id.to_pylist() == NAMES
        assert labels_of(data) == labels
        assert data.split.to_pylist() == splits
        is_western = encoding in ("cp1252", "latin-1") and not text.isascii()
        assert bool(assumed(data, "WINDOWS-1252")) == is_western
    finally:
        path.unlink()


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_names_of_columns_in_latin_1(photos):
    path = write(photos / "l.csv", "image;âge;Kategorie\na.png;3;Käfer\nb.png;4;cat\n", "latin-1")
    data = opened(path, label_column="âge")
    assert labels_of(data) == [3, 4]
    assert labels_of(opened(path, label_column="Kategorie")) == ["Käfer", "cat"]
    assert assumed(data, "semicolons are taken") == [
        f'semicolons are taken for what separates the cells of {path}; a first line "sep=," '
        "decides otherwise"
    ]


def test_a_plain_table_needs_no_word(photos):
    path = write(photos / "plain.csv", "image,label\na.png,cat\nb.png,dog\n")
    assert opened(path).assumptions == ()


def test_a_mended_table_says_how_often(photos):
    lines = ["image,label", ".\\a.png,x", "sub\\g,y", "B.PNG,x", "c,y", "nowhere,x"]
    data = opened(write(photos / "w.csv", "\n".join(lines) + "\n"))
    assert data.sample_id.to_pylist() == ["a.png", "sub/g.png", "b.png", "c.png", "nowhere"]
    assert len(assumed(data, "backslashes")) == 1
    assert assumed(data, "without an ending")[0].startswith("2 image paths")
    assert assumed(data, "another case") == [
        "1 image paths were found in another case, such as 'B.PNG' as 'b.png'; write the paths of "
        "the files to be sure"
    ]


def test_an_ending_is_not_guessed_among_two(tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    data = opened(write(tmp_path / "m.csv", "image,label\na,x\nb,y\n"))
    assert data.sample_id.to_pylist() == ["a", "b.png"]


def test_backslashes_do_not_lead_out(photos, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    inside = tmp_path / "in"
    inside.mkdir()
    Image.new("RGB", (8, 8)).save(inside / "a.png")
    data = opened(write(inside / "m.csv", "image,label\na.png,x\n..\\secret.png,y\na.png2,x\n"))
    assert data.store.location(1).endswith("in/..\\secret.png")
    with pytest.raises(Exception, match="missing"):
        data.store.read(1)


@pytest.mark.parametrize(
    "address", ["s3://b/a.jpg", "https://x.org/a.jpg", "gs://b/a.jpg", "hf://d/a.jpg"]
)
def test_addresses_are_named_with_the_remedy(photos, address):
    path = write(photos / "web.csv", f"image,label\n{address},x\n{address}2,y\n")
    with pytest.raises(DatasetError, match="are addresses") as caught:
        opened(path)
    assert "download them" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04rest", "a ZIP archive or an Excel workbook, not text"),
        (b"\x89HDF\r\n\x1a\n", "HDF5, not text"),
        (gzip.compress(b"image,label\n", mtime=0)[:-9], "cannot be unpacked as gzip"),
        (b"image,label\na.png,\0\0\0\n", "bytes of zero"),
        ("image,label\na.png,狗和鼠标\nb.png,汽车与猫\n".encode("gbk"), "neither UTF-8 nor"),
        ("image,label\na.png,é\nb.png,éàü\n".encode() + b"c.png,\xe9\n", "line 4 of"),
    ],
)
def test_what_is_no_text_is_named(photos, data, words):
    (photos / "odd.csv").write_bytes(data)
    with pytest.raises(DatasetError, match=words) as caught:
        opened(photos / "odd.csv")
    assert caught.value.hint


def test_a_long_row_is_read(photos):
    rows = f"image,label,note\na.png,x,{'n' * 3_000_000}\nb.png,y,short\n"
    assert labels_of(opened(write(photos / "long.csv", rows))) == ["x", "y"]


COCO = {"images": [], "annotations": [], "categories": []}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (COCO, "form of COCO"),
        ({"classes": [], "labels": {}}, "label file of FiftyOne"),
        ({"image": ["a.png"], "label": ["x"]}, "holds columns, not a list of records"),
        ({"a": 1}, "is not a list of records"),
        ([["a.png", "x"]], "entry 1 of .* is not a JSON object"),
        (3, "is not a list of records"),
    ],
)
def test_json_that_is_no_list_of_records_is_named(photos, value, words):
    with pytest.raises(DatasetError, match=words) as caught:
        opened(write(photos / "odd.json", json.dumps(value)))
    assert caught.value.hint


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_that_nests_too_deep(photos, form):
    with pytest.raises(DatasetError, match="nested too deeply"):
        opened(write(photos / f"deep.{form}", "[" * 100_000))


def task(image: str, *choices: str | list[str], **more: object) -> dict[str, object]:
    annotations = [
        {
            "was_cancelled": False,
            "result": [{"type": "choices", "value": {"choices": [c] if isinstance(c, str) else c}}],
        }
        for c in choices
    ]
    return {"id": 1, "data": {"image": image}, "annotations": annotations, **more}


def test_label_studio_is_read(photos):
    tasks = [
        task("/data/local-files/?d=photos/a.png", "cat"),
        task("/data/local-files/?d=sub%2Fg.png", "dog"),
        task("/data/upload/b.png", "dog", "cat", "cat"),
        task("c.png"),
    ]
    data = opened(write(photos / "ls.json", json.dumps(tasks)))
    assert data.sample_id.to_pylist() == ["a.png", "sub/g.png", "b.png", "c.png"]
    assert data.given_label.tolist() == [0, 1, 0, -1]
    assert assumed(data, "in more than one way")


def test_label_studio_with_several_choices_is_named(photos):
    tasks = [task("a.png", ["cat", "dog"]), task("b.png", "dog")]
    with pytest.raises(DatasetError, match="2 choices in one annotation"):
        opened(write(photos / "ls.json", json.dumps(tasks)))


def test_label_studio_without_choices_is_named(photos):
    tasks = [task("a.png"), task("b.png")]
    with pytest.raises(DatasetError, match="has a choice"):
        opened(write(photos / "ls.json", json.dumps(tasks)))


def test_one_column_a_class_is_decoded_and_said(photos):
    rows = ["image,MEL,NV,BCC,age", "a.png,1.0,0.0,0.0,33", "b.png,0.0,1.0,0.0,51", "c.png,0,0,1,7"]
    data = opened(write(photos / "hot.csv", "\n".join(rows) + "\n"))
    assert labels_of(data) == ["MEL", "NV", "BCC"]
    assert dict(data.source.columns) == {"image": "image"}
    assert assumed(data, "the names of the 3 columns")


def test_several_labels_an_image_are_named(photos):
    rows = ["image,cat,dog,bird", "a.png,1,1,0", "b.png,0,1,0"]
    with pytest.raises(DatasetError, match="row 1 has 2 of 1, not one") as caught:
        opened(write(photos / "hot.csv", "\n".join(rows) + "\n"))
    assert "--label-column" in caught.value.hint


def test_other_columns_are_no_classes(photos):
    with pytest.raises(DatasetError, match="cannot tell which column"):
        opened(write(photos / "hot.csv", "image,size,note\na.png,3,x\nb.png,4,y\n"))
