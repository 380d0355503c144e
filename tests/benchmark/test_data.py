"""From a task's name to labels and files, and what a method can see of them."""

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from labelfix.benchmark.data import (
    TEST_SHARE,
    LabeledRows,
    choose_rows,
    find_place,
    open_probs,
    open_samples,
    plant,
    sets_in,
)
from labelfix.benchmark.methods.registry import METHODS
from labelfix.benchmark.sample_files import TEST, prepare_samples
from labelfix.benchmark.stage import PreparedTask
from labelfix.benchmark.tasks import (
    PLANTED,
    REAL_TASKS,
    SAMPLE_DATA,
    PlantedTask,
    RealTask,
    SampleData,
    find_task,
    named_tasks,
    planted_task,
)
from labelfix.config import BackboneConfig, DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.errors import BenchmarkError, UnreadableSample
from labelfix.modalities.base import get_modality
from labelfix.utils.progress import no_progress


def png(red: int, green: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (red, green, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(root: Path, classes: dict[str, int], split: str = "") -> Path:
    for number, (name, count) in enumerate(classes.items()):
        (root / split / name).mkdir(parents=True)
        for image in range(count):
            path = root / split / name / f"{name}-{image}.png"
            path.write_bytes(png(number * 40 + len(split), image))
    return root


def write_human(folder: Path, rows: int = 40) -> None:
    """Write Parquet with true labels and those that people gave, and a test set."""
    rng = np.random.default_rng(0)
    for name, count in {"train": rows, "test": 12}.items():
        true = np.arange(count) % 4
        columns = {
            "image": pa.array([png(row, true[row] * 9) for row in range(count)], pa.binary()),
            "clean": pa.array(true),
            "people": pa.array(np.where(rng.random(count) < 0.5, 3 - true, true)),
        }
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


PEOPLE = SampleData(
    name="people",
    places=("absent", "train.parquet"),
    test_places=("test.parquet",),
    true_column="clean",
    about="",
)


# Names


def test_every_named_task_is_found_by_its_name() -> None:
    names = [task.name for task in named_tasks()]
    assert len(set(names)) == len(names)
    for task in named_tasks():
        assert find_task(task.name) == task
        assert task.version >= 1
    assert {"cifar10n-aggre", "cifar10n-random1", "cifar10n-worse"} <= set(names)
    assert {"flowers-symmetric-20", "indoor-independent-80", "cub-correlated"} <= set(names)
    odd = find_task("flowers-class-dependent-12.5")
    assert isinstance(odd, PlantedTask)
    assert (odd.kind, odd.rate) == ("class-dependent", 0.125)
    assert find_task("probs/some__net").name == "probs/some__net"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cifar10n-aggregate", "no task"),
        ("nowhere-symmetric-20", "no task"),
        ("flowers-symmetric", "needs a rate"),
        ("flowers-correlated-20", "not to be chosen"),
        ("flowers-symmetric-100", "no task"),
        ("probs/", "no task"),
    ],
)
def test_a_name_that_is_no_task_is_refused(name: str, told: str) -> None:
    with pytest.raises(BenchmarkError, match=told) as caught:
        find_task(name)
    assert caught.value.hint


def test_a_kind_of_noise_that_is_not_there_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="no noise 'odd'"):
        planted_task(SAMPLE_DATA["flowers"], "odd", "20")


# Rows


def test_a_quarter_of_each_class_is_held_out_and_stays_clean(tmp_path: Path) -> None:
    counts = {"a": 20, "b": 40, "c": 3}
    dataset = open_dataset(write_folder(tmp_path / "photos", counts), DatasetConfig())
    data = choose_rows(dataset, holds_out=True)
    assert data.test is not None
    assert data.samples is not None
    held = np.bincount(data.test.true_label)
    assert held.tolist() == [round(TEST_SHARE * count) for count in counts.values()]
    rows = np.r_[data.samples.rows, data.test.rows]
    assert sorted(rows.tolist()) == list(range(63)), "each row is in one part"
    for part in (data.samples, data.test):
        assert np.array_equal(part.true_label, dataset.given_label[part.rows])
        assert (np.diff(part.true_label) != 0).sum() > 3, "the order tells no classes"
    again = choose_rows(dataset, holds_out=True)
    assert np.array_equal(again.true_label, data.true_label)
    assert choose_rows(dataset, holds_out=False).test is None
    few = choose_rows(dataset, samples=10, holds_out=True)
    assert few.test is not None
    assert (len(few.true_label), len(few.test)) == (10, 10)
    assert np.array_equal(few.true_label, data.true_label[:10])
    assert few.about == {"of": 47, "test": 10}


