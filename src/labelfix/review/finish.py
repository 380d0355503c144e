"""The end of a review: what became of the labels, and the export that makes them a clean data set.

The numbers are those of the plan by which ``labelfix export`` writes, so the page says before what
the export does after.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from labelfix.data.decisions import folder_of_run
from labelfix.data.remote import is_remote
from labelfix.errors import ConfigError, LabelfixError, RunError
from labelfix.exports.export import (
    ExportFormat,
    ExportResult,
    export,
    fitting_formats,
    suffix_of,
)
from labelfix.exports.leftovers import (
    Conflict,
    Untouched,
    conflicts_of,
    untouched_of,
    wrong_left,
)
from labelfix.exports.plan import ExportPlan, plan_export
from labelfix.modalities.base import Renderer
from labelfix.report.html.page import write_page
from labelfix.report.run_folder import PAGE_NAME
from labelfix.report.run_locks import locked
from labelfix.report.view import ReportView
from labelfix.review.session import Session
from labelfix.types import MEMORY_KIND, MISSING, Codes, Label

CLASSES_SHOWN = 12
CONFLICTS_SHOWN = 20
COPIES_SHOWN = 4


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What a person wants to export, as ``labelfix export`` takes it.

    Args:
        to: The file or the folder to write.
        format: What to write.
        min_probability: How sure the audit has to be where nobody decided, 0 to 1.
        drop: Whether to leave out what is as surely wrong without a sure suggestion.
        overwrite: Whether to replace a file that is there.
    """

    to: str
    format: ExportFormat
    min_probability: float
    drop: bool
    overwrite: bool


@dataclass(frozen=True, slots=True)
class ClassEnd:
    """What becomes of one class.

    Args:
        name: The class.
        before: Samples that came with it.
        after: Samples of the export that have it.
        away: Samples that came with it and get another label.
        to: Samples that came with another label, or none, and get it.
        dropped: Samples that came with it and are left out.
    """

    name: Label
    before: int
    after: int
    away: int
    to: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Copy:
    """One of the byte-identical samples that contradict each other, and the label that it gets."""

    row: int
    sample_id: str
    label: Label | None


@dataclass(frozen=True, slots=True)
class Finish:
    """What became of the labels.

    Args:
        samples: Rows of the report.
        noise_rate: The estimated share of wrong labels before the review; ``None`` if not scored.
        noise_rate_interval: Between which shares it lies with a probability of 90 %.
        rate_after: The share of wrong labels that an export gives, by the same estimate.
        rate_after_interval: Between which shares it lies likewise.
        flagged: Labels that the audit flagged.
        undecided: Those without a decision.
        changed: Labels that an export changes, decided ones among them.
        changed_by_audit: Those of them that nobody decided: the audit is sure.
        left_out: Samples that an export leaves out.
        untouched: Flagged labels that an export keeps though nobody decided on them.
        classes: The classes of which most changes, most first.
        other_classes: How many classes change besides.
        conflicts: Sets of byte-identical samples that still have different labels, the first ones.
        conflict_count: How many such sets there are.
        formats: The forms that can be written.
        places: A free place for each of them.
        notes: What did not go as usual, a sentence each.
    """

    samples: int
    noise_rate: float | None
    noise_rate_interval: tuple[float, float] | None
    rate_after: float | None
    rate_after_interval: tuple[float, float] | None
    flagged: int
    undecided: int
    changed: int
    changed_by_audit: int
    left_out: int
    untouched: Untouched
    classes: tuple[ClassEnd, ...]
    other_classes: int
    conflicts: tuple[tuple[Copy, ...], ...]
    conflict_count: int
    formats: tuple[ExportFormat, ...]
    places: dict[str, str]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the end as JSON values."""
        return asdict(self)


def finish_of(session: Session, *, min_probability: float, drop: bool) -> Finish:
    """Return what became of the labels so far, and what an export would write.

    Raises:
        ConfigError: ``min_probability`` is no probability.
        DecisionsError: The decisions do not fit the report.
    """
    view = session.decided_view()
    plan = plan_export(view, min_probability=min_probability, drop=drop)
    conflicts = conflicts_of(view, plan)
    classes = sorted(_class_ends(view, plan), key=lambda end: -(end.away + end.to + end.dropped))
    run, formats = view.report.run, fitting_formats(view)
    is_decided = plan.decided.is_decided
    after = wrong_left(view, plan)
    return Finish(
        samples=len(view),
        noise_rate=run.noise_rate,
        noise_rate_interval=run.noise_rate_interval,
        rate_after=after.rate,
        rate_after_interval=after.interval,
        flagged=int(np.count_nonzero(view.is_flagged)),
        undecided=int(np.count_nonzero(view.is_flagged & ~is_decided)),
        changed=plan.changed,
        changed_by_audit=int(np.count_nonzero(plan.is_changed & ~is_decided[plan.rows])),
        left_out=len(plan.left_out),
        untouched=untouched_of(view, plan, min_probability=min_probability),
        classes=tuple(classes[:CLASSES_SHOWN]),
        other_classes=len(classes[CLASSES_SHOWN:]),
        conflicts=tuple(_copies(view, found) for found in conflicts.first(CONFLICTS_SHOWN)),
        conflict_count=len(conflicts),
        formats=formats,
        places={chosen: str(_free_place(view, session.run, chosen)) for chosen in formats},
        notes=plan.decided.notes,
    )


class Exporter:
    """Writes exports of a review, one at a time.

    Args:
        session: The review.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._writing = Lock()

    def write(self, request: ExportRequest) -> ExportResult:
        """Write what ``labelfix export`` writes.

        Raises:
            LabelfixError: As `labelfix.exports.export.export` does, and if another export runs.
        """
        if not request.to.strip():
            raise ConfigError("there is no place to write to", hint="type the path of TO")
        if not self._writing.acquire(blocking=False):
            raise RunError("another export is being written", hint="wait until it is done")
        try:
            result = export(
                self._session.run,
                request.to,
                min_probability=request.min_probability,
                drop=request.drop,
                format=request.format,
                overwrite=request.overwrite,
            )
            return replace(result, to=result.to.absolute())
        except OSError as error:
            raise RunError(f"cannot write {request.to}: {error}") from error
        finally:
            self._writing.release()


