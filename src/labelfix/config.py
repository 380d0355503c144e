"""What a run is asked to do: frozen dataclasses, one for each room.

Every setting is the same for every data set unless the user says otherwise.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labelfix.errors import ConfigError

EMBEDDED_BACKBONE = "tf_efficientnet_lite0"
"""The default backbone: its ImageNet weights come with a package, so it needs no network."""

Tune = Literal["head"]
Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetConfig:
    """Which columns of a manifest or a Parquet file hold what; ``None`` finds them by name."""

    image_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    split_column: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneConfig:
    """Which network looks at the images.

    Args:
        name: Any timm model.
        weights: A safetensors file with the backbone's weights; ``None`` takes the model's own.
        image_size: Pixels a side; ``None`` chooses from the data.
        device: Where it runs; ``"auto"`` takes a GPU if there is one.
        batch_size: Images a forward pass; ``None`` takes what suits the device.
    """

    name: str = EMBEDDED_BACKBONE
    weights: Path | None = None
    image_size: int | None = None
    device: Device = "auto"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        if self.image_size is not None and not 16 <= self.image_size <= 4096:
            raise ConfigError(
                f"image size {self.image_size} is out of range",
                hint="choose --image-size between 16 and 4096 pixels",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How the heads are trained.

    Args:
        tune: What is trained: ``"head"``, linear heads on frozen features.
        folds: F; each sample is judged by models that were trained on the other folds.
        epochs: Passes over the data; small data sets get more, see ``least_steps``.
        least_steps: Optimiser steps at least.
        batch_size: Samples a step.
        learning_rate: Adam's, at its peak; for inputs of mean square norm 1.
        radii: The candidates for the radius of the ball around zero that holds each head, in
            units of sqrt(K); the one under which the given labels of held-out samples are most
            likely is taken.
    """

    tune: Tune = "head"
    folds: int = 5
    epochs: int = 12
    least_steps: int = 300
    batch_size: int = 512
    learning_rate: float = 0.04
    radii: tuple[float, ...] = (2.5, 5.0, 10.0, 20.0, 40.0)

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        if self.folds < 3:
            raise ConfigError(f"{self.folds} folds are too few", hint="choose 3 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuningConfig:
    """How a whole network is fine-tuned.

    Args:
        epochs: Passes over the data.
        batch_size: Samples a step, over all processes.
        optimiser: One of timm's.
        learning_rate: Of the backbone, at its peak.
        head_rate_factor: How much faster the new head learns.
        weight_decay: Of weights, not of norms and biases.
        average_decay: Of the running average of the weights that judges.
        half_precision: Whether the forward pass runs in bfloat16.
    """

    epochs: int = 10
    batch_size: int = 64
    optimiser: str = "adamw"
    learning_rate: float = 3e-4
    head_rate_factor: float = 10.0
    weight_decay: float = 1e-2
    average_decay: float = 0.99
    half_precision: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        if self.epochs < 1 or self.batch_size < 2:
            raise ConfigError(
                f"{self.epochs} epochs of batches of {self.batch_size} train nothing",
                hint="take at least 1 epoch and batches of 2",
            )
        if self.learning_rate <= 0:
            raise ConfigError(
                f"the learning rate {self.learning_rate} is not above 0", hint="try 3e-4"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """Everything that shapes an audit; the report says what it was.

    Args:
        dataset: How to read the data.
        backbone: Which network looks at the images.
        training: How the heads are trained.
        seed: The one source of every random choice.
        cache: Where features are kept; ``None`` is the user's cache folder.
    """

    dataset: DatasetConfig = DatasetConfig()
    backbone: BackboneConfig = BackboneConfig()
    training: TrainingConfig = TrainingConfig()
    seed: int = 0
    cache: Path | None = None
