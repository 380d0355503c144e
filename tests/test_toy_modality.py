"""A modality from outside the package: numbers as samples, audited end to end.

Letters: N samples, n different ones.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import labelfix
from starlette.testclient import TestClient

from labelfix.config import AuditConfig, BackboneConfig
from labelfix.errors import ConfigError, UnreadableSample
from labelfix.modalities.base import IssueCheck, Modality, ThumbnailRequest
from labelfix.modalities.snippets import show_as_text
from labelfix.pipeline.samples import audit_samples
from labelfix.report.frame import read_report
from labelfix.report.html.findings import find_findings
from labelfix.report.html.page import write_page
from labelfix.report.io import read_report_table
from labelfix.report.schema import COLUMNS, columns_of
from labelfix.report.summary import summarize
from labelfix.report.view import ReportView
from labelfix.review.app import build_app
from labelfix.review.retraining import Retraining
from labelfix.review.security import Keys
from labelfix.review.server import open_review
from labelfix.review.session import Session
from labelfix.types import DatasetSource, Features, LabeledDataset
from labelfix.utils.progress import no_progress
from labelfix.utils.sample_reader import content_digest

IMAGE_COLUMNS = {column.name for column in COLUMNS} - {column.name for column in columns_of(())}
CONFIG = AuditConfig(tune="head", backbone=BackboneConfig(device="cpu"))


@dataclass(frozen=True)
class Sizes:
    """How large each number is: what the check looks at."""

    values: np.ndarray

    def of(self, rows):
        return Sizes(self.values[rows])


class NumberEncoder:
    """Features of a number: itself and its square."""

    name = "the number line"

    def encode(self, store, fingerprint, cache, on_progress):
        read = [store.content(row) for row in range(len(store))]
        values = np.array([float(data) if data else 0.0 for data in read])
        return Features(
            np.stack([values, values**2], axis=1).astype(np.float16),
            np.array([content_digest(data) if data else b"" for data in read]),
            {row: "not a number" for row, data in enumerate(read) if not data},
            Sizes(values),
        )

    def settings(self):
        return {"powers": 2}


class Numbers(Modality):
    """Numbers, written as text: this is all that a new kind of sample needs."""

    name, plural = "number", "numbers"

    def encoder(self, config, store):
        return NumberEncoder()

    def checks(self):
        score = lambda sizes: np.exp(-np.abs(sizes.values)).astype(np.float32)  # noqa: E731
        return [IssueCheck("huge", "Is it huge?", "exp(-|x|)", "a huge number", 1e-4, score)]

    def renderer(self, store, settings, on_progress):
        return show_as_text(store, lambda data: f"<b>x</b> = {float(data):.3f}")

    def confirm_duplicates(self, statistics, first, second):
        distance = np.abs(statistics.values[first] - statistics.values[second])
        return np.exp(-1000 * distance).astype(np.float32)


class NumberStore:
    """N numbers in memory, ``None`` where one cannot be read."""

    random_access = True

    def __init__(self, numbers):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def content(self, row):
        return b"" if self.numbers[row] is None else self.read(row)

    def read(self, row):
        if self.numbers[row] is None:
            raise UnreadableSample("not a number")
        return repr(self.numbers[row]).encode()

    def location(self, row):
        return f"line {row + 1}"


@pytest.fixture(scope="module")
def numbers():
    """Return 100 numbers around -2 and +2 by class; row 3 has the other label, row 7 is unread."""
    rng = np.random.default_rng(0)
    label = np.arange(100) % 2
    values = (rng.normal(0, 0.5, 100) + np.where(label, 2, -2)).tolist()
    label[3] = 0
    values[7], values[11], values[13] = None, 50.0, values[15] + 1e-6
    return LabeledDataset(
        sample_id=pa.array([f"n{row}" for row in range(100)]),
        split=pa.nulls(100, pa.string()),
        given_label=label.astype(np.int64),
        class_names=("negative", "positive"),
        store=NumberStore(values),
        source=DatasetSource("memory", Path("/nowhere/numbers"), {}),
        fingerprint="numbers",
    )


@pytest.fixture(scope="module")
def run(numbers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers") / "run"
    audit_samples(lambda: numbers, folder, Numbers(), CONFIG)
    return folder


def test_numbers_are_audited_end_to_end(run):
    frame = read_report(run).set_index("sample_id")
    assert frame.is_label_issue["n3"]
    assert frame.suggested_label["n3"] == "positive"
    assert frame.is_label_issue.sum() <= 3
    assert frame.is_unreadable_issue["n7"]
    assert "not a number" in frame.reason["n7"]


def test_the_checks_of_numbers_are_in_the_report_and_those_of_images_are_not(run):
    columns = pq.read_schema(run / "report.parquet").names
    assert {"is_huge_issue", "huge_score", "is_outlier_issue"} < set(columns)
    assert not IMAGE_COLUMNS & set(columns)
    frame = read_report(run).set_index("sample_id")
    assert list(frame.index[frame.is_huge_issue]) == ["n11"]
    assert "a huge number" in frame.reason["n11"]
    assert frame.is_near_duplicate_issue["n13"]
    assert frame.near_duplicate_set["n13"] == frame.near_duplicate_set["n15"]


def test_a_reader_gives_the_report_no_columns_of_images(run):
    written = pq.read_schema(run / "report.parquet").names
    assert sorted(read_report_table(run).table.column_names) == sorted(written)
    assert not IMAGE_COLUMNS & set(read_report(run).columns)
    for kind in ("dark", "odd_size"):
        assert kind not in ReportView(read_report_table(run)).kinds
    told = json.loads(labelfix("show", run, "--json").stdout)
    assert not {"dark", "blurry"} & set(told)
    assert told["huge"] == 1
    assert told["outliers"] is not None


def test_the_run_says_what_was_audited(run):
    record = read_report_table(run).run
    assert (record.modality, record.backbone) == ("number", "the number line")
    assert record.settings["powers"] == 2
    assert set(record.settings["issues"]) == {"near_duplicate", "outlier", "huge"}


def test_classes_that_are_too_small_to_be_scored_are_named(numbers, tmp_path):
    label = numbers.given_label.copy()
    label[[20, 40, 42, 60, 80]] = [2, 3, 3, 4, 5]
    few = replace(
        numbers, given_label=label, class_names=(*numbers.class_names, "a", "b", "c", "d", "none")
    )
    audit_samples(lambda: few, tmp_path / "run", Numbers(), CONFIG)
    note = (
        "4 classes are not scored: 'a' (1 sample), 'b' (2 samples), 'c' (1 sample) and 1 more; "
        "a class needs 5 different readable numbers to train on"
    )
    told = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert told["settings"]["notes"] == [note]
    summary = summarize(ReportView(read_report_table(tmp_path / "run")))
    assert summary.notes == (note,)
    assert summary.scored == 100 - 1 - 5
    assert note in " ".join(labelfix("show", tmp_path / "run").stdout.split())


@pytest.mark.parametrize(
    "arguments", [["show"], ["show", "--html"], ["check", "--fail-on", "dark"]]
)
def test_the_commands_read_the_run(run, arguments):
    done = labelfix(*arguments[:1], run, *arguments[1:])
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert (run / "report.html").is_file()


def test_whole_networks_are_refused_without_a_trainer(numbers, tmp_path):
    config = AuditConfig(tune="full", backbone=BackboneConfig(device="cpu"))
    with pytest.raises(ConfigError, match="no whole network to train on numbers"):
        audit_samples(lambda: numbers, tmp_path / "run", Numbers(), config)


def test_sentences_about_numbers_name_no_image(run):
    words = re.compile("image|picture|photo", re.IGNORECASE)
    told = pq.read_table(run / "report.parquet")["reason"].drop_null().to_pylist()
    shown = labelfix("show", run).stdout + labelfix("show", run, "--top", "9").stdout
    assert "samples that cannot be read" in shown
    assert "by the number line" in shown
    for sentence in (*told, *shown.splitlines()):
        assert not words.search(sentence), sentence


def test_the_page_tells_of_the_checks_of_numbers(run):
    view = ReportView(read_report_table(run))
    findings = {finding.key: finding for finding in find_findings(view)}
    assert findings["huge"].title == "Huge"
    assert [one.sample_id for one in findings["huge"].sets[0].pictures] == ["n11"]
    assert findings["same-near-copies"].lead == "Almost the same sample more than once."


def test_the_page_of_the_audit_shows_numbers_as_text(numbers, run, tmp_path):
    renderer = Numbers().renderer(numbers.store, {}, no_progress)
    page = write_page(run, read_report_table(run), renderer).read_text(encoding="utf-8")
    assert "&lt;b&gt;x&lt;/b&gt; = 50.000" in page, "the outlier, escaped"
    assert f"= {numbers.store.numbers[3]:.3f}" in page, "the suspect"
    assert "<b>x</b>" not in page
    assert "data:image" not in page


def test_a_page_that_is_written_again_says_why_it_shows_no_number(run):
    assert labelfix("show", run, "--html").returncode == 0
    assert "from outside labelfix" in (run / "report.html").read_text(encoding="utf-8")


def visitor_of(run, renderer):
    keys = Keys(8722)
    session = Session(read_report_table(run), run, None)
    app = build_app(session, renderer, keys, Retraining(session))
    client = TestClient(app, base_url="http://127.0.0.1:8722")
    assert client.get(f"/?key={keys.key}").status_code == 200
    return client


def test_a_review_shows_numbers_as_text(numbers, run):
    client = visitor_of(run, Numbers().renderer(numbers.store, {}, no_progress))
    start = client.get("/api/start").json()
    assert (start["has_pictures"], start["has_texts"]) == (False, True)
    assert {"huge", "outlier"} <= set(start["kinds"])
    assert not {"dark", "odd_size"} & set(start["kinds"])
    row = client.get("/api/queue").json()["items"][0]["row"]
    assert row == 3
    answer = client.get(f"/picture/{row}/large")
    assert answer.text == f"<b>x</b> = {numbers.store.numbers[row]:.3f}"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    fault = client.get("/picture/7/small")
    assert (fault.status_code, fault.json()) == (
        404,
        {"error": "the sample cannot be shown: not a number"},
    )


def test_a_review_by_the_command_says_why_it_shows_no_number(run):
    review = open_review(run)
    start = visitor_of(run, review.renderer).get("/api/start").json()
    assert (start["has_pictures"], start["has_texts"]) == (False, False)
    assert "from outside labelfix" in start["why_nothing_shown"]


def test_long_texts_are_cut_where_they_are_shown(numbers):
    renderer = show_as_text(numbers.store, lambda data: "word " * 10_000)
    request = ThumbnailRequest(0, 144)
    assert len(renderer.draw([request])[request].text) < 200
    assert len(renderer.open(0, "small").data) < 100
    assert len(renderer.open(0, "large").data) > 19_000
    assert renderer.draw([ThumbnailRequest(7, 144)]) == {}
