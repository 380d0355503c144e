"""The entrance of samples: encode them, train on them, score, report."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelfix.arguments import named
from labelfix.config import AuditConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.decisions import read_decisions
from labelfix.data.duplicates import find_duplicates
from labelfix.data.probability_store import ArrayStore
from labelfix.data.remote import is_remote
from labelfix.data.stores import shown_images
from labelfix.data.trusted_labels import (
    Decisions,
    copy_decisions,
    decisions_of,
    digest_of,
    plan_with,
    refuse_to_replace,
    reviewed_by,
)
from labelfix.data.vectors import VectorStore
from labelfix.engines.plan import open_engine
from labelfix.errors import ConfigError, LabelfixError
from labelfix.issues.find import find_issue_kinds
from labelfix.issues.types import IssueKinds
from labelfix.modalities.base import Modality, get_modality
from labelfix.modalities.image.decode import quiet_pillow
from labelfix.pipeline.budget import MemoryBudget
from labelfix.pipeline.finish import (
    AuditFindings,
    Origin,
    kept_top,
    probability_groups,
    report_on,
    write_run,
)
from labelfix.pipeline.result import AuditResult
from labelfix.pipeline.tune_choice import TuneChoice, choose_tuning, is_left_open
from labelfix.recipes import FullTuning, HeadTuning
from labelfix.report.run_folder import (
    CHECKPOINTS_NAME,
    LAYERS_NAME,
    LOG_NAME,
    MODEL_NAME,
    RunFolder,
)
from labelfix.report.types import Report
from labelfix.scoring.scores import score_with_margins
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.cross_fit_networks import FineTuned
from labelfix.training.distributed import World, joined
from labelfix.training.folds import plan_folds
from labelfix.types import (
    MEMORY_KIND,
    MISSING,
    Duplicates,
    EncodedSamples,
    Evidence,
    Features,
    FoldAssignment,
    LabeledDataset,
    Reviewed,
)
from labelfix.utils.cache import cache_key, content_key, content_of, marked_cache
from labelfix.utils.files import atomic_path
from labelfix.utils.memory import give_back_freed
from labelfix.utils.progress import OnProgress, StageTimer, no_progress, said
from labelfix.utils.scratch import is_large, large_arrays_in, let_go_of_pages
from labelfix.utils.shards import Engine, mapped_by
from labelfix.utils.text import as_json
from labelfix.utils.torch_utils import choose_device
from labelfix.utils.weights_file import weights_bytes


def write_network(tuned: FineTuned, folder: Path) -> None:
    """Write the fine-tuned network, how far its layers went, and the log of all training.

    Raises:
        RunError: The disk is full, or the folder cannot be written to.
    """
    with atomic_path(folder / MODEL_NAME) as path:
        # not by save_file, whose own error hides what the disk said
        path.write_bytes(weights_bytes(tuned.model_state))
    with atomic_path(folder / LAYERS_NAME) as path:
        path.write_text(json.dumps(tuned.layers, indent=1) + "\n", encoding="utf-8")
    with atomic_path(folder / LOG_NAME) as path:
        path.write_text("".join(json.dumps(row) + "\n" for row in tuned.log), encoding="utf-8")


@dataclass(frozen=True, slots=True, eq=False)
class AuditContext:
    """What is audited, and how.

    Args:
        dataset: The samples, with the labels that they came with.
        modality: What kind of samples they are.
        reviewed: What people decided about some of them.
        config: How to go about it.
        clock: Told how long each stage takes.
        on_progress: Told what is going on.
        on_images: Told digests of the samples as soon as they were read; may refuse to go on.
        choice: Why this is trained and nothing else.
        engine: Where the samples are looked at.
        memory: How much memory all that may take.
    """

    dataset: LabeledDataset
    modality: Modality
    reviewed: Reviewed | None
    config: AuditConfig
    clock: StageTimer
    on_progress: OnProgress
    on_images: Callable[[Mapping[str, str]], None]
    choice: TuneChoice
    engine: Engine
    memory: MemoryBudget


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPlan:
    """What is known before training: which samples can be read, are the same, and are scored.

    Args:
        seen: The samples as they were read.
        duplicates: Which of them are byte-identical.
        assignment: Which of them are scored, and in which fold.
        notes: Which classes are not scored, a sentence.
    """

    seen: EncodedSamples
    duplicates: Duplicates
    assignment: FoldAssignment
    notes: tuple[str, ...]


def find_by_heads(context: AuditContext) -> AuditFindings:
    """Train heads on the features of the modality's encoder.

    Raises:
        LabelfixError: Something that the caller can mend: see `labelfix.errors`.
    """
    dataset, config, clock = context.dataset, context.config, context.clock
    reviewed, on_progress = context.reviewed, context.on_progress
    if isinstance(dataset.store, VectorStore):
        _refuse_heads(context, dataset.store.width)
    with clock.stage("loading the backbone"), said("loading the backbone", on_progress):
        tuning = HeadTuning.load(dataset, config, context.modality)
    with clock.stage("computing features"):
        seen = tuning.look(dataset, marked_cache(config.cache), on_progress)
    let_go_of_pages()
    _refuse_heads(context, seen.values.shape[1])
    context.on_images(_digests_of(seen))
    plan = _plan(context, seen, tuning.folds)
    kinds = _compare(context, seen, plan.duplicates, tuning.settings())
    let_go_of_pages()
    with clock.stage("training"):
        evidence = tuning.train(dataset, seen, plan.assignment, reviewed, on_progress)
    let_go_of_pages()
    return _score(context, plan, evidence, kinds, tuning.encoder.name, tuning.settings())


def _refuse_heads(context: AuditContext, width: int) -> None:
    """Refuse to train heads on so many features where the memory is sure to be too little."""
    samples, classes = len(context.dataset), len(context.dataset.class_names)
    context.memory.refuse_heads(samples, width, classes, context.config)


def find_by_networks(
    context: AuditContext, tuning: FullTuning, checkpoints: Checkpoints
) -> AuditFindings:
    """Fine-tune one whole network per fold.

    Raises:
        LabelfixError: Something that the caller can mend: see `labelfix.errors`.
    """
    dataset, config, clock = context.dataset, context.config, context.clock
    reviewed, on_progress = context.reviewed, context.on_progress
    tuning = _within_memory(context, tuning)
    with clock.stage("decoding"):
        seen = tuning.look(dataset, marked_cache(config.cache), on_progress)
    give_back_freed()
    digests = _digests_of(seen)
    context.on_images(digests)
    checkpoints = checkpoints.of_images(digests)
    plan = _plan(context, seen, tuning.folds)
    with clock.stage("training"):
        tuned = tuning.train(dataset, seen, plan.assignment, reviewed, checkpoints, on_progress)
    give_back_freed()
    kinds, settings = None, tuning.settings(tuned)
    if tuning.world.is_writer:  # after training, so that no other process waits for it
        kinds = _compare(context, _frozen_features(context), plan.duplicates, settings)
    findings = _score(context, plan, tuned.evidence, kinds, tuning.trainer.name, settings)
    return replace(findings, write_networks=partial(write_network, tuned))


def _within_memory(context: AuditContext, tuning: FullTuning) -> FullTuning:
    """Return a tuning that trains no more networks at once than the memory allows."""
    samples, classes = len(context.dataset), len(context.dataset.class_names)
    memory, most = tuning.memory(context.dataset), tuning.networks_at_once
    give_back_freed()
    fitting = context.memory.networks_at_once(samples, classes, memory, most)
    return replace(tuning, most_at_once=fitting)


def _digests_of(seen: EncodedSamples) -> dict[str, str]:
    """Return what makes two runs have seen the same samples, whatever their files are called."""
    unreadable = cache_key(sorted(seen.unreadable))
    return {"content": content_key(seen.content), "unreadable": unreadable}


def _plan(context: AuditContext, seen: EncodedSamples, folds: int) -> TrainingPlan:
    dataset = context.dataset
    duplicates = find_duplicates(seen, dataset.given_label)
    assignment = plan_folds(
        dataset,
        seen,
        duplicates,
        folds=folds,
        seed=context.config.seed,
        wording=context.modality.wording,
    )
    return TrainingPlan(
        seen,
        duplicates,
        plan_with(context.reviewed, assignment, dataset.given_label),
        _note_on_small_classes(dataset, assignment, folds, context.modality.plural),
    )


def _note_on_small_classes(
    dataset: LabeledDataset, assignment: FoldAssignment, folds: int, plural: str
) -> tuple[str, ...]:
    """Return a sentence that names the classes that are too small to be scored, if there are any.

    A class is too small if none of its samples is scored; one without a sample is not named.
    """
    given, is_labeled = dataset.given_label, dataset.given_label != MISSING
    samples = np.bincount(given[is_labeled], minlength=len(dataset.class_names))
    scored = np.bincount(given[is_labeled & assignment.is_scored], minlength=len(samples))
    small = np.flatnonzero((samples > 0) & (scored == 0)).tolist()
    if not small:
        return ()
    named = ", ".join(
        f"{str(dataset.class_names[code])!r} ({samples[code]:,} "
        f"{'sample' if samples[code] == 1 else 'samples'})"
        for code in small[:NAMED_CLASSES]
    )
    more = f" and {len(small) - NAMED_CLASSES:,} more" * (len(small) > NAMED_CLASSES)
    what = "class is" if len(small) == 1 else "classes are"
    return (
        f"{len(small):,} {what} not scored: {named}{more}; "
        f"a class needs {folds} different readable {plural} to train on",
    )


def _frozen_features(context: AuditContext) -> Features:
    """Return what a network saw before it was trained: one pass, as an audit of heads begins."""
    with context.clock.stage("computing features"):
        frozen = HeadTuning.load(context.dataset, context.config, context.modality)
        cache = marked_cache(context.config.cache)
        features = frozen.look(context.dataset, cache, context.on_progress)
    give_back_freed()
    return features


def _compare(
    context: AuditContext,
    features: Features,
    duplicates: Duplicates,
    settings: Mapping[str, Any],
) -> IssueKinds:
    plural = context.modality.plural
    with (
        context.clock.stage(f"comparing {plural}"),
        said(f"comparing the {plural}", context.on_progress),
    ):
        return find_issue_kinds(
            features,
            context.dataset.given_label,
            duplicates,
            context.config.issues,
            context.modality,
            closely=partial(context.modality.compare_closely, context.dataset.store, settings),
        )


def _score(
    context: AuditContext,
    plan: TrainingPlan,
    evidence: Evidence,
    kinds: IssueKinds | None,
    backbone: str,
    settings: Mapping[str, Any],
) -> AuditFindings:
    dataset, config, modality = context.dataset, context.config, context.modality
    with context.clock.stage("scoring"), said("weighing the evidence", context.on_progress):
        scores = score_with_margins(
            evidence,
            dataset.given_label,
            context.reviewed,
            plan.duplicates.exact_duplicate_set,
            config.scoring,
        )
        settings = {
            "notes": [],  # first, whoever has some
            **settings,
            "issues": None if kinds is None else dict(kinds.limits),
        }
        settings["notes"] = [*plan.notes, *settings["notes"]]
        if dataset.test_splits:
            settings["test_splits"] = dataset.test_splits
        if dataset.label_missing:
            settings["label_missing"] = dataset.label_missing
        # a table of Arrow would hold in memory what lies in a file
        kept = config.report.top_classes
        is_apart = kept > 0 or is_large(evidence.pred_probs.shape, evidence.pred_probs.dtype)
        report = report_on(
            dataset,
            scores,
            plan.assignment,
            plan.duplicates,
            reviewed=context.reviewed,
            config=config,
            unreadable=plan.seen.unreadable,
            evidence=None if is_apart else evidence,
            kinds=kinds,
            origin=Origin(
                modality=modality,
                backbone=backbone,
                seed=config.seed,
                libraries=(*LIBRARIES, *modality.libraries),
                settings=settings,
                assumptions=plan.seen.assumptions
                + context.choice.assumptions
                + kept_top(evidence.pred_probs.shape[1], kept),
            ),
        )
    store, is_scored = ArrayStore(evidence.pred_probs), plan.assignment.is_scored
    apart = probability_groups(store, is_scored, kept) if is_apart else None
    return AuditFindings(report, kinds, pred_probs=apart, top_classes=kept)


CHOSEN = "chosen"
"""Where the claim of a run says what was chosen to be trained."""

NAMED_CLASSES = 3
"""How many classes a note names before it only counts them."""

LIBRARIES = ("labelfix", "torch", "numpy", "pyarrow", "scikit-learn")
"""Whose versions a report names, beside those of the modality."""


@quiet_pillow()
def audit(
    data: Path,
    out: Path,
    config: AuditConfig = AuditConfig(),
    *,
    overwrite: bool = False,
    resume: bool = False,
    halve_learning_rate: bool = False,
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
        halve_learning_rate: With ``resume``: from now on at half the rate, as training diverged.
        decisions: A RUN folder, ``out`` itself perhaps, whose reviewed labels are trusted; they
            are copied to ``out``.
        on_progress: Told what is going on.

    Raises:
        LabelfixError: Something that the caller can mend: see `labelfix.errors`.
    """
    _refuse_misfits(
        config, resume=resume, halve_learning_rate=halve_learning_rate
    )  # before anything is read
    if not is_remote(data):
        _refuse_places(data, out, config.cache)
    if not is_remote(data) and not os.path.exists(data):  # noqa: PTH110 - Path's raises where a name is too long
        open_dataset(data, config.dataset, on_progress)  # says what is wrong with it
    return audit_samples(
        lambda: open_dataset(data, config.dataset, on_progress),
        out,
        None,
        config,
        overwrite=overwrite,
        resume=resume,
        halve_learning_rate=halve_learning_rate,
        decisions=decisions,
        on_progress=on_progress,
    )


