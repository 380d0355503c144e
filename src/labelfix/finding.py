"""From images to what is probably wrong with them: look, plan, compare, train, score, judge."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from labelfix.audit_steps import Clock, as_json, said
from labelfix.checkpoints import Checkpoints
from labelfix.config import EMBEDDED_BACKBONE, AuditConfig
from labelfix.corrections import correct
from labelfix.cross_fitting import FineTuned
from labelfix.disk_cache import cache_key, content_key, marked_cache
from labelfix.folds import find_duplicates, plan_folds
from labelfix.full_tuning import FullTuning
from labelfix.head_tuning import HeadTuning
from labelfix.issue_kinds import find_issue_kinds
from labelfix.issue_records import IssueKinds
from labelfix.label_agreement import notes_on_labels
from labelfix.margin_scores import score_with_margins
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
)
from labelfix.report import Report, RunInfo, build_report
from labelfix.reviewed import plan_with, settings_with

LIBRARIES = ("labelfix", "torch", "timm", "numpy", "pillow", "pyarrow", "scikit-learn")
"""Whose versions a report names."""


@dataclass(frozen=True, slots=True, eq=False)
class Inquiry:
    """What is audited, and how.

    Args:
        dataset: The samples, with the labels that they came with.
        reviewed: What people decided about some of them.
        config: How to go about it.
        clock: Told how long each stage takes.
        on_progress: Told what is going on.
        on_images: Told digests of the images as soon as they were read; may refuse to go on.
    """

    dataset: LabeledDataset
    reviewed: Reviewed | None
    config: AuditConfig
    clock: Clock
    on_progress: OnProgress
    on_images: Callable[[Mapping[str, str]], None]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
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


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What is known before training: which images can be read, are the same, and are judged."""

    seen: SeenImages
    duplicates: Duplicates
    judgeable: Judgeable


def find_by_heads(inquiry: Inquiry) -> Found:
    """Train heads on what the frozen backbone sees.

    Raises:
        LabelfixError: Something that the caller can mend: see `labelfix.errors`.
    """
    dataset, config, clock = inquiry.dataset, inquiry.config, inquiry.clock
    reviewed, on_progress = inquiry.reviewed, inquiry.on_progress
    with clock.stage("loading the backbone"), said("loading the backbone", on_progress):
        tuning = HeadTuning.load(dataset, config)
    with clock.stage("computing features"):
        seen = tuning.look(dataset, marked_cache(config.cache), on_progress)
    inquiry.on_images(_digests_of(seen))
    plan = _plan(inquiry, seen, tuning.folds)
    kinds = _compare(inquiry, seen, plan.duplicates)
    with clock.stage("training"):
        evidence = tuning.train(dataset, seen, plan.judgeable, reviewed, on_progress)
    with clock.stage("scoring"), said("weighing the evidence", on_progress):
        scores = score_with_margins(
            evidence, dataset.given_label, reviewed, plan.duplicates.exact_duplicate_set
        )
        report = _judge(inquiry, plan, evidence, scores, kinds, tuning.settings())
    return Found(report, evidence, kinds)


def find_by_networks(inquiry: Inquiry, tuning: FullTuning, checkpoints: Checkpoints) -> Found:
    """Fine-tune a whole network a fold.

    Raises:
        LabelfixError: Something that the caller can mend: see `labelfix.errors`.
    """
    dataset, config, clock = inquiry.dataset, inquiry.config, inquiry.clock
    reviewed, on_progress = inquiry.reviewed, inquiry.on_progress
    with clock.stage("decoding"):
        seen = tuning.look(dataset, marked_cache(config.cache), on_progress)
    images = _digests_of(seen)
    inquiry.on_images(images)
    checkpoints = checkpoints.of_images(images)
    plan = _plan(inquiry, seen, tuning.folds)
    with clock.stage("training"):
        tuned = tuning.train(dataset, seen, plan.judgeable, reviewed, checkpoints, on_progress)
    kinds = None
    if tuning.world.is_writer:  # after training, so that no other process waits for it
        kinds = _compare(inquiry, _frozen_features(inquiry), plan.duplicates)
    with clock.stage("scoring"), said("weighing the evidence", on_progress):
        scores = score_with_margins(
            tuned.evidence, dataset.given_label, reviewed, plan.duplicates.exact_duplicate_set
        )
        report = _judge(inquiry, plan, tuned.evidence, scores, kinds, tuning.settings(tuned))
    return Found(report, tuned.evidence, kinds, tuned)


