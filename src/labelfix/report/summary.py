"""What a report says on the whole, for the end of an audit and for ``labelfix show``.

Letters: N samples, K classes.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.errors import ReportError
from labelfix.report.checks import error_rate
from labelfix.report.training_log import TrainingSummary
from labelfix.report.view import LABEL, LEAKAGE, ReportView, count_pairs
from labelfix.scoring.flags import expected_quality
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
        new: Flagged ones that nobody decided on.
        noise_rate: The estimated share of wrong labels among those that were scored; ``None`` if
            none was.
    """

    label: Label
    samples: int
    flagged: int
    flagged_share: float
    new: int
    noise_rate: float | None


@dataclass(frozen=True, slots=True)
class DecidedSuspects:
    """What people decided so far.

    Args:
        kept: Flagged samples whose label they kept.
        relabeled: Those that they relabeled.
        dropped: Those that they dropped.
        unsure: Those on which they were not sure.
        left: Flagged samples without a decision.
        others: Decisions on samples that are not flagged.
    """

    kept: int
    relabeled: int
    dropped: int
    unsure: int
    left: int
    others: int

    @property
    def decided(self) -> int:
        """Return how many flagged samples have a decision."""
        return self.kept + self.relabeled + self.dropped + self.unsure


@dataclass(frozen=True, slots=True)
class Summary:
    """A report in figures.

    Args:
        samples: N.
        scored: Samples whose label was scored.
        classes: K.
        noise_rate: The estimated share of wrong labels among the scored samples, 0 to 1; ``None``
            when nothing was scored.
        noise_rate_interval: Between which shares it lies with a probability of 90 %.
            Labels that somebody decided on count as known, here and in what follows.
        expected_precision: The share of flags that are right, as far as can be expected; ``None``
            without flags.
        expected_recall: The share of wrong labels that are flagged, likewise; ``None`` where no
            wrong label is expected.
        new_precision: As ``expected_precision``, of the flagged labels that nobody decided on.
        modality: The kind of the samples; ``None`` where probabilities were given.
        backbone: The network that looked at the images; ``None`` where probabilities were given and
            no image was looked at, as in the rest of what only images can tell.
        image_size: Pixels a side that it saw; ``None`` in a report that does not say.
        notes: What did not go as usual, a sentence each.
        assumptions: What the audit took for granted, the most important first, a sentence each.
        flagged: Samples with a label issue.
        decided: What people decided; ``None`` where they decided nothing.
        unreadable: Samples that could not be read.
        duplicates: Samples that have a byte-identical copy.
        conflicting: Those among them whose copies came with another label.
        near_duplicates: Samples with a near-copy, byte-identical ones included.
        near_duplicate_sets: How many sets of such copies there are.
        conflicting_near_duplicates: Those samples among them that came with several labels.
        leaks: Samples with a copy, exact or near, in another split.
        outliers: Samples unlike all others.
        checks: By kind, the samples that each other check found; ``None`` where nobody looked.
        worst: The flagged samples that nobody decided on, most surely wrong first.
        confused: Their pairs of classes, most flagged first.
        by_class: The classes, most flagged first.
        training: How the networks were trained; ``None`` if only heads were.
    """

    samples: int
    scored: int
    classes: int
    noise_rate: float | None
    noise_rate_interval: tuple[float, float] | None
    expected_precision: float | None
    expected_recall: float | None
    new_precision: float | None
    modality: str | None
    backbone: str | None
    image_size: int | None
    notes: tuple[str, ...]
    assumptions: tuple[str, ...]
    flagged: int
    decided: DecidedSuspects | None
    unreadable: int | None
    duplicates: int | None
    conflicting: int | None
    near_duplicates: int | None
    near_duplicate_sets: int | None
    conflicting_near_duplicates: int | None
    leaks: int | None
    outliers: int | None
    checks: Mapping[str, int | None]
    worst: tuple[FlaggedRow, ...]
    confused: tuple[ConfusedPair, ...]
    by_class: tuple[ClassSummary, ...]
    training: TrainingSummary | None

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values; each check is a key beside the others."""
        values = asdict(self)
        return {**values.pop("checks"), **values}


def summarize(
    view: ReportView,
    *,
    class_name: str | None = None,
    top: int = 20,
    training: TrainingSummary | None = None,
) -> Summary:
    """Return a report in figures; ``pred_probs`` is not looked at.

    Args:
        view: The report, and what people decided.
        class_name: Show in ``worst``, ``confused`` and ``by_class`` only the samples that came with
            this label or should have it; the figures above them stay those of the whole.
        top: How many rows ``worst`` and ``confused`` hold at most.
        training: Of the run, by `labelfix.report.training_log`; the report alone does not say.

    Raises:
        ReportError: The report has no such class.
    """
    run, names = view.report.run, view.class_names
    is_decided, rows = view.is_decided, view.new_suspects
    class_code = None if class_name is None else find_class(names, class_name)
    if class_code is not None:
        is_of_class = (view.given[rows] == class_code) | (view.suggested[rows] == class_code)
        rows = rows[is_of_class]
    by_class = _by_class(view)
    wrong = _wrong(view)
    expected = expected_quality(wrong, view.is_flagged)
    new = expected_quality(wrong, view.is_flagged & ~is_decided)
    noise_rate, interval = _noise_rate(view)
    return Summary(
        samples=len(view),
        scored=int(np.count_nonzero(view.is_scored)),
        classes=len(names),
        noise_rate=noise_rate,
        noise_rate_interval=interval,
        expected_precision=_finite(expected.precision),
        expected_recall=_finite(expected.recall),
        new_precision=_finite(new.precision),
        modality=run.modality,
        backbone=run.backbone,
        image_size=run.settings.get("image_size"),
        notes=tuple(run.settings.get("notes") or ()),
        assumptions=tuple(assumption.text for assumption in run.assumptions),
        flagged=view.count(LABEL) or 0,
        decided=_decided(view) if is_decided.any() else None,
        **{name: view.count(kind) for name, kind in _KINDS.items()},
        near_duplicate_sets=_near_duplicate_sets(view),
        checks={kind: view.count(kind) for kind in _checked(view)},
        worst=_worst(view, rows[:top]),
        confused=_confused(view, rows, top),
        by_class=tuple(
            row for row in by_class if class_code is None or row.label == names[class_code]
        ),
        training=training,
    )


def _wrong(view: ReportView) -> NDArray[np.float32]:
    """Return ``(N,)`` how probably each label is wrong; 0 where nobody knows."""
    wrong = np.nan_to_num(view.error_probability)
    wrong[view.decided.has("keep", "relabel")] = 0
    wrong[view.is_decided_wrong] = 1
    return wrong


def _noise_rate(view: ReportView) -> tuple[float | None, tuple[float, float] | None]:
    """Return the estimated share of wrong labels and its interval."""
    run = view.report.run
    if not view.decisions or run.noise_rate is None or run.noise_rate_interval is None:
        return run.noise_rate, run.noise_rate_interval
    try:
        rate = error_rate(view)
    except ReportError:  # nothing was scored, and nobody was sure
        return run.noise_rate, run.noise_rate_interval
    return rate.estimate, (rate.low, rate.high)


def _decided(view: ReportView) -> DecidedSuspects:
    flagged, decided = view.is_flagged, view.decided

    def count(*actions: str) -> int:
        return int(np.count_nonzero(decided.has(*actions) & flagged))

    return DecidedSuspects(
        kept=count("keep"),
        relabeled=count("relabel"),
        dropped=count("drop"),
        unsure=count("unsure"),
        left=len(view.new_suspects),
        others=int(np.count_nonzero(view.is_decided & ~flagged)),
    )


_KINDS = {
    "unreadable": "unreadable",
    "duplicates": "exact_duplicate",
    "conflicting": "conflicting_duplicate",
    "near_duplicates": "near_duplicate",
    "conflicting_near_duplicates": "conflicting_near_duplicate",
    "leaks": LEAKAGE,
    "outliers": "outlier",
}
"""Which kind of issue a figure counts."""


def _checked(view: ReportView) -> list[str]:
    """Return the kinds of issue of single samples that have no figure of their own."""
    others = {LABEL, *_KINDS.values()}
    return [kind for kind in view.kinds if kind not in others]


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


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _near_duplicate_sets(view: ReportView) -> int | None:
    if not view.tells_of("near_duplicate"):
        return None
    return len(np.unique(view.near_set[view.near_set != MISSING]))


def _worst(view: ReportView, rows: NDArray[np.int64]) -> tuple[FlaggedRow, ...]:
    return tuple(FlaggedRow(**row) for row in view.cells(rows, FlaggedRow.__slots__))


def _confused(view: ReportView, rows: NDArray[np.int64], top: int) -> tuple[ConfusedPair, ...]:
    names = view.class_names
    pairs = count_pairs(view.given[rows], view.suggested[rows], len(names))
    return tuple(
        ConfusedPair(names[given], names[suggested], count)
        for given, suggested, count in pairs.first(top)
    )


def _by_class(view: ReportView) -> tuple[ClassSummary, ...]:
    """Return a row for each class, those with the most flags first."""
    names, given, wrong = view.class_names, view.given, view.error_probability
    has_label = given != MISSING

    def of_class(is_it: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(given[is_it & has_label], minlength=len(names))

    samples, flagged = of_class(has_label), of_class(view.is_flagged)
    new = of_class(view.is_flagged & ~view.is_decided)
    share = flagged / np.maximum(samples, 1)
    is_scored = view.is_scored & has_label
    scored = of_class(is_scored)
    expected = np.bincount(given[is_scored], wrong[is_scored], minlength=len(names))
    return tuple(
        ClassSummary(
            names[code],
            int(samples[code]),
            int(flagged[code]),
            float(share[code]),
            int(new[code]),
            float(expected[code] / scored[code]) if scored[code] else None,
        )
        for code in np.argsort(-flagged, kind="stable").tolist()
    )