def audit_samples(
    open_samples: Callable[[], LabeledDataset],
    out: Path,
    modality: Modality | None,
    config: AuditConfig = AuditConfig(),
    *,
    overwrite: bool = False,
    resume: bool = False,
    halve_learning_rate: bool = False,
    decisions: Path | None = None,
    on_progress: OnProgress = no_progress,
) -> AuditResult:
    """Find the wrong labels of samples of any modality; everything else is as of `audit`.

    Args:
        open_samples: Opens the data set once the RUN folder is held.
        out: The RUN folder to write.
        modality: Of the caller's own samples; ``None`` takes the one that the data set names.
        config: How to go about it.
        overwrite: Replace a run that is in ``out`` already.
        resume: Go on with an unfinished run of the same data and configuration.
        halve_learning_rate: With ``resume``: from now on at half the rate, as training diverged.
        decisions: A RUN folder whose reviewed labels are trusted.
        on_progress: Told what is going on.

    Raises:
        LabelfixError: Something that the caller can mend: see `labelfix.errors`.
    """
    _refuse_misfits(config, resume=resume, halve_learning_rate=halve_learning_rate)
    device = choose_device(config.backbone.device)
    if device.index is not None:
        torch.cuda.set_device(device)  # what torch does of itself shall happen there too
    config = _with_absolute_paths(config)
    engine = open_engine(config.engine, on_gpu=device.type == "cuda", on_progress=on_progress)
    folder, world = RunFolder(out), World.from_environment()
    may_hold_run = overwrite or resume
    with folder.held(may_hold_run=may_hold_run) if world.is_writer else nullcontext():
        read_decisions(out)  # the page tells them: better to fail before the work than after it
        clock, memory = StageTimer(), MemoryBudget.of(config.memory)
        with clock.stage("reading the data set"), large_arrays_in(folder.path, memory.size):
            dataset = open_samples()
        modality = modality or get_modality(dataset.modality)
        if config.tune == "auto" and not modality.has_network(config):
            config = replace(config, tune="head")
        decided = decisions_of(decisions)
        reviewed = reviewed_by(decided, dataset.sample_id, dataset.given_label, dataset.class_names)
        refuse_to_replace(decisions, out)
        with clock.stage("choosing what is trained"):
            kept = folder.kept(CHOSEN) if resume else None
            choice = choose_tuning(dataset, modality, config, kept, on_progress)
        claim = _claim(dataset, modality, config, decided)
        if choice.kept:
            claim[CHOSEN] = dict(choice.kept)
        config = choice.config
        _refuse_misfits(config, resume=resume, halve_learning_rate=halve_learning_rate)
        if resume and not halve_learning_rate and folder.is_finished(claim):
            content = content_key(content_of(dataset.store, on_progress))
            folder.refuse_other_images({"content": content})
            if world.is_writer:  # the run may have been cut off just before it did so
                copy_decisions(decisions, out)
                folder.close()
            return _result(out, folder.report(), dataset, modality)
        halvings = 0
        if world.is_writer:
            halvings = folder.claim(
                claim, overwrite=overwrite, resume=resume, halve_learning_rate=halve_learning_rate
            )
            if overwrite:
                _checkpoints(folder, claim).remove()  # of a run that nobody will go on with
        on_images = folder.settle_images if world.is_writer else _no_matter
        context = AuditContext(
            dataset, modality, reviewed, config, clock, on_progress, on_images, choice, engine,
            memory,
        )  # fmt: skip
        try:
            with mapped_by(engine), large_arrays_in(folder.path, memory.size):
                report = _run(context, folder, claim, halvings, decisions)
        except LabelfixError:  # the mended command shall find its RUN free
            if world.is_writer:
                folder.release()
            raise
        return _result(out, report, dataset, modality)


