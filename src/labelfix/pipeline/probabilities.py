"""The entrance of given probabilities: open them, score, report; nothing is trained."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.arguments import checks_arguments, named
from labelfix.config import AuditConfig
from labelfix.config.file import config_of, flag_changes, overridden, read_settings
from labelfix.config.options import documents_options
from labelfix.data.decisions import read_decisions
from labelfix.data.probabilities import GivenPredProbs, fingerprint_of, open_pred_probs
from labelfix.data.probability_samples import SampleLocation, named_location, open_shown
from labelfix.data.probability_store import blocks
from labelfix.data.trusted_labels import (
    Decisions,
    copy_decisions,
    decisions_of,
    digest_of,
    refuse_to_replace,
    reviewed_by,
)
from labelfix.errors import ConfigError, LabelfixError
from labelfix.modalities.base import Renderer, get_modality, no_pictures
from labelfix.pipeline.budget import MemoryBudget
from labelfix.pipeline.finish import (
    AuditFindings,
    Origin,
    finish_run,
    kept_top,
    probability_groups,
    report_on,
    write_findings,
    write_run,
)
from labelfix.pipeline.result import AuditResult
from labelfix.report.io import REPORT_NAME, read_report_table
from labelfix.report.reopen import NO_IMAGES
from labelfix.report.run_folder import (
    RunFolder,
)
from labelfix.report.types import Report
from labelfix.scoring.scores import score_probabilities
from labelfix.types import (
    MISSING,
    PRED_PROBS_KIND,
    Assumption,
    Duplicates,
    FoldAssignment,
    LabelScores,
    Reviewed,
)
from labelfix.utils.progress import OnProgress, StageTimer, no_progress, said
from labelfix.utils.scratch import large_arrays_in
from labelfix.utils.text import as_json

LIBRARIES = ("labelfix", "numpy", "pyarrow", "scipy")
"""Whose versions a report on given probabilities names."""


OF_PROBABILITIES = ("scoring", "flags", "report")
"""The settings that are of use where probabilities are given."""


def _config_of_probabilities(config: AuditConfig) -> dict[str, Any]:
    return {name: as_json(asdict(getattr(config, name))) for name in OF_PROBABILITIES}


def claim_of_given(
    config: AuditConfig,
    decided: Decisions | None,
    fingerprint: str,
    *,
    models: int,
    force: bool,
    location: SampleLocation | None = None,
) -> dict[str, Any]:
    """Return what makes two runs of given probabilities the same one, as JSON values."""
    shown = {} if location is None else location.to_settings()
    told = _config_of_probabilities(config)
    del told["report"]  # it may change between an audit that was cut off and its resumption
    return {
        "config": {
            "pred_probs": models, "force": force, **told, **shown,
        },
        "fingerprint": fingerprint,
        "decisions": digest_of(decided),
    }  # fmt: skip


@checks_arguments
@documents_options
def audit_pred_probs(
    pred_probs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    images: str | Path | None = None,
    image_column: str | None = None,
    text_column: str | Sequence[str] | None = None,
    config: str | Path | None = None,
    precision: float | None = None,
    budget: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    decisions: str | Path | None = None,
    force: bool = False,
    memory: str | None = None,
    top_classes: int | None = None,
    on_progress: OnProgress = no_progress,
) -> AuditResult:
    """Find the wrong labels by probabilities that you have, and write a report of them.

    Where ``images``, ``image_column`` or ``text_column`` says where the samples are, report.html
    and the review show them.

    Raises:
        ConfigError: ``precision``, ``budget`` or a setting of ``config`` cannot be used, or images
            and texts are named at once.
        DatasetError: A file cannot be used, its columns or rows look mixed up, or the files do not
            fit each other.
        DecisionsError: There are no decisions, or they cannot be used.
        RunError: ``out`` holds a run already, or cannot be written to.
    """
    sections = (*OF_PROBABILITIES, "memory")
    settings = {} if config is None else read_settings(Path(config), sections=sections)
    changes: dict[str, Any] = {"flags": flag_changes(precision, budget)}
    if memory is not None:
        changes["memory"] = memory
    if top_classes is not None:
        changes["report"] = {"top_classes": top_classes}
    whole = config_of(overridden(settings, changes))
    files = [pred_probs] if isinstance(pred_probs, str | Path) else pred_probs
    paths = [Path(path).absolute() for path in files]
    if not paths:
        raise ConfigError(f"{named('pred_probs')} names no file", hint="name one, or one a model")
    if any(path.name == REPORT_NAME and path.parent == Path(out).absolute() for path in paths):
        raise ConfigError(
            f"{out} holds the report that is read, and would replace it",
            hint=f"write to another folder with {named('out')}",
        )
    texts = [text_column] if isinstance(text_column, str) else text_column
    folder_of_images = None if images is None else Path(images).absolute()
    location = named_location(folder_of_images, image_column, texts or ())
    out = Path(out)
    folder = RunFolder(out)
    with folder.held(may_hold_run=overwrite or resume):
        read_decisions(out)  # the page tells them: better to fail before the work than after it
        fingerprint = fingerprint_of(paths)
        source = None if decisions is None else Path(decisions)
        decided = decisions_of(source)
        refuse_to_replace(source, out)
        claim = claim_of_given(
            whole, decided, fingerprint, models=len(paths), force=force, location=location
        )
        if resume and folder.is_finished(claim):
            copy_decisions(source, out)  # the run may have been cut off just before it did so
            folder.close()
            return AuditResult(out, read_report_table(out, pred_probs=False))
        folder.claim(claim, overwrite=overwrite, resume=resume)
        try:
            clock, budgeted = StageTimer(), MemoryBudget.of(whole.memory)
            report, renderer = _scored_and_written(
                paths, fingerprint, decided, folder, whole, on_progress, location, clock, budgeted,
                force=force,
            )  # fmt: skip
            # what was read and scored is gone by now: the page reads the report
            report = finish_run(
                folder, report, renderer, source, _run_json(whole, budgeted), clock, on_progress
            )
        except LabelfixError:  # the mended command shall find its RUN free
            folder.release()
            raise
        return AuditResult(out, report)


def _scored_and_written(
    paths: Sequence[Path],
    fingerprint: str,
    decided: Decisions | None,
    folder: RunFolder,
    config: AuditConfig,
    on_progress: OnProgress,
    location: SampleLocation | None,
    clock: StageTimer,
    memory: MemoryBudget,
    *,
    force: bool,
) -> tuple[Report, Renderer]:
    """Return the report as it was written, and what shows the samples."""
    with clock.stage("reading"), large_arrays_in(folder.path, memory.size):
        given = open_pred_probs(
            paths, folder.path, on_progress, force=force, fingerprint=fingerprint
        )
    memory.refuse_scoring(len(given), len(given.class_names))
    renderer = no_pictures(NO_IMAGES)
    if location is not None:
        store = open_shown(paths[0], given.sample_id, location)
        renderer = get_modality(location.kind).renderer(store, {}, on_progress)
    reviewed = reviewed_by(decided, given.sample_id, given.given_label, given.class_names)
    with (
        clock.stage("scoring"),
        said("weighing the evidence", on_progress),
        large_arrays_in(folder.path, memory.size),
    ):
        report = report_on_given(
            given,
            score_given(given, reviewed, config),
            reviewed,
            config,
            [str(path) for path in paths],
            location,
        )
    written = write_findings(
        folder, _findings(given, report, config), given, clock, on_progress,
        part_rows=config.report.part_rows,
    )  # fmt: skip
    return written, renderer


def score_given(
    given: GivenPredProbs, reviewed: Reviewed | None, config: AuditConfig
) -> LabelScores:
    """Return how far the labels beside given probabilities can be believed."""
    rows = np.flatnonzero(given.is_scored)
    return score_probabilities(
        given.pred_probs, rows, given.given_label, reviewed, config=config.scoring
    )


def report_on_given(
    given: GivenPredProbs,
    scores: LabelScores,
    reviewed: Reviewed | None,
    config: AuditConfig,
    sources: Sequence[str],
    location: SampleLocation | None = None,
) -> Report:
    """Return the report on given probabilities, without the probabilities themselves.

    Args:
        given: The probabilities, with the labels that came with them.
        scores: Of them, as `score_given` returns them.
        reviewed: What people decided about some of them.
        config: How labels are flagged.
        sources: What the probabilities of each model are called.
        location: Where the samples are, if anybody said it.
    """
    no_fold = np.broadcast_to(np.int16(MISSING), len(given))  # one cell that all rows share
    return report_on(
        given,
        scores,
        FoldAssignment(given.is_scored, no_fold, given.exclusion_reason),
        Duplicates.nothing(len(given)),
        reviewed=reviewed,
        config=config,
        unreadable={},
        evidence=None,
        kinds=None,
        origin=Origin(
            modality=None,
            backbone=None,
            seed=None,
            libraries=LIBRARIES,
            settings={
                PRED_PROBS_KIND: list(sources),
                **({} if location is None else location.to_settings()),
            },
            assumptions=_left_out(given, np.flatnonzero(given.is_scored))
            + kept_top(given.listed_classes or len(given.class_names), config.report.top_classes),
        ),
    )


def write_given(
    folder: RunFolder,
    given: GivenPredProbs,
    report: Report,
    config: AuditConfig,
    decisions: Path | None,
    clock: StageTimer,
    on_progress: OnProgress,
) -> Report:
    """Write a run of given probabilities into a folder that was claimed for it."""
    return write_run(
        folder,
        _findings(given, report, config),
        given,
        no_pictures(NO_IMAGES),
        decisions,
        _run_json(config),
        clock,
        on_progress,
        part_rows=config.report.part_rows,
    )


def _findings(given: GivenPredProbs, report: Report, config: AuditConfig) -> AuditFindings:
    kept = _kept_classes(given, config)
    groups = probability_groups(given.pred_probs, given.is_scored, kept)
    return AuditFindings(report, pred_probs=groups, top_classes=kept)


def _run_json(config: AuditConfig, memory: MemoryBudget | None = None) -> dict[str, Any]:
    told = {} if memory is None else {"memory": dict(memory.record())}
    return {"config": _config_of_probabilities(config), **told}


def _kept_classes(given: GivenPredProbs, config: AuditConfig) -> int:
    """Return of how many classes the report keeps probabilities, 0 for all: no more than it got."""
    asked = config.report.top_classes
    return min(asked or given.listed_classes, given.listed_classes or asked)


def _left_out(given: GivenPredProbs, rows: NDArray[np.int64]) -> tuple[Assumption, ...]:
    """Return what is assumed of classes that no scored sample was given, if they are ever first."""
    known = np.zeros(len(given.class_names), np.bool_)
    known[given.given_label[rows]] = True
    if known.all() or not len(rows):
        return ()
    first = np.zeros(len(known), np.int64)
    for block in blocks(len(rows), len(known)):
        best = given.pred_probs.read(rows[block]).argmax(axis=1)
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
