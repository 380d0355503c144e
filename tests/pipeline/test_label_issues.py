"""``labelfix.find_label_issues``: wrong labels of two arrays, as the command finds in files."""

import subprocess
import sys
from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from command import labelfix as command
from frozen_blobs import blobs
from given_probs import noisy, softer, write
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import labelfix
from labelfix.data.decisions import Decision, DecisionLog
from labelfix.errors import LabelfixError

NAMES = ("cat", "dog", "hen")


def codes_of(probs, classes=NAMES) -> np.ndarray:
    return np.array([-1 if label is None else classes.index(label) for label in probs.labels])


@pytest.fixture(scope="module")
def probs():
    return noisy()


@pytest.fixture(scope="module")
def issues(probs):
    return labelfix.find_label_issues(codes_of(probs), probs.values)


def test_arrays_give_what_the_command_gives_for_files_bit_for_bit(tmp_path, probs):
    missing = probs.but(labels=[None, *probs.labels[1:]])
    written = [
        str(write(tmp_path / name, one))
        for name, one in (("a.npz", missing), ("b.npz", softer(missing)))
    ]
    for models in (1, 2):
        run = tmp_path / f"run-{models}"
        files = [word for file in written[:models] for word in ("--pred-probs", file)]
        done = command("audit", *files, "--out", run, "--precision", "0.8")
        assert done.returncode == 0, done.stderr
        arrays = [missing.values, softer(missing).values][:models]
        found = labelfix.find_label_issues(
            codes_of(missing),
            arrays if models > 1 else arrays[0],
            class_names=NAMES,
            precision=0.8,
        )
        of_files = labelfix.read_report(run)
        for name in ("label_error_probability", "label_score", "suggested_label_probability",
                     "sample_weight", "is_label_issue"):  # fmt: skip
            assert getattr(found, name).tobytes() == of_files[name].to_numpy().tobytes(), name
        of_arrays = found.write(tmp_path / f"own-{models}").run
        ours = pq.read_table(of_arrays / "report.parquet")
        assert ours.replace_schema_metadata().equals(
            pq.read_table(run / "report.parquet").replace_schema_metadata()
        )
        noise = pq.read_table(run / "noise_matrix.parquet")
        assert pq.read_table(of_arrays / "noise_matrix.parquet").equals(noise)
        assert found.noise_matrix.ravel().tobytes() == noise["probability"].to_numpy().tobytes()


def test_it_writes_nothing_and_loads_no_torch(tmp_path):
    program = (
        "import sys, numpy as np, labelfix\n"
        "rng = np.random.default_rng(0)\n"
        "probs = rng.dirichlet([.3] * 3, 60)\n"
        "found = labelfix.find_label_issues(probs.argmax(axis=1), probs)\n"
        "repr(found), found.top(3)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, encoding="utf-8",
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "form",
    [
        lambda codes, values: (codes.tolist(), values.tolist()),
        lambda codes, values: (pd.Series(codes, index=codes[::-1]), pd.DataFrame(values)),
        lambda codes, values: (torch.tensor(codes), torch.tensor(values, requires_grad=True)),
        lambda codes, values: (codes.astype(np.uint8), np.asfortranarray(values)),
        lambda codes, values: (codes.astype(float), values),
        lambda codes, values: (pd.array(codes, dtype="Int64"), tuple(map(tuple, values.tolist()))),
    ],
)
def test_every_form_of_the_same_arrays_gives_the_same(probs, issues, form):
    found = labelfix.find_label_issues(*form(codes_of(probs), probs.values))
    assert np.array_equal(found.label_error_probability, issues.label_error_probability)
    assert np.array_equal(found.suggested_label, issues.suggested_label)
    assert found.noise_rate == issues.noise_rate


def test_names_are_found_wherever_they_are(probs):
    by_name = labelfix.find_label_issues(probs.labels, probs.values, class_names=NAMES)
    for labels, values in (
        (probs.labels, probs.values),  # text: the columns are in alphabetical order, it is said
        (np.array(probs.labels), probs.values),
        (pd.Categorical(probs.labels, categories=NAMES), probs.values),
        (pd.Series(probs.labels, dtype="category"), probs.values),
        (probs.labels, pd.DataFrame(probs.values, columns=NAMES)),
    ):
        found = labelfix.find_label_issues(labels, values)
        assert found.suggested_label.tolist() == by_name.suggested_label.tolist()
        assert found.class_names == NAMES
    [said] = labelfix.find_label_issues(probs.labels, probs.values).report.run.assumptions
    assert "alphabetical order, 'cat' first; class_names names another order" in said.text


