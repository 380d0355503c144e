"""Sets of copies: which there are, in which order, and what deciding on one does."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, until
from hypothesis import given
from hypothesis import strategies as st
from review_browser import CHOOSE, Reviewer
from review_run import served, write_images
from review_visitor import Visitor
from small_report import Sample, report_of

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.decisions import read_decisions
from labelfix.exports.plan import plan_export
from labelfix.issues.types import COMMON_KINDS, IssueKinds, Neighbors
from labelfix.modalities.base import get_modality
from labelfix.report.checks import error_rate
from labelfix.report.io import write_report
from labelfix.report.types import Report
from labelfix.report.view import ReportView
from labelfix.review.groups import groups_of
from labelfix.types import MISSING

SETS = st.lists(st.integers(MISSING, 3), min_size=1, max_size=12)


def kinds_of(near: list[int]) -> IssueKinds:
    sets, size = np.array(near, np.int64), len(near)
    names = [*COMMON_KINDS, *(check.name for check in get_modality("image").checks())]
    is_issue = {name: np.zeros(size, np.bool_) for name in names}
    return IssueKinds(
        near_duplicate_set=sets,
        is_conflicting=np.zeros(size, np.bool_),
        scores={name: np.ones(size, np.float32) for name in names},
        is_issue={**is_issue, "near_duplicate": sets != MISSING},
        limits=dict.fromkeys(names, 0.1),
        neighbors=Neighbors(np.zeros((size, 0), np.int64), np.zeros((size, 0), np.float32)),
    )


def copies(exact: list[int], near: list[int], labels: list[int], splits: list[str]) -> Report:
    samples = [
        Sample(f"s{row:02}", label, duplicate_set=number, split=split)
        for row, (number, label, split) in enumerate(zip(exact, labels, splits, strict=True))
    ]
    return report_of(samples, ("cat", "dog"), kinds=kinds_of(near))


def expected_sets(exact: list[int], near: list[int]) -> list[set[int]]:
    """Return the sets the slow way: near ones, and exact ones that are within none of them."""
    found: dict[tuple[str, int], set[int]] = defaultdict(set)
    for row, number in enumerate(near):
        if number != MISSING:
            found["near", number].add(row)
    for number in set(exact) - {MISSING}:
        rows = {row for row, other in enumerate(exact) if other == number}
        if not any(rows <= members for (kind, _), members in found.items() if kind == "near"):
            found["exact", number] = rows
    return list(found.values())


@given(st.data())
def test_sets_are_those_of_a_naive_search_and_the_worst_come_first(data: st.DataObject) -> None:
    exact = data.draw(SETS)
    same = {"min_size": len(exact), "max_size": len(exact)}
    near = data.draw(st.lists(st.integers(MISSING, 2), **same))
    labels = data.draw(st.lists(st.integers(MISSING, 1), **same))
    splits = data.draw(st.lists(st.sampled_from(["train", "test"]), **same))
    found = groups_of(ReportView(copies(exact, near, labels, splits)))
    members = [found.members(place).tolist() for place in range(len(found))]
    assert sorted(map(sorted, members)) == sorted(map(sorted, expected_sets(exact, near)))
    for place, rows in enumerate(members):
        numbers = {exact[row] for row in rows}
        assert found.is_identical[place] == (len(numbers) == 1 and MISSING not in numbers)
        assert found.is_contradicting[place] == (len({labels[r] for r in rows} - {MISSING}) > 1)
        assert found.is_leaking[place] == (len({splits[row] for row in rows}) > 1)
        assert all(row in members[found.of_row(row) or 0] for row in rows)
    worst = list(zip(~found.is_contradicting, ~found.is_identical, ~found.is_leaking, strict=True))
    assert worst == sorted(worst)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three sets: two identical with different labels, three near ones, two identical alike."""
    data = write_images(tmp_path / "data", ("cat", "dog"), 6)
    dataset = open_dataset(data, DatasetConfig())
    exact = [0, -1, -1, -1, 1, 1, 0, -1, -1, -1, -1, -1]
    near = [-1, 5, 5, -1, -1, -1, -1, 5, -1, -1, -1, -1]
    samples = [
        Sample(name, code, 0.6 if row == 0 else 0.1, duplicate_set=number, conflicting=number == 0,
               suggested=1 if row == 0 else None)
        for row, (name, code, number) in enumerate(
            zip(dataset.sample_id.to_pylist(), dataset.given_label.tolist(), exact, strict=True)
        )
    ]  # fmt: skip
    (tmp_path / "run").mkdir()
    report = report_of(samples, dataset=dataset, kinds=kinds_of(near))
    write_report(report, tmp_path / "run" / "report.parquet")
    return tmp_path / "run"


