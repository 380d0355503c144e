"""What a report says on the whole, for the end of an audit and for ``labelfix show``.

Letters: N samples, K classes.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.data.splits import leaking_rows
from labelfix.errors import ReportError
from labelfix.report.schema import label_type
from labelfix.report.training_log import TrainingSummary
from labelfix.report.types import Report
from labelfix.scoring.flags import ExpectedQuality, expected_quality
from labelfix.types import MISSING, Label


@dataclass(frozen=True, slots=True)
class FlaggedRow:
    """One flagged sample; the probabilities are those of the report."""

    sample_id: str
    given_label: Label
    suggested_label: Label
    label_error_probability: float
    suggested_label_probability: float


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """How many flagged samples came as one class and look like another."""

    given_label: Label
    suggested_label: Label
    count: int


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """The samples that came with one label.

    Args:
        label: It.
        samples: How many there are.
        flagged: Those of them with a label issue.
        flagged_share: Likewise, 0 to 1; 0 for an empty class.
        noise_rate: The estimated share of wrong labels among those that were judged; ``None`` if
            none was.
    """

    label: Label
    samples: int
    flagged: int
    flagged_share: float
    noise_rate: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A report in figures.

    Args:
        samples: N.
        judged: Samples whose label was judged.
        classes: K.
        noise_rate: The estimated share of wrong labels among the judged samples, 0 to 1; ``None``
            when nothing was judged.
        noise_rate_interval: Between which shares it lies with a probability of 90 %.
        expected_precision: The share of flags that are right, as far as can be expected; ``None``
            without flags.
        expected_recall: The share of wrong labels that are flagged, likewise; ``None`` where no
            wrong label is expected.
        backbone: The network that looked at the images; ``None`` where probabilities were given and
            no image was looked at, as in the rest of what only images can tell.
        image_size: Pixels a side that it saw; ``None`` in a report that does not say.
        notes: What did not go as usual, a sentence each.
        assumptions: What the audit took for granted, the most important first, a sentence each.
        flagged: Samples with a label issue.
        unreadable: Samples whose image could not be read.
        duplicates: Samples that have a byte-identical copy.
        conflicting: Those among them whose copies came with another label.
        near_duplicates: Samples whose picture another one shows too, byte-identical ones included.
        near_duplicate_sets: How many such pictures there are.
        conflicting_near_duplicates: Those samples among them that came with several labels.
        leaks: Samples whose picture, exact or near, is in several splits.
        outliers: Samples whose image is unlike all others.
        dark: Samples whose image is nearly black.
        bright: Samples whose image is nearly white.
        blurry: Samples whose image has hardly an edge.
        odd_size: Samples whose image is much larger or smaller than the others.
        worst: The flagged samples, most surely wrong first.
        confused: The pairs of classes, most flagged first.
        by_class: The classes, most flagged first.
        training: How the networks were trained; ``None`` if only heads were.
    """

    samples: int
    judged: int
    classes: int
    noise_rate: float | None
    noise_rate_interval: tuple[float, float] | None
    expected_precision: float | None
    expected_recall: float | None
    backbone: str | None
    image_size: int | None
    notes: tuple[str, ...]
    assumptions: tuple[str, ...]
    flagged: int
    unreadable: int | None
    duplicates: int | None
    conflicting: int | None
    near_duplicates: int | None
    near_duplicate_sets: int | None
    conflicting_near_duplicates: int | None
    leaks: int | None
    outliers: int | None
    dark: int | None
    bright: int | None
    blurry: int | None
    odd_size: int | None
    worst: tuple[FlaggedRow, ...]
    confused: tuple[ConfusedPair, ...]
    by_class: tuple[ClassSummary, ...]
    training: TrainingSummary | None

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return asdict(self)


def summarize(
    report: Report,
    *,
    class_name: str | None = None,
    top: int = 20,
    training: TrainingSummary | None = None,
) -> Summary:
    """Return a report in figures; ``pred_probs`` is not looked at.

    Args:
        report: The report.
        class_name: Show in ``worst``, ``confused`` and ``by_class`` only the samples that came with
            this label or should have it; the figures above them stay those of the whole.
        top: How many rows ``worst`` and ``confused`` hold at most.
        training: Of the run, by `labelfix.report.training_log`; the report alone does not say.

    Raises:
        ReportError: The report has no such class.
    """
    given = _codes(report, "given_label")
    suggested = _codes(report, "suggested_label")
    rows = np.flatnonzero(_column(report, "is_label_issue"))
    class_code = None if class_name is None else find_class(report.class_names, class_name)
    if class_code is not None:
        rows = rows[(given[rows] == class_code) | (suggested[rows] == class_code)]
    by_class = _by_class(report, given)
    expected = _expected(report)
    return Summary(
        samples=len(report),
        judged=len(report) - report.table["label_error_probability"].null_count,
        classes=len(report.class_names),
        noise_rate=report.run.noise_rate,
        noise_rate_interval=report.run.noise_rate_interval,
        expected_precision=_finite(expected.precision),
        expected_recall=_finite(expected.recall),
        backbone=report.run.backbone,
        image_size=report.run.settings.get("image_size"),
        notes=tuple(report.run.settings.get("notes") or ()),
        assumptions=tuple(assumption.text for assumption in report.run.assumptions),
        flagged=_count(report, "is_label_issue"),
        unreadable=_count_images(report, "is_unreadable_issue"),
        duplicates=_count_images(report, "is_exact_duplicate_issue"),
        conflicting=_count_images(report, "is_conflicting_duplicate_issue"),
        **_kinds(report),
        worst=_worst(report, rows, top),
        confused=_confused(report.class_names, given[rows], suggested[rows], top),
        by_class=by_class if class_code is None else _only(by_class, report, class_code),
        training=training,
    )


