"""Which columns of a table hold what: names before types, and no coordinates for labels."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.config import DatasetConfig
from labelfix.data.columns import choose_columns, refuse_repeated_ids
from labelfix.data.dataset import open_dataset
from labelfix.errors import DatasetError
from labelfix.types import LabeledDataset

PNG = b"\x89PNG and so on"
NOTHING = DatasetConfig()


def chosen(*names: str, **settings: str) -> tuple[str, str]:
    columns = choose_columns(names, DatasetConfig(**settings), "here")
    return columns.image, columns.label


def said(data: LabeledDataset) -> str:
    return "\n".join(assumption.text for assumption in data.assumptions)


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("image", "x", "y", "species"), "species"), (("image", "y"), "y"),
        (("image", "x", "y", "w", "h", "class"), "class"), (("x", "y"), "y"),
        (("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"), "class"),
        (("Width", "Height", "Roi.X1", "Roi.Y1", "ClassId", "Path"), "ClassId"),
        (("class id", "filepaths", "labels", "data set", "scientific name"), "labels"),
        (("image_id", "dx", "dx_type", "age"), "dx"),
        (("path", "lat", "lon", "y", "breed"), "breed"), (("ImagePath", "ClassName"), "ClassName"),
        (("image", "width", "height", "y", "target"), "target"),
    ],
)  # fmt: skip
def test_labels_are_found_by_name_and_are_no_coordinates(names, label):
    names = ("image", *names[1:]) if names == ("x", "y") else names
    assert chosen(*names)[1] == label


@pytest.mark.parametrize(
    "names", [("image", "x", "y"), ("image", "x", "y", "kind"), ("image", "w", "h", "y"),
              ("image", "xmin", "ymin", "xmax", "ymax", "y"), ("image", "lat", "lon", "y")]
)  # fmt: skip
def test_a_coordinate_is_never_the_label_but_is_asked_about(names):
    with pytest.raises(DatasetError, match="'y' is taken for a coordinate") as caught:
        chosen(*names)
    assert "--label-column" in caught.value.hint
    assert chosen(*names, label_column="y")[1] == "y"


COORDINATES = ["x", "x1", "xmin", "x_center", "cx", "left", "lon", "w", "width", "bbox", "lat", "z"]


@settings(max_examples=60)
@given(
    company=st.lists(st.sampled_from(COORDINATES), min_size=1, unique=True),
    label=st.sampled_from(["label", "class", "species", "class_name", "Category", None]),
    data=st.data(),
)
def test_y_in_the_company_of_coordinates_is_no_label(company, label, data):
    names = data.draw(st.permutations(["image", "y", *company, *([label] if label else [])]))
    if label is None:
        with pytest.raises(DatasetError):
            chosen(*names)
    else:
        assert chosen(*names) == ("image", label)


def test_what_else_could_be_meant_is_said(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "m.csv").write_text("image,path,label,species\na.png,a,x,p\nb.png,b,y,q\n")
    data = open_dataset(tmp_path / "m.csv", NOTHING)
    assert said(data) == (
        "the images are in column 'image', the labels in 'label'; 'path' (--image-column) and "
        "'species' (--label-column) could be meant, too"
    )
    named = DatasetConfig(image_column="image", label_column="label")
    assert not open_dataset(tmp_path / "m.csv", named).assumptions


def parquet(folder: Path, **columns: list[object]) -> Path:
    path = folder / "p.parquet"
    pq.write_table(pa.table({**columns, "label": ["x", "y"]}), path)
    return path


OTHERS = ["mask", "thumbnail", "embedding", "a", "zzz", "data"]


@settings(max_examples=20)
@given(other=st.sampled_from(OTHERS), first=st.booleans(), is_image=st.booleans())
def test_a_column_called_image_comes_before_any_other(tmp_path_factory, other, first, is_image):
    folder = tmp_path_factory.mktemp("columns")
    (folder / "a.png").write_bytes(PNG)
    bytes_of_other = [PNG, PNG] if is_image else [b"\0\1", b"\2\3"]
    for image in ([PNG, PNG], ["a.png", "b.png"]):
        columns = {"image": image, other: bytes_of_other}
        columns = columns if first else dict(reversed(columns.items()))
        data = open_dataset(parquet(folder, **columns), NOTHING)
        assert data.source.columns["image"] == "image"
        assert (other in said(data)) == (is_image and image[0] == PNG)


@pytest.mark.parametrize(
    ("columns", "image"),
    [
        ({"content": [PNG, PNG], "filename": ["a.png", "b.png"]}, "content"),
        ({"image_path": ["a.png", "b.png"], "embedding": [b"\0\1", b"\2\3"]}, "image_path"),
        ({"embedding": [b"\0\1", b"\2\3"], "blob": [PNG, PNG]}, "blob"),
        ({"img_bytes": [PNG, PNG], "image": ["1", "2"]}, "img_bytes"),
        ({"raw": [b"\0\1", b"\2\3"]}, "raw"),
        ({"x": [None, PNG]}, "x"),
    ],
)  # fmt: skip
def test_bytes_that_begin_like_an_image_come_before_paths(tmp_path, columns, image):
    (tmp_path / "a.png").write_bytes(PNG)
    assert open_dataset(parquet(tmp_path, **columns), NOTHING).source.columns["image"] == image


@pytest.mark.parametrize(
    ("values", "is_split"), [(["train", "Testing"], True), (["a", "b"], False)]
)
def test_a_column_that_may_hold_splits_does_if_its_values_are_splits(tmp_path, values, is_split):
    (tmp_path / "a.png").write_bytes(PNG)
    rows = [f"a{row}.png,{'xy'[row]},{value}" for row, value in enumerate(values)]
    text = "\n".join(["image,label,data set", *rows]).replace("a0", "a") + "\n"
    (tmp_path / "m.csv").write_text(text)
    table = parquet(tmp_path, image=[PNG, PNG], usage=values)
    for path in (tmp_path / "m.csv", table):
        data = open_dataset(path, NOTHING)
        assert data.split.to_pylist() == (values if is_split else [None, None])
        assert ("split" in data.source.columns) == is_split


@given(st.lists(st.text(max_size=3), max_size=40), st.integers(1, 50), st.integers(0, 3))
def test_repeated_ids_are_found_however_few_are_compared_at_a_time(names, at_once, cut):
    ids = pa.array(["before"] * cut + names, pa.string()).slice(cut)
    if len(set(names)) == len(names):
        refuse_repeated_ids(ids, "here", "", at_once=at_once)
    else:
        with pytest.raises(DatasetError, match="of here stand for more than one sample"):
            refuse_repeated_ids(ids, "here", "", at_once=at_once)
