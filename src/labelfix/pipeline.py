"""The whole way, from a data set to a report: the only room that knows it."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from labelfix.arguments import named
from labelfix.audit_steps import AuditResult, Clock, as_json, said
from labelfix.backbone import choose_device
from labelfix.checkpoints import Checkpoints
from labelfix.config import AuditConfig
from labelfix.dataset import open_dataset
from labelfix.decisions import read_decisions
from labelfix.disk_cache import content_key, content_of
from labelfix.distributed import World, joined
from labelfix.errors import ConfigError, LabelfixError
from labelfix.finding import Found, Inquiry, find_by_heads, find_by_networks
from labelfix.full_tuning import FullTuning, write_network
from labelfix.html.pictures import pictures_in
from labelfix.html.writing import write_page
from labelfix.images import quiet_pillow
from labelfix.neighbor_table import NEIGHBORS_NAME, write_neighbors
from labelfix.noise_matrix import NOISE_MATRIX_NAME
from labelfix.records import LabeledDataset, OnProgress, no_progress
from labelfix.report import REPORT_NAME, Report, write_report
from labelfix.reviewed import (
    Decisions,
    copy_decisions,
    decisions_of,
    digest_of,
    refuse_to_replace,
    reviewed_by,
)
from labelfix.run_folder import (
    CHECKPOINTS_NAME,
    EVIDENCE_NAME,
    MODEL_NAME,
    NETWORK_NAMES,
    RunFolder,
)


@quiet_pillow()
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
    _refuse_places(data, out, config.cache)
    device = choose_device(config.backbone.device)
    if device.index is not None:
        torch.cuda.set_device(device)  # what torch does of itself shall happen there too
    config = _with_absolute_paths(config)
    if not os.path.exists(data):  # noqa: PTH110 - Path's raises where a name is too long
        open_dataset(data, config.dataset, on_progress)  # says what is wrong with it
    folder, world = RunFolder(out), World.from_environment()
    may_hold_run = overwrite or resume
    with folder.held(may_hold_run=may_hold_run) if world.is_writer else nullcontext():
        read_decisions(out)  # the page tells them: better to fail before the work than after it
        clock = Clock()
        with clock.stage("reading the data set"):
            dataset = open_dataset(data, config.dataset, on_progress)
        decided = decisions_of(decisions)
        reviewed = reviewed_by(decided, dataset.sample_id, dataset.given_label, dataset.class_names)
        refuse_to_replace(decisions, out)
        claim = _claim(dataset, config, decided)
        if resume and not half_rate and folder.is_finished(claim):
            content = content_key(content_of(dataset.images, on_progress))
            folder.refuse_other_images({"content": content})
            if world.is_writer:  # the run may have been cut off just before it did so
                copy_decisions(decisions, out)
                folder.close()
            return AuditResult(run=out, report=folder.report())
        halvings = 0
        if world.is_writer:
            halvings = folder.claim(claim, overwrite=overwrite, resume=resume, half_rate=half_rate)
            if overwrite:
                _checkpoints(folder, claim).remove()  # of a run that nobody will go on with
        on_images = folder.settle_images if world.is_writer else _no_matter
        inquiry = Inquiry(dataset, reviewed, config, clock, on_progress, on_images)
        try:
            return AuditResult(out, _run(inquiry, folder, claim, halvings, decisions))
        except LabelfixError:  # the mended command shall find its RUN free
            if world.is_writer:
                folder.release()
            raise


def trains_whole_network(config: AuditConfig) -> bool:
    """Return whether a configuration trains the backbone here, not just heads.

    Raises:
        BackboneError: The device that was asked for is not there.
    """
    device = choose_device(config.backbone.device)
    return config.tune == "full" or (config.tune == "auto" and device.type == "cuda")


def _no_matter(images: Mapping[str, str]) -> None:
    """Leave it to the process that writes to compare the images."""


def _refuse_misfits(config: AuditConfig, *, resume: bool, half_rate: bool) -> None:
    """Refuse what cannot go together, before anything is read."""
    is_full = trains_whole_network(config)
    if half_rate and not (resume and is_full):
        raise ConfigError(
            "half the learning rate is for whole networks whose training is gone on with",
            hint="use --half-rate together with --resume and --tune full",
        )
    processes = World.from_environment().size
    device = choose_device(config.backbone.device)
    if device.index is not None and processes > 1:
        raise ConfigError(
            f"torchrun started {processes} processes, and {device} is one device",
            hint=f"use {named('device', value='cuda')}: each process takes its own",
        )
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
    inquiry: Inquiry,
    folder: RunFolder,
    claim: Mapping[str, Any],
    halvings: int,
    decisions: Path | None,
) -> Report:
    config, clock = inquiry.config, inquiry.clock
    if not trains_whole_network(config):
        return _finish(inquiry, folder, find_by_heads(inquiry), decisions)
    with joined(choose_device(config.backbone.device)) as world:
        with clock.stage("loading the backbone"), said("loading the backbone", inquiry.on_progress):
            tuning = FullTuning.load(inquiry.dataset, config, world, rate_halvings=halvings)
        found = find_by_networks(inquiry, tuning, _checkpoints(folder, claim))
        if not world.is_writer:
            return found.report
    return _finish(inquiry, folder, found, decisions)


def _finish(inquiry: Inquiry, folder: RunFolder, found: Found, decisions: Path | None) -> Report:
    """Write the files of a run; `run.json`, the last, says that all of them are there."""
    dataset = inquiry.dataset
    report = replace(found.report, run=replace(found.report.run, run_id=folder.run_id))
    written = [REPORT_NAME, NOISE_MATRIX_NAME, EVIDENCE_NAME]
    with inquiry.clock.stage("writing the report"):
        if found.tuned is not None:
            write_network(found.tuned, folder.path)
            written += NETWORK_NAMES
        if found.kinds is not None:
            path = folder.path / NEIGHBORS_NAME
            write_neighbors(found.kinds.neighbours, dataset.sample_id, path)
            written.append(NEIGHBORS_NAME)
        folder.write_evidence(found.evidence)
        write_report(report, folder.report_path)
    folder.remove_replaced(written)
    write_page(folder.path, report, pictures_in(dataset, report, inquiry.on_progress))
    copy_decisions(decisions, folder.path)
    folder.finish(_run_json(inquiry.config, dataset, report, inquiry.clock))
    folder.close()  # only now: until here the disk may be full
    return report


def _checkpoints(folder: RunFolder, claim: Mapping[str, Any]) -> Checkpoints:
    return Checkpoints(folder.path / CHECKPOINTS_NAME, json.dumps(claim))


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
