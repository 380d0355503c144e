"""How fast the review page answers: every route, on 100,000 samples with 20,000 suspects.

    python benchmarks/review_speed.py [--samples 100000] [--suspects 20000] [--classes 100]
        [--rounds 50] [--out benchmarks/results/review_speed.jsonl] [--folder DIR]

Writes a class folder of photos (links to 40 different JPEGs of 1,600 x 1,200), a report on it with
neighbors, and decisions on half of the suspects; serves it by the real command in a process of its
own; requests each route again and again over one connection, and prints the median, the 95th
percentile and the longest time. The bar is 100 ms at the 95th percentile. Other jobs on the machine
make times longer.
"""

import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from harness import bar, new_parser, seconds_of
from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.decisions import Decision, DecisionLog
from labelfix.data.duplicates import conflicting
from labelfix.report.build import build_report
from labelfix.report.io import write_report
from labelfix.report.types import RunInfo
from labelfix.types import (
    MISSING,
    Corrections,
    Duplicates,
    Evidence,
    FoldAssignment,
    LabelScores,
    NoiseCells,
)

BAR = 100.0
"""Milliseconds."""

PHOTOS = 40
BATCH = 100


def write_photos(folder: Path, samples: int, classes: int, rng: np.random.Generator) -> Path:
    """Write a class folder of links to a few photos."""
    photos = folder / "photos"
    photos.mkdir()
    for number in range(PHOTOS):
        rough = rng.integers(0, 255, (60, 80, 3)).astype(np.uint8)
        Image.fromarray(rough).resize((1600, 1200)).save(photos / f"{number}.jpg", quality=90)
    data = folder / "data"
    for code in range(classes):
        (data / f"class-{code:04}").mkdir(parents=True)
    for number in range(samples):
        place = data / f"class-{number % classes:04}" / f"{number:07}.jpg"
        os.link(photos / f"{number % PHOTOS}.jpg", place)
    return data