def test_positions_count_in_the_order_of_the_columns(probs, issues):
    other = [2, 0, 1]  # where cat, dog and hen are now
    values = np.empty_like(probs.values)
    values[:, other] = probs.values
    names = ["dog", "hen", "cat"]
    codes = np.array(other)[codes_of(probs)]
    found = labelfix.find_label_issues(codes, values, class_names=names)
    flagged = issues.is_label_issue
    assert np.array_equal(
        found.suggested_label[flagged], np.array(other)[issues.suggested_label[flagged]]
    )
    assert np.array_equal(found.noise_matrix[np.ix_(other, other)], issues.noise_matrix)


def test_labels_may_be_missing(probs):
    for missing in (None, np.nan, pd.NA):
        labels = [missing, *probs.labels[1:]]
        found = labelfix.find_label_issues(labels, probs.values)
        assert np.isnan(found.label_error_probability[0])
        assert found.suggested_label[0] is None
        assert found.to_pandas()["reason"][0] == "not scored: it has no label"
    codes = codes_of(probs)
    codes[0] = -1
    found = labelfix.find_label_issues(codes, probs.values)
    assert found.suggested_label[0] == -1


def test_what_is_found_can_be_looked_at(issues, probs):
    assert len(issues) == len(probs.values)
    frame = issues.to_pandas()
    assert frame["is_label_issue"].tolist() == issues.is_label_issue.tolist()
    assert frame["given_label"].tolist() == codes_of(probs).tolist()
    assert issues.ranked.tolist() == issues.top(10**6).index.tolist()
    worst = issues.top(3)
    assert worst["label_error_probability"].is_monotonic_decreasing
    assert issues.top(0).empty
    with pytest.raises(ValueError, match="read-only"):
        issues.sample_weight[0] = 3
    first, second, third = repr(issues).splitlines()
    assert f"{issues.is_label_issue.sum()} of 300 labels" in first
    assert "%" in second
    assert ".write(RUN)" in third


def test_what_is_written_to_the_arrays_later_does_not_count(tmp_path, probs):
    values, codes = probs.values.copy(), codes_of(probs)
    found = labelfix.find_label_issues(codes, values)
    values[:], codes[:] = 0, 0
    report = labelfix.read_report(found.write(tmp_path / "run").run)
    assert np.array_equal(np.stack(report["pred_probs"].to_numpy()), probs.values)
    assert report["given_label"].tolist() == codes_of(probs).tolist()


def test_a_run_that_was_written_is_as_any_other(tmp_path, issues):
    run = tmp_path / "run"
    issues.write(run)
    for words in (["show", run], ["diff", run], ["export", run, tmp_path / "clean.csv"]):
        done = command(*words)
        assert done.returncode == 0, done.stderr
    with pytest.raises(LabelfixError, match="holds a finished run"):
        issues.write(run)
    issues.write(run, overwrite=True)


def test_decisions_of_a_run_count(tmp_path, issues, probs):
    run = issues.write(tmp_path / "run").run
    row = int(issues.ranked[0])
    DecisionLog(run).append([Decision(str(row), "keep")])
    found = labelfix.find_label_issues(codes_of(probs), probs.values, decisions=run)
    assert found.label_error_probability[row] == 0
    with pytest.raises(LabelfixError, match="decisions"):
        labelfix.find_label_issues(codes_of(probs), probs.values, decisions=tmp_path / "absent")


GOOD = noisy(count=40).values
CODES = codes_of(noisy(count=40))


