"""An audit from plain keywords, of the same shape as the command."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labelfix.arguments import checks_arguments, named
from labelfix.config import (
    EMBEDDED_BACKBONE,
    AuditConfig,
    BackboneConfig,
    DatasetConfig,
    Device,
    FineTuningConfig,
    FlagConfig,
    HeadConfig,
    ImageConfig,
    IssueConfig,
    RegularizationConfig,
    SelfLabelingConfig,
    SelfLabelingRules,
    Tune,
)
from labelfix.errors import ConfigError
from labelfix.pipeline import AuditResult, trains_whole_network
from labelfix.pipeline import audit as run_audit
from labelfix.utils.progress import OnProgress, no_progress


@checks_arguments
def audit(
    data: str | Path,
    out: str | Path,
    *,
    backbone: str = EMBEDDED_BACKBONE,
    weights: str | Path | None = None,
    pretrained: bool = True,
    image_size: int | None = None,
    device: Device = "auto",
    tune: Tune = "auto",
    folds: int | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    train_batch_size: int | None = None,
    distance: float | None = None,
    self_labeling: SelfLabelingRules = "safe",
    seed: int = 0,
    cache: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    split_column: str | None = None,
    test_split: str | Sequence[str] | None = None,
    label_missing: str | Sequence[str] | None = None,
    follow_links: bool = False,
    max_pixels: int | None = None,
    value_range: tuple[float, float] | None = None,
    precision: float | None = None,
    budget: int | None = None,
    issue_threshold: Mapping[str, float] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    half_rate: bool = False,
    decisions: str | Path | None = None,
    on_progress: OnProgress = no_progress,
) -> AuditResult:
    """Find the labels of a data set that are probably wrong, and write a report on every sample.

    Args:
        data: A class folder, a manifest (``.csv .tsv .jsonl .parquet``) or Parquet with images.
        out: The RUN folder to write.
        backbone: Any timm model.
        weights: A safetensors file with the backbone's weights; ``None`` takes the model's own.
        pretrained: Whether the backbone starts from those; random weights otherwise, which only
            ``tune="full"`` takes.
        image_size: Pixels a side that the backbone sees; ``None`` chooses from the data.
        device: Where the backbone runs; ``"auto"`` takes a GPU if there is one.
        tune: What is trained: ``"head"``, linear heads on frozen features; ``"full"``, the whole
            network; ``"auto"``, the whole network where there is a GPU.
        folds: Each sample is judged by models that were trained on the other folds; ``None``
            takes 5 for heads, 3 for whole networks.
        epochs: Passes of a whole network over the data; ``None`` takes 10. This and the next four
            are refused where heads are trained.
        learning_rate: Of the backbone, at its peak; ``None`` takes 3e-4.
        train_batch_size: Images of one step, over all processes; ``None`` takes 64.
        distance: D, how far training may take a weight, as a share of the norm it was pretrained
            to; ``None`` takes 0.3. 0 keeps the weights of all stages as they were (stem, biases and
            shifts are not held), infinity lets all but the head go where they like.
        self_labeling: How labels are corrected and samples weighted in training: ``"safe"``, by
            the ``"paper"``, or ``"off"``.
        seed: The one source of every random choice.
        cache: Where features are kept; ``None`` is the user's cache folder.
        image_column: The column of image paths or bytes; ``None`` finds it by name, as below.
        label_column: The column of labels.
        id_column: The column of unique sample names.
        split_column: The column of splits.
        test_split: Splits that are for testing, beside those called test, eval or holdout: judged,
            but never trained on nor changed.
        label_missing: Values that mean that there is no label, such as ``"unknown"``. Among numbers
            from 0 on, -1 means so by itself; an empty text makes -1 a class.
        follow_links: Also read images outside ``data``, where links in it or paths of a manifest
            lead; exports copy them and pages show them.
        max_pixels: Larger images are not read; ``None`` takes 178,956,970. More than that also
            reads images that a few bytes blow up.
        value_range: What becomes black and what white in images of more than 8 bits; ``None``
            takes the range that the data use.
        precision: Flag as many labels as leave this share of the flags right; ``None`` flags as
            many as make the expected F1 the highest.
        budget: Flag this many labels instead; fewer rather than some of equally doubtful ones.
        issue_threshold: For a kind of issue (``near_duplicate``, ``outlier``, ``dark``,
            ``bright``, ``blurry``, ``odd_size``) the score below which an image has it; the others
            keep the thresholds of `labelfix.config.IssueConfig`.
        overwrite: Replace the run that ``out`` holds.
        resume: Go on with the run that ``out`` holds.
        half_rate: With ``resume``: at half the learning rate from now on, because the training of
            the whole network diverged; again each time.
        decisions: A RUN folder, ``out`` itself perhaps, with decisions of people on these data:
            what they said is taken as right in training and scoring. They are copied to ``out``.
        on_progress: Told how far each stage is.

    Raises:
        ConfigError: A setting cannot be used.
        DatasetError: The data set as a whole cannot be used.
        DecisionsError: There are no decisions, or they cannot be used.
        BackboneError: The backbone or its weights cannot be loaded.
        TrainingError: Training cannot go on.
        RunError: ``out`` holds a run already, or cannot be written to.
    """
    config = AuditConfig(
        dataset=DatasetConfig(
            image_column=image_column,
            label_column=label_column,
            id_column=id_column,
            split_column=split_column,
            test_split=_all_of(test_split),
            label_missing=_all_of(label_missing),
            follow_links=follow_links,
        ),
        images=ImageConfig(**_given(max_pixels=max_pixels, value_range=value_range)),
        backbone=BackboneConfig(
            name=backbone,
            weights=None if weights is None else Path(weights),
            pretrained=pretrained,
            image_size=image_size,
            device=device,
        ),
        tune=tune,
        heads=HeadConfig() if folds is None or tune == "full" else HeadConfig(folds=folds),
        fine_tuning=FineTuningConfig(
            **_given(
                folds=None if tune == "head" else folds,
                epochs=epochs,
                learning_rate=learning_rate,
                batch_size=train_batch_size,
            )
        ),
        regularization=RegularizationConfig(**_given(distance=distance)),
        self_labeling=SelfLabelingConfig.named(self_labeling),
        flags=FlagConfig(precision=precision, budget=budget),
        issues=_issue_config(issue_threshold or {}),
        seed=seed,
        cache=None if cache is None else Path(cache),
    )
    options = _given(
        epochs=epochs,
        learning_rate=learning_rate,
        train_batch_size=train_batch_size,
        distance=distance,
        self_labeling=None if self_labeling == "safe" else self_labeling,
    )
    _refuse_unused(config, list(options))
    return run_audit(
        Path(data),
        Path(out),
        config,
        overwrite=overwrite,
        resume=resume,
        half_rate=half_rate,
        decisions=None if decisions is None else Path(decisions),
        on_progress=on_progress,
    )


def _all_of(names: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return one name or several as several."""
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(map(str, names))


def _given(**settings: Any) -> dict[str, Any]:
    """Return the settings that the caller gave."""
    return {name: value for name, value in settings.items() if value is not None}


def _issue_config(thresholds: Mapping[str, float]) -> IssueConfig:
    unknown = sorted(set(thresholds) - set(IssueConfig.__slots__), key=str)
    if unknown:
        raise ConfigError(
            f"no kind of issue of images is called {unknown[0]!r}",
            hint=f"choose one of {', '.join(IssueConfig.__slots__)}",
        )
    return IssueConfig(**thresholds)


def _refuse_unused(config: AuditConfig, options: list[str]) -> None:
    """Refuse options that would change nothing."""
    if options and not trains_whole_network(config):
        raise ConfigError(
            f"{', '.join(map(named, options))}: for whole networks, and heads on frozen features "
            "are trained here",
            hint=f"train the whole network with {named('tune', value='full')}, or leave that out",
        )
    if "distance" in options and not config.backbone.pretrained:
        raise ConfigError(
            f"random weights are no center to keep a {named('distance')} from",
            hint=f"leave out {named('distance')} or {named('pretrained', value=False)}",
        )
