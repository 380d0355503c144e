"""``--top-classes``: the same audit, of which the report keeps the likeliest classes; and again."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import labelfix as command
from given_probs import noisy, write, write_lists
from sklearn.metrics import average_precision_score

import labelfix
from labelfix.report.io import read_report_table

CLASSES = [f"c{code:02}" for code in range(30)]
TOP = ["top_classes", "top_probs"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three runs: with all classes, with the top, and of the report of that."""
    folder = tmp_path_factory.mktemp("runs")
    probs = noisy(count=400, classes=CLASSES)
    labels = [None, *probs.labels[1:]]
    write(folder / "p.npz", probs.but(labels=labels))
    for name, file, options in (
        ("all", "p.npz", ()),
        ("top", "p.npz", ("--top-classes", "4")),
        ("again", "top/report.parquet", ()),
    ):
        done = command(
            "audit", "--pred-probs", folder / file, "--out", folder / name, "--json", *options
        )
        assert done.returncode == 0, done.stderr
    return folder


def table(run: Path) -> pa.Table:
    return pq.read_table(run / "report.parquet")


def test_all_else_is_what_it_is_without(runs: Path) -> None:
    whole, kept = table(runs / "all"), table(runs / "top")
    assert kept.drop_columns(TOP).equals(whole.drop_columns(["pred_probs"]))
    values = whole["pred_probs"].to_pylist()
    assert kept["top_classes"][0].as_py() is None
    for row in (1, 7, 399):
        order = np.argsort(-np.array(values[row]), kind="stable")[:4].tolist()
        assert kept["top_classes"][row].as_py() == order
        assert kept["top_probs"][row].as_py() == [values[row][code] for code in order]
    told = json.loads((runs / "top" / "run.json").read_text())
    assert told["config"]["report"]["top_classes"] == 4
    [said] = [one["text"] for one in told["assumptions"] if "--top-classes" in one["text"]]
    assert "of its 4 likeliest classes are kept" in said
    assert "computed from all 30" in said


def test_such_a_report_is_audited_again(runs: Path) -> None:
    before, after = table(runs / "top"), table(runs / "again")
    for name in (*TOP, "sample_id", "given_label"):
        assert after[name].equals(before[name])
    is_scored = after["label_score"].is_valid().to_numpy()
    assert is_scored.sum() == 399
    # the planted errors are the labels that are not the likeliest class, as good as all of them
    first = np.array(before["top_classes"].to_pylist()[1:])[:, 0]
    given = np.array([CLASSES.index(name) for name in before["given_label"].to_pylist()[1:]])
    scores = [run["label_error_probability"].to_numpy()[1:] for run in (before, after)]
    ranked = [average_precision_score(given != first, score) for score in scores]
    assert ranked[1] == pytest.approx(ranked[0], abs=0.03)
    told = json.loads((runs / "again" / "run.json").read_text())["assumptions"]
    assert any("lists 4 of 30 classes" in one["text"] for one in told)
    assert not any("--top-classes" in one["text"] for one in told)


def test_every_command_reads_it(runs: Path, tmp_path: Path) -> None:
    for run in (runs / "top", runs / "again"):
        for words in (
            ("show", run),
            ("show", run, "--json", "--top", "3"),
            ("diff", run),
            ("check", run, "--max-error-rate", "0.9"),
            ("certify", run),
            ("export", run, tmp_path / f"{run.name}.csv"),
            ("export", run, tmp_path / f"{run.name}.parquet"),
            ("export", run, tmp_path / f"{run.name}.jsonl"),
            ("export", run, tmp_path / f"{run.name}.clean.csv", "--format", "cleanlab"),
        ):
            done = command(*words)
            assert done.returncode == 0, (words, done.stderr)
        page = (run / "report.html").read_text()
        drawn = command("show", run, "--html")
        assert drawn.returncode == 0, drawn.stderr
        assert (run / "report.html").read_text() == page
        frame = labelfix.open_run(run).to_pandas()
        assert frame[TOP[0]].map(len, na_action="ignore").dropna().eq(4).all()


def test_soft_labels_are_refused_before_anything_is_written(runs: Path, tmp_path: Path) -> None:
    done = command("export", runs / "top", tmp_path / "soft.parquet", "--soft-labels")
    assert done.returncode == 1
    assert "keeps the likeliest classes" in done.stderr
    assert "hint: audit again without --top-classes" in done.stderr
    assert [*tmp_path.iterdir()] == []


def test_a_report_is_not_written_over_itself(runs: Path) -> None:
    before = (runs / "top" / "report.parquet").read_bytes()
    done = command(
        "audit", "--pred-probs", runs / "top" / "report.parquet", "--out", runs / "top",
        "--overwrite",
    )  # fmt: skip
    assert done.returncode == 1
    assert "holds the report that is read" in done.stderr
    assert (runs / "top" / "report.parquet").read_bytes() == before


def test_lists_may_be_cut_further_and_number_of_classes_is_checked(tmp_path: Path) -> None:
    path = write_lists(tmp_path / "p.parquet", noisy(count=90, classes=CLASSES[:6]), 4)
    for asked, kept in ((2, 2), (4, 4), (9, 4)):
        labelfix.audit_pred_probs(path, tmp_path / "run", top_classes=asked, overwrite=True)
        lengths = {len(row) for row in table(tmp_path / "run")["top_classes"].to_pylist()}
        assert lengths == {kept}
    done = command(
        "audit", "--pred-probs", path, "--out", tmp_path / "other", "--top-classes", "-1"
    )
    assert done.returncode == 1
    assert "top_classes is -1, which is below 0" in done.stderr


def test_an_audit_of_samples_keeps_the_likeliest_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    vectors = (rng.normal(size=(90, 4)) + labels[:, None]).astype(np.float32)
    data = (vectors, labels)
    result = labelfix.audit(data, tmp_path / "run", top_classes=2, progress=False)
    report = read_report_table(result.run).table
    codes, probs = (np.array(report[name].to_pylist()) for name in TOP)
    assert codes.shape == probs.shape == (90, 2)
    assert codes[:, 0].tolist() == report["predicted_label"].to_pylist()
    assert (probs[:, 0] >= probs[:, 1]).all()
    assert "pred_probs" not in report.column_names
    assert any("2 likeliest classes" in one.text for one in result.report.run.assumptions)
