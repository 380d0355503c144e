"""An export in the form of its own manifest of text: only the cells of changed labels differ.

The file is not read and written again: its bytes are copied but for the cells of changed labels and
the lines of rows that are left out. So the delimiter, quotes, line ends, encoding, a byte order
mark, compression, the order of the columns and all other cells stay as they were.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelfix.data.table_text import (
    JSON_SUFFIXES,
    Layout,
    read_layout,
    read_table_text,
    records,
    table_suffix,
)
from labelfix.errors import DatasetError
from labelfix.exports.plan import ExportPlan
from labelfix.types import DatasetSource, Label
from labelfix.utils.files import atomic_path

_NAN = frozenset({b"NaN", b"nan"})  # without quotes; see `dataset_manifest`
_HOLES = re.compile(rb"\.0+(?=\"?$)")  # how pandas writes whole numbers beside holes
_SPACE = re.compile(r"[ \t\r\n]*")
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_DECODER = json.JSONDecoder()


def write_own_text(source: DatasetSource, plan: ExportPlan, to: Path) -> None:
    """Write a CSV, TSV or JSON lines manifest again, with the labels of a plan.

    Raises:
        DatasetError: The manifest has changed since it was read, or its label column cannot hold a
            new label.
        RunError: The place cannot be written to.
    """
    text = read_table_text(source.path)
    data = bytes(text.data)
    if table_suffix(source.path.name) in JSON_SUFFIXES:
        edits = _edits_of_lines(data, source, plan)
    else:
        layout = read_layout(text, table_suffix(source.path.name))
        edits = _edits_of_cells(data, layout, source, plan)
    parts, end = [], 0
    for edit in edits:
        parts += [data[end : edit.start], edit.text]
        end = edit.end
    saved = text.saved(b"".join([*parts, data[end:]]))
    with atomic_path(to) as draft:
        draft.write_bytes(saved)


@dataclass(frozen=True, slots=True)
class _Edit:
    """``text`` takes the place of the bytes from ``start`` to ``end``."""

    start: int
    end: int
    text: bytes


def _check_rows(found: int, source: DatasetSource, plan: ExportPlan) -> None:
    if found != plan.size:
        raise DatasetError(
            f"{source.path} has {found:,} rows, but {plan.size:,} were audited",
            hint="audit it again",
        )


# Delimited text


def _edits_of_cells(
    data: bytes, layout: Layout, source: DatasetSource, plan: ExportPlan
) -> Iterator[_Edit]:
    delimiter, column = layout.delimiter, layout.names.index(source.columns["label"])
    new_labels, left_out = plan.new_labels, frozenset(plan.left_out.tolist())
    rows = records(memoryview(data), delimiter.encode(), layout.start)
    next(rows)  # the names of the columns
    row = -1
    for row, record in enumerate(rows):
        if row in left_out:
            yield _Edit(record.start, record.end, b"")
        elif row in new_labels:
            start, end = record.cells[column]
            like = data[start:end]
            if _is_missing(like):
                like = _first_label(data, layout, column)
            yield _Edit(start, end, _cell(like, new_labels[row], delimiter))
    _check_rows(row + 1, source, plan)


def _is_missing(cell: bytes) -> bool:
    return cell in _NAN or not cell.strip(b'" \t')


def _first_label(data: bytes, layout: Layout, column: int) -> bytes:
    rows = records(memoryview(data), layout.delimiter.encode(), layout.start)
    next(rows)
    cells = (data[slice(*record.cells[column])] for record in rows)
    return next((cell for cell in cells if not _is_missing(cell)), b"")


def _cell(like: bytes, label: Label, delimiter: str) -> bytes:
    """Return a label as it is written in a column with cells like ``like``."""
    text = str(label).encode()
    if isinstance(label, int):
        holes = _HOLES.search(like)
        text += holes.group() if holes else b""
    if like.startswith(b'"') or text in _NAN or set(text) & {*delimiter.encode(), *b'"\r\n'}:
        return b'"' + text.replace(b'"', b'""') + b'"'
    return text


# JSON lines


def _edits_of_lines(data: bytes, source: DatasetSource, plan: ExportPlan) -> Iterator[_Edit]:
    name = source.columns["label"]
    new_labels, left_out = plan.new_labels, frozenset(plan.left_out.tolist())
    row = -1
    for row, (start, end) in enumerate(_lines(data)):
        if row in left_out:
            yield _Edit(start, end, b"")
        elif row in new_labels:
            text = data[start:end].decode("utf-8", "surrogatepass")
            old = json.loads(text).get(name)
            if old is None or old == "":
                old = _first_value(data, name)
            value = _value(old, new_labels[row], source, is_ascii=text.isascii())
            yield _Edit(start, end, _with_value(text, name, value).encode("utf-8", "surrogatepass"))
    _check_rows(row + 1, source, plan)


def _lines(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the lines lie that are not blank."""
    for match in _LINE.finditer(data):
        if match.group().strip():
            yield match.span()


def _first_value(data: bytes, name: str) -> Any:
    values = (json.loads(data[start:end]).get(name) for start, end in _lines(data))
    return next((value for value in values if value is not None and value != ""), None)


def _value(old: Any, label: Label, source: DatasetSource, *, is_ascii: bool) -> str:
    """Return a label as JSON, of the type that ``old`` has."""
    if isinstance(old, float):
        return f"{label}.0"
    if not isinstance(old, bool):
        return json.dumps(label, ensure_ascii=is_ascii)
    if label in ("True", "False"):
        return str(label).lower()
    raise DatasetError(
        f"the label column {source.columns['label']!r} of {source.path} holds true and false, and "
        f"cannot hold {label!r}",
        hint="export another form, such as --format jsonl",
    )


def _with_value(text: str, name: str, value: str) -> str:
    """Return a JSON object with another value for a name, and all else as it was."""
    found = None
    at = _skip(text, text.index("{") + 1)
    is_empty = text[at] == "}"
    while text[at] != "}":
        key, end = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, end) + 1)  # behind the colon
        _, end = _DECODER.raw_decode(text, at)
        if key == name:
            found = at, end  # of a name that is there twice, the last counts
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    if found is not None:
        return text[: found[0]] + value + text[found[1] :]
    comma = "" if is_empty else ", "
    return f"{text[:at].rstrip()}{comma}{json.dumps(name)}: {value}{text[at:]}"


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
