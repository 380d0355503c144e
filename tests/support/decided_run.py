"""A run on real data with drawn actions and decisions, and what an export of it has to hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from small_report import Sample, report_of

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.decisions import Decision, DecisionLog
from labelfix.report.io import write_report
from labelfix.types import MISSING, Label

LEAST = 0.9
CHOICES = st.sampled_from([None, None, "keep", "relabel", "unsure", "drop"])


@dataclass(frozen=True)
class Fate:
    """What an audit and a person say of one row; ``chosen`` and ``suggested`` name classes."""

    action: str | None
    chosen: Label
    suggested: Label | None
    error: float
    certainty: float


def fates(classes: Sequence[Label], new: Sequence[Label] = ()) -> st.SearchStrategy[Fate]:
    return st.builds(
        Fate,
        CHOICES,
        st.sampled_from([*classes, *new]),
        st.sampled_from([None, *classes]),
        st.sampled_from([0.5, 0.95]),
        st.sampled_from([0.5, 0.95]),
    )


def write_run(run: Path, data: Path, fates: Sequence[Fate], **columns: str) -> list[Label | None]:
    """Write the run; return the label that each row has to end with, ``...`` if it is dropped."""
    dataset = open_dataset(data, DatasetConfig(**columns))
    names, splits = dataset.sample_id.to_pylist(), dataset.split.to_pylist()
    samples, decisions, expected = [], [], []
    for row, (fate, name) in enumerate(zip(fates, names, strict=True)):
        code = int(dataset.given_label[row])
        given = None if code == MISSING else dataset.class_names[code]
        flagged = given is not None and fate.suggested not in (None, given)
        flagged = flagged and fate.suggested in dataset.class_names
        samples.append(
            Sample(
                name,
                code,
                None if given is None else fate.error if flagged else 0.01,
                suggested=dataset.class_names.index(fate.suggested) if flagged else None,
                certainty=fate.certainty,
                split=splits[row],
            )
        )
        if fate.action is not None:
            label = fate.chosen if fate.action == "relabel" else None
            decisions.append(Decision(name, fate.action, label, flagged=flagged))
        expected.append(_expected(fate, given, flagged, splits[row]))
    run.mkdir()
    write_report(report_of(samples, dataset=dataset), run / "report.parquet")
    DecisionLog(run).append(decisions)
    return expected


def _expected(fate: Fate, given: Label | None, flagged: bool, split: str | None):
    if fate.action == "drop":
        return ...
    if fate.action is not None:
        return fate.chosen if fate.action == "relabel" else given
    is_sure = flagged and min(np.float32(fate.error), np.float32(fate.certainty)) >= LEAST
    return fate.suggested if is_sure and (split or "").lower() != "test" else given
