"""The review page: what it answers, and whom it refuses."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from review_run import HOSTILE_CLASS, SCRIPT, write_images, write_run
from review_visitor import CLASSES, HOST, Visitor

from labelfix.certificate import certify, drawn_for
from labelfix.data.decisions import Decision, DecisionLog, decisions_file, read_decisions
from labelfix.report.io import read_report_table
from labelfix.report.view import ReportView
from labelfix.review.queue import CHECK_EVERY
from labelfix.review.security import LARGEST_BODY


@pytest.fixture
def visitor(run: Path) -> Visitor:
    return Visitor(run)


def test_suspects_come_by_falling_probability_with_random_checks(visitor: Visitor) -> None:
    items = visitor.next(200)
    suspects = [item for item in items if not item["is_check"]]
    chances = [item["probability"] for item in suspects]
    assert chances == sorted(chances, reverse=True)
    checks = [place for place, item in enumerate(items) if item["is_check"]]
    assert checks
    assert {place % CHECK_EVERY for place in checks} == {CHECK_EVERY - 1}
    assert {item["is_flagged"] for item in items if item["is_check"]} == {True, False}
    flagged = {row for row in range(80) if visitor.session.view.is_flagged[row]}
    assert flagged <= {item["row"] for item in items}


def test_pages_follow_each_other_whatever_is_decided_meanwhile(visitor: Visitor) -> None:
    expected = [item["row"] for item in visitor.next(200)]
    seen, after = [], -1
    while items := visitor.next(7, after=after):
        seen += [item["row"] for item in items]
        after = items[-1]["place"]
        visitor.decide(items[0])
    assert seen == expected
    assert len(visitor.next(200)) == len(expected) - len(read_decisions(visitor.session.run))


def test_filters_leave_what_they_say(visitor: Visitor) -> None:
    everything = visitor.next(200, kind="all")
    assert len(everything) == 80
    of_class = visitor.next(200, **{"class": 1})
    assert of_class
    assert all(1 in (item["given"], item["suggested"]) for item in of_class)
    pair = visitor.get("/api/pairs").json()["pairs"][0]
    items = visitor.next(200, given=pair["given"], suggested=pair["suggested"])
    assert len(items) == pair["count"] == 10
    visitor.decide(items[0])
    assert len(visitor.next(200, state="decided")) == 1
    assert len(visitor.next(200, given=pair["given"], suggested=pair["suggested"])) == 9
    assert visitor.next(5, kind="unreadable") == []


def test_random_checks_can_be_left_out(visitor: Visitor) -> None:
    items = visitor.next(200, checks="false")
    assert not any(item["is_check"] for item in items)
    assert [item["row"] for item in items] == visitor.session.view.suspects.tolist()


@pytest.mark.parametrize(
    "query",
    ["kind=nothing", "state=no", "class=4", "class=x", "split=0", "limit=-1", "after=-2",
     "class=9999999999999999999999", "class=\u0661", "given=0&suggested=99"],
)  # fmt: skip
def test_a_wish_that_makes_no_sense_is_refused(visitor: Visitor, query: str) -> None:
    assert visitor.get(f"/api/queue?{query}").status_code == 400


def test_a_decision_is_on_disk_before_the_answer(visitor: Visitor) -> None:
    first, second, third = visitor.next(3)
    assert visitor.decide(first, "relabel", first["suggested"]).status_code == 200
    visitor.decide(second, "drop")
    held = read_decisions(visitor.session.run)
    taken = held[first["sample_id"]]
    name = visitor.session.view.label(first["suggested"])
    assert (taken.action, taken.label, taken.decided_by) == ("relabel", name, "Ann")
    assert taken.flagged
    assert held[second["sample_id"]].action == "drop"
    assert [item["row"] for item in visitor.next(1)] == [third["row"]]


@pytest.mark.parametrize(
    "wanted",
    [
        {"action": "accept"}, {"action": "undo"}, {"action": "relabel"},
        {"action": "relabel", "label": 4}, {"action": "relabel", "label": -1},
        {"action": "relabel", "label": True}, {"action": "relabel", "label": "cat"},
        {"action": "keep", "row": 80}, {"action": "keep", "row": -1},
        {"action": "keep", "row": "0"}, {"action": "keep", "sample_id": "dog/000.png"},
    ],
)  # fmt: skip
def test_a_decision_that_makes_no_sense_is_refused(visitor: Visitor, wanted: dict) -> None:
    item = visitor.next(1)[0]
    body = {"row": item["row"], "sample_id": item["sample_id"], **wanted}
    assert visitor.post("/api/decide", {"decisions": [body]}).status_code in {400, 409}
    assert not decisions_file(visitor.session.run).exists()


def test_a_batch_is_taken_back_as_one(visitor: Visitor) -> None:
    first, *others = visitor.next(40)
    visitor.decide(first)
    wanted = [
        {"row": i["row"], "sample_id": i["sample_id"], "action": "relabel", "label": 2}
        for i in others
    ]
    done = visitor.post("/api/decide", {"decisions": wanted, "batch": True}).json()
    assert done["changed_count"] == 39
    one = done["changed"][5]
    seen = {k: one[k] for k in ("row", "sample_id")} | {"decided_at": one["decision"]["decided_at"]}
    undone = visitor.post("/api/undo", {"decisions": [seen]}).json()
    assert undone["changed_count"] == 39
    assert list(read_decisions(visitor.session.run)) == [first["sample_id"]]
    assert visitor.post("/api/undo", {}).json()["changed_count"] == 1
    assert visitor.post("/api/undo", {}).json()["changed_count"] == 0


def test_two_tabs_do_not_lose_each_others_work(run: Path) -> None:
    one, two = Visitor(run), Visitor(run)  # two servers, as two processes would be
    shown_to_one, shown_to_two = one.next(1)[0], two.next(1)[0]
    assert one.decide(shown_to_one, "drop").json()["changed_count"] == 1
    refused = two.decide(shown_to_two, "keep").json()
    assert (refused["changed_count"], refused["conflict_count"]) == (0, 1)
    assert refused["conflicts"][0]["decision"]["action"] == "drop"
    assert two.decide(refused["conflicts"][0], "keep").json()["changed_count"] == 1
    old = {"row": shown_to_one["row"], "sample_id": shown_to_one["sample_id"]}
    old["decided_at"] = refused["conflicts"][0]["decision"]["decided_at"]
    assert one.post("/api/undo", {"decisions": [old]}).json()["changed_count"] == 0
    assert one.get("/api/progress").json()["keep"] == 1


def test_decisions_of_before_are_there_again(run: Path) -> None:
    visitor = Visitor(run)
    items = visitor.next(12)
    for item in items:
        visitor.decide(item, "unsure")
    again = Visitor(run)
    assert again.get("/api/progress").json()["unsure"] == 12
    assert {i["row"] for i in again.next(50)}.isdisjoint({i["row"] for i in items})
    DecisionLog(run).append([Decision("of another report", "keep")])
    assert again.get("/api/progress").json()["keep"] == 1


def test_the_estimate_follows_the_decisions(visitor: Visitor) -> None:
    before = visitor.get("/api/estimate").json()
    assert before["flagged"] == 40
    for item in visitor.next(200, kind="label"):
        visitor.decide(item, "keep")
    after = visitor.get("/api/estimate").json()
    assert after["right_flags"] == {"expected": 0, "low": 0, "high": 0}
    assert before["right_flags"]["expected"] > 0
    assert after["next_share"] is None
    assert not after["is_worth_it"]


def test_pictures_are_encoded_anew(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", CLASSES, 12)
    visitor = Visitor(write_run(data, tmp_path / "run"))
    tail = b"<script>alert(1)</script>"
    with (data / "cat" / "001.png").open("ab") as file:
        file.write(tail)
    names = visitor.session.view.sample_id.to_pylist()
    rows = {name: row for row, name in enumerate(names)}
    for size in ("small", "large", "full"):
        answer = visitor.get(f"/picture/{rows['cat/001.png']}/{size}")
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.content.startswith(b"\x89PNG")
        assert tail not in answer.content
    assert visitor.get(f"/picture/{rows['cat/001.png']}/huge").status_code == 404
    for content in (b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
                    b"<html><script>alert(1)</script></html>", b""):  # fmt: skip
        (data / "cat" / "002.png").write_bytes(content)
        answer = visitor.get(f"/picture/{rows['cat/002.png']}/large")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/json"
        assert "cannot be shown" in answer.json()["error"]


PATHS = [
    "/picture/80/small", "/picture/-1/small", "/picture/1e3/small", "/picture/0/../../x",
    "/picture/..%2f..%2fetc%2fpasswd/small", "/picture/99999999999999999999/small",
    "/static/..%2f..%2frows.py", "/static/index.html", "/static/%2e%2e/app.py",
    "/static//etc/passwd", "/etc/passwd", "/../../etc/passwd", "/api/sample/80", "/api/", "/docs",
    "/openapi.json",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_nothing_but_the_report_is_served(visitor: Visitor, path: str) -> None:
    answer = visitor.get(path)
    assert answer.status_code == 404, answer.text
    assert "root:" not in answer.text


def test_a_link_out_of_the_data_folder_is_not_followed(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", CLASSES, 12)
    secret = write_images(tmp_path / "secret", ("x",), 1) / "x" / "000.png"
    (data / "cat" / "link.png").symlink_to(secret)
    (data / "cat" / "inside.png").symlink_to(data / "dog" / "001.png")
    run = write_run(data, tmp_path / "run")
    for follow, status in ((True, 200), (False, 404)):
        visitor = Visitor(run, follow_links=follow)
        rows = {item["sample_id"]: item["row"] for item in visitor.next(200, kind="all")}
        assert visitor.get(f"/picture/{rows['cat/link.png']}/large").status_code == status
        assert visitor.get(f"/picture/{rows['cat/inside.png']}/large").status_code == 200
    later = data / "emu" / "003.png"  # one that is put there while the page is open
    later.unlink()
    later.symlink_to(secret)
    assert visitor.get(f"/picture/{rows['emu/003.png']}/large").status_code == 404


FOREIGN_HOSTS = ["evil.example", "evil.example:8722", "127.0.0.1.evil.example:8722", ":8722",
                 "[::1]", "127.0.0.2:8722", "localhost.evil.example", "0.0.0.0:8722"]  # fmt: skip


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_another_name_for_this_machine_is_refused(visitor: Visitor, host: str) -> None:
    for path in ("/", f"/?key={visitor.keys.key}", "/api/queue", "/static/review.js"):
        answer = visitor.get(path, host=host)
        assert answer.status_code == 421
        assert "set-cookie" not in answer.headers
    item = {"row": 0, "sample_id": "", "action": "keep"}
    assert visitor.post("/api/decide", {"decisions": [item]}, host=host).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8722", "localhost:8722", "localhost:9000"])
def test_this_machine_is_served_through_a_tunnel_too(visitor: Visitor, host: str) -> None:
    assert visitor.get("/api/queue", host=host).status_code == 200


def test_nobody_comes_in_without_the_key(visitor: Visitor) -> None:
    visitor.client.cookies.clear()
    paths = ["/", "/?key=", "/?key=wrong", "/api/start", "/api/queue", "/picture/0/small",
             f"/api/queue?key={visitor.keys.key}", "/static/review.js"]  # fmt: skip
    for path in paths:
        answer = visitor.get(path)
        assert answer.status_code == 403, path
        assert visitor.token not in answer.text
    assert visitor.post("/api/undo", {}).status_code == 403
    for cookie in (b"labelfix-8722=wr\xf6ng", b"labelfix-8722=", b"=;;=", b"labelfix-8722"):
        answer = visitor.client.get("/api/queue", headers=[(b"cookie", cookie)])
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8723"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "none"}, 403),
        ({"x_labelfix_token": ""}, 403),
        ({"x_labelfix_token": "wr\xf6ng"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({}, 200),
    ],
)
def test_another_site_cannot_decide(visitor: Visitor, headers: dict[str, str], status: int) -> None:
    item = visitor.next(1)[0]
    wanted = {"row": item["row"], "sample_id": item["sample_id"], "action": "keep"}
    raw = {k.replace("_", "-"): v.encode("latin-1") for k, v in headers.items()}
    own = {"x-labelfix-token": visitor.token.encode(), "origin": HOST.encode(),
           "sec-fetch-site": b"same-origin", "content-type": b"application/json"}  # fmt: skip
    sent = [(k, v) for k, v in {**own, **raw}.items() if v]
    body = json.dumps({"decisions": [wanted]})
    answer = visitor.client.post("/api/decide", content=body, headers=sent)
    assert answer.status_code == status
    assert bool(read_decisions(visitor.session.run)) == (status == 200)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_cannot_show_pictures(visitor: Visitor, site: str) -> None:
    assert visitor.get("/picture/0/small", sec_fetch_site=site).status_code == 403
    assert visitor.get("/api/queue", sec_fetch_site=site).status_code == 403


def test_wrong_methods_and_bodies_are_refused(visitor: Visitor) -> None:
    assert visitor.get("/api/decide").status_code == 405
    assert visitor.post("/api/queue", {}).status_code == 405
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        assert visitor.client.request(method, "/api/decide").status_code in {403, 405}
    for body in ([], 7, "x", {"decisions": 7}, {"decisions": [7]}, {}):
        assert visitor.post("/api/decide", body).status_code == 400
    head = {"x-labelfix-token": visitor.token, "content-type": "application/json"}
    deep = "[" * 100_000
    for content in ("", "{", "null", deep, b"\xff"):
        answer = visitor.client.post("/api/decide", content=content, headers=head)
        assert answer.status_code == 400
    too_long = b"x" * (LARGEST_BODY + 1)
    assert visitor.client.post("/api/decide", content=too_long, headers=head).status_code == 413

    def endless() -> Iterator[bytes]:
        yield b"{}"

    assert visitor.client.post("/api/decide", content=endless(), headers=head).status_code == 411


def test_every_answer_carries_its_headers(visitor: Visitor) -> None:
    for path, status in (("/", 200), ("/api/queue", 200), ("/nothing", 404), ("/?x", 200)):
        answer = visitor.get(path)
        assert answer.status_code == status
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
    cookie = visitor.get(f"/?key={visitor.keys.key}").headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))


def test_the_page_asks_for_nothing_from_outside(visitor: Visitor) -> None:
    page = visitor.get("/").text
    files = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert files
    assert all(visitor.get(file).status_code == 200 for file in files)
    texts = [page, *(visitor.get(file).text for file in files)]
    for text in texts:
        outside = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", text)
        assert set(outside) <= {"http://www.w3.org"}  # the name of the language SVG
    assert all("innerHTML" not in text for text in texts)
    assert "style=" not in page


def test_a_name_comes_as_data_not_as_a_page(visitor: Visitor) -> None:
    answer = visitor.get("/api/queue?kind=all&limit=200")
    assert answer.headers["content-type"] == "application/json"
    assert any(SCRIPT in item["sample_id"] for item in answer.json()["items"])
    assert HOSTILE_CLASS in visitor.get("/api/start").json()["classes"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
"""Any JSON, and NaN, which Python reads and writes as if it were JSON."""


@st.composite
def bodies(draw: st.DrawFn) -> object:
    """Return any body, or one that is a decision but for some of its values."""
    keys = ("row", "sample_id", "action", "label", "seen", "decided_at")
    right = {
        "row": st.integers(0, 3),
        "sample_id": st.just("cat/001.png"),
        "action": st.sampled_from(["keep", "relabel", "unsure", "drop"]),
        "label": st.none() | st.integers(-1, 5),
        "seen": st.none() | st.just("2026-01-01T00:00:00.000Z"),
        "decided_at": st.just("x" * 100_000),
    }
    decision = st.fixed_dictionaries({key: right[key] | JSON for key in keys})
    decisions = JSON | st.lists(decision | JSON, max_size=3)
    return draw(JSON | st.fixed_dictionaries({"decisions": decisions, "batch": JSON}))


@pytest.fixture(scope="module")
def fuzzed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Visitor:
    run = shutil.copytree(made / "run", tmp_path_factory.mktemp("fuzzed") / "run")
    return Visitor(run)


@given(path=st.sampled_from(["/api/decide", "/api/undo"]), body=bodies())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_no_body_makes_the_server_fail(fuzzed: Visitor, path: str, body: object) -> None:
    own = {"x-labelfix-token": fuzzed.token, "origin": HOST, "sec-fetch-site": "same-origin"}
    text = json.dumps(body)  # as a client would: httpx refuses NaN
    headers = {**own, "content-type": "application/json"}
    answer = fuzzed.client.post(path, content=text, headers=headers)
    assert answer.status_code in (200, 400, 409), answer.text
    if answer.status_code != 200:
        assert answer.json()["error"]


@given(
    path=st.sampled_from(["/api/queue", "/api/sample/", "/api/pairs", "/picture/", "/static/"]),
    place=st.text(max_size=20) | st.integers().map(str) | st.just("9" * 10_000),
    asked=st.dictionaries(
        st.sampled_from(
            ["kind", "state", "class", "split", "given", "suggested", "limit", "after"]
        ),
        st.text(max_size=20) | st.integers(-3, 300).map(str) | st.just("9" * 5_000),
    ),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_no_address_makes_the_server_fail(
    fuzzed: Visitor, path: str, place: str, asked: dict[str, str]
) -> None:
    escaped = quote(place, safe="") + "/small" * (path == "/picture/")
    address = path + escaped * path.endswith("/")
    answer = fuzzed.client.get(address, params=asked)
    assert answer.status_code in (200, 400, 404), (address, answer.text)


@pytest.mark.parametrize("wrong", [["keep"], {}, 1, None, "x" * 100_000])
@pytest.mark.parametrize("key", ["action", "sample_id", "seen"])
def test_what_is_no_text_is_named(visitor: Visitor, key: str, wrong: object) -> None:
    item = visitor.next()[0]
    wanted = {"row": item["row"], "sample_id": item["sample_id"], "action": "keep", "seen": None}
    answer = visitor.post("/api/decide", {"decisions": [{**wanted, key: wrong}]})
    if key == "seen" and wrong is None:
        assert answer.status_code == 200
    elif isinstance(wrong, str) and key == "seen":
        assert answer.json()["conflict_count"] == 1
    elif isinstance(wrong, str) and key == "sample_id":
        assert answer.status_code == 409
    else:
        assert answer.status_code == 400
        assert key in answer.json()["error"]


def test_many_estimates_at_once_are_one(visitor: Visitor) -> None:
    """Twenty tabs ask after each decision; pictures and progress are answered meanwhile."""
    row = visitor.next()[0]["row"]
    start = time.monotonic()
    for _ in range(3):
        visitor.decide(visitor.next()[0])
        with ThreadPoolExecutor(24) as pool:
            estimates = [pool.submit(visitor.get, "/api/estimate") for _ in range(20)]
            pictures = [pool.submit(visitor.get, f"/picture/{row}/small") for _ in range(4)]
            answers = [future.result() for future in estimates]
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.text for answer in answers}) == 1
            assert {future.result().status_code for future in pictures} == {200}
    assert time.monotonic() - start < 10, "20 computations on all threads took longer than 20 s"


def test_an_estimate_is_made_anew_after_a_decision(visitor: Visitor) -> None:
    before = visitor.get("/api/estimate").json()
    assert visitor.get("/api/estimate").json() == before
    visitor.decide(visitor.next()[0])
    assert visitor.get("/api/estimate").json() != before


def test_a_name_that_is_no_unicode_is_kept_as_far_as_it_is(run: Path) -> None:
    """A reviewer's name comes from the command line, where bytes may be anything."""
    visitor = Visitor(run, reviewer="J\udcfcrg")
    assert visitor.get("/api/start").status_code == 200
    assert visitor.decide(visitor.next()[0]).status_code == 200
    assert {d.decided_by for d in read_decisions(run).values()} == {"J?rg"}


