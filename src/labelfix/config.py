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
class SelfLabelingConfig:
    """How labels are corrected and samples weighted while a whole network trains.

    `paper` gives the settings of the authors; the rules are told by `SelfLabeler`.

    Args:
        preset: The authors' rules, or ones that can be undone and adapt to each class.
        correct_from: E_c: the first epoch, counted from 1, in which labels are corrected; ``None``
            never corrects.
        threshold: p_t: a label is corrected where another class is believed more than this
            (``"safe"``: more than this share of what is usual for that class).
        reweight_from: E_r: the first epoch in which samples are weighted; ``None`` never does.
        temperature: tau: the larger, the more equal the weights.
        decay: Whether tau falls to half from E_r on, as in the authors' code.
        momentum: ``"safe"``: the share of a belief that an epoch leaves in place.
        floor: ``"safe"``: no threshold falls below this.
        view: ``"safe"``: beliefs come from the forward passes of training, or from a separate pass
            that the training loop hands to ``SelfLabeler.observe``.
    """

    preset: Literal["safe", "paper"] = "safe"
    correct_from: int | None = 3
    threshold: float = 0.9
    reweight_from: int | None = 2
    temperature: float = 2.0
    decay: bool = False
    momentum: float = 0.7
    floor: float = 0.5
    view: Literal["training", "separate"] = "training"

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        if self.preset not in {"safe", "paper"} or self.view not in {"training", "separate"}:
            raise ConfigError(
                f"there is no self-labelling {self.preset!r} with view {self.view!r}",
                hint="choose safe or paper, and training or separate",
            )
        for name in ("threshold", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"the self-labelling {name} {getattr(self, name)} is not a probability",
                    hint="choose one between 0 and 1",
                )
        if not self.temperature > 0:
            raise ConfigError(
                f"the temperature {self.temperature} is not above 0", hint="try 2; inf is allowed"
            )
        if not 0 <= self.momentum < 1:
            raise ConfigError(
                f"the momentum {self.momentum} is not in [0, 1)", hint="0 keeps no history; try 0.7"
            )
        for epoch in (self.correct_from, self.reweight_from):
            if epoch is not None and epoch < 1:
                raise ConfigError(f"there is no epoch {epoch}", hint="epochs count from 1")

    @classmethod
    def paper(
        cls,
        *,
        correct_from: int | None = 10,
        threshold: float = 0.9,
        reweight_from: int | None = 5,
        temperature: float = 2.0,
        decay: bool = True,
    ) -> "SelfLabelingConfig":
        """Return the authors' settings for a ResNet over 30 epochs.

        Args:
            correct_from: E_c.
            threshold: p_t.
            reweight_from: E_r.
            temperature: tau at first.
            decay: Whether it falls to half.
        """
        return cls(
            preset="paper",
            correct_from=correct_from,
            threshold=threshold,
            reweight_from=reweight_from,
            temperature=temperature,
            decay=decay,
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
