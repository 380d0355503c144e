"""What an export would change, told beforehand; and checks that fail a build."""

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pyarrow as pa
import pytest
from exported_runs import SAMPLES, run_of
from hypothesis import given, settings
from hypothesis import strategies as st
from small_report import CLASS_NAMES, Sample, report_of, samples_of
from typer.testing import CliRunner, Result

from labelfix.cli import main as cli
from labelfix.cli.exports import FAILED
from labelfix.data.decisions import Decision, DecisionLog
from labelfix.errors import ConfigError, ReportError
from labelfix.exports.diff import diff_of, diff_table
from labelfix.exports.exported import exported_view
from labelfix.exports.plan import plan_export
from labelfix.exports.table import manifest_tables
from labelfix.report.checks import (
    MOST_RESULTS,
    Check,
    CheckResult,
    check_report,
    error_rate,
    write_junit,
    write_sarif,
)
from labelfix.report.view import ReportView
from labelfix.types import MISSING


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


def decisions_on(samples, *actions: str | None, label="dog") -> dict[str, Decision]:
    return {
        sample.name: Decision(sample.name, action, label if action == "relabel" else None)
        for sample, action in zip(samples, actions, strict=False)
        if action
    }


# Diff


@given(st.data(), st.booleans(), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=60)
def test_what_the_diff_says_is_what_the_export_writes(data, drop, least):
    class_names = data.draw(CLASS_NAMES)
    samples = data.draw(samples_of(len(class_names)))
    actions = [None, "keep", "relabel", "unsure", "drop"]
    drawn = data.draw(st.lists(st.sampled_from(actions), max_size=len(samples)))
    decisions = decisions_on(samples, *drawn, label=data.draw(st.sampled_from(class_names)))
    report = report_of(samples, class_names)
    view = ReportView(report, decisions)
    plan = plan_export(view, min_probability=least, drop=drop)
    rows = next(manifest_tables(view, plan, Path("t.csv"))).to_pylist()
    written = {row["sample_id"]: row["label"] for row in rows}
    said = report.table.select(["sample_id", "given_label"]).to_pylist()
    given_labels = {row["sample_id"]: row["given_label"] for row in said}

    diff = diff_of(view, plan, min_probability=least)
    for change in diff.changes:
        if change.action == "drop":
            given_labels.pop(change.sample_id)
        else:
            assert given_labels[change.sample_id] == change.given_label != change.label
            given_labels[change.sample_id] = change.label
    assert given_labels == written
    assert diff.relabeled + diff.dropped == len(diff.changes) == sum(p.count for p in diff.pairs)
    assert diff_table(diff).num_rows == len(diff.changes)


def test_diff_shows_a_patch_and_writes_it(tmp_path):
    DecisionLog(run_of(tmp_path)).append(
        [Decision("maybe", "relabel", "wolf", decided_by="ann"), Decision("clean", "drop")]
    )
    told = run("diff", tmp_path, "--drop", "--csv", tmp_path / "d.csv")
    assert told.exit_code == 0, told.output
    lines = [re.sub(r"\s+", " ", line).strip() for line in told.stdout.splitlines()]
    assert lines[:3] == [
        "2 of 8 labels would change", "3 rows would be left out", "note: new classes: wolf"
    ]  # fmt: skip
    assert "sure - cat + dog wrong with 99.0 %" in lines
    assert "maybe - cat + wolf decided by ann" in lines
    assert "clean - cat (left out) decided" in lines
    assert "broken - cat (left out) cannot be read" in lines
    frame = pd.read_csv(tmp_path / "d.csv").set_index("sample_id")
    assert frame["action"].to_dict() == {
        "clean": "drop", "sure": "relabel", "unsure what": "drop", "maybe": "relabel",
        "broken": "drop",
    }  # fmt: skip
    again = run("diff", tmp_path, "--csv", tmp_path / "d.csv")
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    values = json.loads(run("diff", tmp_path, "--drop", "--json").stdout)
    assert values["pairs"][0] == {"given_label": "cat", "label": None, "count": 3}


