"""Data, audit, decisions, data: exactly the decided labels, and nothing else is changed."""

import csv
import io
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from decided_run import LEAST, Fate, fates, write_run
from exported_runs import class_folder, files_of
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from labelfix.cli import main as cli
from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.decisions import Decision, DecisionLog
from labelfix.errors import DatasetError
from labelfix.exports.export import export
from labelfix.types import MISSING

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5)
CELL = st.one_of(TEXT, st.sampled_from(['"', 'a"b', "a\nb", "x;y,z\tw", "\r\n", '""', "=1+1"]))
EXAMPLES = settings(max_examples=30)


def picture(number: int) -> bytes:
    return b"picture %d" % number  # nothing here decodes it


def labels_again(path: Path) -> list:
    """Return the labels that labelfix reads, as text: a file of text may lose the kind."""
    dataset = open_dataset(path, DatasetConfig())
    names = dataset.class_names
    return [None if code == MISSING else str(names[code]) for code in dataset.given_label]


# Delimited text


@st.composite
def delimited(draw):
    """Draw the parts of a file: its head, and for each row what stands around the label."""
    delimiter = draw(st.sampled_from([",", ";", "\t"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    kind = draw(st.sampled_from(["text", "integers", "floats"]))
    classes = ["cat", "dog", 'a "b"', "x,y;z", "nan", "Ünï"] if kind == "text" else [3, 12, 7]
    order = draw(st.permutations(["image", "label", "note"]))
    at = order.index("label")

    def cell(text: str) -> str:
        special = delimiter in text or any(sign in text for sign in '"\r\n') or text == "nan"
        is_quoted = special or draw(st.booleans())
        return '"' + text.replace('"', '""') + '"' if is_quoted else text

    rows, labels = [], [*classes[:2], *draw(st.lists(st.sampled_from([None, *classes])))]
    for number, label in enumerate(labels):
        text = "" if label is None else f"{label}{'.0' if kind == 'floats' else ''}"
        cells = {
            "image": cell(f"i{number}.png"),
            "note": cell(draw(CELL)),
            "label": draw(st.sampled_from(["", "NaN", '""'])) if label is None else cell(text),
        }
        before = "".join(cells[name] + delimiter for name in order[:at])
        after = "".join(delimiter + cells[name] for name in order[at + 1 :]) + end
        rows.append((before, cells["label"], after))
    if draw(st.booleans()):  # no line end at the end of the file
        rows[-1] = (*rows[-1][:2], rows[-1][2].removesuffix(end))
    head = draw(st.sampled_from(["", "\ufeff"])) + delimiter.join(order) + end
    new = ["new class", "7"] if kind == "text" else [40]
    people = draw(st.lists(fates(classes, new), min_size=len(rows), max_size=len(rows)))
    return delimiter, head, rows, people


@given(delimited())
@EXAMPLES
def test_a_delimited_manifest_changes_in_the_cells_of_new_labels_only(drawn):
    delimiter, head, rows, people = drawn
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number in range(len(rows)):
            (folder / f"i{number}.png").write_bytes(picture(number))
        data = folder / "list.csv"
        data.write_bytes((head + "".join(map("".join, rows))).encode())
        before = files_of(folder)
        given_labels = labels_again(data)
        expected = write_run(folder / "run", data, people)
        export(folder / "run", folder / "clean.csv", format="own", min_probability=LEAST)
        after = files_of(folder)
        assert {name: after[name] for name in before} == before

        rest = after["clean.csv"].decode()
        assert rest.startswith(head)
        rest = rest[len(head) :]
        for (left, cell, right), was, label in zip(rows, given_labels, expected, strict=True):
            if label is ...:
                continue
            assert rest.startswith(left)
            rest = rest[len(left) :]
            if label is None or str(label) == was:
                written = cell
            else:
                end = rest.index(right) if right else len(rest)
                written = rest[:end]
                [[value]] = csv.reader(io.StringIO(written, newline=""), delimiter=delimiter)
                assert value.removesuffix(".0") == str(label)
            assert rest.startswith(written + right)
            rest = rest[len(written + right) :]
        assert rest == ""
        kept = [label for label in expected if label is not ...]
        if len({label for label in kept if label is not None}) > 1:
            again = labels_again(folder / "clean.csv")
            assert again == [None if label is None else str(label) for label in kept]


def test_lines_without_a_row_and_odd_quotes_are_read_as_they_were(tmp_path):
    class_folder(tmp_path, "a.png", "b.png", "c.png")
    text = b'image,label,note\n\na.png,x"y,1\n\n\nb.png,"z"w,\nc.png,x"y,last'
    (tmp_path / "list.csv").write_bytes(text)
    people = [pick("relabel", "zw"), pick("keep"), pick("relabel", "new,")]
    write_run(tmp_path / "run", tmp_path / "list.csv", people)
    export(tmp_path / "run", tmp_path / "out.csv", format="own")
    assert (tmp_path / "out.csv").read_bytes() == text.replace(b'a.png,x"y', b"a.png,zw").replace(
        b'c.png,x"y', b'c.png,"new,"'
    )


def pick(action: str, chosen="x"):
    return Fate(action, chosen, None, 0.5, 0.5)


# JSON lines


@st.composite
def json_lines(draw):
    kind = draw(st.sampled_from(["text", "integers", "floats", "booleans"]))
    classes = {
        "text": ["cat", 'd"o\\g', "Ünï"],
        "integers": [3, 12],
        "floats": [3, 12],
        "booleans": ["True", "False"],
    }[kind]
    labels = [*classes[:2], *draw(st.lists(st.sampled_from([None, *classes])))]
    lines = []
    for number, label in enumerate(labels):
        value = {"floats": lambda x: float(x), "booleans": lambda x: x == "True"}.get(
            kind, lambda x: x
        )
        pairs = [("image", f"i{number}.png"), ("note", draw(st.one_of(CELL, st.just({"a": [1]}))))]
        if label is not None:
            pairs.append(("label", value(label)))
        elif draw(st.booleans()):
            pairs.append(("label", None))
        row = dict(draw(st.permutations(pairs)))
        separators = draw(st.sampled_from([(", ", ": "), (",", ":"), (" ,  ", " : ")]))
        ascii_only = draw(st.booleans())
        line = json.dumps(row, separators=separators, ensure_ascii=ascii_only)
        lines.append(draw(st.sampled_from(["", " "])) + line)
    new = ["new class"] if kind == "text" else [40] if kind in ("integers", "floats") else []
    return lines, draw(st.lists(fates(classes, new), min_size=len(lines), max_size=len(lines)))


@given(json_lines(), st.sampled_from(["\n", "\r\n", "\n\n"]), st.booleans())
@EXAMPLES
def test_json_lines_change_in_their_labels_only(drawn, end, marked):
    lines, people = drawn
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number in range(len(lines)):
            (folder / f"i{number}.png").write_bytes(picture(number))
        data = folder / "list.jsonl"
        data.write_bytes((b"\xef\xbb\xbf" if marked else b"") + end.join(lines).encode())
        try:
            open_dataset(data, DatasetConfig())
        except DatasetError:
            assert marked  # json itself does not read a mark in front of some lines
            return
        expected = write_run(folder / "run", data, people)
        given_rows = [json.loads(line) for line in lines]
        export(folder / "run", folder / "clean.jsonl", format="own", min_probability=LEAST)
        written = (folder / "clean.jsonl").read_text("utf-8-sig").split("\n")
        written = [line for line in written if line.strip()]
        kept = [at for at, label in enumerate(expected) if label is not ...]
        assert len(written) == len(kept)
        for line, at in zip(written, kept, strict=True):
            row, label = given_rows[at], expected[at]
            old = row.get("label")
            if label is not None and str(label) != str(old).removesuffix(".0"):
                label = {"True": True, "False": False}.get(label, label)
                row = {**row, "label": label}
                assert json.loads(line) == row
                assert list(json.loads(line)) == list(row)
            else:
                assert line.rstrip("\r") == lines[at]


# Parquet

NAMES = ("cat", "dog", "fox")
HF = {"info": {"features": {"label": {"names": NAMES, "_type": "ClassLabel"}}}}
KINDS = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int8(), pa.string()),
    "int8": pa.int8(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "ClassLabel": pa.int64(),
}


@st.composite
def typed_tables(draw):
    name = draw(st.sampled_from(sorted(KINDS)))
    kind = KINDS[name]
    values = {"int8": [3, 7], "float64": [3, 7], "bool": [True, False]}.get(name, NAMES)
    classes = ["True", "False"] if name == "bool" else values
    values = [0, 1, 2] if name == "ClassLabel" else values
    missing = -1 if name == "ClassLabel" else None
    labels = [*values[:2], *draw(st.lists(st.sampled_from([missing, *values]), max_size=8))]
    size = len(labels)
    images = [picture(number) for number in range(size)]
    metadata = {"mine": "kept"} | ({"huggingface": json.dumps(HF)} if name == "ClassLabel" else {})
    schema = pa.schema(
        [
            pa.field("image", pa.binary(), metadata={"about": "pictures"}),
            pa.field("label", kind),
            pa.field("extra", pa.list_(pa.int32())),
            pa.field("split", pa.string(), nullable=True),
        ],
        metadata,
    )
    table = pa.table(
        {
            "image": images,
            "label": pa.array(labels, kind.value_type).dictionary_encode().cast(kind)
            if name == "dictionary"
            else pa.array(labels, kind),
            "extra": [[number] * (number % 3) for number in range(size)],
            "split": [draw(st.sampled_from(["train", "test"])) for _ in range(size)],
        },
        schema=schema,
    )
    new = {"int8": [9], "float64": [9], "bool": [], "ClassLabel": []}.get(name, ["new"])
    people = draw(st.lists(fates(classes, new), min_size=size, max_size=size))
    return table, people, draw(st.sampled_from(["zstd", "snappy", "none"])), draw(st.booleans())


def code_of(label, kind: pa.DataType, metadata) -> object:
    if label is None:
        return -1 if b"huggingface" in metadata else None
    if b"huggingface" in metadata:
        return NAMES.index(label)
    return label == "True" if kind == pa.bool_() else label


@given(typed_tables())
@EXAMPLES
def test_parquet_changes_in_its_label_column_only(drawn):
    table, people, compression, in_shards = drawn
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data, cut = folder / "data.parquet", max(1, len(table) // 2)
        if in_shards:
            data = folder / "data"
            (data / "more").mkdir(parents=True)
            (data / "README.md").write_text("about")
            names = ["a.parquet", "more/b.parquet"]
            for name, part in zip(names, (table[:cut], table[cut:]), strict=True):
                pq.write_table(part, data / name, compression=compression, row_group_size=2)
        else:
            pq.write_table(table, data, compression=compression, row_group_size=2)
        before = files_of(folder)
        expected = write_run(folder / "run", data, people)
        to = folder / ("clean" if in_shards else "clean.parquet")
        result = export(folder / "run", to, format="own", min_probability=LEAST)
        after = files_of(folder)
        assert {name: after[name] for name in before} == before

        kept = [row for row, label in enumerate(expected) if label is not ...]
        written = (
            pa.concat_tables([pq.read_table(to / name) for name in names])
            if in_shards
            else pq.read_table(to)
        )
        read = pq.read_schema(data / names[0] if in_shards else data)
        assert written.schema.equals(read, check_metadata=True)
        rows = [table.slice(row, 1) for row in kept]
        there = pa.concat_tables([table.slice(0, 0), *rows])
        for name in ("image", "extra", "split"):
            assert written[name].to_pylist() == there[name].to_pylist()
        wanted = [code_of(expected[row], kind_of(table), table.schema.metadata) for row in kept]
        assert written["label"].to_pylist() == wanted
        if in_shards:
            assert after["clean/README.md"] == b"about"
            assert result.files == 3
        elif result.changed == result.dropped == 0:
            assert after["clean.parquet"] == before["data.parquet"]
        file = pq.ParquetFile(to / names[0] if in_shards else to).metadata
        if file.num_row_groups and file.num_rows:
            assert file.row_group(0).num_rows <= 2
            codec = "UNCOMPRESSED" if compression == "none" else compression.upper()
            assert file.row_group(0).column(0).compression == codec


def kind_of(table: pa.Table) -> pa.DataType:
    return table.schema.field("label").type


@pytest.mark.parametrize(
    ("name", "bad"), [("ClassLabel", "wolf"), ("int8", 900), ("bool", "perhaps")]
)
def test_a_label_that_the_column_cannot_hold_is_refused(tmp_path, name, bad):
    labels = {"int8": [3, 7], "bool": [True, False], "ClassLabel": [0, 1]}[name]
    table = pa.table({"image": [picture(1), picture(2)], "label": pa.array(labels, KINDS[name])})
    if name == "ClassLabel":
        table = table.replace_schema_metadata({"huggingface": json.dumps(HF)})
    pq.write_table(table, tmp_path / "data.parquet")
    write_run(tmp_path / "run", tmp_path / "data.parquet", [pick("relabel", bad), pick("keep")])
    before = files_of(tmp_path)
    with pytest.raises(DatasetError, match="cannot hold a new label") as caught:
        export(tmp_path / "run", tmp_path / "clean.parquet", format="own")
    assert "--format parquet" in caught.value.hint
    assert files_of(tmp_path) == before


# Class folders


@given(st.data())
@EXAMPLES
def test_a_class_folder_changes_in_the_places_of_new_labels_only(data):
    has_splits = data.draw(st.booleans())
    split = st.sampled_from(["train", "Test"]) if has_splits else st.none()
    label = st.sampled_from([None, "cat", "dog", "0%"])
    rows = [("train" if has_splits else None, name) for name in ("cat", "dog")]
    rows += data.draw(st.lists(st.tuples(split, label), max_size=8))
    names = [
        "/".join(
            filter(None, [where, name, *["more"] * bool(number % 3 and name), f"{number}.png"])
        )
        for number, (where, name) in enumerate(rows)
    ]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        class_folder(folder / "data", *names)
        before = files_of(folder / "data")
        size = len(names)
        people = data.draw(
            st.lists(fates(["cat", "dog"], [".new", "a/b"]), min_size=size, max_size=size)
        )
        expected = write_run(folder / "run", folder / "data", people)
        export(folder / "run", folder / "clean", min_probability=LEAST)
        assert files_of(folder / "data") == before
        wanted = {}
        for name, label in zip(sorted(names), expected, strict=True):
            at = names.index(name)
            where, was = rows[at]
            if label is not ...:
                inside = name.split("/")[(where is not None) + (was is not None) :]
                shown = {".new": "%2Enew", "a/b": "a%2Fb"}.get(label, label)
                parts = [where, shown, *inside]
                wanted["/".join(filter(None, parts))] = before[name]
        assert files_of(folder / "clean") == wanted


# Through the command, with a real audit


def command(*args) -> str:
    done = CliRunner().invoke(cli.app, [str(arg) for arg in args])
    assert done.exit_code == 0, done.output
    return done.stdout


def listed(data: Path) -> tuple[list[Path], list[str]]:
    files = sorted(data.rglob("*.png"))
    return files, [f"c{file.parent.name}" for file in files]


FORMS = ("folder", "csv", "jsonl", "parquet", "shards")


def written_as(form: str, small_data: Path, folder: Path) -> Path:
    """Write the small data in another form, with the labels c0, c1 and c7."""
    files, labels = listed(small_data)
    names = [f"images/{number}.png" for number in range(len(files))]
    if form == "folder":
        for file, label in zip(files, labels, strict=True):
            place = folder / "data" / label / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())
        return folder / "data"
    if form in ("csv", "jsonl"):
        (folder / "images").mkdir()
        for file, name in zip(files, names, strict=True):
            (folder / name).write_bytes(file.read_bytes())
        pairs = zip(names, labels, strict=True)
        if form == "csv":
            text = "".join(f"{name};'=1;{label}\r\n" for name, label in pairs)
            (folder / "data.csv").write_bytes(b"image;note;label\r\n" + text.encode())
        else:
            text = "".join(json.dumps({"image": n, "label": label}) + "\n" for n, label in pairs)
            (folder / "data.jsonl").write_text(text)
        return folder / f"data.{form}"
    pairs = zip(names, files, strict=True)
    images = [{"bytes": file.read_bytes(), "path": name} for name, file in pairs]
    table = pa.table({"image": images, "label": labels, "n": range(len(files))})
    if form == "parquet":
        pq.write_table(table, folder / "data.parquet")
        return folder / "data.parquet"
    (folder / "data").mkdir()
    pq.write_table(table[:40], folder / "data" / "train-0.parquet")
    pq.write_table(table[40:], folder / "data" / "train-1.parquet")
    return folder / "data"


@pytest.mark.parametrize("form", FORMS)
def test_audit_decide_export_through_the_command(form, small_data, tmp_path):
    data = written_as(form, small_data, tmp_path)
    run, to = tmp_path / "run", data.with_stem("clean")
    command("audit", data, "--out", run, "--quiet", "--folds", "3", "--image-size", "32")
    before = open_dataset(data, DatasetConfig())
    ids = before.sample_id.to_pylist()
    given_labels = [before.class_names[code] for code in before.given_label]
    log = DecisionLog(run)
    log.append([Decision(ids[0], "relabel", "c7", decided_by="ann"), Decision(ids[1], "keep")])
    log.append([Decision(ids[2], "drop"), Decision(ids[3], "unsure")])
    diff = json.loads(command("diff", run, "--min-probability", "1", "--json"))
    options = ("--format", "own", "--min-probability", "1", "--json")
    result = json.loads(command("export", run, to, *options))
    assert (result["changed"], result["dropped"]) == (diff["relabeled"], diff["dropped"]) == (1, 1)
    after = open_dataset(to, DatasetConfig())
    images = {after.store.read(row): row for row in range(len(after))}
    labels = [after.class_names[code] for code in after.given_label]
    assert len(after) == len(before) - 1
    for row in range(len(before)):
        if row != 2:
            wanted = "c7" if row == 0 else given_labels[row]
            assert labels[images[before.store.read(row)]] == wanted
