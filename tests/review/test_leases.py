"""People who review at once see different samples."""

from pathlib import Path

import numpy as np
from review_visitor import Visitor

from labelfix.data.decisions import read_decisions
from labelfix.review.leases import LASTING, Leases


def test_a_lease_ends_after_a_while_unless_the_tab_holds_on() -> None:
    now = [0.0]
    leases = Leases(5, lambda: now[0])
    leases.take("one", [0, 1])
    leases.take("two", [1, 2])
    assert np.flatnonzero(leases.taken("two")).tolist() == [0, 1]
    assert np.flatnonzero(leases.taken("one")).tolist() == [2]
    now[0] = LASTING - 1
    leases.hold("one")
    now[0] = LASTING + 1
    assert np.flatnonzero(leases.taken("two")).tolist() == [0, 1]
    assert not leases.taken("one").any()
    leases.release("one")
    assert not leases.taken("two").any()


def test_two_tabs_get_disjoint_samples_until_all_are_decided(run: Path) -> None:
    visitor = Visitor(run)
    seen: dict[str, list[int]] = {"one": [], "two": []}
    after = dict.fromkeys(seen, -1)
    everything = {item["row"] for item in visitor.next(200)}
    while any(items := {tab: visitor.next(7, tab=tab, after=after[tab]) for tab in seen}) and any(
        items.values()
    ):
        for tab, found in items.items():
            seen[tab] += [item["row"] for item in found]
            after[tab] = found[-1]["place"] if found else after[tab]
            for item in found:
                assert visitor.decide(item).json()["conflict_count"] == 0
    assert not set(seen["one"]) & set(seen["two"])
    assert set(seen["one"]) | set(seen["two"]) == everything
    assert min(map(len, seen.values())) > 10


def test_what_another_tab_has_in_hand_is_counted_and_comes_when_it_lets_go(run: Path) -> None:
    visitor = Visitor(run)
    first = visitor.next(20, tab="one")
    answer = visitor.get("/api/queue?limit=200&tab=two").json()
    assert answer["elsewhere"] == 20
    assert not {i["row"] for i in first} & {i["row"] for i in answer["items"]}
    assert answer["total"] == 20 + len(answer["items"])
    visitor.next(1, tab="one", kind="all")  # another view: the first samples are free again
    assert len({i["row"] for i in visitor.next(200, tab="two")} & {i["row"] for i in first}) >= 19


def test_each_decision_names_who_made_it(run: Path) -> None:
    visitor = Visitor(run, reviewer="Ann")
    one, two = visitor.next(2)
    body = [{"row": two["row"], "sample_id": two["sample_id"], "action": "keep"}]
    visitor.decide(one)
    visitor.post("/api/decide", {"decisions": body, "reviewer": " Béa "})
    held = read_decisions(run)
    assert (held[one["sample_id"]].decided_by, held[two["sample_id"]].decided_by) == ("Ann", "Béa")
    for reviewer in (1, "x" * 200):
        refused = visitor.post("/api/decide", {"decisions": body, "reviewer": reviewer})
        assert refused.status_code == 400
