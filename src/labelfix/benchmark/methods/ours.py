"""labelfix itself as a method of the benchmark: a real audit, a real export.

Letters: N samples.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelfix.api import audit
from labelfix.benchmark.problem import ANY_SCORE, MethodOutputs, MethodResult, Problem
from labelfix.config import Tune
from labelfix.exports.export import export
from labelfix.report.io import read_report_table
from labelfix.types import MISSING

RULE = "is_label_issue"
PROBABILITY = "label_error_probability"

FOR_TRAINING = 0.7
"""How sure a label is that is exported to train on, as docs/exports.md advises."""


def head(problem: Problem) -> MethodOutputs:
    """``labelfix audit --tune head``: heads on frozen features."""
    return _audited(problem, "head")


def full(problem: Problem) -> MethodOutputs:
    """``labelfix audit --tune full``: whole networks."""
    return _audited(problem, "full")


def _audited(problem: Problem, tune: Tune) -> MethodOutputs:
    if problem.data is None:
        raise AssertionError("the task has images")
    backbone = problem.backbone
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        audit(
            problem.data,
            run,
            backbone=backbone.name,
            weights=backbone.weights,
            image_size=backbone.image_size,
            device=backbone.device,
            tune=tune,
            seed=problem.seed,
            # features were computed for all methods; what only this one needs counts as its cost
            cache=problem.cache if tune == "head" else Path(scratch) / "cache",
        )
        cleaned = Path(scratch) / "clean.parquet"
        export(run, cleaned, min_probability=FOR_TRAINING)
        return {ANY_SCORE: _result(run, cleaned)}


def _result(run: Path, cleaned: Path) -> MethodResult:
    report = read_report_table(run, pred_probs=False)
    table, export_table = report.table, pq.read_table(cleaned)
    rate = report.run.noise_rate
    return MethodResult(
        score=_floats(table[PROBABILITY]),
        probability=PROBABILITY,
        flags={RULE: table["is_label_issue"].to_numpy()},
        suggested_label=_codes(table["suggested_label"]),
        predicted_label=_codes(table["predicted_label"]),
        noise_rate=np.nan if rate is None else rate,
        sample_weight=_floats(table["sample_weight"]),
        clean_label=_codes(export_table["label"]),
        clean_weight=_floats(export_table["sample_weight"]),
        settings=report.run.settings,
    )


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[Any] = column.to_numpy()  # null becomes NaN
    return values.astype(np.float64)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    codes: NDArray[Any] = pc.fill_null(column, MISSING).to_numpy()
    return codes.astype(np.int64)