def test_samples_drawn_for_a_certificate_come_first_and_without_what_the_model_says(
    run: Path,
) -> None:
    visitor = Visitor(run, looks=30)
    assert next(iter(visitor.get("/api/start").json()["kinds"].items())) == ("random_sample", 30)
    items = visitor.next(200, kind="random_sample")
    assert [item["row"] for item in items] == drawn_for(visitor.session.view, 30).row.tolist()
    for item in items:
        assert item["is_blind"]
        assert item["given"] >= 0
        shown = (item["predicted"], item["suggested"], item["probability"], item["top"])
        assert shown == (-1, -1, None, [])
        assert (item["suggested_probability"], item["reason"], item["issues"]) == (None, None, [])
    assert visitor.decide(items[0], "relabel", 1).status_code == 200
    assert len(visitor.next(200, kind="random_sample")) == 29
    assert visitor.next()[0]["probability"] is not None
    assert Visitor(run).get("/api/queue?kind=random_sample").status_code == 400


def test_what_was_decided_for_a_certificate_stays_blind_until_it_is_finished(run: Path) -> None:
    visitor = Visitor(run, looks=20, hides_labels=True)
    items = visitor.next(200, kind="random_sample")
    assert all(item["is_hidden"] for item in items)
    assert [code for code, _ in items[0]["top"]] == [0, 1, 2, 3]
    for item in items[:-1]:
        (changed,) = visitor.decide(item, "relabel", item["given"]).json()["changed"]
        assert changed["is_blind"]
        assert changed["probability"] is None
    (changed,) = visitor.decide(items[-1], "relabel", items[-1]["given"]).json()["changed"]
    assert "is_blind" not in changed
    view = ReportView(read_report_table(run, pred_probs=False), read_decisions(run))
    shares = certify(view, 20).shares
    assert shares is not None
    assert shares.noise_rate.estimate == 0  # all were said to be of the class that they have


def test_labels_are_hidden_only_where_samples_are_drawn(run: Path) -> None:
    assert not any(item.get("is_hidden") for item in Visitor(run, hides_labels=True).next(50))
