"""The scripts whose figures the docs quote still run: on small data, printing what they measure."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
SMALL = {
    "pages.py": (
        ["--samples", "600", "--classes", "12", "--side", "64"],
        ["600 samples, 12 classes", "the page is written in", "its size"],
    ),
    "review_speed.py": (
        ["--samples", "900", "--suspects", "600", "--classes", "6", "--rounds", "2"],
        ["GET /api/queue, first 20", "POST /api/decide", "GET /picture, small"],
    ),
    "processor_time.py": (
        ["--images", "24", "--rounds", "1", "--busy", "0"],
        ["24 images alone: one thread", "as it is", "1.3)"],
    ),
    "scoring.py": (
        ["--samples", "2000", "--classes", "5", "--rounds", "1", "--command-samples", "2000"],
        ["2,000 samples, 5 classes", "cleanlab, n_jobs=1 / labelfix", "peak memory"],
    ),
}


def run(script: str, *arguments: object) -> str:
    """Return what a script prints."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(SMALL))
def test_a_script_measures_what_it_says(script: str, tmp_path: Path) -> None:
    arguments, expected = SMALL[script]
    printed = run(script, *arguments, "--folder", tmp_path)
    for words in expected:
        assert words in printed


@pytest.mark.slow
def test_scoring_is_measured_for_any_shape(tmp_path: Path) -> None:
    printed = run("scoring.py", "--shapes", "600x5", "400x300", "--folder", tmp_path)
    assert "400 x 300: scored in" in printed


@pytest.mark.slow
def test_heads_of_many_classes_are_measured_beside_their_floor(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    shape = ["--shapes", "900x12x260", "--kind", "rectified"]
    run("many_classes.py", *shape, "--folder", tmp_path, "--results", rows)
    row = json.loads(rows.read_text())
    assert row["shape"] == "900x12x260"
    assert row["floor"] > 0
    assert row["seconds"] > 0
    assert 0 < row["average_precision"] <= 1
    assert [done for done, _ in row["steps"]][:2] == [0, 40]
    run(
        "many_classes.py", *shape, "--folder", tmp_path, "--results", rows, "--audit",
        "--memory", "8GiB",
    )  # fmt: skip
    row = json.loads(rows.read_text().splitlines()[1])
    assert 0 < row["anonymous_gib"] < row["peak_gib"]
    assert row["stages"]["training"] > 0
    assert 0 < row["average_precision"] <= 1


@pytest.mark.slow
def test_lists_of_the_likeliest_classes_are_measured_beside_all(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    places = ["--folder", tmp_path, "--results", rows]
    printed = run(
        "top_classes.py", "--shapes", "900x12x30", "--kinds", "groups", "--top", "5", *places
    )
    assert "900 samples, 30 classes" in printed
    assert "all: average_precision" in printed
    assert "  5: average_precision" in printed
    printed = run("top_classes.py", "--cost", "400x30", *places)
    for way in ("all read, all kept", "all read, 20 kept", "20 read and kept"):
        assert way in printed
    assert len(rows.read_text().splitlines()) == 5


@pytest.mark.slow
def test_arrays_are_measured_beside_cleanlab() -> None:
    printed = run("find_label_issues.py", "--samples", "600", "--classes", "5", "--rounds", "1")
    for words in ("600 samples, 5 classes", "labelfix / cleanlab ", "1.5)"):
        assert words in printed


def test_overheads_are_shares_of_a_step() -> None:
    small = "--samples 100 --classes 3 --batch-size 8 --image-size 32 --rounds 1 --device cpu"
    printed = run("overheads.py", *small.split())
    for part in ("a bare step", "projection onto the balls", "self-labeling", "a checkpoint"):
        assert any(line.startswith(part) for line in printed.splitlines()), part


@pytest.mark.slow
def test_decisions_are_measured_on_the_undecided_rest(small_data: Path, tmp_path: Path) -> None:
    results = tmp_path / "rows.jsonl"
    small = [
        "--kinds",
        "symmetric",
        "--rates",
        "0.2",
        "--decided",
        "5",
        "--seeds",
        "0",
        "--device",
        "cpu",
    ]
    printed = run(
        "decisions.py", small_data, *small, "--cache", tmp_path / "cache", "--results", results
    )
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert [row["decisions_in"] for row in rows] == ["no decisions", "training", "scores", "both"]
    for row in rows:
        assert 0 <= row["average_precision"] <= 1
        assert f"| symmetric | 0.2 | 5 | {row['decisions_in']} |" in printed


@pytest.mark.slow
def test_ablation_scores_each_part_left_out(small_data: Path, tmp_path: Path) -> None:
    shutil.copytree(small_data, tmp_path / "data")
    files = sorted(path.relative_to(tmp_path) for path in (tmp_path / "data").rglob("*.png"))
    lines = ["image,label", *(f"{path.as_posix()},{path.parent.name}" for path in files)]
    (tmp_path / "listed.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    results = tmp_path / "rows.jsonl"
    printed = run(
        "ablation.py",
        *(tmp_path / "listed.csv", "--truth", "label", "--plant", "instance-dependent:0.2"),
        *("--device", "cpu", "--cache", tmp_path / "cache", "--results", results),
    )
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    parts = {row["part"]: row for row in rows}
    assert len(parts) == len(rows) == 9
    assert {row["wrong"] for row in rows} == {rows[0]["wrong"]}
    for part, row in parts.items():
        assert 0 <= row["average_precision"] <= 1
        assert f"| {part} |" in printed
