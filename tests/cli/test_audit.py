"""The command line from the outside: what it prints, where, and with which exit code."""

import json
import os
import pty
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import timm
import torch
from command import labelfix
from given_probs import noisy, write
from kill_points import files_of_at_most
from PIL import Image
from safetensors.torch import save_file
from small_report import Sample, report_of
from typer.testing import CliRunner, Result

from labelfix.cli import main as cli
from labelfix.report.io import write_report
from labelfix.report.run_folder import default_run

COMMAND = [sys.executable, "-m", "labelfix"]


def run(*args: str | Path) -> Result:
    """Run a command in this process: torch is loaded once for all tests."""
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


def write_classes(folder: Path, **counts: int) -> Path:
    folder.mkdir(exist_ok=True)
    for name, count in counts.items():
        (folder / name).mkdir()
        for number in range(count):
            Image.new("RGB", (8, 8), (number, len(name), 0)).save(folder / name / f"{number}.png")
    return folder


def assert_refused(result: Result, *told: str) -> None:
    """Assert that a command told what is wrong and how to mend it, on stderr alone."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.endswith("...")]
    assert any(line.startswith("error: ") for line in lines), result.stderr
    assert any(line.startswith("hint: ") for line in lines), result.stderr
    for text in told:
        assert text in result.stderr
    assert "Traceback" not in result.stderr


# What an audit prints


def test_an_audit_ends_with_what_it_found_and_what_to_do_next(
    small_data: Path, small_run: Path
) -> None:
    shown = run("audit", small_data, "--out", small_run, "--resume")
    assert shown.exit_code == 0, shown.stderr
    for text in (
        " of 90 label",
        "worst class",
        "worst pair",
        f"Open    {small_run / 'report.html'}\n",
        f"labelfix review {small_run}\n",
        f"labelfix export {small_run} {small_run}-clean.csv\n",
    ):
        assert text in shown.stdout
    assert run("show", small_run).stdout == shown.stdout
    assert "%" not in shown.stderr


def test_json_is_all_that_goes_to_stdout(small_data: Path, small_run: Path) -> None:
    audited = run("audit", small_data, "--out", small_run, "--resume", "--json")
    summary = json.loads(audited.stdout)
    assert summary["run"] == str(small_run)
    assert summary["files"]["report"] == str(small_run / "report.parquet")
    assert summary["samples"] == summary["scored"] == 90
    assert summary["classes"] == 3
    assert summary["flagged"] >= len(summary["worst"]) > 0
    assert "finding files" in audited.stderr
    assert json.loads(run("show", small_run, "--json").stdout) == summary
    assert json.loads(run("show", small_run / "report.parquet", "--json").stdout) == summary


def test_quiet_says_nothing_but_errors(small_data: Path, small_run: Path, tmp_path: Path) -> None:
    done = run("audit", small_data, "--out", small_run, "--resume", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    done = run("export", small_run, tmp_path / "clean.csv", "-q")
    assert (done.exit_code, done.output) == (0, "")
    assert_refused(run("audit", tmp_path / "nowhere", "--out", small_run, "-q"), "does not exist")


def test_a_finished_run_is_repeated_byte_for_byte(
    small_data: Path, small_run: Path, tmp_path: Path
) -> None:
    again = run("audit", small_data, "--out", tmp_path / "again")
    assert again.exit_code == 0, again.stderr
    for name in ("report.parquet", "report.html"):
        before, after = (folder / name for folder in (small_run, tmp_path / "again"))
        assert after.read_bytes() == before.read_bytes()


# What an audit refuses


def test_data_that_is_no_data_set(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert_refused(run("audit", tmp_path / "nowhere", "--out", out), "nowhere does not exist")
    (tmp_path / "empty").mkdir()
    assert_refused(run("audit", tmp_path / "empty", "--out", out), "empty is empty")
    one = write_classes(tmp_path / "one", cat=6)
    assert_refused(run("audit", one, "--out", out), "only one class, 'cat'")
    small = write_classes(tmp_path / "few", cat=2, dog=4, hen=9)
    assert_refused(run("audit", small, "--out", out), "only 1 of 3 classes", "two classes of 5")
    assert not out.exists(), "a refused audit leaves RUN free for the next one"


def test_a_manifest_without_the_column(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("where,species\na.png,cat\n")
    refused = run("audit", tmp_path / "list.csv", "--out", tmp_path / "run")
    assert_refused(refused, "where", "species")
    named = ("--image-column", "where", "--label-column", "kind")
    refused = run("audit", tmp_path / "list.csv", "--out", tmp_path / "run", *named)
    assert_refused(refused, "'kind'", "species")


def test_settings_out_of_range(small_data: Path, tmp_path: Path) -> None:
    start = ("audit", small_data, "--out", tmp_path / "run")
    assert_refused(run(*start, "--image-size", "8"), "--image-size 8", "between 16 and 4096")
    assert_refused(run(*start, "--folds", "2"), "--folds 2 is too few", "from 3 to")
    if not torch.cuda.is_available():
        assert_refused(run(*start, "--device", "cuda"), "no cuda device", "--device cpu")


def test_a_backbone_that_is_not_there(small_data: Path, tmp_path: Path) -> None:
    refused = run("audit", small_data, "--out", tmp_path / "run", "--backbone", "resnet81")
    assert_refused(refused, "no timm model called 'resnet81'", "did you mean", "resnet18")


def test_weights_that_do_not_fit(small_data: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    start = ("audit", small_data, "--out", tmp_path / "run", "--backbone", "resnet18", "--weights")
    assert_refused(run(*start, weights), "weights.safetensors")
    weights.write_bytes(b"no weights")
    assert_refused(run(*start, weights), "not a safetensors file")
    save_file(timm.create_model("resnet34", pretrained=False).state_dict(), weights)
    other = timm.create_model("resnet18", pretrained=False).state_dict()
    other["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    save_file(other, weights)
    assert_refused(run(*start, weights), "do not fit", "conv1.weight is (64, 3, 3, 3)")


def test_a_place_that_cannot_be_written_to(small_data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused = run("audit", small_data, "--out", tmp_path / "file" / "run")
    assert_refused(refused, "cannot write", "Not a directory")
    assert_refused(run("audit", small_data, "--out", tmp_path / "file"), "is a file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_that_is_there_already(small_data: Path, small_run: Path, tmp_path: Path) -> None:
    before = (small_run / "report.parquet").read_bytes()
    refused = run("audit", small_data, "--out", small_run)
    assert_refused(refused, "holds a finished run", "--resume", "--overwrite")
    refused = run("audit", small_data, "--out", small_run, "--resume", "--seed", "1")
    assert_refused(refused, "another run", "the settings differ")
    assert (small_run / "report.parquet").read_bytes() == before
    (tmp_path / "thesis.txt").write_text("mine")
    for flags in ([], ["--overwrite"], ["--resume"]):
        refused = run("audit", small_data, "--out", tmp_path, *flags)
        assert_refused(refused, "not empty", "never deletes")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_without_out_the_run_is_named_after_the_data(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_run(small_data) == Path(f"{small_data.name}-labelfix")
    (tmp_path / "photos.v2").mkdir()
    for name, run_name in (
        ("photos.v2", "photos.v2"),
        ("list.csv", "list"),
        ("all.tar.gz", "all"),
        ("part.tar", "part"),
    ):
        assert default_run(tmp_path / name) == Path(f"{run_name}-labelfix")
    monkeypatch.chdir(tmp_path)
    assert default_run(Path()) == Path(f"{tmp_path.name}-labelfix")
    write(tmp_path / "probs.csv", noisy())
    told = run("audit", "--pred-probs", "probs.csv")
    assert told.exit_code == 0, told.stderr
    assert told.stderr.splitlines()[0] == "writing to probs-labelfix"
    assert (tmp_path / "probs-labelfix" / "run.json").is_file()
    assert_refused(run("audit", "--pred-probs", "probs.csv"), "probs-labelfix holds a finished run")


def test_a_full_disk_leaves_the_run_that_was_there(
    small_data: Path, small_run: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(small_run, tmp_path / "run")
    before = (out / "report.parquet").read_bytes()
    args = ["audit", str(small_data), "--out", str(out), "--seed", "1"]
    with files_of_at_most(9000):  # the features are in the cache: only RUN is written to
        done = run(*args, "--overwrite")
    assert done.exit_code == 1, done.stderr
    assert done.stdout == ""
    assert "error: cannot write" in done.stderr
    assert "hint: free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert (out / "report.parquet").read_bytes() == before
    files = {path.name for path in small_run.iterdir()}
    assert {path.name for path in out.iterdir()} == files | {"unfinished.json"}
    assert run(*args, "--resume").exit_code == 0  # the old run is not taken for the new one
    assert json.loads((out / "run.json").read_text("utf-8"))["seed"] == 1
    assert (out / "report.parquet").read_bytes() != before


# Show and export


@pytest.mark.parametrize("command", ["show", "export"])
def test_a_report_that_is_none(command: str, tmp_path: Path) -> None:
    more = (tmp_path / "clean.csv",) if command == "export" else ()
    assert_refused(run(command, tmp_path / "nowhere", *more), "nowhere does not exist")
    assert_refused(run(command, tmp_path, *more), "holds no report.parquet")
    (tmp_path / "report.parquet").write_text("sample_id\n1\n")
    assert_refused(run(command, tmp_path, *more), "cannot be read as Parquet")
    shutil.copy(write_table(tmp_path / "other.parquet"), tmp_path / "report.parquet")
    assert_refused(run(command, tmp_path, *more), "no labelfix report")
    assert not (tmp_path / "clean.csv").exists()


def write_table(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"sample_id": ["a"]}), path)
    return path


def write_samples(
    folder: Path, *samples: Sample, classes: tuple[str, ...] = ("cat", "dog")
) -> Path:
    folder.mkdir(exist_ok=True)
    write_report(report_of(samples, classes), folder / "report.parquet")
    return folder


SURE = {"error": 0.99, "certainty": 0.98}


def test_show_one_class(tmp_path: Path) -> None:
    samples = [Sample("a", 0, suggested=1, **SURE), Sample("b", 2, suggested=3, **SURE)]
    write_samples(tmp_path, *samples, classes=("cat", "dog", "cow", "pig"))
    shown = run("show", tmp_path, "--class", "dog").stdout
    assert " a " in shown
    assert " b " not in shown
    assert_refused(run("show", tmp_path, "--class", "dgo"), "no class is called 'dgo'", "dog")


def test_show_as_many_rows_as_asked_for(tmp_path: Path) -> None:
    samples = [Sample(f"row-{i}", 0, 0.6 + i / 100, suggested=1) for i in range(30)]
    shown = run("show", write_samples(tmp_path, *samples), "--class", "cat").stdout
    assert shown.count("row-") == 20
    assert "row-29" in shown
    assert "row-9" not in shown
    assert run("show", tmp_path, "--top", "25").stdout.count("row-") == 25
    assert "cat" in (pairs := run("show", tmp_path, "--pairs", "1").stdout)
    assert "row-" not in pairs
    assert "row-" not in run("show", tmp_path).stdout
    write_samples(tmp_path / "b", Sample("x"))
    assert "No label is flagged" in run("show", tmp_path / "b", "--top", "3").stdout


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_cannot_command_the_terminal(tmp_path: Path, encoding: str) -> None:
    names = ("[bold]b[/bold]/\x1b[31mred\x07.png", "日本 é.png", "a\u202eb\nc.png", "[/x].png")
    samples = [Sample(name, 0, suggested=1, **SURE) for name in names]
    write_samples(tmp_path, *samples, classes=("[red]\x1b]0;title\x07", "[/]"))
    done = subprocess.run(
        [*COMMAND, "show", str(tmp_path), "--top", "9"],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "120"},
    )
    shown = done.stdout.decode(encoding)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    for name in (
        r"[bold]b[/bold]/\x1b[31mred\x07.png",
        r"a\u202eb\nc.png",
        "[/x].png",
        r"[red]\x1b]0;",
    ):
        assert name in shown
    assert ("日本 é.png" if encoding == "utf-8" else r"\u65e5\u672c \xe9.png") in shown
    error = run("show", tmp_path / "\x1b[31m")
    assert "\x1b" not in error.stderr
    json_text = run("show", tmp_path, "--json").stdout
    assert json_text.isascii()
    assert {row["sample_id"] for row in json.loads(json_text)["worst"]} == set(names)


def test_a_reader_that_stops_listening_is_no_fault(tmp_path: Path) -> None:
    write_samples(tmp_path, Sample("a", 0, suggested=1, **SURE))
    for more in ([], ["--json"]):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [*COMMAND, "show", str(tmp_path), *more],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writing)
        assert done.stderr == b""


def test_export_says_what_it_did(tmp_path: Path) -> None:
    samples = [
        Sample("sure", 0, suggested=1, **SURE),
        Sample("unsure", 0, 0.99, suggested=1, certainty=0.5),
        Sample("test", 0, suggested=1, split="test", **SURE),
        Sample("clean"),
    ]
    write_samples(tmp_path, *samples)
    to = tmp_path.with_name("clean.csv")
    told = run("export", tmp_path, to, "--drop")
    assert told.exit_code == 0, told.stderr
    assert told.stdout.splitlines() == [
        f"  wrote {to}",
        "  1 of 4 labels changed",
        "  1 row left out",
        "  1 row of a test split left as they came",
    ]
    assert_refused(run("export", tmp_path, to), "there already", "--overwrite")
    told = run("export", tmp_path, to, "--overwrite", "--min-probability", "0.5", "--json")
    assert json.loads(told.stdout)["changed"] == 2


# Usage, bugs, and the rest of the command line


@pytest.mark.parametrize(
    "args",
    [
        ["audit", "data", "--out", "run", "--overwrite", "--resume"],
        ["audit", "data", "--out", "run", "--tune", "everything"],
        ["audit", "data", "--out", "run", "--device", "abacus"],
        ["export", "run", "to", "--min-probability", "1.5"],
        ["export", "run", "to", "--format", "xml"],
        ["show", "run", "--top", "0"],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_told_apart(args: list[str]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr


def test_a_bug_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("labelfix.report.io.read_report_table", broken)
    result = run("show", tmp_path)
    assert isinstance(result.exception, ZeroDivisionError)
    assert "hint:" not in result.output


def test_the_installed_command_is_the_door() -> None:
    [script] = entry_points(group="console_scripts", name="labelfix")
    assert script.load() is cli.main


def test_every_command_and_option_has_help() -> None:
    for command in ("audit", "show", "export", "diff", "check", "demo"):
        told = labelfix(command, "--help")
        assert told.returncode == 0
        options = [line for line in told.stdout.splitlines() if line.startswith("  -")]
        long = ("NAME", "--no-outside-files")  # their help begins in the next line
        assert all(len(line.split("  ")) > 2 or line.endswith(long) for line in options), command
    assert labelfix("-h").stdout.startswith("Usage: labelfix [OPTIONS] COMMAND")


# Progress


def test_progress_is_drawn_on_a_terminal(small_run: Path, tmp_path: Path) -> None:
    screen, terminal = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "export", str(small_run), str(tmp_path / "clean")],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    ) as process:
        stdout, _ = process.communicate(timeout=60)
    os.close(terminal)
    drawn = read_all(screen)
    assert process.returncode == 0, drawn
    assert b"writing files" in drawn
    assert b"90 files in" in drawn
    assert b"wrote " in stdout
    assert b"\x1b" not in stdout


def read_all(screen: int) -> bytes:
    parts = []
    while True:
        try:
            part = os.read(screen, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(screen)
    return b"".join(parts)


def test_progress_is_a_few_plain_lines_elsewhere(small_run: Path, tmp_path: Path) -> None:
    done = labelfix("export", small_run, tmp_path / "clean")
    lines = done.stderr.splitlines()
    assert lines[-2:] == ["writing files: 90 files ...", lines[-1]]
    assert lines[-1].startswith("writing files: 90 files in ")
    assert "\x1b" not in done.stderr


WAITING = """
import json, os, sys
from labelfix.cli.main import main
sys.argv = ["labelfix", "--version"]
try:
    main()
except SystemExit:
    pass
names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
print(json.dumps({name: os.environ.get(name) for name in names}))
"""


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": None, "KMP_BLOCKTIME": "0"}),
        (
            {"OMP_WAIT_POLICY": "ACTIVE"},
            {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": None, "KMP_BLOCKTIME": None},
        ),
        (
            {"GOMP_SPINCOUNT": "9"},
            {"OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": "9", "KMP_BLOCKTIME": None},
        ),
    ],
)
def test_idle_threads_sleep_unless_the_user_wants_them_to_spin(chosen, expected):
    environment = {name: value for name, value in os.environ.items() if name not in expected}
    done = subprocess.run(
        [sys.executable, "-c", WAITING],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env=environment | chosen,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == expected


def test_importing_the_package_changes_no_environment():
    program = "import os; before = dict(os.environ); import labelfix; labelfix.audit; "
    program += "assert dict(os.environ).get('OMP_WAIT_POLICY') == before.get('OMP_WAIT_POLICY')"
    subprocess.run([sys.executable, "-c", program], check=True)
