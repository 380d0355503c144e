"""An export as a class folder: ``TO/<class>/<file>``, or ``TO/<split>/<class>/<file>``."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.errors import UnreadableImage
from labelfix.export_plan import ExportPlan
from labelfix.files import atomic_folder
from labelfix.records import DatasetSource, ImageStore, OnProgress, Progress
from labelfix.report import Report

NO_SPLIT = "unsplit"
"""The folder of the rows without a split, in a data set that has splits."""

_SAFE = " !#$&'()+,;=@[]^`{}"
_LONGEST = 200  # bytes; file systems take 255, and a number and a suffix may follow
_IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
    ".pbm", ".jp2", ".avif", ".heic", ".ico", ".tga",
})  # fmt: skip
_SIGNATURES = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"RIFF", ".webp"),
)


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
            row = int(plan.rows[position])
            try:
                data = b"" if link else images.read(row)
                original = _original(images.location(row)) if link else None
            except UnreadableImage:
                continue  # there is nothing to copy; the result counts it
            path = _free(draft / places.of(position, images.location(row), data), taken)
            if original is None:
                path.write_bytes(data)
            else:
                _link(original, path)
            written += 1
            if done % 256 == 0 or done == total:
                on_progress(Progress("writing files", done, total, "files"))
    return FolderFiles(written, total - written)


def safe_name(text: str) -> str:
    """Return text as one part of a path, different for different texts.

    Slashes, control characters and what some file systems refuse are percent-encoded, so are a dot
    in front and a dot or space at the end; the empty text becomes ``%``. A name that is too long
    for a file system ends in a digest instead.
    """
    if not text:
        return "%"
    name = "".join(char if char > "\x7f" else quote(char, safe=_SAFE) for char in text)
    if name[0] == ".":
        name = "%2E" + name[1:]
    if name[-1] in ". ":
        name = name[:-1] + f"%{ord(name[-1]):02X}"
    if len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return f"{name.encode()[: _LONGEST - 17].decode(errors='ignore')}%{digest}"


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where each of M exported rows goes: labels, splits and ids as ``(M,)`` Arrow arrays."""

    source: DatasetSource
    sample_id: pa.ChunkedArray
    split: pa.ChunkedArray
    label: pa.Array
    is_changed: NDArray[np.bool_]
    has_splits: bool

    def of(self, position: int, location: str, data: bytes) -> PurePosixPath:
        """Return the path of a row inside the export."""
        label, split = self.label[position].as_py(), self.split[position].as_py()
        if self.source.kind == "folder":
            parts = list(Path(location).relative_to(self.source.path).parts)
            if self.is_changed[position]:
                parts[0 if split is None else 1] = _folder_name(str(label))
            return PurePosixPath(*parts)
        parts = [safe_name(NO_SPLIT if split is None else split)] if self.has_splits else []
        if label is not None:
            parts.append(safe_name(str(label)))
        return PurePosixPath(*parts, self._file_name(position, location, data))

    def _file_name(self, position: int, location: str, data: bytes) -> str:
        if self.source.kind == "manifest":
            return Path(location).name
        name = safe_name(PurePosixPath(self.sample_id[position].as_py()).name)
        if PurePosixPath(name).suffix.lower() in _IMAGE_SUFFIXES:
            return name
        return name + next((end for sign, end in _SIGNATURES if data.startswith(sign)), "")


def _places(report: Report, plan: ExportPlan) -> _Places:
    kept = report.table.select(["sample_id", "split"]).take(pa.array(plan.rows))
    return _Places(
        source=report.run.source,
        sample_id=kept["sample_id"],
        split=kept["split"],
        label=plan.label,
        is_changed=plan.is_changed,
        has_splits=report.table["split"].null_count < len(report),
    )


def _folder_name(label: str) -> str:
    """Return a label that was a folder's name as it was, unless the report was tampered with."""
    is_plain = label not in {"", ".", ".."} and not any(char in label for char in "/\\\0")
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


def _original(location: str) -> Path:
    path = Path(location).resolve()
    if not location or not path.is_file():
        raise UnreadableImage("file is missing")
    return path


def _link(original: Path, path: Path) -> None:
    try:
        path.hardlink_to(original)
    except OSError:
        path.symlink_to(original)
