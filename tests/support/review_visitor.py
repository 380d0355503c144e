"""Helpers of several tests, first written for test_review_page."""

import shutil
from pathlib import Path

import pytest
from review_run import HOSTILE_CLASS, SCRIPT, write_images, write_run
from starlette.testclient import TestClient

from labelfix.review.app import build_app
from labelfix.review.hosts import LOOPBACK, Place
from labelfix.review.security import Keys
from labelfix.review.server import open_review

CLASSES = ("cat", "dog", "emu", HOSTILE_CLASS)

HOST = "http://127.0.0.1:8722"


class Visitor:
    """A browser that was given the key."""

    def __init__(
        self, run: Path, *, follow_links: bool = False, reviewer: str | None = "Ann",
        looks: int | None = None, hides_labels: bool = False, place: Place = LOOPBACK,
        host: str = HOST,
    ) -> None:  # fmt: skip
        review = open_review(
            run, reviewer=reviewer, follow_links=follow_links, looks=looks,
            hides_labels=hides_labels,
        )  # fmt: skip
        self.session = review.session
        self.keys, self.host = Keys(8722, place), host
        app = build_app(review.session, review.renderer, self.keys, review.retraining)
        self.client = TestClient(app, base_url=host, raise_server_exceptions=False)  # type: ignore[arg-type]
        assert self.client.get(f"/?key={self.keys.key}").status_code == 200
        self.token = self.client.get("/api/start").json()["token"]

    def get(self, path: str, **headers: str):
        return self.client.get(path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, path: str, body: object, **headers: str):
        own = {"x-labelfix-token": self.token, "origin": self.host, "sec-fetch-site": "same-origin"}
        own.update({k.replace("_", "-"): v for k, v in headers.items()})
        return self.client.post(path, json=body, headers={k: v for k, v in own.items() if v})

    def next(self, count: int = 1, **asked: object) -> list[dict]:
        query = "&".join(f"{k}={v}" for k, v in {"limit": count, **asked}.items())
        answer = self.get(f"/api/queue?{query}")
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]

    def decide_as(self, reviewer: str | None, item: dict, **headers: str):
        """Keep a label, under a name."""
        wanted = {"row": item["row"], "sample_id": item["sample_id"], "action": "keep"}
        return self.post("/api/decide", {"decisions": [wanted], "reviewer": reviewer}, **headers)

    def decide(self, item: dict, action: str = "keep", label: int | None = None, **more: object):
        seen = item["decision"] and item["decision"]["decided_at"]
        wanted = {"row": item["row"], "sample_id": item["sample_id"], "action": action}
        wanted |= {"label": label, "seen": seen, **more}
        return self.post("/api/decide", {"decisions": [wanted]})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and its data, which no test changes."""
    folder = tmp_path_factory.mktemp("made")
    data = write_images(folder / "data", CLASSES, 20)
    (data / "cat" / "000.png").rename(data / "cat" / f"{SCRIPT}.png")
    write_run(data, folder / "run")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """The same report, without decisions."""
    return Path(shutil.copytree(made / "run", tmp_path / "run"))
