"""A folder of class folders: ``DATA/<class>/**/*``, with or without folders of splits.

::

    DATA/<class>/...              class folders alone
    DATA/<split>/<class>/...      splits above the classes
    DATA/<class>/<split>/...      splits below the classes

Which of these it is is told by the names (`labelfix.data.splits`) and by what lies inside: folders
are splits if they are called so *and* hold class folders, most of them the same ones. A folder of
images called ``train`` beside ``car`` and ``bus`` is a class. Labels are text. Every file in a
class folder is a sample, one that is no image too: the report then says so. Where no file ends like
an image, and some end in ``.txt``, the samples are texts.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from labelfix.data.columns import RawSamples
from labelfix.data.files import (
    ABSENT,
    IMAGE_ENDINGS,
    FileTimes,
    LinksOut,
    fingerprint,
    links_not_followed,
    text_of_paths,
)
from labelfix.data.remote import RemoteImages, is_remote
from labelfix.data.splits import (
    is_content_name,
    is_extra_name,
    is_split_name,
    is_test_name,
    quoted,
    split_names,
    split_role,
)
from labelfix.data.stores import FileImages
from labelfix.data.texts import MODALITY
from labelfix.errors import DatasetError
from labelfix.types import Assumption, DatasetSource

_IMAGE_FILE = rf"(?i)\.(?:{'|'.join(sorted(IMAGE_ENDINGS))})$"
_TEXT_FILE = r"(?i)\.(?:txt|text|md)$"
_MANIFEST_FILE = r"(?i)^[^/]+\.(?:csv|tsv|jsonl|ndjson|parquet)$"


def has_image_files(paths: pa.StringArray) -> bool:
    """Return whether some path ends like an image."""
    return bool(pc.any(pc.match_substring_regex(paths, _IMAGE_FILE)).as_py())


def read_folder(
    root: Path,
    paths: pa.BinaryArray,
    times: FileTimes,
    links: LinksOut,
    *,
    test_split: Sequence[str] = (),
    follow_links: bool = False,
) -> RawSamples:
    """Read a class folder from the list of its files.

    A file above the class folders is a sample without a label if it ends like an image or is a
    link that leads nowhere; else it is no sample.

    Args:
        root: The folder, absolute.
        paths: Its files, sorted.
        times: Their sizes and times.
        links: Which of them are links out of the folder that are not followed.
        follow_links: Whether such links are followed.
        test_split: Further names of test splits, that the user gave.

    Raises:
        DatasetError: There are no class folders, it is not plain which folders are splits, or most
            samples lie outside the folder.
    """
    text = text_of_paths(paths)
    is_image = pc.match_substring_regex(text, _IMAGE_FILE)
    is_text = pc.match_substring_regex(text, _TEXT_FILE)
    holds_texts = bool(pc.any(is_text).as_py()) and not pc.any(is_image).as_py()
    is_image = is_text if holds_texts else is_image
    parts = pc.split_pattern(text, "/", max_splits=3)
    depth = pc.subtract(pc.list_value_length(parts), 1)  # how many of the parts are folders
    first, second = _part(parts, depth, 0), _part(parts, depth, 1)
    is_dead_link = pa.array(times.size == ABSENT)
    is_content = is_image if pc.any(is_image).as_py() else pc.is_valid(first)
    folders = _folders(first, second, is_content)
    layout = _layout(root, folders, test_split, _manifest_hint(text))
    split, label = layout.split_and_label(first, second)
    is_sample = pc.or_(pc.is_valid(label), pc.or_(is_image, is_dead_link))
    if layout.left_out:
        is_out = pc.is_in(first, pa.array(sorted(layout.left_out), pa.string()))
        is_sample = pc.and_(is_sample, pc.invert(is_out))
    _refuse_outer_class_folders(root, paths, label, links)
    _check_class_folders(root, text, label.filter(is_sample), folders)
    kept = is_sample.to_numpy(zero_copy_only=False)
    paths = paths.filter(is_sample)
    return RawSamples(
        sample_id=text.filter(is_sample),
        split=split.filter(is_sample),
        label=label.filter(is_sample),
        store=RemoteImages(root, text.filter(is_sample))
        if is_remote(root)
        else FileImages(root, paths, follow_links=follow_links),
        source=DatasetSource("folder", root, {}, follow_links=follow_links),
        fingerprint=fingerprint(paths, FileTimes(times.size[kept], times.modified[kept])),
        assumptions=layout.assumptions
        + links_not_followed(
            root, text.filter(is_sample).filter(pa.array(links.files[kept])), int(kept.sum())
        ),
        modality=MODALITY if holds_texts else "image",
    )


@dataclass(slots=True)
class _Folder:
    """A folder at the top: the files right in it, and its own folders with their files.

    Args:
        images: How many images lie right in it.
        inside: The names of its folders, with how many images each holds.
    """

    images: int = 0
    inside: Counter[str] = field(default_factory=Counter)

    @property
    def classes(self) -> set[str]:
        """Return its folders that hold images."""
        return {name for name, images in self.inside.items() if images}

    @property
    def size(self) -> int:
        return self.images + self.inside.total()


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the folders of a data set are.

    Args:
        splits: The folders at the top that are splits; none if all are classes.
        is_below: Whether the folders of splits lie in those of the classes instead.
        unlabeled: The splits whose folders are no classes.
        left_out: Folders at the top that are no part of the data set.
        assumptions: What a person should know about it.
    """

    splits: frozenset[str] = frozenset()
    is_below: bool = False
    unlabeled: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    assumptions: tuple[Assumption, ...] = ()

    def split_and_label(
        self, first: pa.StringArray, second: pa.StringArray
    ) -> tuple[pa.StringArray, pa.StringArray]:
        """Return the split and the class of files, from the two folders at the top of each."""
        if self.is_below:
            return second, first
        if not self.splits:
            return pa.nulls(len(first), pa.string()), first
        if self.unlabeled:
            is_unlabeled = pc.is_in(first, pa.array(sorted(self.unlabeled), pa.string()))
            second = pc.if_else(is_unlabeled, pa.scalar(None, pa.string()), second)
        return first, second


