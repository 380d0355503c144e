"""Small reports for tests, built from records the way an audit builds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from numpy.typing import NDArray

from labelfix.errors import UnreadableSample
from labelfix.issues.types import IssueKinds
from labelfix.report.build import build_report
from labelfix.report.types import Report, RunInfo
from labelfix.types import (
    MISSING,
    Corrections,
    DatasetSource,
    Duplicates,
    Evidence,
    FoldAssignment,
    Label,
    LabeledDataset,
    LabelScores,
    NoiseCells,
)

NOWHERE = DatasetSource("parquet", Path("/nowhere/data.parquet"), {"image": "image"})


@dataclass(frozen=True)
class Sample:
    """What an audit thinks of one sample; labels are positions in the class names."""

    name: str
    given: int = 0
    error: float | None = 0.01  # None: not scored
    suggested: int | None = None  # not None: flagged
    certainty: float = 0.5
    split: str | None = None
    weight: float = 1.0
    unreadable: str | None = None
    exclusion_reason: str | None = None
    duplicate_set: int = MISSING
    conflicting: bool = False


class _NoImages:
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def read(self, index: int) -> bytes:
        raise UnreadableSample(f"row {index} has no image")

    def location(self, index: int) -> str:
        return f"nowhere#{index}"


def dataset_of(
    samples: Sequence[Sample], class_names: Sequence[Label], source: DatasetSource = NOWHERE
) -> LabeledDataset:
    return LabeledDataset(
        sample_id=pa.array([s.name for s in samples], pa.string()),
        split=pa.array([s.split for s in samples], pa.string()),
        given_label=np.array([s.given for s in samples], np.int64),
        class_names=tuple(class_names),
        store=_NoImages(len(samples)),
        source=source,
        fingerprint="f1",
    )


def run_info(dataset: LabeledDataset) -> RunInfo:
    return RunInfo(
        source=dataset.source,
        fingerprint=dataset.fingerprint,
        noise_rate=0.25,
        noise_rate_interval=(0.125, 0.375),
        modality="image",
        backbone="tf_efficientnet_lite0",
        seed=7,
        versions={"labelfix": "0.1.0"},
        settings={"tune": "head", "folds": 2},
    )


def report_of(
    samples: Sequence[Sample],
    class_names: Sequence[Label] = ("cat", "dog"),
    dataset: LabeledDataset | None = None,
    probs: NDArray[np.float32] | None = None,
    kinds: IssueKinds | None = None,
) -> Report:
    """Build the report of samples; ``dataset`` gives names, splits and labels if it is there."""
    dataset = dataset or dataset_of(samples, class_names)
    size, classes = len(samples), len(dataset.class_names)
    scored = np.array([s.error is not None for s in samples], np.bool_)
    if probs is None:
        probs = np.random.default_rng(0).dirichlet(np.ones(classes), size).astype(np.float32)
        probs[~scored] = np.nan
    fold = (np.arange(size) % 2).astype(np.int16)
    flagged = np.array([s.suggested is not None for s in samples], np.bool_)
    suggested = [MISSING if s.suggested is None else s.suggested for s in samples]
    error = np.array([np.nan if s.error is None else s.error for s in samples], np.float32)
    return build_report(
        samples=dataset,
        unreadable={i: s.unreadable for i, s in enumerate(samples) if s.unreadable is not None},
        assignment=FoldAssignment(
            is_scored=scored,
            fold=fold,
            exclusion_reason={
                i: s.exclusion_reason
                for i, s in enumerate(samples)
                if s.exclusion_reason is not None
            },
        ),
        evidence=Evidence(
            pred_probs=probs,
            fold=fold,
            margin=np.zeros(size, np.float32),
            self_label=np.where(scored, dataset.given_label, MISSING),
        ),
        scores=LabelScores(
            label_error_probability=error,
            under_hypotheses=error[None],
            predicted_label=np.where(scored, np.nan_to_num(probs).argmax(axis=1), MISSING),
            alternative_label=np.where(scored, suggested, MISSING),
            alternative_probability=np.array(
                [np.nan if s.error is None else s.certainty for s in samples], np.float32
            ),
            noise=NoiseCells.of_matrix(np.eye(classes), np.stack([np.eye(classes)] * 2)),
            noise_rate=0.25,
            noise_rate_interval=(0.125, 0.375),
        ),
        corrections=Corrections(
            is_label_issue=flagged,
            suggested_label=np.array(suggested, np.int64),
            sample_weight=np.array([s.weight for s in samples], np.float32),
        ),
        duplicates=Duplicates(
            exact_duplicate_set=np.array([s.duplicate_set for s in samples], np.int64),
            is_conflicting=np.array([s.conflicting for s in samples], np.bool_),
        ),
        kinds=kinds,
        run=run_info(dataset),
    )


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
CLASS_NAMES = st.one_of(
    st.lists(_TEXT, min_size=2, max_size=4, unique=True),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=4, unique=True),
).map(sorted)
_SHARE = st.floats(0, 1, width=32)


@st.composite
def samples_of(draw: st.DrawFn, classes: int) -> list[Sample]:
    """Draw samples that could come out of an audit of so many classes."""
    samples = []
    for name in draw(st.lists(_TEXT.filter(bool), max_size=12, unique=True)):
        split = draw(st.sampled_from([None, "train", "test", "TEST", "val"]))
        given = draw(st.integers(MISSING, classes - 1))
        broken = draw(st.booleans())
        if broken or given == MISSING:
            reason = "truncated image" if broken else None
            samples.append(
                Sample(
                    name,
                    given,
                    None,
                    split=split,
                    weight=0,
                    unreadable=reason,
                    exclusion_reason="not scored",
                )
            )
            continue
        others = [code for code in range(classes) if code != given]
        error = draw(_SHARE)
        samples.append(
            Sample(
                name,
                given,
                error,
                suggested=draw(st.sampled_from([None, *others])),
                certainty=draw(_SHARE),
                split=split,
                weight=1 - error,
            )
        )
    return samples
