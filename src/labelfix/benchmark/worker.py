"""The process in which one piece of a benchmark runs: it is measured whole, and knows no truth.

``python -m labelfix.benchmark.worker KIND FOLDER`` reads its problem from files in FOLDER and
writes what comes of it there. KIND is ``method:NAME``, ``features``, ``clean-probs`` or
``downstream``; the last two belong to those who plant noise and score.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from labelfix.benchmark.cost import gpu_name, gpu_peak_gib, measured
from labelfix.benchmark.methods.registry import Method, find_method, is_installed
from labelfix.benchmark.problem import Problem, write_answers
from labelfix.errors import BenchmarkError, LabelfixError

ANSWERS, OUTCOME, PROBS = "answers.npz", "outcome.json", "clean_probs.npy"
COST, FAULT = "cost.json", "fault.json"
METHOD = "method:"


def main() -> None:
    """Do one piece of work; exit 1 on an expected fault."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    try:
        work = _work(kind, folder)  # what it imports is loaded here, before the clock runs
        with measured() as cost:
            work()
    except LabelfixError as error:
        _write(folder / FAULT, {"message": str(error), "hint": error.hint})
        sys.exit(1)
    gpu = {"gpu": gpu_name(), "gpu_peak_gib": gpu_peak_gib()}
    _write(folder / COST, {**asdict(cost), **gpu})


def _work(kind: str, folder: Path) -> Callable[[], None]:
    problem = Problem.read(folder)
    if kind.startswith(METHOD):
        method = find_method(kind.removeprefix(METHOD))
        _check_installed(method)
        function: Any = getattr(
            import_module(f"labelfix.benchmark.methods.{method.module}"), method.function
        )
        return lambda: write_answers(function(problem), folder / ANSWERS)
    if kind == "features":
        from labelfix.benchmark.shared import compute

        test = json.loads((folder / "test.json").read_text(encoding="utf-8"))
        place = None if test is None else Path(test)
        return lambda: _write(folder / OUTCOME, compute(problem, place))
    if kind == "clean-probs":
        from labelfix.benchmark.methods.cleanlab import clean_probs

        return lambda: np.save(folder / PROBS, clean_probs(problem))
    if kind == "downstream":
        from labelfix.benchmark.problem import Downstream
        from labelfix.benchmark.shared import downstream_accuracies

        downstream = Downstream.read(folder)
        return lambda: _write(folder / OUTCOME, downstream_accuracies(problem, downstream))
    raise AssertionError(kind)


def _check_installed(method: Method) -> None:
    if not is_installed(method):
        raise BenchmarkError(
            f"{method.name} needs the package {method.package}, which is not installed",
            hint="pip install 'labelfix[benchmark]', or leave the method out with --methods",
        )


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")


if __name__ == "__main__":
    main()
