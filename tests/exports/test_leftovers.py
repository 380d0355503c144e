"""How wrong the labels are that an export gives."""

import pytest
from small_report import Sample, report_of

from labelfix.data.decisions import Decision
from labelfix.exports.leftovers import wrong_left
from labelfix.exports.plan import plan_export
from labelfix.report.view import ReportView

SAMPLES = [
    Sample("kept", 0, 0.8, suggested=1),
    Sample("relabeled", 0, 0.9, suggested=1),
    Sample("dropped", 0, 0.7, suggested=1),
    Sample("a copy", 0, 0.2),
    Sample("not sure", 0, 0.6, suggested=1),
    Sample("changed", 0, 0.98, suggested=1, certainty=0.96),
    Sample("open", 0, 0.1),
    Sample("not scored", 0, None),
]
MEAN = (0.8 + 0.9 + 0.7 + 0.2 + 0.6 + 0.98 + 0.1) / 7
DECISIONS = {
    "kept": Decision("kept", "keep"),
    "relabeled": Decision("relabeled", "relabel", "dog"),
    "dropped": Decision("dropped", "drop"),
    "a copy": Decision("a copy", "drop", as_copy=True),
    "not sure": Decision("not sure", "unsure"),
}


def left(samples, decisions=None, least=0.95):
    view = ReportView(report_of(samples), decisions or {})  # which says .25, between .125 and .375
    return wrong_left(view, plan_export(view, min_probability=least, drop=False))


def test_each_exported_label_is_as_wrong_as_what_is_known_of_it():
    found = left(SAMPLES, DECISIONS)
    assert found.probability == pytest.approx([0, 0, 0.6, 0.04, 0.1, float("nan")], nan_ok=True)
    assert found.is_open.tolist() == [False, False, True, False, True, True]
    assert found.rate == pytest.approx((0.04 + 0.7 * 0.25 / MEAN) / 5)
    assert found.interval == pytest.approx(
        [(0.04 + 0.7 * share / MEAN) / 5 for share in (0.125, 0.375)]
    )


def test_without_decisions_and_changes_the_share_is_that_of_the_report():
    found = left(SAMPLES, least=1)
    assert found.rate == pytest.approx(0.25)
    assert found.interval == pytest.approx((0.125, 0.375))


@pytest.mark.parametrize("samples", [[], [Sample("a", 0, None)]])
def test_without_anything_scored_nothing_is_said(samples):
    assert left(samples).rate is None


def test_no_more_labels_are_wrong_than_there_are():
    dropped = {"b": Decision("b", "drop")}
    found = left([Sample("a", 0, 0.9), Sample("b", 0, 0.1)], dropped)
    assert found.rate == pytest.approx(0.9 * 0.25 / 0.5)
    doubtful = [Sample("a", 0, 1.0), *(Sample(str(n), 0, 0.0) for n in range(9))]
    found = left(doubtful, {str(n): Decision(str(n), "drop") for n in range(9)})
    assert found.rate == 1
