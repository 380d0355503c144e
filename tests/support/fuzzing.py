"""Files damaged in every way, and what readers may say of them: errors with a meaning only."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.errors import LabelfixError, UnreadableSample
from labelfix.report.schema import DIGEST_KEY

JSON_BOMBS = (
    b"[" * 3000, b'{"a":' * 3000, b"1" * 5000, b"1e999", b"NaN", b'"\\ud800"', b"\xff\xfe{", b"{}",
    b"[]", b"null", b'""', b"-1", b"true", b'{"":[]}', b"\xef\xbb\xbf{}", b"1" * 400, b'{"a":1}',
)  # fmt: skip


TEXT = (".csv", ".tsv", ".json", ".jsonl", ".toml")


@dataclass(frozen=True)
class Reader:
    """A reader and a good file for it."""

    name: str
    file: Path
    read: Callable[[], object]


def damaged(good: bytes, rng: random.Random, *, is_text: bool) -> bytes:
    """Return a file with some damage: bytes flipped, cut, doubled, or replaced by nonsense."""
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1) if data else 0
        size = rng.choice((1, 1, 4, 8, 60))
        how = rng.randrange(7 if is_text else 5)
        if how == 0 and data:
            data[at - 1 if at else 0] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[at : at + size] = rng.randbytes(size)
        elif how == 2:
            del data[at : at + size]
        elif how == 3:
            data[at:at] = data[max(0, at - size) : at]
        elif how == 4:
            data[at : at + 8] = rng.choice((b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b""))
        else:
            swap_value(data, rng)
    return bytes(data)


def swap_value(data: bytearray, rng: random.Random) -> None:
    """Put other JSON in the place of a value, whole line or word."""
    ends = [place for place, sign in enumerate(data) if sign in b':,[]{}\n"']
    if len(ends) > 1:
        first = rng.randrange(len(ends) - 1)
        start, stop = ends[first] + 1, ends[min(first + rng.choice((1, 2)), len(ends) - 1)]
        data[start : max(start, stop)] = rng.choice(JSON_BOMBS)


def swap_metadata(path: Path, rng: random.Random) -> None:
    """Write a Parquet file again with the JSON of its metadata, or its schema, damaged."""
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata or {})
    metadata.pop(DIGEST_KEY, None)  # what comes after the comparison is to be reached
    if metadata and rng.random() < 0.7:
        key = rng.choice(list(metadata))
        value = bytearray(metadata[key])
        swap_value(value, rng)
        metadata[key] = bytes(value)
    else:
        name = rng.choice(table.column_names)
        place = table.column_names.index(name)
        odd = rng.choice((
            pa.nulls(len(table)), pa.array([b"\xff\xfe"] * len(table)).cast(pa.binary()),
            pa.array([float("nan")] * len(table)), pa.array([[-1]] * len(table)),
            pa.array([{"a": 1}] * len(table)), pa.array(["zebra"] * len(table)),
            pa.array([2**62] * len(table)), pa.array([[0.5]] * len(table), pa.list_(pa.float32())),
            pa.array([[]] * len(table), pa.list_(pa.float32())),
            pa.StringArray.from_buffers(
                len(table), pa.array(np.arange(len(table) + 1, dtype=np.int32)).buffers()[1],
                pa.py_buffer(b"\xff" * len(table)),
            ),
        ))  # fmt: skip
        table = (
            table.remove_column(place)
            if rng.random() < 0.2 and len(table.column_names) > 1
            else table.set_column(place, name, odd)
        )
    pq.write_table(table.replace_schema_metadata(metadata), path)


def check(reader: Reader, data: bytes) -> str | None:
    """Return what came out of a reader that should not, if anything did."""
    try:
        reader.file.write_bytes(data)
        reader.read()
    except (LabelfixError, UnreadableSample) as error:
        if isinstance(error, LabelfixError) and not error.hint:
            return f"{reader.name}: no hint: {error}"
    except Exception as error:
        return f"{reader.name}: {type(error).__name__}: {str(error)[:200]}"
    return None


def spoil(reader: Reader, good: bytes, rng: random.Random) -> str | None:
    """Damage a file once, read it, and return what came out that should not."""
    is_parquet = reader.file.suffix == ".parquet"
    if is_parquet and rng.random() < 0.5:
        reader.file.write_bytes(good)
        swap_metadata(reader.file, rng)
        return check(reader, reader.file.read_bytes())
    is_text = reader.file.suffix in TEXT
    return check(reader, damaged(good, rng, is_text=is_text))


def fuzz(readers: list[Reader], cases: int, seed: int) -> list[str]:
    """Return what came out of readers that should not, of so many cases over all of them."""
    rng, found = random.Random(seed), []
    good = [reader.file.read_bytes() for reader in readers]
    for case in range(cases):
        which = case % len(readers)
        fault = spoil(readers[which], good[which], rng)
        readers[which].file.write_bytes(good[which])
        if fault is not None:
            found.append(f"case {case}: {fault}")
    return found
