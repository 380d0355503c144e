"""The benchmark of growth: its data, its exponents, and the command on a small size."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from command import labelfix

from labelfix.benchmark.scale import (
    DIMENSIONS,
    ScaleRow,
    growth_of,
    make_probabilities,
    make_vectors,
    measure,
)
from labelfix.errors import BenchmarkError


def row(samples, seconds, *, stage="show", classes=10, peak=1.0):
    return ScaleRow(stage, samples, classes, seconds, seconds, peak, 1, 1, {}, "abc", {})


def test_exponents_are_of_the_two_largest_sizes():
    rows = [
        row(10, 9.0),
        row(100, 2.0, peak=0.5),
        row(1000, 20.0, peak=0.5),
        row(1000, 1, classes=3),
    ]
    (found,) = growth_of(rows)
    assert found.samples == (100, 1000)
    assert found.exponent == pytest.approx(1.0)
    assert found.memory_exponent == pytest.approx(0.0)


def test_short_times_tell_no_exponent():
    (found,) = growth_of([row(100, 0.2), row(1000, 0.3)])
    assert math.isnan(found.exponent)


@pytest.mark.parametrize(("n", "k"), [(50, 3), (3000, 7)])
def test_probabilities_are_those_of_a_model_that_is_mostly_right(tmp_path, n, k):
    with np.load(make_probabilities(tmp_path / "p.npz", n, k, 0)) as data:
        probs, labels = data["pred_probs"], data["labels"]
    assert probs.shape == (n, k)
    assert probs.dtype == np.float32
    assert probs.sum(axis=1) == pytest.approx(np.ones(n), abs=1e-5)
    assert set(labels.tolist()) == set(range(k))
    assert 0.5 < np.mean(probs.argmax(axis=1) == labels) < 0.9
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


def test_vectors_lie_around_the_center_of_their_class(tmp_path):
    table = pq.read_table(make_vectors(tmp_path / "v.parquet", 2000, 5, 0))
    values = table["vector"].combine_chunks().flatten().to_numpy().reshape(2000, DIMENSIONS)
    labels = np.array(table["label"].to_pylist())
    centers = np.stack([np.median(values[labels == name], axis=0) for name in sorted(set(labels))])
    nearest = np.linalg.norm(values[:, None] - centers, axis=2).argmin(axis=1)
    assert np.mean(np.array(sorted(set(labels)))[nearest] == labels) == pytest.approx(0.9, abs=0.03)
    assert len(set(table["id"].to_pylist())) == 2000


def test_too_few_samples_for_the_classes_are_an_error():
    with pytest.raises(BenchmarkError, match="10 samples a class"):
        measure([50], [10], on_row=lambda _: None)


def test_the_command_measures_each_stage(tmp_path):
    results, plot = tmp_path / "rows.jsonl", tmp_path / "plot.svg"
    done = labelfix(
        "benchmark", "scale", "--samples", "200", "--classes", "4,40", "--vectors-up-to", "0",
        "--results", results, "--plot", plot, "--folder", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert [one["stage"] for one in rows] == ["audit of probabilities", "show", "check", "export"]
    assert all(one["classes"] == 4 and one["peak_gib"] > 0.01 for one in rows)
    assert all(0.01 < one["anonymous_gib"] < one["peak_gib"] for one in rows)
    assert "scoring" in rows[0]["seconds_of_parts"]
    assert rows[3]["output_bytes"] > 0
    assert "export" in done.stdout
    assert "</svg>" in plot.read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "plot.svg"}


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--samples", "10", "samples are 20 or more"),
        ("--classes", "1", "classes are 2 or more"),
        ("--classes", "ten", "classes are whole numbers"),
    ],
)
def test_sizes_that_cannot_be_made_are_refused_by_their_name(option, value, told):
    done = labelfix("benchmark", "scale", option, value)
    assert done.returncode == 2
    assert told in done.stderr
