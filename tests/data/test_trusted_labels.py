"""Decisions on a run, as another audit reads them."""

import numpy as np
import pyarrow as pa
import pytest

from labelfix.data.decisions import Decision, DecisionLog
from labelfix.data.trusted_labels import (
    copy_decisions,
    decisions_of,
    digest_of,
    plan_with,
    refuse_to_replace,
    reviewed_by,
    settings_with,
)
from labelfix.errors import DatasetError, DecisionsError, RunError
from labelfix.types import MISSING, FoldAssignment, Reviewed

IDS = pa.array([f"{number}.png" for number in range(6)])
GIVEN = np.array([0, 0, 1, 1, MISSING, 2])
CLASSES = ("cat", "dog", "hen")


def decide(run, *decisions):
    run.mkdir(exist_ok=True)
    DecisionLog(run).append([Decision(*decision) for decision in decisions])
    return run


def reviewed_in(run, class_names=CLASSES):
    return reviewed_by(decisions_of(run), IDS, GIVEN, class_names)


def test_decisions_are_found_by_sample_id_and_the_last_in_force_counts(tmp_path):
    run = decide(
        tmp_path / "run",
        ("5.png", "keep"),
        ("0.png", "relabel", "dog"),
        ("1.png", "drop"),
        ("2.png", "unsure"),
        ("3.png", "relabel", "hen"),
        ("3.png", "keep"),
        ("4.png", "keep"),
        ("gone.png", "drop"),
        ("1.png", "undo"),
    )
    reviewed = reviewed_in(run)
    assert reviewed.label.tolist() == [1, MISSING, MISSING, 1, MISSING, 2]
    assert not reviewed.is_dropped.any()
    assert reviewed.not_found == 1
    decide(run, ("1.png", "drop"))
    assert reviewed_in(run).is_dropped.tolist() == [False, True] + 4 * [False]


def test_integer_classes_are_found_as_integers(tmp_path):
    run = decide(tmp_path / "run", ("0.png", "relabel", 7))
    assert reviewed_in(run, (3, 5, 7)).label[0] == 2
    with pytest.raises(DecisionsError, match="'7', and the data have no such class"):
        reviewed_in(decide(run, ("0.png", "relabel", "7")), (3, 5, 7))


def test_a_run_without_decisions_is_refused(tmp_path):
    with pytest.raises(DecisionsError, match=r"holds no decisions.jsonl") as told:
        decisions_of(tmp_path)
    assert "labelfix review" in told.value.hint


def test_the_digest_changes_with_what_counts_and_with_nothing_else(tmp_path):
    one = decide(tmp_path / "a", ("0.png", "keep"), ("1.png", "relabel", "hen"))
    other = decide(
        tmp_path / "b", ("2.png", "unsure"), ("1.png", "relabel", "hen"), ("0.png", "keep")
    )
    before = digest_of(decisions_of(one))
    assert before == digest_of(decisions_of(other))
    assert before != digest_of(decisions_of(decide(other, ("2.png", "keep"))))
    assert digest_of(None) is None


def assignment(fold):
    fold = np.array(fold, np.int16)
    return FoldAssignment(is_scored=fold != MISSING, fold=fold, exclusion_reason={})


def test_dropped_samples_and_classes_that_are_not_scored_train_nothing():
    given = np.array([0, 0, 1, 1, 2])
    plan = assignment([0, 1, 0, 1, MISSING])
    label = np.array([MISSING, 2, MISSING, 0, MISSING])
    is_dropped = np.array([True, False, False, False, False])
    found = plan_with(Reviewed(label, is_dropped), plan, given)
    assert found.fold.tolist() == [MISSING, MISSING, 0, 1, MISSING]
    np.testing.assert_array_equal(found.is_scored, plan.is_scored)
    assert plan_with(None, plan, given) is plan


def test_decisions_that_leave_one_class_are_refused():
    given, label = np.array([0, 0, 1, 1]), np.array([MISSING, MISSING, 0, 0])
    with pytest.raises(DatasetError, match="fewer than two classes"):
        plan_with(Reviewed(label, np.zeros(4, bool)), assignment([0, 1, 0, 1]), given)


def test_settings_say_how_many_decisions_there_were():
    label = np.array([MISSING, 1, 0])
    reviewed = Reviewed(label, np.array([True, False, False]), not_found=4)
    found = settings_with(reviewed, {"folds": 5, "notes": ["memory was short"]})
    assert found["decisions"] == {"reviewed": 2, "dropped": 1, "not_found": 4}
    assert found["notes"][0] == "memory was short"
    assert "3 samples" in found["notes"][1]
    assert "4 decisions are on samples that the data do not hold" in found["notes"][2]
    assert settings_with(None, {"folds": 5}) == {"folds": 5}


def test_decisions_are_copied_whole_and_others_are_not_replaced(tmp_path):
    one = decide(tmp_path / "one", ("0.png", "keep"))
    two, three = tmp_path / "two", decide(tmp_path / "three", ("1.png", "drop"))
    two.mkdir()
    for source, target in [(one, two), (one, one), (None, three)]:
        refuse_to_replace(source, target)
        copy_decisions(source, target)
    text = (one / "decisions.jsonl").read_bytes()
    assert (two / "decisions.jsonl").read_bytes() == text
    decide(one, ("2.png", "drop"))
    refuse_to_replace(one, two)  # nothing would be lost
    with pytest.raises(RunError, match="holds decisions of its own") as told:
        refuse_to_replace(one, three)
    assert f"--decisions {three}" in told.value.hint
