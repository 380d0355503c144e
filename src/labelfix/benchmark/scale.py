"""How time, memory and disk grow with the data: the commands themselves, on data made for it.

Every command runs in a process of its own, started from a small one, so that its peak of memory is
its own. The data are drawn from a seed: probabilities of a model that is right about four times of
five, and vectors around a center of each class, with a tenth of the given labels wrong.

Letters: N samples, K classes, D numbers a vector.
"""

import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelfix.benchmark.cost import library_versions, source_commit
from labelfix.errors import BenchmarkError
from labelfix.utils.files import atomic_path, make_folder
from labelfix.utils.progress import OnProgress, Progress, no_progress

WRONG = 0.1
"""The share of given labels that are made wrong."""

DIMENSIONS = 64
"""D: numbers of each vector."""

_RIGHT, _CHUNK_CELLS = 0.8, 1 << 22

_CHILD = """
import json, subprocess, sys, tempfile
from labelfix.benchmark.cost import anonymous_peak_gib, measured
with tempfile.TemporaryFile() as said:
    with measured() as cost:
        done = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=said)
        anonymous = anonymous_peak_gib(done)
    said.seek(0)
    words = said.read().decode("utf-8", "replace")[-2000:]
figures = [cost.wall_seconds, cost.cpu_seconds, cost.peak_gib, anonymous]
print(json.dumps([done.returncode, figures, words]))
"""


@dataclass(frozen=True, slots=True)
class ScaleRow:
    """What one command cost at one size.

    Args:
        stage: The command, in words.
        samples: N.
        classes: K.
        wall_seconds: On the clock, with the start of Python and imports.
        cpu_seconds: Of all threads.
        peak_gib: The largest resident memory.
        input_bytes: What it read, on disk.
        output_bytes: What it wrote.
        seconds_of_parts: Seconds of the parts of an audit, as its run.json tells them.
        commit: Of the sources.
        versions: Of the libraries.
        anonymous_gib: The largest memory without pages of files; 0 where it is not known.
        memory: How much an audit was allowed to take; ``None`` where nobody said it.
    """

    stage: str
    samples: int
    classes: int
    wall_seconds: float
    cpu_seconds: float
    peak_gib: float
    input_bytes: int
    output_bytes: int
    seconds_of_parts: dict[str, float]
    commit: str
    versions: dict[str, str]
    anonymous_gib: float = 0.0
    memory: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Growth:
    """How a stage grows between the two largest sizes of the same number of classes.

    Args:
        stage: Which.
        classes: K.
        samples: The two N.
        exponent: Of time in N: 1 is linear. ``nan`` where the times are too short to tell.
        memory_exponent: Likewise of the peak of memory.
    """

    stage: str
    classes: int
    samples: tuple[int, int]
    exponent: float
    memory_exponent: float


@dataclass(frozen=True, slots=True)
class _Stage:
    """A command, what it reads and what it writes."""

    name: str
    words: tuple[str, ...]
    reads: Path
    writes: Path | None = None


LEAST_SECONDS = 1.0
"""Shorter times say more of the start of Python than of growth."""


