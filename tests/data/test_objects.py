"""Data sets that a program holds are audited as files of the same samples are."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from small_classes import CLASSES
from written_texts import sentences

import labelfix
from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.objects import open_object
from labelfix.errors import LabelfixError, UnreadableSample
from labelfix.types import MEMORY_KIND
from labelfix.utils.progress import no_progress

VERDICTS = [
    "given_label", "is_label_issue", "label_error_probability", "suggested_label", "sample_weight",
    "fold", "is_exact_duplicate_issue", "is_near_duplicate_issue", "is_outlier_issue", "reason",
]  # fmt: skip


class Pairs(torch.utils.data.Dataset):
    """A data set of torch: nothing but a length and items."""

    def __init__(self, items, **attributes):
        self.items = items
        vars(self).update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


@pytest.fixture(scope="module")
def files(small_data: Path) -> list[Path]:
    return sorted(small_data.rglob("*.png"))


@pytest.fixture(scope="module")
def of_path(small_data: Path, tmp_path_factory) -> pd.DataFrame:
    run = tmp_path_factory.mktemp("of-path") / "run"
    labelfix.audit(small_data, run, tune="head")
    return labelfix.read_report(run)


def opened(data, **columns):
    return open_object(data, DatasetConfig(**columns), no_progress)


def tensor_of(file: Path) -> torch.Tensor:
    """What torchvision's ToTensor makes of a picture."""
    pixels = np.asarray(Image.open(file).convert("RGB"))
    return torch.tensor(pixels).permute(2, 0, 1).float() / 255


def hugging_face(files):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    rows = {
        "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
        "label": [CLASSES.index(file.parent.name) for file in files],
    }
    return datasets.Dataset.from_dict(rows, features=features)


