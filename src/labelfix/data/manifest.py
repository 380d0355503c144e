"""A manifest: a table of image paths, or of texts, and labels (CSV, TSV, JSON lines or JSON).

Paths are relative to the manifest's folder, and lead out of it only with ``--outside-files``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from labelfix.config import DatasetConfig
from labelfix.data.columns import (
    LABEL_NAMES,
    TEXT_ROLES,
    RawSamples,
    TableColumns,
    choose_columns,
    usable_ids,
    usable_splits,
)
from labelfix.data.files import (
    ABSENT,
    FileTimes,
    fingerprint,
    is_address,
    links_not_followed,
    mended_paths,
    normal_paths,
    stat_files,
)
from labelfix.data.json_records import is_label_studio, json_of, rows_of_label_studio, rows_of_list
from labelfix.data.labels import (
    LabelColumn,
    blank_to_null,
    join_labels,
    labels_of_column,
    labels_of_text,
)
from labelfix.data.remote import RemoteImages, below, find_remote, is_remote, times_among
from labelfix.data.stores import FileImages
from labelfix.data.table_text import (
    JSON_SUFFIXES,
    RECORDS_SUFFIX,
    Layout,
    TableText,
    lines_of,
    read_layout,
    read_table_text,
    table_suffix,
)
from labelfix.data.texts import (
    MODALITY,
    TextColumns,
    digest_of_texts,
    find_text_columns,
    text_store,
)
from labelfix.data.vectors import MODALITY as OF_VECTORS
from labelfix.data.vectors import NoSamples
from labelfix.errors import DatasetError
from labelfix.types import Assumption, DatasetSource
from labelfix.utils.progress import OnProgress, Progress

_NAN = ["", "NaN", "nan"]  # unquoted: how numpy and pandas write a missing number
_ONE_HOT = "\0one of several columns"  # stands for the label, while it is looked for
_CHUNK = 1 << 16
_HEAD = 1000  # lines of JSON whose keys are taken for the columns
_BLOCK = 1 << 20  # bytes that Arrow parses at a time; a row has to fit
_LONGEST_ROW = (1 << 31) - 1


@dataclass(frozen=True, slots=True, eq=False)
class PathTable:
    """A table of image paths or texts, from whatever file it was read.

    Args:
        source: The DATA that the user named, absolute.
        root: The folder that the paths are relative to.
        columns: What its columns are called.
        image: ``(N,)`` text, the paths as written; none where the samples are texts.
        label: ``(N,)`` int64 or text.
        id: ``(N,)`` text of the id column, if there is one.
        split: ``(N,)`` text of the split column, if there is one.
        follow_links: Whether images outside the folder are read as well.
        assumptions: What was taken for granted when it was read.
        texts: ``(N,)`` text each, the columns of texts, if there are any.
        may_lack_images: Whether images are only there to be shown.
    """

    source: Path
    root: Path
    columns: TableColumns
    image: pa.StringArray
    label: pa.Array
    id: pa.StringArray | None
    split: pa.StringArray | None
    follow_links: bool = False
    assumptions: tuple[Assumption, ...] = ()
    texts: tuple[pa.Array, ...] = ()
    may_lack_images: bool = False


def read_manifest(path: Path, config: DatasetConfig, on_progress: OnProgress) -> RawSamples:
    """Read a manifest of text: CSV, TSV, JSON lines or a JSON list, packed or not.

    Raises:
        DatasetError: The file or its columns cannot be used, or most paths lead out of its folder.
    """
    table = table_of_text(read_table_text(path), path, path.parent, config, on_progress)
    if table.columns.texts:
        return samples_of_texts(table)
    table = replace(table, may_lack_images=config.features is not None)
    return samples_of_paths(table, on_progress)


def samples_of_rows(table: PathTable) -> RawSamples:
    """Return samples of which the table holds labels alone; their ids are rows, from 0."""
    split, columns = usable_splits(table.split, table.columns)
    ids, columns = usable_ids(table.id, columns, str(table.source))
    count = len(table.label)
    if ids is None:
        ids = pa.array([f"{table.source.name}:{row}" for row in range(count)], pa.string())
    return RawSamples(
        sample_id=ids,
        split=pa.nulls(count, pa.string()) if split is None else blank_to_null(split),
        label=table.label,
        store=NoSamples(count),
        source=DatasetSource("manifest", table.source, columns.by_role()),
        fingerprint=digest_of_texts([ids]),
        assumptions=table.assumptions + columns.assumptions,
        modality=OF_VECTORS,
    )


def table_of_text(
    text: TableText, source: Path, root: Path, config: DatasetConfig, on_progress: OnProgress
) -> PathTable:
    """Return the table that a text holds; the name of the file tells its form.

    Args:
        text: The text.
        source: The DATA that the user named.
        root: The folder that its paths are relative to.
        config: The columns that the user named.
        on_progress: Takes steps where there are many rows.

    Raises:
        DatasetError: The text or its columns cannot be used.
    """
    suffix = table_suffix(text.where)
    if suffix in JSON_SUFFIXES:
        table = _table_of_rows(_json_lines(text), text, config, on_progress)
    elif suffix == RECORDS_SUFFIX:
        table = _table_of_json(text, root, config, on_progress)
    else:
        table = _table_of_cells(text, config)
    said = text.assumptions + table.assumptions
    return replace(
        table, source=source, root=root, assumptions=said, follow_links=config.outside_files
    )


def samples_of_paths(table: PathTable, on_progress: OnProgress) -> RawSamples:
    """Find the images that a table lists; a missing file is a row that cannot be read.

    Raises:
        DatasetError: Most paths lead out of the folder, or none of the files is there.
    """
    where = str(table.source)
    if not table.columns.image:
        return samples_of_rows(table)
    far = is_remote(table.root)
    paths = blank_to_null(table.image)
    paths = normal_paths(table.root, below(table.root, paths) if far else paths)
    if far:
        times = times_among(find_remote(table.root), paths.to_pylist())
        escaped, mended = list[int](), tuple[Assumption, ...]()
    else:
        follow = table.follow_links
        times, escaped = stat_files(table.root, paths, on_progress, follow_links=follow)
        paths, times, mended = mended_paths(table.root, paths, times, follow_links=follow)
    escaped = [row for row in escaped if times.size[row] == ABSENT and not _is_address(table, row)]
    assumptions = links_not_followed(
        table.source, table.image.take(pa.array(escaped, pa.int64())), len(paths)
    )
    if not table.may_lack_images and len(paths) and bool(np.all(times.size == ABSENT)):
        raise _none_there(table, paths, times)
    split, columns = usable_splits(table.split, table.columns)
    ids, columns = usable_ids(table.id, columns, where)
    if ids is None and paths.null_count:
        raise DatasetError(
            f"{paths.null_count:,} rows of {where} have neither an image path nor an id",
            hint=f"fill the column {columns.image!r}, or name a column of ids with --id-column",
        )
    return RawSamples(
        sample_id=paths if ids is None else ids,
        split=pa.nulls(len(paths), pa.string()) if split is None else blank_to_null(split),
        label=table.label,
        store=RemoteImages(table.root, paths)
        if far
        else FileImages(table.root, paths.cast(pa.binary()), follow_links=table.follow_links),
        source=DatasetSource(
            "manifest", table.source, columns.by_role(), follow_links=table.follow_links
        ),
        fingerprint=fingerprint(paths, times),
        assumptions=table.assumptions + columns.assumptions + assumptions + mended,
    )


def samples_of_texts(table: PathTable) -> RawSamples:
    """Return the texts that a table holds; a row without a text cannot be read.

    Raises:
        DatasetError: A column holds no text at all, or numbers.
    """
    where, name = str(table.source), table.source.name
    store = text_store(table.texts, table.columns.texts, where)
    split, columns = usable_splits(table.split, table.columns)
    ids, columns = usable_ids(table.id, columns, where)
    rows = (f"{name}:{row}" for row in range(len(store)))
    return RawSamples(
        sample_id=pa.array(rows, pa.string()) if ids is None else ids,
        split=pa.nulls(len(store), pa.string()) if split is None else blank_to_null(split),
        label=table.label,
        store=store,
        source=DatasetSource("manifest", table.source, columns.by_role()),
        fingerprint=digest_of_texts(table.texts),
        assumptions=table.assumptions + columns.assumptions,
        modality=MODALITY,
    )


def _is_address(table: PathTable, row: int) -> bool:
    return is_address(table.image[row].as_py() or "")


def _none_there(table: PathTable, paths: pa.StringArray, times: FileTimes) -> DatasetError:
    first = next((path for path in paths.to_pylist() if path is not None), "")
    if is_address(first):
        return DatasetError(
            f"the images that {table.source} lists are addresses, such as {first[:200]}",
            hint="labelfix reads no images from the network: download them, and list their paths",
        )
    return DatasetError(
        f"none of the {len(times.size):,} images that {table.source} lists is there, "
        f"for example {table.root / first}",
        hint=f"column {table.columns.image!r} has to hold paths relative to the manifest's "
        "folder; choose another with --image-column",
    )


def _table_of_cells(text: TableText, config: DatasetConfig) -> PathTable:
    layout = read_layout(text, table_suffix(text.where))
    names = list(layout.names)
    data = pa.py_buffer(text.data[layout.start :])

    def cells(wanted: Sequence[str]) -> dict[str, pa.StringArray]:
        return _read_cells(data, layout.names, layout.delimiter, list(wanted), text.where)

    texts = find_text_columns(names, config, text.where, cells)
    try:
        columns = choose_columns(names, config, text.where, texts=texts.names)
    except DatasetError:
        table = _table_of_one_hot(text, layout, config, texts)
        if table is None:
            raise
        return table
    held = cells(list(dict.fromkeys(columns.by_role().values())))
    return PathTable(
        source=Path(text.where),
        root=Path(text.where).parent,
        columns=columns,
        image=held[columns.image] if columns.image else pa.array([], pa.string()),
        label=labels_of_text(held[columns.label]),
        id=held[columns.id] if columns.id else None,
        split=held[columns.split] if columns.split else None,
        assumptions=layout.assumptions + texts.assumptions,
        texts=tuple(held[name] for name in columns.texts),
    )


def _table_of_one_hot(
    text: TableText, layout: Layout, config: DatasetConfig, texts: TextColumns
) -> PathTable | None:
    """Return a table with a column of 0 and 1 for each class; ``None`` if it is none.

    Raises:
        DatasetError: There are such columns, but not one 1 in each row.
    """
    names = list(layout.names)
    plain = {name.strip().casefold() for name in names}
    if config.label_column is not None or any(plain.intersection(tier) for tier in LABEL_NAMES):
        return None
    try:
        columns = choose_columns(
            [*names, _ONE_HOT], _named_label(config), text.where, texts=texts.names
        )
    except DatasetError:
        return None
    roles = {role: name for role, name in columns.by_role().items() if role != "label"}
    others = [name for name in names if name and name not in roles.values()]
    data = pa.py_buffer(text.data[layout.start :])
    wanted = list(dict.fromkeys([*roles.values(), *others]))
    held = _read_cells(data, layout.names, layout.delimiter, wanted, text.where)
    is_one = {name: _ones(held[name]) for name in others if names.count(name) == 1}
    classes = {name: ones for name, ones in is_one.items() if ones is not None}
    if len(classes) < 2:
        return None
    ones = np.stack(list(classes.values()))
    if not bool(np.all(ones.sum(axis=0) == 1)):
        row = int(np.flatnonzero(ones.sum(axis=0) != 1)[0])
        raise DatasetError(
            f"the columns {', '.join(classes)} of {text.where} hold 0 and 1, but row {row + 1} has "
            f"{int(ones[:, row].sum())} of 1, not one",
            hint="write one column of labels, one label an image, and name it with --label-column",
        )
    label = pa.array(list(classes), pa.string()).take(pa.array(ones.argmax(axis=0)))
    said = f"the labels are the names of the {len(classes)} columns that hold one 1 in each row"
    return PathTable(
        source=Path(text.where),
        root=Path(text.where).parent,
        columns=replace(columns, label=""),
        image=held[columns.image] if columns.image else pa.array([], pa.string()),
        label=label,
        id=held[columns.id] if columns.id else None,
        split=held[columns.split] if columns.split else None,
        assumptions=(
            *layout.assumptions,
            *texts.assumptions,
            Assumption("columns", f"{said}; --label-column names another column"),
        ),
        texts=tuple(held[name] for name in columns.texts),
    )


def _named_label(config: DatasetConfig) -> DatasetConfig:
    return replace(config, label_column=_ONE_HOT)


def _ones(values: pa.StringArray) -> NDArray[np.bool_] | None:
    """Return ``(N,)`` where a column of 0 and 1 is 1; ``None`` if it holds anything else."""
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(values))
    is_one = pc.is_in(plain, pa.array(["1", "1.0", "true"]))
    is_zero = pc.is_in(plain, pa.array(["0", "0.0", "false"]))
    if not len(values) or not pc.all(pc.or_(is_one, is_zero)).as_py():
        return None
    ones: NDArray[np.bool_] = is_one.to_numpy(zero_copy_only=False)
    return ones


def _read_cells(
    data: pa.Buffer, names: tuple[str, ...], delimiter: str, wanted: list[str], where: str
) -> dict[str, pa.StringArray]:
    """Return some columns of delimited text that begins with the line of names.

    Raises:
        DatasetError: A row has another number of cells than the line of names.
    """
    block = _BLOCK
    while True:
        try:
            table = pacsv.read_csv(
                pa.BufferReader(data),
                read_options=pacsv.ReadOptions(column_names=names, block_size=block),
                parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pa.string()),
                    null_values=_NAN,
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            break
        except (pa.ArrowException, ValueError) as error:
            if "straddl" in str(error) and block < min(data.size, _LONGEST_ROW):
                block = min(16 * block, _LONGEST_ROW)
                continue
            raise DatasetError(
                f"cannot read {where}: {' '.join(str(error).split())[:300]}",
                hint="save it as UTF-8 text with the same number of fields on every line",
            ) from error
    return {name: _one_array(table[name]).slice(1) for name in wanted}  # without the names


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays([pa.array([], column.type), *column.chunks])


def _table_of_json(
    text: TableText, root: Path, config: DatasetConfig, on_progress: OnProgress
) -> PathTable:
    value = json_of(bytes(text.data), text.where)
    if not is_label_studio(value):
        return _table_of_rows(rows_of_list(value, text.where), text, config, on_progress)
    rows, assumptions = rows_of_label_studio(value, text.where, root)
    named = replace(config, image_column="image", label_column="choice")
    table = _table_of_rows(iter(rows), text, named, on_progress)
    return replace(table, assumptions=assumptions + table.assumptions)


def _table_of_rows(
    rows: Iterator[dict[str, Any]], text: TableText, config: DatasetConfig, on_progress: OnProgress
) -> PathTable:
    where = text.where
    head = list(islice(rows, _HEAD))
    if not head:
        raise DatasetError(f"{where} is empty", hint="each line has to hold one sample")
    names = list(dict.fromkeys(name for row in head for name in row))
    found = find_text_columns(names, config, where, lambda some: _head_cells(head, some))
    columns = choose_columns(names, config, where, texts=found.names)
    about_label = LabelColumn(columns.label, where)
    texts: dict[str, list[pa.Array]] = {role: [] for role in ("image", "id", "split", *TEXT_ROLES)}
    labels: list[pa.Array] = []
    rows = chain(head, rows)
    done = 0
    while chunk := list(islice(rows, _CHUNK)):
        labels.append(labels_of_column(_json_labels(chunk, about_label), about_label))
        for role, name in columns.by_role().items():
            if role != "label":
                texts[role].append(_json_text(chunk, name, where))
        done += len(chunk)
        on_progress(Progress("reading the manifest", done, None, "rows"))
    return PathTable(
        source=Path(where),
        root=Path(where).parent,
        columns=columns,
        image=pa.concat_arrays(texts["image"] or [pa.array([], pa.string())]),
        label=join_labels(labels, about_label),
        id=pa.concat_arrays(texts["id"]) if texts["id"] else None,
        split=pa.concat_arrays(texts["split"]) if texts["split"] else None,
        follow_links=config.outside_files,
        assumptions=found.assumptions,
        texts=tuple(pa.concat_arrays(texts[role]) for role in TEXT_ROLES if texts[role]),
    )


def _head_cells(head: list[dict[str, Any]], names: Sequence[str]) -> dict[str, pa.Array]:
    """Return the first cells of columns as text, those of other kinds left empty."""
    cells = {name: [row.get(name) for row in head] for name in names}
    return {
        name: pa.array(
            [
                value.encode("utf-8", "replace").decode() if isinstance(value, str) else None
                for value in values
            ],
            pa.string(),
        )
        for name, values in cells.items()
    }


def _json_lines(text: TableText) -> Iterator[dict[str, Any]]:
    for number, line in lines_of(text):
        row = json_of(line, f"line {number} of {text.where}", "each line has to be one JSON object")
        if not isinstance(row, dict):
            raise DatasetError(
                f"line {number} of {text.where} is not a JSON object",
                hint='write each line like {"image": "a.jpg", "label": "cat"}',
            )
        yield row


def _json_labels(rows: list[dict[str, Any]], column: LabelColumn) -> pa.Array:
    try:
        return pa.array([row.get(column.name) for row in rows])
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise column.fault(
            f"cannot be read as one kind of label: {error}",
            "write all labels as text, or all as integers",
        ) from error


def _json_text(rows: list[dict[str, Any]], name: str, where: str) -> pa.StringArray:
    values = [row.get(name) for row in rows]
    odd = next((value for value in values if isinstance(value, (dict, list))), None)
    try:
        if odd is None:
            return pa.array(
                [None if value is None else str(value) for value in values], pa.string()
            )
    except UnicodeError as error:
        raise DatasetError(
            f"column {name!r} of {where} holds text that is no Unicode: {error}",
            hint="rename the files to names in UTF-8",
        ) from error
    raise DatasetError(
        f"column {name!r} of {where} holds {odd!r}, which is no text",
        hint="write plain text, or name other columns",
    )
