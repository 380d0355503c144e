"""Which labels are missing, which are alike, and which columns hold none."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opened_data import labels_of, opened, said

from labelfix.data.labels import look_alikes, without_blanks, without_missing
from labelfix.data.probabilities import open_pred_probs
from labelfix.errors import DatasetError
from labelfix.types import MISSING
from labelfix.utils.progress import no_progress

FORMS = ("csv", "tsv", "jsonl", "parquet", "ClassLabel")


def write(folder: Path, form: str, labels: list[object]) -> Path:
    """Write a table of one image again and again, with these labels."""
    (folder / "0.png").write_bytes(b"an image")
    names = [f"{row}.png" for row in range(len(labels))]
    if form in {"csv", "tsv"}:
        sign = "," if form == "csv" else "\t"
        lines = [sign.join(["image", "label"])]
        lines += [f"{name}{sign}{label}" for name, label in zip(names, labels, strict=True)]
        path = folder / f"m.{form}"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif form == "jsonl":
        path = folder / "m.jsonl"
        rows = [{"image": n, "label": k} for n, k in zip(names, labels, strict=True)]
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    else:
        path = folder / "m.parquet"
        table = pa.table({"image": names, "label": labels})
        if form == "ClassLabel":
            feature = {"_type": "ClassLabel", "names": ["0", "1", "2"]}
            about = {"info": {"features": {"label": feature}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
        pq.write_table(table, path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_minus_one_is_no_label_in_any_form(tmp_path, form):
    data = opened(write(tmp_path, form, [0, 1, -1, 2, -1]))
    assert data.given_label.tolist() == [0, 1, MISSING, 2, MISSING]
    if form != "ClassLabel":
        assert "2 labels of -1 mean that there is no label; --label-missing ''" in said(data)


def test_minus_one_is_no_label_in_given_probabilities(tmp_path):
    probs = np.full((3, 2), 0.5, np.float32)
    np.savez(tmp_path / "p.npz", pred_probs=probs, labels=np.array([0, 1, -1]))
    lines = ["sample_id,given_label,prob:0,prob:1", "a,0,.5,.5", "b,1,.5,.5", "c,-1,.5,.5"]
    (tmp_path / "p.csv").write_text("\n".join(lines) + "\n")
    for name in ("p.npz", "p.csv"):
        given = open_pred_probs([tmp_path / name], tmp_path, no_progress)
        assert given.given_label.tolist() == [0, 1, MISSING]
        assert given.exclusion_reason == {2: "not scored: it has no label"}
    assert "1 label of -1 means that there is no label" in given.assumptions[-1].text


@pytest.mark.parametrize("form", FORMS[:4])
def test_minus_one_can_be_a_class(tmp_path, form):
    data = opened(write(tmp_path, form, [0, 1, -1]), label_missing=("",))
    assert data.class_names == (-1, 0, 1)
    assert not data.assumptions


def test_the_second_of_two_classes_may_be_minus_one(tmp_path):
    data = opened(write(tmp_path, "csv", [1, -1, 1, -1]))
    assert data.class_names == (-1, 1)
    assert "-1 is a class, for 1 is the only other; --label-missing -1" in said(data)


@given(numbers=st.lists(st.none() | st.integers(-2, 5), min_size=1, max_size=12))
def test_the_rule_of_minus_one(numbers):
    labels, notes = without_missing(pa.array(numbers, pa.int64()), ())
    there = set(numbers) - {None}
    is_missing = -1 in there and min(there) == -1 and len(there) > 2
    expected = [None if is_missing and number == -1 else number for number in numbers]
    assert labels.to_pylist() == expected
    assert bool(notes) == (-1 in there and min(there) == -1 and len(there) > 1)


@pytest.mark.parametrize("form", FORMS[:4])
def test_any_value_can_mean_that_there_is_no_label(tmp_path, form):
    path = write(tmp_path, form, ["x", "unknown", "y", "?", "nothing"])
    data = opened(path, label_missing=("unknown", "?", "none"))
    assert labels_of(data) == ["x", None, "y", None, "nothing"]
    assert "--label-missing 'none' is no label of the data" in said(data)
    data = opened(write(tmp_path, form, [0, 99, 1, -1]), label_missing=("99",))
    assert labels_of(data) == [0, None, 1, None]


def test_a_class_folder_can_mean_that_there_is_no_label(tmp_path):
    for name in ("cat", "dog", "unsorted"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"an image")
    data = opened(tmp_path, label_missing=("unsorted",))
    assert data.class_names == ("cat", "dog")
    assert labels_of(data) == ["cat", "dog", None]


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl"])
def test_blanks_around_labels_of_a_text_are_taken_away(tmp_path, form):
    data = opened(write(tmp_path, form, ["cat ", "cat", " dog", "a b"]))
    assert labels_of(data) == ["cat", "cat", "dog", "a b"]
    assert "blanks around 2 labels were taken away" in said(data)
    assert not opened(write(tmp_path, form, ["cat", "dog"])).assumptions


def test_numbers_with_blanks_around_are_numbers(tmp_path):
    data = opened(write(tmp_path, "csv", [" 3", "4 ", "3"]))
    assert data.class_names == (3, 4)


def test_classes_that_look_alike_are_kept_and_named(tmp_path):
    cafe = "caf\u00e9"
    labels = ["Cat", "cat", "ca t", "cat ", cafe, unicodedata.normalize("NFD", cafe), "dog"]
    data = opened(write(tmp_path, "parquet", labels))
    assert set(data.class_names) == set(labels)
    assert "'Cat', 'ca t', 'cat', 'cat '" in said(data)
    assert r"'cafe\u0301', 'caf\xe9'" in said(data)
    assert "'11'" not in look_alikes(("1 1", "11", "1_1 ", 7, "caf"))[0].text
    assert not look_alikes(("a1", "a2", "b"))


WORD = st.text(st.sampled_from("abcé ß1"), min_size=1, max_size=4).filter(str.strip)


@settings(max_examples=60)
@given(
    word=WORD,
    change=st.sampled_from([
        str.upper, str.title, lambda w: f" {w}", lambda w: f"{w}\t",
        lambda w: unicodedata.normalize("NFD", w), lambda w: unicodedata.normalize("NFKC", w),
        lambda w: w + "\u200b",
    ]),
)  # fmt: skip
def test_any_change_of_case_blanks_or_form_is_named(word, change):
    other = change(word)
    assert bool(look_alikes(tuple(sorted({word, other})))) == (other != word)


@given(labels=st.lists(st.none() | WORD, min_size=1, max_size=6))
def test_blanks_are_counted(labels):
    plain, notes = without_blanks(pa.array(labels, pa.string()), may_be_numbers=False)
    assert plain.to_pylist() == [label and label.strip() for label in labels]
    assert bool(notes) == any(label != (label and label.strip()) for label in labels)


@pytest.mark.parametrize("there", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_a_path_is_found_in_either_form(tmp_path, there, written):
    name = "Bjo\u0308rn/caf\u00e9 \u00fc.png"
    file = tmp_path / unicodedata.normalize(there, name)
    file.parent.mkdir()
    file.write_bytes(b"an image")
    (tmp_path / "b.png").write_bytes(b"another")
    path = unicodedata.normalize(written, name)
    (tmp_path / "m.csv").write_text(f"image,label\n{path},x\nb.png,y\n", encoding="utf-8")
    data = opened(tmp_path / "m.csv")
    assert data.sample_id.to_pylist() == [path, "b.png"]
    assert data.store.read(0) == b"an image"
    assert data.store.location(0) == str(file)


@pytest.mark.parametrize(
    ("labels", "what"),
    [([f"x{row}" for row in range(30)], "30 different values in 30 rows"),
     ([f"{row}.5" for row in range(4)], "numbers with fractions, such as 0.5")],
)  # fmt: skip
def test_a_column_that_only_sounds_like_labels_is_asked_about(tmp_path, labels, what):
    path = write(tmp_path, "csv", labels)
    with pytest.raises(DatasetError, match=what) as caught:
        opened(path)
    assert "--label-column" in caught.value.hint
    assert len(opened(path, label_column="label")) == len(labels)
