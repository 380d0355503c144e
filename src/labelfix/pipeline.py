"""The whole way, from a data set to a report: the only room that knows it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from labelfix.audit_steps import AuditResult, Clock, as_json, said
from labelfix.backbone import choose_device
from labelfix.checkpoints import Checkpoints
from labelfix.config import AuditConfig, FlagConfig
from labelfix.corrections import correct
from labelfix.cross_fitting import FineTuned
from labelfix.dataset import open_dataset
from labelfix.disk_cache import default_cache
from labelfix.distributed import World, joined
from labelfix.errors import ConfigError, LabelfixError
from labelfix.folds import find_duplicates, plan_folds
from labelfix.full_tuning import FullTuning, write_network
from labelfix.head_tuning import HeadTuning
from labelfix.margin_scores import score_with_margins
from labelfix.records import (
    MISSING,
    Duplicates,
    Evidence,
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
        evidence, report = _tune_heads(dataset, reviewed, config, clock, on_progress)
        return _finish(folder, config, dataset, report, evidence, clock)
    with joined(choose_device(config.backbone.device)) as world:
        with clock.stage("loading the backbone"), said("loading the backbone", on_progress):
            tuning = FullTuning.load(dataset, config, world, rate_halvings=halvings)
        checkpoints = _checkpoints(folder, claim)
        tuned, report = _tune_network(tuning, dataset, reviewed, checkpoints, clock, on_progress)
        if not world.is_writer:
            return report
    return _finish(folder, config, dataset, report, tuned.evidence, clock, tuned)


def _tune_heads(
    dataset: LabeledDataset,
    reviewed: Reviewed | None,
    config: AuditConfig,
    clock: Clock,
    on_progress: OnProgress,
) -> tuple[Evidence, Report]:
    with clock.stage("loading the backbone"), said("loading the backbone", on_progress):
        tuning = HeadTuning.load(dataset, config)
    with clock.stage("computing features"):
        seen = tuning.look(dataset, config.cache or default_cache(), on_progress)
    duplicates, judgeable = _plan(dataset, reviewed, seen, tuning.folds, config.seed)
    with clock.stage("training"):
        evidence = tuning.train(dataset, seen, judgeable, reviewed, on_progress)
    with clock.stage("scoring"), said("weighing the evidence", on_progress):
        info = _run_info(config, dataset, settings_with(reviewed, tuning.settings()))
        scores = score_labels(evidence, dataset.given_label, reviewed)
        report = _judge(
            dataset, reviewed, seen, duplicates, judgeable, evidence, scores, info, config.flags
        )
    return evidence, report


def _tune_network(
    tuning: FullTuning,
    dataset: LabeledDataset,
    reviewed: Reviewed | None,
    checkpoints: Checkpoints,
    clock: Clock,
    on_progress: OnProgress,
) -> tuple[FineTuned, Report]:
    config = tuning.config
    with clock.stage("decoding"):
        seen = tuning.look(dataset, config.cache or default_cache(), on_progress)
    duplicates, judgeable = _plan(dataset, reviewed, seen, tuning.folds, config.seed)
    with clock.stage("training"):
        tuned = tuning.train(dataset, seen, judgeable, reviewed, checkpoints, on_progress)
    with clock.stage("scoring"), said("weighing the evidence", on_progress):
        info = _run_info(config, dataset, settings_with(reviewed, tuning.settings(tuned)))
        evidence = tuned.evidence
        scores = score_with_margins(evidence, dataset.given_label, reviewed)
        report = _judge(
            dataset, reviewed, seen, duplicates, judgeable, evidence, scores, info, config.flags
        )
    return tuned, report


def _plan(
    dataset: LabeledDataset, reviewed: Reviewed | None, seen: SeenImages, folds: int, seed: int
) -> tuple[Duplicates, Judgeable]:
    duplicates = find_duplicates(seen, dataset.given_label)
    judgeable = plan_folds(dataset, seen, duplicates, folds=folds, seed=seed)
    return duplicates, plan_with(reviewed, judgeable, dataset.given_label)


def _judge(
    dataset: LabeledDataset,
    reviewed: Reviewed | None,
    seen: SeenImages,
    duplicates: Duplicates,
    judgeable: Judgeable,
    evidence: Evidence,
    scores: LabelScores,
    info: RunInfo,
    flags: FlagConfig,
) -> Report:
    usable = dataset.given_label != MISSING
    usable[list(seen.unreadable)] = False
    return build_report(
        dataset=dataset,
        unreadable=seen.unreadable,
        judgeable=judgeable,
        evidence=evidence,
        scores=scores,
        corrections=correct(scores, usable, flags),
        duplicates=duplicates,
        reviewed=reviewed,
        run=replace(
            info,
            noise_rate=scores.noise_rate,
            noise_rate_interval=scores.noise_rate_interval,
        ),
    )


def _finish(
    folder: RunFolder,
    config: AuditConfig,
    dataset: LabeledDataset,
    report: Report,
    evidence: Evidence,
    clock: Clock,
    tuned: FineTuned | None = None,
) -> Report:
    with clock.stage("writing the report"):
        if tuned is not None:
            write_network(tuned, folder.path)
        folder.write_evidence(evidence)
        write_report(report, folder.report_path)
    run = _run_json(config, dataset, report, clock)
    folder.finish(run, has_network=tuned is not None)
    _checkpoints(folder, {}).remove()  # only now: until here the disk may be full
    return report


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
