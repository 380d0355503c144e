"""An audit, decisions on it, and an audit that trusts them: by the real command."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import labelfix as command
from given_probs import noisy, write
from small_classes import CLASSES
from whole_networks import Killed, config_of, write_weights

import labelfix
from labelfix.data.decisions import Decision, DecisionLog
from labelfix.errors import DecisionsError, RunError
from labelfix.pipeline.probabilities import audit_pred_probs
from labelfix.pipeline.samples import audit
from labelfix.report.html.page import rewrite_page


def decide(run: Path, decisions: Sequence[Decision]) -> None:
    DecisionLog(run).append(decisions)


def some_decisions(run: Path, classes: Sequence[str]) -> dict[str, Decision]:
    """Decide on the worst suspects, in every way."""
    worst = labelfix.read_report(run).sort_values("label_score").head(8)
    made = []
    for number, (sample, given) in enumerate(
        zip(worst["sample_id"], worst["given_label"], strict=True)
    ):
        action = ("relabel", "keep", "drop", "unsure")[number % 4]
        label = next(name for name in classes if name != given)
        made.append(Decision(sample, action, label if action == "relabel" else None))
    decide(run, made)
    return {decision.sample_id: decision for decision in made}


def check_rows(report: pd.DataFrame, decisions: dict[str, Decision]) -> None:
    rows = report.set_index("sample_id")
    for sample, decision in decisions.items():
        row = rows.loc[sample]
        if decision.action == "unsure":
            assert pd.isna(row["reason"]) or not row["reason"].startswith("reviewed")
            assert 0 < row["label_error_probability"] < 1
            continue
        assert row["reason"].startswith("reviewed: ")
        is_wrong = decision.action != "keep"
        assert row["label_error_probability"] == float(is_wrong)
        assert row["is_label_issue"] == is_wrong
        assert (row["sample_weight"] == 0) == is_wrong
        if decision.action == "relabel":
            assert row["suggested_label"] == decision.label
            assert row["suggested_label_probability"] == 1
        if decision.action == "drop":
            assert row["reason"] == "reviewed: to be left out"
            assert pd.isna(row["fold"])
            assert row["suggested_label_probability"] == 0
        assert len(row["pred_probs"]) == 3


@pytest.fixture(scope="module")
def decided(small_run, tmp_path_factory):
    """A run with decisions, and what they are."""
    run = tmp_path_factory.mktemp("decided") / "run"
    shutil.copytree(small_run, run)
    decisions = some_decisions(run, CLASSES)
    decide(run, [Decision("gone/away.png", "keep")])
    return run, decisions


def test_reviewed_rows_say_what_was_decided(decided, small_data, tmp_path):
    run, decisions = decided
    out = tmp_path / "again"
    done = command("audit", small_data, "--out", out, "--decisions", run)
    assert done.returncode == 0, done.stderr
    assert "1 decision is on samples that the data do not hold" in " ".join(done.stdout.split())
    before, after = labelfix.read_report(run), labelfix.read_report(out)
    check_rows(after, decisions)
    pd.testing.assert_series_equal(before["given_label"], after["given_label"])
    assert (out / "decisions.jsonl").read_bytes() == (run / "decisions.jsonl").read_bytes()
    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["decisions"] == {"reviewed": 4, "dropped": 2, "not_found": 1}

    flagged = set(after.loc[after["is_label_issue"], "sample_id"])
    new = flagged - set(decisions)
    assert record["suspects"] == {"flagged": len(flagged), "new": len(new)}
    answer = " ".join(done.stdout.split())
    assert f"{len(flagged - new)} of {len(flagged)} suspects" in answer
    assert ("undecided" in answer, f"{len(new)} left" in answer) == (True, True)
    shown = json.loads(command("show", out, "--json").stdout)
    assert {row["sample_id"] for row in shown["worst"]} <= new
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page == rewrite_page(out).read_text(encoding="utf-8")  # it knows them, too
    exported = command("export", out, tmp_path / "clean.csv", "--drop")
    assert exported.returncode == 0, exported.stderr
    labels = pd.read_csv(tmp_path / "clean.csv", dtype=str)
    assert len(labels) < len(after)


def test_a_run_may_be_replaced_by_one_that_trusts_its_own_decisions(decided, small_data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(decided[0], run)
    text = (run / "decisions.jsonl").read_bytes()
    labelfix.audit(small_data, tmp_path / "other", decisions=run)
    replaced = labelfix.audit(small_data, run, decisions=run, overwrite=True)
    assert (run / "decisions.jsonl").read_bytes() == text
    report = (run / "report.parquet").read_bytes()
    assert (tmp_path / "other" / "report.parquet").read_bytes() == report

    again = labelfix.audit(small_data, run, decisions=run, resume=True)  # nothing is left to do
    assert again.report.table.equals(replaced.report.table)
    sample = labelfix.read_report(run)["sample_id"][0]
    decide(run, [Decision(sample, "drop")])
    with pytest.raises(RunError, match="the decisions have changed since") as told:
        labelfix.audit(small_data, run, decisions=run, resume=True)
    assert "--overwrite" in told.value.hint
    with pytest.raises(RunError, match="another run: the decisions have changed"):
        labelfix.audit(small_data, run, resume=True)


def test_decisions_that_cannot_be_used_leave_no_run_behind(small_run, small_data, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(small_run, run)
    with pytest.raises(DecisionsError, match="holds no"):
        labelfix.audit(small_data, out, decisions=run)
    sample = labelfix.read_report(run)["sample_id"][0]
    decide(run, [Decision(sample, "relabel", "bat")])
    with pytest.raises(DecisionsError, match="relabeled 'bat', and the data have no such class"):
        labelfix.audit(small_data, out, decisions=run)
    assert not out.exists()


def test_given_probabilities_are_scored_by_decisions_too(tmp_path):
    probs = write(tmp_path / "p.csv", noisy())
    run, out = tmp_path / "run", tmp_path / "out"
    audit_pred_probs(probs, run)
    decisions = some_decisions(run, ("cat", "dog"))
    done = command("audit", "--pred-probs", probs, "--out", out, "--decisions", run)
    assert done.returncode == 0, done.stderr
    after = labelfix.read_report(out)
    check_rows(after, decisions)
    rest = ~after["sample_id"].isin(list(decisions))
    before = labelfix.read_report(run)
    change = (after["label_error_probability"] - before["label_error_probability"])[rest]
    assert change.abs().max() > 0
    np.testing.assert_array_equal(np.stack(after["pred_probs"]), np.stack(before["pred_probs"]))
    text = (out / "report.parquet").read_bytes()
    audit_pred_probs(probs, out, decisions=out, overwrite=True)
    assert (out / "report.parquet").read_bytes() == text
    assert audit_pred_probs(probs, out, decisions=run, resume=True).run == out
    with pytest.raises(RunError, match="the decisions have changed"):
        audit_pred_probs(probs, out, resume=True)


def test_whole_networks_trust_decisions_and_resume_only_with_the_same(
    decided, small_data, tmp_path
):
    run, decisions = decided
    config = config_of(write_weights(tmp_path), tmp_path / "cache")
    out = tmp_path / "full"

    def die(progress):
        if progress.stage == "fine-tuning network 2 of 2" and progress.done:
            raise Killed

    with pytest.raises(Killed):
        audit(small_data, out, config, decisions=run, on_progress=die)
    with pytest.raises(RunError, match="the decisions have changed"):
        audit(small_data, out, config, resume=True)
    audit(small_data, out, config, resume=True, decisions=run)
    check_rows(labelfix.read_report(out), decisions)