def copies_of(given: NDArray[np.int64], rng: np.random.Generator) -> Duplicates:
    """Return sets of three copies, one sample in ten in one of them."""
    sets = np.full(len(given), MISSING)
    chosen = rng.permutation(len(given))[: len(given) // 10]
    sets[chosen] = np.arange(len(chosen)) // 3
    return Duplicates(sets, conflicting(sets, given))


def write_run(data: Path, run: Path, suspects: int, rng: np.random.Generator) -> None:
    """Write a report on a class folder, its neighbors, and some decisions."""
    dataset = open_dataset(data, DatasetConfig())
    size, classes = len(dataset), len(dataset.class_names)
    wrong = np.sort(rng.beta(0.3, 2, size).astype(np.float32))[rng.permutation(size)]
    flags = np.zeros(size, np.bool_)
    flags[np.argsort(-wrong)[:suspects]] = True
    other = (dataset.given_label + rng.integers(1, classes, size)) % classes
    probs = rng.dirichlet(np.full(classes, 0.1), size).astype(np.float32)
    nothing = np.zeros((classes, classes))
    report = build_report(
        samples=dataset,
        unreadable={},
        assignment=FoldAssignment(np.ones(size, np.bool_), np.zeros(size, np.int16), {}),
        evidence=Evidence(probs, np.zeros(size, np.int16), wrong, dataset.given_label),
        scores=LabelScores(
            wrong, wrong[None], probs.argmax(1), other, 1 - wrong,
            NoiseCells.of_matrix(nothing, np.stack([nothing, nothing])), 0.2, (0.1, 0.3),
        ),
        corrections=Corrections(
            flags, np.where(flags, other, MISSING), np.ones(size, np.float32)
        ),
        duplicates=copies_of(dataset.given_label, rng),
        kinds=None,
        run=RunInfo(
            source=dataset.source, fingerprint=dataset.fingerprint, noise_rate=0.2,
            noise_rate_interval=(0.1, 0.3), modality="image",
            backbone="none", seed=0, versions={}, settings={},
        ),
    )  # fmt: skip
    run.mkdir()
    write_report(report, run / "report.parquet")
    near = pa.ListArray.from_arrays(
        pa.array(np.arange(0, 10 * size + 1, 10, dtype=np.int32)),
        pa.array(rng.integers(0, size, 10 * size)),
    )
    alike = pa.ListArray.from_arrays(
        pa.array(np.arange(0, 10 * size + 1, 10, dtype=np.int32)),
        pa.array(rng.random(10 * size).astype(np.float32)),
    )
    table = {"sample_id": dataset.sample_id, "neighbors": near, "similarities": alike}
    pq.write_table(pa.table(table), run / "neighbors.parquet")
    names = dataset.sample_id.take(pa.array(np.flatnonzero(flags)[: suspects // 2])).to_pylist()
    actions = [Decision(name, "drop" if n % 3 else "keep") for n, name in enumerate(names)]
    DecisionLog(run).append(actions)


class Page:
    """One connection to a review page."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._connection = http.client.HTTPConnection(parts.netloc)
        self._headers: dict[str, str] = {}
        _, cookie = self._ask("GET", f"/?{parts.query}")
        self._headers["Cookie"] = cookie.partition(";")[0]
        self._headers["X-Labelfix-Token"] = self.get("/api/start")["token"]
        self._headers["Content-Type"] = "application/json"

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[bytes, str]:
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:200]!r}")
        return content, answer.headers.get("Set-Cookie", "")

    def get(self, path: str) -> dict:  # type: ignore[type-arg]
        """Return the JSON of a route."""
        return dict(json.loads(self._ask("GET", path)[0]))

    def picture(self, path: str) -> None:
        """Ask for a picture."""
        self._ask("GET", path)

    def post(self, path: str, body: object) -> dict:  # type: ignore[type-arg]
        """Return what a route answers to JSON."""
        return dict(json.loads(self._ask("POST", path, json.dumps(body))[0]))


def wanted(item: dict, action: str = "keep") -> dict[str, object]:  # type: ignore[type-arg]
    return {"row": item["row"], "sample_id": item["sample_id"], "action": action, "seen": None}


def routes(
    page: Page, rng: np.random.Generator, rounds: int, suspects: int
) -> dict[str, Callable[[int], object]]:
    """Return what to ask, by name; each takes the number of the round."""
    start = page.get("/api/start")
    samples, classes = start["samples"], len(start["classes"])
    middle = page.get(f"/api/queue?limit=1&after={suspects // 2}")["items"][0]["place"]
    pair = page.get("/api/pairs")["pairs"][0]
    rows = rng.permutation(samples).tolist()
    pool: list[dict] = []  # type: ignore[type-arg]
    while len(pool) < rounds * (BATCH + 1):
        after = pool[-1]["place"] if pool else -1
        pool += page.get(f"/api/queue?limit=200&after={after}")["items"]

    def batch(number: int) -> object:
        items = pool[rounds + number * BATCH :][:BATCH]
        return page.post("/api/decide", {"decisions": [wanted(i) for i in items], "batch": True})

    return {
        "GET /api/start": lambda n: page.get("/api/start"),
        "GET /api/queue, first 20": lambda n: page.get("/api/queue?limit=20"),
        "GET /api/queue, 20 from the middle": lambda n: page.get(
            f"/api/queue?limit=20&after={middle}"
        ),
        "GET /api/queue, one class": lambda n: page.get(
            f"/api/queue?limit=20&class={n % classes}&state=all"
        ),
        "GET /api/queue, all samples": lambda n: page.get(
            f"/api/queue?limit=20&kind=all&after={n * 1000}"
        ),
        "GET /api/queue, 200 of a pair": lambda n: page.get(
            f"/api/queue?limit=200&given={pair['given']}&suggested={pair['suggested']}"
        ),
        "GET /api/sample, with neighbors": lambda n: page.get(f"/api/sample/{rows[n]}"),
        "GET /api/pairs": lambda n: page.get("/api/pairs"),
        "GET /api/groups, first 5": lambda n: page.get("/api/groups?state=undecided"),
        "GET /api/groups, one class": lambda n: page.get(f"/api/groups?class={n % classes}"),
        "GET /api/finish": lambda n: page.get("/api/finish"),
        "GET /api/progress": lambda n: page.get("/api/progress"),
        "GET /api/estimate": lambda n: page.get("/api/estimate"),
        "POST /api/decide": lambda n: page.post("/api/decide", {"decisions": [wanted(pool[n])]}),
        "POST /api/undo": lambda n: page.post("/api/undo", {}),
        f"POST /api/decide, a batch of {BATCH}": batch,
        f"POST /api/undo, a batch of {BATCH}": lambda n: page.post("/api/undo", {}),
        "GET /picture, small": lambda n: page.picture(f"/picture/{rows[n]}/small"),
        "GET /picture, large": lambda n: page.picture(f"/picture/{rows[n]}/large"),
        "GET /picture, full": lambda n: page.picture(f"/picture/{rows[n]}/full"),
    }


@contextlib.contextmanager
def served(run: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "labelfix", "review", str(run), "--no-browser", "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    )
    assert process.stdout is not None
    try:
        began = time.perf_counter()
        address = next(line for line in process.stdout if line.startswith("open http"))
        print(f"the page was ready after {time.perf_counter() - began:.1f} s", flush=True)
        yield address.removeprefix("open ").strip()
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--suspects", type=int, default=20_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        data = write_photos(Path(name), arguments.samples, arguments.classes, rng)
        write_run(data, Path(name) / "run", arguments.suspects, rng)
        with served(Path(name) / "run") as address:
            asked = routes(Page(address), rng, arguments.rounds, arguments.suspects)
            for route, ask in asked.items():
                times = [
                    1000 * seconds_of(partial(ask, number)) for number in range(arguments.rounds)
                ]
                high = float(np.quantile(times, 0.95))
                rows.append({
                    "route": route, "samples": arguments.samples, "suspects": arguments.suspects,
                    "classes": arguments.classes, "rounds": arguments.rounds,
                    "median_ms": round(statistics.median(times), 2),
                    "p95_ms": round(high, 2), "longest_ms": round(max(times), 2),
                })  # fmt: skip
                print(
                    f"{route:40} median {rows[-1]['median_ms']:7.1f} ms   95 % {high:7.1f} ms   "
                    f"longest {max(times):7.1f} ms {bar(high < BAR, f'{BAR:.0f} ms')}",
                    flush=True,
                )
    if arguments.out is not None:
        arguments.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
