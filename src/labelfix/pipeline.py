"""The whole way, from a data set to a report: the only room that knows it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from labelfix.audit_steps import AuditResult, Clock, as_json, said
from labelfix.backbone import choose_device
from labelfix.checkpoints import Checkpoints
from labelfix.config import EMBEDDED_BACKBONE, AuditConfig, FlagConfig
from labelfix.corrections import correct
from labelfix.cross_fitting import FineTuned
from labelfix.dataset import open_dataset
from labelfix.disk_cache import default_cache
from labelfix.distributed import World, joined
from labelfix.errors import ConfigError, LabelfixError
from labelfix.folds import find_duplicates, plan_folds
from labelfix.full_tuning import FullTuning, write_network
from labelfix.head_tuning import HeadTuning
from labelfix.issue_kinds import find_issue_kinds
from labelfix.issue_records import IssueKinds
from labelfix.margin_scores import score_with_margins
from labelfix.neighbor_table import NEIGHBORS_NAME, write_neighbors
from labelfix.records import (
    MISSING,
    Duplicates,
    Evidence,
    Features,
    Judgeable,
    LabeledDataset,
    LabelScores,
    OnProgress,
    Reviewed,
    SeenImages,
    no_progress,
)
from labelfix.report import Report, RunInfo, build_report, write_report
from labelfix.reviewed import (
    Decisions,
    copy_decisions,
    decisions_of,
    digest_of,
    plan_with,
    refuse_to_replace,
    reviewed_by,
    settings_with,
)
from labelfix.run_folder import MODEL_NAME, RunFolder
from labelfix.scores import score_labels

LIBRARIES = ("labelfix", "torch", "timm", "numpy", "pillow", "pyarrow", "scikit-learn")
"""Whose versions a report names."""


def audit(
    data: Path,
    out: Path,
    config: AuditConfig = AuditConfig(),  # noqa: B008 - frozen
    *,
    overwrite: bool = False,
    resume: bool = False,
    half_rate: bool = False,
    decisions: Path | None = None,
    on_progress: OnProgress = no_progress,
) -> AuditResult:
    """Find the wrong labels of a data set and write a report of them.

    Args:
        data: A class folder, a manifest, or Parquet with the images inside.
        out: The RUN folder to write.
        config: How to go about it.
        overwrite: Replace a run that is in ``out`` already.
        resume: Go on with an unfinished run of the same data and configuration.
        half_rate: With ``resume``: from now on at half the learning rate, as training diverged.
        decisions: A RUN folder, ``out`` itself perhaps, whose reviewed labels are trusted; they
            are copied to ``out``.
        on_progress: Told what is going on.

    Raises:
        LabelfixError: Something that the caller can mend: see `labelfix.errors`.
    """
    _refuse_misfits(config, resume=resume, half_rate=half_rate)
    config = _with_absolute_paths(config)
    clock = Clock()
    with clock.stage("reading the data set"):
        dataset = open_dataset(data, config.dataset, on_progress)
    decided = decisions_of(decisions)
    reviewed = reviewed_by(decided, dataset.sample_id, dataset.given_label, dataset.class_names)
    refuse_to_replace(decisions, out)
    folder = RunFolder(out)
    claim = _claim(dataset, config, decided)
    world = World.from_environment()
    if resume and not half_rate and folder.is_finished(claim):
        copy_decisions(decisions, out)  # the run may have been cut off just before it did so
        return AuditResult(run=out, report=folder.report())
    halvings = 0
    if world.is_writer:
        halvings = folder.claim(claim, overwrite=overwrite, resume=resume, half_rate=half_rate)
        if overwrite:
            _checkpoints(folder, claim).remove()  # those of a run that nobody will go on with
    try:
        report = _run(dataset, reviewed, folder, claim, config, halvings, clock, on_progress)
    except LabelfixError:  # the mended command shall find its RUN free
        if world.is_writer:
            folder.release()
        raise
    if world.is_writer:
        copy_decisions(decisions, out)
    return AuditResult(run=out, report=report)


def trains_whole_network(config: AuditConfig) -> bool:
    """Return whether a configuration trains the backbone here, not just heads.

    Raises:
        BackboneError: The device that was asked for is not there.
    """
    device = choose_device(config.backbone.device)
    return config.tune == "full" or (config.tune == "auto" and device.type == "cuda")


def _refuse_misfits(config: AuditConfig, *, resume: bool, half_rate: bool) -> None:
    """Refuse what cannot go together, before anything is read."""
    is_full = trains_whole_network(config)
    if half_rate and not (resume and is_full):
        raise ConfigError(
            "half the learning rate is for whole networks whose training is gone on with",
            hint="use --half-rate together with --resume and --tune full",
        )
    processes = World.from_environment().size
    if not is_full and processes > 1:
        raise ConfigError(
            f"one process trains heads on frozen features, and torchrun started {processes}",
            hint="run `labelfix audit` without torchrun, or train the whole network with "
            "--tune full",
        )
    if not is_full and not config.backbone.pretrained:
        raise ConfigError(
            "the features of a network with random weights say nothing to the heads",
            hint="leave out --no-pretrained, or train the whole network with --tune full",
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What an audit found, before it is written.

    Args:
        report: On every sample.
        evidence: What training saw.
        kinds: What was found of the images; ``None`` in a process that does not write.
        tuned: The networks; ``None`` if only heads were trained.
    """

    report: Report
    evidence: Evidence
    kinds: IssueKinds | None
    tuned: FineTuned | None = None