def _folders(
    first: pa.StringArray, second: pa.StringArray, is_image: pa.BooleanArray
) -> dict[str, _Folder]:
    """Return the folders at the top by name."""
    counts = (
        pa.table({"first": first, "second": second, "images": is_image.cast(pa.int64())})
        .group_by(["first", "second"])
        .aggregate([("images", "sum")])
    )
    folders: dict[str, _Folder] = defaultdict(_Folder)
    for row in counts.to_pylist():
        if row["first"] is None:
            continue
        folder = folders[row["first"]]
        if row["second"] is None:
            folder.images += row["images_sum"]
        else:
            folder.inside[row["second"]] += row["images_sum"]
    return dict(sorted(folders.items()))


def _layout(
    root: Path, folders: Mapping[str, _Folder], test_split: Sequence[str], hint: str
) -> _Layout:
    """Decide which folders are splits.

    Raises:
        DatasetError: The names say that they are, and what lies in them that they are not.
    """
    held = {name: folder for name, folder in folders.items() if folder.size}
    named = {name for name in held if is_test_name(name, test_split) and not split_role(name)}
    called = split_names(list(held)) | named
    if len(held) == 1 and not called:
        called = {name for name in held if split_role(name) and len(held[name].classes) > 1}
    if not called:
        return _splits_below(held)
    others = set(held) - called
    sure = {name for name in others if not is_extra_name(name)}
    inside = {name for split in called for name in held[split].classes}
    if all(is_content_name(name) for name in inside):
        if len(called) < len(others) or (len(called) == 1 and sure and not inside):
            return _said_to_be_classes(called)
        raise _unclear(root, called, others, "have no class folders in them", hint)
    alike = {name for name in others if held[name].classes & inside}
    if len(called) == 1 and sure and not named:
        if len(sure) == 1 or alike:
            raise _unclear(root, called, others, "what lies beside is not", hint)
        return _said_to_be_classes(called)
    if len(others - alike) > len(called):
        raise _unclear(root, called, others, "most of what lies beside is not", hint)
    return _splits_above(held, called, others - alike, alike, set(folders) - set(held))


def _splits_below(held: Mapping[str, _Folder]) -> _Layout:
    """Return the layout if no folder at the top is called like a split."""
    inside = {name for folder in held.values() for name in folder.classes}
    is_below = (
        len(held) > 1
        and all(not folder.images and folder.classes for folder in held.values())
        and inside == split_names(sorted(inside))
        and len({split_role(name) for name in inside}) > 1
    )
    if not is_below:
        return _Layout()
    text = (
        f"the folders {quoted(sorted(inside))} in the class folders are splits; to make them part "
        "of the classes, list the images in a manifest"
    )
    return _Layout(is_below=True, assumptions=(Assumption("splits", text),))


def _said_to_be_classes(called: set[str]) -> _Layout:
    what = "a class like those" if len(called) == 1 else "classes like those"
    text = f"{quoted(sorted(called))} {_is(called)} {what} beside, not {_a_split(called)}"
    return _Layout(assumptions=(Assumption("splits", text),))


