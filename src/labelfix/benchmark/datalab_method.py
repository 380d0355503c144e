"""cleanlab's Datalab on features: its label issues from nearest neighbours.

Needs the package ``datasets``, as Datalab does. Letters: N samples.
"""

import contextlib
import io

import numpy as np
from cleanlab import Datalab

from labelfix.benchmark.records import ANY_SCORE, Answers, MethodResult, Problem, suggestions


def datalab(problem: Problem) -> Answers:
    """``Datalab.find_issues(features=...)``, label issues only."""
    given = problem.given_label
    with contextlib.redirect_stdout(io.StringIO()):
        lab = Datalab({"label": given}, label_name="label")
        values = problem.feature_values().astype(np.float32)
        lab.find_issues(features=values, issue_types={"label": {}})
    issues = lab.get_issues("label")
    flags = issues["is_label_issue"].to_numpy()
    predicted = issues["predicted_label"].to_numpy().astype(np.int64)
    return {
        ANY_SCORE: MethodResult(
            score=1 - issues["label_score"].to_numpy().astype(np.float64),
            probability="1 - label_score",
            flags={"is_label_issue": flags},
            suggested_label=suggestions(flags, predicted, given),
            predicted_label=predicted,
            noise_rate=float(flags.mean()),
        )
    }