def test_diff_without_changes_says_so(tmp_path):
    told = run("diff", run_of(tmp_path, [Sample("a", 0), Sample("b", 1)]))
    assert told.stdout.split() == ["0", "of", "2", "labels", "would", "change"]


def test_diff_and_export_say_which_flagged_labels_stay(tmp_path):
    suspects = [Sample(f"s{i}", 0, 0.85, suggested=1, certainty=0.85) for i in range(3)]
    doubtful = Sample("doubtful", 0, 0.6, suggested=1, certainty=0.6)
    test = Sample("test", 0, 0.85, suggested=1, certainty=0.85, split="test")
    run_of(tmp_path, [*suspects, doubtful, test, Sample("b", 1)])
    line = "  4 more flagged labels are untouched; --min-probability 0.8 would change 3"
    assert line in run("diff", tmp_path).stdout.splitlines()
    to = tmp_path / "clean.csv"
    assert line in run("export", tmp_path, to).stdout.splitlines()
    low = run("diff", tmp_path, "--min-probability", ".8").stdout
    assert "1 more flagged label is untouched; --min-probability 0.6 would change 1" in low
    assert "untouched" not in run("diff", tmp_path, "--min-probability", ".5").stdout
    values = json.loads(run("diff", tmp_path, "--json").stdout)["untouched"]
    assert values == {"count": 4, "would_change": [[0.8, 3], [0.7, 3], [0.6, 4], [0.5, 4]]}


def test_identical_samples_that_would_contradict_each_other_are_named(tmp_path):
    def pair(number: int, *labels: int, **second) -> list[Sample]:
        common = {"duplicate_set": number, "conflicting": len(set(labels)) > 1}
        samples = [Sample(f"{number}-{i}", label, **common) for i, label in enumerate(labels)]
        return [*samples[:-1], replace(samples[-1], **second)]

    samples = [
        *pair(0, 0, 0, 1),
        *pair(1, 1, 1),
        *pair(2, 0, 1, error=0.99, suggested=0, certainty=0.99),  # which an export mends
        *pair(3, 0, MISSING, error=None),
        *(sample for number in range(4, 9) for sample in pair(number, 1, 0)),
    ]
    run_of(tmp_path, samples)
    to = tmp_path / "clean.csv"
    for told in (run("diff", tmp_path), run("export", tmp_path, to)):
        assert told.exit_code == 0, told.output
        assert (
            "6 sets of byte-identical images still have different labels: "
            "0-0 (cat) and 0-2 (dog); 4-0 (dog) and 4-1 (cat); 5-0 (dog) and 5-1 (cat); "
            "and 3 more" in " ".join(told.stdout.split())
        )
    shown = " ".join(run("show", tmp_path).stdout.split())
    assert "7 sets of byte-identical images with different labels, such as 0-0 (cat)" in shown
    decided = [Decision(f"{number}-0", "drop") for number in range(4, 9)]
    DecisionLog(tmp_path).append([*decided, Decision("0-2", "relabel", "cat")])
    assert "different labels" not in run("diff", tmp_path).stdout


def test_diff_never_writes_over_what_was_read(tmp_path):
    run_of(tmp_path)
    told = run("diff", tmp_path, "--csv", tmp_path / "report.parquet", "--overwrite")
    assert told.exit_code == 1
    assert "never changes" in told.stderr


# The rate of errors


def rate_of(samples, decisions=None):
    report = report_of(samples)  # which says .25, between .125 and .375
    return error_rate(ReportView(report, decisions or {}))


def test_without_decisions_the_rate_is_that_of_the_report():
    rate = rate_of([Sample("a", 0, 0.1), Sample("b", 0, 0.5), Sample("c", 0, None)])
    assert (rate.estimate, rate.low, rate.high) == pytest.approx((0.25, 0.125, 0.375))
    assert (rate.decided, rate.samples) == (0, 2)


