"""An audit from plain keywords, of the same shape as the command."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelfix.arguments import checks_arguments, named
from labelfix.config import (
    AuditConfig,
    Device,
    EngineName,
    IssueConfig,
    SelfLabelingConfig,
    SelfLabelingRules,
    Tune,
)
from labelfix.config.file import config_of, flag_changes, overridden, read_settings
from labelfix.config.options import documents_options
from labelfix.data.objects import open_object
from labelfix.data.remote import data_path, is_remote
from labelfix.errors import ConfigError
from labelfix.pipeline.result import AuditResult, in_temporary_run
from labelfix.pipeline.samples import audit as run_audit
from labelfix.pipeline.samples import audit_samples, trains_whole_network
from labelfix.utils.interrupts import heeding_interrupts, interrupts_kept
from labelfix.utils.progress import OnProgress, no_progress
from labelfix.utils.progress_bars import shown_progress
from labelfix.utils.text import seconds_of


@checks_arguments
@documents_options
def audit(
    data: Any,
    out: str | Path | None = None,
    *,
    config: str | Path | None = None,
    backbone: str | None = None,
    weights: str | Path | None = None,
    pretrained: bool | None = None,
    image_size: int | None = None,
    device: Device | None = None,
    tune: Tune | None = None,
    time: str | float | None = None,
    folds: int | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    train_batch_size: int | None = None,
    max_weight_change: float | None = None,
    self_labeling: SelfLabelingRules | None = None,
    seed: int | None = None,
    cache: str | Path | None = None,
    memory: str | None = None,
    top_classes: int | None = None,
    image_column: str | None = None,
    text_column: str | Sequence[str] | None = None,
    features_column: str | None = None,
    features: str | Path | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    split_column: str | None = None,
    test_split: str | Sequence[str] | None = None,
    label_missing: str | Sequence[str] | None = None,
    outside_files: bool | None = None,
    max_pixels: int | None = None,
    value_range: tuple[float, float] | None = None,
    precision: float | None = None,
    budget: int | None = None,
    issue_threshold: Mapping[str, float] | None = None,
    engine: EngineName | None = None,
    ray_address: str | None = None,
    workers: int | None = None,
    cpus_per_worker: int | None = None,
    gpus_per_worker: float | None = None,
    overwrite: bool = False,
    resume: bool = False,
    halve_learning_rate: bool = False,
    decisions: str | Path | None = None,
    progress: bool = True,
    on_progress: OnProgress | None = None,
) -> AuditResult:
    """Find the labels of a data set that are probably wrong, and write a report on every sample.

    ``data`` may be an object as well: a pandas DataFrame, a Hugging Face Dataset or DatasetDict, a
    torch Dataset or an iterable of (image or text, label), or a pair of samples (images, texts or
    rows of features) and labels. Without ``out`` the run is a temporary one, which
    `AuditResult.save` keeps.

    Raises:
        ConfigError: A setting cannot be used.
        DatasetError: The data set as a whole cannot be used.
        DecisionsError: There are no decisions, or they cannot be used.
        BackboneError: The backbone or its weights cannot be loaded.
        TrainingError: Training cannot go on.
        RunError: ``out`` holds a run already, or cannot be written to.
    """
    settings = {} if config is None else read_settings(Path(config))
    tuned = tune or settings.get("tune")
    networks = _given(
        folds=None if tuned == "head" else folds,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=train_batch_size,
    )
    changes = {
        "dataset": _given(
            image_column=image_column,
            text_column=_all_of(text_column),
            features_column=features_column,
            features=None if features is None else Path(features),
            label_column=label_column,
            id_column=id_column,
            split_column=split_column,
            test_split=_all_of(test_split),
            label_missing=_all_of(label_missing),
            outside_files=outside_files,
        ),
        "images": _given(max_pixels=max_pixels, value_range=value_range),
        "backbone": _given(
            name=backbone,
            weights=None if weights is None else Path(weights),
            pretrained=pretrained,
            image_size=image_size,
            device=device,
        ),
        "auto": _given(time_limit=None if time is None else seconds_of(time, "time")),
        "heads": _given(folds=None if tuned in ("top", "full") else folds),
        "fine_tuning": networks,
        "top": networks,
        "regularization": _given(distance=max_weight_change),
        "top_regularization": _given(distance=max_weight_change),
        "flags": flag_changes(precision, budget),
        "issues": _known_kinds(issue_threshold or {}),
        "report": _given(top_classes=top_classes),
        "engine": _given(
            name=engine,
            ray_address=ray_address,
            workers=workers,
            cpus_per_worker=cpus_per_worker,
            gpus_per_worker=gpus_per_worker,
        ),
        **_given(
            tune=tune,
            seed=seed,
            cache=None if cache is None else Path(cache),
            memory=memory,
            self_labeling=self_labeling and SelfLabelingConfig.named(self_labeling),
        ),
    }
    whole = config_of(overridden(settings, changes))
    options = _given(
        epochs=epochs,
        learning_rate=learning_rate,
        train_batch_size=train_batch_size,
        max_weight_change=max_weight_change,
        self_labeling=None if self_labeling == "safe" else self_labeling,
    )
    _refuse_unused(whole, list(options))
    how: dict[str, Any] = {
        "overwrite": overwrite,
        "resume": resume,
        "halve_learning_rate": halve_learning_rate,
        "decisions": None if decisions is None else Path(decisions),
    }

    def work(place: Path) -> AuditResult:
        with interrupts_kept(), _told_progress(on_progress, shown=progress) as tell:
            if isinstance(data, str | os.PathLike) or is_remote(data):
                path = data_path(data)
                return run_audit(path, place, whole, on_progress=tell, **how)
            return audit_samples(
                lambda: open_object(data, whole.dataset, tell),
                place, None, whole, on_progress=tell, **how,
            )  # fmt: skip

    if out is not None:
        return work(Path(out))
    if resume:
        raise ConfigError(
            "there is no folder of a run to resume", hint=f"name it with {named('out')}"
        )
    return in_temporary_run(work)


@contextmanager
def _told_progress(on_progress: OnProgress | None, *, shown: bool) -> Iterator[OnProgress]:
    """Yield the caller's own display of progress, or else one where somebody may be looking."""
    if on_progress is not None:
        yield heeding_interrupts(on_progress)
    elif not shown:
        yield heeding_interrupts(no_progress)
    else:
        with shown_progress(plain_lines=False) as tell:
            yield tell


