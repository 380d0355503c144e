"""``labelfix benchmark`` from the outside."""

import json
from pathlib import Path

import numpy as np
import pytest
from command import labelfix
from typer.testing import CliRunner, Result
from written_texts import sentences, write_table

from labelfix.benchmark.methods.registry import METHODS
from labelfix.benchmark.rows import read_rows
from labelfix.benchmark.run import is_repeatable
from labelfix.cli import main as cli


def run(*args: str | Path) -> Result:
    """Run a command in this process: libraries are loaded once for all tests."""
    return CliRunner().invoke(cli.app, ["benchmark", *map(str, args)])


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with probabilities of one small set, as they are published."""
    folder = tmp_path_factory.mktemp("published")
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 300)
    given = np.where(rng.random(300) < 0.3, rng.integers(0, 4, 300), true)
    logits = rng.normal(size=(300, 4))
    logits[np.arange(300), true] += 3
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.savez(folder / "p.npz", set__p=probs, set__given=given, set__true=true)
    return folder


def test_planted_errors_of_ones_own_data_are_counted(small_data: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_data.rglob("*")}
    done = labelfix(
        "benchmark", "inject", small_data, "--kinds", "symmetric", "--rate", "0.2",
        "--repeats", "1", "--image-size", "32", "--json", "--results", tmp_path / "rows.jsonl",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert [held.to_json() for held in read_rows(tmp_path / "rows.jsonl")] == [row]
    assert (row["task"], row["method"], row["samples"]) == (
        "photos-symmetric-20",
        "labelfix-head",
        90,
    )
    assert row["figures"]["true_noise_rate"] == pytest.approx(0.2)
    assert row["figures"]["average_precision"] > 0.8
    assert row["figures"]["features_wall_seconds"] > 0
    assert row["wall_seconds"] > 0
    assert row["peak_gib"] > 0
    assert before == {path: path.stat().st_mtime_ns for path in small_data.rglob("*")}


def test_a_table_says_how_many_planted_errors_chance_finds(small_data: Path) -> None:
    done = run("inject", small_data, "--methods", "random", "--kinds", "symmetric", "--rate", "0.1")
    assert done.exit_code == 0, done.stderr
    for text in ("photos-symmetric-10", "random", "±", ".100"):
        assert text in done.stdout
    assert "an error that your labels had before counts as a false alarm" in done.stdout
    refused = run("inject", small_data, "--kinds", "odd")
    assert refused.exit_code == 1
    assert "no noise 'odd'" in str(refused.exception) + refused.stderr


def test_rows_are_added_and_what_fails_is_told(published: Path, tmp_path: Path) -> None:
    results = tmp_path / "rows.jsonl"
    args = ("run", "--data", published, "--results", results, "--methods", "labelfix-probs")
    failed = run(*args, "--tasks", "probs/set,probs/none", "--seeds", "0, 1")
    assert failed.exit_code == 1
    assert "failed: probs/none: no .npz file" in failed.stderr
    assert "error: 1 of the runs failed" in failed.stderr
    assert "2 rows were added" in failed.stdout
    rows = read_rows(results)
    assert [(row.task, row.method, row.seed) for row in rows] == [
        ("probs/set", "labelfix-probs", 0),
        ("probs/set", "labelfix-probs", 1),
    ]
    assert rows[0].figures["auroc"] > 0.8
    page = run("tables", results, "--out", tmp_path / "README.md")
    assert page.exit_code == 0, page.stderr
    assert "| labelfix-probs |" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_method_that_fails_leaves_the_others_alone(published: Path, tmp_path: Path) -> None:
    """Labels of one class are too little for cleanlab, but not for chance."""
    with np.load(published / "p.npz") as arrays:
        probs = arrays["set__p"]
    one = np.zeros(300, dtype=np.int8)
    np.savez(tmp_path / "one.npz", one__p=probs, one__given=one, one__true=one)
    results = tmp_path / "rows.jsonl"
    args = ("run", "--data", tmp_path, "--tasks", "probs/one", "--results", results)
    done = run(*args, "--methods", "cleanlab-probs,random")
    assert done.exit_code == 1
    assert "failed: probs/one, cleanlab-probs, seed 0:" in done.stderr
    assert [row.method for row in read_rows(results)] == ["random"]


def test_what_was_measured_is_not_measured_again(published: Path, tmp_path: Path) -> None:
    results = tmp_path / "rows.jsonl"
    args = ("run", "--data", published, "--results", results, "--tasks", "probs/set")
    first = run(*args, "--methods", "random", "--quiet")
    assert (first.exit_code, first.stdout) == (0, "")
    [row] = read_rows(results)
    again = run(*args, "--methods", "random")
    # a changed checkout, or none, does not say which code made a row
    expected = 1 if is_repeatable(row) else 2
    assert len(read_rows(results)) == expected, again.stderr
    other = run(*args, "--methods", "random", "--again", "--samples", "50")
    assert other.exit_code == 0
    assert [row.samples for row in read_rows(results)] == [300] * expected + [50]


def test_tasks_and_methods_are_listed(published: Path) -> None:
    shown = run("list", "--data", published)
    assert shown.exit_code == 0, shown.stderr
    for text in ("cifar10n-worse", "DATA-KIND-RATE", "probs/set", "labelfix-head", "numpy "):
        assert text in shown.stdout
    values = json.loads(run("list", "--data", published, "--json").stdout)
    assert {"task": "probs/set", "version": 1} in values["tasks"]
    assert [method["method"] for method in values["methods"]] == list(METHODS)


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--tasks", "nothing", "--methods", "random"], 1, "no task 'nothing'"),
        (["--tasks", "probs/set", "--methods", "magic"], 1, "no method 'magic'"),
        (["--tasks", "probs/set", "--seeds", "one"], 2, "whole numbers"),
        (["--tasks", "probs/set", "--methods", "aum"], 1, "none of the methods can be set to it"),
    ],
)
def test_wrong_names_are_refused(
    published: Path, tmp_path: Path, args: list[str], code: int, told: str
) -> None:
    results = tmp_path / "rows.jsonl"
    done = run("run", "--data", published, "--results", results, *args)
    assert done.exit_code == code
    assert told in done.stderr
    assert not results.exists()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts whose labels two kinds of people gave, under the name of the task."""
    folder = tmp_path_factory.mktemp("crowd")
    texts, true = sentences(80)
    other = {"refund": "travel", "travel": "refund"}
    given = [other[label] if row % 5 == 0 else label for row, label in enumerate(true)]
    columns = {"text": texts, "clean_label": true, "one_annotator": given, "majority": true}
    write_table(folder / "crowd_sentiment_train.csv", columns)
    return folder


