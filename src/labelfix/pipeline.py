"""The whole way, from a data set to a report: the only room that knows it."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from labelfix.backbone import choose_device
from labelfix.checkpoints import Checkpoints
from labelfix.config import AuditConfig
from labelfix.corrections import correct
from labelfix.dataset import open_dataset
from labelfix.disk_cache import default_cache
from labelfix.distributed import World, joined
from labelfix.errors import LabelfixError
from labelfix.folds import find_duplicates, plan_folds
from labelfix.full_tuning import FullTuning, write_network
from labelfix.head_tuning import HeadTuning
from labelfix.records import (
    MISSING,
    Duplicates,
    Evidence,
    Judgeable,
    LabeledDataset,
    OnProgress,
    Progress,
    SeenImages,
    no_progress,
)
from labelfix.report import Report, RunInfo, build_report, write_report
from labelfix.run_folder import MODEL_NAME, RunFolder
from labelfix.scores import score_labels

LIBRARIES = ("labelfix", "torch", "timm", "numpy", "pillow", "pyarrow", "scikit-learn")
"""Whose versions a report names."""


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What an audit left behind.

    Args:
        run: The RUN folder.
        report: What was found; also in ``run/report.parquet``.
    """

    run: Path
    report: Report


@dataclass(slots=True)
class _Clock:
    """How long each stage took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def audit(
    data: Path,
    out: Path,
    config: AuditConfig = AuditConfig(),  # noqa: B008 - frozen
    *,
    overwrite: bool = False,
    resume: bool = False,
    on_progress: OnProgress = no_progress,
) -> AuditResult:
    """Find the wrong labels of a data set and write a report of them.

    Args:
        data: A class folder, a manifest, or Parquet with the images inside.
        out: The RUN folder to write.
        config: How to go about it.
        overwrite: Replace a run that is in ``out`` already.
        resume: Go on with an unfinished run of the same data and configuration.
        on_progress: Told what is going on.

    Raises:
        LabelfixError: Something that the caller can mend: see `labelfix.errors`.
    """
    clock = _Clock()
    with clock.stage("reading the data set"):
        dataset = open_dataset(data, config.dataset, on_progress)
    folder = RunFolder(out)
    claim = _claim(dataset, config)
    world = World.from_environment()
    if world.is_writer and folder.claim(claim, overwrite=overwrite, resume=resume):
        return AuditResult(run=out, report=folder.report())
    try:
        report = _run(dataset, folder, config, clock, on_progress)
    except LabelfixError:  # the mended command shall find its RUN free
        if world.is_writer:
            folder.release()
        raise
    return AuditResult(run=out, report=report)


def _run(
    dataset: LabeledDataset,
    folder: RunFolder,
    config: AuditConfig,
    clock: _Clock,
    on_progress: OnProgress,
) -> Report:
    device = choose_device(config.backbone.device)
    is_full = config.tune == "full" or (config.tune == "auto" and device.type == "cuda")
    if not is_full:
        evidence, report = _tune_heads(dataset, config, clock, on_progress)
        return _finish(folder, config, dataset, report, evidence, clock)
    with joined(device) as world:
        evidence, report = _tune_network(dataset, folder, config, world, clock, on_progress)
        if not world.is_writer:
            return report
    return _finish(folder, config, dataset, report, evidence, clock)


def _tune_heads(
    dataset: LabeledDataset, config: AuditConfig, clock: _Clock, on_progress: OnProgress
) -> tuple[Evidence, Report]:
    with clock.stage("loading the backbone"), _said("loading the backbone", on_progress):
        tuning = HeadTuning.load(dataset, config)
    with clock.stage("computing features"):
        seen = tuning.look(dataset, config.cache or default_cache(), on_progress)
    duplicates, judgeable = _plan(dataset, seen, tuning.folds, config.seed)
    with clock.stage("training"):
        evidence = tuning.train(dataset, seen, judgeable, on_progress)
    with clock.stage("scoring"), _said("weighing the evidence", on_progress):
        info = _run_info(config, dataset, tuning.settings())
        report = _judge(dataset, seen, duplicates, judgeable, evidence, info)
    return evidence, report


def _tune_network(
    dataset: LabeledDataset,
    folder: RunFolder,
    config: AuditConfig,
    world: World,
    clock: _Clock,
    on_progress: OnProgress,
) -> tuple[Evidence, Report]:
    with clock.stage("loading the backbone"), _said("loading the backbone", on_progress):
        tuning = FullTuning.load(dataset, config, world)
    with clock.stage("decoding"):
        seen = tuning.look(dataset, config.cache or default_cache(), on_progress)
    duplicates, judgeable = _plan(dataset, seen, tuning.folds, config.seed)
    claim = _claim(dataset, config)
    checkpoints = Checkpoints(folder.path / "checkpoints", json.dumps(claim))
    with clock.stage("training"):
        tuned = tuning.train(dataset, seen, judgeable, checkpoints, on_progress)
    with clock.stage("scoring"), _said("weighing the evidence", on_progress):
        info = _run_info(config, dataset, tuning.settings())
        report = _judge(dataset, seen, duplicates, judgeable, tuned.evidence, info)
    if world.is_writer:
        write_network(tuned, folder.path)
        checkpoints.remove()
    return tuned.evidence, report


def _plan(
    dataset: LabeledDataset, seen: SeenImages, folds: int, seed: int
) -> tuple[Duplicates, Judgeable]:
    duplicates = find_duplicates(seen, dataset.given_label)
    return duplicates, plan_folds(dataset, seen, duplicates, folds=folds, seed=seed)


def _judge(
    dataset: LabeledDataset,
    seen: SeenImages,
    duplicates: Duplicates,
    judgeable: Judgeable,
    evidence: Evidence,
    info: RunInfo,
) -> Report:
    scores = score_labels(evidence, dataset.given_label)
    usable = dataset.given_label != MISSING
    usable[list(seen.unreadable)] = False
    return build_report(
        dataset=dataset,
        unreadable=seen.unreadable,
        judgeable=judgeable,
        evidence=evidence,
        scores=scores,
        corrections=correct(scores, usable),
        duplicates=duplicates,
        run=replace(info, noise_rate=scores.noise_rate),
    )


def _finish(
    folder: RunFolder,
    config: AuditConfig,
    dataset: LabeledDataset,
    report: Report,
    evidence: Evidence,
    clock: _Clock,
) -> Report:
    with clock.stage("writing the report"):
        folder.write_evidence(evidence)
        write_report(report, folder.report_path)
    folder.finish(_run_json(config, dataset, report, clock))
    return report


@contextmanager
def _said(stage: str, on_progress: OnProgress) -> Iterator[None]:
    on_progress(Progress(stage, 0, None, "steps"))
    yield
    on_progress(Progress(stage, 1, 1, "steps"))


def _claim(dataset: LabeledDataset, config: AuditConfig) -> dict[str, Any]:
    """Return what makes two runs the same one, as JSON values."""
    return {
        "config": _as_json(asdict(config)),
        "fingerprint": dataset.fingerprint,
        "labels": _labels_digest(dataset),
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
        backbone=config.backbone.name,
        seed=config.seed,
        versions={name: version(name) for name in LIBRARIES},
        settings=_as_json(dict(settings)),
    )


def _run_json(
    config: AuditConfig, dataset: LabeledDataset, report: Report, clock: _Clock
) -> dict[str, Any]:
    settings = report.run.settings
    content = {
        **report.run.to_json(),
        "config": _as_json(asdict(config)),
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


def _as_json(value: Any) -> Any:
    """Return a configuration as JSON values: paths become text, tuples lists."""
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value
