"""The end of a review: what the page says, and that its export is that of the command."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command import labelfix
from review_run import write_images
from review_visitor import Visitor
from small_report import Sample, report_of

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.decisions import decisions_file
from labelfix.data.remote import path_of_record
from labelfix.modalities.base import no_pictures
from labelfix.report.io import write_report
from labelfix.review.finish import finish_of
from labelfix.review.server import open_review
from labelfix.utils.text import percent


@pytest.fixture
def visitor(run: Path) -> Visitor:
    return Visitor(run)


def decide_some(visitor: Visitor) -> None:
    kept, taken, dropped, unsure = [i for i in visitor.next(200) if i["is_flagged"]][:4]
    visitor.decide(kept)
    visitor.decide(taken, "relabel", taken["suggested"])
    visitor.decide(dropped, "drop")
    visitor.decide(unsure, "unsure")


def export_body(to: object, **more: object) -> dict:
    return {"to": str(to), "format": "csv", "min_probability": 0.95, **more}


def test_the_end_says_what_became_of_the_labels(visitor: Visitor) -> None:
    decide_some(visitor)
    end = visitor.get("/api/finish").json()
    assert [end[action] for action in ("keep", "relabel", "drop", "unsure")] == [1, 1, 1, 1]
    assert (end["samples"], end["flagged"], end["undecided"]) == (80, 40, 36)
    assert (end["changed"], end["changed_by_audit"], end["left_out"]) == (1, 0, 1)
    assert end["untouched"]["count"] == 36
    steps = dict(end["untouched"]["would_change"])
    assert steps[0.6] == visitor.get("/api/finish?min_probability=.6").json()["changed_by_audit"]
    classes = {c["name"]: c for c in end["classes"]}
    for c in classes.values():
        assert c["after"] == c["before"] - c["away"] + c["to"] - c["dropped"]
    assert sum(c["away"] for c in classes.values()) == 1
    low, high = end["rate_after_interval"]
    assert low <= end["rate_after"] <= high


def test_the_end_and_the_check_of_an_export_estimate_the_same(visitor: Visitor) -> None:
    run = visitor.session.run

    def both() -> tuple[list[float], list[float]]:
        end = visitor.get("/api/finish").json()
        asked = ("check", run, "--exported", "--max-error-rate", "1", "--json")
        rate = json.loads(labelfix(*asked).stdout)["error_rate"]
        told = [end["rate_after"], *end["rate_after_interval"]]
        return told, [rate["estimate"], rate["low"], rate["high"]]

    decide_some(visitor)
    first, checked = both()
    assert first == pytest.approx(checked)
    run_rate = visitor.session.view.report.run.noise_rate
    assert first[0] != run_rate
    for item in visitor.next(200):
        visitor.decide(item, "keep")
    last, checked = both()
    assert last == pytest.approx(checked)
    assert last[0] < first[0]


@pytest.mark.parametrize("least", ["2", "-1", "nan", "x"])
def test_a_probability_that_is_none_is_refused(visitor: Visitor, least: str) -> None:
    assert visitor.get(f"/api/finish?min_probability={least}").status_code == 400


@pytest.mark.parametrize(("form", "least"), [("csv", 0.95), ("parquet", 0.6)])
def test_the_page_exports_what_the_command_exports(
    visitor: Visitor, tmp_path: Path, form: str, least: float
) -> None:
    decide_some(visitor)
    done = visitor.post(
        "/api/export", export_body(tmp_path / "a", format=form, min_probability=least)
    )
    assert done.status_code == 200, done.text
    assert done.json()["to"] == str(tmp_path / "a")
    more = ["--format", form, "--min-probability", str(least)]
    assert labelfix("export", visitor.session.run, tmp_path / "b", *more).returncode == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_data_set_itself_is_exported_to_the_place_that_is_offered(visitor: Visitor) -> None:
    decide_some(visitor)
    end = visitor.get("/api/finish").json()
    assert end["formats"][:2] == ["own", "folder"]
    place = Path(end["places"]["own"])
    assert not place.exists()
    done = visitor.post("/api/export", export_body(place, format="own")).json()
    assert (done["changed"], done["dropped"]) == (1, 1)
    assert len(list(place.rglob("*.png"))) == 79
    assert visitor.get("/api/finish").json()["places"]["own"] == f"{place}-2"


def test_a_file_that_is_there_is_replaced_only_if_that_is_asked(
    visitor: Visitor, tmp_path: Path
) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("precious")
    refused = visitor.post("/api/export", export_body(file))
    assert refused.status_code == 409
    assert "mine.csv" in refused.json()["error"]
    assert refused.json()["hint"]
    assert file.read_text() == "precious"
    assert visitor.post("/api/export", export_body(file, overwrite=True)).status_code == 200
    assert file.read_text().startswith('"sample_id"')


def test_what_was_decided_or_audited_is_never_written_over(visitor: Visitor) -> None:
    decide_some(visitor)
    log = decisions_file(visitor.session.run)
    held = log.read_bytes()
    refused = visitor.post("/api/export", export_body(log, format="jsonl", overwrite=True))
    assert (refused.status_code, log.read_bytes()) == (409, held)


def test_an_export_writes_the_page_of_the_run_again(visitor: Visitor, tmp_path: Path) -> None:
    decide_some(visitor)
    page = visitor.session.run / "report.html"
    assert visitor.post("/api/export", export_body(tmp_path / "a.csv")).status_code == 200
    assert not page.exists()  # there was none
    page.write_text("before")
    done = visitor.post("/api/export", export_body(tmp_path / "b.csv"))
    assert done.status_code == 200
    text = page.read_text(encoding="utf-8")
    assert "suspects are decided" in text
    assert "data:image/jpeg" in text
    rate = visitor.get("/api/finish").json()["rate_after"]
    assert f'id="rate-now">{percent(rate)}<' in text
    shown = labelfix("show", visitor.session.run, "--html")
    assert shown.returncode == 0, shown.stderr
    assert page.read_text(encoding="utf-8") == text


def test_an_export_is_a_change_that_needs_the_token(visitor: Visitor, tmp_path: Path) -> None:
    refused = visitor.post("/api/export", export_body(tmp_path / "a.csv"), x_labelfix_token="")
    assert refused.status_code == 403
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    "more",
    [{"format": "exe"}, {"format": 1}, {"to": 1}, {"overwrite": "yes"}, {"min_probability": 2},
     {"min_probability": "x"}, {"min_probability": True}],
)  # fmt: skip
def test_an_export_that_makes_no_sense_is_refused(
    visitor: Visitor, tmp_path: Path, more: dict
) -> None:
    assert visitor.post("/api/export", {**export_body(tmp_path / "a"), **more}).status_code == 400


def test_an_export_of_data_at_an_address_is_offered_beside_the_run(tmp_path: Path) -> None:
    report = report_of([Sample("a", 0), Sample("b", 1)], ("cat", "dog"))
    source = replace(report.run.source, path=path_of_record("memory://far/data.parquet"))
    (tmp_path / "run").mkdir()
    report = replace(report, run=replace(report.run, source=source))
    write_report(report, tmp_path / "run" / "report.parquet")
    review = open_review(tmp_path / "run", renderer=no_pictures("far away"))
    places = finish_of(review.session, min_probability=0.95, drop=False).places
    assert places
    assert {Path(place).parent for place in places.values()} == {tmp_path}


def test_copies_that_still_contradict_each_other_are_named(tmp_path: Path) -> None:
    dataset = open_dataset(write_images(tmp_path / "data", ("cat", "dog"), 2), DatasetConfig())
    cat, other, dog, _ = dataset.sample_id.to_pylist()
    copies = {"duplicate_set": 0, "conflicting": True}
    samples = [
        Sample(cat, 0, 0.9, suggested=1, certainty=0.8, **copies),
        Sample(other, 0),
        Sample(dog, 1, **copies),
        Sample("dog/001.png", 1),
    ]
    (tmp_path / "run").mkdir()
    report = report_of(samples, ("cat", "dog"), dataset=dataset)
    write_report(report, tmp_path / "run" / "report.parquet")
    visitor = Visitor(tmp_path / "run")
    end = visitor.get("/api/finish").json()
    assert end["conflict_count"] == 1
    said = [(copy["sample_id"], copy["label"]) for copy in end["conflicts"][0]]
    assert said == [(cat, "cat"), (dog, "dog")]
    done = visitor.post("/api/export", export_body(tmp_path / "a.csv")).json()
    assert any(f"{cat} (cat) and {dog} (dog)" in note for note in done["notes"])
    visitor.decide(visitor.next(1)[0], "relabel", 1)
    assert visitor.get("/api/finish").json()["conflict_count"] == 0
    done = visitor.post("/api/export", export_body(tmp_path / "b.csv")).json()
    assert done["notes"] == []
