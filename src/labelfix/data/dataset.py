"""Open a labeled data set, whatever its form.

::

    a folder of class folders     labels are the names of the folders
    a manifest                    .csv .tsv .jsonl .ndjson .json .parquet: image paths and labels
    metadata.csv and so on        in a folder of images: paths in it and labels
    Parquet                       one file or a folder of shards, with the image bytes inside
    save_to_disk                  a folder of Arrow files, with the image bytes inside
    .zip .tar                     class folders, a manifest and its images, or a WebDataset

The modules ``dataset_*`` read one form each; the checks that are common to all are here.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from labelfix.config import DatasetConfig
from labelfix.data.archives import is_archive, read_archives
from labelfix.data.arrow import is_saved_dataset, read_saved_dataset
from labelfix.data.columns import RawSamples, refuse_repeated_ids
from labelfix.data.files import LinksOut, find_files, refuse_outer_shards, text_of_paths
from labelfix.data.folder import has_image_files, read_folder
from labelfix.data.foreign_formats import refuse_address, refuse_foreign_file, refuse_foreign_folder
from labelfix.data.labels import (
    LabelColumn,
    encode_labels,
    look_alikes,
    refuse_no_classes,
    without_blanks,
    without_missing,
)
from labelfix.data.manifest import read_manifest
from labelfix.data.metadata import metadata_files, read_metadata_folder
from labelfix.data.parquet import read_parquet
from labelfix.data.remote import READ_THERE, explained_remote, find_remote, is_remote, times_among
from labelfix.data.splits import assumed_roles, check_named, quoted
from labelfix.data.table_text import is_text_table
from labelfix.data.vectors import with_vectors_of_file
from labelfix.errors import DatasetError
from labelfix.types import Assumption, DatasetSource, LabeledDataset
from labelfix.utils.files import refuse_special_file
from labelfix.utils.progress import OnProgress, no_progress

_FORMS = (
    "give a folder of class folders, a manifest (.csv .tsv .jsonl .json .parquet), Parquet files, "
    "a folder of save_to_disk, a .zip or a .tar"
)
_PARQUET_SUFFIX = ".parquet"
_TEXT_TABLE = re.compile(r"(?i)\.(csv|tsv|txt|json|jsonl|ndjson)(?:\.[a-z0-9]+)?\Z")
_SHARD = re.compile(
    r"(?i)(?:[^_/][^/]*/)*[^_/][^/]*\.parquet\Z"
)  # names with _ are a writer's own notes


def open_dataset(
    path: Path, config: DatasetConfig, on_progress: OnProgress = no_progress
) -> LabeledDataset:
    """Open a labeled data set without reading its images.

    Labels come back as they came: all text or all integers, a missing one as ``MISSING``.

    Args:
        path: A class folder, a manifest, a Parquet file or a folder of Parquet shards.
        config: Which columns hold what.
        on_progress: Takes steps while files are found and labels read.

    Raises:
        DatasetError: The data set as a whole cannot be used: not there, no samples, ids that are
            not unique, fewer than two classes, columns that are missing.
    """
    path = path.absolute()
    try:
        with explained_remote(path):
            raw = _read(path, config, on_progress)
        if config.features is not None:
            raw = with_vectors_of_file(raw, config.features)
        elif config.features_column is not None and "features" not in raw.source.columns:
            raise DatasetError(
                f"{path} is no Parquet, and --features-column names a column of Parquet",
                hint="write Parquet, or give the features as a file with --features",
            )
    except OSError as error:
        raise DatasetError(
            f"cannot read {error.filename or path}: {error.strerror or error}",
            hint="make it readable, or choose another data set",
        ) from error
    except MemoryError as error:
        raise DatasetError(
            f"{path} asks for more memory than there is",
            hint="it may be damaged; else split it into several files, or write it as Parquet",
        ) from error
    return settled_dataset(raw, config)


def settled_dataset(raw: RawSamples, config: DatasetConfig) -> LabeledDataset:
    """Return what a data set of any form holds, with labels as codes.

    Raises:
        DatasetError: There are no samples, ids that are not unique, or fewer than two classes.
    """
    _check_ids(raw)
    check_named(raw.split, config.test_split, str(raw.source.path))
    raw = _with_settled_labels(raw, config)
    codes, class_names = encode_labels(raw.label)
    _check_classes(raw, class_names)
    return LabeledDataset(
        sample_id=raw.sample_id,
        split=raw.split,
        given_label=codes,
        class_names=class_names,
        store=raw.store,
        source=raw.source,
        fingerprint=raw.fingerprint,
        assumptions=raw.assumptions
        + assumed_roles(raw.split, config.test_split)
        + look_alikes(class_names),
        test_splits=config.test_split,
        label_missing=config.label_missing,
        modality=raw.modality,
    )


def _with_settled_labels(raw: RawSamples, config: DatasetConfig) -> RawSamples:
    """Return the samples with blanks around labels and values that are no label taken away.

    Raises:
        DatasetError: A column that was taken for the label by its name cannot be it.
    """
    label, assumptions = raw.label, raw.assumptions
    name = table_suffix_of(raw.source)
    if name is not None:
        label, said = without_blanks(label, may_be_numbers=not name.startswith("json"))
        assumptions += said
    label, said = without_missing(label, config.label_missing)
    assumptions += said
    column = raw.source.columns.get("label")
    if column is not None and config.label_column is None:
        refuse_no_classes(label, LabelColumn(column, str(raw.source.path)))
    return replace(raw, label=label, assumptions=assumptions)


def table_suffix_of(source: DatasetSource) -> str | None:
    """Return what kind of text the table of a data set is (``csv``), ``None`` if it is no text."""
    found = _TEXT_TABLE.search(source.path.name)
    return found[1].lower() if found and source.kind == "manifest" else None


def _read(path: Path, config: DatasetConfig, on_progress: OnProgress) -> RawSamples:
    if is_remote(path):
        return _read_remote(path, config, on_progress)
    if path.is_dir():
        return _read_folder(path, config, on_progress)
    if not path.exists():
        refuse_address(path)
        raise DatasetError(f"{path} does not exist", hint=_FORMS)
    refuse_special_file(path, DatasetError)
    if path.suffix.lower() == _PARQUET_SUFFIX:
        return read_parquet(path, [path.name], config, on_progress)
    if is_archive(path.name):
        return read_archives(path, [path], config, on_progress)
    if is_text_table(path.name):
        return read_manifest(path, config, on_progress)
    refuse_foreign_file(path)
    raise DatasetError(f"cannot tell from its name what {path} is", hint=_FORMS)


def _read_remote(path: Path, config: DatasetConfig, on_progress: OnProgress) -> RawSamples:
    """Read data at an address: Parquet, a class folder, or a manifest."""
    if path.is_dir():
        return _read_remote_folder(path, config, on_progress)
    if not path.exists():
        raise DatasetError(f"there is nothing at {path}", hint=f"give {READ_THERE}")
    if path.suffix.lower() == _PARQUET_SUFFIX:
        return read_parquet(path, [path.name], config, on_progress)
    if is_text_table(path.name):
        return read_manifest(path, config, on_progress)
    raise _not_read_there(path)


def _read_remote_folder(path: Path, config: DatasetConfig, on_progress: OnProgress) -> RawSamples:
    found = find_remote(path)
    names = list(found)
    text = pa.array(names, pa.string())
    if has_image_files(text) and metadata_files(names):
        raise _not_read_there(path)
    if not has_image_files(text):
        if shards := shards_among(names):
            return read_parquet(path, shards, config, on_progress)
        if is_saved_dataset(names) or any(map(is_archive, names)):
            raise _not_read_there(path)
    links = LinksOut(np.zeros(len(names), np.bool_))
    times = times_among(found, names)
    return read_folder(path, text.cast(pa.binary()), times, links, test_split=config.test_split)


def _not_read_there(path: Path) -> DatasetError:
    return DatasetError(
        f"{path}: at an address labelfix reads {READ_THERE}, and nothing else",
        hint="write the images into Parquet, or download the data and give the folder",
    )


def _read_folder(path: Path, config: DatasetConfig, on_progress: OnProgress) -> RawSamples:
    """Read a folder for what its files tell that it is, else as a class folder."""
    left_out: list[str] = []
    follow = config.outside_files
    files, times, links = find_files(path, on_progress, left_out, follow_links=follow)
    text = text_of_paths(files)
    outer = text.filter(pa.array(links.files))
    raw = _read_form(path, text, outer, config, on_progress) or read_folder(
        path, files, times, links, test_split=config.test_split, follow_links=follow
    )
    return replace(raw, assumptions=raw.assumptions + _said_of(left_out))


def _read_form(
    path: Path,
    text: pa.StringArray,
    outer: pa.StringArray,
    config: DatasetConfig,
    on_progress: OnProgress,
) -> RawSamples | None:
    """Read a folder of files that are more than images; ``None`` if it may be a class folder.

    Args:
        path: The folder.
        text: Its files, relative to it.
        outer: Those that are links out of it and are not followed.
        config: The columns that the user named.
        on_progress: Told how far reading is.
    """
    names = text.to_pylist()
    if is_saved_dataset(names):
        refuse_outer_shards(path, outer)
        return read_saved_dataset(path, names, config, on_progress)
    if has_image_files(text):
        if not metadata_files(names):
            return None
        refuse_outer_shards(path, outer)
        return read_metadata_folder(path, names, config, on_progress)
    shards = shards_among(names)
    tars = [name for name in names if name.lower().endswith(".tar")]
    if shards or tars:
        refuse_outer_shards(path, outer)
    if shards:
        return read_parquet(path, shards, config, on_progress)
    if tars:
        return read_archives(path, [path / name for name in tars], config, on_progress)
    refuse_foreign_folder(path, names)
    return None


def _said_of(left_out: list[str]) -> tuple[Assumption, ...]:
    """Return that some folders of labelfix itself were passed over."""
    if not left_out:
        return ()
    what = "are no part of the data" if len(left_out) > 1 else "is no part of the data"
    text = f"{quoted(sorted(left_out))} {what}: labelfix wrote that itself (a run or a cache)"
    return (Assumption("files", text),)


def shards_among(names: Iterable[str]) -> list[str]:
    """Return those relative paths that are Parquet shards, in the same order."""
    return [name for name in names if _SHARD.match(name)]


def _check_ids(raw: RawSamples) -> None:
    where = raw.source.path
    if not len(raw.sample_id):
        raise DatasetError(f"{where} has no samples", hint=_FORMS)
    refuse_repeated_ids(
        raw.sample_id,
        str(where),
        "take out the repeated rows, or name a column of unique ids with --id-column",
    )


def _check_classes(raw: RawSamples, class_names: tuple[str | int, ...]) -> None:
    where = raw.source.path
    column = raw.source.columns.get("label")
    held = f"the label column {column!r} of {where}" if column else f"{where}"
    if not class_names:
        raise DatasetError(
            f"{held} has no label at all", hint="choose another column with --label-column"
        )
    if len(class_names) == 1:
        raise DatasetError(
            f"{held} has only one class, {class_names[0]!r}",
            hint="wrong labels can be told only between two classes or more",
        )
