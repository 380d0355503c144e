"""A review that a network can reach: who comes in, who decides, and what the page may write."""

import re
import signal
import socket
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from command import labelfix
from review_run import HOSTILE_CLASS, served
from review_visitor import Visitor

from labelfix.data.decisions import decisions_file, read_decisions
from labelfix.errors import ConfigError
from labelfix.review.hosts import LOOPBACK, Place, place_of

SHARED = Place("0.0.0.0", "192.168.1.5", frozenset({"localhost", "studio"}), is_shared=True)
ADDRESS = "http://192.168.1.5:8722"


@pytest.fixture
def team(run: Path) -> Visitor:
    return Visitor(run, reviewer=None, place=SHARED, host=ADDRESS)


def test_without_the_link_nobody_comes_in_and_is_told_what_to_do(team: Visitor) -> None:
    team.client.cookies.clear()
    for path in ("/", "/?key=wrong", "/api/start", "/picture/0/small", "/static/review.js"):
        answer = team.get(path)
        assert answer.status_code == 403, path
        assert "set-cookie" not in answer.headers
        assert "Ask the person who started it" in answer.text
    assert team.post("/api/undo", {"reviewer": "Ann"}).status_code == 403
    answer = team.client.get("/", headers={"cookie": "labelfix-8722=wrong"})
    assert answer.status_code == 403


def test_the_link_lets_in_and_leads_to_the_address_without_the_key(team: Visitor) -> None:
    team.client.cookies.clear()
    answer = team.get(f"/?key={team.keys.key}", sec_fetch_site="cross-site")  # a click in a chat
    assert answer.status_code == 200
    assert {"HttpOnly", "SameSite=Strict"} <= set(answer.headers["set-cookie"].split("; "))
    assert team.keys.key not in answer.text
    refresh = re.search(r'http-equiv="refresh" content="0; url=([^"]*)"', answer.text)
    assert refresh is not None
    assert "labelfix review</h1>" in team.get(refresh[1]).text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("192.168.1.5:8722", 200),
        ("10.8.0.3:8722", 200),  # an address by which another network knows this machine
        ("[fd00::5]:8722", 200),
        ("studio:8722", 200),
        ("STUDIO:9000", 200),
        ("localhost:8722", 200),  # through a tunnel
        ("evil.example:8722", 421),
        ("192.168.1.5.evil.example:8722", 421),
        ("studio.evil.example", 421),
        ("", 421),
        ("[::1", 421),
    ],
)
def test_the_name_of_a_stranger_is_refused(team: Visitor, host: str, status: int) -> None:
    for path in ("/api/queue", f"/?key={team.keys.key}"):
        headers = {"host": host, "cookie": f"labelfix-8722={team.keys.key}"}
        assert team.client.get(path, headers=headers).status_code == status


def test_another_site_cannot_decide(team: Visitor) -> None:
    for origin in ("http://evil.example", "http://192.168.1.5:9000", "null"):
        assert team.decide_as("Ann", team.next()[0], origin=origin).status_code == 403
    assert not decisions_file(team.session.run).exists()


def test_two_people_get_different_samples_and_are_named_in_the_log(team: Visitor) -> None:
    ann = team.next(8, tab="a")
    ben = team.next(8, tab="b")
    assert {item["row"] for item in ann}.isdisjoint({item["row"] for item in ben})
    for name, items in (("Ann", ann), ("Ben " + HOSTILE_CLASS, ben)):
        assert team.decide_as(name, items[0]).json()["changed_count"] == 1
    held = read_decisions(team.session.run)
    assert held[ann[0]["sample_id"]].decided_by == "Ann"
    assert held[ben[0]["sample_id"]].decided_by == "Ben " + HOSTILE_CLASS
    for name in ("", "  ", None, "x" * 101):
        assert team.decide_as(name, ann[1]).status_code == 400
    assert len(read_decisions(team.session.run)) == 2


def test_nobody_takes_back_what_others_decided(team: Visitor) -> None:
    first, second, third = team.next(3)
    team.decide_as("Ann", first)
    team.decide_as("Ben", second)
    team.decide_as("Ben", third)
    assert team.post("/api/undo", {}).status_code == 400
    for left in ({second["sample_id"], third["sample_id"]},) * 2:
        team.post("/api/undo", {"reviewer": "Ann"})
        assert set(read_decisions(team.session.run)) == left


def test_a_name_of_the_command_is_enough(run: Path) -> None:
    visitor = Visitor(run, reviewer="Ann", place=SHARED, host=ADDRESS)
    item = visitor.next()[0]
    assert visitor.decide(item).status_code == 200
    assert read_decisions(run)[item["sample_id"]].decided_by == "Ann"


def test_the_page_writes_no_data_set(team: Visitor, tmp_path: Path) -> None:
    to = tmp_path / "clean.csv"
    body = {"to": str(to), "format": "csv", "min_probability": 0.95}
    answer = team.post("/api/export", body)
    assert answer.status_code == 403
    assert "writes no files but decisions" in answer.json()["error"]
    assert not to.exists()
    assert team.get("/api/finish").status_code == 200


def test_the_command_prints_a_link_for_others_and_what_it_lets_them_do(run: Path) -> None:
    with served(run, "--host", "0.0.0.0", "--port", "0") as page:
        where = urlsplit(page.address)
        said = page.process.stdout.readline()
        assert "can see the images and decide on them, and nothing is encrypted" in said
        assert f"ssh -L {where.port}:127.0.0.1:{where.port} {where.hostname}" in said
        for path, status in (("/", 403), (f"/?{where.query}", 200)):
            connection = HTTPConnection("127.0.0.1", where.port or 0)
            connection.request("GET", path, headers={"Host": where.netloc})
            assert connection.getresponse().status == status
            connection.close()
        page.process.send_signal(signal.SIGINT)
        page.process.communicate(timeout=60)
        assert page.process.returncode == 0


def test_an_address_of_another_machine_is_refused(run: Path) -> None:
    for host in ("192.0.2.77", "no such name", ""):
        done = labelfix("review", run, "--no-browser", "--host", host)
        assert done.returncode == 1
        assert "0.0.0.0 for all of its addresses" in done.stderr


def test_left_out_it_is_this_machine_alone() -> None:
    assert place_of(None) == LOOPBACK
    assert not LOOPBACK.is_shared
    for host in ("127.0.0.1", "localhost"):
        place = place_of(host)
        assert not place.is_shared
        assert not place.answers_to("10.0.0.5:8722")
    everywhere = place_of("0.0.0.0")
    assert everywhere.is_shared
    assert everywhere.shown not in {"0.0.0.0", ""}
    assert everywhere.answers_to(f"{socket.gethostname()}:8722")


def test_a_name_of_this_machine_that_no_other_can_reach_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where the file of hosts gives the machine's own name a loopback address."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(ConfigError, match=r"studio is 127\.0\.1\.1 here") as told:
        place_of("studio")
    assert "0.0.0.0" in str(told.value.hint)
