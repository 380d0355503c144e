"""``labelfix.data.dataset`` on manifests: CSV, TSV, JSON lines and Parquet with image paths."""

import csv
import json
import shutil
import string
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opened_data import fault_of, labels_of, opened
from PIL import Image

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.errors import UnreadableSample
from labelfix.utils.progress import Progress

FORMS = ("csv", "tsv", "jsonl", "parquet")


def write_manifest(path: Path, rows: list[dict[str, object]]) -> Path:
    """Write rows as whatever the suffix of ``path`` says."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            delimiter = "," if path.suffix == ".csv" else "\t"
            writer = csv.DictWriter(file, names, delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    return path


def put(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path, "PNG")


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """A folder with four images, a.png to d.png."""
    put(tmp_path, "a.png", "b.png", "c.png", "d.png")
    return tmp_path


def rows_with(labels: list[object], **more: list[object]) -> list[dict[str, object]]:
    columns = {"image": [f"{letter}.png" for letter in "abcd"], "label": labels, **more}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_data_set(four, form):
    path = write_manifest(four / f"m.{form}", rows_with(["x", "y", "x", None]))
    data = opened(path)
    assert data.sample_id.to_pylist() == ["a.png", "b.png", "c.png", "d.png"]
    assert labels_of(data) == ["x", "y", "x", None]
    assert data.class_names == ("x", "y")
    assert data.split.null_count == 4
    assert data.source.kind == "manifest"
    assert data.source.path == path
    assert data.source.columns == {"image": "image", "label": "label"}
    for row, name in enumerate(data.sample_id.to_pylist()):
        assert data.store.read(row) == (four / name).read_bytes()
        assert data.store.location(row) == str(four / name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("given_labels", "expected"),
    [
        ([3, -1, 3, 10], [3, None, 3, 10]),
        ([3, -1, -2, 10], [3, -1, -2, 10]),
        ([1, -1, -1, 1], [1, -1, -1, 1]),
        ([3.0, float("nan"), 10.0, 3.0], [3, None, 10, 3]),
        (["b", "", "  ", "a"], ["b", None, None, "a"]),
        (["c t", "cat", "a,b", 'say "x"'], ["c t", "cat", "a,b", 'say "x"']),
        (["007", "7", "08", "1"], ["007", "7", "08", "1"]),
        (["1", "2", "x", "3"], ["1", "2", "x", "3"]),
        (["true", "false", "None", "null"], ["true", "false", "None", "null"]),
        (["猫", "кот", "é", "two\nlines"], ["猫", "кот", "é", "two\nlines"]),
        ([True, False, True, True], ["True", "False", "True", "True"]),
    ],
)
def test_labels_come_back_as_they_came(four, form, given_labels, expected):
    data = opened(write_manifest(four / f"m.{form}", rows_with(given_labels)))
    assert labels_of(data) == expected
    assert list(data.class_names) == sorted({label for label in expected if label is not None})
    assert {type(name) for name in data.class_names} == {type(expected[0])}


texts = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from(" ,;\t\"'\n"), min_size=1
).filter(lambda text: text.strip() and text.casefold() != "nan" and not looks_whole(text))


def looks_whole(text: str) -> bool:
    return set(text) <= set(string.digits + "-.")


def as_read(labels: list[str | int | None], form: str) -> list[str | int | None]:
    """Return labels without what means nothing: blanks around text, -1 among other numbers."""
    if form != "parquet":
        labels = [label.strip() if isinstance(label, str) else label for label in labels]
    numbers = {label for label in labels if isinstance(label, int)}
    if min(numbers, default=0) == -1 and len(numbers) > 2:
        return [None if label == -1 else label for label in labels]
    return labels


@given(
    labels=st.lists(st.none() | st.integers(-(10**17), 10**17), min_size=2, max_size=20)
    | st.lists(st.none() | texts, min_size=2, max_size=20),
    form=st.sampled_from(FORMS),
)
def test_any_labels_come_back_in_order_from_any_form(labels, form):
    if len(set(as_read(labels, form)) - {None}) < 2:
        return
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder), "0.png")
        rows = [{"file": f"{row}.png", "label": label} for row, label in enumerate(labels)]
        data = opened(write_manifest(Path(folder) / f"m.{form}", rows))
    assert labels_of(data) == as_read(labels, form)
    assert data.sample_id.to_pylist() == [row["file"] for row in rows]


@pytest.mark.parametrize(
    "text",
    [
        "\ufefffile_name,Class\na.png,x\nb.png,y\n",
        "file_name,Class\r\na.png,x\r\nb.png,y\r\n\r\n",
        '"file_name","Class"\n"a.png","x"\n"b.png","y"',
        "file_name;Class\na.png;x\nb.png;y\n",
        'note,file_name,Class\n"a, ""b""\nc",a.png,x\n,b.png,y\n',
    ],
    ids=["bom", "crlf", "quoted", "semicolons", "newline-in-field"],
)
def test_dialects_of_csv(four, text):
    path = four / "m.csv"
    path.write_bytes(text.encode())
    data = opened(path)
    assert data.sample_id.to_pylist() == ["a.png", "b.png"]
    assert labels_of(data) == ["x", "y"]
    assert data.source.columns == {"image": "file_name", "label": "Class"}


def test_nan_in_a_csv_is_missing_unless_it_is_quoted(four):
    path = four / "m.csv"
    path.write_text('image,label\na.png,NaN\nb.png,"nan"\nc.png,naan\nd.png,nan\n')
    assert labels_of(opened(path)) == [None, "nan", "naan", None]


def test_json_lines_may_be_nested_uneven_and_spaced(four):
    path = four / "m.ndjson"
    path.write_text(
        '{"image": "a.png", "meta": {"by": "x"}}\n\n'
        '{"label": 5, "image": "b.png", "meta": "none", "boxes": [1, "two"]}\n'
        '{"image": "c.png", "label": NaN}\n{"image": "d.png", "label": 4.0}\n'
    )
    assert labels_of(opened(path)) == [None, 5, None, 4]


def test_columns_are_named_by_the_user(four):
    rows = rows_with(["x", "y", "x", "y"], truth=[1, 2, 3, 1], where=["u", "u", "", "v"])
    path = write_manifest(four / "m.csv", rows)
    data = opened(path, label_column="TRUTH", split_column="where", image_column="image")
    assert labels_of(data) == [1, 2, 3, 1]
    assert data.split.to_pylist() == ["u", "u", None, "v"]
    assert data.source.columns == {"image": "image", "label": "truth", "split": "where"}


@pytest.mark.parametrize("form", FORMS)
def test_a_column_of_ids_and_of_splits(four, form):
    rows = rows_with(
        ["x", "y", "x", "y"], sample_id=[40, 30, 20, 10], Split=["train", "test", None, "val"]
    )
    data = opened(write_manifest(four / f"m.{form}", rows))
    assert data.sample_id.to_pylist() == ["40", "30", "20", "10"]
    assert data.split.to_pylist() == ["train", "test", None, "val"]
    assert data.source.columns["id"] == "sample_id"


def test_a_column_called_id_is_used_only_if_it_tells_the_samples_apart(four):
    labels = ["x", "y", "x", "y"]
    unique = write_manifest(four / "u.csv", rows_with(labels, id=["1", "2", "3", "4"]))
    assert opened(unique).sample_id.to_pylist() == ["1", "2", "3", "4"]
    for ids in (["1", "1", "3", "4"], ["1", None, "3", "4"]):
        data = opened(write_manifest(four / "m.csv", rows_with(labels, id=ids)))
        assert data.sample_id.to_pylist() == ["a.png", "b.png", "c.png", "d.png"]
        assert "id" not in data.source.columns


def test_the_same_image_twice_is_fine_with_ids(four):
    rows = [{"id": i, "image": "a.png", "label": label} for i, label in enumerate("xyx")]
    assert opened(write_manifest(four / "m.jsonl", rows)).sample_id.to_pylist() == ["0", "1", "2"]


def test_given_label_of_another_tool_is_the_second_choice(four):
    rows = rows_with(["x", "y", "x", "y"], given_label=["p", "q", "p", "q"])
    assert labels_of(opened(write_manifest(four / "m.csv", rows))) == ["x", "y", "x", "y"]
    renamed = [{"image": row["image"], "given_label": row["given_label"]} for row in rows]
    assert labels_of(opened(write_manifest(four / "n.csv", renamed))) == ["p", "q", "p", "q"]


def test_paths_are_made_normal_and_relative(four):
    put(four, "sub dir/ü.png")
    names = ["./a.png", "sub dir//ü.png", str(four / "b.png"), "sub dir/../c.png"]
    rows = [{"image": name, "label": label} for name, label in zip(names, "xyxy", strict=True)]
    data = opened(write_manifest(four / "m.csv", rows))
    assert data.sample_id.to_pylist() == ["a.png", "sub dir/ü.png", "b.png", "c.png"]
    assert data.store.read(1) == (four / "sub dir" / "ü.png").read_bytes()


def test_missing_files_and_paths_are_rows(four):
    (four / "b.png").unlink()
    rows = rows_with(["x", "y", "x", "y"], id=["1", "2", "3", "4"])
    rows[2]["image"] = ""
    rows[3]["image"] = "b.png/under"
    data = opened(write_manifest(four / "m.csv", rows))
    for row, reason in ((1, "file is missing"), (2, "no image path"), (3, "file is missing")):
        with pytest.raises(UnreadableSample, match=reason):
            data.store.read(row)
    assert data.store.location(2) == ""


def test_links_inside_the_folder_are_followed(four):
    (four / "linked").symlink_to(four)
    (four / "link.png").symlink_to(four / "a.png")
    rows = [{"image": "linked/b.png", "label": 0}, {"image": "link.png", "label": 1}]
    data = opened(write_manifest(four / "m.csv", rows))
    assert data.store.read(1) == (four / "a.png").read_bytes()


def test_the_manifest_may_lie_behind_a_link(four, tmp_path_factory):
    write_manifest(four / "m.csv", rows_with([0, 1, 0, 1]))
    alias = tmp_path_factory.mktemp("alias") / "data"
    alias.symlink_to(four)
    assert len(opened(alias / "m.csv").store.read(3)) > 0
    rows = [{"image": str(four / "a.png"), "label": 0}, {"image": str(alias / "b.png"), "label": 1}]
    data = opened(write_manifest(alias / "n.csv", rows))
    assert data.sample_id.to_pylist() == ["a.png", "b.png"]


class TestFingerprint:
    def test_it_is_of_the_images_not_of_the_labels_or_the_manifest(self, four):
        first = opened(write_manifest(four / "m.csv", rows_with([0, 1, 0, 1])))
        second = opened(write_manifest(four / "n.jsonl", rows_with(["a", "b", None, "b"])))
        assert first.fingerprint == second.fingerprint

    def test_it_is_of_their_order(self, four):
        rows = rows_with([0, 1, 0, 1])
        first = opened(write_manifest(four / "m.csv", rows))
        assert first.fingerprint != opened(write_manifest(four / "m.csv", rows[::-1])).fingerprint

    def test_it_moves_with_the_folder_and_tells_a_lost_file(self, four):
        first = opened(write_manifest(four / "m.csv", rows_with([0, 1, 0, 1])))
        moved = four.parent / "moved"
        shutil.copytree(four, moved)
        assert opened(moved / "m.csv").fingerprint == first.fingerprint
        (moved / "a.png").unlink()
        assert opened(moved / "m.csv").fingerprint != first.fingerprint


class TestBadInput:
    def test_missing_manifest(self, tmp_path):
        assert "does not exist" in str(fault_of(tmp_path / "m.csv"))

    @pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
    def test_empty_manifest(self, tmp_path, form):
        (tmp_path / f"m.{form}").write_bytes(b"")
        assert f"m.{form}" in str(fault_of(tmp_path / f"m.{form}"))

    def test_manifest_with_a_header_only(self, tmp_path):
        (tmp_path / "m.csv").write_text("image,label\n")
        assert "has no samples" in str(fault_of(tmp_path / "m.csv"))

    @pytest.mark.parametrize("form", FORMS)
    def test_a_named_column_that_is_not_there(self, four, form):
        path = write_manifest(four / f"m.{form}", rows_with([0, 1, 0, 1]))
        fault = fault_of(path, label_column="labell")
        assert "no column 'labell'" in str(fault)
        assert "image, label" in str(fault)
        assert "did you mean --label-column 'label'?" in fault.hint
        assert "--split-column" in fault_of(path, split_column="zzz").hint

    @pytest.mark.parametrize("form", FORMS)
    def test_no_column_that_could_be_it(self, four, form):
        rows = [{"image": "a.png", "color": 1}, {"image": "b.png", "color": 2}]
        fault = fault_of(write_manifest(four / f"m.{form}", rows))
        assert "which column" in str(fault)
        assert "image, color" in str(fault)
        assert "--label-column" in fault.hint
        fault = fault_of(write_manifest(four / f"m.{form}", [{"what": "a.png", "label": 1}]))
        assert "--image-column" in fault.hint

    def test_two_columns_that_could_be_the_label(self, four):
        rows = rows_with([0, 1, 0, 1], Class=[1, 2, 3, 4])
        path = write_manifest(four / "m.csv", rows)
        fault = fault_of(path)
        assert "label, Class" in str(fault)
        assert "--label-column" in fault.hint
        assert labels_of(opened(path, label_column="Class")) == [1, 2, 3, 4]

    def test_two_columns_of_one_name(self, four):
        (four / "m.csv").write_text("image,label,label\na.png,1,2\n")
        assert "label" in str(fault_of(four / "m.csv", label_column="label"))

    def test_one_column_for_two_roles(self, four):
        path = write_manifest(four / "m.csv", rows_with([0, 1, 0, 1]))
        assert "cannot hold both" in str(fault_of(path, label_column="image"))

    @pytest.mark.parametrize("form", FORMS)
    def test_duplicate_ids(self, four, form):
        rows = [{"image": name, "label": 1} for name in ("a.png", "./a.png", "b.png")]
        fault = fault_of(write_manifest(four / f"m.{form}", rows))
        assert "1 ids" in str(fault)
        assert "'a.png'" in str(fault)
        assert "--id-column" in fault.hint

    def test_an_id_column_with_holes(self, four):
        rows = rows_with([0, 1, 0, 1], key=["1", "", "3", "4"])
        fault = fault_of(write_manifest(four / "m.csv", rows), id_column="key")
        assert "1 samples without an id" in str(fault)

    def test_no_path_and_no_id(self, four):
        rows = rows_with([0, 1, 0, 1])
        rows[1]["image"] = None
        fault = fault_of(write_manifest(four / "m.jsonl", rows))
        assert "neither an image path nor an id" in str(fault)

    def test_one_class(self, four):
        path = write_manifest(four / "m.csv", rows_with(["x", "x", None, "x"]))
        assert "only one class, 'x'" in str(fault_of(path))

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("blank", [None, "", float("nan")])
    def test_no_label_at_all(self, four, form, blank):
        path = write_manifest(four / f"m.{form}", rows_with([blank] * 4))
        assert "has no label at all" in str(fault_of(path))

    @pytest.mark.parametrize("form", ["jsonl", "parquet"])
    @pytest.mark.parametrize(
        ("labels", "what"),
        [
            ([0.5, 1.0, 2.0, 3.0], "fractions"),
            ([[1], [2], [1], [2]], "lists"),
            ([{"a": 1}] * 4, "records"),
        ],
    )
    def test_labels_that_are_no_labels(self, four, form, labels, what):
        assert what in str(fault_of(write_manifest(four / f"m.{form}", rows_with(labels))))

    def test_text_and_numbers_mixed(self, four):
        path = write_manifest(four / "m.jsonl", rows_with(["x", 1, "y", 2]))
        assert "one kind of label" in str(fault_of(path))

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("out", ["../secret.png", "x/../../secret.png", "/etc/hostname", ".."])
    def test_paths_outside_the_folder(self, tmp_path, form, out):
        put(tmp_path, "data/a.png", "secret.png")
        rows = [{"image": "a.png", "label": 0}, {"image": out, "label": 1}]
        data = opened(write_manifest(tmp_path / "data" / f"m.{form}", rows))
        assert repr(out) in data.assumptions[0].text
        with pytest.raises(
            UnreadableSample, match=r"leads out of the data folder.*--outside-files"
        ):
            data.store.read(1)
        rows += [{"image": str(tmp_path / "secret.png"), "label": 1}, {"image": "../x", "label": 0}]
        fault = fault_of(write_manifest(tmp_path / "data" / f"m.{form}", rows))
        assert "3 of the 4 images" in str(fault)
        assert repr(out) in str(fault)
        assert "--outside-files" in fault.hint

    def test_paths_outside_the_folder_are_read_if_asked(self, tmp_path):
        put(tmp_path, "meta/x.png", "photos/a.png", "photos/b.png")
        rows = [{"image": str(tmp_path / "photos" / "a.png"), "label": 0},
                {"image": "../photos/b.png", "label": 1}]  # fmt: skip
        path = write_manifest(tmp_path / "meta" / "m.csv", rows)
        data = open_dataset(path, DatasetConfig(outside_files=True))
        assert data.store.read(1) == (tmp_path / "photos" / "b.png").read_bytes()
        assert data.store.read(0) == (tmp_path / "photos" / "a.png").read_bytes()
        assert data.assumptions == ()

    def test_links_that_lead_outside_the_folder(self, tmp_path):
        put(tmp_path, "data/a.png", "secret/b.png")
        (tmp_path / "data" / "b.png").symlink_to(tmp_path / "secret" / "b.png")
        (tmp_path / "data" / "more").symlink_to(tmp_path / "secret")
        for out in ("b.png", "more/b.png"):
            rows = [{"image": "a.png", "label": 0}, {"image": out, "label": 1}]
            path = write_manifest(tmp_path / "data" / "m.csv", rows)
            with pytest.raises(UnreadableSample, match="leads out of the data folder"):
                opened(path).store.read(1)
            data = open_dataset(path, DatasetConfig(outside_files=True))
            assert data.store.read(1) == (tmp_path / "secret" / "b.png").read_bytes()

    def test_no_image_is_there(self, tmp_path):
        path = write_manifest(tmp_path / "m.csv", rows_with([0, 1, 0, 1]))
        fault = fault_of(path)
        assert "none of the 4 images" in str(fault)
        assert str(tmp_path / "a.png") in str(fault)

    def test_text_in_no_known_encoding(self, four):
        text = "image,label\na.png,собака\nb.png,кошка\n"
        (four / "m.csv").write_bytes(text.encode("cp1251"))
        assert "UTF-8" in fault_of(four / "m.csv").hint

    def test_lines_of_uneven_length(self, four):
        (four / "m.csv").write_text("image,label\na.png\nb.png,x\n")
        assert "Expected 2 columns" in str(fault_of(four / "m.csv"))

    @pytest.mark.parametrize("line", ["not json", "[1, 2]", '{"image": '])
    def test_lines_that_are_not_json(self, four, line):
        (four / "m.jsonl").write_text('{"image": "a.png", "label": 1}\n' + line + "\n")
        assert "line 2 of" in str(fault_of(four / "m.jsonl"))


def test_progress_is_told(four):
    steps: list[Progress] = []
    path = write_manifest(four / "m.jsonl", rows_with([0, 1, 0, 1]))
    open_dataset(path, DatasetConfig(), steps.append)
    assert (steps[-1].done, steps[-1].total) == (4, 4)