def _result(out: Path, report: Report, dataset: LabeledDataset, modality: Modality) -> AuditResult:
    """Return the result; of samples that a program holds, it holds them as well."""
    renderer = None
    if dataset.source.kind == MEMORY_KIND:
        images = shown_images(dataset, follow_links=False)
        renderer = modality.renderer(images, report.run.settings, no_progress)
    return AuditResult(out, report, renderer=renderer)


def trains_whole_network(config: AuditConfig) -> bool:
    """Return whether a configuration is sure to train the backbone here, not just heads.

    Raises:
        BackboneError: The device that was asked for is not there.
    """
    device = choose_device(config.backbone.device)
    if config.tune == "auto":
        return device.type == "cuda" and config.auto.time_limit is None
    return config.tune in ("top", "full")


def _no_matter(images: Mapping[str, str]) -> None:
    """Leave it to the process that writes to compare the images."""


def _refuse_misfits(config: AuditConfig, *, resume: bool, halve_learning_rate: bool) -> None:
    """Refuse what cannot go together, before anything is read."""
    is_full = trains_whole_network(config)
    if halve_learning_rate and not (resume and (is_full or is_left_open(config))):
        raise ConfigError(
            f"{named('halve_learning_rate')} is only for resuming the training of networks",
            hint=f"repeat the command of that run with {named('resume')}, or leave it out",
        )
    processes = World.from_environment().size
    if config.engine.name != "local" and processes > 1:
        raise ConfigError(
            f"torchrun started {processes} processes, and {named('engine', value='ray')} has one "
            "that trains",
            hint="look at the samples with Ray first, and train with torchrun from the same cache",
        )
    device = choose_device(config.backbone.device)
    if device.index is not None and processes > 1:
        raise ConfigError(
            f"torchrun started {processes} processes, and {device} is one device",
            hint=f"use {named('device', value='cuda')}: each process takes its own",
        )
    if not is_full and processes > 1:
        raise ConfigError(
            f"torchrun started {processes} processes, and heads are trained by one",
            hint="run `labelfix audit` without torchrun, or train the whole network with "
            "--tune full",
        )
    if not is_full and not config.backbone.pretrained:
        raise ConfigError(
            "the features of a network with random weights say nothing to the heads",
            hint="leave out --no-pretrained, or train the whole network with --tune full",
        )


