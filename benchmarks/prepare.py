"""Bring downloaded data sets into the form that ``labelfix benchmark`` reads.

    python benchmarks/prepare.py indoor DOWNLOADED DATA/indoor

Reads what the publishers offer, unpacked, with their official lists of training and test images,
and writes ``train/CLASS/``, ``test/CLASS/`` (and ``val/CLASS/`` where there is one): links where
the file system has them, else copies. For CIFAR-10N it writes two Parquet files into the folder,
for published probabilities one ``.npz`` file, for texts ``NAME_train.parquet``. Downloads nothing
but 20 Newsgroups, which scikit-learn fetches; docs/benchmark.md says where the data come from.
"""

import argparse
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat
from sklearn.datasets import fetch_20newsgroups

from labelfix.errors import DatasetError, LabelfixError
from labelfix.utils.files import atomic_folder, atomic_path, make_folder

CALTECH_COUNTS = {"train": 30, "val": 20, "test": 20}
"""Images a class, as in the code of Li & Zhang (2021); drawn with seed 0, not by order on disk."""

CIFAR_SIDE = 32
CIFAR_LABELS = ("aggre_label", "random_label1", "random_label2", "random_label3", "worse_label")
CIFAR_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """Where an image lies, and where it belongs.

    Args:
        path: The file.
        split: ``train``, ``val`` or ``test``.
        class_name: Its label.
    """

    path: Path
    split: str
    class_name: str


def indoor(folder: Path) -> Iterator[Sample]:
    """MIT-Indoor: ``Images/``, ``TrainImages.txt`` and ``TestImages.txt``."""
    for split, name in {"train": "TrainImages.txt", "test": "TestImages.txt"}.items():
        for line in _lines(folder / name):
            yield Sample(folder / "Images" / line, split, PurePosixPath(line).parent.name)


def cub(folder: Path) -> Iterator[Sample]:
    """CUB-200-2011: ``images/``, ``images.txt`` and ``train_test_split.txt``."""
    trains = dict(line.split() for line in _lines(folder / "train_test_split.txt"))
    for line in _lines(folder / "images.txt"):
        number, _, name = line.partition(" ")
        split = "train" if trains[number] == "1" else "test"
        yield Sample(folder / "images" / name, split, PurePosixPath(name).parent.name)


def cars(folder: Path) -> Iterator[Sample]:
    """Stanford Cars: ``cars_train/``, ``cars_test/``, ``devkit/`` and the labels of the test set.

    ``cars_test_annos_withlabels.mat`` may lie in the folder or in ``devkit/``.
    """
    names = _matlab(folder / "devkit" / "cars_meta.mat")["class_names"]
    with_labels = folder / "cars_test_annos_withlabels.mat"
    if not with_labels.exists():
        with_labels = folder / "devkit" / with_labels.name
    lists = {"train": folder / "devkit" / "cars_train_annos.mat", "test": with_labels}
    for split, path in lists.items():
        for row in np.atleast_1d(_matlab(path)["annotations"]):
            name = str(names[int(row["class"]) - 1])
            yield Sample(folder / f"cars_{split}" / str(row["fname"]), split, name)


def dogs(folder: Path) -> Iterator[Sample]:
    """Stanford Dogs: ``Images/``, ``train_list.mat`` and ``test_list.mat`` (or in ``lists/``)."""
    for split in ("train", "test"):
        path = folder / f"{split}_list.mat"
        path = path if path.exists() else folder / "lists" / path.name
        for name in np.atleast_1d(_matlab(path)["file_list"]):
            yield Sample(folder / "Images" / str(name), split, PurePosixPath(str(name)).parent.name)


def aircraft(folder: Path) -> Iterator[Sample]:
    """FGVC Aircraft: ``data/images/`` and ``data/images_variant_{train,val,test}.txt``."""
    data = folder / "data" if (folder / "data").is_dir() else folder
    for split in ("train", "val", "test"):
        for line in _lines(data / f"images_variant_{split}.txt"):
            number, _, variant = line.partition(" ")
            yield Sample(data / "images" / f"{number}.jpg", split, variant)


def caltech256(folder: Path) -> Iterator[Sample]:
    """Caltech-256: ``256_ObjectCategories/NUMBER.NAME/``; the clutter is left out."""
    inside = folder / "256_ObjectCategories"
    rng = np.random.default_rng(0)
    for place in sorted(path for path in _there(inside).iterdir() if path.is_dir()):
        if "clutter" in place.name:
            continue
        files = sorted(path for path in place.iterdir() if path.suffix.lower() == ".jpg")
        order = iter(rng.permutation(len(files)).tolist())
        for split, count in CALTECH_COUNTS.items():
            for _, place_of_file in zip(range(count), order, strict=False):
                yield Sample(files[place_of_file], split, place.name)


