"""The way from probabilities that some model gave to a report: no images, no training.

Letters: N samples, K classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.arguments import checks_arguments, named
from labelfix.audit_steps import AuditResult, Clock, said
from labelfix.config import FlagConfig
from labelfix.corrections import correct
from labelfix.decisions import read_decisions
from labelfix.errors import ConfigError, LabelfixError, UnreadableImage
from labelfix.html.wishes import NO_IMAGES, no_pictures
from labelfix.html.writing import write_page
from labelfix.label_agreement import notes_on_labels
from labelfix.noise_matrix import NOISE_MATRIX_NAME
from labelfix.pred_probs import GivenPredProbs, fingerprint_of, open_pred_probs
from labelfix.probability_store import blocks
from labelfix.records import (
    MISSING,
    PRED_PROBS_KIND,
    Assumption,
    DatasetSource,
    Duplicates,
    Judgeable,
    LabeledDataset,
    OnProgress,
    Reviewed,
    no_progress,
)
from labelfix.report import (
    REPORT_NAME,
    Report,
    RunInfo,
    build_verdicts,
    probability_lists,
    read_report_table,
    row_group_rows,
    write_report,
)
from labelfix.reviewed import (
    Decisions,
    copy_decisions,
    decisions_of,
    digest_of,
    refuse_to_replace,
    reviewed_by,
    settings_with,
)
from labelfix.run_folder import RunFolder
from labelfix.scores import score_probabilities

LIBRARIES = ("labelfix", "numpy", "pyarrow", "scipy")
"""Whose versions a report names."""


@checks_arguments
def audit_pred_probs(
    pred_probs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    precision: float | None = None,
    budget: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    decisions: str | Path | None = None,
    force: bool = False,
    on_progress: OnProgress = no_progress,
) -> AuditResult:
    """Find the wrong labels by probabilities that you have, and write a report of them.

    Args:
        pred_probs: A file with the given label and the probabilities of each sample, **from a model
            that never trained on it**: CSV or Parquet with ``sample_id``, ``given_label`` and
            ``prob:<class>`` columns, or ``.npz`` with ``pred_probs``, ``labels`` and
            ``class_names``. Of several files, one a model, the mean is taken.
        out: The RUN folder to write.
        precision: Flag as many labels as leave this share of the flags right; ``None`` flags as
            many as make the expected F1 the highest.
        budget: Flag this many labels instead; fewer rather than some of equally doubtful ones.
        overwrite: Replace the run that ``out`` holds.
        resume: If ``out`` holds this very run, finished, leave it as it is.
        decisions: A RUN folder, ``out`` itself perhaps, with decisions of people on these samples:
            scores build on them, and they are copied to ``out``.
        force: Go on where labels and probabilities look as if they did not belong together, their
            columns or rows in another order, which is refused otherwise.
        on_progress: Told how far each stage is.

    Raises:
        ConfigError: ``precision`` or ``budget`` cannot be used.
        DatasetError: A file cannot be used, its columns or rows look mixed up, or the files do not
            fit each other.
        DecisionsError: There are no decisions, or they cannot be used.
        RunError: ``out`` holds a run already, or cannot be written to.
    """
    flags = FlagConfig(precision=precision, budget=budget)
    files = [pred_probs] if isinstance(pred_probs, str | Path) else pred_probs
    paths = [Path(path).absolute() for path in files]
    if not paths:
        raise ConfigError(f"{named('pred_probs')} names no file", hint="name one, or one a model")
    out = Path(out)
    folder = RunFolder(out)
    with folder.held(may_hold_run=overwrite or resume):
        read_decisions(out)  # the page tells them: better to fail before the work than after it
        fingerprint = fingerprint_of(paths)
        source = None if decisions is None else Path(decisions)
        decided = decisions_of(source)
        refuse_to_replace(source, out)
        claim = {
            "config": {"pred_probs": len(paths), "flags": asdict(flags), "force": force},
            "fingerprint": fingerprint,
            "decisions": digest_of(decided),
        }
        if resume and folder.is_finished(claim):
            copy_decisions(source, out)  # the run may have been cut off just before it did so
            folder.close()
            return AuditResult(out, read_report_table(out, pred_probs=False))
        folder.claim(claim, overwrite=overwrite, resume=resume)
        try:
            report = _run(
                paths, fingerprint, decided, folder, flags, on_progress, source, force=force
            )
        except LabelfixError:  # the mended command shall find its RUN free
            folder.release()
            raise
        return AuditResult(out, report)


def _run(
    paths: Sequence[Path],
    fingerprint: str,
    decided: Decisions | None,
    folder: RunFolder,
    flags: FlagConfig,
    on_progress: OnProgress,
    source: Path | None,
    *,
    force: bool,
) -> Report:
    clock = Clock()
    with clock.stage("reading"):
        given = open_pred_probs(paths, folder.path, on_progress, force=force)
    reviewed = reviewed_by(decided, given.sample_id, given.given_label, given.class_names)
    with clock.stage("scoring"), said("weighing the evidence", on_progress):
        report = _judge(given, reviewed, paths, fingerprint, flags)
        report = replace(report, run=replace(report.run, run_id=folder.run_id))
    with clock.stage("writing the report"), said("writing the report", on_progress):
        write_report(report, folder.report_path, _lists(given))
    folder.remove_replaced([REPORT_NAME, NOISE_MATRIX_NAME])
    with said("drawing the page", on_progress):
        write_page(folder.path, report, no_pictures(NO_IMAGES))
    copy_decisions(source, folder.path)
    folder.finish(_run_json(given, report, clock))
    folder.close()
    return report


def _judge(
    given: GivenPredProbs,
    reviewed: Reviewed | None,
    paths: Sequence[Path],
    fingerprint: str,
    flags: FlagConfig,
) -> Report:
    size = len(given)
    is_judged = _is_judged(given)
    rows = np.flatnonzero(is_judged)
    scores = score_probabilities(given.store, rows, given.given_label, reviewed)
    nothing = np.full(size, MISSING, np.int64)
    source = DatasetSource(PRED_PROBS_KIND, paths[0], given.columns)
    corrections = correct(scores, given.given_label != MISSING, flags)
    notes = notes_on_labels(
        given.given_label,
        scores.predicted_label,
        corrections.is_label_issue,
        len(given.class_names),
        by="probabilities",
    )
    settings = {
        PRED_PROBS_KIND: [str(path) for path in paths],
        **({"notes": notes} if notes else {}),
    }
    return build_verdicts(
        dataset=LabeledDataset(
            sample_id=given.sample_id,
            split=pa.nulls(size, pa.string()),
            given_label=given.given_label,
            class_names=given.class_names,
            images=NoImages(size),
            source=source,
            fingerprint=fingerprint,
        ),
        unreadable={},
        judgeable=Judgeable(is_judged, nothing.astype(np.int16), given.why_not),
        scores=scores,
        corrections=corrections,
        duplicates=Duplicates(nothing, np.zeros(size, np.bool_)),
        kinds=None,
        reviewed=reviewed,
        run=RunInfo(
            source=source,
            fingerprint=fingerprint,
            noise_rate=scores.noise_rate,
            noise_rate_interval=scores.noise_rate_interval,
            backbone=None,
            seed=None,
            versions={name: version(name) for name in LIBRARIES},
            settings=settings_with(reviewed, settings),
            assumptions=given.assumptions + _left_out(given, rows),
        ),
    )


def _left_out(given: GivenPredProbs, rows: NDArray[np.int64]) -> tuple[Assumption, ...]:
    """Return what is assumed of classes that no judged sample was given, if they are ever first."""
    known = np.zeros(len(given.class_names), np.bool_)
    known[given.given_label[rows]] = True
    if known.all() or not len(rows):
        return ()
    first = np.zeros(len(known), np.int64)
    for block in blocks(len(rows), len(known)):
        best = given.store.read(rows[block]).argmax(axis=1)
        first += np.bincount(best, minlength=len(known))
    first[known] = 0
    named = np.argsort(-first, kind="stable")[: np.count_nonzero(first)]
    if not len(named):
        return ()
    names = ", ".join(repr(given.class_names[code]) for code in named[:3])
    more = f" and {len(named) - 3} more classes" if len(named) > 3 else ""
    text = (
        f"no sample was given {names}{more}, so they are never suggested and their probabilities, "
        f"the highest of {first.sum():,} samples, are left out; label a sample so to count them"
    )
    return (Assumption("probabilities", text),)


def _is_judged(given: GivenPredProbs) -> np.ndarray[Any, np.dtype[np.bool_]]:
    is_judged = np.ones(len(given), np.bool_)
    is_judged[list(given.why_not)] = False
    return is_judged


def _lists(given: GivenPredProbs) -> Iterator[pa.ChunkedArray]:
    """Yield the probabilities of one row group after the other."""
    is_judged = _is_judged(given)
    step = row_group_rows(len(given.class_names))
    for start in range(0, len(given), step):
        rows = slice(start, min(start + step, len(given)))
        yield probability_lists(given.store.read(rows), is_judged[rows])


def _run_json(given: GivenPredProbs, report: Report, clock: Clock) -> Mapping[str, Any]:
    return {
        **report.run.to_json(),
        "samples": len(given),
        "class_names": list(given.class_names),
        "seconds": clock.seconds,
    }


class NoImages:
    """The images of N samples of which none is known.

    Args:
        size: N.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        """Return N."""
        return self._size

    def read(self, index: int) -> bytes:
        """Refuse.

        Raises:
            UnreadableImage: Always.
        """
        raise UnreadableImage("only probabilities were given")

    def location(self, index: int) -> str:
        """Return "": there is no image."""
        return ""
