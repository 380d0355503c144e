"""One audit at a time writes to a RUN, and the files of two runs are not taken for one."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from command import labelfix as command
from given_probs import noisy, write
from kill_points import drafts_below

import labelfix
from labelfix.errors import LabelfixError, ReportError, RunError
from labelfix.pipeline.probabilities import audit_pred_probs
from labelfix.report.html.page import rewrite_page
from labelfix.report.run_folder import RunFolder, run_id_of
from labelfix.report.run_locks import locked, under_review

HOLD = """
import sys, time
from pathlib import Path
from labelfix.report.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).held(may_hold_run=True):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def probs(tmp_path_factory):
    return write(tmp_path_factory.mktemp("probs") / "probs.csv", noisy(count=60))


@pytest.fixture
def holder():
    """Starts a process that holds a RUN as an audit does."""
    started = []

    def hold(run, program=HOLD):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(run)], stdout=subprocess.PIPE, encoding="utf-8"
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("way", [[], ["--resume"], ["--overwrite"]])
def test_the_second_audit_is_refused_at_once(probs, holder, tmp_path, way):
    run = tmp_path / "run"
    process = holder(run)
    start = time.monotonic()
    done = command("audit", "--pred-probs", probs, "--out", run, *way)
    assert time.monotonic() - start < 20
    assert done.returncode == 1
    assert f"is being written to by process {process.pid} on " in done.stderr
    assert "-c" in done.stderr, "the command of the process is named"
    assert "Traceback" not in done.stderr
    (tmp_path / "photos").mkdir()
    with pytest.raises(RunError, match=f"process {process.pid} on"):
        labelfix.audit(tmp_path / "photos", run, device="cpu", overwrite=True)
    process.kill()
    process.wait()
    result = audit_pred_probs(probs, run)
    assert result.run == run
    assert not drafts_below(run)


def test_a_page_is_not_written_while_an_audit_is_under_way(probs, holder, tmp_path):
    run = audit_pred_probs(probs, tmp_path / "run").run
    holder(run)
    with pytest.raises(RunError, match="is being written to"):
        rewrite_page(run)


def test_an_audit_in_the_same_process_is_refused_too(probs, tmp_path):
    with (
        RunFolder(tmp_path / "run").held(may_hold_run=True),
        pytest.raises(RunError, match=f"process {os.getpid()} on"),
    ):
        audit_pred_probs(probs, tmp_path / "run", overwrite=True)


def test_many_that_come_at_once_hold_it_one_after_the_other(tmp_path):
    """The last holder removes the lock's file, while others have it open already."""
    program = """
import os, sys, time
from pathlib import Path
from labelfix.errors import RunError
from labelfix.report.run_locks import locked
folder = Path(sys.argv[1])
held, end = 0, time.monotonic() + 3
while time.monotonic() < end:
    try:
        with locked(folder):
            mine = folder / "mine"
            os.close(os.open(mine, os.O_CREAT | os.O_EXCL))
            mine.unlink()
            held += 1
    except RunError:
        pass
print(held)
"""
    every = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, encoding="utf-8"
        )
        for _ in range(3)
    ]
    assert all(int(process.communicate()[0]) > 0 for process in every)
    assert [process.returncode for process in every] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_fails_leaves_no_folder(tmp_path):
    out = tmp_path / "new" / "parent" / "run"
    with pytest.raises(LabelfixError):
        audit_pred_probs(tmp_path / "absent.csv", out)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_fails_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        audit_pred_probs(tmp_path / "absent.csv", tmp_path / "file" / "run")


def test_a_run_is_refused_before_the_data_are_read(probs, tmp_path):
    run = audit_pred_probs(probs, tmp_path / "run").run
    with pytest.raises(RunError, match="holds a finished run"):
        audit_pred_probs(tmp_path / "absent.csv", run)


@pytest.mark.parametrize("left", [[], ["unfinished.json"]])
def test_files_of_two_runs_are_told_apart(probs, tmp_path, left):
    run = audit_pred_probs(probs, tmp_path / "run").run
    other = audit_pred_probs(probs, tmp_path / "other", budget=3).run
    shutil.copy(other / "run.json", run)
    for name in left:
        (run / name).write_text("{}")
    for args in (["show", run], ["export", run, tmp_path / "to.csv"], ["show", run, "--html"]):
        done = command(*args)
        assert done.returncode == 1
        assert "the report.parquet of one run and the run.json of another" in done.stderr
        assert ("--resume" if left else "--overwrite") in done.stderr
    done = command("check", run, "--max-error-rate", "1")
    assert done.returncode == 1
    with pytest.raises(ReportError, match="of another"):
        labelfix.read_report(run)
    audit_pred_probs(probs, run, overwrite=True)
    labelfix.read_report(run)


def test_a_run_is_named_by_what_it_is_about_not_by_where_things_lie():
    claim = {"config": {"seed": 0, "cache": "/a", "backbone": {"weights": "/b", "name": "c"}}}
    moved = {"config": {"backbone": {"name": "c", "weights": "/x"}, "seed": 0, "cache": None}}
    other = {"config": {"backbone": {"name": "c", "weights": "/x"}, "seed": 1, "cache": None}}
    assert run_id_of(claim) == run_id_of(moved) != run_id_of(other)


def test_the_report_and_run_json_name_their_run(probs, tmp_path):
    run = audit_pred_probs(probs, tmp_path / "run").run
    told = json.loads((run / "run.json").read_text())
    assert told["run_id"] == labelfix.read_report(run).attrs["run"]["run_id"] != None  # noqa: E711
    assert told["files"] == ["report.parquet", "report.html", "noise_matrix.parquet"]


def test_a_lock_can_be_taken_again(tmp_path):
    for _ in range(3):
        with locked(tmp_path):
            assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == []


REVIEW = """
import sys, time
from pathlib import Path
from labelfix.report.run_locks import under_review
with under_review(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("place", [".", "again-1"])
def test_a_run_that_is_reviewed_is_not_replaced(probs, holder, tmp_path, place):
    run = audit_pred_probs(probs, tmp_path / "run").run
    reviewed = run / place
    if place != ".":
        shutil.copytree(run, reviewed)
    process = holder(reviewed, REVIEW)
    done = command("audit", "--pred-probs", probs, "--out", run, "--overwrite")
    assert done.returncode == 1
    assert f"{reviewed} is open for review, in process {process.pid} on" in done.stderr
    with pytest.raises(RunError, match="is open for review"):
        audit_pred_probs(probs, run, overwrite=True)
    assert (reviewed / "report.parquet").is_file()
    audit_pred_probs(probs, run, resume=True)
    process.kill()
    process.wait()
    audit_pred_probs(probs, run, overwrite=True)
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
    assert place == "." or not reviewed.exists()


def test_a_run_that_is_reviewed_while_the_outer_one_is_replaced_stays(probs, tmp_path):
    run = audit_pred_probs(probs, tmp_path / "run").run
    inner = shutil.copytree(run, run / "again-1")
    with under_review(inner):  # a notebook may replace what it reviews itself
        audit_pred_probs(probs, run, overwrite=True)
        assert (inner / "run.json").is_file()
    RunFolder(run).remove_again()
    assert not inner.exists()
