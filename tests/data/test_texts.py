"""``labelfix.data.texts``: texts in tables of every form and in folders, and what is no text."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from opened_data import assumed, fault_of, labels_of, opened, said
from written_texts import sentences, write_table

from labelfix.errors import ConfigError, UnreadableSample

TEXTS, LABELS = sentences(12)
ALL = [text.encode() for text in TEXTS]


def read_all(data):
    return [data.store.read(row) for row in range(len(data))]


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_texts_are_found_in_every_form_of_table(tmp_path, form):
    table = write_table(tmp_path / f"reviews.{form}", {"text": TEXTS, "label": LABELS})
    data = opened(table)
    assert (data.modality, read_all(data), labels_of(data)) == ("text", ALL, LABELS)
    assert data.sample_id[3].as_py() == f"reviews.{form}:3"
    assert "the samples are the texts in column 'text'" in said(data)
    assert data.source.columns == {"text": "text", "label": "label"}
    assert not data.source.has_files


def test_texts_are_found_in_shards_with_splits(tmp_path):
    for split, part in (("train", slice(0, 8)), ("test", slice(8, 12))):
        columns = {"sentence": TEXTS[part], "label": LABELS[part]}
        pq.write_table(pa.table(columns), tmp_path / f"{split}-00000-of-00001.parquet")
    data = opened(tmp_path)
    assert (data.modality, sorted(read_all(data))) == ("text", sorted(ALL))
    assert set(data.split.to_pylist()) == {"train", "test"}


def test_texts_are_found_in_what_save_to_disk_wrote(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["refund", "travel"])
    )
    saved = datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS}, features=features)
    saved.save_to_disk(tmp_path / "saved")
    data = opened(tmp_path / "saved")
    assert (data.modality, read_all(data), labels_of(data)) == ("text", ALL, LABELS)


def test_a_folder_of_text_files_by_class_holds_texts(tmp_path):
    for number, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True)):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{number:02}.txt").write_text(text, encoding="utf-8")
    (tmp_path / "readme.txt").write_text("about these data", encoding="utf-8")
    data = opened(tmp_path)
    assert (data.modality, len(data)) == ("text", 13)
    assert labels_of(data).count(None) == 1, "a file above the class folders has no label"
    assert sorted(read_all(data))[1:] != []


@pytest.mark.parametrize("name", ["Review Text", "utterance", "content", "body"])
def test_columns_of_texts_are_known_by_name(tmp_path, name):
    table = write_table(tmp_path / "a.csv", {"label": LABELS, name: TEXTS, "n": range(12)})
    assert opened(table).source.columns["text"] == name


def test_the_longest_free_text_is_taken_where_no_name_tells(tmp_path):
    columns = {"who": ["Ann Lee"] * 12, "label": LABELS, "words": TEXTS, "n": list(range(12))}
    data = opened(write_table(tmp_path / "a.csv", columns))
    assert data.source.columns["text"] == "words"
    assert len(assumed(data, "'words'")) == 1
    parquet = opened(write_table(tmp_path / "a.parquet", columns))
    assert parquet.source.columns["text"] == "words"


def test_other_columns_that_could_be_meant_are_named(tmp_path):
    columns = {"title": TEXTS, "text": TEXTS, "label": LABELS}
    data = opened(write_table(tmp_path / "a.csv", columns))
    assert "'title' could be meant, too" in said(data)


def test_two_columns_belong_together_by_name_or_on_request(tmp_path):
    pairs = {"premise": TEXTS, "hypothesis": TEXTS[::-1], "label": LABELS}
    data = opened(write_table(tmp_path / "a.csv", pairs))
    assert data.store.read(0).decode().split("\x1e") == [TEXTS[0], TEXTS[-1]]
    named = opened(tmp_path / "a.csv", text_column=("hypothesis",))
    assert named.store.read(0) == ALL[-1]
    assert not assumed(named, "could be")
    with pytest.raises(ConfigError, match="too many"):
        opened(tmp_path / "a.csv", text_column=("a", "b", "c"))


def test_a_table_with_paths_still_holds_images(tmp_path):
    columns = {"image": ["a.png"] * 12, "text": TEXTS, "label": LABELS}
    fault = fault_of(write_table(tmp_path / "a.csv", columns))
    assert "none of the 12 images" in str(fault)
    assert opened(tmp_path / "a.csv", text_column=("text",)).modality == "text"


def test_the_fingerprint_is_that_of_the_texts_alone(tmp_path):
    first = opened(write_table(tmp_path / "a.csv", {"text": TEXTS, "label": LABELS}))
    other = opened(write_table(tmp_path / "b.parquet", {"text": TEXTS, "label": LABELS[::-1]}))
    assert first.fingerprint == other.fingerprint
    changed = opened(write_table(tmp_path / "c.csv", {"text": TEXTS[::-1], "label": LABELS}))
    assert first.fingerprint != changed.fingerprint


def test_a_missing_column_is_named_with_the_nearest(tmp_path):
    table = write_table(tmp_path / "a.csv", {"text": TEXTS, "label": LABELS})
    fault = fault_of(table, text_column=("txt",))
    assert "has no column 'txt'; its columns are: text, label" in str(fault)
    assert fault.hint == "did you mean --text-column 'text'?"


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("cells", "what"),
    [([""] * 12, "is empty"), (["1.5", "2"] * 6, "holds numbers, such as 1.5")],
)
def test_columns_without_texts_are_refused(tmp_path, form, cells, what):
    fault = fault_of(write_table(tmp_path / f"a.{form}", {"text": cells, "label": LABELS}))
    assert what in str(fault)
    assert "--text-column" in fault.hint


def test_the_label_column_is_no_text_column(tmp_path):
    table = write_table(tmp_path / "a.csv", {"text": TEXTS, "label": LABELS})
    fault = fault_of(table, text_column=("label",), label_column="label")
    assert "cannot hold both the texts and the labels" in str(fault)


def test_a_table_of_neither_says_both_options(tmp_path):
    fault = fault_of(write_table(tmp_path / "a.csv", {"a": list("abcdefghijkl"), "label": LABELS}))
    assert "--image-column" in fault.hint
    assert "--text-column" in fault.hint


def test_one_class_of_texts_is_refused(tmp_path):
    fault = fault_of(write_table(tmp_path / "a.csv", {"text": TEXTS, "label": ["x"] * 12}))
    assert "only one class" in str(fault)


def test_rows_without_a_text_are_rows_that_cannot_be_read(tmp_path):
    texts = [None, "  ", *TEXTS[2:]]
    data = opened(write_table(tmp_path / "a.parquet", {"text": texts, "label": LABELS}))
    for row in (0, 1):
        with pytest.raises(UnreadableSample, match="empty"):
            data.store.read(row)
    assert data.store.read(2) == ALL[2]


def test_long_texts_are_read_whole(tmp_path):
    long = "word " * 210_000
    data = opened(write_table(tmp_path / "a.csv", {"text": [long, *TEXTS[1:]], "label": LABELS}))
    assert data.store.read(0) == long.encode()