@pytest.mark.parametrize(
    ("labels", "values", "said"),
    [
        (GOOD, CODES, "labels is a matrix and pred_probs a row of values"),
        (CODES, None, "pred_probs is missing"),
        (CODES[:-1], GOOD, "labels holds 39 labels, and pred_probs has 40 rows"),
        (CODES, [GOOD, GOOD[:-1]], r"pred_probs\[1\] has 39 rows"),
        (CODES, [GOOD, GOOD[:, :2]], r"pred_probs\[1\] has 2 columns"),
        (GOOD, GOOD, r"labels has the shape \(40, 3\)"),
        (CODES, GOOD[:, 0], "pred_probs is of type float32 and shape"),
        (CODES, GOOD.astype(int), "pred_probs is of type int64"),
        (CODES, GOOD.astype(complex), "pred_probs is of type complex128"),
        (CODES, GOOD * np.nan, "hold numbers that are not finite"),
        (CODES, -GOOD, "rows of pred_probs hold no probabilities"),
        (CODES, np.log(GOOD), "they look like log-probabilities"),
        (CODES, GOOD * 3, "pred_probs hold no probabilities"),
        (CODES + 1, GOOD, "given labels in pred_probs are none of its 3 classes"),
        (CODES + 0.5, GOOD, "labels holds numbers that are no classes"),
        ([*CODES[:-1].tolist(), "cat"], GOOD, "labels cannot be read as labels"),
        ([["a"]] * 40, GOOD, "labels"),
        (CODES - 1 - CODES, GOOD, "no row of pred_probs can be scored"),
        (["cat"] * 40, GOOD, "labels holds 1 different names, and pred_probs has 3 columns"),
        ("cat", GOOD, "labels is str 'cat'"),
        (CODES, "probs.npz", "pred_probs is str 'probs.npz'"),
        (CODES, {"a": GOOD}, "pred_probs is of type dict"),
        ([], np.zeros((0, 3)), "labels is empty"),
        (CODES, GOOD[:, :1] / GOOD[:, :1], "pred_probs has only one class"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(labels, values, said):
    with pytest.raises(LabelfixError, match=said) as raised:
        labelfix.find_label_issues(labels, values)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"class_names": ["a", "b"]}, "class_names are 2 names, and pred_probs has 3 columns"),
        ({"class_names": ["a", "b", 3]}, "class_names are of several types"),
        ({"class_names": ["a", "b", "b"]}, "have no name, or the same one"),
        ({"class_names": "abc"}, "class_names is 'abc', which is no list"),
        ({"precision": 2.0}, "precision 2.0 is not"),
        ({"budget": -1}, "budget -1 is below"),
        ({"budget": 1, "precision": 0.5}, "precision and budget cannot be used together"),
    ],
)
def test_what_is_wrong_with_options_is_said(options, said):
    with pytest.raises(LabelfixError, match=said) as raised:
        labelfix.find_label_issues(CODES, GOOD, **options)
    assert raised.value.hint


ODD = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.integers(),
    st.floats(),
    st.lists(st.integers(-2, 4) | st.none() | st.text(max_size=2) | st.floats(), max_size=6),
    st.lists(st.lists(st.floats(), max_size=3), max_size=4),
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.bool_, "U2", "S2", "M8[s]", complex]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    st.sampled_from(
        [object(), {1}, {"a": 1}, np.array([{}, []], object), torch.zeros(3), pd.DataFrame(),
         torch.zeros(2, 2, dtype=torch.bfloat16), pd.Series([1, None], dtype="Int64"), iter([1])]
    ),
)  # fmt: skip


def test_names_that_are_all_blank_are_refused():
    with pytest.raises(
        LabelfixError, match="holds 0 different names, and pred_probs has 1 columns"
    ):
        labelfix.find_label_issues([""], [[0.0]])


@given(labels=ODD, values=ODD)
@settings(max_examples=300)
def test_no_arrays_make_it_crash(labels, values):
    for first, second in ((labels, values), (CODES, values), (labels, GOOD)):
        with suppress(LabelfixError):
            labelfix.find_label_issues(first, second)


def test_features_of_many_classes_are_scored():
    """Heads of many classes leave no margins, and nothing may miss them."""
    values, codes, true = blobs(0, count=1040, classes=260, width=16)
    issues = labelfix.find_label_issues(codes, features=values.astype(np.float32))
    wrong = issues.label_error_probability
    scored = np.isfinite(wrong)
    assert scored.sum() > 500
    is_wrong = codes != true
    assert wrong[scored & is_wrong].mean() > wrong[scored & ~is_wrong].mean() + 0.3
