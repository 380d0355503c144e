"""The summary: the figures that an audit ends with."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_report import CLASS_NAMES, Sample, report_of, samples_of

from labelfix.data.decisions import Decision
from labelfix.errors import ReportError
from labelfix.report.io import read_report_table, write_report
from labelfix.report.summary import (
    ClassSummary,
    ConfusedPair,
    DecidedSuspects,
    FlaggedRow,
    summarize,
)
from labelfix.report.view import ReportView
from labelfix.types import MISSING, Assumption

CLASSES = ("cat", "dog", "fox")
CAT, DOG, FOX = range(3)
CAT_RATE = (0.01 + 0.99 + 0.75 + 0.01) / 4  # means of `SAMPLES.error`, those not scored left out
DOG_RATE, FOX_RATE = 0.875, 0.01
SAMPLES = [
    Sample("clean", CAT),
    Sample("sure", CAT, error=0.99, suggested=DOG, certainty=0.98),
    Sample("likely", CAT, error=0.75, suggested=DOG, certainty=0.5),
    Sample("other", DOG, error=0.875, suggested=FOX, certainty=0.75),
    Sample("broken", DOG, error=None, unreadable="empty file", weight=0),
    Sample("blank", MISSING, error=None, exclusion_reason="not scored: it has no label", weight=0),
    Sample("twin", FOX, duplicate_set=0, conflicting=True),
    Sample("copy", CAT, duplicate_set=0, conflicting=True),
]


def test_the_figures_of_the_whole():
    summary = summarize(ReportView(report_of(SAMPLES, CLASSES)))
    assert (summary.samples, summary.scored, summary.classes) == (8, 6, 3)
    assert (summary.flagged, summary.unreadable) == (3, 1)
    assert (summary.duplicates, summary.conflicting) == (2, 2)
    assert summary.noise_rate == 0.25
    assert (summary.backbone, summary.image_size) == ("tf_efficientnet_lite0", None)


def test_nothing_scored_and_nobody_sure_is_a_summary_too():
    samples = [Sample(name, CAT, error=None, weight=0) for name in ("one", "two")]
    view = ReportView(report_of(samples, CLASSES), {"one": Decision("one", "unsure")})
    summary = summarize(view)
    assert (summary.samples, summary.scored, summary.flagged) == (2, 0, 0)


def test_the_worst_come_first():
    summary = summarize(ReportView(report_of(SAMPLES, CLASSES)), top=2)
    assert [row.sample_id for row in summary.worst] == ["sure", "other"]
    assert summary.worst[1] == FlaggedRow("other", "dog", "fox", 0.875, 0.75)


def test_equally_bad_rows_keep_the_order_of_the_input():
    samples = [Sample(name, CAT, error=0.5, suggested=DOG) for name in "zaymb"]
    assert [row.sample_id for row in summarize(ReportView(report_of(samples))).worst] == list(
        "zaymb"
    )


def test_the_most_confused_pairs_come_first():
    summary = summarize(ReportView(report_of(SAMPLES, CLASSES)))
    assert summary.confused == (ConfusedPair("cat", "dog", 2), ConfusedPair("dog", "fox", 1))


def test_every_class_has_a_row_with_most_flagged_first():
    summary = summarize(ReportView(report_of(SAMPLES, CLASSES)))
    assert summary.by_class == (
        ClassSummary("cat", 4, 2, 0.5, 2, pytest.approx(CAT_RATE)),
        ClassSummary("dog", 2, 1, 0.5, 1, DOG_RATE),
        ClassSummary("fox", 1, 0, 0.0, 0, pytest.approx(FOX_RATE)),
    )


def test_one_class_shows_what_came_as_it_or_should_be_it():
    summary = summarize(ReportView(report_of(SAMPLES, CLASSES)), class_name="dog")
    assert [row.sample_id for row in summary.worst] == ["sure", "other", "likely"]
    assert summary.by_class == (ClassSummary("dog", 2, 1, 0.5, 1, DOG_RATE),)
    fox = summarize(ReportView(report_of(SAMPLES, CLASSES)), class_name="fox")
    assert [row.sample_id for row in fox.worst] == ["other"]
    assert fox.flagged == 3


def test_a_class_may_be_a_number():
    report = report_of([Sample("a", 1, error=0.9, suggested=0)], [7, 42])
    assert summarize(ReportView(report), class_name="42").worst[0].given_label == 42


def test_an_unknown_class_suggests_near_names():
    with pytest.raises(ReportError, match="no class is called 'dgo'") as caught:
        summarize(ReportView(report_of(SAMPLES, CLASSES)), class_name="dgo")
    assert "dog" in caught.value.hint


def test_it_is_json_and_needs_no_probabilities(tmp_path):
    write_report(report_of(SAMPLES, CLASSES), tmp_path / "report.parquet")
    summary = summarize(ReportView(read_report_table(tmp_path, pred_probs=False)))
    values = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert values["worst"][0]["sample_id"] == "sure"
    assert values["confused"][0] == {"given_label": "cat", "suggested_label": "dog", "count": 2}


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_parts_add_up(data):
    class_names = data.draw(CLASS_NAMES)
    samples = data.draw(samples_of(len(class_names)))
    summary = summarize(ReportView(report_of(samples, class_names)), top=1000)
    flagged = sum(sample.suggested is not None for sample in samples)
    assert summary.flagged == flagged == len(summary.worst)
    assert sum(pair.count for pair in summary.confused) == flagged
    assert sum(row.flagged for row in summary.by_class) == flagged
    assert sum(row.samples for row in summary.by_class) == sum(s.given >= 0 for s in samples)
    assert [row.label for row in sorted(summary.by_class, key=lambda r: r.label)] == class_names
    errors = [row.label_error_probability for row in summary.worst]
    assert errors == sorted(errors, reverse=True)


def test_labels_that_somebody_decided_on_are_known_and_no_longer_listed():
    decisions = {
        "sure": Decision("sure", "relabel", "dog"),
        "likely": Decision("likely", "keep"),
        "clean": Decision("clean", "drop"),
    }
    summary = summarize(ReportView(report_of(SAMPLES, CLASSES), decisions))
    assert summary.decided == DecidedSuspects(
        kept=1, relabeled=1, dropped=0, unsure=0, left=1, others=1
    )
    assert [row.sample_id for row in summary.worst] == ["other"]
    assert summary.confused == (ConfusedPair("dog", "fox", 1),)
    assert summary.expected_precision == pytest.approx((1 + 0 + 0.875) / 3)
    assert summary.noise_rate > 2 / 6  # two of the six are known to be wrong
    assert summarize(ReportView(report_of(SAMPLES, CLASSES))).decided is None


def test_assumptions_come_back_from_a_written_report(tmp_path):
    report = report_of(SAMPLES, CLASSES)
    held = (Assumption("columns", "a"), Assumption("splits", "b"))
    write_report(replace(report, run=replace(report.run, assumptions=held)), tmp_path / "r.parquet")
    back = read_report_table(tmp_path / "r.parquet")
    assert back.run.assumptions == held
    assert summarize(ReportView(back)).assumptions == ("a", "b")
