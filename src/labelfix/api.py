"""An audit from plain keywords, of the same shape as the command."""

from pathlib import Path

from labelfix.config import (
    EMBEDDED_BACKBONE,
    AuditConfig,
    BackboneConfig,
    DatasetConfig,
    Device,
    FineTuningConfig,
    TrainingConfig,
    Tune,
)
from labelfix.pipeline import AuditResult
from labelfix.pipeline import audit as run_audit
from labelfix.records import OnProgress, no_progress


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
    seed: int = 0,
    cache: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    split_column: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    half_rate: bool = False,
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
        seed: The one source of every random choice.
        cache: Where features are kept; ``None`` is the user's cache folder.
        image_column: The column of image paths or bytes; ``None`` finds it by name, as below.
        label_column: The column of labels.
        id_column: The column of unique sample names.
        split_column: The column of splits.
        overwrite: Replace the run that ``out`` holds.
        resume: Go on with the run that ``out`` holds.
        half_rate: With ``resume``: at half the learning rate from now on, because the training of
            the whole network diverged; again each time.
        on_progress: Told how far each stage is.

    Raises:
        ConfigError: A setting cannot be used.
        DatasetError: The data set as a whole cannot be used.
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
        ),
        backbone=BackboneConfig(
            name=backbone,
            weights=None if weights is None else Path(weights),
            pretrained=pretrained,
            image_size=image_size,
            device=device,
        ),
        tune=tune,
        training=TrainingConfig()
        if folds is None or tune == "full"
        else TrainingConfig(folds=folds),
        fine_tuning=FineTuningConfig()
        if folds is None or tune == "head"
        else FineTuningConfig(folds=folds),
        seed=seed,
        cache=None if cache is None else Path(cache),
    )
    return run_audit(
        Path(data),
        Path(out),
        config,
        overwrite=overwrite,
        resume=resume,
        half_rate=half_rate,
        on_progress=on_progress,
    )
