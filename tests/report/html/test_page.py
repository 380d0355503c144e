"""The page of a run: what it says, that it is whole in itself, and that no name can harm it."""

import base64
import io
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from command import labelfix
from encoded_images import TORN, MemoryImages, numbered
from given_probs import noisy, write
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from page_run import every_issue, make_run, with_columns, write_neighbors
from PIL import Image
from scipy.stats import binomtest
from small_report import CLASS_NAMES, Sample, report_of, samples_of

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.decisions import Decision, DecisionLog
from labelfix.errors import ReportError
from labelfix.exports.leftovers import wrong_left
from labelfix.exports.plan import plan_export
from labelfix.modalities.base import ThumbnailRequest, no_pictures
from labelfix.modalities.image.rendering import draw_thumbnails, pictures_of
from labelfix.report.html.calibration import LEAST_REVIEWED as LEAST
from labelfix.report.html.calibration import expect, tally, wilson
from labelfix.report.html.findings import find_findings
from labelfix.report.html.hero import find_hero
from labelfix.report.html.page import find_pictures, write_page
from labelfix.report.html.render import HERE
from labelfix.report.html.scatter import MOST_POINTS, find_scatter
from labelfix.report.html.suspects import (
    MAP_CLASSES,
    MOST,
    MOST_PAIRS,
    bands_of,
    choose_cards,
    find_confusion,
    find_suspects,
)
from labelfix.report.html.walls import MOST_TILES, find_walls
from labelfix.report.io import read_report_table, write_report
from labelfix.report.neighbors import read_neighbors, read_places
from labelfix.report.summary import summarize
from labelfix.report.view import ReportView
from labelfix.types import DatasetSource
from labelfix.utils.progress import no_progress
from labelfix.utils.text import percent

MEGABYTES = 15e6