def test_a_method_is_set_to_texts_of_a_crowd(crowd: Path, tmp_path: Path) -> None:
    results = tmp_path / "rows.jsonl"
    args = ("--tasks", "crowd-one", "--methods", "random,labelfix-probs")
    done = run("run", "--data", crowd, "--results", results, *args, "--cache", tmp_path / "cache")
    assert done.exit_code == 0, done.stderr
    assert "left out: labelfix-probs on crowd-one: it reads probabilities" in done.stdout
    [row] = read_rows(results)  # texts have no test set, and so no references
    assert (row.method, row.samples) == ("random", 80)
    assert row.settings["backbone"] == "wordllama"
    assert row.figures["true_noise_rate"] == pytest.approx(0.2)


def test_texts_without_a_method_are_told_of(crowd: Path, tmp_path: Path) -> None:
    args = ("--tasks", "crowd-majority", "--methods", "labelfix-probs")
    done = run("run", "--data", crowd, "--results", tmp_path / "rows.jsonl", *args)
    assert done.exit_code == 1
    assert "none of the methods can be set to it" in done.stderr
    own = ("inject", crowd / "crowd_sentiment_train.csv", "--label-column", "majority")
    refused = run(*own, "--methods", "labelfix-probs")
    assert refused.exit_code == 1
    assert "it reads probabilities" in str(refused.exception) + refused.stderr