def test_decided_labels_are_not_estimated():
    samples = [Sample(name, 0, 0.3) for name in "abcdef"]
    decisions = decisions_on(samples, "keep", "relabel", "drop", "unsure")
    rate = rate_of(samples, decisions)  # two wrong, one right, three at the report's rate
    assert rate.estimate == pytest.approx((2 + 3 * 0.25) / 6)
    assert (rate.low, rate.high) == pytest.approx(((2 + 3 * 0.125) / 6, (2 + 3 * 0.375) / 6))
    same = rate_of(samples, decisions_on(samples, "relabel", label="cat"))
    assert same.estimate == pytest.approx(5 * 0.25 / 6)  # relabeled as it was


def test_when_all_is_decided_nothing_is_uncertain():
    samples = [Sample(name, 0, 0.3) for name in "abcd"]
    rate = rate_of(samples, decisions_on(samples, "keep", "keep", "keep", "drop"))
    assert rate.low == rate.estimate == rate.high == 0.25


def test_without_anything_scored_there_is_no_rate():
    with pytest.raises(ReportError, match="does not say how many"):
        rate_of([Sample("a", 0, None), Sample("b", 1, None)])


@pytest.mark.parametrize(
    ("most", "upper_bound", "passed"),
    [(0.25, False, True), (0.24, False, False), (0.25, True, False), (0.375, True, True)],
)
def test_the_estimate_or_its_upper_end_is_compared(most, upper_bound, passed):
    report = report_of([Sample("a", 0, 0.25), Sample("b", 1, 0.25)])
    view = ReportView(report)
    result = check_report(view, max_error_rate=most, upper_bound=upper_bound)
    assert result.passed == passed
    assert ("within" in result.reason) == passed


# Kinds of issue

COPIES = [
    Sample("a", 0, split="train", duplicate_set=0),
    Sample("b", 0, split="test", duplicate_set=0),
    Sample("c", 0, split="train", duplicate_set=1, conflicting=True),
    Sample("d", 1, split="train", duplicate_set=1, conflicting=True),
    Sample("e", 1, split=None, duplicate_set=2),
    Sample("f", 1, split="Train", duplicate_set=2),
    Sample("g", 1, 0.9, suggested=0),
]


def failed_on(kind: str, decisions=None, samples=COPIES) -> tuple[str, ...]:
    report = report_of(samples)
    view = ReportView(report, decisions or {})
    return check_report(view, fail_on=[kind]).checks[0].sample_ids


def test_kinds_of_issue_are_the_columns_of_the_report():
    assert failed_on("conflicting-duplicates") == ("c", "d")
    assert failed_on("conflicting_duplicate") == ("c", "d")
    assert failed_on("exact-duplicate") == tuple("abcdef")
    assert failed_on("unreadable") == ()
    assert failed_on("leakage") == ("a", "b", "e", "f")


def test_near_copies_in_two_splits_leak_where_the_report_knows_of_them():
    report = report_of([Sample("a", split="train"), Sample("b", split="test"), Sample("c")])
    columns = {
        "near_duplicate_set": pa.array([4, 4, None], pa.int64()),
        "is_near_duplicate_issue": pa.array([True, True, False]),
        "near_duplicate_score": pa.array([0, 0, 1], pa.float32()),
    }
    table = report.table
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    report = replace(report, columns=table)
    result = check_report(ReportView(report), fail_on=["leakage", "near-duplicates"])
    assert [check.sample_ids for check in result.checks] == [("a", "b"), ("a", "b")]


@pytest.mark.parametrize("kind", ["dark", "near-duplicates", "conflicting-near-duplicates"])
def test_a_report_that_never_looked_cannot_pass(kind):
    report = report_of(SAMPLES)  # whose images nobody looked at
    with pytest.raises(ReportError, match=f"cannot tell of {kind}"):
        check_report(ReportView(report), fail_on=[kind])


