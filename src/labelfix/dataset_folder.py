"""A folder of class folders: ``DATA/<class>/**/*``, with or without folders of splits above.

The folders above are splits if every one of them is called like one. Labels are text. Every file in
a class folder is a sample, one that is no image too: the report then says so.
"""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from labelfix.dataset_columns import SPLIT_FOLDERS, RawSamples
from labelfix.dataset_files import (
    ABSENT,
    FileImages,
    FileTimes,
    LinksOut,
    fingerprint,
    links_not_followed,
    text_of_paths,
)
from labelfix.errors import DatasetError
from labelfix.records import DatasetSource

_IMAGE_FILE = r"(?i)\.(?:jpe?g|jfif|png|gif|bmp|webp|tiff?|p[bgnp]m|avif|hei[cf]|jp2|j2k|ico|tga)$"
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

    Raises:
        DatasetError: There are no class folders, or most samples lie outside the folder.
    """
    text = text_of_paths(paths)
    split, label = _split_and_label(text)
    is_dead_link = pa.array(times.size == ABSENT)
    is_sample = pc.or_(
        pc.is_valid(label), pc.or_(pc.match_substring_regex(text, _IMAGE_FILE), is_dead_link)
    )
    _refuse_outer_class_folders(root, paths, label, links)
    _check_class_folders(root, text, label)
    kept = is_sample.to_numpy(zero_copy_only=False)
    paths = paths.filter(is_sample)
    return RawSamples(
        sample_id=text.filter(is_sample),
        split=split.filter(is_sample),
        label=label.filter(is_sample),
        images=FileImages(root, paths, follow_links=follow_links),
        source=DatasetSource("folder", root, {}, follow_links=follow_links),
        assumptions=links_not_followed(
            root, text.filter(is_sample).filter(pa.array(links.files[kept])), int(kept.sum())
        ),
        fingerprint=fingerprint(paths, FileTimes(times.size[kept], times.modified[kept])),
    )


def _split_and_label(paths: pa.StringArray) -> tuple[pa.StringArray, pa.StringArray]:
    """Return the split and the class folder of each path, null where it has none."""
    parts = pc.split_pattern(paths, "/", max_splits=2)
    depth = pc.subtract(pc.list_value_length(parts), 1)  # how many of the parts are folders
    first = _part(parts, depth, 0)
    folders = pc.utf8_lower(first.unique().drop_null())
    is_split = pc.is_in(folders, pa.array(SPLIT_FOLDERS))
    if len(folders) and pc.all(is_split).as_py():
        return pc.utf8_lower(first), _part(parts, depth, 1)
    return pa.nulls(len(paths), pa.string()), first


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
            hint="are those images to be read, and copied by exports? If so, add --follow-links; "
            "if not, take the links out",
        )


def _check_class_folders(root: Path, paths: pa.StringArray, label: pa.StringArray) -> None:
    classes = len(label.unique().drop_null())
    manifests = paths.filter(pc.match_substring_regex(paths, _MANIFEST_FILE))
    if classes < 2 and len(manifests):  # the folder was named in place of its manifest
        raise DatasetError(
            f"{root} has {'only one class folder' if classes else 'no class folders'}",
            hint=f"if {manifests[0].as_py()} lists the images and labels, give that file",
        )
    if not classes:
        raise DatasetError(
            f"none of the {len(paths):,} files in {root} is in a class folder"
            if len(paths)
            else f"{root} is empty: no files in it or below",
            hint="put the images of each class in a folder of its own, or give a manifest",
        )
