"""An export as a class folder: ``TO/<class>/<file>``, or ``TO/<split>/<class>/<file>``."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.exports.images import TakenImage, has_image_suffix, safe_name, take_image
from labelfix.exports.plan import ExportPlan
from labelfix.files import atomic_folder
from labelfix.records import DatasetSource, ImageStore, OnProgress, Progress
from labelfix.report import Report

NO_SPLIT = "unsplit"
"""The folder of the rows without a split, in a data set that has splits."""


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """What was written: ``written`` files, and ``without_image`` rows that had no file to copy."""

    written: int
    without_image: int


def write_class_folder(
    report: Report,
    plan: ExportPlan,
    images: ImageStore,
    to: Path,
    *,
    link: bool,
    on_progress: OnProgress,
) -> FolderFiles:
    """Write the images of a plan into a new folder, each under its exported label.

    A file of a class folder keeps its place in it, but for the class where that changes. The images
    of rows without a label lie above the class folders. Characters of a label, a split or an id
    that do not fit in a file name are percent-encoded. Two files of one name get a number. Bytes
    are copied as they are; with ``link``, files are hard links, or symbolic ones where the file
    system refuses.

    Raises:
        RunError: ``to`` is there already, or cannot be written to.
    """
    places = _places(report, plan)
    taken: Counter[Path] = Counter()
    written = 0
    total = len(plan.rows)
    with atomic_folder(to) as draft:
        for done, position in enumerate(_unchanged_first(plan.is_changed), 1):
            image = take_image(images, int(plan.rows[position]), link=link)
            if image is not None:
                image.put(_free(draft / places.of(position, image), taken))
                written += 1
            if done % 256 == 0 or done == total:
                on_progress(Progress("writing files", done, total, "files"))
    return FolderFiles(written, total - written)


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where each of M exported rows goes: labels, splits and ids as ``(M,)`` Arrow arrays."""

    source: DatasetSource
    sample_id: pa.ChunkedArray
    split: pa.ChunkedArray
    given_label: pa.ChunkedArray
    label: pa.Array
    is_changed: NDArray[np.bool_]
    has_splits: bool

    def of(self, position: int, image: TakenImage) -> PurePosixPath:
        """Return the path of a row inside the export."""
        label, split = self.label[position].as_py(), self.split[position].as_py()
        if self.source.kind == "folder":
            parts = list(Path(image.location).relative_to(self.source.path).parts)
            if self.is_changed[position]:
                above = PurePosixPath(self.sample_id[position].as_py()).parts[0]
                place = 1 if split is not None and split == above else 0
                was_labelled = self.given_label[position].is_valid
                parts[place : place + was_labelled] = [_folder_name(str(label))]
            return PurePosixPath(*parts)
        parts = [safe_name(NO_SPLIT if split is None else split)] if self.has_splits else []
        if label is not None:
            parts.append(safe_name(str(label)))
        return PurePosixPath(*parts, self._file_name(position, image))

    def _file_name(self, position: int, image: TakenImage) -> str:
        if self.source.has_files:
            return Path(image.location).name
        name = safe_name(PurePosixPath(self.sample_id[position].as_py()).name)
        return name if has_image_suffix(name) else name + image.suffix


def _places(report: Report, plan: ExportPlan) -> _Places:
    kept = report.table.select(["sample_id", "split", "given_label"]).take(pa.array(plan.rows))
    return _Places(
        source=report.run.source,
        sample_id=kept["sample_id"],
        split=kept["split"],
        given_label=kept["given_label"],
        label=plan.label,
        is_changed=plan.is_changed,
        has_splits=report.table["split"].null_count < len(report),
    )


def _folder_name(label: str) -> str:
    """Return a label that can be a folder's name as it is, another one encoded."""
    is_plain = label[:1] not in {"", "."} and not any(char in label for char in "/\\\0")
    return label if is_plain else safe_name(label)


def _unchanged_first(is_changed: NDArray[np.bool_]) -> list[int]:
    """Return positions in an order in which no changed file takes the name of an unchanged one."""
    order = np.concatenate([np.flatnonzero(~is_changed), np.flatnonzero(is_changed)])
    return order.tolist()  # type: ignore[no-any-return]


def _free(path: Path, taken: Counter[Path]) -> Path:
    """Return ``path``, or the next one like ``name-2.png`` that is not there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    free = path
    while free.exists():
        taken[path] += 1
        free = path.with_stem(f"{path.stem}-{taken[path] + 1}")
    return free
