"""``labelfix certify``: what it says before, in between and after, and the file that it leaves."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from command import labelfix
from given_probs import noisy, write

from labelfix.certificate import drawn_for
from labelfix.data.decisions import Decision, DecisionLog, now
from labelfix.report.io import read_report_table
from labelfix.report.run_folder import CERTIFICATE_NAMES
from labelfix.report.view import ReportView


@pytest.fixture
def run(tmp_path):
    write(tmp_path / "probs.csv", noisy())
    done = labelfix("audit", "--pred-probs", tmp_path / "probs.csv", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    return tmp_path / "run"


def decide(run, rows, *, wrong=()):
    """Keep the labels of rows, but for those that are wrong: they get the suggested class."""
    view = ReportView(read_report_table(run, pred_probs=False))
    names = view.take(rows, ["sample_id"])["sample_id"].to_pylist()
    other = {name: view.class_names[(view.given[row] + 1) % len(view.class_names)]
             for name, row in zip(names, rows, strict=True)}  # fmt: skip
    log = DecisionLog(run)
    log.append([
        Decision(name, "relabel", other[name], decided_at=now(), decided_by="ann")
        if row in wrong
        else Decision(name, "keep", decided_at=now(), decided_by="bob")
        for name, row in zip(names, rows, strict=True)
    ])  # fmt: skip


def test_from_the_plan_to_the_certificate(run):
    before = labelfix("certify", run, "--looks", "40")
    assert "40 of " in before.stdout
    assert "0 of them are decided" in before.stdout
    assert f"labelfix review {run} --certify 40" in before.stdout
    assert not (run / "certificate.json").exists()
    view = ReportView(read_report_table(run, pred_probs=False))
    rows = drawn_for(view, 40).row
    decide(run, rows[:25].tolist(), wrong=set(view.suspects.tolist()))
    during = labelfix("certify", run, "--looks", "40").stdout
    assert "25 of them are decided" in during
    assert "wrong labels: " in during
    assert not (run / "certificate.json").exists()
    decide(run, rows[25:].tolist(), wrong=set(view.suspects.tolist()))
    after = labelfix("certify", run, "--looks", "40").stdout
    assert "40 of them are decided" in after
    assert "right flags: 100.0 %" in after
    told = json.loads((run / "certificate.json").read_text(encoding="utf-8"))
    assert told["decided"] == told["drawn"] == 40
    assert set(told["decided_by"]) == {"ann", "bob"}
    assert told["run_id"] == view.report.run.run_id
    flagged = float(np.mean(view.is_flagged[view.is_scored]))
    assert told["shares"]["noise_rate"]["estimate"] == pytest.approx(flagged)
    assert json.loads(labelfix("certify", run, "--looks", "40", "--json").stdout) == told
    page = (run / "certificate.html").read_text(encoding="utf-8")
    assert f"{100 * flagged:.1f} %" in page
    assert "ann (" in page
    assert view.report.run.fingerprint in page
    corrected = pq.read_table(run / "recalibrated.parquet")
    assert corrected["sample_id"].to_pylist() == view.sample_id.to_pylist()
    before, after = (corrected[name].to_numpy() for name in corrected.column_names[1:])
    assert (np.diff(after[np.argsort(before)]) >= 0).all()
    assert after[view.is_flagged].mean() > before[view.is_flagged].mean()


def test_a_certificate_does_not_outlive_its_run(run):
    for name in CERTIFICATE_NAMES:
        (run / name).write_text("of the run before")
    probs = run.parent / "probs.csv"
    done = labelfix("audit", "--pred-probs", probs, "--out", run, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert not any((run / name).exists() for name in CERTIFICATE_NAMES)


def test_samples_that_say_nothing_of_their_label_are_left_out_and_do_not_hold_it_up(run):
    rows = drawn_for(ReportView(read_report_table(run, pred_probs=False)), 40).row.tolist()
    decide(run, rows[2:])
    view = ReportView(read_report_table(run, pred_probs=False))
    unsure, copy = view.take(rows[:2], ["sample_id"])["sample_id"].to_pylist()
    DecisionLog(run).append([
        Decision(unsure, "unsure", decided_at=now()),
        Decision(copy, "drop", decided_at=now(), as_copy=True),
    ])  # fmt: skip
    said = labelfix("certify", run, "--looks", "40").stdout
    assert "2 samples are left out" in said
    told = json.loads((run / "certificate.json").read_text(encoding="utf-8"))
    assert (told["decided"], told["left_out"], told["dropped"]) == (38, 2, 0)
    everything = view.sample_id.to_pylist()
    DecisionLog(run).append([Decision(n, "unsure", decided_at=now()) for n in everything])
    said = labelfix("certify", run, "--looks", "40").stdout
    assert "too few of the labels were decided" in said
    assert "percentage points" not in said


def test_suspects_that_were_decided_first_are_no_random_sample(run):
    view = ReportView(read_report_table(run, pred_probs=False))
    drawn = set(drawn_for(view, 40).row.tolist())
    others = [row for row in view.suspects.tolist() if row not in drawn]
    decide(run, others, wrong=set(others))
    assert "0 of them are decided" in labelfix("certify", run, "--looks", "40").stdout


def test_too_few_looks_are_an_error(run):
    assert labelfix("certify", run, "--looks", "5").returncode != 0
