"""``labelfix review`` as a command: what it serves, what it says, what it loads."""

import os
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import labelfix
from given_probs import noisy, write
from loaded_modules import HEAVY, PROGRAM, loaded_by
from review_run import served, write_images, write_run
from review_visitor import Visitor

from labelfix.data.decisions import Decision, DecisionLog
from labelfix.report.run_locks import is_under_review
from labelfix.review.server import open_review

CLASSES = ("cat", "dog", "emu", "fox")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    return write_run(write_images(folder / "data", CLASSES, 12), folder / "run")


def test_the_command_serves_this_machine_until_it_is_interrupted(run: Path) -> None:
    with served(run, "--port", "0") as page:
        where = urlsplit(page.address)
        assert where.hostname == "127.0.0.1"
        connection = HTTPConnection(where.netloc)
        connection.request("GET", f"/?{where.query}")
        assert connection.getresponse().status == 200
        connection.close()
        port = str(where.port)
        assert is_under_review(run)
        taken = labelfix("review", run, "--no-browser", "--port", port)
        assert taken.returncode == 1
        assert f"cannot listen on port {port}" in taken.stderr
        page.process.send_signal(signal.SIGINT)
        rest = page.process.communicate(timeout=60)[0]
        assert page.process.returncode == 0
        assert "0 of 8 suspects are decided" in rest
        assert "labelfix export" in rest
    assert not [path for path in run.iterdir() if path.name.startswith(".labelfix")]


def test_the_end_of_a_review_writes_the_page_of_the_run_again(tmp_path: Path) -> None:
    run = write_run(write_images(tmp_path / "data", CLASSES[:2], 12), tmp_path / "run")
    assert labelfix("show", run, "--html").returncode == 0
    with served(run, "--port", "0") as page:
        DecisionLog(run).append([Decision("cat/011.png", "keep")])
        page.process.send_signal(signal.SIGINT)
        rest = page.process.communicate(timeout=60)[0]
    assert f"what was decided: {run / 'report.html'}" in rest
    assert "suspects is decided" in (run / "report.html").read_text(encoding="utf-8")


def test_nobody_else_can_reach_it(run: Path) -> None:
    """The socket is bound to the loopback address alone, as the system sees it."""
    with served(run, "--port", "0") as page:
        port = urlsplit(page.address).port
        listening = Path("/proc/net/tcp")
        if not listening.exists():
            pytest.skip("no /proc/net/tcp here")
        places = [line.split()[1:4] for line in listening.read_text().splitlines()[1:]]
        hosts = {local.split(":")[0] for local, _, state in places
                 if int(local.split(":")[1], 16) == port and state == "0A"}  # fmt: skip
        assert hosts == {"0100007F"}


def test_faults_are_told(run: Path, tmp_path: Path) -> None:
    none = labelfix("review", tmp_path, "--no-browser")
    assert none.returncode == 1
    assert "holds no report.parquet" in none.stderr
    (run.parent / "copy").mkdir()
    copy = run.parent / "copy"
    (copy / "report.parquet").write_bytes((run / "report.parquet").read_bytes())
    (copy / "decisions.jsonl").write_text("nonsense\n{}\n")
    bad = labelfix("review", copy, "--no-browser")
    assert bad.returncode == 1
    assert "line 1 of" in bad.stderr


def test_without_the_extra_it_says_what_to_install(run: Path) -> None:
    program = "import sys; sys.modules['uvicorn'] = None\n" + PROGRAM.format(
        args=["review", str(run), "--no-browser"]
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False
    )
    assert "needs uvicorn" in done.stderr
    assert "pip install 'labelfix[review]'" in done.stderr


def test_help_and_the_page_load_no_model_library(run: Path) -> None:
    light = loaded_by(PROGRAM.format(args=["review", "--help"]))
    assert light.isdisjoint(HEAVY | {"numpy", "pyarrow", "PIL", "starlette", "uvicorn"})
    program = (
        "import json, sys; from pathlib import Path\n"
        "from labelfix.review.server import open_review\n"
        f"open_review(Path({str(run)!r})).session.estimate()\n"
        "print(json.dumps(sorted(n for n in sys.modules if '.' not in n)), file=sys.stderr)"
    )
    assert loaded_by(program).isdisjoint(HEAVY)


def test_a_run_on_given_probabilities_is_reviewed_without_pictures(tmp_path: Path) -> None:
    file = write(tmp_path / "probs.parquet", noisy())
    done = labelfix("audit", "--pred-probs", file, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    visitor = Visitor(tmp_path / "run")
    start = visitor.get("/api/start").json()
    assert (start["has_pictures"], start["has_neighbors"]) == (False, False)
    item = visitor.next(1)[0]
    shares = [share for _, share in item["top"]]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    assert item["top"][0][0] == item["predicted"]
    assert visitor.get(f"/picture/{item['row']}/large").status_code == 404
    assert visitor.decide(item, "relabel", item["suggested"]).json()["changed_count"] == 1


def test_neighbors_come_with_their_labels(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "report.parquet").write_bytes((run / "report.parquet").read_bytes())
    ids = pq.read_table(run / "report.parquet", columns=["sample_id"])["sample_id"]
    size = len(ids)
    near = [[] if row == 1 else [(row + 1) % size, (row + 2) % size] for row in range(size)]
    alike = [[0.9, 0.5][: len(rows)] for rows in near]
    table = {
        "sample_id": ids,
        "neighbors": pa.array(near, pa.list_(pa.int64())),
        "similarities": pa.array(alike, pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(table), copy / "neighbors.parquet")
    visitor = Visitor(copy)
    found = visitor.get("/api/sample/5").json()["neighbors"]
    assert [n["row"] for n in found] == [6, 7]
    assert np.allclose([n["similarity"] for n in found], [0.9, 0.5])
    assert found[0]["given"] == int(visitor.session.view.given[6])
    assert visitor.get("/api/sample/1").json()["neighbors"] == []


def test_images_that_have_changed_are_not_shown(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", CLASSES, 12)
    run = write_run(data, tmp_path / "run")
    os.utime(data / "cat" / "001.png", (1, 1))
    with pytest.raises(Exception, match="has changed since the audit"):
        open_review(run)


def test_images_inside_parquet_are_shown(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", CLASSES, 12)
    files = sorted(folder.rglob("*.png"))
    table = {
        "image": [file.read_bytes() for file in files],
        "label": [file.parent.name for file in files],
    }
    pq.write_table(pa.table(table), tmp_path / "data.parquet")
    visitor = Visitor(write_run(tmp_path / "data.parquet", tmp_path / "run"))
    for item in visitor.next(200, kind="all")[::-5]:
        answer = visitor.get(f"/picture/{item['row']}/large")
        assert answer.headers["content-type"] == "image/png"


def test_a_manifest_reads_its_own_folder_alone(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", CLASSES, 12)
    files = sorted(folder.rglob("*.png"))
    rows = [f"images/{f.relative_to(folder)},{f.parent.name}" for f in files]
    manifest = tmp_path / "labels.csv"
    manifest.write_text("image,label\n" + "\n".join(rows) + "\n")
    visitor = Visitor(write_run(manifest, tmp_path / "run"))
    shown, later = visitor.next(2, kind="all")
    assert visitor.get(f"/picture/{shown['row']}/large").status_code == 200
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    outside.write_bytes(files[0].read_bytes())
    place = tmp_path / later["sample_id"]
    place.unlink()
    place.symlink_to(outside)
    refused = visitor.get(f"/picture/{later['row']}/large")
    assert refused.status_code == 404
    assert "leads out of the data folder" in refused.json()["error"]