def test_a_test_split_of_the_data_is_the_test_set(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {"a": 5, "b": 5}, "train")
    write_folder(tmp_path / "photos", {"a": 2, "b": 3}, "test")
    dataset = open_dataset(tmp_path / "photos", DatasetConfig())
    data = choose_rows(dataset, holds_out=True)
    assert data.test is not None
    assert np.bincount(data.true_label).tolist() == [5, 5]
    assert np.bincount(data.test.true_label).tolist() == [2, 3]
    assert len(choose_rows(dataset, holds_out=False).true_label) == 10


def test_labels_of_people_stand_beside_the_true_ones(tmp_path: Path) -> None:
    write_human(tmp_path)
    data = open_samples(RealTask(name="people", data=PEOPLE, given_column="people"), tmp_path)
    table = pq.read_table(tmp_path / "train.parquet")
    assert data.samples is not None
    assert data.test is not None
    assert np.array_equal(data.true_label, table["clean"].to_numpy()[data.samples.rows])
    assert np.array_equal(data.given_label, table["people"].to_numpy()[data.samples.rows])
    assert len(data.test) == 12
    with pytest.raises(BenchmarkError, match=r"no absent or train\.parquet in") as caught:
        find_place(tmp_path / "nowhere", PEOPLE.places, "people")
    assert "benchmark.md" in str(caught.value.hint)


@pytest.mark.parametrize("kind", PLANTED)
def test_every_kind_of_noise_is_planted(kind: str) -> None:
    truth = np.random.default_rng(0).integers(0, 5, 400)
    probs = np.random.default_rng(1).dirichlet(np.ones(5), 400)
    rate = None if kind == "correlated" else 0.3
    labels = [
        plant(kind, rate, truth, classes=5, seed=seed, clean_probs=probs) for seed in (0, 0, 1)
    ]
    assert np.array_equal(labels[0], labels[1])
    if kind == "correlated":
        assert np.array_equal(labels[0], probs.argmax(axis=1))
    else:
        assert not np.array_equal(labels[0], labels[2])
        assert 0.2 < (labels[0] != truth).mean() < 0.35
    assert truth.max() == 4, "the truth is left alone"


# Probabilities


def write_probs(path: Path, **of_set: np.ndarray) -> None:
    np.savez(path, **of_set)


