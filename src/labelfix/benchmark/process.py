"""Pieces of a benchmark in processes of their own, and what each cost."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelfix.benchmark.cost import Cost
from labelfix.benchmark.problem import Problem
from labelfix.benchmark.worker import COST, FAULT
from labelfix.errors import BenchmarkError

LOG = "log.txt"
TOLD_LINES = 12
"""How much of a failed process's last words is passed on."""


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """A piece of work that is done.

    Args:
        folder: Where its outcome lies, as long as the block of `worked` runs.
        cost: What it cost.
        gpu: The GPU that it used, or ``""``.
        gpu_peak_gib: The most memory that it held there.
    """

    folder: Path
    cost: Cost
    gpu: str
    gpu_peak_gib: float


@contextmanager
def worked(kind: str, problem: Problem, **files: Any) -> Iterator[ProcessResult]:
    """Do a piece of work in a process of its own, and yield what came of it.

    Args:
        kind: What `labelfix.benchmark.worker` takes.
        problem: What it is about.
        files: Further input: what has a ``write`` is asked to write itself, other values become
            ``NAME.json``.

    Raises:
        BenchmarkError: The work failed; the message ends with the last words of the process.
    """
    with tempfile.TemporaryDirectory(prefix="labelfix-benchmark-") as name:
        folder = Path(name)
        problem.write(folder)
        for file, value in files.items():
            if hasattr(value, "write"):
                value.write(folder)
            else:
                (folder / f"{file}.json").write_text(json.dumps(value), encoding="utf-8")
        yield _run(kind, folder)


def _run(kind: str, folder: Path) -> ProcessResult:
    command = [sys.executable, "-m", "labelfix.benchmark.worker", kind, str(folder)]
    with (folder / LOG).open("w", encoding="utf-8") as log:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        )
    if (folder / FAULT).exists():
        fault = _json(folder / FAULT)
        raise BenchmarkError(fault["message"], hint=fault["hint"])
    if done.returncode or not (folder / COST).exists():
        words = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        last = " | ".join(words[-TOLD_LINES:]) or "it said nothing"
        raise BenchmarkError(
            f"its process ended with {done.returncode}: {last}",
            hint="a killed process often lacks memory; try fewer --samples",
        )
    cost = _json(folder / COST)
    spent = Cost(*(cost[name] for name in Cost.__slots__))
    return ProcessResult(folder, spent, cost["gpu"], cost["gpu_peak_gib"])


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
