"""The whole way, from a data set to a report: the only room that knows it."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs
import torch

from labelfix.backbone import Backbone, load_backbone
from labelfix.config import AuditConfig
from labelfix.corrections import correct
from labelfix.dataset import open_dataset
from labelfix.errors import LabelfixError
from labelfix.features import compute_features, typical_side
from labelfix.folds import find_duplicates, plan_folds
from labelfix.records import (
    MISSING,
    Evidence,
    LabeledDataset,
    OnProgress,
    Progress,
    no_progress,
)
from labelfix.report import Report, RunInfo, build_report, write_report
from labelfix.run_folder import RunFolder
from labelfix.scores import score_labels
from labelfix.training import cross_fit_heads

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
    claim = {
        "config": _as_json(asdict(config)),
        "fingerprint": dataset.fingerprint,
        "labels": _labels_digest(dataset),
    }
    if folder.claim(claim, overwrite=overwrite, resume=resume):
        return AuditResult(run=out, report=folder.report())
    try:
        report = _run(dataset, folder, config, clock, on_progress)
    except LabelfixError:  # the mended command shall find its RUN free
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
    with clock.stage("loading the backbone"):
        on_progress(Progress("loading the backbone", 0, None, "steps"))
        backbone = load_backbone(config.backbone, typical_side(dataset.images))
        on_progress(Progress("loading the backbone", 1, 1, "steps"))
    evidence, report = _judge(dataset, backbone, config, clock, on_progress)
    with clock.stage("writing the report"):
        folder.write_evidence(evidence)
        write_report(report, folder.report_path)
    folder.finish(_run_json(config, dataset, backbone, report, clock))
    return report


def _judge(
    dataset: LabeledDataset,
    backbone: Backbone,
    config: AuditConfig,
    clock: _Clock,
    on_progress: OnProgress,
) -> tuple[Evidence, Report]:
    with clock.stage("computing features"):
        features = compute_features(
            dataset.images,
            dataset.fingerprint,
            backbone,
            cache=config.cache or default_cache(),
            batch_size=config.backbone.batch_size or backbone.best_batch_size,
            on_progress=on_progress,
        )
    duplicates = find_duplicates(features, dataset.given_label)
    judgeable = plan_folds(
        dataset, features, duplicates, folds=config.training.folds, seed=config.seed
    )
    with clock.stage("training"):
        evidence = cross_fit_heads(
            features,
            dataset.given_label,
            judgeable,
            classes=len(dataset.class_names),
            config=config.training,
            seed=config.seed,
            device=backbone.device,
            on_progress=on_progress,
        )
    with clock.stage("scoring"):
        on_progress(Progress("weighing the evidence", 0, None, "steps"))
        scores = score_labels(evidence, dataset.given_label)
        usable = dataset.given_label != MISSING
        usable[list(features.unreadable)] = False
        report = build_report(
            dataset=dataset,
            unreadable=features.unreadable,
            judgeable=judgeable,
            evidence=evidence,
            scores=scores,
            corrections=correct(scores, usable),
            duplicates=duplicates,
            run=_run_info(config, dataset, backbone, scores.noise_rate),
        )
        on_progress(Progress("weighing the evidence", 1, 1, "steps"))
    return evidence, report


def _labels_digest(dataset: LabeledDataset) -> str:
    digest = hashlib.blake2b(json.dumps(dataset.class_names).encode(), digest_size=16)
    digest.update(dataset.given_label.tobytes())
    return digest.hexdigest()


def default_cache() -> Path:
    """Return where features are kept when the caller names no place."""
    return Path(platformdirs.user_cache_dir("labelfix")) / "features"


def _run_info(
    config: AuditConfig, dataset: LabeledDataset, backbone: Backbone, noise_rate: float
) -> RunInfo:
    return RunInfo(
        source=dataset.source,
        fingerprint=dataset.fingerprint,
        noise_rate=noise_rate,
        backbone=backbone.name,
        seed=config.seed,
        versions={name: version(name) for name in LIBRARIES},
        settings={
            "image_size": backbone.preprocessing.size,
            "crop_share": backbone.preprocessing.crop_share,
            "precision": str(backbone.dtype).removeprefix("torch."),
            "device": backbone.device.type,
            "weights_digest": backbone.weights_digest,
            **_as_json(asdict(config.training)),
        },
    )


def _run_json(
    config: AuditConfig,
    dataset: LabeledDataset,
    backbone: Backbone,
    report: Report,
    clock: _Clock,
) -> dict[str, Any]:
    return {
        **report.run.to_json(),
        "config": _as_json(asdict(config)),
        "samples": len(dataset),
        "class_names": list(dataset.class_names),
        "threads": torch.get_num_threads(),
        "device_name": _device_name(backbone.device),
        "seconds": clock.seconds,
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type


def _as_json(value: Any) -> Any:
    """Return a configuration as JSON values: paths become text, tuples lists."""
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value