def flowers102(folder: Path) -> Iterator[Sample]:
    """Oxford Flowers: ``jpg/``, ``imagelabels.mat`` and ``setid.mat``."""
    label = _matlab(folder / "imagelabels.mat")["labels"]
    parts = _matlab(folder / "setid.mat")
    for split, name in {"train": "trnid", "val": "valid", "test": "tstid"}.items():
        for number in np.atleast_1d(parts[name]).tolist():
            code = int(np.atleast_1d(label)[number - 1])
            yield Sample(folder / "jpg" / f"image_{number:05}.jpg", split, f"{code:03}")


FOLDERS: dict[str, Callable[[Path], Iterator[Sample]]] = {
    "indoor": indoor,
    "cub": cub,
    "cars": cars,
    "dogs": dogs,
    "aircraft": aircraft,
    "caltech256": caltech256,
    "flowers102": flowers102,
}


def prepare_folder(name: str, downloaded: Path, to: Path) -> int:
    """Write the class folders of a data set and return how many images they hold.

    Raises:
        DatasetError: A file is missing; nothing is written then.
        RunError: ``to`` is there already or cannot be written to.
    """
    count = 0
    with atomic_folder(to) as draft:
        for sample in FOLDERS[name](downloaded):
            if not sample.path.is_file():
                raise _missing(sample.path)
            place = draft / sample.split / sample.class_name.replace("/", "-") / sample.path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                place.hardlink_to(sample.path.resolve())
            except FileExistsError as error:
                raise DatasetError(f"{sample.path} is listed twice as {sample.split}") from error
            except OSError:  # another file system, or one without links
                shutil.copy(sample.path, place)
            count += 1
    return count


def prepare_cifar10n(downloaded: Path, to: Path) -> int:
    """Write ``cifar10n_train.parquet`` and ``cifar10_test.parquet`` and return how many rows.

    Reads the binary version of CIFAR-10 (``cifar-10-batches-bin/``) and ``CIFAR-10_human.pt`` of
    CIFAR-10N, whose rows are in the order of the training batches.

    Raises:
        DatasetError: A file is missing, or the labels are not those of the images.
        RunError: The place cannot be written to.
    """
    batches = downloaded / "cifar-10-batches-bin"
    people = _human_labels(downloaded / "CIFAR-10_human.pt")
    parts = [_read_batch(batches / f"data_batch_{number}.bin") for number in range(1, 6)]
    label = np.concatenate([label for label, _ in parts])
    pixels = np.concatenate([pixels for _, pixels in parts])
    if not np.array_equal(people.get("clean_label", np.zeros(0)), label):
        raise DatasetError(
            f"the clean labels of {downloaded / 'CIFAR-10_human.pt'} are not those of {batches}",
            hint="take both files as they are published; their order is the same",
        )
    test_label, test_pixels = _read_batch(batches / "test_batch.bin")
    make_folder(to)
    columns = {name: people[name] for name in CIFAR_LABELS if name in people}
    _write_images(to / "cifar10n_train.parquet", pixels, {"clean_label": label, **columns})
    _write_images(to / "cifar10_test.parquet", test_pixels, {"clean_label": test_label})
    return len(label) + len(test_label)


def prepare_probs(downloaded: Path, to: Path) -> int:
    """Write ``pred_probs.npz`` and return how many rows all its sets have.

    Reads ``EXPERIMENT/..._cv_MODEL/{pred_probs,noisy_labels,true_labels}.npy`` of
    cleanlab/label-error-detection-benchmarks; the set is called ``EXPERIMENT__MODEL``.

    Raises:
        DatasetError: There are no such files.
        RunError: The place cannot be written to.
    """
    names = {"p": "pred_probs.npy", "given": "noisy_labels.npy", "true": "true_labels.npy"}
    arrays: dict[str, Any] = {}
    for place in sorted(path.parent for path in downloaded.rglob(names["p"])):
        model = place.name.rpartition("_cv_")[2]
        if all((place / name).exists() for name in names.values()):
            of_set = {
                f"{place.parent.name}__{model}__{part}": np.load(place / name)
                for part, name in names.items()
            }
            arrays |= of_set
    if not arrays:
        raise _missing(downloaded / "EXPERIMENT" / "..._cv_MODEL" / names["p"])
    make_folder(to)
    with atomic_path(to / "pred_probs.npz") as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return sum(len(array) for name, array in arrays.items() if name.endswith("__p"))


Texts = tuple[list[str], list[str]]
"""Texts and their labels."""


