"""The images of a task as files that tell nothing: numbered, in random order, without labels.

They are kept from run to run, so that features are computed once for all methods, seeds and kinds
of noise. The labels that a method is given stand in a manifest of its own.

Letters: N samples.
"""

import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.benchmark.data import LabelledRows
from labelfix.errors import UnreadableImage
from labelfix.files import atomic_folder, atomic_path, make_folder
from labelfix.records import ImageStore, OnProgress, Progress, no_progress

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
    images: LabelledRows,
    test: LabelledRows | None,
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


def _key(images: LabelledRows, test: LabelledRows | None) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (images, *([test] if test else [])):
        digest.update(part.fingerprint.encode())
        digest.update(part.rows.astype("<i8").tobytes())
        digest.update(part.true_label.astype("<i8").tobytes())
    return digest.hexdigest()


def _write(part: LabelledRows, folder: Path, name: str, on_progress: OnProgress) -> None:
    """Write the images of one part; in rising order of rows, which is quick for every store."""
    for number in range(-(-len(part) // PER_FOLDER)):
        (folder / name / f"{number:04}").mkdir(parents=True)
    order = np.argsort(part.rows, kind="stable")
    for done, place in enumerate(order.tolist(), 1):
        _write_one(part.images, int(part.rows[place]), folder / _place(name, place))
        if done % REPORT_EVERY == 0 or done == len(part):
            on_progress(Progress(f"preparing the {name} of the task", done, len(part), "files"))


def _write_one(images: ImageStore, row: int, to: Path) -> None:
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
    except UnreadableImage:
        return


def _place(part: str, row: int) -> str:
    return f"{part}/{row // PER_FOLDER:04}/{row:07}"