def _run(
    dataset: LabeledDataset,
    reviewed: Reviewed | None,
    folder: RunFolder,
    claim: Mapping[str, Any],
    config: AuditConfig,
    halvings: int,
    clock: Clock,
    on_progress: OnProgress,
) -> Report:
    if not trains_whole_network(config):
        found = _tune_heads(dataset, reviewed, config, clock, on_progress)
        return _finish(folder, config, dataset, found, clock)
    with joined(choose_device(config.backbone.device)) as world:
        with clock.stage("loading the backbone"), said("loading the backbone", on_progress):
            tuning = FullTuning.load(dataset, config, world, rate_halvings=halvings)
        checkpoints = _checkpoints(folder, claim)
        found = _tune_network(tuning, dataset, reviewed, checkpoints, clock, on_progress)
        if not world.is_writer:
            return found.report
    return _finish(folder, config, dataset, found, clock)


def _tune_heads(
    dataset: LabeledDataset,
    reviewed: Reviewed | None,
    config: AuditConfig,
    clock: Clock,
    on_progress: OnProgress,
) -> _Found:
    with clock.stage("loading the backbone"), said("loading the backbone", on_progress):
        tuning = HeadTuning.load(dataset, config)
    with clock.stage("computing features"):
        seen = tuning.look(dataset, config.cache or default_cache(), on_progress)
    plan = _plan(dataset, reviewed, seen, tuning.folds, config.seed)
    kinds = _compare(dataset, seen, plan.duplicates, config, clock, on_progress)
    with clock.stage("training"):
        evidence = tuning.train(dataset, seen, plan.judgeable, reviewed, on_progress)
    with clock.stage("scoring"), said("weighing the evidence", on_progress):
        info = _run_info(config, dataset, settings_with(reviewed, tuning.settings()))
        scores = score_labels(evidence, dataset.given_label, reviewed)
        report = _judge(dataset, plan, evidence, scores, kinds, info, config.flags)
    return _Found(report, evidence, kinds)


def _tune_network(
    tuning: FullTuning,
    dataset: LabeledDataset,
    reviewed: Reviewed | None,
    checkpoints: Checkpoints,
    clock: Clock,
    on_progress: OnProgress,
) -> _Found:
    config = tuning.config
    with clock.stage("decoding"):
        seen = tuning.look(dataset, config.cache or default_cache(), on_progress)
    plan = _plan(dataset, reviewed, seen, tuning.folds, config.seed)
    with clock.stage("training"):
        tuned = tuning.train(dataset, seen, plan.judgeable, reviewed, checkpoints, on_progress)
    kinds = None
    if tuning.world.is_writer:  # after training, so that no other process waits for it
        features = _frozen_features(dataset, config, clock, on_progress)
        kinds = _compare(dataset, features, plan.duplicates, config, clock, on_progress)
    with clock.stage("scoring"), said("weighing the evidence", on_progress):
        info = _run_info(config, dataset, settings_with(reviewed, tuning.settings(tuned)))
        scores = score_with_margins(tuned.evidence, dataset.given_label, reviewed)
        report = _judge(dataset, plan, tuned.evidence, scores, kinds, info, config.flags)
    return _Found(report, tuned.evidence, kinds, tuned)


def _frozen_features(
    dataset: LabeledDataset, config: AuditConfig, clock: Clock, on_progress: OnProgress
) -> Features:
    """Return what the network saw before it was trained: one pass, as an audit of heads begins.

    Random weights see nothing; the default network looks in their place.
    """
    if not config.backbone.pretrained:
        backbone = replace(config.backbone, name=EMBEDDED_BACKBONE, pretrained=True)
        config = replace(config, backbone=backbone)
    with clock.stage("computing features"):
        frozen = HeadTuning.load(dataset, config)
        return frozen.look(dataset, config.cache or default_cache(), on_progress)


