"""An export as a class folder: ``TO/<class>/<file>``, or ``TO/<split>/<class>/<file>``."""

import base64
import hashlib
import mimetypes
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.data.files import IMAGE_ENDINGS
from labelfix.data.stores import FileImages
from labelfix.errors import UnreadableSample
from labelfix.exports.plan import ExportPlan
from labelfix.report.view import ReportView
from labelfix.types import DatasetSource, SampleStore
from labelfix.utils.files import atomic_folder
from labelfix.utils.progress import OnProgress, Progress

_SAFE = " !#$&'()+,;=@[]^`{}"
_LONGEST = 200  # bytes; file systems take 255, and a number and a suffix may follow
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
class TakenImage:
    """One image on its way into an export.

    Args:
        location: Where it lies, as `labelfix.types.SampleStore` says.
        data: Its bytes, not decoded; nothing if it is only linked to.
        original: The file to link to, if that was wished.
    """

    location: str
    data: bytes
    original: Path | None

    @property
    def suffix(self) -> str:
        """Return the ending that a file of these bytes should have, "" if they are not known."""
        return next((end for sign, end in _SIGNATURES if self.data.startswith(sign)), "")

    def put(self, path: Path) -> None:
        """Write or link the image; a hard link, or a symbolic one where that cannot be."""
        if self.original is None:
            path.write_bytes(self.data)
            return
        try:
            path.hardlink_to(self.original)
        except OSError:
            path.symlink_to(self.original)

    def as_uri(self) -> str:
        """Return the bytes as a ``data:`` address."""
        kind = mimetypes.guess_type(f"image{self.suffix}")[0] or "application/octet-stream"
        return f"data:{kind};base64,{base64.b64encode(self.data).decode()}"


def take_image(store: SampleStore, row: int, *, link: bool = False) -> TakenImage | None:
    """Return the image of a row, ``None`` if there is none to copy or link to.

    Images that are no files of their own are copied where ``link`` is asked for, too.
    """
    location = store.location(row)
    try:
        if link and isinstance(store, FileImages):
            return TakenImage(location, b"", _original(store.file(row)))
        return TakenImage(location, store.read(row), None)
    except UnreadableSample:
        return None


def has_image_suffix(name: str) -> bool:
    """Return whether a file name ends like an image."""
    return PurePosixPath(name).suffix.lower().removeprefix(".") in IMAGE_ENDINGS


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


def _original(file: Path) -> Path:
    path = Path(os.path.realpath(file))  # never raises for a loop of links, unlike Path.resolve
    if not path.is_file():
        raise UnreadableSample("file is missing")
    return path


NO_SPLIT = "unsplit"
"""The folder of the rows without a split, in a data set that has splits."""


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """What was written: ``written`` files, and ``without_image`` rows that had no file to copy."""

    written: int
    without_image: int


def write_class_folder(
    view: ReportView,
    plan: ExportPlan,
    store: SampleStore,
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
    places = _places(view, plan)
    taken: Counter[Path] = Counter()
    written = 0
    total = len(plan.rows)
    with atomic_folder(to) as draft:
        for done, position in enumerate(_unchanged_first(plan.is_changed), 1):
            image = take_image(store, int(plan.rows[position]), link=link)
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
            parts = list(self._own_parts(position, image))
            if self.is_changed[position]:
                above = PurePosixPath(self.sample_id[position].as_py()).parts[0]
                place = 1 if split is not None and split == above else 0
                was_labeled = self.given_label[position].is_valid
                parts[place : place + was_labeled] = [_folder_name(str(label))]
            return PurePosixPath(*parts)
        parts = [safe_name(NO_SPLIT if split is None else split)] if self.has_splits else []
        if label is not None:
            parts.append(safe_name(str(label)))
        return PurePosixPath(*parts, self._file_name(position, image))

    def _own_parts(self, position: int, image: TakenImage) -> tuple[str, ...]:
        if not self.source.has_files:  # at an address, where ids are paths as well
            return PurePosixPath(self.sample_id[position].as_py()).parts
        return Path(image.location).relative_to(self.source.path).parts

    def _file_name(self, position: int, image: TakenImage) -> str:
        if self.source.has_files:
            return Path(image.location).name
        name = safe_name(PurePosixPath(self.sample_id[position].as_py()).name)
        return name if has_image_suffix(name) else name + image.suffix


def _places(view: ReportView, plan: ExportPlan) -> _Places:
    kept = view.take(plan.rows, ["sample_id", "split", "given_label"])
    return _Places(
        source=view.report.run.source,
        sample_id=kept["sample_id"],
        split=kept["split"],
        given_label=kept["given_label"],
        label=plan.label,
        is_changed=plan.is_changed,
        has_splits=view.has_splits,
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
