"""Rows of a benchmark grouped by task and method: what its tables and its plots are made from."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from labelfix.benchmark.methods.registry import METHODS, REFERENCE
from labelfix.benchmark.rows import BenchmarkRow, backbone_of


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure over the seeds.

    Args:
        mean: Over the seeds.
        spread: Their standard deviation; of one seed the standard error of its row, or NaN.
        seeds: How many.
    """

    mean: float
    spread: float
    seeds: int


@dataclass(frozen=True, slots=True, eq=False)
class MethodRows:
    """A method on a task: one row a seed, all of one commit.

    Args:
        method: As in the rows.
        rows: In the order of seeds.
    """

    method: str
    rows: tuple[BenchmarkRow, ...]

    @property
    def base(self) -> str:
        """Return the name of the method without that of its score."""
        return self.method.partition("/")[0]

    @property
    def is_default(self) -> bool:
        """Return whether this is the score that the method takes unless told otherwise."""
        return bool(self.rows[0].settings.get("is_default_score", True))

    def figure(self, name: str) -> Figure | None:
        """Return a figure, or one of the costs, over the seeds; ``None`` where it is not known."""
        if name in ("wall_seconds", "cpu_seconds", "peak_gib"):
            values = [float(getattr(row, name)) for row in self.rows]
        else:
            values = [row.figures[name] for row in self.rows if name in row.figures]
        if not values:
            return None
        if len(values) > 1:
            return Figure(fmean(values), stdev(values), len(values))
        return Figure(values[0], self.rows[0].standard_errors.get(name, math.nan), 1)


@dataclass(frozen=True, slots=True, eq=False)
class TaskRows:
    """A task, seen by one backbone: all methods that were set to it.

    Args:
        task: Its name.
        version: Its version.
        samples: N.
        backbone: Which network looked at the samples, and the size that was asked for; ``""``
            where there are probabilities alone.
        methods: References first, then in the order of the methods.
    """

    task: str
    version: int
    samples: int
    backbone: str
    methods: tuple[MethodRows, ...]

    @property
    def rows(self) -> Iterator[BenchmarkRow]:
        """Yield all rows."""
        for method in self.methods:
            yield from method.rows


def group_rows(rows: Sequence[BenchmarkRow]) -> list[TaskRows]:
    """Return the rows task by task, by name.

    Where a method was measured more than once with a seed the last row counts, and of rows from
    several commits those of the commit that came last.
    """
    tasks: dict[tuple[str, int, int, str], dict[str, list[BenchmarkRow]]] = {}
    for row in rows:
        key = (row.task, row.task_version, row.samples, backbone_of(row.settings))
        tasks.setdefault(key, {}).setdefault(row.method, []).append(row)
    return [
        TaskRows(
            *key,
            methods=tuple(
                MethodRows(name, _newest(of_method))
                for name, of_method in sorted(methods.items(), key=lambda item: _order(*item))
            ),
        )
        for key, methods in sorted(tasks.items())
    ]


def _newest(rows: Sequence[BenchmarkRow]) -> tuple[BenchmarkRow, ...]:
    commit = rows[-1].commit
    by_seed = {row.seed: row for row in rows if row.commit == commit}
    return tuple(by_seed[seed] for seed in sorted(by_seed))


def _order(name: str, rows: Sequence[BenchmarkRow]) -> tuple[Any, ...]:
    base = name.partition("/")[0]
    known = [REFERENCE, *METHODS]
    place = known.index(base) if base in known else len(known)
    return place, base, not rows[-1].settings.get("is_default_score", True), name


def slug(task: TaskRows) -> str:
    """Return a name for the files of a task."""
    text = f"{task.task} {task.samples} {task.backbone} v{task.version}"
    return "-".join("".join(c if c.isalnum() else " " for c in text).split())
