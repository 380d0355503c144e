"""Data sets inside archives: a ZIP or tar of class folders or with a manifest, and WebDataset.

Nothing is unpacked: one pass finds where each file lies. Names that would lead out of a folder are
nothing but names here. A WebDataset is one tar or a folder of them; the files of a sample have one
name up to the first dot: ``0001.jpg`` and ``0001.cls``, ``.json`` or ``.txt``.
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.config import DatasetConfig
from labelfix.data.archive_store import ArchiveImages, Member, index_tar, index_zip, read_member
from labelfix.data.columns import RawSamples, choose_columns, usable_ids, usable_splits
from labelfix.data.files import (
    ABSENT,
    IMAGE_ENDINGS,
    FileTimes,
    LinksOut,
    fingerprint,
    has_ignored_part,
)
from labelfix.data.folder import read_folder
from labelfix.data.json_records import json_of
from labelfix.data.labels import LabelColumn, blank_to_null, labels_of_column, labels_of_text
from labelfix.data.manifest import PathTable, table_of_text
from labelfix.data.splits import is_split_name
from labelfix.data.table_text import is_text_table, text_of_bytes
from labelfix.errors import DatasetError, UnreadableSample
from labelfix.types import Assumption, DatasetSource
from labelfix.utils.progress import OnProgress, Progress
from labelfix.utils.text import counted

KIND = "archive"
"""The kind of a source whose images lie in archives."""

_SUFFIXES = frozenset({".zip", ".tar"})
_IMAGE = IMAGE_ENDINGS | {"img"}  # as some WebDatasets call the image of a sample
_LABEL = ("cls", "cls.txt", "label", "label.txt", "class", "class.txt", "txt")
_KEY = "__key__"  # as WebDataset calls the name of a sample
_NOTE_BYTES = 4 << 20  # of a label, a record or a manifest's line
_TEXTS_ARE_LABELS = 0.5  # with more different texts than this share of the samples, texts are words


@dataclass(frozen=True, slots=True, eq=False)
class _Archive:
    """The files of one archive, or of several that are one data set.

    Args:
        source: The DATA that the user named.
        paths: The archives.
        archive: Which of them each file is in.
        members: The files, without hidden ones.
    """

    source: Path
    paths: Sequence[Path]
    archive: NDArray[np.int64]
    members: Sequence[Member]

    @property
    def names(self) -> list[str]:
        return [member.name for member in self.members]

    def data_of(self, row: int) -> bytes:
        """Return the bytes of a small file: a label, a record, a manifest.

        Raises:
            DatasetError: It cannot be read.
        """
        try:
            return read_member(self.paths[self.archive[row]], self.members[row])
        except UnreadableSample as error:
            raise DatasetError(
                f"{self.where_of(row)} cannot be read: {error}", hint="write the archive again"
            ) from error

    def where_of(self, row: int) -> str:
        return f"{self.paths[self.archive[row]]}/{self.members[row].name}"

    def samples(
        self,
        rows: Sequence[int | None],
        names: pa.StringArray,
        ids: pa.StringArray | None,
        **raw: Any,
    ) -> RawSamples:
        """Return samples whose images are some files; ``None`` where there is none."""
        members = [None if row is None else self.members[row] for row in rows]
        archive = np.array([0 if row is None else self.archive[row] for row in rows], np.int64)
        times = FileTimes(
            np.array([ABSENT if m is None else m.size for m in members], np.int64),
            np.array([0 if m is None else m.offset ^ (m.check << 24) for m in members], np.int64),
        )
        stats = [path.stat() for path in self.paths]
        extra = repr([(stat.st_size, stat.st_mtime_ns) for stat in stats]).encode()
        return RawSamples(
            sample_id=names if ids is None else ids,
            store=ArchiveImages(self.paths, archive, members, names),
            fingerprint=fingerprint(names, times, extra=extra),
            **raw,
        )


def is_archive(name: str) -> bool:
    """Return whether a file is called like an archive that can be read."""
    return posixpath.splitext(name.lower())[1] in _SUFFIXES


def read_archives(
    source: Path, paths: Sequence[Path], config: DatasetConfig, on_progress: OnProgress
) -> RawSamples:
    """Read a ZIP archive, or one or more tars.

    Args:
        source: The DATA that the user named: the archive, or the folder of several.
        paths: The archives.
        config: The columns that the user named.
        on_progress: Told how many files are found.

    Raises:
        DatasetError: An archive is damaged, or holds no data set.
    """
    archive = _index(source, paths, on_progress)
    groups = _groups(archive)
    if groups is not None:
        return _read_web_dataset(archive, groups, config, on_progress)
    if len(paths) > 1:
        raise DatasetError(
            f"the tars in {source} are no WebDataset: no image has a label beside it",
            hint="each sample needs files of one name, such as 1.jpg and 1.cls; else unpack them",
        )
    return _read_one(archive, config, on_progress)


def _index(source: Path, paths: Sequence[Path], on_progress: OnProgress) -> _Archive:
    members: list[Member] = []
    archive: list[int] = []

    def tell(found: int) -> None:
        if found % 1024 == 0:
            on_progress(Progress("finding files", len(members) + found, None, "files"))

    for number, path in enumerate(paths):
        found = index_zip(path) if path.suffix.lower() == ".zip" else index_tar(path, tell)
        kept = [member for member in found if not has_ignored_part(member.name)]
        members += kept
        archive += [number] * len(kept)
    if not members:
        raise DatasetError(f"{source} holds no files", hint="give another archive, or a folder")
    return _Archive(source, paths, np.array(archive, np.int64), members)


# Class folders and manifests


def _read_one(archive: _Archive, config: DatasetConfig, on_progress: OnProgress) -> RawSamples:
    prefix = _wrapper(archive.names)
    row_of = {name[len(prefix) :]: row for row, name in enumerate(archive.names)}
    manifests = sorted(
        (name for name in row_of if is_text_table(name) and not name.lower().endswith(".json")),
        key=lambda name: (name.count("/"), name),
    )
    manifests = [name for name in manifests if name.count("/") == manifests[0].count("/")]
    folders = {name.split("/")[0] for name in row_of if "/" in name and _is_image(name)}
    is_named = len(manifests) == 1 and posixpath.basename(manifests[0]).startswith("metadata.")
    if len(manifests) == 1 and "/" not in manifests[0] and (
        is_named or len(folders) < 2 or all(map(is_split_name, folders))
    ):  # fmt: skip
        return _read_manifest(archive, row_of, manifests[0], config, on_progress)
    if any(name.lower().endswith(".parquet") for name in row_of) and not folders:
        raise DatasetError(
            f"{archive.source} holds Parquet files", hint="unpack it, and give the folder"
        )
    names = sorted(row_of)
    sizes = np.array([archive.members[row_of[name]].size for name in names], np.int64)
    text = pa.array(names, pa.string())
    raw = read_folder(
        archive.source,
        text.cast(pa.binary()),
        FileTimes(sizes, np.zeros_like(sizes)),
        LinksOut(np.zeros(len(sizes), np.bool_)),
        test_split=config.test_split,
    )
    rows = [row_of[name] for name in raw.sample_id.to_pylist()]
    ids = pa.array([archive.members[row].name for row in rows], pa.string())
    return archive.samples(
        rows,
        ids,
        None,
        split=raw.split,
        label=raw.label,
        source=DatasetSource(KIND, archive.source, {}),
        assumptions=raw.assumptions,
    )


def _wrapper(names: Sequence[str]) -> str:
    """Return the folder that holds all class folders, as archives of one folder have it, or ""."""
    prefix = ""
    while True:
        rest = [name[len(prefix) :].split("/") for name in names]
        first = {parts[0] for parts in rest}
        is_one = len(first) == 1 and all(len(parts) > 1 for parts in rest)
        is_above = any(len(parts) > 2 or is_text_table(parts[-1]) for parts in rest)
        if not (is_one and is_above):
            return prefix
        prefix += first.pop() + "/"


def _is_image(name: str) -> bool:
    return posixpath.splitext(name.lower())[1].lstrip(".") in _IMAGE


def _read_manifest(
    archive: _Archive,
    row_of: Mapping[str, int],
    manifest: str,
    config: DatasetConfig,
    on_progress: OnProgress,
) -> RawSamples:
    row = row_of[manifest]
    text = text_of_bytes(archive.data_of(row), archive.where_of(row))
    table = table_of_text(text, archive.source, archive.source.parent, config, on_progress)
    found = [_row_of_path(row_of, path) for path in table.image.to_pylist()]
    return _samples_of_table(archive, table, found)


def _row_of_path(row_of: Mapping[str, int], path: str | None) -> int | None:
    if path is None:
        return None
    for name in (path, path.replace("\\", "/")):
        row = row_of.get(posixpath.normpath(name))
        if row is not None:
            return row
    return None


def _samples_of_table(
    archive: _Archive, table: PathTable, rows: Sequence[int | None]
) -> RawSamples:
    where = str(table.source)
    if all(row is None for row in rows):
        first = next((path for path in table.image.to_pylist() if path), "")
        raise DatasetError(
            f"none of the {len(rows):,} images that the manifest in {where} lists is in it, "
            f"for example {first}",
            hint="choose the column of paths with --image-column, or unpack the archive",
        )
    names = pa.array(
        [
            path if row is None else archive.members[row].name
            for row, path in zip(rows, blank_to_null(table.image).to_pylist(), strict=True)
        ],
        pa.string(),
    )
    split, columns = usable_splits(table.split, table.columns)
    ids, columns = usable_ids(table.id, columns, where)
    if ids is None and names.null_count:
        raise DatasetError(
            f"{names.null_count:,} rows of {where} have neither an image path nor an id",
            hint="fill the column of paths, or name a column of ids with --id-column",
        )
    split = pa.nulls(len(rows), pa.string()) if split is None else blank_to_null(split)
    return archive.samples(
        rows,
        names,
        ids,
        split=split,
        label=table.label,
        source=DatasetSource(KIND, table.source, columns.by_role()),
        assumptions=table.assumptions + columns.assumptions,
    )


# WebDataset


def _groups(archive: _Archive) -> dict[tuple[int, str], dict[str, int]] | None:
    """Return the files of each sample by what comes after its name; ``None`` of no WebDataset."""
    if archive.paths[0].suffix.lower() == ".zip":
        return None
    groups: dict[tuple[int, str], dict[str, int]] = {}
    for row, member in enumerate(archive.members):
        folder, base = posixpath.split(member.name)
        key, _, ending = base.partition(".")
        if ending:
            sample = int(archive.archive[row]), posixpath.join(folder, key)
            groups.setdefault(sample, {})[ending.lower()] = row
    is_it = any(
        any(map(_is_image_ending, files)) and any(_is_note(ending) for ending in files)
        for files in groups.values()
    )
    return groups if is_it else None


def _is_image_ending(ending: str) -> bool:
    return ending.rpartition(".")[2] in _IMAGE


def _is_note(ending: str) -> bool:
    return ending in _LABEL or ending.rpartition(".")[2] in ("json", "cls")


def _read_web_dataset(
    archive: _Archive,
    groups: Mapping[tuple[int, str], Mapping[str, int]],
    config: DatasetConfig,
    on_progress: OnProgress,
) -> RawSamples:
    samples = {key: files for key, files in groups.items() if any(map(_is_image_ending, files))}
    keys, files = list(samples), list(samples.values())
    left_out = sum(any(map(_is_note, group)) for group in groups.values()) - sum(
        any(map(_is_note, group)) for group in files
    )
    images = [_image_of(group, config, archive) for group in files]
    notes = _notes(archive, files, config, on_progress)
    names = pa.array([archive.members[row].name for row in images], pa.string())
    if len(names.unique()) < len(names):  # shards may count from 0 each
        names = pa.array(
            [
                f"{archive.paths[key[0]].name}/{name}"
                for key, name in zip(keys, names.to_pylist(), strict=True)
            ]
        )
    shard_split = [_split_of_shard(path.name) for path in archive.paths]
    split = (
        notes.split
        if notes.split is not None
        else pa.array([shard_split[key[0]] for key in keys], pa.string())
    )
    columns = dict(notes.columns)
    if config.image_column:
        columns["image"] = config.image_column
    said = notes.assumptions
    if left_out:
        some = counted(left_out, "sample")
        have = "has no image and is" if left_out == 1 else "have no image and are"
        text = f"{some} of {archive.source} {have} left out"
        said += (Assumption("files", text),)
    return archive.samples(
        images,
        names,
        notes.id,
        split=split,
        label=notes.label,
        source=DatasetSource(KIND, archive.source, columns),
        assumptions=said,
    )


def _image_of(files: Mapping[str, int], config: DatasetConfig, archive: _Archive) -> int:
    if config.image_column is not None:
        ending = config.image_column.lower().lstrip(".")
        if ending in files:
            return files[ending]
    found = [ending for ending in files if ending in _IMAGE]
    found = found or [ending for ending in files if _is_image_ending(ending)]
    if len(found) > 1:
        raise DatasetError(
            f"a sample of {archive.source} has more than one image: {', '.join(sorted(found))}",
            hint=f"choose one with --image-column, such as {found[0]}",
        )
    return files[found[0]]


@dataclass(frozen=True, slots=True, eq=False)
class _Notes:
    """What lies beside the images: labels, and perhaps ids and splits."""

    label: pa.Array
    columns: Mapping[str, str]
    id: pa.StringArray | None = None
    split: pa.StringArray | None = None
    assumptions: tuple[Assumption, ...] = ()


def _notes(
    archive: _Archive,
    files: Sequence[Mapping[str, int]],
    config: DatasetConfig,
    on_progress: OnProgress,
) -> _Notes:
    endings = {ending for group in files for ending in group}
    wanted = config.label_column
    if wanted is not None and wanted.lower().lstrip(".") in endings:
        ending = wanted.lower().lstrip(".")
    else:
        ending = next((name for name in _LABEL if name in endings and name != "txt"), "")
        if wanted is not None or (not ending and "json" in endings):
            return _notes_in_json(archive, files, config, on_progress)
        ending = ending or "txt"
    texts = pa.array(
        [_text(archive, group.get(ending), on_progress) for group in files], pa.string()
    )
    distinct = len(texts.unique().drop_null())
    if ending == "txt" and wanted is None and distinct > max(2, _TEXTS_ARE_LABELS * len(texts)):
        raise DatasetError(
            f"the .txt files of {archive.source} hold {distinct:,} different texts, which are no "
            "classes",
            hint="name where the labels are with --label-column: txt, or a key of the .json files",
        )
    return _Notes(labels_of_text(texts), {"label": ending})


def _text(archive: _Archive, row: int | None, on_progress: OnProgress) -> str | None:
    if row is None:
        return None
    data = _small(archive, row)
    if row % 4096 == 0:
        on_progress(Progress("reading labels", row, len(archive.members), "files"))
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{archive.where_of(row)} is not UTF-8: {error}", hint="write labels as UTF-8 text"
        ) from error


def _small(archive: _Archive, row: int) -> bytes:
    if archive.members[row].size > _NOTE_BYTES:
        raise DatasetError(
            f"{archive.where_of(row)} is too large for a label", hint="name another --label-column"
        )
    return archive.data_of(row)


def _notes_in_json(
    archive: _Archive,
    files: Sequence[Mapping[str, int]],
    config: DatasetConfig,
    on_progress: OnProgress,
) -> _Notes:
    where = str(archive.source)
    rows = [_record(archive, group.get("json"), on_progress) for group in files]
    names = [_KEY, *dict.fromkeys(name for row in rows for name in row)]
    columns = choose_columns(names, replace(config, image_column=None), where, image=_KEY)
    about = LabelColumn(columns.label, where)
    try:
        labels = pa.array([row.get(columns.label) for row in rows])
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise about.fault(
            f"cannot be read as one kind of label: {error}", "write all labels in one way"
        ) from error
    texts = {
        role: _texts(row.get(name) for row in rows)
        for role, name in columns.by_role().items()
        if role in ("id", "split")
    }
    split, columns = usable_splits(texts.get("split"), columns)
    ids, columns = usable_ids(texts.get("id"), columns, where)
    roles = {role: name for role, name in columns.by_role().items() if role != "image"}
    return _Notes(labels_of_column(labels, about), roles, ids, split, columns.assumptions)


def _texts(values: Iterable[Any]) -> pa.StringArray:
    return pa.array(
        [
            None if value is None else str(value).encode("utf-8", "replace").decode()
            for value in values
        ],
        pa.string(),
    )


def _record(archive: _Archive, row: int | None, on_progress: OnProgress) -> dict[str, Any]:
    if row is None:
        return {}
    if row % 4096 == 0:
        on_progress(Progress("reading labels", row, len(archive.members), "files"))
    value = json_of(_small(archive, row), archive.where_of(row), "write one JSON object a sample")
    return value if isinstance(value, dict) else {"label": value}


def _split_of_shard(name: str) -> str | None:
    """Return what a shard is called before its number, if that is the name of a split."""
    stem = name.split(".")[0].rstrip("0123456789-_")
    return stem if stem and is_split_name(stem) else None
