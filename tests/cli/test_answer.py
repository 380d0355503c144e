"""The answer that an audit ends with: one screen, the right words, the commands to go on with."""

import io
import os
import pty
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from small_report import Sample, report_of

from labelfix.cli.answer import fold, headline, note_lines, print_answer
from labelfix.cli.fitting import shortened
from labelfix.data.decisions import Decision, DecisionLog
from labelfix.exports.leftovers import outlook_of
from labelfix.report.io import write_report
from labelfix.report.summary import summarize
from labelfix.report.types import Report
from labelfix.report.view import ReportView
from labelfix.types import Assumption

LONG = "a class with a rather long name that nobody would like to type twice, or " * 3
SURE = {"error": 0.99, "certainty": 0.98}


def suspects(count: int) -> list[Sample]:
    return [Sample(f"s{i}", 0, 0.99 - i / 1000, suggested=1, certainty=0.9) for i in range(count)]


def answer(report: Report, decisions: dict[str, Decision] | None = None) -> list[str]:
    console = Console(width=80, file=io.StringIO(), highlight=False)
    view = ReportView(report, decisions or {})
    print_answer(console, summarize(view), outlook_of(view), Path("run"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def said(report: Report) -> str:
    return headline(summarize(ReportView(report)))


def with_run(report: Report, **changes: object) -> Report:
    return replace(report, run=replace(report.run, **changes))


def test_the_sentence_has_the_right_words_for_none_one_and_many() -> None:
    clean = [Sample("x", 0), Sample("y", 1)]
    rate = "(25 % of all labels are wrong, 90 % interval 12 to 38 %)."
    assert said(report_of([*clean, *suspects(3)])) == (
        f"3 of 5 labels look wrong: about 99 % of them really are {rate}"
    )
    assert said(report_of([*clean, Sample("z", 0, 0.75, suggested=1)])) == (
        f"1 of 3 labels looks wrong: it really is with 75 % {rate}"
    )
    assert said(with_run(report_of(clean), noise_rate=0.0, noise_rate_interval=(0.0, 0.004))) == (
        "No label of 2 looks wrong: 0.0 % of all labels are wrong, 90 % interval 0.0 to 0.4 %."
    )
    nobody = report_of([Sample("a", 0, None), Sample("b", 1, None)])
    assert said(nobody) == "No label could be scored."


def test_it_says_where_it_is_worst_and_what_to_do() -> None:
    twins = [
        Sample("t1", 0, duplicate_set=0, conflicting=True),
        Sample("t2", 1, duplicate_set=0, conflicting=True),
    ]
    report = report_of([*suspects(40), Sample("sure", 1, suggested=0, **SURE), *twins])
    lines = [line.strip() for line in answer(report)]
    for line in (
        "worst class   cat: 40 of 41 labels (98 %) look wrong",
        "worst pair    40 labeled cat look like dog",
        "conflicts     1 set of byte-identical images with different labels, t1 (cat)",
        "Review  41 suspects, about 2 minutes",
        "labelfix review run",
        "Export  changes 1 label now, leaves 40 flagged ones as they are",
        "labelfix export run run-clean.csv",
    ):
        assert line in lines, line
    assert "identical texts" in " ".join(answer(with_run(report, modality="text")))


def test_decisions_count() -> None:
    decisions = {f"s{i}": Decision(f"s{i}", "relabel", "dog") for i in range(3)}
    report = report_of([*suspects(4), Sample("x", 1)])
    lines = [line.strip() for line in answer(report, decisions)]
    assert lines[1].startswith("1 of 5 labels looks wrong and is undecided: it really is with 99 %")
    assert "worst class   cat: 1 of 4 labels (25 %) looks wrong" in lines
    assert "decided       3 of 4 suspects (3 relabeled); 1 left" in lines
    assert "Review  1 suspect, about 10 seconds" in lines
    assert "Export  changes 3 labels now, leaves 1 flagged one as it is" in lines
    decisions["s3"] = Decision("s3", "keep")
    done = answer(report, decisions)
    assert done[1].startswith("No undecided label of 5 looks wrong: ")
    assert not any("Review" in line or "worst class" in line for line in done)


def test_one_is_no_plural() -> None:
    report = report_of([Sample("s0", 0, 0.6, suggested=1), *(Sample(f"c{n}", 1) for n in range(9))])
    lines = [line.strip() for line in answer(report)]
    assert any(line.startswith("1 of 10 labels looks wrong") for line in lines)
    assert "worst class   cat: 1 of 1 label (100 %) looks wrong" in lines
    assert "worst pair    1 labeled cat looks like dog" in lines
    assert "Export  leaves 1 flagged label as it is until somebody decides" in lines
    kept = [line.strip() for line in answer(report, {"s0": Decision("s0", "keep")})]
    assert "decided       1 of 1 suspect (1 kept); 0 left" in kept
    assert "Export  changes no label" in kept


def test_it_fits_a_screen_whatever_the_names() -> None:
    names = (f"{LONG}日本語" * 2, LONG.upper())
    twins = [Sample(LONG + c, i, duplicate_set=0, conflicting=True) for i, c in enumerate("ab")]
    samples = [*suspects(3), *twins, Sample("u", 0, None, unreadable="empty file")]
    report = with_run(
        report_of(samples, names),
        settings={"notes": [LONG * 4, "short"]},
        assumptions=(Assumption("columns", LONG), Assumption("splits", "b")),
    )
    lines = answer(report, {"s0": Decision("s0", "keep"), "u": Decision("u", "drop")})
    assert len(lines) <= 23
    assert max(map(cell_len, lines)) <= 80


def on_a_terminal(folder: Path, *command: str) -> list[str]:
    """Return the lines that a command prints on a terminal of 80 columns and 24 lines."""
    screen, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "labelfix", *command],
        cwd=folder,
        stdout=terminal,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "80", "LINES": "24"},
    ) as process:
        os.close(terminal)
        told = b""
        with suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(screen, 100_000):
                told += part
        assert process.wait(timeout=60) == 0
    os.close(screen)
    return told.decode().splitlines()


