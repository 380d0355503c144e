"""More suspects by training on the decisions of a review: by the real command, beside the page."""

import json
import shlex
import shutil
import signal
import time
import urllib.request
from pathlib import Path

import pytest
from command import labelfix
from given_probs import noisy, write
from review_run import served
from review_visitor import Visitor

from labelfix.data.decisions import Decision, DecisionLog, read_decisions
from labelfix.report.frame import read_report
from labelfix.review.retraining import plan_of


@pytest.fixture
def decided(small_run: Path, tmp_path: Path) -> Path:
    """A run of which every suspect was decided on, and some labels that it did not flag."""
    run = tmp_path / "decided"
    shutil.copytree(small_run, run)
    report = read_report(run).sort_values("label_score")
    first = report["sample_id"].head(int(report["is_label_issue"].sum()) + 5)
    DecisionLog(run).append([Decision(sample, "keep") for sample in first])
    return run


def wait_for(visitor: Visitor) -> dict:
    end = time.monotonic() + 300  # on a machine with much else to do
    while (state := visitor.get("/api/retrain").json())["stage"] == "running":
        assert time.monotonic() < end
        time.sleep(0.05)
    return state


def files_of(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(run.iterdir()) if path.is_file()}


def test_what_looks_wrong_only_with_the_decisions_is_counted(decided: Path) -> None:
    visitor, before = Visitor(decided), files_of(decided)
    offered = visitor.get("/api/retrain").json()
    assert (offered["stage"], offered["why_not"]) == ("idle", None)
    assert 1 < offered["seconds"] < 600
    assert visitor.post("/api/retrain", {}).status_code == 200
    refused = visitor.post("/api/retrain", {})
    assert (refused.status_code, refused.json()["error"]) == (409, "it goes on already")
    state = wait_for(visitor)
    assert (state["stage"], state["error"]) == ("done", None)
    found, again = state["found"], decided / "again-1"

    old, new = read_report(decided), read_report(again)
    flagged = set(new.loc[new["is_label_issue"], "sample_id"])
    known = set(old.loc[old["is_label_issue"], "sample_id"]) | set(read_decisions(decided))
    assert found["new"] == len(flagged - known)
    assert (found["still"], found["cleared"]) == (0, 0)
    assert found["decided"] == len(read_decisions(decided))
    assert files_of(decided).items() >= before.items()  # the run of the review is as it was
    assert found["command"] == shlex.join(["labelfix", "review", str(again)])
    assert read_decisions(again) == read_decisions(decided)
    record = json.loads((again / "run.json").read_text())
    assert record["suspects"]["new"] == found["new"]

    inner = Visitor(again)  # the review goes on there, and the next one lies beside it
    inner.decide(inner.next(1, kind="all")[0], "drop")
    assert inner.session.settled
    plan = plan_of(inner.session)
    assert plan.out == decided / "again-2"
    assert plan.arguments[plan.arguments.index("--decisions") + 1] == str(again)


def test_an_audit_that_fails_is_told_as_the_command_tells_it(decided: Path) -> None:
    notes = decided / "again-1" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("not of labelfix")
    visitor = Visitor(decided)
    assert visitor.post("/api/retrain", {}).status_code == 200
    state = wait_for(visitor)
    assert (state["stage"], state["found"]) == ("failed", None)
    assert "is not empty and holds no run of labelfix" in state["error"]
    assert "name a new folder" in state["hint"]
    assert [path.name for path in notes.parent.iterdir()] == ["notes.txt"]


def test_networks_are_not_trained_again(decided: Path) -> None:
    record = json.loads((decided / "run.json").read_text())
    record["config"]["tune"] = "top"
    (decided / "run.json").write_text(json.dumps(record))
    state = Visitor(decided).get("/api/retrain").json()
    assert (state["is_other_model"], state["seconds"]) == (True, None)
    assert plan_of(Visitor(decided).session).arguments[-2:] == ("--tune", "head")


def test_what_makes_no_sense_is_said_instead(run: Path, decided: Path, tmp_path: Path) -> None:
    made_up = Visitor(run).get("/api/retrain").json()["why_not"]
    assert "run.json does not say how the data were audited" in made_up
    none = shutil.copytree(
        decided, tmp_path / "none", ignore=shutil.ignore_patterns("decisions.jsonl")
    )
    visitor = Visitor(none)
    visitor.decide(visitor.next()[0], "unsure")
    assert "nothing to learn from yet" in visitor.get("/api/retrain").json()["why_not"]
    answer = visitor.post("/api/retrain", {})
    assert answer.status_code == 409
    assert "keep, relabel or drop" in answer.json()["hint"]
    probs = write(tmp_path / "p.csv", noisy())
    assert labelfix("audit", "--pred-probs", probs, "--out", tmp_path / "probs").returncode == 0
    visitor = Visitor(tmp_path / "probs")
    visitor.decide(visitor.next()[0])
    assert "on given probabilities" in visitor.get("/api/retrain").json()["why_not"]


def test_data_that_are_gone_are_named(small_data: Path, decided: Path, tmp_path: Path) -> None:
    visitor = Visitor(decided)
    small_data.rename(tmp_path / "elsewhere")
    try:
        why_not = visitor.get("/api/retrain").json()["why_not"]
    finally:
        (tmp_path / "elsewhere").rename(small_data)
    assert f"{small_data}, the audited data set, is gone" in why_not


def test_the_command_ends_with_how_to_find_more(decided: Path) -> None:
    with served(decided, "--port", "0") as page:
        urllib.request.urlopen(page.address).close()  # it answers, so Ctrl-C ends it in good order
        page.process.send_signal(signal.SIGINT)
        rest = page.process.communicate(timeout=60)[0]
    line = next(line for line in rest.splitlines() if line.startswith("more suspects"))
    assert f"--decisions {decided} --out {decided / 'again-1'}" in line