def test_published_probabilities_and_their_ensembles(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    true, given = rng.integers(0, 3, 30), rng.integers(0, 3, 30)
    probs = {name: rng.dirichlet(np.ones(3), 30) for name in ("d__one", "d__two", "e__one")}
    arrays = {f"{name}__p": p.astype(np.float16) for name, p in probs.items()}
    arrays |= {f"{name}__given": given.astype(np.int8) for name in probs}
    arrays |= {f"{name}__true": true.astype(np.int8) for name in probs}
    write_probs(tmp_path / "published.npz", **arrays, noise=rng.random(3))
    assert list(sets_in(tmp_path)) == ["d__one", "d__two", "e__one"]
    one = open_probs(find_task("probs/d__one"), tmp_path)
    assert one.pred_probs.shape == (1, 30, 3)
    assert one.pred_probs.sum(axis=2) == pytest.approx(1, abs=1e-6)
    assert one.pred_probs[0] == pytest.approx(probs["d__one"], abs=2e-3)
    assert np.array_equal(one.true_label, true)
    both = open_probs(find_task("probs/d__ensemble"), tmp_path, samples=10)
    assert both.pred_probs.shape == (2, 10, 3)
    assert both.about == {"of": 30, "models": 2}
    for name in ("probs/none", "probs/e__ensemble"):
        with pytest.raises(BenchmarkError, match="holds the probabilities") as caught:
            open_probs(find_task(name), tmp_path)
        assert "d__one" in str(caught.value.hint)


def test_probabilities_that_are_none_are_refused(tmp_path: Path) -> None:
    labels = np.zeros(4, dtype=np.int8)
    uniform = np.full((4, 2), 0.5)
    cases = {
        "sum": {"p": uniform * 1.2, "given": labels, "true": labels},
        "long": {"p": uniform, "given": np.zeros(5, np.int8), "true": labels},
        "range": {"p": uniform, "given": labels + 2, "true": labels},
    }
    for name, parts in cases.items():
        arrays = {f"{name}__{part}": values for part, values in parts.items()}
        write_probs(tmp_path / "odd.npz", **arrays)
        with pytest.raises(BenchmarkError, match="holds no probabilities of its labels"):
            open_probs(find_task(f"probs/{name}"), tmp_path)
    (tmp_path / "odd.npz").write_bytes(b"no archive")
    with pytest.raises(BenchmarkError, match="cannot read"):
        sets_in(tmp_path)


# What a method sees


def stage_of(task: PlantedTask | RealTask, folder: Path, cache: Path) -> PreparedTask:
    data = open_samples(task, folder)
    return PreparedTask.make(task, data, BackboneConfig(), cache, no_progress, with_features=False)


def test_a_method_is_handed_nothing_that_tells_the_truth(tmp_path: Path) -> None:
    """The manifest holds given labels; no file or name beside it tells of the true ones."""
    write_human(tmp_path)
    task = RealTask(name="people", data=PEOPLE, given_column="people")
    stage = stage_of(task, tmp_path, tmp_path / "cache")
    given, true = stage.given_label(0), stage.data.true_label
    assert not np.array_equal(given, true)
    with stage.problem(given, 0) as problem:
        assert problem.data is not None
        with problem.data.open() as file:
            rows = list(csv.DictReader(file))
        assert [int(row["label"]) for row in rows] == given.tolist()
        seen = [path for path in problem.data.parent.rglob("*") if path.is_file()]
        images = [path for path in seen if path != problem.data]
        assert len(images) == 40 + 12
        for path in images:
            Image.open(path).verify()
            assert path.name.isdigit()
        dataset = open_dataset(problem.data, DatasetConfig())
        names = np.array(dataset.class_names)
        assert np.array_equal(names[dataset.given_label], given)
        # the images are those of the labels: their color was made of row and true label
        for row, path in enumerate(dataset.sample_id.to_pylist()):
            red, green, _ = Image.open(problem.data.parent / path).getpixel((0, 0))
            assert (red, green) == (stage.data.samples.rows[row], true[row] * 9)
    assert not problem.data.exists(), "the manifest is gone"


def test_images_are_prepared_once_and_seen_the_same_whatever_the_labels(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {"a": 8, "b": 8})
    (tmp_path / "photos" / "a" / "gone.png").symlink_to(tmp_path / "nowhere")
    data = choose_rows(open_dataset(tmp_path / "photos", DatasetConfig()), holds_out=True)
    cache = tmp_path / "cache"
    first = prepare_samples(data.samples, data.test, get_modality("image"), cache)
    times = {path: path.stat().st_mtime_ns for path in first.seen.rglob("*")}
    again = prepare_samples(data.samples, data.test, get_modality("image"), cache)
    assert again == first
    assert times == {path: path.stat().st_mtime_ns for path in first.seen.rglob("*")}
    prints = set()
    for labels in ([row % 2 for row in range(len(data.samples))], [*range(len(data.samples))]):
        with first.manifest(labels) as manifest:
            prints.add(open_dataset(manifest, DatasetConfig()).fingerprint)
    assert len(prints) == 1
    with first.manifest([row % 2 for row in range(len(data.test))], TEST) as manifest:
        assert len(open_dataset(manifest, DatasetConfig())) == len(data.test)
    assert first.kept("costs") is None
    first.keep("costs", {"a": 1})
    first.keep_array("probs", np.arange(3))
    assert again.kept("costs") == {"a": 1}
    assert again.kept_array("probs").tolist() == [0, 1, 2]
    assert not [path for path in first.seen.rglob("*") if path.suffix in (".json", ".npy")]


def test_texts_are_handed_on_as_they_are_with_given_labels_alone(tmp_path: Path) -> None:
    columns = {
        "text": ['yes, "quoted"', "", "two\nlines", "NA", "more", "again"],
        "label": ["a", "a", "b", "b", "a", "b"],
    }
    pq.write_table(pa.table(columns), tmp_path / "texts.parquet")
    dataset = open_dataset(tmp_path / "texts.parquet", DatasetConfig())
    data = choose_rows(dataset, holds_out=False)
    made = prepare_samples(data.samples, None, get_modality(data.modality), tmp_path / "cache")
    with made.manifest([5, 3, 5, 3, 5, 3]) as manifest:
        assert pq.read_schema(manifest).names == ["text", "label"]
        assert {path.suffix for path in made.seen.iterdir()} == {".parquet"}
        seen = open_dataset(manifest, DatasetConfig())
        assert seen.modality == "text"
        assert seen.class_names == (3, 5)
        for place, row in enumerate(data.samples.rows.tolist()):
            if columns["text"][row]:
                assert seen.store.read(place).decode() == columns["text"][row]
            else:
                with pytest.raises(UnreadableSample):
                    seen.store.read(place)
    assert not manifest.exists()


def test_embeddings_are_no_samples_of_a_benchmark(tmp_path: Path) -> None:
    rows = LabeledRows(store=None, fingerprint="", rows=np.arange(2), true_label=np.arange(2))
    with pytest.raises(BenchmarkError, match="cannot be made of samples of the kind 'embedding'"):
        prepare_samples(rows, None, get_modality("embedding"), tmp_path)


def test_the_page_tells_of_every_task_and_method() -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text(encoding="utf-8")
    for name in (*SAMPLE_DATA, *REAL_TASKS, *METHODS):
        assert f"`{name}`" in page, name
    for kind in PLANTED:
        assert f"`DATA-{kind}" in page, kind
