"""The demo texts: different sentences of six kinds, and what is planted in them."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from command import labelfix

from labelfix.benchmark.demo import PLANTED_SHARE, DemoData
from labelfix.benchmark.demo_texts import KINDS, LOOK_ALIKE, OF_EACH, OUTLIER, write_text_demo
from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return write_text_demo(tmp_path_factory.mktemp("texts") / "demo")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_a_data_set_of_texts_with_the_labels_of_the_truth(made: DemoData) -> None:
    dataset = open_dataset(made.data, DatasetConfig())
    assert dataset.modality == "text"
    assert dataset.class_names == KINDS == tuple(sorted(LOOK_ALIKE))
    truth = {row["sample_id"]: row for row in rows_of(made.truth)}
    assert set(dataset.sample_id.to_pylist()) == set(truth)
    given = [KINDS[code] for code in dataset.given_label]
    assert given == [truth[name]["given_label"] for name in dataset.sample_id.to_pylist()]
    assert made.samples == len(dataset) == OF_EACH * len(KINDS) + 3


def test_eight_per_cent_are_planted_half_of_them_alike(made: DemoData) -> None:
    truth = rows_of(made.truth)
    kinds = Counter(row["kind"] for row in truth)
    assert made.planted == kinds["random"] + kinds["look-alike"] == PLANTED_SHARE * 600
    assert (kinds["copy"], kinds["broken"], kinds["outlier"]) == (1, 1, 1)
    for row in truth:
        is_wrong = row["kind"] in ("random", "look-alike", "copy")
        assert (row["given_label"] != row["true_label"]) == is_wrong
        if row["kind"] in ("look-alike", "copy"):
            assert LOOK_ALIKE[row["true_label"]] == row["given_label"]


def test_texts_differ_but_for_one_copy_and_an_empty_one(made: DemoData) -> None:
    texts = [row["text"] for row in rows_of(made.data)]
    assert Counter(Counter(texts).values()) == {1: len(texts) - 2, 2: 1}
    assert texts.count("") == texts.count(OUTLIER) == 1
    assert not [text for text in texts if "{" in text or "  " in text or ".." in text]


def test_one_seed_writes_the_same_bytes_and_another_other_texts(
    made: DemoData, tmp_path: Path
) -> None:
    again = labelfix("demo", tmp_path / "again", "--text")
    assert again.returncode == 0, again.stderr
    assert "wrote 603 texts, 48 of them with a planted wrong label" in again.stdout
    for file in (made.data, made.truth):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    other = write_text_demo(tmp_path / "other", seed=1)
    assert other.data.read_bytes() != made.data.read_bytes()
