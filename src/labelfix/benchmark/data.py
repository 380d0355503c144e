"""From a task to labels, samples and truth.

Truth-holding code: no method imports it, and of what it makes a method is handed only given labels
and the files of `benchmark.sample_files`.

Letters: N samples, K classes, M models.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelfix.benchmark.noise import (
    class_dependent_noise,
    correlated_noise,
    independent_noise,
    instance_dependent_noise,
    symmetric_noise,
)
from labelfix.benchmark.tasks import ENSEMBLE, PlantedTask, ProbsTask, RealTask, SampleData
from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.splits import rows_for_testing
from labelfix.errors import BenchmarkError, ConfigError
from labelfix.types import MISSING, Label, LabeledDataset, SampleStore
from labelfix.utils.files import refuse_special_file

TEST_SHARE = 0.25
"""Of each class, held out where a data set has no test set of its own."""

SPLIT_SEED = 0
"""Of the held-out part and of the subset of a quick run: the same for every seed of a task."""

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LabeledRows:
    """Some rows of a store, in an order that tells nothing of their classes.

    Args:
        store: All encoded samples.
        fingerprint: Of all samples.
        rows: ``(N,)`` rows of ``store``.
        true_label: ``(N,)`` codes.
    """

    store: SampleStore
    fingerprint: str
    rows: NDArray[np.int64]
    true_label: Labels

    def __len__(self) -> int:
        """Return N."""
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class TaskData:
    """What a task is about.

    Args:
        classes: K.
        true_label: ``(N,)`` codes.
        given_label: ``(N,)`` codes, or ``None`` where noise is still to be planted.
        samples: The N samples, or ``None`` for published probabilities.
        modality: Their kind, by name, or ``None``.
        test: Clean samples that nothing is trained on, or ``None``.
        pred_probs: ``(M, N, K)`` float32, or ``None`` for samples.
        about: How these samples were chosen, as JSON values.
    """

    classes: int
    true_label: Labels
    given_label: Labels | None
    about: dict[str, int]
    samples: LabeledRows | None = None
    modality: str | None = None
    test: LabeledRows | None = None
    pred_probs: NDArray[np.float32] | None = None


def open_samples(
    task: RealTask | PlantedTask, folder: Path, *, samples: int | None = None
) -> TaskData:
    """Open the samples and labels of a task.

    Args:
        task: One with samples.
        folder: Below which data sets lie.
        samples: Take a fixed random subset of so many.

    Raises:
        BenchmarkError: The data set is not there.
        DatasetError: It cannot be used.
    """
    place = find_place(folder, task.data.places, task.data.name)
    clean = open_dataset(place, DatasetConfig(label_column=task.data.true_column))
    given: LabeledDataset | None = None
    if isinstance(task, RealTask):
        given = open_dataset(place, DatasetConfig(label_column=task.given_column))
    return choose_rows(
        clean,
        given=given,
        test=_test_set(task.data, folder),
        samples=samples,
        holds_out=task.data.has_test,
    )


def choose_rows(
    clean: LabeledDataset,
    *,
    given: LabeledDataset | None = None,
    test: LabeledDataset | None = None,
    samples: int | None = None,
    holds_out: bool,
) -> TaskData:
    """Choose the rows of a task from a data set whose labels are taken as true.

    Args:
        clean: The data set.
        given: The same rows with the labels that people gave.
        test: A test set of its own.
        samples: Take a fixed random subset of so many, and of as many test rows.
        holds_out: Whether to set rows aside for testing where there is no test set.
    """
    names = _all_names([clean, *([given] if given else []), *([test] if test else [])])
    true = _codes(clean, names)
    usable = true != MISSING
    if given is not None:
        usable &= given.given_label != MISSING
    is_test = rows_for_testing(clean.split)
    rng = np.random.default_rng(SPLIT_SEED)
    rows = rng.permutation(np.flatnonzero(usable & ~is_test))
    test_rows = rng.permutation(np.flatnonzero(usable & is_test))
    if test is None and not len(test_rows) and holds_out:
        held = _part_of_each_class(true[rows], TEST_SHARE)
        rows, test_rows = rows[~held], rows[held]
    chosen = rows[:samples]
    tests: LabeledRows | None = None
    if test is not None:
        label = _codes(test, names)
        order = rng.permutation(np.flatnonzero(label != MISSING))[:samples]
        tests = LabeledRows(test.store, test.fingerprint, order, label[order])
    elif len(test_rows) and holds_out:
        kept = test_rows[:samples]
        tests = LabeledRows(clean.store, clean.fingerprint, kept, true[kept])
    return TaskData(
        classes=len(names),
        true_label=true[chosen],
        given_label=None if given is None else _codes(given, names)[chosen],
        samples=LabeledRows(clean.store, clean.fingerprint, chosen, true[chosen]),
        modality=clean.modality,
        test=tests,
        about={"of": len(rows), "test": 0 if tests is None else len(tests)},
    )


def open_probs(task: ProbsTask, folder: Path, *, samples: int | None = None) -> TaskData:
    """Open published probabilities: ``SET__p``, ``SET__given`` and ``SET__true`` in an ``.npz``.

    Raises:
        BenchmarkError: No file holds the set, or it cannot be used.
    """
    file, names = _find_sets(folder, task.set_name)
    with np.load(file) as arrays:
        probs = np.stack([arrays[f"{name}__p"].astype(np.float32) for name in names])
        given, true = (
            [arrays[f"{name}__{what}"].astype(np.int64) for name in names]
            for what in ("given", "true")
        )
    if any(not np.array_equal(given[0], g) for g in given):
        raise BenchmarkError(
            f"the sets {', '.join(names)} of {file} are not on the same labels in the same order",
            hint="name one of them instead of the ensemble",
        )
    classes = probs.shape[2]
    in_range = all(y.min() >= 0 and y.max() < classes for y in (given[0], true[0]))
    total = probs.sum(axis=2, keepdims=True)
    if probs.shape[1] != len(given[0]) or not in_range or not (np.abs(total - 1) < 0.05).all():
        raise BenchmarkError(
            f"{names[0]} of {file} holds no probabilities of its labels",
            hint="SET__p has to be (N, K), SET__given and SET__true (N,) codes below K",
        )
    rows = np.random.default_rng(SPLIT_SEED).permutation(len(given[0]))[:samples]
    if samples is None:
        rows = np.arange(len(given[0]))
    return TaskData(
        classes=classes,
        true_label=true[0][rows],
        given_label=given[0][rows],
        pred_probs=(probs / total)[:, rows],
        about={"of": len(given[0]), "models": len(names)},
    )


def plant(
    kind: str,
    rate: float | None,
    true_label: Labels,
    *,
    classes: int,
    seed: int,
    clean_probs: NDArray[np.floating] | None = None,
) -> Labels:
    """Return ``(N,)`` labels with noise of a kind: see `labelfix.benchmark.noise`.

    Args:
        kind: One of ``tasks.PLANTED``.
        rate: Its rate; not used by correlated noise.
        true_label: ``(N,)`` codes.
        classes: K.
        seed: Of all that is drawn.
        clean_probs: ``(N, K)`` out-of-fold probabilities of a model trained on the true labels;
            needed where ``needs_clean_probs(kind)``.
    """
    if needs_clean_probs(kind):
        if clean_probs is None:
            raise AssertionError(f"{kind} noise is made from probabilities")
        if kind == "correlated":
            return correlated_noise(clean_probs.argmax(axis=1))
        return instance_dependent_noise(true_label, clean_probs, rate or 0.0, seed)
    makers = {
        "symmetric": symmetric_noise,
        "class-dependent": class_dependent_noise,
        "independent": independent_noise,
    }
    if kind not in makers:
        raise ConfigError(f"there is no noise {kind!r}")
    return makers[kind](true_label, rate or 0.0, classes, seed)


def needs_clean_probs(kind: str) -> bool:
    """Return whether a kind of noise makes the mistakes of a model."""
    return kind in ("instance-dependent", "correlated")


def find_place(folder: Path, places: Sequence[str], name: str) -> Path:
    """Return the first of some files or folders that is there.

    Raises:
        BenchmarkError: None is.
    """
    for place in places:
        if (folder / place).exists():
            return folder / place
    raise BenchmarkError(
        f"there is no {' or '.join(places)} in {folder}",
        hint=f"docs/benchmark.md says how to get {name}; --data names the folder that holds it",
    )


def _test_set(data: SampleData, folder: Path) -> LabeledDataset | None:
    if not data.test_places:
        return None
    place = find_place(folder, data.test_places, f"the test samples of {data.name}")
    return open_dataset(place, DatasetConfig(label_column=data.true_column))


def _all_names(datasets: Sequence[LabeledDataset]) -> list[Label]:
    """Return the names of all classes; the codes of a task are places in it."""
    return sorted({name for dataset in datasets for name in dataset.class_names}, key=_by_kind)


def _by_kind(name: Label) -> tuple[bool, Label]:
    return isinstance(name, str), name


def _codes(dataset: LabeledDataset, names: Sequence[Label]) -> Labels:
    place = {name: code for code, name in enumerate(names)}
    code_of = np.array([place[name] for name in dataset.class_names] + [MISSING], dtype=np.int64)
    return np.asarray(code_of[dataset.given_label])  # MISSING, -1, is the last


def _part_of_each_class(label: Labels, share: float) -> NDArray[np.bool_]:
    """Return the first ``share`` of each class; the rows are in random order already."""
    order = np.argsort(label, kind="stable")
    counts = np.bincount(label)
    place = np.arange(len(label)) - np.repeat(np.cumsum(counts) - counts, counts)
    is_part = np.empty(len(label), dtype=bool)
    is_part[order] = place < np.round(share * counts)[label[order]]
    return is_part


def sets_in(folder: Path) -> dict[str, Path]:
    """Return the sets of probabilities that the ``.npz`` files of a folder hold, and where.

    Raises:
        BenchmarkError: A file cannot be read.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.npz")):
        refuse_special_file(file, BenchmarkError)
        try:
            with np.load(file) as arrays:
                held = set(arrays.files)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise BenchmarkError(
                f"cannot read {file}: {error}", hint="download it again, or take it away"
            ) from error
        for name in sorted(name.removesuffix("__p") for name in held if name.endswith("__p")):
            if {f"{name}__given", f"{name}__true"} <= held:
                found.setdefault(name, file)
    return found


def _find_sets(folder: Path, wanted: str) -> tuple[Path, list[str]]:
    """Return the file that holds a set, or all the sets of an ensemble, and their names."""
    found = sets_in(folder)
    if wanted in found:
        return found[wanted], [wanted]
    if wanted.endswith(f"__{ENSEMBLE}"):
        prefix = wanted.removesuffix(ENSEMBLE)
        members = [name for name in found if name.startswith(prefix)]
        if len(members) > 1 and len({found[name] for name in members}) == 1:
            return found[members[0]], members
    raise BenchmarkError(
        f"no .npz file in {folder} holds the probabilities {wanted!r}",
        hint=f"there are {', '.join(found)}" if found else "docs/benchmark.md says how to get them",
    )
