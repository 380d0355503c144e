"""A task made ready: files and features that methods may share, labels planted for a seed.

Letters: N samples, K classes.
"""

import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.benchmark.data import LabeledRows, TaskData, needs_clean_probs, plant
from labelfix.benchmark.problem import Problem
from labelfix.benchmark.process import worked
from labelfix.benchmark.tasks import PlantedTask, Task
from labelfix.benchmark.worker import OUTCOME, PROBS
from labelfix.config import BackboneConfig
from labelfix.errors import UnreadableSample
from labelfix.types import SampleStore
from labelfix.utils.cache import cache_key
from labelfix.utils.files import atomic_folder, atomic_path, make_folder
from labelfix.utils.progress import OnProgress, Progress, no_progress

IMAGES, TEST = "images", "test"
PER_FOLDER = 1000
REPORT_EVERY = 500


@dataclass(frozen=True, slots=True)
class PreparedImages:
    """The files of a task.

    Args:
        seen: What methods may see: ``images/`` and ``test/``.
        hidden: Where what was made with the truth is kept.
    """

    seen: Path
    hidden: Path

    @contextmanager
    def manifest(self, label: Sequence[int], part: str = IMAGES) -> Iterator[Path]:
        """Yield a manifest of the images with labels; it is removed in the end.

        Args:
            label: One for each image.
            part: ``images`` or ``test``.
        """
        handle, name = tempfile.mkstemp(prefix=f"{part}-", suffix=".csv", dir=self.seen)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(("image", "label"))
                writer.writerows((_place(part, row), code) for row, code in enumerate(label))
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def kept(self, name: str) -> Any:
        """Return what `keep` kept under a name, ``None`` if nothing."""
        try:
            return json.loads((self.hidden / f"{name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def keep(self, name: str, values: Any) -> None:
        """Keep JSON values."""
        make_folder(self.hidden)
        with atomic_path(self.hidden / f"{name}.json") as draft:
            draft.write_text(json.dumps(values), encoding="utf-8")

    def kept_array(self, name: str) -> NDArray[Any] | None:
        """Return the array that `keep_array` kept under a name, ``None`` if there is none."""
        path = self.hidden / f"{name}.npy"
        return np.load(path) if path.exists() else None

    def keep_array(self, name: str, values: NDArray[Any]) -> None:
        """Keep an array."""
        make_folder(self.hidden)
        with atomic_path(self.hidden / f"{name}.npy") as draft, draft.open("wb") as file:
            np.save(file, values)


def prepare_images(
    images: LabeledRows,
    test: LabeledRows | None,
    cache: Path,
    on_progress: OnProgress = no_progress,
) -> PreparedImages:
    """Write the images of a task to numbered files, unless they are there from an earlier run.

    Files of a folder are linked where the file system can, else copied. An image that cannot be
    read is a file that is missing.

    Args:
        images: The N images that methods see.
        test: Those that they do not train on, or ``None``.
        cache: The folder that holds the files of all tasks.
        on_progress: Told about every few hundred images.

    Raises:
        RunError: The place cannot be written to.
    """
    key = _key(images, test)
    prepared = PreparedImages(seen=cache / key, hidden=cache / f"{key}-truth")
    if not prepared.seen.is_dir():
        with atomic_folder(prepared.seen) as draft:
            _write(images, draft, IMAGES, on_progress)
            if test is not None:
                _write(test, draft, TEST, on_progress)
    return prepared


def _key(images: LabeledRows, test: LabeledRows | None) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (images, *([test] if test else [])):
        digest.update(part.fingerprint.encode())
        digest.update(part.rows.astype("<i8").tobytes())
        digest.update(part.true_label.astype("<i8").tobytes())
    return digest.hexdigest()


def _write(part: LabeledRows, folder: Path, name: str, on_progress: OnProgress) -> None:
    """Write the images of one part; in rising order of rows, which is quick for every store."""
    for number in range(-(-len(part) // PER_FOLDER)):
        (folder / name / f"{number:04}").mkdir(parents=True)
    order = np.argsort(part.rows, kind="stable")
    for done, place in enumerate(order.tolist(), 1):
        _write_one(part.store, int(part.rows[place]), folder / _place(name, place))
        if done % REPORT_EVERY == 0 or done == len(part):
            on_progress(Progress(f"preparing the {name} of the task", done, len(part), "files"))


def _write_one(images: SampleStore, row: int, to: Path) -> None:
    source = Path(images.location(row))
    if source.is_file():
        try:
            to.hardlink_to(source.resolve())
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    try:
        to.write_bytes(images.read(row))
    except UnreadableSample:
        return


def _place(part: str, row: int) -> str:
    return f"{part}/{row // PER_FOLDER:04}/{row:07}"


NOISE_SEED = 0
"""Of the folds behind instance-dependent noise; the noise itself is drawn by the run's seed."""


@dataclass(frozen=True, slots=True)
class SharedFeatures:
    """The features of a task's images, computed once.

    Args:
        folder: Of the N samples.
        test_folder: Of the test samples, or ``None``.
        image_size: Pixels a side that the backbone sees.
        cost: ``wall_seconds``, ``cpu_seconds`` and ``peak_gib`` of computing them.
    """

    folder: Path
    test_folder: Path | None
    image_size: int
    cost: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class PreparedTask:
    """A task, ready to be set to methods.

    Args:
        task: Which.
        data: Its labels, and the truth.
        backbone: Which network looks at images.
        cache: Where images and features are kept.
        images: The files, or ``None`` for published probabilities.
        features: Or ``None`` where no method asks for them.
    """

    task: Task
    data: TaskData
    backbone: BackboneConfig
    cache: Path
    images: PreparedImages | None
    features: SharedFeatures | None

    @classmethod
    def make(
        cls,
        task: Task,
        data: TaskData,
        backbone: BackboneConfig,
        cache: Path,
        on_progress: OnProgress,
        *,
        with_features: bool,
    ) -> "PreparedTask":
        """Write the files of a task and compute its features, unless they are there.

        Raises:
            BenchmarkError: The features cannot be computed.
            RunError: The cache cannot be written to.
        """
        if data.images is None:
            return cls(task, data, backbone, cache, None, None)
        images = prepare_images(data.images, data.test, cache / "benchmark", on_progress)
        bare = cls(task, data, backbone, cache, images, None)
        if not with_features and not needs_clean_probs(_kind(task)):
            return bare
        on_progress(Progress(f"{task.name}: looking at the images", 0, None, "images"))
        return cls(task, data, backbone, cache, images, bare.shared_features(images))

    def given_label(self, seed: int) -> NDArray[np.int64]:
        """Return ``(N,)`` labels: those of the task, or ones with noise planted by a seed."""
        if self.data.given_label is not None or not isinstance(self.task, PlantedTask):
            return np.asarray(self.data.given_label)
        return plant(
            self.task.kind,
            self.task.rate,
            self.data.true_label,
            classes=self.data.classes,
            seed=seed,
            clean_probs=self._clean_probs() if needs_clean_probs(self.task.kind) else None,
        )

    @contextmanager
    def problem(self, given_label: NDArray[np.int64], seed: int) -> Iterator[Problem]:
        """Yield the problem that methods are set; its manifest is gone afterwards."""
        values: dict[str, Any] = {
            "given_label": given_label,
            "classes": self.data.classes,
            "seed": seed,
            "backbone": self.backbone,
        }
        if self.images is None:
            yield Problem(**values, pred_probs=self.data.pred_probs)
            return
        folder = None if self.features is None else self.features.folder
        with self.images.manifest(given_label.tolist()) as manifest:
            yield Problem(**values, data=manifest, cache=self.cache, features=folder)

    def shared_features(self, images: PreparedImages) -> SharedFeatures:
        """Compute the features of all images in a process of its own, unless they are there."""
        name = f"features-{self._backbone_key()}"
        kept = images.kept(name)
        if kept is None or not Path(kept["features"]).is_dir():
            kept = self._compute_features(images)
            images.keep(name, kept)
        test = kept["test_features"]
        return SharedFeatures(
            folder=Path(kept["features"]),
            test_folder=None if test is None else Path(test),
            image_size=kept["image_size"],
            cost=kept["cost"],
        )

    def _compute_features(self, images: PreparedImages) -> dict[str, Any]:
        # two labels in turn: a manifest needs them, and features must not depend on them
        count, of_test = len(self.data.true_label), len(self.data.test or ())
        with (
            images.manifest([row % 2 for row in range(count)], IMAGES) as manifest,
            images.manifest([row % 2 for row in range(of_test)], TEST) as test,
        ):
            problem = Problem(
                given_label=np.zeros(count, dtype=np.int64),
                classes=self.data.classes,
                seed=NOISE_SEED,
                data=manifest,
                cache=self.cache,
                backbone=self.backbone,
            )
            place = str(test) if of_test else None
            with worked("features", problem, test=place) as ended:
                found = json.loads((ended.folder / OUTCOME).read_text(encoding="utf-8"))
        return {**found, "cost": asdict(ended.cost)}

    def _clean_probs(self) -> NDArray[np.float64]:
        if self.images is None or self.features is None:
            raise AssertionError("noise of this kind is made from features")
        name = f"clean-probs-{self._backbone_key()}"
        kept = self.images.kept_array(name)
        if kept is not None:
            return kept
        problem = Problem(
            given_label=self.data.true_label,
            classes=self.data.classes,
            seed=NOISE_SEED,
            features=self.features.folder,
            backbone=self.backbone,
        )
        with worked("clean-probs", problem) as ended:
            probs: NDArray[np.float64] = np.load(ended.folder / PROBS)
        self.images.keep_array(name, probs)
        return probs

    def _backbone_key(self) -> str:
        weights = self.backbone.weights
        values = asdict(self.backbone) | {"weights": None}
        if weights is not None and weights.exists():
            values["weights"] = [str(weights.absolute()), weights.stat().st_mtime_ns]
        return cache_key(values)


def _kind(task: Task) -> str:
    return task.kind if isinstance(task, PlantedTask) else ""