def _refuse_places(data: Path, out: Path, cache: Path | None) -> None:
    """Refuse to write a run or a cache where the data lie; inside DATA is fine."""
    place = data.resolve()
    for folder, option in ((out, "out"), (cache, "cache")):
        if folder is None or not place.is_relative_to(folder.resolve()):
            continue
        if option == "cache" and place != folder.resolve():
            continue
        where = "is the data set" if place == folder.resolve() else f"holds the data set {data}"
        raise ConfigError(
            f"{named(option)} {folder} {where}", hint=f"choose another folder for {named(option)}"
        )


def _run(
    context: AuditContext,
    folder: RunFolder,
    claim: Mapping[str, Any],
    halvings: int,
    decisions: Path | None,
) -> Report:
    config, clock, dataset = context.config, context.clock, context.dataset
    recipe = {}
    if not trains_whole_network(config):
        findings = find_by_heads(context)
    else:
        with joined(choose_device(config.backbone.device)) as world:
            with (
                clock.stage("loading the backbone"),
                said("loading the backbone", context.on_progress),
            ):
                tuning = FullTuning.load(
                    dataset, config, world, context.modality, rate_halvings=halvings
                )
            findings = find_by_networks(context, tuning, _checkpoints(folder, claim))
            if not world.is_writer:
                return findings.report
        recipe["model"] = tuning.trainer.recipe(len(dataset.class_names), MODEL_NAME)
    settings = findings.report.run.settings
    run_json = {
        "config": as_json(asdict(config)),
        "threads": torch.get_num_threads(),
        "device_name": _device_name(settings["device"]),
        "engine": dict(context.engine.record()),
        "memory": dict(context.memory.record()),
        **recipe,
        "assumptions": context.choice.told(findings.report.run.assumptions),
    }
    images = shown_images(dataset, follow_links=False)
    renderer = context.modality.renderer(images, settings, context.on_progress)
    return write_run(
        folder,
        findings,
        dataset,
        renderer,
        decisions,
        run_json,
        clock,
        context.on_progress,
        part_rows=config.report.part_rows,
    )


