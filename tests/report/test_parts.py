"""A report in parts: it says what one file says, and what is not whole is refused."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow.dataset as pads
import pytest
from command import labelfix
from given_probs import noisy, write
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from small_report import Sample, report_of

from labelfix.data.decisions import Decision, DecisionLog
from labelfix.errors import ReportError, RunError
from labelfix.pipeline.result import open_run
from labelfix.report.frame import read_report
from labelfix.report.io import read_report_table, write_report
from labelfix.report.parts import MANIFEST_NAME
from labelfix.report.types import Report
from labelfix.types import MISSING

CLASSES = ("cat", "dog", "eel")
GROUP_VALUES = 4 * len(CLASSES)
"""Row groups of four rows."""

COMMANDS = (
    ("show",),
    ("show", "--json"),
    ("show", "--class", "dog", "--json"),
    ("check", "--max-error-rate", "0.3", "--json"),
    ("check", "--fail-on", "label", "--fail-on", "leakage", "--json"),
    ("check", "--exported", "--max-error-rate", "0.3", "--fail-on", "exact-duplicate", "--json"),
    ("diff", "--json"),
    ("diff", "--drop", "--min-probability", "0.5", "--csv", "diff.csv"),
    ("export", "clean.parquet"),
    ("export", "clean.csv", "--drop"),
    ("export", "clean.jsonl", "--min-probability", "0.5"),
    ("export", "lab.csv", "--format", "cleanlab"),
)
FILES = ("diff.csv", "clean.parquet", "clean.csv", "clean.jsonl", "lab.csv")


def samples() -> st.SearchStrategy[list[Sample]]:
    codes = st.integers(0, len(CLASSES) - 1)
    one = st.builds(
        Sample,
        st.just(""),
        st.integers(MISSING, len(CLASSES) - 1),
        st.sampled_from([None, 0.01, 0.5, 0.97]),
        suggested=st.one_of(st.none(), codes),
        certainty=st.sampled_from([0.4, 0.98]),
        split=st.sampled_from([None, "train", "Test"]),
        duplicate_set=st.sampled_from([MISSING, MISSING, 0, 1]),
        unreadable=st.sampled_from([None, None, None, "torn"]),
    )
    return st.lists(one, min_size=9, max_size=30).map(_named)


def _named(drawn: Sequence[Sample]) -> list[Sample]:
    found = []
    for row, sample in enumerate(drawn):
        is_scored = sample.error is not None and sample.given != MISSING
        found.append(
            Sample(
                f"{'=' if row % 7 == 3 else ''}s{row}",
                sample.given,
                sample.error if is_scored else None,
                suggested=sample.suggested if is_scored else None,
                certainty=sample.certainty,
                split=sample.split,
                unreadable=sample.unreadable,
                duplicate_set=min(sample.duplicate_set, len(drawn) - 1),
            )
        )
    return found


def write_parts(report: Report, run: Path, part_rows: int = 8) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    return write_report(
        report, run / "report.parquet", group_values=GROUP_VALUES, part_rows=part_rows
    )


def answers(place: Path) -> dict[str, str | bytes]:
    """Return what every command prints on ``run`` in a folder, and the files that it writes."""
    said: dict[str, str | bytes] = {}
    for command, *more in COMMANDS:
        done = labelfix(command, "run", *more, cwd=place)
        text = f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        said[" ".join([command, *more])] = text.replace("run/report.parquet", "run/report")
    return said | {name: (place / name).read_bytes() for name in FILES if (place / name).exists()}


@settings(max_examples=3, phases=[Phase.generate])  # to shrink would take minutes
@given(samples(), st.data())
def test_parts_and_one_file_say_the_same_byte_for_byte(
    drawn: list[Sample], data: st.DataObject
) -> None:
    report = report_of(drawn, CLASSES)
    actions = st.sampled_from(["keep", "relabel", "unsure", "drop"])
    chosen = data.draw(st.dictionaries(st.integers(0, len(drawn) + 1), actions, max_size=6))
    decisions = [
        Decision(f"s{row}", action, "cow" if row % 2 else "dog")
        if action == "relabel"
        else Decision(f"s{row}", action)
        for row, action in chosen.items()
    ]
    found = []
    with TemporaryDirectory() as name:
        log = Path(name) / "decisions.jsonl"
        log.touch()
        DecisionLog(log.parent).append(decisions)
        for part_rows in (1_000, 8):
            folder = Path(name) / str(part_rows)
            place = write_parts(report, folder / "run", part_rows)
            assert place.is_dir() == (len(drawn) > part_rows)
            shutil.copy(log, folder / "run")
            assert read_report_table(folder / "run").table.equals(report.table)
            found.append(answers(folder))
    assert found[0] == found[1]
    assert any(isinstance(answer, bytes) for answer in found[0].values())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    drawn = [Sample(f"s{n:02}", n % 3, 0.9, suggested=(n + 1) % 3) for n in range(21)]
    write_parts(report_of(drawn, CLASSES), tmp_path / "run")
    return tmp_path / "run"


def test_the_folder_is_read_by_itself_by_a_part_and_by_other_libraries(run: Path) -> None:
    names = [f"s{n:02}" for n in range(21)]
    parts = sorted(path.name for path in (run / "report").glob("*.parquet"))
    assert parts == [f"part-{n:05d}.parquet" for n in range(3)]
    for place in (run, run / "report", run / "report" / parts[1]):
        assert read_report_table(place).table["sample_id"].to_pylist() == names
        assert read_report(place)["sample_id"].tolist() == names
    assert pd.read_parquet(run / "report")["sample_id"].tolist() == names
    assert pads.dataset(run / "report").to_table()["sample_id"].to_pylist() == names


def test_decisions_lie_in_the_run_whichever_way_it_is_named(run: Path) -> None:
    DecisionLog(run / "report").append([Decision("s03", "drop")])
    assert (run / "decisions.jsonl").is_file()
    told = [
        json.loads(labelfix("diff", place, "--json", "--min-probability", "1").stdout)["dropped"]
        for place in (run, run / "report")
    ]
    assert told == [1, 1]


def no_manifest(parts: Path) -> None:
    (parts / MANIFEST_NAME).unlink()


def no_part(parts: Path) -> None:
    (parts / "part-00001.parquet").unlink()


def swapped(parts: Path) -> None:
    shutil.copy(parts / "part-00000.parquet", parts / "part-00001.parquet")


def cut_off(parts: Path) -> None:
    part = parts / "part-00002.parquet"
    part.write_bytes(part.read_bytes()[:-40])


def foreign(parts: Path) -> None:
    report = report_of([Sample(f"x{n}", 0) for n in range(21)], CLASSES)
    other = write_parts(report, parts.parent / "other")
    shutil.copy(other / "part-00001.parquet", parts / "part-00001.parquet")


def short_manifest(parts: Path) -> None:
    held = json.loads((parts / MANIFEST_NAME).read_text())
    held["parts"].pop()
    (parts / MANIFEST_NAME).write_text(json.dumps(held))


def torn_manifest(parts: Path) -> None:
    (parts / MANIFEST_NAME).write_text('{"rows": 21, "par')


def newer(parts: Path) -> None:
    held = json.loads((parts / MANIFEST_NAME).read_text())
    (parts / MANIFEST_NAME).write_text(json.dumps({**held, "schema_version": 99}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_manifest, "holds no report.parquet"),
        (no_part, "it lacks part-00001.parquet"),
        (swapped, "part-00001.parquet is not the part that was written"),
        (cut_off, "part-00002.parquet is not the part that was written"),
        (foreign, "part-00001.parquet is not the part that was written"),
        (short_manifest, "do not add up"),
        (torn_manifest, f"{MANIFEST_NAME} cannot be read"),
        (newer, "schema version 99"),
    ],
)
def test_parts_that_are_not_whole_are_one_clear_error(run: Path, damage, words: str) -> None:
    damage(run / "report")
    with pytest.raises(ReportError) as caught:
        read_report_table(run)
    assert words in str(caught.value)
    assert caught.value.hint
    done = labelfix("show", run)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_damaged_page_of_a_part_is_refused_when_it_is_read(run: Path) -> None:
    part = run / "report" / "part-00001.parquet"
    content = bytearray(part.read_bytes())
    content[60] ^= 0xFF
    part.write_bytes(bytes(content))
    with pytest.raises(ReportError, match="cannot be read as Parquet"):
        read_report_table(run).table  # noqa: B018 - which reads all of it


def test_a_run_has_one_report_whichever_form_comes_last(run: Path) -> None:
    small = report_of([Sample("a"), Sample("b", 1)])
    write_report(small, run / "report.parquet")
    assert not (run / "report").exists()
    write_parts(report_of([Sample(f"s{n}") for n in range(9)], CLASSES), run)
    assert not (run / "report.parquet").exists()
    assert len(read_report_table(run)) == 9
    write_report(small, run.with_name("other.parquet"))
    shutil.copy(run.with_name("other.parquet"), run / "report.parquet")
    with pytest.raises(ReportError, match="of which one is old"):
        read_report_table(run)


def test_files_of_others_are_never_taken_away(run: Path) -> None:
    (run / "report" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="cannot write"):
        write_parts(report_of([Sample(f"s{n}") for n in range(9)], CLASSES), run)
    assert (run / "report" / "mine.txt").read_text() == "mine"
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []


def test_an_audit_writes_parts_and_goes_on_with_them_and_replaces_them(tmp_path: Path) -> None:
    probs = write(tmp_path / "p.npz", noisy(count=150))
    few = tmp_path / "few.toml"
    few.write_text("[report]\npart_rows = 60\n")
    audit = ("audit", "--pred-probs", probs, "--out", "run", "--config", few, "--json")
    first = labelfix(*audit, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    run = tmp_path / "run"
    assert not (run / "report.parquet").exists()
    assert "report" in json.loads((run / "run.json").read_text())["files"]
    whole = read_report_table(run).table
    again = labelfix(*audit, "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    kept = open_run(run).save(tmp_path / "kept")
    assert kept.report.table.equals(whole.drop_columns(["pred_probs"]))
    assert read_report_table(tmp_path / "kept").table.equals(whole)
    (run / "report" / "part-00000.parquet").unlink()
    replaced = labelfix(*audit[:5], "--overwrite", cwd=tmp_path)
    assert replaced.returncode == 0, replaced.stderr
    assert (run / "report.parquet").is_file()
    assert not (run / "report").exists()
    one = read_report_table(run).table
    assert np.array_equal(one["label_score"], whole["label_score"])