def _all_of(names: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return one name or several as several."""
    if names is None:
        return None
    return (names,) if isinstance(names, str) else tuple(map(str, names))


def _given(**settings: Any) -> dict[str, Any]:
    """Return the settings that the caller gave."""
    return {name: value for name, value in settings.items() if value is not None}


def _known_kinds(thresholds: Mapping[str, float]) -> Mapping[str, float]:
    """Return thresholds, all of kinds that there are."""
    unknown = sorted(set(thresholds) - set(IssueConfig.__slots__), key=str)
    if unknown:
        raise ConfigError(
            f"no kind of issue of images is called {unknown[0]!r}",
            hint=f"choose one of {', '.join(IssueConfig.__slots__)}",
        )
    return thresholds


def _refuse_unused(config: AuditConfig, options: list[str]) -> None:
    """Refuse options that would change nothing."""
    if options and not trains_whole_network(config):
        only = "no network is trained"
        if config.tune != "head":
            only = f"{named('tune', value='auto')} may train no network"
        raise ConfigError(
            f"{', '.join(map(named, options))} would change nothing: {only}",
            hint=f"train the upper stages of the network with {named('tune', value='top')}, all of "
            f"it with {named('tune', value='full')}, or leave that out",
        )
    if "max_weight_change" in options and not config.backbone.pretrained:
        raise ConfigError(
            f"random weights are no place to measure {named('max_weight_change')} from",
            hint=f"leave out {named('max_weight_change')} or {named('pretrained', value=False)}",
        )