@pytest.fixture
def visitor(run: Path) -> Visitor:
    return Visitor(run)


def groups(visitor: Visitor, **asked: object) -> list[dict]:
    query = "&".join(f"{key}={value}" for key, value in asked.items())
    answer = visitor.get(f"/api/groups?{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()["groups"]


def decide(visitor: Visitor, *wanted: tuple[dict, dict]) -> dict:
    body = [
        {"row": item["row"], "sample_id": item["sample_id"], **action} for item, action in wanted
    ]
    return visitor.post("/api/decide", {"decisions": body, "batch": True}).json()


def test_sets_come_with_their_copies_and_the_classes_that_all_may_have(visitor: Visitor) -> None:
    first, near, alike = groups(visitor)
    assert [item["row"] for item in first["members"]] == [0, 6]
    assert [item["row"] for item in near["members"]] == [1, 2, 7]
    assert [item["row"] for item in alike["members"]] == [4, 5]
    assert [g["is_contradicting"] for g in (first, near, alike)] == [True, True, False]
    assert [g["is_identical"] for g in (first, near, alike)] == [True, False, True]
    assert {code for code, _ in first["classes"]} == {0, 1}
    shares = [share for _, share in first["classes"]]
    assert shares == sorted(shares, reverse=True)
    assert visitor.get("/api/start").json()["groups"] == {
        "all": 3, "contradicting": 2, "leaking": 0, "identical": 2,
    }  # fmt: skip
    assert groups(visitor, row=7) == [near]
    assert groups(visitor, row=3) == []
    assert groups(visitor, which="identical") == [first, alike]
    assert groups(visitor, after=0, limit=1) == [near]
    assert groups(visitor, **{"class": 1}) == [first, near]


@pytest.mark.parametrize("query", ["which=x", "row=12", "row=-1", "after=-2", "limit=x", "class=2"])
def test_a_wish_for_sets_that_makes_no_sense_is_refused(visitor: Visitor, query: str) -> None:
    assert visitor.get(f"/api/groups?{query}").status_code == 400


def test_a_set_is_decided_when_all_its_copies_are_and_undone_as_one(visitor: Visitor) -> None:
    first = groups(visitor)[0]
    one, other = first["members"]
    decide(visitor, (one, {"action": "keep"}))
    assert groups(visitor)[0]["place"] == first["place"]
    done = decide(visitor, (other, {"action": "relabel", "label": 0}))
    assert done["changed_count"] == 1
    assert [g["place"] for g in groups(visitor, state="undecided")] == [1, 2]
    assert [g["place"] for g in groups(visitor, state="decided")] == [0]
    assert visitor.get("/api/finish").json()["conflict_count"] == 0
    visitor.post("/api/undo", {})
    assert [g["place"] for g in groups(visitor, state="undecided")] == [0, 1, 2]
    assert visitor.get("/api/finish").json()["conflict_count"] == 1


def test_copies_that_are_dropped_say_nothing_of_their_labels(visitor: Visitor) -> None:
    run, before = visitor.session.run, visitor.get("/api/estimate").json()
    given_rate = error_rate(ReportView(visitor.session.view.report))
    near = groups(visitor)[1]["members"]
    dropped = {"action": "drop", "as_copy": True}
    decide(visitor, (near[0], dropped), (near[1], dropped))
    log = read_decisions(run)
    assert [(d.action, d.as_copy) for d in log.values()] == [("drop", True)] * 2
    view = ReportView(visitor.session.view.report, log)
    assert error_rate(view) == given_rate
    assert not view.is_decided_wrong.any()
    assert visitor.get("/api/estimate").json() == before
    assert len(plan_export(view, min_probability=0.95, drop=False).rows) == 10
    decide(visitor, (groups(visitor)[0]["members"][0], {"action": "drop"}))  # as a wrong one
    assert ReportView(view.report, read_decisions(run)).is_decided_wrong.sum() == 1


@pytest.mark.parametrize("wrong", [{"as_copy": 1}, {"as_copy": True, "action": "keep"}])
def test_only_what_is_dropped_can_be_dropped_as_a_copy(visitor: Visitor, wrong: dict) -> None:
    item = groups(visitor)[0]["members"][0]
    body = {"row": item["row"], "sample_id": item["sample_id"], "action": "drop", **wrong}
    assert visitor.post("/api/decide", {"decisions": [body]}).status_code == 400


def test_sets_that_a_tab_has_in_hand_are_shown_in_no_other(visitor: Visitor) -> None:
    held = groups(visitor, tab="one", state="undecided", limit=1)
    assert [group["place"] for group in held] == [0]
    others = visitor.get("/api/groups?tab=two&state=undecided").json()
    assert [group["place"] for group in others["groups"]] == [1, 2]
    assert others["elsewhere"] == 1


def test_kept_copies_that_contradict_each_other_are_named_by_the_export(
    visitor: Visitor, tmp_path: Path
) -> None:
    first = groups(visitor)[0]["members"]
    decide(visitor, *((item, {"action": "keep"}) for item in first))
    body = {"to": str(tmp_path / "a.csv"), "format": "csv", "min_probability": 0.95}
    notes = visitor.post("/api/export", body).json()["notes"]
    assert any("byte-identical" in note and first[1]["sample_id"] in note for note in notes)


SHOWN = """return [...document.querySelectorAll('#groups:not([hidden]) .tile')]
  .filter(tile => tile.title).map(tile => tile.title)"""


def test_sets_are_gone_through_by_keys(browser: Browser, run: Path) -> None:
    def held() -> dict[str, tuple[str, object, bool]]:
        return {k: (d.action, d.label, d.as_copy) for k, d in read_decisions(run).items()}

    with served(run, "--port", "0") as page:
        Reviewer(browser, page)
        browser.press("p")
        until(lambda: browser.run(SHOWN) == ["cat/000.png", "dog/000.png"])
        assert "at most one is right" in browser.find("#groups-what").text
        browser.press("2")
        until(lambda: browser.run(SHOWN) == ["cat/001.png", "cat/002.png", "dog/001.png"])
        (label,) = {label for _, label, _ in held().values()} - {None}
        assert sorted(action for action, _, _ in held().values()) == ["keep", "relabel"]
        browser.press("HOME", "ARROW_RIGHT", "d")
        until(lambda: browser.run(SHOWN) == ["cat/004.png", "cat/005.png"])
        assert held()["cat/002.png"] == ("keep", None, False)
        assert held()["cat/001.png"] == held()["dog/001.png"] == ("drop", None, True)
        browser.press("k")
        until(lambda: browser.shown("#finish"))
        assert held()["cat/004.png"] == held()["cat/005.png"] == ("keep", None, False)
        assert len(held()) == 7
        browser.press("p")
        until(lambda: browser.shown("#finish"))  # nothing undecided is left
        browser.press("z")
        until(lambda: len(held()) == 5)
        browser.run(CHOOSE, "state", "all")
        browser.press("p")
        until(lambda: len(browser.run(SHOWN)) == 2)
        browser.press("z")
        until(lambda: len(browser.run(SHOWN)) == 3)
        assert set(held()) == {"cat/000.png", "dog/000.png"}
        browser.press("b", "c")
        until(lambda: browser.shown("#class-search"))
        browser.press("ENTER")  # the first of the list is the likely one
        until(lambda: held()["cat/000.png"][1] != label)
        assert browser.console() == []