def test_a_label_that_somebody_kept_is_no_issue():
    assert failed_on("label") == ("g",)
    kept = {"g": Decision("g", "keep")}
    assert failed_on("label", kept) == ()


def test_kinds_that_are_not_known_are_told():
    with pytest.raises(ConfigError, match="'ugliness'") as caught:
        failed_on("ugliness")
    assert "conflicting-duplicate" in caught.value.hint


# What an export gives


def test_an_export_is_checked_by_the_labels_that_it_gives():
    samples = [
        Sample("sure", 0, 0.99, suggested=1, certainty=0.99),
        Sample("doubtful", 0, 0.6, suggested=1, certainty=0.6),
        Sample("dropped", 0, 0.6, suggested=1),
        Sample("c", 0, 0.01, duplicate_set=1, conflicting=True),
        Sample("d", 1, 0.99, suggested=0, certainty=0.99, duplicate_set=1, conflicting=True),
        Sample("e", 0, 0.01, duplicate_set=2, conflicting=True),
        Sample("f", 1, 0.01, duplicate_set=2, conflicting=True),
    ]
    decisions = {"dropped": Decision("dropped", "drop"), "f": Decision("f", "relabel", "cow")}
    given_view = ReportView(report_of(samples), decisions)
    view = exported_view(given_view, min_probability=0.95, drop=False)
    assert view.sample_id.to_pylist() == ["sure", "doubtful", "c", "d", "e", "f"]
    assert view.class_names == ("cat", "dog", "cow")
    kinds = ["label", "conflicting-duplicates", "exact-duplicates"]
    checks = check_report(view, fail_on=kinds).checks
    assert [check.sample_ids for check in checks] == [("doubtful",), ("e", "f"), tuple("cdef")]
    before, after = error_rate(given_view), error_rate(view)
    assert after.estimate < before.estimate
    assert after.low <= after.estimate <= after.high
    assert after.samples == 6


def test_without_a_change_an_export_is_as_wrong_as_what_was_given():
    view = ReportView(report_of([Sample("a", 0, 0.1), Sample("b", 0, 0.5), Sample("c", 0, None)]))
    before = error_rate(view)
    after = error_rate(exported_view(view, min_probability=0.95, drop=False))
    assert after.estimate == pytest.approx(before.estimate)
    assert after.high == pytest.approx(before.high)


def test_an_export_is_checked_as_it_is_asked_for():
    samples = [
        Sample("likely", 0, 0.7, suggested=1, certainty=0.7),
        Sample("odd", 0, 0.9, suggested=1, certainty=0.4),
        Sample("c", 0, 0.01),
    ]
    view = ReportView(report_of(samples))

    def suspects(min_probability, drop):
        exported = exported_view(view, min_probability=min_probability, drop=drop)
        return check_report(exported, fail_on=["label"]).checks[0].sample_ids

    assert suspects(0.95, drop=False) == ("likely", "odd")
    assert suspects(0.6, drop=False) == ("odd",)
    assert suspects(0.6, drop=True) == ()
    with pytest.raises(ConfigError, match="no probability"):
        suspects(2, drop=False)


# The command


