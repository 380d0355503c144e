"""``labelfix audit --pred-probs``: from files of probabilities to a report, by the real command."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from command import labelfix as command
from given_probs import FORMS, noisy, softer, write
from typer.testing import CliRunner, Result

import labelfix
from labelfix.cli import main as cli
from labelfix.data.probability_store import block_rows
from labelfix.errors import RunError
from labelfix.pipeline.probabilities import audit_pred_probs
from labelfix.report.io import read_report_table
from labelfix.report.schema import ROW_GROUP_SIZE, arrow_schema
from labelfix.scoring.scores import score_labels
from labelfix.types import Evidence


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


def assert_refused(result: Result, *told: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    for text in ("error: ", "hint: ", *told):
        assert text in result.stderr
    assert "Traceback" not in result.stderr


def audited(out: Path, *files: Path) -> pa.Table:
    audit_pred_probs(files, out)
    return read_report_table(out).table


# What comes out


@pytest.mark.parametrize("form", FORMS)
def test_the_command_writes_the_report_of_any_audit(tmp_path, form):
    probs = noisy()
    out = tmp_path / "run"
    go = command if form == "csv" else run
    done = go("audit", "--pred-probs", write(tmp_path / f"p.{form}", probs), "--out", out)
    assert "Traceback" not in done.stderr
    assert " of 300 labels look wrong" in done.stdout
    assert "image" not in done.stdout
    files = ["noise_matrix.parquet", "report.html", "report.parquet", "run.json"]
    assert sorted(path.name for path in out.iterdir()) == files

    report = read_report_table(out)
    report.table.validate(full=True)
    assert report.table.schema.equals(arrow_schema(report.class_names))
    assert report.table["given_label"].to_pylist() == list(probs.labels)
    assert report.table["pred_probs"].to_pylist() == probs.values.tolist()
    for name in ("fold", "split", "exact_duplicate_set"):
        assert report.table[name].null_count == 300
    assert (report.run.backbone, report.run.seed) == (None, None)
    assert report.run.source.kind == "pred_probs"


def test_every_form_gives_the_same_verdicts(tmp_path):
    tables = [audited(tmp_path / form, write(tmp_path / f"p.{form}", noisy())) for form in FORMS]
    for form, table in zip(FORMS, tables, strict=True):
        same = table.drop_columns(["sample_id"] if form == "npz" else [])
        assert same.equals(tables[0].select(same.column_names)), form


def test_the_verdicts_are_those_of_the_same_evidence(tmp_path):
    probs = noisy(count=2000)
    table = audited(tmp_path / "run", write(tmp_path / "p.parquet", probs))
    nothing = np.zeros(2000)
    scores = score_labels(
        Evidence(
            probs.values,
            nothing.astype(np.int16),
            nothing.astype(np.float32),
            nothing.astype(np.int64),
        ),
        np.array([probs.classes.index(label) for label in probs.labels]),
    )
    found = table["label_error_probability"].to_numpy()
    np.testing.assert_array_equal(found, scores.label_error_probability)


def test_a_file_with_itself_gives_the_report_of_the_file(tmp_path):
    path = write(tmp_path / "p.csv", noisy())
    one, two = audited(tmp_path / "one", path), audited(tmp_path / "two", path, path)
    assert two.equals(one)


def test_two_models_are_averaged(tmp_path):
    first = noisy(0)
    second = softer(first)
    files = [
        write(tmp_path / "a.csv", first),
        write(tmp_path / "b.parquet", second.but(labels=first.labels)),
    ]
    flags = [option for file in files for option in ("--pred-probs", file)]
    done = run("audit", *flags, "--out", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.stderr
    table = read_report_table(tmp_path / "run").table
    mean = ((first.values.astype(float) + second.values) / 2).astype(np.float32)
    assert table["pred_probs"].to_pylist() == mean.tolist()
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["settings"]["pred_probs"] == [str(file) for file in files]


def test_rows_of_many_blocks_stay_with_their_probabilities(tmp_path):
    probs = noisy(count=ROW_GROUP_SIZE + 5, classes=(0, 1))
    assert len(probs.values) > block_rows(2)
    bad = [1, 1000, ROW_GROUP_SIZE - 1, ROW_GROUP_SIZE + 2]
    probs.values[bad] = np.nan
    path = write(tmp_path / "p.npz", probs)
    table = audited(tmp_path / "run", path)
    assert table["pred_probs"].null_count == len(bad)
    for row in (0, 2, 999, 1001, ROW_GROUP_SIZE - 2, ROW_GROUP_SIZE, len(probs.values) - 1):
        assert table["pred_probs"][row].as_py() == probs.values[row].tolist()
        assert table["predicted_label"][row].as_py() == probs.values[row].argmax()


def test_a_bad_row_is_a_row_of_the_report(tmp_path):
    probs = noisy()
    probs.values[3] = [0.5, 0.5, 0.5]
    labels = ["zebra", None, *probs.labels[2:]]
    table = audited(tmp_path / "run", write(tmp_path / "p.csv", probs.but(labels=labels)))
    rows = table.slice(0, 4).to_pylist()
    assert [row["reason"] for row in rows[:2]] == [
        "not scored: its label 'zebra' is none of the 3 classes",
        "not scored: it has no label",
    ]
    assert rows[3]["reason"] == "not scored: its probabilities sum to 1.5, not 1"
    for row in (rows[0], rows[1], rows[3]):
        scored = ["predicted_label", "label_score", "label_error_probability", "pred_probs"]
        assert [row[name] for name in scored] == [None] * 4
    assert [row["sample_weight"] > 0 for row in rows] == [False, False, True, True]
    assert np.mean(table["sample_weight"].to_numpy()) == pytest.approx(1, abs=1e-5)


def test_the_same_files_give_the_same_bytes(tmp_path):
    path = write(tmp_path / "p.npz", noisy())
    audited(tmp_path / "one", path)
    audited(tmp_path / "two", path)
    one, two = (tmp_path / name / "report.parquet" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


# What other commands make of it


def test_show_and_export(tmp_path):
    out = tmp_path / "run"
    assert (
        run("audit", "--pred-probs", write(tmp_path / "p.csv", noisy()), "--out", out, "-q").output
        == ""
    )
    summary = json.loads(run("show", out, "--json").stdout)
    for name in ("backbone", "image_size", "unreadable", "duplicates", "conflicting"):
        assert summary[name] is None, name
    for name in ("near_duplicates", "leaks", "outliers", "dark", "blurry", "odd_size"):
        assert summary[name] is None, name
    assert summary["scored"] == 300
    assert summary["flagged"] > 10
    shown = run("show", out, "--class", "dog")
    assert shown.exit_code == 0
    assert "duplicates" not in shown.stdout
    done = run("export", out, tmp_path / "clean.csv", "--min-probability", "0.5")
    assert done.exit_code == 0, done.stderr
    header = (tmp_path / "clean.csv").read_text().splitlines()[0]
    assert header.startswith('"sample_id","label","sample_weight","given_label","decision"')
    frame = labelfix.read_report(out)
    assert frame["is_label_issue"].sum() == summary["flagged"]


def test_there_are_no_images_to_export_and_no_file_to_write_over(tmp_path):
    files = [write(tmp_path / name, noisy()) for name in ("a.csv", "b.csv")]
    audit_pred_probs(files, tmp_path / "run")
    assert_refused(run("export", tmp_path / "run", tmp_path / "clean"), "no images", ".csv")
    assert not (tmp_path / "clean").exists()
    refused = run("export", tmp_path / "run", files[1], "--overwrite")
    assert_refused(refused, "never changes")


# RUN, and what is refused


def test_a_run_that_is_there_already(tmp_path):
    path, out = write(tmp_path / "p.csv", noisy()), tmp_path / "run"
    start = ("audit", "--pred-probs", path, "--out", out, "--json")
    first = run(*start)
    assert_refused(run(*start), "holds a finished run", "--resume", "--overwrite")
    assert json.loads(run(*start, "--resume").stdout) == json.loads(first.stdout)
    assert run(*start, "--overwrite").exit_code == 0
    write(path, noisy(1))
    assert_refused(run(*start, "--resume"), "another run", "the data have changed")


def test_a_file_that_is_refused_leaves_run_free(tmp_path):
    path, out = tmp_path / "p.csv", tmp_path / "run"
    for text, told in (
        ("sample_id,given_label,prob:a,prob:b\nx,a,9,0\ny,b,0,9\nz,b,0,9\n", "3 of 3 rows"),
        ("sample_id,given_label,prob:a,prob:b\nx,a,1,0\nx,b,0,1\n", "more than one sample"),
    ):
        path.write_text(text)
        assert_refused(run("audit", "--pred-probs", path, "--out", out), told)
        assert not out.exists()
    assert_refused(run("audit", "--pred-probs", tmp_path / "no.csv", "--out", out), "not exist")
    assert not out.exists()


def test_a_full_disk_leaves_no_half_written_report(tmp_path):
    path = write(tmp_path / "p.csv", noisy(count=3000))
    out = tmp_path / "run"
    args = [sys.executable, "-m", "labelfix", "audit", "--pred-probs", str(path), "--out", str(out)]
    for limit in (20_000, 60_000):  # too little to put the probabilities aside; to write the report
        done = subprocess.run(
            args,
            capture_output=True,
            encoding="utf-8",
            check=False,
            preexec_fn=lambda limit=limit: resource.setrlimit(
                resource.RLIMIT_FSIZE, (limit, limit)
            ),
        )
        assert done.returncode == 1, done.stderr
        assert "error: cannot write" in done.stderr
        assert "Traceback" not in done.stderr
        assert not out.exists()


def test_the_function_takes_one_file_or_several(tmp_path):
    path = write(tmp_path / "p.npz", noisy())
    alone = labelfix.audit_pred_probs(str(path), tmp_path / "alone").report
    listed = labelfix.audit_pred_probs([path], tmp_path / "listed").report
    assert alone.table.equals(listed.table)
    assert "pred_probs" not in alone.table.column_names
    with pytest.raises(RunError, match="finished run"):
        labelfix.audit_pred_probs(path, tmp_path / "alone")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "give DATA, or --pred-probs FILE"),
        (["photos", "--pred-probs", "p.csv"], "exclude each other"),
        (["--pred-probs", "p.csv", "--folds", "3"], "--folds has no use"),
        (["--pred-probs", "p.csv", "--seed", "0"], "--seed has no use"),
        (["photos", "--images", "photos"], "--images is for --pred-probs"),
        (["--pred-probs", "p.csv", "--overwrite", "--resume"], "exclude each other"),
    ],
)
def test_wrong_usage(args, told, tmp_path):
    result = run("audit", *args, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


# How many labels are flagged


def flagged(out: Path) -> pa.Table:
    table = read_report_table(out).table
    return table.filter(table["is_label_issue"])


def test_a_budget_flags_the_worst_and_no_more(tmp_path):
    path = write(tmp_path / "p.npz", noisy())
    done = run("audit", "--pred-probs", path, "--out", tmp_path / "run", "--budget", "7", "--json")
    assert json.loads(done.stdout)["flagged"] == 7
    errors = np.sort(read_report_table(tmp_path / "run").table["label_error_probability"])
    assert np.sort(flagged(tmp_path / "run")["label_error_probability"])[0] == errors[-7]


def test_a_precision_is_what_the_flags_promise(tmp_path):
    path = write(tmp_path / "p.npz", noisy(count=2000))
    out = tmp_path / "run"
    done = run("audit", "--pred-probs", path, "--out", out, "--precision", ".9", "--json")
    told = json.loads(done.stdout)
    assert told["expected_precision"] >= 0.9
    mean = flagged(out)["label_error_probability"].to_numpy().mean(dtype=np.float64)
    assert np.isclose(told["expected_precision"], mean)
    low, high = told["noise_rate_interval"]
    assert low <= told["noise_rate"] <= high
    assert "of them really are" in run("show", out).stdout


def test_precision_and_budget_exclude_each_other(tmp_path):
    path = write(tmp_path / "p.npz", noisy())
    done = run(
        "audit",
        "--pred-probs",
        path,
        "--out",
        tmp_path / "run",
        "--budget",
        "7",
        "--precision",
        "1",
    )
    assert_refused(done, "--precision and --budget cannot be used together")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("classes", [127, 190])
def test_codes_of_the_smallest_type_change_no_figure(tmp_path, monkeypatch, classes):
    """Products and sums of codes, such as numbers of pairs of classes, are wider than codes are."""
    names = [f"class {code:03}" for code in range(classes)]
    probs = write(tmp_path / "probs.parquet", noisy(count=1500, classes=names))
    for module in [one for name, one in sys.modules.items() if name.startswith("labelfix.")]:
        if hasattr(module, "code_type"):
            monkeypatch.setattr(module, "code_type", lambda count: np.int64)
    audit_pred_probs(probs, tmp_path / "wide")
    monkeypatch.undo()
    audit_pred_probs(probs, tmp_path / "narrow")
    written = sorted(path.name for path in (tmp_path / "wide").iterdir() if path.name != "run.json")
    assert {"report.parquet", "report.html"} <= set(written)
    for name in written:
        wide, narrow = ((tmp_path / run / name).read_bytes() for run in ("wide", "narrow"))
        assert wide == narrow, name