def measure(
    samples: Sequence[int],
    classes: Sequence[int],
    *,
    vectors_up_to: int = 0,
    seed: int = 0,
    folder: Path | None = None,
    memory: str | None = None,
    on_row: Callable[[ScaleRow], None],
    on_progress: OnProgress = no_progress,
) -> list[ScaleRow]:
    """Run the commands at every size, smallest first.

    Args:
        samples: Each N.
        classes: Each K; combinations with fewer than 10 samples a class are left out.
        vectors_up_to: Audit vectors too, up to this N; 0 leaves them out.
        seed: What the data are drawn from.
        folder: Where data and runs lie while they are needed; a temporary one by default.
        memory: How much memory audits may take, as their option ``--memory`` has it.
        on_row: Given each row as soon as it is known.
        on_progress: Told what is going on.

    Raises:
        BenchmarkError: A command failed, or no combination is left.
    """
    sizes = [(n, k) for n in sorted(samples) for k in sorted(classes) if n >= 10 * k]
    if not sizes:
        raise BenchmarkError(
            "no combination has 10 samples a class", hint="take more --samples or fewer --classes"
        )
    rows: list[ScaleRow] = []
    origin: dict[str, Any] = {"commit": source_commit(), "versions": library_versions()}
    for count, (n, k) in enumerate(sizes):
        on_progress(Progress("scale", count, len(sizes), "sizes", f"{n:,} x {k:,}"))
        with tempfile.TemporaryDirectory(prefix="labelfix-scale-", dir=folder) as name:
            budget = () if memory is None else ("--memory", memory)
            for stage in _stages(Path(name), n, k, seed, budget, with_vectors=n <= vectors_up_to):
                cost = _run(stage)
                row = ScaleRow(
                    stage=stage.name, samples=n, classes=k, memory=memory, **cost, **origin
                )
                rows.append(row)
                on_row(row)
    on_progress(Progress("scale", len(sizes), len(sizes), "sizes"))
    return rows


def append_rows(path: Path, rows: Sequence[ScaleRow]) -> None:
    """Add rows at the end of a file of JSON lines; nobody ever sees half of them.

    Raises:
        BenchmarkError: The file cannot be read.
        RunError: The place cannot be written to.
    """
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"cannot read {path}: {error}", hint="name another file") from error
    make_folder(path.parent)
    with atomic_path(path) as draft:
        lines = [json.dumps(row.to_json()) + "\n" for row in rows]
        draft.write_text(before + "".join(lines), encoding="utf-8")


def growth_of(rows: Sequence[ScaleRow]) -> list[Growth]:
    """Return how each stage grows, stage by stage in the order of the rows."""
    found = []
    for stage, classes in dict.fromkeys((row.stage, row.classes) for row in rows):
        of_stage = sorted(
            (row for row in rows if (row.stage, row.classes) == (stage, classes)),
            key=lambda row: row.samples,
        )
        if len(of_stage) < 2:
            continue
        small, large = of_stage[-2:]
        times = (small.wall_seconds, large.wall_seconds)
        found.append(
            Growth(
                stage,
                classes,
                (small.samples, large.samples),
                _exponent(small, large, *times) if min(times) >= LEAST_SECONDS else math.nan,
                _exponent(small, large, small.peak_gib, large.peak_gib),
            )
        )
    return found


def _exponent(small: ScaleRow, large: ScaleRow, before: float, after: float) -> float:
    if not before > 0 or not after > 0:
        return math.nan
    return math.log(after / before) / math.log(large.samples / small.samples)


def _stages(
    folder: Path, n: int, k: int, seed: int, budget: tuple[str, ...], *, with_vectors: bool
) -> Iterator[_Stage]:
    """Make the data of each stage just before it is asked for."""
    run = folder / "run"
    data = make_probabilities(folder / "probs.npz", n, k, seed)
    audit = ("audit", "--pred-probs", str(data), "--out", str(run), "--quiet", *budget)
    yield _Stage("audit of probabilities", audit, data, run)
    yield _Stage("show", ("show", str(run), "--json"), run)
    yield _Stage("check", ("check", str(run), "--max-error-rate", "1"), run)
    clean = folder / "clean.parquet"
    yield _Stage("export", ("export", str(run), str(clean)), run, clean)
    if with_vectors:
        shutil.rmtree(run)
        data.unlink()
        vectors = make_vectors(folder / "vectors.parquet", n, k, seed)
        more = ("audit", str(vectors), "--out", str(run), "--cache", str(folder / "cache"))
        yield _Stage("audit of vectors", (*more, "--quiet", *budget), vectors, run)


