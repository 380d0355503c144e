"""cleanlab on networks: the same backbone, fine-tuned plainly in 5 folds.

Letters: N samples, K classes.
"""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelfix.benchmark.methods.cleanlab import scored
from labelfix.benchmark.problem import MethodOutputs, Problem
from labelfix.config import AuditConfig, FineTuningConfig, RegularizationConfig, SelfLabelingConfig
from labelfix.pipeline.samples import audit
from labelfix.report.io import read_report_table
from labelfix.report.types import Report

FOLDS = 5


def network(problem: Problem) -> MethodOutputs:
    """Score by cleanlab, on the probabilities of networks without limit and self-labeling."""
    if problem.data is None:
        raise AssertionError("the task has samples")
    with tempfile.TemporaryDirectory() as scratch:
        config = AuditConfig(
            backbone=problem.backbone,
            tune="full",
            fine_tuning=FineTuningConfig(folds=FOLDS),
            regularization=RegularizationConfig(form="none"),
            self_labeling=SelfLabelingConfig(correct_from=None, reweight_from=None),
            seed=problem.seed,
            cache=Path(scratch) / "cache",
        )
        audit(problem.data, Path(scratch) / "run", config)
        report = read_report_table(Path(scratch) / "run")
    return scored([pred_probs_of(report, problem)], problem.given_label, report.run.settings)


def pred_probs_of(report: Report, problem: Problem) -> NDArray[np.float64]:
    """Return ``(N, K)``; the label of a sample that was not scored is taken as surely right."""
    column = report.table["pred_probs"].combine_chunks()
    is_scored = column.is_valid().to_numpy(zero_copy_only=False)
    probs = np.zeros((len(problem), problem.classes))
    probs[np.arange(len(problem)), problem.given_label] = 1
    values = column.flatten().to_numpy().reshape(int(is_scored.sum()), -1)
    scored_rows = np.flatnonzero(is_scored)
    probs[scored_rows] = 0
    probs[scored_rows[:, None], np.array(report.class_names, dtype=np.int64)] = values
    return probs
