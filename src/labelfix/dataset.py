"""Open a labelled data set, whatever its form.

::

    a folder of class folders     labels are the names of the folders
    a manifest                    .csv .tsv .jsonl .ndjson .parquet: image paths and labels
    Parquet                       one file or a folder of shards, with the image bytes inside

The rooms ``dataset_folder``, ``dataset_manifest`` and ``dataset_parquet`` read one form each; the
checks that are common to all are here.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from labelfix.config import DatasetConfig
from labelfix.dataset_columns import RawSamples, refuse_repeated_ids
from labelfix.dataset_files import find_files, refuse_outer_shards, text_of_paths
from labelfix.dataset_folder import has_image_files, read_folder
from labelfix.dataset_labels import (
    LabelColumn,
    encode_labels,
    look_alikes,
    refuse_no_classes,
    without_blanks,
    without_missing,
)
from labelfix.dataset_manifest import JSON_SUFFIXES, TEXT_SUFFIXES, read_manifest
from labelfix.dataset_parquet import read_parquet
from labelfix.errors import DatasetError
from labelfix.files import refuse_special_file
from labelfix.records import Assumption, DatasetSource, LabeledDataset, OnProgress, no_progress
from labelfix.splits import assumed_roles, check_named, quoted

_FORMS = "give a folder of class folders, a manifest (.csv .tsv .jsonl .parquet) or Parquet files"
_PARQUET_SUFFIX = ".parquet"
_TEXT_TABLE = re.compile(r"(?i)\.(csv|tsv|txt|json|jsonl|ndjson)(?:\.[a-z0-9]+)?\Z")
_SHARD = re.compile(
    r"(?i)(?:[^_/][^/]*/)*[^_/][^/]*\.parquet\Z"
)  # names with _ are a writer's own notes


def open_dataset(
    path: Path, config: DatasetConfig, on_progress: OnProgress = no_progress
) -> LabeledDataset:
    """Open a labelled data set without reading its images.

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
        raw = _read(path, config, on_progress)
    except OSError as error:
        raise DatasetError(
            f"cannot read {error.filename or path}: {error.strerror or error}",
            hint="make it readable, or choose another data set",
        ) from error
    _check_ids(raw)
    check_named(raw.split, config.test_split, str(path))
    raw = _with_settled_labels(raw, config)
    codes, class_names = encode_labels(raw.label)
    _check_classes(raw, class_names)
    return LabeledDataset(
        sample_id=raw.sample_id,
        split=raw.split,
        given_label=codes,
        class_names=class_names,
        images=raw.images,
        source=raw.source,
        fingerprint=raw.fingerprint,
        assumptions=raw.assumptions
        + assumed_roles(raw.split, config.test_split)
        + look_alikes(class_names),
        test_splits=config.test_split,
        label_missing=config.label_missing,
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
    if path.is_dir():
        return _read_folder(path, config, on_progress)
    if not path.exists():
        raise DatasetError(f"{path} does not exist", hint=_FORMS)
    refuse_special_file(path, DatasetError)
    suffix = path.suffix.lower()
    if suffix == _PARQUET_SUFFIX:
        return read_parquet(path, [path.name], config, on_progress)
    if suffix in TEXT_SUFFIXES or suffix in JSON_SUFFIXES:
        return read_manifest(path, config, on_progress)
    raise DatasetError(f"cannot tell from its name what {path} is", hint=_FORMS)


def _read_folder(path: Path, config: DatasetConfig, on_progress: OnProgress) -> RawSamples:
    """Read a folder of Parquet shards if it has some and no images, else a class folder."""
    left_out: list[str] = []
    follow = config.follow_links
    files, times, links = find_files(path, on_progress, left_out, follow_links=follow)
    names = text_of_paths(files)
    shards = shards_among(names.to_pylist())
    if shards and not has_image_files(names):
        refuse_outer_shards(path, names.filter(pa.array(links.files)))
        raw = read_parquet(path, shards, config, on_progress)
    else:
        raw = read_folder(
            path, files, times, links, test_split=config.test_split, follow_links=follow
        )
    return replace(raw, assumptions=raw.assumptions + _said_of(left_out))


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
