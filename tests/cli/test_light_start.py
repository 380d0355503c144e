"""What a command loads before it is needed: the start stays light."""

import json
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from given_probs import noisy, write
from loaded_modules import HEAVY, PROGRAM, loaded_by
from small_report import Sample, report_of

from labelfix.report.io import write_report
from labelfix.report.run_locks import locked

DATA_LIBRARIES = {"numpy", "pyarrow", "pandas", "PIL"}  # pyarrow loads pandas where it is there


@pytest.fixture
def run(tmp_path: Path) -> Path:
    samples = [Sample("a.png"), Sample("b.png", 1, 0.99, suggested=0, certainty=0.99)]
    report = report_of(samples)
    report = replace(report, run=replace(report.run, settings={"tune": "full"}))
    write_report(report, tmp_path / "report.parquet")
    (tmp_path / "training_log.jsonl").write_text('{"fold": 0, "epoch": 1}')
    (tmp_path / "layers.json").write_text("[]")
    return tmp_path


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["audit", "--help"],
        ["benchmark", "run", "--help"],
        ["check", "--help"],
    ],
)
def test_help_loads_no_data_library(args: list[str]) -> None:
    assert loaded_by(PROGRAM.format(args=args)).isdisjoint(HEAVY | DATA_LIBRARIES | {"rich"})


@pytest.mark.parametrize("more", [["--json"], ["--class", "cat"], ["--html"], []])
def test_show_loads_no_model_library(run: Path, more: list[str]) -> None:
    assert loaded_by(PROGRAM.format(args=["show", str(run), *more])).isdisjoint(HEAVY)


def test_export_loads_no_model_library(run: Path) -> None:
    args = ["export", str(run), str(run.parent / f"{run.name}-clean.csv")]
    assert loaded_by(PROGRAM.format(args=args)).isdisjoint(HEAVY)


@pytest.mark.parametrize("args", [["diff"], ["check", "--max-error-rate", "1"]])
def test_diff_and_check_load_no_model_library(run: Path, args: list[str]) -> None:
    command = [args[0], str(run), *args[1:]]
    assert loaded_by(PROGRAM.format(args=command)).isdisjoint(HEAVY)


def test_given_probabilities_are_audited_without_a_model_library(tmp_path: Path) -> None:
    files = [write(tmp_path / name, noisy()) for name in ("a.csv", "b.parquet")]
    flags = [part for file in files for part in ("--pred-probs", str(file))]
    loaded = loaded_by(PROGRAM.format(args=["audit", *flags, "--out", str(tmp_path / "run")]))
    assert loaded.isdisjoint(HEAVY - {"scipy"} | {"PIL"})


@pytest.mark.parametrize("state", ["holds a finished run", "is being written to by process"])
def test_an_audit_refuses_its_place_before_a_model_library_is_loaded(
    run: Path, tmp_path_factory: pytest.TempPathFactory, state: str
) -> None:
    data = tmp_path_factory.mktemp("data")
    (run / "run.json").write_text("{}")
    with locked(run) if "written" in state else nullcontext():
        program = PROGRAM.format(args=["audit", str(data), "--out", str(run)])
        program = program.replace("code == 0", "code == 1")
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True
        )
    assert state in done.stderr
    assert set(json.loads(done.stderr.splitlines()[-1])).isdisjoint(HEAVY)


def test_import_labelfix_loads_nothing() -> None:
    program = "import labelfix, json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    loaded = loaded_by(program)
    assert loaded.isdisjoint(HEAVY | DATA_LIBRARIES | {"typer", "rich"})
    assert {name for name in loaded if name.startswith("labelfix.")} == set()


def test_reading_a_report_loads_no_model_library(run: Path) -> None:
    program = (
        f"import labelfix, json, sys; labelfix.read_report({str(run)!r});"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    assert loaded_by(program).isdisjoint(HEAVY)