def find_class(class_names: Sequence[Label], name: str) -> int:
    """Return the code of the class that is written ``name``.

    Raises:
        ReportError: There is none; the hint names those that look alike.
    """
    written = [str(class_name) for class_name in class_names]
    if name in written:
        return written.index(name)
    near = difflib.get_close_matches(name, written) or written[:10]
    raise ReportError(f"no class is called {name!r}", hint=f"choose one of: {', '.join(near)}")


def _expected(report: Report) -> ExpectedQuality:
    wrong = _column(report, "label_error_probability")
    return expected_quality(np.nan_to_num(wrong), _column(report, "is_label_issue"))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _only(
    by_class: tuple[ClassSummary, ...], report: Report, code: int
) -> tuple[ClassSummary, ...]:
    return tuple(row for row in by_class if row.label == report.class_names[code])


def _column(report: Report, name: str) -> NDArray[Any]:
    values: NDArray[Any] = report.table[name].to_numpy()
    return values


def _count(report: Report, name: str) -> int:
    return int(np.count_nonzero(_column(report, name)))


def _count_images(report: Report, name: str) -> int | None:
    return None if report.run.backbone is None else _count(report, name)


def _kinds(report: Report) -> dict[str, int | None]:
    """Return how many samples have an issue of each kind; ``None`` where none was looked for."""
    counts = {
        "near_duplicates": _count(report, "is_near_duplicate_issue"),
        "near_duplicate_sets": pc.count_distinct(report.table["near_duplicate_set"]).as_py(),
        "conflicting_near_duplicates": _count(report, "is_conflicting_near_duplicate_issue"),
        "leaks": int(np.count_nonzero(leaking_rows(report.table))),
        "outliers": _count(report, "is_outlier_issue"),
        **{kind: _count(report, f"is_{kind}_issue") for kind in ("dark", "bright", "blurry")},
        "odd_size": _count(report, "is_odd_size_issue"),
    }
    was_looked = report.run.settings.get("issues") is not None
    return counts if was_looked else dict.fromkeys(counts)


def _codes(report: Report, name: str) -> NDArray[np.int64]:
    """Return ``(N,)`` positions in ``class_names``, ``MISSING`` where the label is null."""
    names = pa.array(report.class_names, label_type(report.class_names))
    codes = pc.index_in(report.table[name], names).fill_null(MISSING)
    return codes.to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def _worst(report: Report, rows: NDArray[np.int64], top: int) -> tuple[FlaggedRow, ...]:
    error = _column(report, "label_error_probability")[rows]
    worst = rows[np.argsort(-error, kind="stable")[:top]]
    names = list(FlaggedRow.__slots__)
    table = report.table.select(names).take(pa.array(worst, pa.int64()))
    return tuple(FlaggedRow(**row) for row in table.to_pylist())


def _confused(
    class_names: Sequence[Label],
    given: NDArray[np.int64],
    suggested: NDArray[np.int64],
    top: int,
) -> tuple[ConfusedPair, ...]:
    size = len(class_names)
    pairs, counts = np.unique(given * size + suggested, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:top]
    return tuple(
        ConfusedPair(class_names[pair // size], class_names[pair % size], count)
        for pair, count in zip(pairs[most].tolist(), counts[most].tolist(), strict=True)
    )


def _by_class(report: Report, given: NDArray[np.int64]) -> tuple[ClassSummary, ...]:
    size = len(report.class_names)
    is_flagged = _column(report, "is_label_issue")
    samples = np.bincount(given[given != MISSING], minlength=size)
    flagged = np.bincount(given[is_flagged & (given != MISSING)], minlength=size)
    share = flagged / np.maximum(samples, 1)
    wrong = _column(report, "label_error_probability")
    is_judged = ~np.isnan(wrong) & (given != MISSING)
    judged = np.bincount(given[is_judged], minlength=size)
    expected = np.bincount(given[is_judged], wrong[is_judged], minlength=size)
    return tuple(
        ClassSummary(
            report.class_names[code],
            int(samples[code]),
            int(flagged[code]),
            float(share[code]),
            float(expected[code] / judged[code]) if judged[code] else None,
        )
        for code in np.argsort(-flagged, kind="stable").tolist()
    )
