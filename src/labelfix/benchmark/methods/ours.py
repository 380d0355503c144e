"""labelfix itself as a method of the benchmark: real audits and exports, and given probabilities.

Torch is loaded only for an audit: given probabilities need none, and their peak memory is told.

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

from labelfix.benchmark.problem import ANY_SCORE, MethodOutputs, MethodResult, Problem
from labelfix.config import FlagConfig, Tune
from labelfix.exports.export import export
from labelfix.exports.soft_labels import SOFT_LABEL
from labelfix.report.io import read_report_table
from labelfix.scoring.flags import correct
from labelfix.scoring.scores import score_labels
from labelfix.types import MISSING, Evidence

RULE = "is_label_issue"
PROBABILITY = "label_error_probability"

FOR_TRAINING = 0.7
"""How sure a label is that is exported to train on, as docs/exports.md advises."""


def head(problem: Problem) -> MethodOutputs:
    """``labelfix audit --tune head``: heads on frozen features."""
    return _audited(problem, "head")


def top(problem: Problem) -> MethodOutputs:
    """``labelfix audit --tune top``: the upper stages of the network."""
    return _audited(problem, "top")


def full(problem: Problem) -> MethodOutputs:
    """``labelfix audit --tune full``: whole networks."""
    return _audited(problem, "full")


def published(problem: Problem) -> MethodOutputs:
    """What labelfix makes of the probabilities that the task gives; of several, of their mean."""
    if problem.pred_probs is None:
        raise AssertionError("the task gives probabilities")
    count = len(problem)
    evidence = Evidence(
        pred_probs=problem.pred_probs.mean(axis=0).astype(np.float32),
        fold=np.zeros(count, dtype=np.int16),
        margin=np.full(count, np.nan, dtype=np.float32),
        self_label=problem.given_label,
    )
    scores = score_labels(evidence, problem.given_label)
    corrections = correct(scores, np.ones(count, dtype=bool), FlagConfig())
    return {
        ANY_SCORE: MethodResult(
            score=scores.label_error_probability.astype(np.float64),
            probability="label_error_probability",
            flags={"is_label_issue": corrections.is_label_issue},
            suggested_label=corrections.suggested_label,
            predicted_label=scores.predicted_label,
            noise_rate=scores.noise_rate,
            sample_weight=corrections.sample_weight.astype(np.float64),
        )
    }


def _audited(problem: Problem, tune: Tune) -> MethodOutputs:
    from labelfix.api import audit

    if problem.data is None:
        raise AssertionError("the task has samples")
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
        export(run, cleaned, min_probability=FOR_TRAINING, soft_labels=True)
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
        soft_label=_soft(export_table[SOFT_LABEL], len(report.class_names)),
        settings=report.run.settings,
    )


def _soft(column: pa.ChunkedArray, classes: int) -> NDArray[np.float32]:
    """Return ``(N, K)`` soft labels, 0 in the rows without one."""
    soft = np.zeros((len(column), classes), np.float32)
    values = column.combine_chunks().flatten().to_numpy()
    soft[column.is_valid().to_numpy()] = values.reshape(-1, classes)
    return soft


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[Any] = column.to_numpy()  # null becomes NaN
    return values.astype(np.float64)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    codes: NDArray[Any] = pc.fill_null(column, MISSING).to_numpy()
    return codes.astype(np.int64)
