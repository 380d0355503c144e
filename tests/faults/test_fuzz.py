"""Whatever the bytes, every reader gives data or an error with a meaning and a hint.

Files of every kind are damaged, and tables of odd cells are made up. ``LABELFIX_FUZZ_CASES`` says
how many cases the long form tries over all readers; ``pytest -s`` prints what was tried.
"""

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzed_readers import EVERY, read_all
from fuzzing import JSON_BOMBS, check, fuzz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelfix.config import DatasetConfig
from labelfix.data.probabilities import open_pred_probs
from labelfix.errors import LabelfixError
from labelfix.utils.progress import no_progress

CASES = int(os.environ.get("LABELFIX_FUZZ_CASES", "100000"))
"""How many cases the long form tries over all readers."""

IN_SHORT = 8
"""How many cases of each reader the short form tries."""

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries warn of what they find in such files


@pytest.mark.parametrize("kind", EVERY)
def test_damaged_files_are_told(tmp_path: Path, kind: str) -> None:
    readers = EVERY[kind](tmp_path)
    for reader in readers:
        reader.read()
    assert fuzz(readers, IN_SHORT * len(readers), seed=0) == []


def test_json_of_every_form_is_told(tmp_path: Path) -> None:
    for reader in EVERY["runs"](tmp_path):
        if reader.file.suffix != ".parquet":
            good = reader.file.read_bytes()
            faults = [check(reader, bomb + b"\n" + good) for bomb in JSON_BOMBS]
            faults += [check(reader, bomb) for bomb in JSON_BOMBS]
            assert [fault for fault in faults if fault] == []
            reader.file.write_bytes(good)


@pytest.mark.slow
@pytest.mark.parametrize("kind", EVERY)
def test_many_damaged_files_are_told(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "all"
    counts = {}
    for name, make in EVERY.items():
        (folder / name).mkdir(parents=True)
        counts[name] = len(make(folder / name))
    cases = CASES * counts[kind] // sum(counts.values())
    tried = tmp_path / "tried"
    tried.mkdir()
    found = fuzz(EVERY[kind](tried), cases, seed=1)
    sys.stdout.write(f"\n{kind}: {cases:,} cases, {len(found)} foreign exceptions\n")
    assert not found, "\n".join(found[:40])


# Tables that are made up

_NAMES = st.one_of(
    st.sampled_from(["image", "label", "text", "split", "id", "prob:a", "prob:b", "sample_id",
                     "given_label", "file_name", "embedding", "features", "top_classes",
                     "top_probs", ""]),
    st.text(max_size=5),
)  # fmt: skip
_CELLS = st.one_of(
    st.none(), st.text(max_size=8), st.integers(-(2**70), 2**70), st.floats(), st.booleans(),
    st.sampled_from(["", "a", "b", "0.png", "nan", "-1", "0.5", "1e400", "\x00", "=1", '"', "\r"]),
    st.lists(st.integers(0, 3), max_size=3), st.dictionaries(st.text(max_size=3), st.none()),
)  # fmt: skip
_TABLES = st.lists(st.lists(_CELLS, min_size=1, max_size=5), max_size=5)
MADE = settings(
    max_examples=int(os.environ.get("LABELFIX_MADE_TABLES", "12")), deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def is_told(path: Path) -> bool:
    """Return whether both readers of tables give data or an error with a hint."""
    told = True
    for read in (
        lambda: read_all(path, DatasetConfig()),
        lambda: open_pred_probs([path], path.parent, no_progress, force=True),
    ):
        try:
            read()
        except LabelfixError as error:
            told &= bool(str(error) and error.hint)
    return told


@MADE
@given(st.lists(_NAMES, min_size=1, max_size=5), _TABLES, st.sampled_from([",", "\t", ";"]))
def test_made_up_text_is_told(tmp_path: Path, names, rows, sign) -> None:
    lines = [names, *rows]
    text = "\n".join(
        sign.join("" if cell is None else str(cell) for cell in line) for line in lines
    )
    for suffix in ("csv", "tsv"):
        (tmp_path / f"m.{suffix}").write_bytes(text.encode("utf-8", "replace"))
        assert is_told(tmp_path / f"m.{suffix}")
    records = [dict(zip(names, row, strict=False)) for row in rows]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "m.json").write_text(json.dumps(records))
    assert is_told(tmp_path / "m.jsonl")
    assert is_told(tmp_path / "m.json")


_TYPES = st.sampled_from([
    pa.string(), pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.bool_(), pa.binary(),
    pa.list_(pa.float32()), pa.list_(pa.float64(), 2), pa.large_string(), pa.date32(), pa.null(),
    pa.timestamp("ns"), pa.decimal128(5, 2), pa.dictionary(pa.int8(), pa.string()),
    pa.struct([("bytes", pa.binary()), ("path", pa.string())]), pa.map_(pa.string(), pa.int8()),
])  # fmt: skip


@MADE
@given(st.dictionaries(_NAMES, st.tuples(_TYPES, st.booleans()), min_size=1, max_size=5), st.data())
def test_made_up_parquet_is_told(tmp_path: Path, columns, data) -> None:
    count = data.draw(st.integers(0, 4))
    table = {}
    for name, (kind, is_null) in columns.items():
        array = pa.nulls(count, kind)
        table[name] = array if is_null else _filled(kind, count, array)
    pq.write_table(pa.table(table), tmp_path / "m.parquet")
    assert is_told(tmp_path / "m.parquet")


def _filled(kind: pa.DataType, count: int, empty: pa.Array) -> pa.Array:
    """Return an array of some values of a type; an empty one where there are none to make up."""
    for value in ("a", 1, 0.5, b"a", [0.5, 0.5], {"bytes": b"x", "path": "p"}, [("k", 1)], True):
        try:
            return pa.array([value] * count, kind)
        except (pa.ArrowException, TypeError, ValueError, AttributeError):
            continue
    return empty
