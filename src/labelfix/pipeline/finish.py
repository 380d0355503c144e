"""What every entrance ends with: flag labels, build the report, write RUN.

It needs no torch, as given probabilities are audited without it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.config import AuditConfig, settings_to_report
from labelfix.data.decisions import read_decisions
from labelfix.data.label_agreement import notes_on_labels
from labelfix.data.probability_store import ProbabilityStore, blocks
from labelfix.data.trusted_labels import (
    copy_decisions,
    settings_with,
)
from labelfix.issues.types import IssueKinds
from labelfix.modalities.base import Modality, Renderer
from labelfix.report.build import build_report
from labelfix.report.html.page import write_page
from labelfix.report.io import (
    NOISE_MATRIX_NAME,
    open_written,
    probability_table,
    write_report,
)
from labelfix.report.neighbors import NEIGHBORS_NAME, write_neighbors
from labelfix.report.run_folder import (
    NETWORK_NAMES,
    RunFolder,
)
from labelfix.report.schema import row_group_rows
from labelfix.report.top_classes import kept_classes, top_lists
from labelfix.report.types import Report, RunInfo
from labelfix.report.view import ReportView
from labelfix.scoring.flags import correct
from labelfix.types import (
    MISSING,
    Assumption,
    Duplicates,
    Evidence,
    FoldAssignment,
    LabelScores,
    Reviewed,
    Samples,
)
from labelfix.utils.progress import OnProgress, StageTimer, said
from labelfix.utils.text import as_json, version_of


@dataclass(frozen=True, slots=True, eq=False)
class AuditFindings:
    """What an audit found, before it is written: the same whichever way the samples came.

    Args:
        report: On every sample.
        kinds: What was found of the samples; ``None`` where none was looked at.
        write_networks: Writes the files of networks into RUN; ``None`` if none was trained whole.
        pred_probs: Probabilities that lie apart, a row group of the report at a time; ``None``
            where the report has them.
        top_classes: Of how many classes those are, the likeliest; 0 for all.
    """

    report: Report
    kinds: IssueKinds | None = None
    write_networks: Callable[[Path], None] | None = None
    pred_probs: Iterator[pa.Table] | None = None
    top_classes: int = 0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Origin:
    """Where the probabilities of a report came from.

    Args:
        modality: Of the samples that a model looked at; ``None`` where probabilities were given.
        backbone: The network that looked at them.
        seed: What every random choice was drawn from.
        libraries: Whose versions the report names.
        settings: What shaped the probabilities, as JSON values.
        assumptions: What was taken for granted besides what the samples say themselves.
    """

    modality: Modality | None
    backbone: str | None
    seed: int | None
    libraries: Sequence[str]
    settings: Mapping[str, Any]
    assumptions: tuple[Assumption, ...]


def report_on(
    samples: Samples,
    scores: LabelScores,
    assignment: FoldAssignment,
    duplicates: Duplicates,
    *,
    reviewed: Reviewed | None,
    config: AuditConfig,
    unreadable: Mapping[int, str],
    evidence: Evidence | None,
    kinds: IssueKinds | None,
    origin: Origin,
) -> Report:
    """Flag labels and return the report; what it says of them is the same for every origin."""
    usable = samples.given_label != MISSING
    usable[list(unreadable)] = False
    corrections = correct(scores, usable, config.flags)
    notes = notes_on_labels(
        samples.given_label,
        scores.predicted_label,
        corrections.is_label_issue,
        len(samples.class_names),
        by="probabilities" if origin.modality is None else origin.modality.plural,
    )
    settings = dict(origin.settings)
    if notes:
        settings["notes"] = [*notes, *settings.get("notes", [])]
    if scoring := settings_to_report(config.scoring):
        settings["scoring"] = scoring
    return build_report(
        samples=samples,
        unreadable=unreadable,
        assignment=assignment,
        evidence=evidence,
        scores=scores,
        corrections=corrections,
        duplicates=duplicates,
        kinds=kinds,
        reviewed=reviewed,
        modality=origin.modality,
        run=RunInfo(
            source=samples.source,
            fingerprint=samples.fingerprint,
            noise_rate=scores.noise_rate,
            noise_rate_interval=scores.noise_rate_interval,
            modality=None if origin.modality is None else origin.modality.name,
            backbone=origin.backbone,
            seed=origin.seed,
            versions={name: version_of(name) for name in origin.libraries},
            settings=as_json(settings_with(reviewed, settings)),
            assumptions=samples.assumptions + origin.assumptions,
        ),
    )


def probability_groups(
    probs: ProbabilityStore, is_scored: NDArray[np.bool_], top_classes: int = 0
) -> Iterator[pa.Table]:
    """Yield the probabilities of one row group of a report after the other.

    Args:
        probs: Of N samples.
        is_scored: ``(N,)`` bool: the others are null.
        top_classes: How many classes of each sample are kept, the likeliest; 0 for all.
    """
    step = row_group_rows(kept_classes(probs.classes, top_classes))
    for start in range(0, len(probs), step):
        rows = slice(start, min(start + step, len(probs)))
        if not top_classes:
            yield probability_table(probs.read(rows), is_scored[rows])
            continue
        some = [
            slice(start + block.start, start + block.stop)
            for block in blocks(rows.stop - start, probs.classes)
        ]
        parts = [top_lists(probs.read(part), is_scored[part], top_classes) for part in some]
        yield pa.concat_tables(parts).combine_chunks()


def kept_top(classes: int, top_classes: int) -> tuple[Assumption, ...]:
    """Return what is said of probabilities that a report leaves out.

    Args:
        classes: K.
        top_classes: How many classes of each sample are kept; 0 for all.
    """
    if not 0 < top_classes < classes:
        return ()
    text = (
        f"of each sample the probabilities of its {top_classes:,} likeliest classes are kept, by "
        f"--top-classes; scores were computed from all {classes:,}"
    )
    return (Assumption("probabilities", text),)


def write_run(
    folder: RunFolder,
    findings: AuditFindings,
    samples: Samples,
    renderer: Renderer,
    decisions: Path | None,
    run_json: Mapping[str, Any],
    clock: StageTimer,
    on_progress: OnProgress,
    *,
    part_rows: int,
) -> Report:
    """Write the files of a run; `run.json`, the last, says that all of them are there.

    Returns:
        The report as it was written, on disk.
    """
    report = write_findings(folder, findings, samples, clock, on_progress, part_rows=part_rows)
    return finish_run(folder, report, renderer, decisions, run_json, clock, on_progress)


def write_findings(
    folder: RunFolder,
    findings: AuditFindings,
    samples: Samples,
    clock: StageTimer,
    on_progress: OnProgress,
    *,
    part_rows: int,
) -> Report:
    """Write what was found, and return the report as any reader has it: by columns, on disk.

    Whoever lets go of the findings then holds nothing of what they were made of.
    """
    report = replace(findings.report, run=replace(findings.report.run, run_id=folder.run_id))
    written = [NOISE_MATRIX_NAME]
    with clock.stage("writing the report"), said("writing the report", on_progress):
        if findings.write_networks is not None:
            findings.write_networks(folder.path)
            written += NETWORK_NAMES
        if findings.kinds is not None:
            path = folder.path / NEIGHBORS_NAME
            kinds = findings.kinds
            write_neighbors(kinds.neighbors, samples.sample_id, path, kinds.places)
            written.append(NEIGHBORS_NAME)
        place = write_report(
            report, folder.report_path, findings.pred_probs,
            top_classes=findings.top_classes, part_rows=part_rows,
        )  # fmt: skip
        written.append(place.name)
    folder.remove_replaced(written)
    stored = open_written(place, pred_probs=findings.pred_probs is None)
    return replace(report, columns=stored.columns)


def finish_run(
    folder: RunFolder,
    report: Report,
    renderer: Renderer,
    decisions: Path | None,
    run_json: Mapping[str, Any],
    clock: StageTimer,
    on_progress: OnProgress,
) -> Report:
    """Draw the page of a report that is written, and finish the run."""
    copy_decisions(decisions, folder.path)  # before the page, which tells them
    with said("drawing the page", on_progress):
        write_page(folder.path, report, renderer)
    view = ReportView(report, read_decisions(folder.path))
    folder.finish(
        {
            **report.run.to_json(),
            "suspects": {"flagged": len(view.suspects), "new": len(view.new_suspects)},
            "samples": len(report),
            "class_names": list(report.class_names),
            **run_json,
            "seconds": clock.seconds,
        }
    )
    folder.remove_again()
    folder.close()  # only now: until here the disk may be full
    return report