def test_on_a_terminal_of_80_columns_nothing_wraps(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_report(report_of([*suspects(40), Sample("x", 1)]), run / "report.parquet")
    DecisionLog(run).append([Decision("s0", "drop")])
    lines = on_a_terminal(tmp_path, "show", "run")
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("Export") for line in lines)


PATH = "photographs of last summer/second half/camera-{}/day-{}/of the whole team {:03}.jpeg"


@pytest.mark.parametrize(
    ("command", "mark", "rows"),
    [
        (("show", "run", "--top", "12"), ".jpeg", 12),
        (("show", "run", "--class", LONG), ".jpeg", 20),
        (("show", "run", "--pairs", "3"), " 40 ", 1),
        (("diff", "run"), ".jpeg", 20),
    ],
)
def test_the_rows_of_tables_are_a_line_each(
    tmp_path: Path, command: tuple[str, ...], mark: str, rows: int
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    samples = [
        Sample(PATH.format(i % 3, i, i), 0, 0.99 - i / 1000, suggested=1, certainty=0.96)
        for i in range(40)
    ]
    names = (LONG, f"{LONG[:30]} 日本語 {LONG[40:]}")
    report = with_run(report_of([*samples, Sample("x", 1)], names), settings={"notes": [LONG * 3]})
    write_report(report, run / "report.parquet")
    lines = on_a_terminal(tmp_path, *command)
    assert max(map(cell_len, lines)) <= 80
    marked = [line for line in lines if mark in line and line.count("...") >= 2]
    assert len(marked) == rows
    assert all("e, or" in line for line in marked)


@pytest.mark.parametrize(
    ("name", "width", "left"),
    [
        ("short", 8, "short"),
        ("photos/day/0123.jpeg", 13, "pho...23.jpeg"),
        ("日本語日本語", 8, "...本語"),
        ("日本語日本語", 10, "日...本語"),
    ],
)
def test_names_lose_their_middle(name: str, width: int, left: str) -> None:
    assert shortened(name, width) == left
    assert cell_len(left) <= width


@pytest.mark.parametrize(
    ("texts", "lines"),
    [
        (["a", "b", "c"], ["assumed: a", "assumed: b", "assumed: c"]),
        (["a", "b", "c", "d"], ["assumed: a", "assumed: b", "and 2 more, in run.json"]),
        (
            ["one two three four five six seven", "b"],
            ["assumed: one two", "three four five ...", "and 1 more, in run.json"],
        ),
    ],
)
def test_three_lines_of_notes_and_assumptions(texts: list[str], lines: list[str]) -> None:
    assert note_lines([], texts, 20) == lines
    assert note_lines(["n"], [], 20) == ["note: n"]


def test_folding_parts_no_figure_from_its_sign_and_cuts_long_words() -> None:
    assert fold("about 78 % of", 8, 9) == ["about", "78 % of"]
    assert fold("x" * 10, 4, 9) == ["xxxx", "xxxx", "xx"]
    assert fold("one two three four", 9, 1) == ["one t ..."]
    assert fold("日本語", 4, 9) == ["日本", "語"]
    assert fold("a\x1b[31mb", 40, 1) == [r"a\x1b[31mb"]
