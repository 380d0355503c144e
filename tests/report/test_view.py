"""The view of a report: one definition of each term, the same wherever a report is read."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from command import labelfix as command
from hypothesis import given, settings
from hypothesis import strategies as st
from small_report import CLASS_NAMES, Sample, report_of, samples_of

from labelfix.data.decisions import Decision
from labelfix.data.splits import is_test_name
from labelfix.issues.types import COMMON_KINDS, IssueKinds, Neighbors
from labelfix.modalities.base import no_pictures
from labelfix.modalities.image.checks import IMAGE_CHECKS
from labelfix.report.checks import check_report
from labelfix.report.html.findings import find_findings
from labelfix.report.html.page import write_page
from labelfix.report.io import read_report_table, write_report
from labelfix.report.summary import summarize
from labelfix.report.types import Report
from labelfix.report.view import LEAKAGE, ReportView, count_pairs
from labelfix.review.session import Session
from labelfix.types import MISSING

KINDS = (*COMMON_KINDS, *(check.name for check in IMAGE_CHECKS))

# Leakage


def report_on(splits, *, near: bool) -> Report:
    """Return the report on sets of copies.

    Args:
        splits: The splits of the samples of each set.
        near: Whether they are near-copies, or byte-identical ones, which are near-copies, too.
    """
    rows = [(split, number) for number, inside in enumerate(splits) for split in inside]
    samples = [
        Sample(f"{row}.png", split=split, duplicate_set=MISSING if near else number)
        for row, (split, number) in enumerate(rows)
    ]
    size = len(rows)
    is_issue = {kind: np.zeros(size, np.bool_) for kind in KINDS}
    kinds = IssueKinds(
        near_duplicate_set=np.array([number for _, number in rows], np.int64),
        is_conflicting=np.zeros(size, np.bool_),
        scores={kind: np.ones(size, np.float32) for kind in KINDS},
        is_issue=is_issue | {"near_duplicate": np.ones(size, np.bool_)},
        limits=dict.fromkeys(KINDS, 0.5),
        neighbors=Neighbors(np.empty((size, 0), np.int64), np.empty((size, 0), np.float32)),
    )
    return report_of(samples, kinds=kinds)


def leaking_samples(report: Report, run: Path) -> list[set[str]]:
    """Return which samples leak: by ``show``, ``check``, the page, ``review``, and ``reason``."""
    write_report(report, run / "report.parquet")
    view = ReportView(read_report_table(run, pred_probs=False))
    names = view.sample_id.to_pylist()
    check = check_report(view, fail_on=[LEAKAGE]).checks[0]
    findings = [found for found in find_findings(view) if found.key.endswith("leaks")]
    page = {one.sample_id for f in findings for found in f.sets for one in found.pictures}
    session = Session(report, run)
    review = {name for row, name in enumerate(names) if session.view.issue(LEAKAGE)[row]}
    reasons = report.table["reason"].to_pylist()
    said = {
        name
        for name, reason in zip(names, reasons, strict=True)
        if reason and "the same picture is in" in reason
    }
    assert summarize(view).leaks == len(said) == session.kinds[LEAKAGE]
    return [set(check.sample_ids), page, review, said]


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize(
    ("splits", "leaks"),
    [
        ([None, "train"], 2), (["Train", "train"], 0), (["train", "test"], 2),
        (["train", "train"], 0), ([None, None], 0), (["train", "train", "val"], 3),
    ],
)  # fmt: skip
def test_all_outputs_say_the_same_of_leakage(splits, leaks, near, tmp_path):
    everybody = {f"{row}.png" for row in range(len(splits))}
    report = report_on([splits], near=near)
    assert leaking_samples(report, tmp_path) == [everybody if leaks else set()] * 4


@pytest.mark.parametrize(
    ("splits", "leaks"),
    [([None, "train"], 2), (["Train", "train"], 0), (["train", "test"], 2), (["train"] * 2, 0)],
)
def test_the_commands_and_the_page_say_the_same_of_leakage(splits, leaks, tmp_path):
    report = report_on([splits], near=False)
    write_report(report, tmp_path / "report.parquet")
    assert json.loads(command("show", tmp_path, "--json").stdout)["leaks"] == leaks
    assert command("check", tmp_path, "--fail-on", "leakage").returncode == (3 if leaks else 0)
    text = write_page(tmp_path, report, no_pictures("none")).read_text(encoding="utf-8")
    assert ("Copies in several splits" in text) == bool(leaks)
    item = Session(report, tmp_path)
    assert bool(item.view.issue(LEAKAGE).all()) == bool(leaks)


SPLITS = st.sampled_from([None, "train", "Train", "training", "test", "TEST", "val", "a", "A", "b"])
SAME = {"Train": "train", "training": "train", "TEST": "test", "A": "a"}


@settings(max_examples=30)
@given(
    splits=st.lists(st.lists(SPLITS, min_size=2, max_size=4), min_size=1, max_size=4),
    near=st.booleans(),
)
def test_a_set_leaks_if_its_splits_differ(splits, near):
    wanted = [
        len({SAME.get(split, split) for split in inside}) > 1 for inside in splits for _ in inside
    ]
    view = ReportView(report_on(splits, near=near))
    assert view.is_leaking.tolist() == view.is_near_leak.tolist() == wanted
    assert view.is_exact_leak.tolist() == ([False] * len(wanted) if near else wanted)
    assert summarize(view).leaks == sum(wanted)


# The other definitions, against a loop over the samples


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_each_term_is_what_a_loop_over_the_samples_says(data):
    names = data.draw(CLASS_NAMES)
    samples = data.draw(samples_of(len(names)))
    tests = data.draw(st.sampled_from([(), ("val",)]))
    report = report_of(samples, names)
    run = replace(report.run, settings={**report.run.settings, "test_splits": tests})
    view = ReportView(replace(report, run=run))
    assert view.is_scored.tolist() == [s.error is not None for s in samples]
    assert view.is_flagged.tolist() == [s.suggested is not None for s in samples]
    assert view.given.tolist() == [s.given for s in samples]
    assert view.suggested.tolist() == [
        MISSING if s.suggested is None else s.suggested for s in samples
    ]
    assert view.is_test.tolist() == [
        s.split is not None and is_test_name(s.split, tests) for s in samples
    ]
    assert [view.split_names[code] if code >= 0 else None for code in view.split_name] == [
        s.split for s in samples
    ]
    assert view.fold.tolist() == [
        MISSING if fold is None else fold for fold in report.table["fold"].to_pylist()
    ]
    flagged = [row for row, s in enumerate(samples) if s.suggested is not None]
    columns = ("is_label_issue", "label_error_probability", "suggested_label_probability")
    for least in (0.5, 0.9):
        assert view.is_surely_wrong(least).tolist() == [
            flag and wrong >= np.float32(least) and right >= np.float32(least)
            for flag, wrong, right in zip(
                *(report.table[name].to_pylist() for name in columns), strict=True
            )
        ]
    assert view.suspects.tolist() == sorted(flagged, key=lambda row: -samples[row].error)
    unreadable = [s.unreadable is not None for s in samples]
    assert view.issue("unreadable").tolist() == unreadable
    assert view.count("unreadable") == sum(unreadable)
    assert [view.label(code) for code in view.given] == report.table["given_label"].to_pylist()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_decision_finds_a_label_wrong_if_it_drops_or_changes_it(data):
    names = data.draw(CLASS_NAMES)
    samples = data.draw(samples_of(len(names)))
    actions = st.sampled_from([None, "keep", "relabel", "unsure", "drop"])
    decisions = {}
    for sample in samples:
        action = data.draw(actions)
        label = data.draw(st.sampled_from(names)) if action == "relabel" else None
        if action:
            decisions[sample.name] = Decision(sample.name, action, label)
    view = ReportView(report_of(samples, names), decisions)

    def is_wrong(sample: Sample) -> bool:
        decision = decisions.get(sample.name)
        if decision is None or decision.action in ("keep", "unsure"):
            return False
        given_label = None if sample.given == MISSING else names[sample.given]
        return decision.action == "drop" or decision.label != given_label

    assert view.is_decided_wrong.tolist() == [is_wrong(sample) for sample in samples]
    for action in ("keep", "relabel", "unsure", "drop"):
        held = [s.name in decisions and decisions[s.name].action == action for s in samples]
        assert view.decided.has(action).tolist() == held


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 3)), max_size=30))
def test_pairs_are_counted_most_frequent_first(pairs):
    counted = count_pairs(*np.array(pairs, np.int64).reshape(-1, 2).T, 4).first(100)
    known = {pair: pairs.count(pair) for pair in pairs if MISSING not in pair}
    assert counted == [(*pair, n) for pair, n in sorted(known.items(), key=lambda p: (-p[1], p[0]))]


# What a report cannot tell of


def test_a_kind_that_nobody_looked_for_has_no_count():
    view = ReportView(report_of([Sample("a"), Sample("b", error=0.9, suggested=1)]))
    assert (view.count("label"), view.count("unreadable"), view.count(LEAKAGE)) == (1, 0, 0)
    assert (view.count("dark"), view.count("conflicting_near_duplicate")) == (None, None)
    assert view.count("no such kind") is None


def test_a_report_on_probabilities_alone_tells_of_labels_only():
    report = report_of([Sample("a"), Sample("b", error=0.9, suggested=1)])
    run = replace(report.run, modality=None, backbone=None)
    view = ReportView(replace(report, run=run))
    assert {kind: view.count(kind) for kind in view.kinds if view.count(kind) is not None} == {
        "label": 1
    }


def test_a_report_without_columns_of_copies_has_no_leak():
    report = report_of([Sample("a", split="train", duplicate_set=0), Sample("b", duplicate_set=0)])
    table = report.table.drop_columns(["exact_duplicate_set", "near_duplicate_set"])
    assert not ReportView(replace(report, columns=table)).is_leaking.any()
    assert ReportView(report).is_leaking.all()
    assert isinstance(ReportView(report).sample_id, pa.ChunkedArray)