def _splits_above(
    held: Mapping[str, _Folder],
    called: set[str],
    loners: set[str],
    alike: set[str],
    without_images: set[str],
) -> _Layout:
    """Return the layout of splits above classes, with what was made of the folders beside them.

    A folder that shares classes with the splits is a split; so is one of images alone, without
    labels. One with other folders inside is left out, unless it is called like unlabeled data.
    """
    bare = {name for name in called if not held[name].classes or _is_unlabeled(held, called, name)}
    extra = {name for name in loners if not held[name].classes or is_extra_name(name)}
    out = sorted(loners - extra)
    notes = []
    if joined := sorted(alike | extra):
        notes.append(f"{quoted(joined)} beside the splits {_are(joined)} of {_its(joined)} own")
    if unlabeled := sorted(bare | extra):
        notes.append(f"the images in {quoted(unlabeled)} have no label: no class folders are there")
    if out:
        what = "it holds" if len(out) == 1 else "they hold"
        notes.append(f"{quoted(out)} left out: {what} none of the class folders of the splits")
    return _Layout(
        splits=frozenset(called | alike | extra),
        unlabeled=frozenset(unlabeled),
        left_out=frozenset(out) | without_images - split_names(sorted(without_images)),
        assumptions=tuple(Assumption("splits", note) for note in notes),
    )


def _is_unlabeled(held: Mapping[str, _Folder], called: set[str], name: str) -> bool:
    """Return whether a split holds one folder that is no class, as in ``test/images``."""
    if len(held[name].classes) != 1:
        return False
    (inside,) = held[name].classes
    is_shared = any(inside in held[other].classes for other in called - {name})
    is_odd = is_content_name(inside) or is_extra_name(inside) or is_split_name(inside)
    return is_odd and not is_shared


def _its(names: Sequence[str]) -> str:
    return "its" if len(names) == 1 else "their"


def _is(names: Collection[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _a_split(names: Collection[str]) -> str:
    return "a split" if len(names) == 1 else "splits"


def _are(names: Collection[str]) -> str:
    return f"{_is(names)} {_a_split(names)}"


def _unclear(
    root: Path, called: set[str], others: Collection[str], why: str, hint: str
) -> DatasetError:
    beside = f" (beside {quoted(sorted(others))})" if others else ""
    return DatasetError(
        f"are the folders {quoted(sorted(called))}{beside} in {root} splits or classes? They are "
        f"called like splits, but {why}",
        hint=f"{hint}if they are splits, put class folders into each, and nothing else beside "
        "them; if they are classes, rename them, or list the images in a manifest with the columns "
        "image, label and split",
    )


def _part(parts: pa.ListArray, depth: pa.Array, index: int) -> pa.StringArray:
    """Return one part of each split path, null where it is the file's name or not there."""
    has_part = pc.greater(depth, index)
    chosen = pc.list_element(parts.filter(has_part), index)
    rows = pc.subtract(pc.cumulative_sum(has_part.cast(pa.int64())), 1)
    return chosen.take(pc.if_else(has_part, rows, pa.scalar(None, pa.int64())))


def _refuse_outer_class_folders(
    root: Path, paths: pa.BinaryArray, label: pa.StringArray, links: LinksOut
) -> None:
    """Refuse to leave out whole classes, whose folders are links out of the data folder."""
    outer = [path for path in paths.filter(pc.is_null(label)).to_pylist() if path in links.folders]
    if outer:
        some = ", ".join(os.fsdecode(path) for path in outer[:3])
        raise DatasetError(
            f"{len(outer)} of the folders in {root} are links that lead out of it: {some}",
            hint="are those images to be read, and copied by exports? If so, add --outside-files; "
            "if not, take the links out",
        )


def _manifest_hint(paths: pa.StringArray) -> str:
    """Return that a table at the top may be what was meant, or "" if there is none."""
    manifests = paths.filter(pc.match_substring_regex(paths, _MANIFEST_FILE))
    return (
        f"if {manifests[0].as_py()} lists the images and labels, give that file; "
        if len(manifests)
        else ""
    )


def _check_class_folders(
    root: Path, paths: pa.StringArray, label: pa.StringArray, folders: Mapping[str, _Folder]
) -> None:
    classes = label.unique().drop_null().to_pylist()
    if hint := _manifest_hint(paths) if len(classes) < 2 else "":
        raise DatasetError(
            f"{root} has {'only one class folder' if classes else 'no class folders'}",
            hint=hint.removesuffix("; "),  # the folder was named in place of its manifest
        )
    if len(classes) == 1 and len(folders.get(classes[0], _Folder()).classes) > 1:
        raise DatasetError(
            f"{root} has only one class folder, {classes[0]!r}, with folders in it",
            hint=f"if those are the classes or the splits, give {root / classes[0]}",
        )
    if not classes:
        raise DatasetError(
            f"none of the {len(paths):,} files in {root} is in a class folder"
            if len(paths)
            else f"{root} is empty: no files in it or below",
            hint="put the images of each class in a folder of its own, or give a manifest",
        )
