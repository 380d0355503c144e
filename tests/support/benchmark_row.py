"""Rows of a benchmark for tests."""

from dataclasses import replace

import numpy as np

from labelfix.benchmark.metrics import score_result
from labelfix.benchmark.problem import MethodResult
from labelfix.benchmark.rows import BenchmarkRow

ROW = BenchmarkRow(
    task="flowers-symmetric-20",
    task_version=1,
    method="random",
    seed=0,
    samples=200,
    figures={"f1": 0.5},
    standard_errors={},
    wall_seconds=1.0,
    cpu_seconds=2.0,
    peak_gib=0.1,
    settings={"of": 200, "classes": 3, "backbone": "test_resnet", "asked_image_size": None},
    versions={"numpy": "2"},
    commit="abc",
    device="cpu, 2 cores",
    python="3.11",
    started_at="2026-11-23T00:00:00+00:00",
)


def scored_row(method: str, seed: int, strength: float = 2.0, **changes: object) -> BenchmarkRow:
    """Return a row with real figures of a score that is the better the larger ``strength``."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, 200)
    given = np.where(rng.random(200) < 0.3, rng.integers(0, 3, 200), truth)
    score = 1 / (1 + np.exp(1 - strength * (given != truth) - rng.normal(size=200)))
    result = MethodResult(
        score=score,
        probability="score",
        flags={"half": score > 0.5, "most": score > 0.3},
        suggested_label=np.where(score > 0.5, truth, -1),
        noise_rate=0.2,
    )
    scored = score_result(result, given, truth)
    about = {"is_default_score": True, "probability": "score", "rules": list(result.flags)}
    row = replace(
        ROW,
        method=method,
        seed=seed,
        figures={**scored.figures, "test_accuracy:pruned": 0.9},
        standard_errors=scored.standard_errors,
        curves=scored.curves,
        settings={**ROW.settings, **about},
    )
    return replace(row, **changes)
