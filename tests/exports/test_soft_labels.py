"""Soft labels: what they hold, and that an export and a naive loop agree."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from exported_runs import CAT, SAMPLES, run_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from small_report import Sample

from labelfix.data.decisions import Decision, DecisionLog
from labelfix.errors import ConfigError
from labelfix.exports.export import export
from labelfix.exports.soft_labels import Beliefs, soft_labels
from labelfix.report.io import read_pred_probs
from labelfix.types import MISSING

NAMES = ("cat", "dog", "owl")
RUN = [*SAMPLES, Sample("between", CAT, 0.4)]


def exported(run: Path, to: Path, **options) -> tuple[dict[str, list[float] | None], list[str]]:
    export(run, to, soft_labels=True, **options)
    table = pq.read_table(to)
    names = json.loads(table.schema.metadata[b"labelfix.class_names"])
    soft = dict(zip(table["sample_id"].to_pylist(), table["soft_label"].to_pylist(), strict=True))
    return soft, names


def test_an_export_says_how_probable_each_class_is(tmp_path: Path) -> None:
    soft, names = exported(run_of(tmp_path, RUN, NAMES), tmp_path / "to.parquet")
    assert names == list(NAMES)
    assert soft["sure"] == pytest.approx([0.01, 0.98, 0.01], abs=1e-6)
    assert soft["maybe"] == pytest.approx([0.3, 0.7, 0], abs=1e-6)
    assert soft["test"] == [1, 0, 0]
    assert soft["broken"] == [1, 0, 0]
    assert soft["unlabeled"] is None
    assert soft["between"][0] == pytest.approx(0.6, abs=1e-6)
    probs = dict(
        zip((s.name for s in RUN), np.concatenate(list(read_pred_probs(tmp_path))), strict=True)
    )["between"]
    assert soft["between"][1] == pytest.approx(0.4 * probs[1] / probs[1:].sum(), abs=1e-6)


def test_decisions_are_certain_whatever_the_model_says(tmp_path: Path) -> None:
    run = run_of(tmp_path, RUN, NAMES)
    decided = []
    for name, action, label in (
        ("maybe", "relabel", "fox"),
        ("sure", "keep", None),
        ("between", "drop", None),
        ("unsure what", "unsure", None),
    ):
        decided.append(Decision(name, action, label))
    DecisionLog(run).append(decided)
    soft, names = exported(run, tmp_path / "to.parquet")
    assert names == [*NAMES, "fox"]
    assert soft["maybe"] == [0, 0, 0, 1]
    assert soft["sure"] == [1, 0, 0, 0]
    assert "between" not in soft
    assert 0 < soft["unsure what"][0] < 0.1


@pytest.mark.parametrize("name", ["to.csv", "to.jsonl"])
def test_forms_that_hold_no_lists_refuse_soft_labels(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="holds no soft labels"):
        export(run_of(tmp_path), tmp_path / name, soft_labels=True)
    assert not (tmp_path / name).exists()


@st.composite
def cases(draw: st.DrawFn) -> tuple[Beliefs, np.ndarray]:
    count, classes = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    codes = npst.arrays(np.int64, count, elements=st.integers(MISSING, classes - 1))
    shares = npst.arrays(np.float32, count, elements=st.floats(0, 1, width=32))
    probs = npst.arrays(np.float32, (count, classes), elements=st.floats(0, 1, width=32))
    is_certain = draw(npst.arrays(np.bool_, count))
    beliefs = Beliefs(draw(codes), is_certain, draw(shares), draw(codes), draw(shares))
    return beliefs, draw(probs)


@given(cases())
def test_soft_labels_are_those_of_a_naive_loop(case: tuple[Beliefs, np.ndarray]) -> None:
    beliefs, probs = case
    soft = soft_labels(beliefs, probs)
    for row, found in enumerate(soft):
        label, suggested = int(beliefs.label[row]), int(beliefs.suggested[row])
        if label == MISSING:
            assert not found.any()
            continue
        assert found.min() >= 0
        wanted = np.zeros(probs.shape[1])
        if beliefs.is_certain[row]:
            wanted[label] = 1
        else:
            wanted[label] = beliefs.label_score[row]
            if suggested not in (MISSING, label):
                wanted[suggested] = beliefs.suggested_probability[row]
            others = [k for k in range(len(wanted)) if k not in (label, suggested)]
            rest, mass = max(1 - wanted.sum(), 0), sum(float(probs[row, k]) for k in others)
            for k in others:
                share = float(probs[row, k]) / mass if mass > 0 else 1 / len(others)
                wanted[k] = rest * share
            wanted /= wanted.sum() or 1
        assert found == pytest.approx(wanted, abs=1e-5)