def write_page_again(session: Session, renderer: Renderer) -> Path | None:
    """Write the page of the run with what was decided; return where it is.

    ``None`` where the run has no page, or it cannot be written: the review itself is safe, and
    ``labelfix show RUN --html`` says what is wrong.
    """
    folder = folder_of_run(session.run)
    if not (folder / PAGE_NAME).is_file():
        return None
    try:
        with locked(folder):  # an audit that replaces the run would write its own page
            return write_page(folder, session.view.report, renderer)
    except LabelfixError:
        return None


def _copies(view: ReportView, found: Conflict) -> tuple[Copy, ...]:
    """Return the first samples of a set, one of each label before others."""
    labels = found.labels
    places = sorted(range(len(labels)), key=lambda place: labels.index(labels[place]) != place)
    return tuple(
        Copy(row, view.names_of([row])[0], label)
        for row, label in ((found.rows[place], labels[place]) for place in places[:COPIES_SHOWN])
    )


def _class_ends(view: ReportView, plan: ExportPlan) -> Iterator[ClassEnd]:
    """Tell of the classes of which something changes, those that decisions made among them."""
    names, after = plan.names, plan.code
    given = view.given[plan.rows]

    def counted(values: Codes) -> list[int]:
        found = np.bincount(values[values != MISSING], minlength=len(names))
        return found.tolist()  # type: ignore[no-any-return]

    ends = zip(
        names,
        counted(view.given),
        counted(after),
        counted(given[plan.is_changed]),
        counted(after[plan.is_changed]),
        counted(view.given[plan.left_out]),
        strict=True,
    )
    for name, *numbers in ends:
        if any(numbers[2:]):
            yield ClassEnd(name, *numbers)


def _free_place(view: ReportView, run: Path, chosen: ExportFormat) -> Path:
    """Return a path beside the data set, or else beside the run, where nothing is."""
    source, suffix = view.report.run.source, suffix_of(view, chosen)
    folder = folder_of_run(run).absolute()
    is_here = source.kind != MEMORY_KIND and not is_remote(source.path)
    beside = source.path.absolute() if is_here else folder
    if not beside.parent.is_dir():
        beside = folder
    stem = beside.name.removesuffix(suffix) if suffix else beside.stem or beside.name
    names = (f"{stem}-clean{number}{suffix}" for number in ("", *(f"-{n}" for n in range(2, 100))))
    free = (beside.with_name(name) for name in names)
    return next((place for place in free if not place.exists()), beside.with_name(f"{stem}-clean"))