FORMS = {
    "DataFrame of paths": lambda files: pd.DataFrame(
        {"image": [str(file) for file in files], "label": [file.parent.name for file in files]}
    ),
    "DataFrame of Path and categories": lambda files: pd.DataFrame(
        {"path": files, "label": pd.Categorical([file.parent.name for file in files])}
    ),
    "DataFrame of pictures": lambda files: pd.DataFrame(
        {
            "picture": [Image.open(file) for file in files],
            "label": [file.parent.name for file in files],
        }
    ),
    "Hugging Face": hugging_face,
    "torch of PIL": lambda files: Pairs(
        [(Image.open(file), CLASSES.index(file.parent.name)) for file in files], classes=CLASSES
    ),
    "torch of tensors": lambda files: torch.utils.data.Subset(
        Pairs(
            [(tensor_of(file), torch.tensor(CLASSES.index(file.parent.name))) for file in files],
            classes=list(CLASSES),
        ),
        range(len(files)),
    ),
    "iterable": lambda files: ((Image.open(file), file.parent.name) for file in files),
    "columns": lambda files: (
        np.stack([np.asarray(Image.open(file)) for file in files]),
        [file.parent.name for file in files],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_verdicts_of_the_path(files, of_path, form):
    result = labelfix.audit(FORMS[form](files), tune="head")
    report = labelfix.read_report(result.run)
    pd.testing.assert_frame_equal(
        report[VERDICTS].astype({"given_label": str, "suggested_label": str}),
        of_path[VERDICTS].astype({"given_label": str, "suggested_label": str}),
        check_dtype=False,
    )
    assert result.report.run.source.kind == MEMORY_KIND


def test_ids_are_paths_or_rows(files, of_path):
    paths = FORMS["DataFrame of paths"](files)
    assert opened(paths).sample_id.to_pylist() == of_path["sample_id"].tolist()
    pairs = FORMS["torch of PIL"](files[:40])
    assert opened(pairs).sample_id.to_pylist() == [str(row) for row in range(40)]
    named = paths.assign(key=[f"k{row}" for row in range(len(paths))])
    assert opened(named, id_column="key").sample_id.to_pylist()[:2] == ["k0", "k1"]


def test_a_dict_of_data_sets_is_a_data_set_with_splits(files):
    datasets = pytest.importorskip("datasets")
    whole = hugging_face(files)
    parts = datasets.DatasetDict(
        train=whole.select(range(0, len(whole), 2)), test=whole.shuffle(seed=0).select(range(9))
    )
    found = opened(parts)
    assert found.split.to_pylist() == ["train"] * len(parts["train"]) + ["test"] * 9
    assert found.sample_id.to_pylist()[-1] == "test:8"
    assert found.class_names == CLASSES
    last = parts["test"][8]["image"]
    read = found.store.read(len(found) - 1)
    assert Image.open(BytesIO(read)).tobytes() == last.tobytes()


def test_images_of_a_data_set_may_be_files_that_it_names(files):
    datasets = pytest.importorskip("datasets")
    rows = {"image": [str(file) for file in files], "label": [file.parent.name for file in files]}
    found = opened(datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()))
    assert found.store.read(3) == files[3].read_bytes()


def test_texts_are_texts_in_every_form(tmp_path):
    texts, labels = sentences(20)
    table = pd.DataFrame({"text": texts, "label": labels})
    table.to_csv(tmp_path / "texts.csv", index=False)
    of_file = open_dataset(tmp_path / "texts.csv", DatasetConfig())
    forms = [
        table,
        list(zip(texts, labels, strict=True)),
        Pairs(list(zip(texts, labels, strict=True))),
        (texts, labels),
        (table["text"], table["label"]),
    ]
    datasets = pytest.importorskip("datasets")
    forms.append(datasets.Dataset.from_pandas(table))
    for form in forms:
        found = opened(form)
        assert found.modality == "text"
        assert found.class_names == of_file.class_names
        assert np.array_equal(found.given_label, of_file.given_label)
        assert [found.store.read(row) for row in range(len(found))] == [
            of_file.store.read(row) for row in range(len(found))
        ]


def test_features_beside_labels_are_embeddings(tmp_path):
    values = np.random.default_rng(0).normal(0, 1, (40, 8))
    labels = np.arange(40) % 2
    for form in ((values, labels), (torch.tensor(values), torch.tensor(labels))):
        found = opened(form)
        assert found.modality == "embedding"
        assert found.store.read(3) == values[3].astype("<f4").tobytes()
    (held := values.copy())[:] = values
    found = opened((held, labels))
    held[:] = 0
    assert found.store.read(0) == values[0].astype("<f4").tobytes()


def test_the_fingerprint_tells_the_content(files):
    forms = {name: FORMS[name] for name in ("DataFrame of pictures", "Hugging Face", "columns")}
    for form in forms.values():
        first = opened(form(files)).fingerprint
        assert opened(form(files)).fingerprint == first
        assert opened(form(files[::-1])).fingerprint != first
    values = np.random.default_rng(0).normal(0, 1, (40, 8))
    labels = np.arange(40) % 2
    assert opened((values, labels)).fingerprint != opened((values + 1, labels)).fingerprint


def test_pictures_of_any_mode_are_kept_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    for mode, shape, kind in (
        ("L", (5, 4), np.uint8), ("RGB", (5, 4, 3), np.uint8), ("RGBA", (5, 4, 4), np.uint8),
        ("I;16", (5, 4), np.uint16),
    ):  # fmt: skip
        picture = Image.fromarray(rng.integers(0, 255, shape).astype(kind))
        assert picture.mode == mode
        found = opened([(picture, "a"), (picture, "b")])
        held = Image.open(BytesIO(found.store.read(0)))
        assert np.array_equal(np.asarray(held), np.asarray(picture))
    turned = Image.fromarray(rng.integers(0, 255, (5, 4)).astype(np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    found = opened([(Image.open(tmp_path / "turned.png"), label) for label in "ab"])
    assert Image.open(BytesIO(found.store.read(0))).size == (5, 4)


def test_missing_labels_and_empty_cells_are_rows(files):
    frame = FORMS["DataFrame of pictures"](files[:6] + files[-6:])
    frame.loc[0, "label"] = None
    frame.at[1, "picture"] = None
    found = opened(frame)
    assert found.given_label[0] == -1
    with pytest.raises(UnreadableSample, match="holds no image"):
        found.store.read(1)
    frame = FORMS["DataFrame of paths"](files[:6] + files[-6:])
    frame.loc[1, "image"] = str(files[0].parent / "absent.png")
    with pytest.raises(UnreadableSample, match="missing"):
        opened(frame).store.read(1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (3, "data is 3, which is no data set"),
        (b"photos", "which is no data set"),
        ({"a": 1}, "which is no data set"),
        (np.array(1), r"data is array\(1\), which is no data set"),
        (torch.tensor(1), r"data is tensor\(1\), which is no data set"),
        ((np.array(1), np.array([1, 2])), r"the samples beside the labels are array\(1\)"),
        ((5, [1, 2]), "the samples beside the labels are 5, which is no list"),
        ((iter("ab"), [1, 2]), "the samples beside the labels are .*, which is no list"),
        ([], "the data hold no samples"),
        ([1, 2], "sample 0 is a int, and no"),
        ([("a text", "a"), (Image.new("L", (2, 2)), "b")], "some samples are texts"),
        ([(np.full((4, 4, 3), 7.5), "a")], "sample 0 holds float64 7.5 to 7.5"),
        ([(np.zeros((2, 3, 4, 4), np.uint8), "a")], "of shape"),
        ([(np.zeros((7, 4, 9), np.uint8), "a")], "and no image"),
        ([(object(), "a")], "sample 0 is a object, and no image or text"),
        ([("good words here", 1), ("more words here", "b")], "labels cannot be read as labels"),
        ([("good words here", [1, 0])] * 3, "labels"),
        ((np.zeros((3, 2)), [0, 1]), "labels holds 2 labels, and features has 3 rows"),
        ((["a b c", "d e f", "g h i"], [0, 1]), "3 samples and 2 labels"),
        (pd.DataFrame(), "has no rows"),
        (pd.DataFrame({"x": [1, 2], "label": [0, 1]}), "column of DataFrame holds the images"),
        (pd.DataFrame({0: ["a"], 1: [0]}), "are not called by one text each"),
        (pd.DataFrame({"text": ["a b c d"] * 4, "label": [{}] * 4}), "DataFrame"),
    ],
)  # fmt: skip
def test_what_is_no_data_set_is_said(data, said):
    with pytest.raises(LabelfixError, match=said) as raised:
        labelfix.audit(data, tune="head")
    assert raised.value.hint


def test_a_stream_is_refused():
    datasets = pytest.importorskip("datasets")
    stream = datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).to_iterable_dataset()
    with pytest.raises(LabelfixError, match="cannot be read twice"):
        labelfix.audit(stream)


def test_nobody_else_can_open_what_was_in_memory(tmp_path, files):
    run = labelfix.audit(FORMS["DataFrame of pictures"](files), tmp_path / "run", tune="head").run
    labelfix.export(run, tmp_path / "clean.csv")
    for words in ({"to": tmp_path / "clean"}, {"to": tmp_path / "own.csv", "format": "own"}):
        with pytest.raises(LabelfixError, match="in the memory of a program"):
            labelfix.export(run, **words)
    assert "data:image" in (run / "report.html").read_text(encoding="utf-8")
    texts, labels = sentences(20)
    run = labelfix.audit((texts, labels), tmp_path / "texts-run", tune="head").run
    labelfix.export(run, tmp_path / "texts.csv")
    assert pa.csv.read_csv(tmp_path / "texts.csv").num_rows == len(texts)