def trec(downloaded: Path) -> Texts:
    """TREC: ``train_5500.label``, lines of ``LABEL:finer question`` in Latin-1."""
    lines = _there(downloaded / "train_5500.label").read_text("latin-1").splitlines()
    pairs = [line.split(" ", 1) for line in lines if line.strip()]
    return [pair[1] for pair in pairs], [pair[0].partition(":")[0] for pair in pairs]


def hugging_face(downloaded: Path) -> Texts:
    """AG News and SST-2: ``data/train-*.parquet`` with ``label`` and ``text`` or ``sentence``."""
    files = sorted(downloaded.rglob("train-*.parquet"))
    if not files:
        raise _missing(downloaded / "data" / "train-*.parquet")
    table = pa.concat_tables([pq.read_table(file) for file in files])
    text = "text" if "text" in table.column_names else "sentence"
    missing = {text, "label"} - set(table.column_names)
    if missing:
        raise DatasetError(f"{files[0]} has no column {', '.join(sorted(missing))}")
    return table[text].to_pylist(), [str(label) for label in table["label"].to_pylist()]


def newsgroups(downloaded: Path) -> Texts:
    """20 Newsgroups: what scikit-learn keeps in the folder, or else downloads into it."""
    posts = fetch_20newsgroups(
        data_home=downloaded, subset="train", remove=("headers", "footers", "quotes")
    )
    return posts.data, [posts.target_names[code] for code in posts.target]


TEXTS: dict[str, Callable[[Path], Texts]] = {
    "trec": trec,
    "sst2": hugging_face,
    "agnews": hugging_face,
    "newsgroups": newsgroups,
}


def prepare_texts(name: str, downloaded: Path, to: Path) -> int:
    """Write ``NAME_train.parquet`` and return how many texts it holds.

    Raises:
        DatasetError: A file is missing, or holds something else.
        RunError: The place cannot be written to.
    """
    texts, labels = TEXTS[name](downloaded)
    make_folder(to)
    with atomic_path(to / f"{name}_train.parquet") as draft:
        pq.write_table(pa.table({"text": texts, "label": labels}), draft)
    return len(texts)


def _read_batch(path: Path) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return labels ``(N,)`` and pixels ``(N, 32, 32, 3)`` of a binary batch."""
    rows = np.frombuffer(_there(path).read_bytes(), np.uint8).reshape(-1, 1 + 3 * CIFAR_SIDE**2)
    pixels = rows[:, 1:].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE).transpose(0, 2, 3, 1)
    return rows[:, 0].astype(np.int64), pixels


def _human_labels(path: Path) -> dict[str, NDArray[np.int64]]:
    """Return the arrays of the file; it is a pickle, of which nothing but arrays is let in."""
    reconstruct = np.zeros(0).__reduce__()[0]
    allowed: list[Any] = [np.ndarray, np.dtype, np.dtypes.Int64DType]
    # files that an older numpy wrote call the same function by its former place
    allowed += [
        (reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")
    ]
    with torch.serialization.safe_globals(allowed):
        values = torch.load(_there(path), map_location="cpu", weights_only=True)
    return {name: np.asarray(array, dtype=np.int64) for name, array in values.items()}


def _write_images(
    path: Path, pixels: NDArray[np.uint8], labels: dict[str, NDArray[np.int64]]
) -> None:
    table = pa.table(
        {
            "path": [f"{row:05}.png" for row in range(len(pixels))],
            "image": pa.array([_png(image) for image in pixels], pa.binary()),
            **labels,
        },
        metadata={"classes": ", ".join(CIFAR_CLASSES)},
    )
    with atomic_path(path) as draft:
        pq.write_table(table, draft, row_group_size=1000)


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _there(path).read_text("utf-8").splitlines() if line.strip()]


def _matlab(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = loadmat(_there(path), squeeze_me=True)
    return values


def _there(path: Path) -> Path:
    if not path.exists():
        raise _missing(path)
    return path


def _missing(path: Path) -> DatasetError:
    return DatasetError(
        f"{path} is missing",
        hint="unpack the archives as they are published; docs/benchmark.md names them",
    )


OTHERS: dict[str, Callable[[Path, Path], int]] = {
    "cifar10n": prepare_cifar10n,
    "probs": prepare_probs,
    **{name: partial(prepare_texts, name) for name in TEXTS},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("name", choices=[*FOLDERS, *OTHERS])
    parser.add_argument("downloaded", type=Path)
    parser.add_argument("to", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.name in OTHERS:
            count = OTHERS[arguments.name](arguments.downloaded, arguments.to)
        else:
            count = prepare_folder(arguments.name, arguments.downloaded, arguments.to)
    except LabelfixError as error:
        parser.exit(1, f"error: {error}\n{f'hint: {error.hint}' if error.hint else ''}\n")
    print(f"wrote {count:,} samples to {arguments.to}")


if __name__ == "__main__":
    main()