def _digests_of(seen: SeenImages) -> dict[str, str]:
    """Return what makes two runs have seen the same images, whatever their files are called."""
    unreadable = cache_key(sorted(seen.unreadable))
    return {"content": content_key(seen.content), "unreadable": unreadable}


def _plan(inquiry: Inquiry, seen: SeenImages, folds: int) -> _Plan:
    dataset = inquiry.dataset
    duplicates = find_duplicates(seen, dataset.given_label)
    judgeable = plan_folds(dataset, seen, duplicates, folds=folds, seed=inquiry.config.seed)
    return _Plan(seen, duplicates, plan_with(inquiry.reviewed, judgeable, dataset.given_label))


def _frozen_features(inquiry: Inquiry) -> Features:
    """Return what the network saw before it was trained: one pass, as an audit of heads begins.

    Random weights see nothing; the default network looks in their place.
    """
    config = inquiry.config
    if not config.backbone.pretrained:
        backbone = replace(config.backbone, name=EMBEDDED_BACKBONE, pretrained=True)
        config = replace(config, backbone=backbone)
    with inquiry.clock.stage("computing features"):
        frozen = HeadTuning.load(inquiry.dataset, config)
        return frozen.look(inquiry.dataset, marked_cache(config.cache), inquiry.on_progress)


def _compare(inquiry: Inquiry, features: Features, duplicates: Duplicates) -> IssueKinds:
    clock, given_label = inquiry.clock, inquiry.dataset.given_label
    with clock.stage("comparing images"), said("comparing the images", inquiry.on_progress):
        return find_issue_kinds(features, given_label, duplicates, inquiry.config.issues)


def _judge(
    inquiry: Inquiry,
    plan: _Plan,
    evidence: Evidence,
    scores: LabelScores,
    kinds: IssueKinds | None,
    settings: Mapping[str, Any],
) -> Report:
    dataset = inquiry.dataset
    usable = dataset.given_label != MISSING
    usable[list(plan.seen.unreadable)] = False
    limits = None if kinds is None else dict(kinds.limits)
    corrections = correct(scores, usable, inquiry.config.flags)
    notes = notes_on_labels(
        dataset.given_label,
        scores.predicted_label,
        corrections.is_label_issue,
        len(dataset.class_names),
        by="images",
    )
    settings = {**settings, "notes": [*notes, *settings.get("notes", [])]}
    settings = {**settings_with(inquiry.reviewed, settings), "issues": limits}
    if dataset.test_splits:
        settings["test_splits"] = dataset.test_splits
    if dataset.label_missing:
        settings["label_missing"] = dataset.label_missing
    return build_report(
        dataset=dataset,
        unreadable=plan.seen.unreadable,
        judgeable=plan.judgeable,
        evidence=evidence,
        scores=scores,
        corrections=corrections,
        duplicates=plan.duplicates,
        kinds=kinds,
        reviewed=inquiry.reviewed,
        run=RunInfo(
            source=dataset.source,
            fingerprint=dataset.fingerprint,
            noise_rate=scores.noise_rate,
            noise_rate_interval=scores.noise_rate_interval,
            backbone=inquiry.config.backbone.name,
            seed=inquiry.config.seed,
            versions={name: version(name) for name in LIBRARIES},
            settings=as_json(settings),
            assumptions=dataset.assumptions + plan.seen.assumptions,
        ),
    )
