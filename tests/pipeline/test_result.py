"""The result of an audit in a program: what it prints, shows, keeps and leads to."""

import asyncio
import gc
import re
import subprocess
import sys
import urllib.request
import webbrowser
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from given_probs import noisy
from PIL import Image
from written_texts import sentences

import labelfix
from labelfix.data.decisions import Decision, DecisionLog
from labelfix.errors import LabelfixError

UNCLOSED = {"img", "br"}


class Balanced(HTMLParser):
    """Reads HTML and notes which elements are open, and what text there is."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open += [tag] if tag not in UNCLOSED else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read_html(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def of_memory(small_data):
    """The result of an audit of pictures in memory, without a folder."""
    files = sorted(small_data.rglob("*.png"))
    pairs = [(Image.open(file), file.parent.name) for file in files]
    others = [pairs[row][1] for row in (0, 40)]
    pairs[0], pairs[40] = (pairs[0][0], others[1]), (pairs[40][0], others[0])
    return labelfix.audit(pairs, tune="head")


def test_it_is_told_in_three_lines(of_memory, small_run):
    for result in (of_memory, labelfix.open_run(small_run)):
        first, second, third = repr(result).splitlines()
        flagged = len(result.view.suspects)
        assert f"{flagged} of {len(result)} labels" in first
        assert re.search(r"wrong labels: \d+\.\d % \(\d+\.\d % to \d+\.\d %\)$", second)
        assert ".review()" in third
        assert (".save(RUN)" in third) == result.is_temporary


def test_a_notebook_shows_the_first_suspects(of_memory, small_run):
    for result in (of_memory, labelfix.open_run(small_run)):
        read = read_html(result._repr_html_())
        pictures = [found["src"] for tag, found in read.tags if tag == "img"]
        assert len(pictures) == min(len(result.view.suspects), 8) > 0
        assert all(address.startswith("data:image/") for address in pictures)
        assert result.told.headline in "".join(read.text)


def test_nothing_in_the_data_becomes_html():
    texts, labels = sentences(30)
    odd = "<script>alert(1)</script>"
    texts = [f"{odd} {text}" for text in texts]
    labels = [f"{odd}{label}" for label in labels]
    labels[0], labels[-1] = labels[-1], labels[0]
    result = labelfix.audit((texts, labels), precision=0.1, tune="head")
    assert len(result.issues)
    read = read_html(result._repr_html_())
    assert {tag for tag, _ in read.tags} == {"div", "p", "b", "s", "br"}
    assert odd in "".join(read.text)
    probs = noisy()
    named = labelfix.find_label_issues(
        [f"<i>{label}" for label in probs.labels],
        probs.values,
        class_names=[f"<i>{name}" for name in probs.classes],
    )
    assert "i" not in {tag for tag, _ in read_html(named._repr_html_()).tags}


def test_flagged_rows_are_a_table(of_memory):
    issues = of_memory.issues
    assert issues["is_label_issue"].all()
    assert issues["label_error_probability"].is_monotonic_decreasing
    assert {"sample_id", "reason", "decision"} <= set(issues)
    assert "pred_probs" not in issues
    assert len(of_memory.to_pandas()) == len(of_memory)


def test_decisions_are_seen_at_once(tmp_path, of_memory):
    kept = of_memory.save(tmp_path / "run")
    name = kept.issues["sample_id"].iloc[0]
    DecisionLog(kept.run).append([Decision(name, "drop")])
    assert kept.issues["decision"].iloc[0] == "drop"
    done = kept.export(tmp_path / "clean.csv", min_probability=0.9)
    assert (done.rows, done.dropped) == (len(kept), 1)


def test_a_run_without_a_folder_goes_away_with_its_result(tmp_path):
    texts, labels = sentences(20)
    result = labelfix.audit((texts, labels), tune="head")
    run = result.run
    kept = result.save(tmp_path / "kept")
    assert {file.name for file in kept.run.iterdir()} == {file.name for file in run.iterdir()}
    with pytest.raises(LabelfixError, match="holds a finished run"):
        result.save(kept.run)
    result.save(kept.run, overwrite=True)
    assert labelfix.open_run(kept.run).report.table.equals(
        labelfix.open_run(run).report.table
    )  # fmt: skip
    report = result.report
    del result
    gc.collect()
    assert not run.parent.exists()
    assert kept.run.is_dir()
    assert report.table.equals(kept.report.table)  # one that somebody holds is still whole


def test_nothing_is_left_of_an_audit_that_failed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(LabelfixError):
        labelfix.audit(tmp_path / "absent", tune="head")
    with pytest.raises(LabelfixError, match="there is no folder of a run to resume"):
        labelfix.audit(([], []), resume=True)
    assert list(tmp_path.iterdir()) == []


def test_the_page_opens(of_memory, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert of_memory.open() == of_memory.run / "report.html"
    assert opened == [(of_memory.run / "report.html").as_uri()]


def test_a_review_in_a_notebook_shows_what_is_in_memory(of_memory):
    addresses = []

    async def cell():  # Jupyter runs cells beside an event loop
        of_memory.review(port=0, browser=False, on_open=addresses.append)

    asyncio.run(cell())
    for _ in range(200):
        if addresses:
            break
        asyncio.run(asyncio.sleep(0.05))
    address, _, key = addresses[0].partition("?key=")
    jar = urllib.request.HTTPCookieProcessor()
    browser = urllib.request.build_opener(jar)
    page = browser.open(f"{address}?key={key}", timeout=10).read().decode()
    assert "<title>" in page


def test_reading_a_result_loads_no_torch(small_run):
    program = (
        "import sys, labelfix\n"
        f"result = labelfix.open_run({str(small_run)!r})\n"
        "repr(result), result.issues, result.view\n"
        "assert not {'torch', 'sklearn', 'scipy'} & set(sys.modules), 'heavy'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_features_give_what_an_audit_of_a_file_of_features_gives(tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 90)
    features = rng.normal(0, 1, (90, 6)) + 3 * np.eye(3, 6)[codes]
    names = ["cat", "dog", "hen"]
    given = np.where(rng.random(90) < 0.1, (codes + 1) % 3, codes)
    given[4] = -1
    lines = ["file_name,label", *(f"{row}.png,{names[code] if code >= 0 else ''}"
                                  for row, code in enumerate(given))]  # fmt: skip
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    np.save(tmp_path / "features.npy", features)
    labelfix.audit(tmp_path / "data.csv", tmp_path / "run", features=tmp_path / "features.npy",
                   seed=3, precision=0.7)  # fmt: skip
    of_file = labelfix.read_report(tmp_path / "run")
    found = labelfix.find_label_issues(
        given, features=features, class_names=names, seed=3, precision=0.7
    )
    for name in ("label_error_probability", "suggested_label_probability", "sample_weight",
                 "is_label_issue", "label_score"):  # fmt: skip
        assert getattr(found, name).tobytes() == of_file[name].to_numpy().tobytes(), name
    flagged = found.is_label_issue
    assert flagged.any()
    suggested = [names[code] for code in found.suggested_label[flagged]]
    assert suggested == of_file["suggested_label"][flagged].tolist()
    assert np.all(found.suggested_label[~flagged] == -1)
    assert found.noise_matrix.sum(axis=1) == pytest.approx([1, 1, 1])
    by_name = labelfix.find_label_issues(
        [None if code < 0 else names[code] for code in given], features=features, seed=3,
        precision=0.7,
    )  # fmt: skip
    assert by_name.suggested_label[flagged].tolist() == suggested
    run = found.write(tmp_path / "own").run
    assert labelfix.open_run(run).view.suspects.tolist() == found.ranked.tolist()
    assert "LabelIssues" in repr(found)
    for options, said in (
        ({}, "there are both"),
        ({"pred_probs": None, "force": True}, "force is for pred_probs"),
        ({"features": None, "seed": 1}, "seed is 1"),
        ({"pred_probs": None, "features": features[:-1]}, "features has 89 rows"),
        ({"pred_probs": None, "features": features[:, :0]}, "features has no columns"),
        ({"pred_probs": None, "features": features[0]}, "features is of type float64 and shape"),
        ({"pred_probs": None, "class_names": names[:2]}, "none of the 2 classes"),
    ):
        with pytest.raises(LabelfixError, match=said):
            labelfix.find_label_issues(
                given, **{"pred_probs": noisy(count=90).values, "features": features, **options}
            )


def test_there_is_nothing_to_open(tmp_path: Path):
    with pytest.raises(LabelfixError, match="does not exist"):
        labelfix.open_run(tmp_path / "absent")
