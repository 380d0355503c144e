"""cleanlab on networks: the same backbone, fine-tuned plainly in 5 folds.

Letters: N samples, K classes.
"""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelfix.benchmark.methods.cleanlab import judged
from labelfix.benchmark.problem import MethodOutputs, Problem
from labelfix.config import AuditConfig, FineTuningConfig, RegularizationConfig, SelfLabelingConfig
from labelfix.pipeline.samples import audit
from labelfix.report.io import read_report_table
from labelfix.report.types import Report

FOLDS = 5


def network(problem: Problem) -> MethodOutputs:
    """Judge by cleanlab, on the probabilities of networks without limit and self-labeling."""
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
    return judged([pred_probs_of(report, problem)], problem.given_label, report.run.settings)


def pred_probs_of(report: Report, problem: Problem) -> NDArray[np.float64]:
    """Return ``(N, K)``; the label of a sample that was not judged is taken as surely right."""
    column = report.table["pred_probs"].combine_chunks()
    is_judged = column.is_valid().to_numpy(zero_copy_only=False)
    probs = np.zeros((len(problem), problem.classes))
    probs[np.arange(len(problem)), problem.given_label] = 1
    values = column.flatten().to_numpy().reshape(int(is_judged.sum()), -1)
    judged_rows = np.flatnonzero(is_judged)
    probs[judged_rows] = 0
    probs[judged_rows[:, None], np.array(report.class_names, dtype=np.int64)] = values
    return probs
