"""The scripts whose figures the docs tell still run: small, and for what they print."""

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


@pytest.mark.parametrize("script", sorted(SMALL))
def test_a_script_measures_what_it_says(script: str, tmp_path: Path) -> None:
    arguments, said = SMALL[script]
    done = subprocess.run(
        [sys.executable, SCRIPTS / script, *arguments, "--folder", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for words in said:
        assert words in done.stdout


def test_scoring_is_measured_for_any_shape(tmp_path: Path) -> None:
    words = ["--shapes", "600x5", "400x300", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, SCRIPTS / "scoring.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "400 x 300: scored in" in done.stdout