def _run(stage: _Stage) -> dict[str, Any]:
    return {
        **measured_command(stage.name, stage.words),
        "input_bytes": _size(stage.reads),
        "output_bytes": 0 if stage.writes is None else _size(stage.writes),
        "seconds_of_parts": seconds_of_parts(stage.writes),
    }


def measured_command(name: str, words: Sequence[str]) -> dict[str, float]:
    """Return the seconds and the memory of a command of labelfix in a process of its own.

    Args:
        name: What messages call it.
        words: What follows ``labelfix``.

    Raises:
        BenchmarkError: It failed.
    """
    command = [sys.executable, "-m", "labelfix", *words]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *command], capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise BenchmarkError(f"{name} could not be measured: {done.stderr.strip()[-500:]}")
    code, figures, said = json.loads(done.stdout)
    if code:
        raise BenchmarkError(f"{name} ended with {code}: {said.strip()[-500:]}")
    keys = ("wall_seconds", "cpu_seconds", "peak_gib", "anonymous_gib")
    return {key: round(value, 3) for key, value in zip(keys, figures, strict=True)}


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def seconds_of_parts(run: Path | None) -> dict[str, float]:
    """Return what the ``run.json`` of a run says of its stages; nothing where there is none."""
    if run is None or not (run / "run.json").is_file():
        return {}
    told = json.loads((run / "run.json").read_text(encoding="utf-8")).get("seconds", {})
    return {name: round(float(value), 3) for name, value in told.items()}


def make_probabilities(path: Path, n: int, k: int, seed: int) -> Path:
    """Write an ``.npz`` of ``pred_probs`` (N, K) float32 and ``labels`` (N,), part by part."""
    rng = np.random.default_rng(seed)
    true, given = _labels(rng, n, k)
    parts = path.with_suffix(".npy")
    probs = np.lib.format.open_memmap(parts, mode="w+", dtype=np.float32, shape=(n, k))
    chunk = max(1, _CHUNK_CELLS // k)
    for start in range(0, n, chunk):
        some = true[start : start + chunk]
        logits = rng.standard_normal((len(some), k), np.float32)
        top = np.where(rng.random(len(some)) < _RIGHT, some, rng.integers(0, k, len(some)))
        logits[np.arange(len(some)), top] += 3 + math.log(k)
        np.exp(logits, out=logits)
        probs[start : start + chunk] = logits / logits.sum(axis=1, keepdims=True)
    probs.flush()
    np.savez(path, pred_probs=probs, labels=given)
    del probs
    parts.unlink()
    return path


def make_vectors(path: Path, n: int, k: int, seed: int) -> Path:
    """Write a Parquet file of ``id``, ``label`` and ``vector`` (D numbers), part by part."""
    rng = np.random.default_rng(seed)
    true, given = _labels(rng, n, k)
    centers = rng.standard_normal((k, DIMENSIONS)).astype(np.float32)
    chunk = max(1, _CHUNK_CELLS // DIMENSIONS)
    kind = pa.list_(pa.float32(), DIMENSIONS)
    schema = pa.schema([("id", pa.string()), ("label", pa.string()), ("vector", kind)])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n, chunk):
            some = true[start : start + chunk]
            noise = rng.standard_normal((len(some), DIMENSIONS), np.float32)
            values = pa.array((centers[some] + noise).ravel())
            columns = [
                pa.array([f"s{start + place}" for place in range(len(some))]),
                pa.array([f"c{code}" for code in given[start : start + chunk].tolist()]),
                pa.FixedSizeListArray.from_arrays(values, type=kind),
            ]
            writer.write_table(pa.table(columns, schema=schema))
    return path


def _labels(
    rng: np.random.Generator, n: int, k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ``(N,)`` true and given labels; each class has samples."""
    true = rng.permutation(np.arange(n) % k)
    given = true.copy()
    wrong = np.flatnonzero(rng.random(n) < WRONG)
    given[wrong] = (true[wrong] + rng.integers(1, k, len(wrong))) % k
    return true, given
