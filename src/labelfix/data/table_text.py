"""The text of a table, whatever encoding, compression and delimiter it was saved with.

Text comes out as UTF-8. What was not plain UTF-8 is said, and can be written back as it was.
"""

import bz2
import codecs
import csv
import gzip
import io
import lzma
import mmap
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import pyarrow as pa

from labelfix.data.remote import is_remote
from labelfix.errors import DatasetError
from labelfix.types import Assumption

TEXT_SUFFIXES = {".csv": ",", ".tsv": "\t"}
"""Suffixes of delimited text, with the delimiter."""

JSON_SUFFIXES = frozenset({".jsonl", ".ndjson"})
"""Suffixes of JSON lines."""

RECORDS_SUFFIX = ".json"
"""The suffix of one JSON value, a list of records."""

COMPRESSED_SUFFIXES = frozenset({".gz", ".bz2", ".xz", ".zst", ".lz4"})
"""Suffixes that may follow those of text."""

LIMIT = 4 << 30
"""Bytes of text that a compressed table may hold."""

UNPACKED_PART = 1 << 22
"""Bytes that are unpacked at a time."""

_MAPPED = 64 << 20  # larger files are mapped, not read, where they are plain UTF-8
_CHUNK = 16 << 20
_HEAD = 1 << 16
_ROWS_LOOKED_AT = 50
_SEPARATOR = re.compile(rb'\A"?sep=(.)"?[,;\t]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)
_DELIMITERS = ",;\t|"
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before that of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_COMPRESSIONS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
_BINARY = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook"),
    (b"PAR1", "Parquet"),
    (b"\x89HDF", "HDF5"),
    (b"SQLite format 3", "an SQLite database"),
    (b"ARROW1", "Arrow"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook"),
    (b"%PDF", "a PDF"),
)

Bytes: TypeAlias = bytes | mmap.mmap | memoryview


@dataclass(frozen=True, slots=True, eq=False)
class TableText:
    """The text of a table as UTF-8, and how it was saved.

    Args:
        data: The text, without a byte order mark.
        encoding: Python's name of the encoding.
        mark: The byte order mark, if there was one.
        compression: How it was packed, if it was.
        where: The file, for messages.
    """

    data: memoryview
    encoding: str
    mark: bytes
    compression: str | None
    where: str

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """Return what was taken for granted: an encoding that nothing in the file names."""
        return _assumed_encoding(self.encoding, self.mark, self.where)

    def saved(self, text: bytes) -> bytes:
        """Return other UTF-8 text as the file was saved: encoded, marked and packed likewise.

        Raises:
            DatasetError: The encoding lacks a character.
        """
        try:
            data = text if self.encoding == "utf-8" else text.decode().encode(self.encoding)
        except UnicodeEncodeError as error:
            lacking = error.object[error.start]
            raise DatasetError(
                f"{self.where} is in {self.encoding}, which has no {lacking!r}",
                hint="export another form, such as --format csv, which is UTF-8",
            ) from error
        return _packed(self.mark + data, self.compression)


def _assumed_encoding(encoding: str, mark: bytes, where: str) -> tuple[Assumption, ...]:
    if encoding == "utf-8" or mark:
        return ()
    name = {"cp1252": "Windows-1252", "latin-1": "Latin-1"}.get(encoding, encoding)
    text = f"{where} is not UTF-8 and was read as {name.upper()}; save it as UTF-8 if that is wrong"
    return (Assumption("files", text),)


def table_suffix(name: str) -> str:
    """Return the suffix of a table in lower case, without that of a compression behind it."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix in COMPRESSED_SUFFIXES else path.suffix


def is_text_table(name: str) -> bool:
    """Return whether a file is called like a table of text."""
    suffix = table_suffix(name)
    return suffix in TEXT_SUFFIXES or suffix in JSON_SUFFIXES or suffix == RECORDS_SUFFIX


def read_table_text(path: Path) -> TableText:
    """Return the text of a file.

    Raises:
        DatasetError: It is no text, is damaged, or its encoding cannot be told.
        OSError: It cannot be read.
    """
    return text_of_bytes(_content(path), str(path))


def _content(path: Path) -> Bytes:
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if size <= _MAPPED or is_remote(path):
            return file.read()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def text_of_bytes(data: Bytes, where: str) -> TableText:
    """Return the text that bytes hold, however they are packed and encoded.

    Raises:
        DatasetError: They are no text, are damaged, or their encoding cannot be told.
    """
    head = bytes(data[:16])
    compression = next((name for sign, name in _COMPRESSIONS if head.startswith(sign)), None)
    if compression is not None:
        data = _unpacked(bytes(data), compression, where)
        head = data[:16]
    for sign, what in _BINARY:
        if head.startswith(sign):
            raise DatasetError(
                f"{where} is {what}, not text",
                hint="give it its right ending, or export it as CSV in UTF-8",
            )
    encoding, mark = _encoding_of(data, where)
    inner = memoryview(data)[len(mark) :]
    if encoding != "utf-8":
        try:
            inner = memoryview(bytes(inner).decode(encoding).encode())
        except UnicodeError as error:
            raise _not_text(where, f"it is no {encoding} throughout: {error}") from error
    return TableText(inner, encoding, mark, compression, where)


def _encoding_of(data: Bytes, where: str) -> tuple[str, bytes]:
    head = bytes(data[:4])
    for mark, encoding in _MARKS:
        if head.startswith(mark) and (encoding != "utf-8" or _is_utf8(data)):
            return encoding, mark
    head = bytes(data[:_HEAD])
    if b"\0" in head:
        wide = _wide_encoding(head)
        if wide is not None:
            return wide, b""
        raise _not_text(where, "it holds bytes of zero")
    return ("utf-8" if _is_utf8(data) else _one_byte_encoding(bytes(data), where)), b""


def _is_utf8(data: Bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), _CHUNK):
            decoder.decode(data[start : start + _CHUNK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _wide_encoding(head: bytes) -> str | None:
    """Return the encoding of two or four bytes a character that text without a mark is in.

    Line ends and delimiters are below 128 in every script, so that their zeros lie on one side.
    """
    head = head[: len(head) // 4 * 4]
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            continue
        first = re.split(r"[\r\n]", text, maxsplit=1)[0]
        if "\0" not in text and any(sign in first for sign in _DELIMITERS + "{["):
            return encoding
    return None


def _one_byte_encoding(data: bytes, where: str) -> str:
    """Return Windows-1252 or Latin-1 for Western text, in which letters beyond ASCII are rare.

    Raises:
        DatasetError: It is UTF-8 with a few damaged places, or in another script.
    """
    text = data.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    if sum(char > "\x7f" for char in text) > 2 * damaged:
        line = 1 + text[: text.index("\ufffd")].count("\n")
        raise DatasetError(
            f"line {line:,} of {where} holds bytes that are not UTF-8, unlike the rest",
            hint="mend that line, or save the file as UTF-8 again",
        )
    runs = re.findall(rb"[\x80-\xff]+", data)
    if sum(len(run) for run in runs if len(run) > 1) * 2 > sum(map(len, runs)):
        raise _not_text(where, "it is neither UTF-8 nor in Windows-1252")
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _not_text(where: str, why: str) -> DatasetError:
    return DatasetError(f"cannot read {where} as text: {why}", hint="save it as UTF-8 text")


def _unpacked(data: bytes, compression: str, where: str) -> bytes:
    parts, size = list[bytes](), 0
    with _explained(where, compression), _opened(data, compression) as file:
        # part by part: pyarrow takes memory for all that is asked for before it reads any
        while size <= LIMIT and (part := file.read(UNPACKED_PART)):
            parts.append(part)
            size += len(part)
    if size > LIMIT:
        raise DatasetError(
            f"{where} unpacks to more than {LIMIT >> 30} GiB",
            hint="unpack it first, and give the file in it",
        )
    return b"".join(parts)


@contextmanager
def _opened(data: bytes, compression: str) -> Iterator[IO[bytes]]:
    raw = io.BytesIO(data)
    if compression in ("zstd", "lz4"):
        with pa.CompressedInputStream(raw, compression) as file:
            yield file
        return
    openers = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
    with openers[compression](raw, "rb") as file:  # type: ignore[operator]
        yield file


@contextmanager
def _explained(where: str, compression: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DatasetError(
            f"{where} is damaged: it cannot be unpacked as {compression}: {error}",
            hint="write or download it again",
        ) from error


def _packed(data: bytes, compression: str | None) -> bytes:
    if compression is None:
        return data
    if compression in ("zstd", "lz4"):
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, compression) as file:
            file.write(data)
        return bytes(sink.getvalue())
    packers = {"gzip": lambda raw: gzip.compress(raw, mtime=0), "bz2": bz2.compress,
               "xz": lzma.compress}  # fmt: skip
    return packers[compression](data)


# The lines of delimited text


@dataclass(frozen=True, slots=True)
class Layout:
    """How the lines of a delimited table are laid out.

    Args:
        names: What its columns are called.
        delimiter: What lies between cells.
        start: The byte at which the line of names begins.
        assumptions: A delimiter that the name of the file does not tell.
    """

    names: tuple[str, ...]
    delimiter: str
    start: int
    assumptions: tuple[Assumption, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """Where a row of a delimited file lies: all of it, and its cells."""

    start: int
    end: int
    cells: list[tuple[int, int]]


def read_layout(text: TableText, suffix: str) -> Layout:
    """Return how a delimited table is laid out.

    Excel's line ``sep=;`` tells the delimiter; else it is the one of the suffix, unless another one
    cuts the first rows into equally many cells and that does not.

    Raises:
        DatasetError: There is no line of names.
    """
    head = bytes(text.data[:_HEAD])
    usual, said = TEXT_SUFFIXES[suffix], _SEPARATOR.match(head)
    if said:
        delimiter, start = said.group(1).decode("latin-1"), said.end()
        is_told = delimiter.isprintable() or delimiter == "\t"
        if not is_told or delimiter.isalnum() or delimiter in "\" '":
            raise DatasetError(
                f"the first line of {text.where} asks for {delimiter!r} between cells",
                hint="write sep=, or sep=; or leave that line out",
            )
    else:
        start, is_told = 0, False
        delimiter = _delimiter_of(head.decode("utf-8", "ignore"), usual)
    first = next(records(text.data, delimiter.encode(), start), None)
    if first is None:
        raise DatasetError(f"{text.where} is empty", hint="its first line has to name the columns")
    cells = [bytes(text.data[begin:end]).decode() for begin, end in first.cells]
    assumptions: tuple[Assumption, ...] = ()
    if delimiter != usual and not is_told:
        what = f"{_NAMES[delimiter]} are taken for what separates the cells of {text.where}"
        assumptions = (Assumption("columns", f'{what}; a first line "sep=," decides otherwise'),)
    return Layout(tuple(map(_cell_text, cells)), delimiter, first.start, assumptions)


@dataclass(frozen=True, slots=True)
class Header:
    """The line of names of a delimited file whose rows are read by somebody else.

    Args:
        names: What its columns are called.
        delimiter: What lies between cells.
        encoding: Python's name of the encoding; it skips a byte order mark.
        assumptions: An encoding that nothing in the file names.
    """

    names: tuple[str, ...]
    delimiter: str
    encoding: str
    assumptions: tuple[Assumption, ...]


_SKIPS_MARK = {"utf-8": "utf-8-sig", "utf-16-le": "utf-16", "utf-16-be": "utf-16",
               "utf-32-le": "utf-32", "utf-32-be": "utf-32"}  # fmt: skip


def read_header(path: Path) -> Header:
    """Return the line of names of a delimited file, and how its rows are to be read.

    Raises:
        DatasetError: The file is empty, has no line of names, or its encoding cannot be told.
        OSError: It cannot be read.
    """
    encoding, mark = _encoding_of(_content(path), str(path))
    assumptions = _assumed_encoding(encoding, mark, str(path))
    encoding = _SKIPS_MARK[encoding] if mark else encoding
    try:
        names, delimiter = _names_in(path, encoding)
    except csv.Error as error:
        raise DatasetError(
            f"the first line of {path} does not name columns: {error}",
            hint="its first line has to name the columns",
        ) from error
    except UnicodeError as error:
        raise _not_text(str(path), f"it is no {encoding} throughout: {error}") from error
    if not names:
        raise DatasetError(f"{path} is empty", hint="its first line has to name the columns")
    return Header(tuple(names), delimiter, encoding, assumptions)


def _names_in(path: Path, encoding: str) -> tuple[list[str], str]:
    """Return the names in the first line of a file, and what lies between them."""
    with path.open(encoding=encoding, newline="") as file:
        first = file.readline()
        delimiter = TEXT_SUFFIXES[path.suffix.lower()]
        if delimiter not in first:  # spreadsheets write other delimiters into .csv files
            delimiter = next((sign for sign in "\t;," if sign in first), delimiter)
        file.seek(0)
        return next(csv.reader(file, delimiter=delimiter), []), delimiter


def records(data: memoryview, delimiter: bytes, start: int = 0) -> Iterator[Record]:
    """Yield the rows as Arrow reads them: a quote counts at the start of a cell only."""
    sign = re.escape(delimiter)
    pattern = rb'(?:(?>"[^"]*(?:""[^"]*)*"))?[^%b\r\n]*(%b|\r\n|\r|\n|\Z)' % (sign, sign)
    cells: list[tuple[int, int]] = []
    for match in re.compile(pattern).finditer(data, start):
        cells.append((match.start(), match.start(1)))
        if match.group(1) == delimiter:
            continue
        if len(cells) > 1 or cells[0][0] < cells[0][1]:  # else the line is empty: no row
            yield Record(start, match.end(), cells)
        start, cells = match.end(), []


def _cell_text(cell: str) -> str:
    if not cell.startswith('"'):
        return cell
    inside, _, behind = cell[1:].rpartition('"')
    return inside.replace('""', '"') + behind


def _delimiter_of(head: str, usual: str) -> str:
    """Return the sign that cuts the most of the first rows into as many cells as the first."""
    scores = {sign: _fit(head, sign) for sign in _DELIMITERS}
    if scores[usual] >= (1.0, 2):
        return usual
    best = max(_DELIMITERS, key=lambda sign: (scores[sign], sign == usual))
    return best if scores[best][1] > 1 else usual


def _fit(head: str, delimiter: str) -> tuple[float, int]:
    """Return the share of rows with as many cells as the first, and how many it has."""
    try:
        reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
        sizes = [len(row) for _, row in zip(range(_ROWS_LOOKED_AT), reader, strict=False) if row]
    except csv.Error:
        return 0.0, 0
    if not sizes or sizes[0] < 2:
        return 0.0, 0
    whole = sizes[:-1] or sizes  # the last may be cut off
    return Counter(whole)[sizes[0]] / len(whole), sizes[0]


def lines_of(text: TableText) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text that are not blank, numbered from 1."""
    stream = io.TextIOWrapper(io.BytesIO(text.data), encoding="utf-8", newline=None)
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield number, line
