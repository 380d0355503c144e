import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_row import ROW
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.benchmark.cost import device_name, measured, peak_gib, source_commit
from labelfix.benchmark.rows import BenchmarkRow, append_rows, read_rows
from labelfix.errors import BenchmarkError

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COSTS = st.floats(0, 1e9)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
ROWS = st.builds(
    BenchmarkRow,
    task=NAMES.filter(bool),
    task_version=st.integers(0, 99),
    method=NAMES.filter(bool),
    seed=st.integers(0, 2**32),
    samples=st.integers(0, 10**9),
    figures=st.dictionaries(NAMES, NUMBERS, max_size=4),
    standard_errors=st.dictionaries(NAMES, NUMBERS, max_size=4),
    wall_seconds=COSTS,
    cpu_seconds=COSTS,
    peak_gib=COSTS,
    settings=st.dictionaries(NAMES, JSON, max_size=3),
    versions=st.dictionaries(NAMES, NAMES, max_size=3),
    commit=NAMES,
    device=NAMES,
    python=NAMES,
    started_at=NAMES,
    curves=st.dictionaries(NAMES, st.lists(NUMBERS, max_size=4), max_size=2),
)


@given(st.lists(ROWS, max_size=3), st.lists(ROWS, max_size=2))
@settings(max_examples=25)
def test_rows_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, first: list[BenchmarkRow], more: list[BenchmarkRow]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "new" / "rows.jsonl"
    append_rows(path, first)
    append_rows(path, more)
    assert read_rows(path) == [*first, *more]


def test_a_file_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": None}, "seed cannot be None"),
        ({"seed": True}, "seed cannot be True"),
        ({"samples": -1}, "samples cannot be -1"),
        ({"wall_seconds": "long"}, "wall_seconds cannot be 'long'"),
        ({"figures": {"f1": "good"}}, "figures cannot be"),
        ({"figures": {"f1": float("nan")}}, "figures cannot be"),
        ({"method": ""}, "method cannot be ''"),
        ({"curves": {"recall": [0.5, None]}}, "curves cannot be"),
        ({"color": "red"}, "color is unknown"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, change: dict, told: str) -> None:
    path = tmp_path / "rows.jsonl"
    append_rows(path, [ROW])
    with path.open("a") as file:
        file.write(json.dumps(ROW.to_json() | change) + "\n")
    with pytest.raises(BenchmarkError, match=f"line 2 of .*{told}"):
        read_rows(path)
    before = path.read_bytes()
    with pytest.raises(BenchmarkError):
        append_rows(path, [ROW])
    assert path.read_bytes() == before


def test_a_row_needs_all_its_fields(tmp_path: Path) -> None:
    values = ROW.to_json()
    del values["commit"], values["curves"]
    with pytest.raises(BenchmarkError, match=r"^commit is missing$"):
        BenchmarkRow.from_json(values)
    assert BenchmarkRow.from_json(values | {"commit": "abc"}) == replace(ROW, curves={})
    for text in ("", "3", "[]", "{"):
        (tmp_path / "rows.jsonl").write_text(text + "\n")
        with pytest.raises(BenchmarkError, match="line 1"):
            read_rows(tmp_path / "rows.jsonl")


def test_two_writers_lose_no_row_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"

    def append_ten(seed: int) -> None:
        for _ in range(10):
            append_rows(path, [replace(ROW, seed=seed)])

    with ThreadPoolExecutor() as pool:
        list(pool.map(append_ten, (1, 2)))
    assert sorted(row.seed for row in read_rows(path)) == [1] * 10 + [2] * 10


def test_time_is_measured_on_the_clock_and_on_the_processor() -> None:
    with measured() as cost:
        time.sleep(0.05)
        subprocess.run([sys.executable, "-c", "sum(range(2_000_000))"], check=True)
    assert cost.wall_seconds >= 0.05
    assert cost.cpu_seconds > 0.005, "a child process counts"
    assert 0 < cost.peak_gib <= peak_gib()


PROGRAM = """
import sys
from labelfix.benchmark.cost import peak_gib
held = bytearray(int(sys.argv[1]))
print(peak_gib())
"""


def test_the_peak_of_a_process_is_its_own() -> None:
    held = bytearray(300 << 20)  # a child that began as a copy of this process must not show it
    peaks = [
        float(subprocess.check_output([sys.executable, "-c", PROGRAM, str(size)]))
        for size in (1 << 20, 200 << 20)
    ]
    assert peaks[0] < 0.2 < len(held) / 2**30
    assert peaks[1] - peaks[0] == pytest.approx(200 / 1024, abs=0.02)


def test_the_machine_and_the_commit_are_named() -> None:
    assert device_name("H100").endswith(" cores; H100")
    assert device_name()[0] != ","
    commit = source_commit()
    assert commit == "" or len(commit.removesuffix("-dirty")) >= 12