class Page(HTMLParser):
    """What a page holds: text by id, elements, and what points out of it."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.by_id, self._open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in {"img", "input", "meta", "link", "br"}:
            self._open.append(attributes.get("id"))

    def handle_endtag(self, tag):
        self._open.pop()

    def handle_data(self, data):
        for name in filter(None, self._open):
            self.by_id[name] = self.by_id.get(name, "") + data

    def of(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]


def read_page(run):
    return Page((run / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def pets(tmp_path):
    return make_run(tmp_path)


def test_an_audit_writes_the_page_and_show_writes_the_same_one_anew(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "elsewhere")
    first = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    done = labelfix("show", run, "--html")
    assert done.returncode == 0, done.stderr
    assert str(run / "report.html") in done.stdout
    assert (run / "report.html").read_bytes() == first
    assert b"data:image/jpeg" in first
    refused = labelfix("show", run, "--html", "--class", "0")
    assert refused.returncode == 2


def test_the_figures_are_those_of_show(small_run):
    shown = json.loads(labelfix("show", small_run, "--json").stdout)
    page = read_page(small_run)
    assert page.by_id["noise-rate"] == percent(shown["noise_rate"])
    assert page.by_id["flagged"] == f"{shown['flagged']:,}"
    assert page.by_id["expected-precision"] == percent(shown["expected_precision"])
    low, high = shown["noise_rate_interval"]
    assert f"{percent(low)} to {percent(high)}" in page.by_id["found"]
    for row in shown["by_class"]:
        assert page.of("td", **{"data-value": str(row["flagged"])})
        assert page.of("td", **{"data-value": str(row["noise_rate"])})
    cells = Counter(
        {
            (b["data-given"], b["data-suggested"]): int(b["aria-label"].split(": ")[-1].split()[0])
            for b in page.of("button")
            if "heat" in (b.get("class") or "")
        }
    )
    assert cells.total() == shown["flagged"]
    codes = {name: str(code) for code, name in enumerate(("0", "1", "7"))}
    for pair in shown["confused"]:
        assert cells[codes[pair["given_label"]], codes[pair["suggested_label"]]] == pair["count"]


def test_the_page_holds_all_that_it_shows(pets):
    write_page(pets.run, every_issue(pets.report), pictures_of(pets.images, no_progress))
    page = read_page(pets.run)
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    policy = page.of("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert {len(image["alt"]) > 0 for image in page.of("img")} == {True}
    names = [finding.key for finding in find_findings(ReportView(every_issue(pets.report)))]
    assert set(names) == {
        "near-leaks", "conflicting-copies", "same-near-copies", "outlier", "dark",
        "bright", "blurry", "odd_size",
    }  # fmt: skip
    assert {name for name in page.by_id if name in names} == set(names)
    tabs = {link["href"][1:] for link in page.of("a") if link["href"] != "#main"}
    assert {"suspects", "classes", "copies", "near-copies", "outliers", "quality"} <= tabs


def test_the_headings_form_an_outline(pets):
    write_page(pets.run, every_issue(pets.report), no_pictures("none here"))
    levels = [int(tag[1]) for tag, _ in read_page(pets.run).elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1


def test_hostile_names_are_only_text(tmp_path):
    made = make_run(tmp_path, hostile=True)
    write_page(made.run, made.report, pictures_of(made.images, no_progress))
    text = (made.run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.of("script")) == 3
    assert {image["src"][:5] for image in page.of("img")} == {"data:"}
    assert "\u202e" not in text
    assert "{{7*7}}" in text


@settings(max_examples=20)
@given(st.data())
def test_any_report_makes_a_page(tmp_path_factory, data):
    names = data.draw(CLASS_NAMES)
    report = report_of(data.draw(samples_of(len(names))), names)
    run = tmp_path_factory.mktemp("any")
    first = write_page(run, report, no_pictures("none")).read_bytes()
    assert write_page(run, report, no_pictures("none")).read_bytes() == first
    page = read_page(run)
    assert len(page.of("li")) >= min(summarize(ReportView(report)).flagged, MOST)


def test_a_page_stays_small_whatever_the_names_and_pictures_are(tmp_path):
    long = "x" * 4_000
    names = [f"{code}{long}" for code in range(100)]
    samples = [
        Sample(f"{row}{long}", row % 100, 0.9, suggested=(row + 1 + row // 100) % 100)
        for row in range(400)
    ]
    samples += [Sample(f"bad{row}{long}", 0, None, unreadable=long) for row in range(60)]
    report = report_of(samples, names)
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    images = MemoryImages([buffer.getvalue()] * 460)
    page = write_page(tmp_path, report, pictures_of(images, no_progress))
    assert page.stat().st_size < MEGABYTES


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 20_000))
@settings(max_examples=30)
def test_pictures_keep_to_their_budget(rows, budget):
    images = MemoryImages([numbered(row) for row in range(9)] + [TORN])
    requests = [ThumbnailRequest(row, 16) for row in rows]
    drawn = draw_thumbnails(images, requests, budget=budget)
    assert sum(len(drawn.get(request, "")) for request in requests) <= budget
    assert ThumbnailRequest(9, 16) not in drawn
    assert images.reads == sorted(images.reads)


def test_a_picture_is_turned_upright_and_says_nothing_of_its_maker(tmp_path):
    image = Image.new("RGB", (60, 20), "red")
    exif = image.getexif()
    exif[0x0112], exif[0x010F] = 6, "secret"
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif, comment=b"secret")
    drawn = draw_thumbnails(MemoryImages([buffer.getvalue()]), [ThumbnailRequest(0, 30)])
    data = base64.b64decode(drawn[ThumbnailRequest(0, 30)].partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (10, 30)
    assert b"secret" not in data


def test_a_file_outside_the_data_is_drawn_only_where_links_may_lead_out(tmp_path):
    made = make_run(tmp_path)
    secret = tmp_path / "secret.png"
    (made.data / "cat" / "23.png").rename(secret)
    (made.data / "cat" / "23.png").symlink_to(secret)
    audited = open_dataset(made.data, DatasetConfig())  # told to follow no link out of the data
    run = replace(made.report.run, fingerprint=audited.fingerprint)
    write_report(replace(made.report, run=run), made.run / "report.parquet")
    for options, drawn in (((), 0), (("--outside-files",), 1)):
        assert labelfix("show", made.run, "--html", *options).returncode == 0
        alts = [image["alt"] for image in read_page(made.run).of("img")]
        assert sum(alt.startswith("Sample cat/23") for alt in alts) == drawn
        assert [alt for alt in alts if "cat/22" in alt]


def test_what_cannot_be_drawn_does_not_stop_the_page(pets):
    (pets.data / "cat" / "23.png").write_bytes(TORN)
    (pets.data / "cat" / "22.png").unlink()
    write_page(pets.run, pets.report, pictures_of(pets.images, no_progress))
    page = read_page(pets.run)
    cards = [a for a in page.of("li") if (a.get("class") or "").startswith("card")]
    alts = [image["alt"] for image in page.of("img")]
    assert len(cards) == 36
    assert sum(alt.startswith("Sample") and "/2" in alt for alt in alts) == 10
    assert not [alt for alt in alts if "cat/22" in alt or "cat/23" in alt]


@pytest.mark.parametrize("change", ["gone", "other"])
def test_a_data_set_that_has_moved_leaves_cards_without_pictures(pets, change):
    if change == "gone":
        shutil.rmtree(pets.data)
    else:
        (pets.data / "cat" / "new.png").write_bytes(numbered(1))
    done = labelfix("show", pets.run, "--html")
    assert done.returncode == 0, done.stderr
    page = read_page(pets.run)
    assert page.of("img") == []
    assert str(pets.data) in page.by_id["suspects"]
    assert len([a for a in page.of("li") if (a.get("class") or "").startswith("card")]) == 36


def test_given_probabilities_make_a_page_without_pictures(tmp_path):
    file, run = write(tmp_path / "probs.csv", noisy()), tmp_path / "run"
    assert labelfix("audit", "--pred-probs", file, "--out", run).returncode == 0
    page = read_page(run)
    assert page.of("img") == []
    assert "Only probabilities were given" in page.by_id["suspects"]
    before = (run / "report.html").read_bytes()
    assert labelfix("show", run, "--html").returncode == 0
    assert (run / "report.html").read_bytes() == before


def test_the_nearest_that_agree_and_disagree(pets):
    rows = [[] for _ in range(len(pets.report))]
    labels = pets.report.table["given_label"].to_pylist()
    row = 23  # a cat that looks like a fox or a dog
    suggested = pets.report.table["suggested_label"][row].as_py()
    by_label = {label: labels.index(label) for label in labels}
    third = ({"cat", "dog", "fox"} - {"cat", suggested}).pop()
    rows[row] = [by_label[third], by_label[suggested], by_label["cat"]]
    rows[22] = [by_label[third]]
    rows[by_label[third]] = [row]
    write_neighbors(pets.run, rows, [[0.9, 0.8, 0.7][: len(r)] for r in rows])
    suspects = find_suspects(ReportView(pets.report))
    shown = find_confusion(suspects, 3)
    neighbors = read_neighbors(pets.run, pets.report)
    cards = {
        card.row: card for card in choose_cards(ReportView(pets.report), suspects, shown, neighbors)
    }
    assert cards[row].agreeing.given_label == "cat"
    assert cards[row].agreeing.similarity == pytest.approx(0.7)
    assert not cards[row].agreeing.is_suspect
    assert cards[row].disagreeing.given_label == suggested
    through = cards[22].agreeing  # a neighbor of its neighbor
    assert (through.row, through.similarity, through.is_suspect) == (row, None, True)
    typical = cards[21].agreeing, cards[21].disagreeing  # it has no neighbor
    assert [one.given_label for one in typical] == [
        labels[21],
        pets.report.table["suggested_label"][21].as_py(),
    ]
    assert [(one.similarity, one.is_suspect) for one in typical] == [(None, False)] * 2
    with pytest.raises(ReportError, match="another report"):
        read_neighbors(pets.run, replace(pets.report, columns=pets.report.table[:5]))


@settings(max_examples=25)
@given(st.integers(2, 40), st.integers(0, 400), st.integers(0, 2**32 - 1))
def test_the_map_counts_the_flags_and_each_number_has_cards(classes, size, seed):
    rng = np.random.default_rng(seed)
    given_, other = rng.integers(0, classes, size), rng.integers(1, classes, size)
    samples = [
        Sample(f"{row}", int(g), float(e), suggested=int((g + o) % classes), certainty=float(c))
        for row, (g, o, e, c) in enumerate(
            zip(given_, other, rng.random(size), rng.random(size), strict=True)
        )
    ]
    view = ReportView(report_of(samples, [f"c{code:02}" for code in range(classes)]))
    suspects = find_suspects(view)
    shown = find_confusion(suspects, classes)
    counts = Counter((s.given, s.suggested) for s in samples)
    assert (shown.cells is not None) == (classes <= MAP_CLASSES)
    listed = {(given_code, suggested): count for given_code, suggested, count in shown.pairs}
    assert listed.items() <= counts.items()
    assert [*listed.values()] == sorted(counts.values(), reverse=True)[: len(listed)]
    assert shown.pair_count == len(counts)
    if shown.cells is None:
        assert len(listed) == min(MOST_PAIRS, len(counts))
        held = listed
    else:
        held = {
            (row, column): cell.count
            for row, cells in enumerate(shown.cells)
            for column, cell in enumerate(cells)
            if cell.count
        }
        assert held == counts
    cards = choose_cards(view, suspects, shown, None)
    bands = ["certain", "likely", "unsure"]
    order = [(bands.index(card.band), -card.label_error_probability) for card in cards]
    assert order == sorted(order)
    assert len(cards) == len({card.row for card in cards}) <= MOST
    if size <= MOST / 2 or len(held) < 100:
        assert set(held) <= {(card.given, card.suggested) for card in cards}


@settings(max_examples=25)
@given(st.data())
def test_bands_and_the_bar_are_what_a_loop_counts(data):
    names = data.draw(CLASS_NAMES)
    report = report_of(data.draw(samples_of(len(names))), names)
    assume(report.table["label_error_probability"].null_count < len(report))
    flagged = [row for row in report.table.to_pylist() if row["is_label_issue"]]
    least = np.float32(0.95)
    certain = {
        row["sample_id"]
        for row in flagged
        if row["label_error_probability"] >= least and row["suggested_label_probability"] >= least
    }
    ids, view = report.table["sample_id"].to_pylist(), ReportView(report)
    for row, band in zip(report.table.to_pylist(), bands_of(view).tolist(), strict=True):
        if row["is_label_issue"]:
            is_likely = row["label_error_probability"] >= 0.5
            assert band == (0 if row["sample_id"] in certain else 1 if is_likely else 2)
    decided = data.draw(st.lists(st.sampled_from(ids), unique=True, max_size=4))
    action = data.draw(st.sampled_from(["keep", "drop", "unsure"]))
    decisions = {name: Decision(name, action) for name in decided}
    reviewed = ReportView(report, decisions)
    hero = find_hero(reviewed, summarize(reviewed))
    assert (hero.counts.sure, hero.counts.doubtful) == (len(certain), len(flagged) - len(certain))
    assert sum(count for _, count in hero.counts.parts) == len(ids)
    assert (hero.now is None) == (not decided)
    if hero.now is not None:
        assert sum(count for _, count in hero.now.parts) == len(ids)
        left = certain if action == "unsure" else certain - set(decided)
        assert hero.now.sure == len(left)
        plan = plan_export(reviewed, min_probability=0.95, drop=False)
        assert hero.rate_now == pytest.approx(wrong_left(reviewed, plan).rate)
        assert hero.now.dropped == (len(decided) if action == "drop" else 0)


@settings(max_examples=25)
@given(st.integers(1, 70), st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_walls_hold_the_samples_of_their_class_and_fit_the_page(classes, size, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, size).tolist()
    wrong = rng.random(size).tolist()
    flag = (rng.random(size) < 0.3) & (classes > 1)
    samples = [
        Sample(f"{row}", code, error, suggested=(code + 1) % classes if is_it else None)
        for row, (code, error, is_it) in enumerate(zip(codes, wrong, flag.tolist(), strict=True))
    ]
    view = ReportView(report_of(samples, [f"c{code:02}" for code in range(classes)]))
    walls = find_walls(view)
    assert sum(len(wall.tiles) for wall in walls) <= MOST_TILES
    for wall in walls:
        rows = [tile.row for tile in wall.tiles]
        assert len(rows) == len(set(rows))
        assert {codes[row] for row in rows} <= {wall.code}
        assert wall.samples == codes.count(wall.code)
        assert [tile.suggested is not None for tile in wall.tiles] == sorted(
            flag[rows].tolist(), reverse=True
        )
    if size <= MOST_TILES and classes <= 60:
        assert sum(len(wall.tiles) for wall in walls) == size


@settings(max_examples=20)
@given(st.integers(1, 14), st.integers(1, 5000), st.integers(0, 2**32 - 1))
def test_the_map_of_the_samples_has_points_of_each_color_and_suspects_on_top(classes, size, seed):
    rng = np.random.default_rng(seed)
    flag = (rng.random(size) < 0.3) & (classes > 1)
    samples = [
        Sample(f"{row}", code, error, suggested=(code + 1) % classes if is_it else None)
        for row, (code, error, is_it) in enumerate(
            zip(
                rng.integers(0, classes, size).tolist(),
                rng.random(size).tolist(),
                flag.tolist(),
                strict=True,
            )
        )
    ]
    view = ReportView(report_of(samples, [f"c{code:02}" for code in range(classes)]))
    places = rng.random((size, 2)).astype(np.float32)
    places[rng.random(size) < 0.1] = np.nan
    assert find_scatter(view, None) is None
    scatter = find_scatter(view, places)
    if classes > MAP_CLASSES or np.isnan(places).all():
        assert scatter is None
        return
    assert len(scatter.rows) == len(set(scatter.rows.tolist())) <= MOST_POINTS
    assert np.array_equal(scatter.places, places[scatter.rows])
    assert scatter.is_suspect.tolist() == sorted(scatter.is_suspect.tolist())
    assert scatter.is_suspect.tolist() == flag[scatter.rows].tolist()
    for row, color in zip(scatter.rows.tolist(), scatter.color.tolist(), strict=True):
        assert scatter.classes[color] in (samples[row].given, None)
    if len(scatter.rows) < MOST_POINTS:
        assert scatter.samples == len(scatter.rows) or flag.sum() > MOST_POINTS / 2


def test_places_that_are_no_numbers_are_an_error(pets):
    size = len(pets.report)
    write_neighbors(pets.run, [[]] * size, [[]] * size)
    assert read_places(pets.run, size) is None  # of an older run
    write_neighbors(pets.run, [[]] * size, [[]] * size, np.zeros((size, 2), np.float32))
    assert read_places(pets.run, size).shape == (size, 2)
    write_neighbors(pets.run, [[]] * size, [[]] * size, np.full((size, 2), "here"))
    with pytest.raises(ReportError, match="places"):
        read_places(pets.run, size)


def test_a_near_copy_is_no_exact_copy_and_each_group_is_shown_once(pets):
    size = len(pets.report)
    exact, near = np.full(size, -1), np.full(size, -1)
    exact[[0, 1]], exact[[2, 26]] = 0, 1  # of one class, and of two
    near[[0, 1, 3]], near[[2, 26]], near[[4, 5]] = 0, 1, 2
    columns = {
        name: np.ma.masked_less(values, 0).tolist()
        for name, values in (("exact_duplicate_set", exact), ("near_duplicate_set", near))
    }
    found = {f.key: f for f in find_findings(ReportView(with_columns(pets.report, **columns)))}
    shown = {
        key: [[one.row for one in group.pictures] for group in finding.sets]
        for key, finding in found.items()
    }
    assert shown == {
        "conflicting-copies": [[2, 26]],
        "same-copies": [[0, 1]],
        "same-near-copies": [[0, 3], [4, 5]],
    }


@settings(max_examples=25)
@given(st.data())
def test_the_curve_is_what_a_loop_counts(data):
    names = data.draw(CLASS_NAMES)
    report = report_of(data.draw(samples_of(len(names))), names)
    expectation, summary = expect(ReportView(report)), summarize(ReportView(report))
    errors = report.table["label_error_probability"].drop_null().to_pylist()
    assert sum(bin.count for bin in expectation.bins) == len(errors)
    ranked = sorted(errors, reverse=True)
    for point in expectation.points:
        wrong = sum(ranked[: point.reviewed])
        assert point.wrong == pytest.approx(wrong)
        assert point.precision == pytest.approx(wrong / point.reviewed)
        assert point.recall == pytest.approx(wrong / sum(ranked))
    if summary.flagged and expectation.points:
        assert summary.flagged in [point.reviewed for point in expectation.points]


def test_the_expected_precision_of_the_curve_is_that_of_the_summary(small_run):
    report = read_report_table(small_run, pred_probs=False)
    summary = summarize(ReportView(report))
    point = next(p for p in expect(ReportView(report)).points if p.reviewed == summary.flagged)
    assert point.precision == pytest.approx(summary.expected_precision)
    assert point.recall == pytest.approx(summary.expected_recall)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_are_those_of_scipy(counts):
    right, count = counts
    known = binomtest(right, count).proportion_ci(0.9, method="wilson")
    assert wilson(right / count, count) == pytest.approx((known.low, known.high), abs=1e-9)


def test_decisions_are_told_and_checked_against_the_probabilities(pets):
    rows = [row for row in pets.report.table.to_pylist() if row["is_label_issue"]]
    log = DecisionLog(pets.run)
    log.append([Decision(r["sample_id"], "relabel", r["suggested_label"]) for r in rows[:18]])
    log.append([Decision(rows[18]["sample_id"], "keep"), Decision("elsewhere.png", "keep")])
    few = tally(ReportView(pets.report, log.in_force))
    assert (few.total, few.bins) == (19, ())
    log.append([Decision(r["sample_id"], "unsure") for r in rows[19:22]])
    assert tally(ReportView(pets.report, log.in_force)).bins == ()
    log.append([Decision(r["sample_id"], "keep") for r in rows[22:24]])
    bins = tally(ReportView(pets.report, log.in_force)).bins
    assert sum(bin.count for bin in bins) == 21 >= LEAST
    assert sum(round(bin.count * bin.wrong) for bin in bins) == 18
    write_page(pets.run, pets.report, no_pictures("none"))
    page = read_page(pets.run)
    assert "24 samples (3 kept, 18 relabeled, 3 not sure)" in page.by_id["reviewed-so-far"]
    assert "calibration" in page.by_id


def test_training_is_drawn_where_there_was_one(pets):
    report = replace(pets.report, run=replace(pets.report.run, settings={"tune": "full"}))
    write_report(report, pets.run / "report.parquet")
    entries = [
        {"fold": f, "epoch": e, "loss": 1 / e, "corrected": e, "boundary_share": 0.5}
        for f in (0, 1)
        for e in (1, 2, 3)
    ]
    log = "".join(json.dumps(entry) + "\n" for entry in entries)
    (pets.run / "training_log.jsonl").write_text(log, encoding="utf-8")
    layer = {"name": "stem<b>", "role": "stem", "relative_distance": 0.125, "at_boundary": True}
    (pets.run / "layers.json").write_text(json.dumps([layer]), encoding="utf-8")
    done = labelfix("show", pets.run, "--html")
    assert done.returncode == 0, done.stderr
    training = read_page(pets.run).by_id["training"]
    assert "2 networks, 3 epochs each" in training
    assert "stem<b>: 0.125, at its boundary" in training
    assert "Training loss, by epoch" in training


def test_unscored_and_unreadable_samples_are_listed(tmp_path):
    samples = [
        *[
            Sample(f"{i}", 0, None, exclusion_reason="not scored: it has no label")
            for i in range(3)
        ],
        Sample("odd", 1, None, exclusion_reason="not scored: its class is small"),
        Sample("torn.png", 1, None, unreadable="truncated image"),
        Sample("fine", 1),
    ]
    report = report_of(samples)
    source = DatasetSource("folder", tmp_path / "gone", {})
    report = replace(report, run=replace(report.run, source=source))
    write_page(tmp_path, report, find_pictures(report, no_progress))
    told = " ".join(read_page(tmp_path).by_id["files"].split())
    assert "torn.pngdogunreadable: truncated image" in told
    assert "not scored: it has no label3 not scored: its class is small1" in told


def test_ink_can_be_read_on_every_ground():
    tokens = dict(
        re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", (HERE / "theme.css").read_text())
    )
    grounds = ("paper", "surface")
    inks = ("ink", "muted", "accent", "given", "suggested")
    pairs = [(ink, ground) for ink in inks for ground in grounds]
    pairs += [("ink", "sunken"), ("on-accent", "accent"), ("muted", "picture-ground")]
    pairs += [("ink", "accent-soft"), ("given", "given-soft"), ("suggested", "suggested-soft")]
    pairs += [("on-accent", "suggested")]
    pairs += [("warning", "paper"), ("warning", "surface")]
    pairs += [("on-heat-low", f"heat-{level}") for level in (1, 2, 3)]
    pairs += [("on-heat-high", f"heat-{level}") for level in (4, 5)]
    for ink, ground in pairs:
        for first, second in zip(tokens[ink].split(", "), tokens[ground].split(", "), strict=True):
            assert contrast(first, second) >= 4.5, (ink, first, ground, second)
    for line in ("control-line", *(f"class-{color}" for color in range(7))):
        for first, second in zip(
            tokens[line].split(", "), tokens["surface"].split(", "), strict=True
        ):
            assert contrast(first, second) >= 3, line


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colors as WCAG 2 defines it."""
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_the_look_of_the_pages_comes_with_the_package():
    for name in (
        "theme.css",
        "theme.js",
        "report.css",
        "report.js",
        "suspects.js",
        "report.html.jinja",
    ):
        assert (Path(HERE) / name).is_file()