def _checkpoints(folder: RunFolder, claim: Mapping[str, Any]) -> Checkpoints:
    return Checkpoints(folder.path / CHECKPOINTS_NAME, json.dumps(claim))


def _with_absolute_paths(config: AuditConfig) -> AuditConfig:
    """Return the configuration as it is understood from any working folder."""
    weights, cache = config.backbone.weights, config.cache
    backbone = replace(config.backbone, weights=weights and weights.absolute())
    features = config.dataset.features
    dataset = replace(config.dataset, features=features and features.absolute())
    return replace(config, backbone=backbone, dataset=dataset, cache=cache and cache.absolute())


_NO_PART_OF_A_RUN = {"engine", "memory", "report"}
"""Settings that may change between an audit that was cut off and its resumption."""


def _claim(
    dataset: LabeledDataset, modality: Modality, config: AuditConfig, decided: Decisions | None
) -> dict[str, Any]:
    """Return what makes two runs the same one, as JSON values."""
    told = as_json(asdict(config))
    return {
        "modality": modality.name,
        "config": {name: value for name, value in told.items() if name not in _NO_PART_OF_A_RUN},
        "fingerprint": dataset.fingerprint,
        "labels": _labels_digest(dataset),
        "decisions": digest_of(decided),
    }


def _labels_digest(dataset: LabeledDataset) -> str:
    digest = hashlib.blake2b(json.dumps(dataset.class_names).encode(), digest_size=16)
    digest.update(dataset.given_label.tobytes())
    return digest.hexdigest()


def _device_name(kind: str) -> str:
    return torch.cuda.get_device_name() if kind == "cuda" else kind
