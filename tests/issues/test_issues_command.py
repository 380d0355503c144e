"""Near-duplicates, outliers and the rest through the command."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command import labelfix
from given_probs import noisy, write
from PIL import Image
from typer.testing import CliRunner, Result

from labelfix.cli import main as cli
from labelfix.report.frame import read_report


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def data(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, and among them a black page, a large one, a copy with another label, a torn one."""
    folder = tmp_path_factory.mktemp("kinds") / "photos"
    shutil.copytree(small_data, folder)
    first = min((folder / "0").iterdir())
    shutil.copy(first, folder / "1" / "copy.png")
    Image.new("RGB", (40, 40)).save(folder / "0" / "black.png")
    with Image.open(first) as image:
        image.resize((900, 900)).save(folder / "7" / "large.png")
    (folder / "7" / "torn.png").write_bytes(first.read_bytes()[:60])
    return folder


@pytest.fixture(scope="module")
def audited(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "photos-run"
    done = labelfix("audit", data, "--out", out, "--tune", "head")
    assert done.returncode == 0, done.stderr
    return out


def test_the_report_says_what_is_odd(audited: Path) -> None:
    report = read_report(audited).set_index("sample_id")
    assert report.is_conflicting_near_duplicate_issue["1/copy.png"]
    assert report.near_duplicate_score["1/copy.png"] == 0
    assert report.is_dark_issue["0/black.png"]
    assert report.is_odd_size_issue["7/large.png"]
    assert report.is_unreadable_issue["7/torn.png"]
    assert report.loc["7/torn.png"].filter(like="_score").isna().all()
    assert report.is_odd_size_issue.sum() == 1
    assert report.is_dark_issue.sum() == 1


def test_show_counts_each_kind(audited: Path) -> None:
    summary = json.loads(run("show", audited, "--json").stdout)
    report = read_report(audited)
    assert summary["near_duplicates"] == report.is_near_duplicate_issue.sum() >= 2
    assert summary["near_duplicate_sets"] == report.near_duplicate_set.nunique()
    assert summary["conflicting_near_duplicates"] >= 2
    assert (summary["dark"], summary["odd_size"], summary["leaks"]) == (1, 1, 0)
    assert summary["files"]["neighbors"] == str(audited / "neighbors.parquet")
    shown = run("show", audited, "--top", "1").stdout
    for words in ("near-duplicates", "outliers", "nearly black", "odd size"):
        assert words in shown


def test_neighbors_are_rows_of_the_report(audited: Path) -> None:
    table = pq.read_table(audited / "neighbors.parquet")
    report = read_report(audited)
    assert table["sample_id"].to_pylist() == report.sample_id.tolist()
    count = [len(rows) for rows in table["neighbors"].to_pylist()]
    assert [number for number in count if number != 10] == [0]
    assert count.index(0) == report.sample_id.tolist().index("7/torn.png")


def test_a_threshold_is_changed_and_told(audited: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    thresholds = ["--issue-threshold", "dark=0", "--issue-threshold", "odd-size=0.01"]
    done = run("audit", data, "--out", other, "--tune", "head", "--quiet", *thresholds)
    assert done.exit_code == 0, done.output
    report = read_report(other)
    assert report.is_dark_issue.sum() == 0
    assert report.attrs["run"]["settings"]["issues"]["odd_size"] == 0.01
    same = ["is_outlier_issue", "blurry_score", "near_duplicate_set", "dark_score"]
    assert report[same].equals(read_report(audited)[same])


def test_two_runs_are_alike_byte_for_byte(audited: Path, data: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    done = labelfix("audit", data, "--out", again, "--tune", "head", "--quiet")
    assert done.returncode == 0
    for name in ("report.parquet", "neighbors.parquet"):
        assert (again / name).read_bytes() == (audited / name).read_bytes()


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("dark", 2, "KIND=SCORE"),
        ("drak=0.1", 1, "near_duplicate"),
        ("dark=2", 1, "between 0 and 1"),
    ],
)
def test_a_wrong_threshold_says_what_is_right(
    data: Path, tmp_path: Path, text: str, code: int, words: str
) -> None:
    done = run("audit", data, "--out", tmp_path / "run", "--issue-threshold", text)
    assert done.exit_code == code
    assert words in done.output
    assert not (tmp_path / "run").exists()


def test_a_run_of_probabilities_leaves_no_neighbors_of_the_one_before(
    audited: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(audited, out)
    probs = write(tmp_path / "p.csv", noisy())
    done = run("audit", "--pred-probs", probs, "--out", out, "--overwrite", "-q")
    assert done.exit_code == 0, done.output
    assert not (out / "neighbors.parquet").exists()
    assert read_report(out).near_duplicate_set.isna().all()
