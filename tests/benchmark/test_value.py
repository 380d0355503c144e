"""``labelfix benchmark value``: whether cleaning pays, where the true labels are known."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pytest
from command import labelfix

from labelfix.benchmark.value import Value, WayValue
from labelfix.cli.benchmark_tables import value_lines
from labelfix.data.decisions import Decision, DecisionLog, now
from labelfix.report.io import read_report_table

TRAINED, TESTED, CLASSES = 120, 200, 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of which two of five labels for training are wrong, and people mended all of them."""
    folder = tmp_path_factory.mktemp("value")
    rng = np.random.default_rng(0)
    true = np.arange(TRAINED + TESTED) % CLASSES
    values = rng.normal(0, 1, (len(true), 24)) + 1.5 * np.eye(CLASSES, 24)[true]
    is_wrong = (np.arange(len(true)) < TRAINED) & (rng.random(len(true)) < 0.4)
    given = np.where(is_wrong, (true + 1) % CLASSES, true)
    names = np.array(["ant", "bee", "cow"])
    split = ["train"] * TRAINED + ["test"] * TESTED
    values[-1] = values[0]  # a sample for testing that is trained on as well
    np.save(folder / "values.npy", values.astype(np.float32))
    table = pa.table({"id": [f"s{row}" for row in range(len(true))], "label": names[given],
                      "split": split})  # fmt: skip
    pcsv.write_csv(table, folder / "data.csv")
    done = labelfix("audit", folder / "data.csv", "--out", folder / "run",
                    "--features", folder / "values.npy")  # fmt: skip
    assert done.returncode == 0, done.stderr
    ids = read_report_table(folder / "run", pred_probs=False).table["sample_id"].to_pylist()
    DecisionLog(folder / "run").append([
        Decision(ids[row], "relabel", str(names[true[row]]), decided_at=now())
        for row in np.flatnonzero(is_wrong)
    ])  # fmt: skip
    return folder / "run"


def test_mended_labels_are_worth_more_than_given_ones(run):
    done = labelfix("benchmark", "value", run, "--seeds", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["test"], found["tested"], found["seeds"]) == (["test"], TESTED, 2)
    assert found["copies_left_out"] == 1
    ways = {way["name"]: way for way in found["ways"]}
    given, mended = ways["given labels"], ways["decisions so far"]
    assert (given["gain"], given["changed"], given["trained"]) == (0, 0, TRAINED - 1)
    assert mended["changed"] > 30
    assert mended["is_measurable"]
    assert mended["accuracy"] == pytest.approx(given["accuracy"] + mended["gain"])
    low, high = mended["gain_interval"]
    assert 0 < low < mended["gain"] < high
    assert ways["soft labels"]["accuracy"] > given["accuracy"]
    assert ways["without flagged samples"]["trained"] < TRAINED - 1


def test_what_it_prints_and_refuses(run, tmp_path):
    shown = labelfix("benchmark", "value", run, "--seeds", "1", "-q").stdout
    assert f"Tested on {TESTED} samples of test" in shown
    assert "cleaning pays: " in shown
    assert "1 sample with a copy in the test was not trained on" in shown
    other = labelfix("benchmark", "value", run, "--test", "dev")
    assert other.returncode == 1
    assert "the report has no split 'dev'" in other.stderr
    assert "its splits are: test, train" in other.stderr
    assert labelfix("benchmark", "value", tmp_path).returncode == 1


def test_the_best_way_that_is_named_is_one_whose_gain_is_measurable():
    def way(name, gain, low, high):
        return WayValue(name, 9, 0, 0.5 + gain, gain, (low, high))

    ways = (way("given", 0, 0, 0), way("noisy", 0.3, -0.1, 0.7), way("sure", 0.1, 0.05, 0.15))
    assert value_lines(Value(("test",), 50, 0, 0, 1, ways)) == [
        "cleaning pays: sure, +0.1000 of accuracy"
    ]
