"""``benchmarks/prepare.py`` on tiny trees of the official layouts."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from labelfix.benchmark.data import choose_rows, open_probs, open_samples, sets_in
from labelfix.benchmark.tasks import SAMPLE_DATA, find_task
from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.errors import DatasetError, RunError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "prepare.py"
PREPARE = runpy.run_path(str(SCRIPT))
Layout = dict[str, set[str]]


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (len(path.name), 0, 0)).save(path, "JPEG")


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def indoor(root: Path) -> Layout:
    for name in ("airport/a one.jpg", "airport/b.jpg", "bar/c.jpg", "bar/d.jpg"):
        draw(root / "Images" / name)
    write_lines(root / "TrainImages.txt", "airport/a one.jpg", "bar/c.jpg")
    write_lines(root / "TestImages.txt", "airport/b.jpg", "bar/d.jpg")
    return {
        "train": {"airport/a one.jpg", "bar/c.jpg"},
        "test": {"airport/b.jpg", "bar/d.jpg"},
    }


def cub(root: Path) -> Layout:
    names = ["001.Black/x_1.jpg", "001.Black/x_2.jpg", "002.Red/y_1.jpg", "002.Red/y_2.jpg"]
    for name in names:
        draw(root / "images" / name)
    write_lines(root / "images.txt", *(f"{number} {name}" for number, name in enumerate(names, 1)))
    write_lines(root / "train_test_split.txt", "1 1", "2 0", "3 0", "4 1")
    return {"train": {names[0], names[3]}, "test": {names[1], names[2]}}


def annotations(*rows: tuple[str, int]) -> np.ndarray:
    form = [("bbox_x1", "O"), ("class", "O"), ("fname", "O")]
    return np.array([(1, code, name) for name, code in rows], dtype=form)


def cars(root: Path) -> Layout:
    (root / "devkit").mkdir(parents=True)
    for split in ("train", "test"):
        for number in (1, 2):
            draw(root / f"cars_{split}" / f"0000{number}.jpg")
    names = np.array(["Audi S4 2012", "Ram C/V 2012"], dtype=object)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": names})
    savemat(
        root / "devkit" / "cars_train_annos.mat",
        {"annotations": annotations(("00001.jpg", 2), ("00002.jpg", 1))},
    )
    savemat(
        root / "cars_test_annos_withlabels.mat",
        {"annotations": annotations(("00001.jpg", 1), ("00002.jpg", 2))},
    )
    return {
        "train": {"Ram C-V 2012/00001.jpg", "Audi S4 2012/00002.jpg"},
        "test": {"Audi S4 2012/00001.jpg", "Ram C-V 2012/00002.jpg"},
    }


def dogs(root: Path) -> Layout:
    names = {
        "train": ["n1-Chihuahua/n1_1.jpg", "n2-Pug/n2_1.jpg"],
        "test": ["n1-Chihuahua/n1_2.jpg", "n2-Pug/n2_2.jpg"],
    }
    (root / "lists").mkdir(parents=True)
    for split, of_split in names.items():
        for name in of_split:
            draw(root / "Images" / name)
        listed = np.array(of_split, dtype=object)[:, None]
        savemat(root / "lists" / f"{split}_list.mat", {"file_list": listed, "labels": [[1], [2]]})
    return {split: set(of_split) for split, of_split in names.items()}


def aircraft(root: Path) -> Layout:
    numbers = {"train": ("0034309", "0034958"), "val": ("0037511",), "test": ("0056978", "1")}
    variants = ["F/A-18", "707-320"]
    layout: Layout = {}
    for split, of_split in numbers.items():
        lines = [f"{n} {variants[place % 2]}" for place, n in enumerate(of_split)]
        write_lines(root / "data" / f"images_variant_{split}.txt", *lines)
        for number in of_split:
            draw(root / "data" / "images" / f"{number}.jpg")
        layout[split] = {
            f"{line.split()[1].replace('/', '-')}/{line.split()[0]}.jpg" for line in lines
        }
    return layout


def caltech256(root: Path) -> Layout:
    for place in ("001.ak47", "002.flag", "257.clutter"):
        for number in range(75):
            draw(root / "256_ObjectCategories" / place / f"{place[:3]}_{number:04}.jpg")
    (root / "256_ObjectCategories" / "001.ak47" / "notes.txt").touch()
    return {}


def flowers102(root: Path) -> Layout:
    for number in range(1, 7):
        draw(root / "jpg" / f"image_{number:05}.jpg")
    savemat(root / "imagelabels.mat", {"labels": [[1, 2, 1, 2, 102, 1]]})
    savemat(root / "setid.mat", {"trnid": [[1, 2]], "valid": [[4]], "tstid": [[3, 5, 6]]})
    return {
        "train": {"001/image_00001.jpg", "002/image_00002.jpg"},
        "val": {"002/image_00004.jpg"},
        "test": {"001/image_00003.jpg", "102/image_00005.jpg", "001/image_00006.jpg"},
    }


LAYOUTS = {
    make.__name__: make for make in (indoor, cub, cars, dogs, aircraft, caltech256, flowers102)
}


def test_every_data_set_of_the_benchmark_has_a_layout() -> None:
    names = {"cifar10", "flowers", "banking77", *PREPARE["TEXTS"]}
    assert set(LAYOUTS) == set(PREPARE["FOLDERS"]) == set(SAMPLE_DATA) - names


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_official_layout_becomes_class_folders(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name](tmp_path / "downloaded")
    to = tmp_path / "data" / name
    count = PREPARE["prepare_folder"](name, tmp_path / "downloaded", to)
    found = {
        split.name: {
            path.relative_to(split).as_posix() for path in split.rglob("*") if path.is_file()
        }
        for split in to.iterdir()
    }
    assert count == sum(map(len, found.values()))
    if layout:
        assert found == layout
    else:
        by_class = {c: [p for p in found[c] if p.startswith("001.ak47/")] for c in found}
        assert {split: len(paths) for split, paths in by_class.items()} == PREPARE["CALTECH_COUNTS"]
        assert count == 140, "the clutter is left out"
    dataset = open_dataset(to, DatasetConfig())
    data = choose_rows(dataset, holds_out=True)
    assert data.test is not None
    assert len(data.test) == len(found["test"])
    assert len(data.true_label) == count - len(found["test"])
    with pytest.raises(RunError, match="is there already"):
        PREPARE["prepare_folder"](name, tmp_path / "downloaded", to)


def test_a_missing_file_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    indoor(tmp_path / "downloaded")
    (tmp_path / "downloaded" / "Images" / "bar" / "c.jpg").unlink()
    with pytest.raises(DatasetError, match=r"c\.jpg is missing"):
        PREPARE["prepare_folder"]("indoor", tmp_path / "downloaded", tmp_path / "indoor")
    assert not (tmp_path / "indoor").exists()
    monkeypatch.setattr(sys, "argv", ["prepare.py", "cub", str(tmp_path), str(tmp_path / "cub")])
    with pytest.raises(SystemExit) as ended:
        PREPARE["main"]()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "error: " in told
    assert "train_test_split.txt is missing" in told
    assert "hint: " in told


def test_cifar10n_becomes_parquet(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    batches = tmp_path / "downloaded" / "cifar-10-batches-bin"
    batches.mkdir(parents=True)
    labels, pixels = [], []
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        rows = rng.integers(0, 256, (4, 3073), dtype=np.uint8)
        rows[:, 0] = rng.integers(0, 10, 4)
        (batches / f"{name}.bin").write_bytes(rows.tobytes())
        labels.append(rows[:, 0].astype(np.int64))
        pixels.append(rows[:, 1:].reshape(-1, 3, 32, 32))
    clean = np.concatenate(labels[:5])
    people = {name: rng.integers(0, 10, 20) for name in PREPARE["CIFAR_LABELS"]}
    human = tmp_path / "downloaded" / "CIFAR-10_human.pt"
    torch.save({"clean_label": clean, **people}, human)
    to = tmp_path / "data"
    assert PREPARE["prepare_cifar10n"](tmp_path / "downloaded", to) == 24
    table = pq.read_table(to / "cifar10n_train.parquet")
    assert table["worse_label"].to_pylist() == people["worse_label"].tolist()
    for row in (0, 7, 19):
        opened = open_dataset(
            to / "cifar10n_train.parquet", DatasetConfig(label_column="clean_label")
        )
        path = tmp_path / "row.png"
        path.write_bytes(opened.store.read(row))
        image = np.array(Image.open(path)).transpose(2, 0, 1)
        assert np.array_equal(image, np.concatenate(pixels[:5])[row])
    data = open_samples(find_task("cifar10n-aggre"), to)
    assert data.samples is not None
    assert np.array_equal(data.true_label, clean[data.samples.rows])
    assert data.test is not None
    assert sorted(data.test.true_label.tolist()) == sorted(labels[5].tolist())
    torch.save({"clean_label": clean[::-1].copy(), **people}, human)
    with pytest.raises(DatasetError, match="are not those of"):
        PREPARE["prepare_cifar10n"](tmp_path / "downloaded", to)


def test_published_arrays_become_one_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    of_model = {}
    for model in ("resnet18", "swin_base"):
        place = tmp_path / "repo" / "cifar-10n-aggregate" / f"cifar-10n-png_type_aggre_cv_{model}"
        place.mkdir(parents=True)
        of_model[model] = rng.dirichlet(np.ones(3), 12)
        np.save(place / "pred_probs.npy", of_model[model])
        np.save(place / "noisy_labels.npy", np.arange(12) % 3)
        np.save(place / "true_labels.npy", np.zeros(12, dtype=np.int64))
    bare = tmp_path / "repo" / "roman-numeral" / "roman_cv_resnet18"
    bare.mkdir(parents=True)
    np.save(bare / "pred_probs.npy", of_model["resnet18"])  # without labels: no task
    assert PREPARE["prepare_probs"](tmp_path / "repo", tmp_path / "data") == 24
    names = ["cifar-10n-aggregate__resnet18", "cifar-10n-aggregate__swin_base"]
    assert list(sets_in(tmp_path / "data")) == names
    data = open_probs(find_task("probs/cifar-10n-aggregate__ensemble"), tmp_path / "data")
    assert data.pred_probs == pytest.approx(np.stack(list(of_model.values())))
    with pytest.raises(DatasetError, match="is missing"):
        PREPARE["prepare_probs"](tmp_path / "data", tmp_path / "other")


def write_trec(root: Path) -> None:
    lines = ["DESC:manner How did \xe9t\xe9 end ?", "HUM:ind Who asks ?"] * 4
    (root / "train_5500.label").write_text("\n".join(lines) + "\n", encoding="latin-1")


def write_sst2(root: Path) -> None:
    (root / "data").mkdir()
    columns = {"idx": [0, 1] * 4, "sentence": ["\xe9t\xe9", "bad"] * 4, "label": [1, 0] * 4}
    pq.write_table(pa.table(columns), root / "data" / "train-00000-of-00001.parquet")
    pq.write_table(pa.table(columns), root / "data" / "test-00000-of-00001.parquet")


@pytest.mark.parametrize(("name", "write"), [("trec", write_trec), ("sst2", write_sst2)])
def test_published_texts_become_a_table(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="is missing"):
        PREPARE["OTHERS"][name](tmp_path, tmp_path / "data")
    write(tmp_path)
    assert PREPARE["OTHERS"][name](tmp_path, tmp_path / "made") == 8
    data = open_samples(find_task(f"{name}-symmetric-20"), tmp_path / "made")
    assert (len(data.true_label), data.modality, data.test) == (8, "text", None)
    seen = {data.samples.store.read(row).decode() for row in range(8)}
    assert any("\xe9t\xe9" in text for text in seen)