def _compare(
    dataset: LabeledDataset,
    features: Features,
    duplicates: Duplicates,
    config: AuditConfig,
    clock: Clock,
    on_progress: OnProgress,
) -> IssueKinds:
    with clock.stage("comparing images"), said("comparing the images", on_progress):
        return find_issue_kinds(features, dataset.given_label, duplicates, config.issues)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What is known before training: what can be read, is the same, is judged, and was decided."""

    seen: SeenImages
    duplicates: Duplicates
    judgeable: Judgeable
    reviewed: Reviewed | None


def _plan(
    dataset: LabeledDataset, reviewed: Reviewed | None, seen: SeenImages, folds: int, seed: int
) -> _Plan:
    duplicates = find_duplicates(seen, dataset.given_label)
    judgeable = plan_folds(dataset, seen, duplicates, folds=folds, seed=seed)
    judgeable = plan_with(reviewed, judgeable, dataset.given_label)
    return _Plan(seen, duplicates, judgeable, reviewed)


def _judge(
    dataset: LabeledDataset,
    plan: _Plan,
    evidence: Evidence,
    scores: LabelScores,
    kinds: IssueKinds | None,
    info: RunInfo,
    flags: FlagConfig,
) -> Report:
    usable = dataset.given_label != MISSING
    usable[list(plan.seen.unreadable)] = False
    return build_report(
        dataset=dataset,
        unreadable=plan.seen.unreadable,
        judgeable=plan.judgeable,
        evidence=evidence,
        scores=scores,
        corrections=correct(scores, usable, flags),
        duplicates=plan.duplicates,
        kinds=kinds,
        reviewed=plan.reviewed,
        run=replace(
            info,
            settings={**info.settings, "issues": None if kinds is None else dict(kinds.limits)},
            noise_rate=scores.noise_rate,
            noise_rate_interval=scores.noise_rate_interval,
        ),
    )


def _finish(
    folder: RunFolder,
    config: AuditConfig,
    dataset: LabeledDataset,
    found: _Found,
    clock: Clock,
) -> Report:
    with clock.stage("writing the report"):
        if found.tuned is not None:
            write_network(found.tuned, folder.path)
        if found.kinds is not None:
            path = folder.path / NEIGHBORS_NAME
            write_neighbors(found.kinds.neighbours, dataset.sample_id, path)
        folder.write_evidence(found.evidence)
        write_report(found.report, folder.report_path)
    run = _run_json(config, dataset, found.report, clock)
    folder.finish(run, has_network=found.tuned is not None)
    _checkpoints(folder, {}).remove()  # only now: until here the disk may be full
    return found.report


def _checkpoints(folder: RunFolder, claim: Mapping[str, Any]) -> Checkpoints:
    return Checkpoints(folder.path / "checkpoints", json.dumps(claim))


def _with_absolute_paths(config: AuditConfig) -> AuditConfig:
    """Return the configuration as it is understood from any working folder."""
    weights, cache = config.backbone.weights, config.cache
    backbone = replace(config.backbone, weights=weights and weights.absolute())
    return replace(config, backbone=backbone, cache=cache and cache.absolute())


def _claim(
    dataset: LabeledDataset, config: AuditConfig, decided: Decisions | None
) -> dict[str, Any]:
    """Return what makes two runs the same one, as JSON values."""
    return {
        "config": as_json(asdict(config)),
        "fingerprint": dataset.fingerprint,
        "labels": _labels_digest(dataset),
        "decisions": digest_of(decided),
    }


def _labels_digest(dataset: LabeledDataset) -> str:
    digest = hashlib.blake2b(json.dumps(dataset.class_names).encode(), digest_size=16)
    digest.update(dataset.given_label.tobytes())
    return digest.hexdigest()


def _run_info(config: AuditConfig, dataset: LabeledDataset, settings: Mapping[str, Any]) -> RunInfo:
    return RunInfo(
        source=dataset.source,
        fingerprint=dataset.fingerprint,
        noise_rate=None,
        noise_rate_interval=None,
        backbone=config.backbone.name,
        seed=config.seed,
        versions={name: version(name) for name in LIBRARIES},
        settings=as_json(dict(settings)),
    )


def _run_json(
    config: AuditConfig, dataset: LabeledDataset, report: Report, clock: Clock
) -> dict[str, Any]:
    settings = report.run.settings
    content = {
        **report.run.to_json(),
        "config": as_json(asdict(config)),
        "samples": len(dataset),
        "class_names": list(dataset.class_names),
        "threads": torch.get_num_threads(),
        "device_name": _device_name(settings["device"]),
        "seconds": clock.seconds,
    }
    if settings["tune"] == "full":
        content["model"] = (
            f"timm.create_model({config.backbone.name!r}, num_classes={len(dataset.class_names)}, "
            f"checkpoint_path={MODEL_NAME!r}); inputs of {settings['image_size']} pixels"
        )
    return content


def _device_name(kind: str) -> str:
    return torch.cuda.get_device_name() if kind == "cuda" else kind