def test_check_ends_with_0_or_3_or_says_that_it_could_not(tmp_path):
    run_of(tmp_path, COPIES)
    passed = run("check", tmp_path, "--max-error-rate", ".3", "--fail-on", "unreadable")
    assert (passed.exit_code, len(passed.stdout.splitlines())) == (0, 1)
    assert passed.stdout.startswith("passed: 25.00 % of the labels are wrong")
    failed = run(
        "check", tmp_path, "--max-error-rate", ".02", "--fail-on", "conflicting-duplicates"
    )
    assert (failed.exit_code, len(failed.stdout.splitlines())) == (FAILED, 1)
    assert failed.stdout.startswith("failed: ")
    assert "2 samples have the issue conflicting-duplicate" in failed.stdout
    assert run("check", tmp_path / "nothing", "--fail-on", "label").exit_code == 1
    assert run("check", tmp_path, "--fail-on", "ugliness").exit_code == 1
    for wrong in ([], ["--max-error-rate", "2"], ["--upper-bound", "--fail-on", "label"]):
        assert run("check", tmp_path, *wrong).exit_code == 2
    exported = run("check", tmp_path, "--exported", "--fail-on", "label")
    assert exported.exit_code == FAILED  # it is wrong with .9, too little to be changed
    lower = ("--exported", "--min-probability", "0", "--drop")
    assert run("check", tmp_path, "--fail-on", "label", *lower).exit_code == 0
    for option in lower[1:3], lower[3:]:
        assert run("check", tmp_path, "--fail-on", "label", *option).exit_code == 2
    told = json.loads(run("check", tmp_path, "--max-error-rate", ".02", "--json").stdout)
    assert (told["passed"], told["checks"][0]["name"]) == (False, "max-error-rate")
    assert told["error_rate"]["samples"] == 7


def test_junit_and_sarif_say_what_failed(tmp_path):
    run_of(tmp_path, [*COPIES, Sample("h\x1b/ü &<.png", 0, None, unreadable="empty")])
    files = ["--junit", tmp_path / "j.xml", "--sarif", tmp_path / "s.sarif"]
    told = run("check", tmp_path, "--max-error-rate", ".5", "--fail-on", "unreadable", *files)
    assert told.exit_code == FAILED
    root = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert {key: root.get(key) for key in ("tests", "failures")} == {"tests": "2", "failures": "1"}
    cases = {case.get("name"): case.find("failure") for case in root.iter("testcase")}
    assert cases["max-error-rate"] is None
    assert cases["unreadable"].text.splitlines()[1] == "h\ufffd/ü &<.png"

    sarif = json.loads((tmp_path / "s.sarif").read_text())
    [one] = sarif["runs"]
    assert sarif["version"] == "2.1.0"
    assert [rule["id"] for rule in one["tool"]["driver"]["rules"]] == [
        "max-error-rate",
        "unreadable",
    ]
    [result] = one["results"]
    assert (result["ruleId"], result["ruleIndex"]) == ("unreadable", 1)
    [place] = result["locations"]
    uri = place["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "h%1B/%C3%BC%20%26%3C.png"


@pytest.mark.parametrize("option", ["--junit", "--sarif"])
def test_a_check_never_writes_over_what_it_read(tmp_path, option):
    before = (run_of(tmp_path) / "report.parquet").read_bytes()
    told = run("check", tmp_path, "--fail-on", "label", option, tmp_path / "report.parquet")
    assert told.exit_code == 1
    assert "never changes" in told.stderr
    assert (tmp_path / "report.parquet").read_bytes() == before


def test_sarif_lists_no_more_than_its_readers_take(tmp_path):
    ids = tuple(map(str, range(MOST_RESULTS + 5)))
    result = CheckResult((Check("label", False, "many", ids),), None)
    write_sarif(result, tmp_path / "s.sarif")
    assert len(json.loads((tmp_path / "s.sarif").read_text())["runs"][0]["results"]) == MOST_RESULTS
    write_junit(result, tmp_path, tmp_path / "j.xml")
    text = ElementTree.parse(tmp_path / "j.xml").find(".//failure").text
    assert text.endswith("and 4,985 more")


def test_a_run_of_probabilities_cannot_tell_of_images(tmp_path):
    report = report_of(SAMPLES)
    object.__setattr__(report.run, "modality", None)
    view = ReportView(report)
    with pytest.raises(ReportError, match="no image was looked at"):
        check_report(view, fail_on=["conflicting-duplicates"])
    assert not check_report(view, fail_on=["label"]).passed
