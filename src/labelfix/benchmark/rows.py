"""The rows that benchmarks write: JSON lines, one a method, task and seed.

A file of rows is the memory of a benchmark: tables and plots are made from it, and a later run
leaves out what it holds already.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from labelfix.errors import BenchmarkError
from labelfix.utils.files import atomic_path, make_folder, refuse_special_file
from labelfix.utils.reading import is_number, parse_json


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkRow:
    """One method on one task with one seed.

    Args:
        task: Its name.
        task_version: Raised when the task of that name becomes another one.
        method: Its name; ``method/score`` where one method gives several scores.
        seed: Of the method, and of the noise where the task plants it.
        samples: N that the method scored.
        figures: Name to figure; a figure that is not known is left out.
        standard_errors: Name to standard error of the figure of that name.
        wall_seconds: Of the method, its own process without the start of Python.
        cpu_seconds: Likewise, over all threads and child processes.
        peak_gib: The largest resident memory of that process or of one of its children; 0 where
            it was not measured.
        settings: What else shaped the figures, as JSON values.
        versions: Library to version.
        commit: Of labelfix, with ``-dirty`` where its sources had changes; ``""`` outside git.
        device: The processor, its cores, and the GPU if one was used.
        python: Its version.
        started_at: ISO 8601, UTC.
        curves: Name to the values of one axis of a plot.
    """

    task: str
    task_version: int
    method: str
    seed: int
    samples: int
    figures: Mapping[str, float]
    standard_errors: Mapping[str, float]
    wall_seconds: float
    cpu_seconds: float
    peak_gib: float
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    commit: str
    device: str
    python: str
    started_at: str
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "BenchmarkRow":
        """Return the row that `to_json` wrote.

        Raises:
            BenchmarkError: It is not a row: a field is missing, unknown or of another type.
        """
        if not isinstance(values, dict):
            raise BenchmarkError("a row has to be a JSON object")
        names = [item.name for item in fields(cls)]
        unknown = sorted(set(values) - set(names))
        missing = [name for name in names if name not in values and name != "curves"]
        if unknown or missing:
            wrong = [f"{name} is missing" for name in missing]
            wrong += [f"{name} is unknown" for name in unknown]
            raise BenchmarkError(", ".join(wrong))
        faults = [name for name, value in values.items() if not _CHECKS[name](value)]
        if faults:
            raise BenchmarkError(f"{faults[0]} cannot be {values[faults[0]]!r}")
        return cls(**values)


def backbone_of(settings: Mapping[str, Any]) -> str:
    """Return the network that looked at the samples, as it was asked for; ``""`` without one."""
    name, size = str(settings.get("backbone", "")), settings.get("asked_image_size")
    weights = settings.get("weights")
    with_weights = f"{name} with {weights}" if weights else name
    return f"{with_weights} at {size} px" if size else with_weights


def read_rows(path: Path) -> list[BenchmarkRow]:
    """Return the rows of a file, in its order; none where there is no file.

    Raises:
        BenchmarkError: A line is no row; the message names it.
    """
    refuse_special_file(path, BenchmarkError)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise BenchmarkError(
            f"cannot read {path}: {error}", hint="name a file of rows, or a new one"
        ) from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(BenchmarkRow.from_json(parse_json(line)))
        except (BenchmarkError, ValueError) as error:
            raise BenchmarkError(
                f"line {number} of {path} is no row of a benchmark: {error}",
                hint="take the line out, or name another file",
            ) from error
    return rows


def append_rows(path: Path, rows: Sequence[BenchmarkRow]) -> None:
    """Add rows at the end of a file; nobody ever sees half of them.

    The file is written whole beside its place and renamed, under a lock: two benchmarks may write
    to one file.

    Raises:
        BenchmarkError: The file holds something else.
        RunError: The place cannot be written to.
    """
    make_folder(path.parent)
    with FileLock(path.with_name(f".{path.name}.lock")):
        everything = [*read_rows(path), *rows]
        with atomic_path(path) as draft:
            draft.write_text("".join(map(_line, everything)), encoding="utf-8")


def _line(row: BenchmarkRow) -> str:
    return json.dumps(row.to_json(), allow_nan=False) + "\n"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_cost(value: Any) -> bool:
    return is_number(value) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _mapping_to(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return isinstance(value, dict) and all(map(is_right, value.values()))

    return check


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("task", "method"), lambda value: _is_text(value) and bool(value)),
    **dict.fromkeys(("commit", "device", "python", "started_at"), _is_text),
    **dict.fromkeys(("task_version", "seed", "samples"), _is_count),
    **dict.fromkeys(("wall_seconds", "cpu_seconds", "peak_gib"), _is_cost),
    **dict.fromkeys(("figures", "standard_errors"), _mapping_to(is_number)),
    "settings": _mapping_to(lambda value: True),
    "versions": _mapping_to(_is_text),
    "curves": _mapping_to(lambda value: isinstance(value, list) and all(map(is_number, value))),
}
"""Field to whether a JSON value can stand in it."""
