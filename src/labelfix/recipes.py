"""`--tune full`: the backbone itself is fine-tuned, a network a fold.

Letters: N samples, K classes.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labelfix.config import (
    EMBEDDED_BACKBONE,
    AuditConfig,
    FineTuningConfig,
    RegularizationConfig,
    settings_to_report,
)
from labelfix.modalities.image.backbone import (
    Backbone,
    Network,
    choose_device,
    fresh_classifier,
    load_backbone,
    load_network,
)
from labelfix.modalities.image.features import features_of, stored_features, typical_side
from labelfix.modalities.image.pixels import Pixels, decode_once, source_of, stored_square
from labelfix.modalities.image.survey import Survey, survey_images
from labelfix.modalities.image.transforms import Augment, flip_probability
from labelfix.modalities.image.views import ImageViews
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.cross_fit_heads import cross_fit_heads
from labelfix.training.cross_fit_networks import FineTuned, Networks, Recipe, cross_fit_networks
from labelfix.training.distributed import World
from labelfix.training.gradients import uses_half
from labelfix.types import Evidence, Features, FoldAssignment, LabeledDataset, Reviewed
from labelfix.utils.cache import StoredRows
from labelfix.utils.progress import OnProgress
from labelfix.utils.torch_utils import explain_out_of_memory

_ALWAYS_REPORTED_OF_HEADS = (
    "folds", "epochs", "least_steps", "batch_size", "learning_rate", "radii",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class HeadTuning:
    """The frozen backbone and how heads are trained on what it sees."""

    backbone: Backbone
    config: AuditConfig
    survey: Survey

    @classmethod
    def load(cls, dataset: LabeledDataset, config: AuditConfig) -> "HeadTuning":
        """Load the backbone.

        Raises:
            BackboneError: It cannot be had.
        """
        survey = survey_images(dataset.images, config.images)
        side = typical_side(dataset.images, survey.decoding)
        backbone = load_backbone(config.backbone, side)
        preprocessing = replace(backbone.preprocessing, decoding=survey.decoding)
        return cls(replace(backbone, preprocessing=preprocessing), config, survey)

    @property
    def folds(self) -> int:
        """How many folds the data are split into."""
        return self.config.heads.folds

    def look(self, dataset: LabeledDataset, cache: Path, on_progress: OnProgress) -> Features:
        """Return the features of every image.

        Raises:
            RunError: The cache cannot be written to.
        """
        features = features_of(self.stored(dataset, cache, on_progress))
        return replace(features, assumptions=features.assumptions + self.survey.assumptions)

    def stored(self, dataset: LabeledDataset, cache: Path, on_progress: OnProgress) -> StoredRows:
        """Return what ``look`` does, as rows of the cache and the folder they lie in."""
        return stored_features(
            dataset.images,
            dataset.fingerprint,
            self.backbone,
            cache=cache / "features",
            batch_size=self.config.backbone.batch_size or self.backbone.best_batch_size,
            on_progress=on_progress,
        )

    def train(
        self,
        dataset: LabeledDataset,
        seen: Features,
        judgeable: FoldAssignment,
        reviewed: Reviewed | None,
        on_progress: OnProgress,
    ) -> Evidence:
        """Train the heads, on reviewed labels where there are any.

        Raises:
            TrainingError: The loss is no longer finite.
        """
        return cross_fit_heads(
            seen,
            dataset.given_label,
            judgeable,
            classes=len(dataset.class_names),
            config=self.config.heads,
            seed=self.config.seed,
            device=self.backbone.device,
            trusted_label=None if reviewed is None else reviewed.label,
            on_progress=on_progress,
        )

    def settings(self) -> Mapping[str, Any]:
        """Return the settings that shaped the results, as JSON values."""
        return {
            "tune": "head",
            "image_size": self.backbone.preprocessing.size,
            "crop_share": self.backbone.preprocessing.crop_share,
            "precision": str(self.backbone.dtype).removeprefix("torch."),
            "device": self.backbone.device.type,
            "weights_digest": self.backbone.weights_digest,
            "decoding": self.survey.decoding.to_json(),
            **settings_to_report(self.config.heads, always=_ALWAYS_REPORTED_OF_HEADS),
        }


MIN_CROP = 0.35
"""The least share of an image that a training view shows. Below it the labeled thing is often out
of sight, and a right label looks wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class FullTuning:
    """The pretrained network and how it is fine-tuned.

    Args:
        network: As it starts.
        survey: How its images are decoded.
        device: Of this process.
        world: The processes that train together.
        config: What was asked for.
        rate_halvings: How often the learning rate was halved since, because training diverged.
    """

    network: Network
    survey: Survey
    device: torch.device
    world: World
    config: AuditConfig
    rate_halvings: int = 0

    @classmethod
    def load(
        cls, dataset: LabeledDataset, config: AuditConfig, world: World, *, rate_halvings: int = 0
    ) -> "FullTuning":
        """Load the network.

        Args:
            dataset: Its images decide at what size the network sees them.
            config: What was asked for.
            world: The processes that train together.
            rate_halvings: Of the process that writes; the others follow it.

        Raises:
            BackboneError: The network cannot be had.
            TrainingError: Another process is gone.
        """
        survey = survey_images(dataset.images, config.images)
        side = typical_side(dataset.images, survey.decoding)
        network = load_network(config.backbone, side, seed=config.seed)
        preprocessing = replace(network.preprocessing, decoding=survey.decoding)
        network = replace(network, preprocessing=preprocessing)
        device = world.device(choose_device(config.backbone.device))
        told = rate_halvings if world.is_writer else 0
        of_all = int(world.sum(torch.tensor(told, device=device)))
        return cls(network, survey, device, world, config, of_all)

    @property
    def training(self) -> FineTuningConfig:
        """How the networks are trained, with the learning rate as it is by now."""
        asked = self.config.fine_tuning
        return replace(asked, learning_rate=asked.learning_rate / 2**self.rate_halvings)

    @property
    def regularization(self) -> RegularizationConfig:
        """How far weights may go: as far as they like from a start that is random."""
        asked = self.config.regularization
        if self.config.backbone.pretrained:
            return asked
        free = 0.0 if asked.form == "penalty" else math.inf
        return replace(asked, schedule="constant", distance=free)

    @property
    def folds(self) -> int:
        """How many folds the data are split into."""
        return self.config.fine_tuning.folds

    def look(self, dataset: LabeledDataset, cache: Path, on_progress: OnProgress) -> Pixels:
        """Decode every image once.

        Raises:
            RunError: The cache cannot be written to.
        """
        pixels = decode_once(
            dataset.images,
            dataset.fingerprint,
            stored_square(self.network.preprocessing),
            cache=cache / "pixels",
            on_progress=on_progress,
        )
        return replace(pixels, assumptions=pixels.assumptions + self.survey.assumptions)

    def train(
        self,
        dataset: LabeledDataset,
        seen: Pixels,
        judgeable: FoldAssignment,
        reviewed: Reviewed | None,
        checkpoints: Checkpoints,
        on_progress: OnProgress,
    ) -> FineTuned:
        """Fine-tune a network a fold, and let each judge what it never saw.

        Reviewed labels are trained on as they are.

        Raises:
            TrainingError: The loss is no longer finite, memory runs out, or another process is
                gone.
            RunError: A checkpoint cannot be written or read.
        """
        views = ImageViews(
            source_of(dataset.images, seen),
            self.network.preprocessing,
            Augment(scale=(MIN_CROP, 1.0), flip=self._flip(dataset, seen)),
            self.device,
            rank=self.world.rank,
            world_size=self.world.size,
        )
        recipe = Recipe(
            training=self.training,
            regularization=self.regularization,
            self_labeling=self.config.self_labeling,
            seed=self.config.seed,
        )
        pretrained = self.network.model.state_dict()
        with explain_out_of_memory():  # of optimizer or images, say, which are never cut
            return cross_fit_networks(
                views,
                dataset.given_label,
                judgeable,
                Networks(make=self._make, pretrained=pretrained, device=self.device),
                recipe,
                classes=len(dataset.class_names),
                checkpoints=checkpoints,
                world=self.world,
                trusted_label=None if reviewed is None else reviewed.label,
                on_progress=on_progress,
            )

    def settings(self, tuned: FineTuned) -> Mapping[str, Any]:
        """Return the settings that shaped the results, as JSON values."""
        share = self.config.fine_tuning.batch_size // self.world.size
        return {
            "tune": "full",
            "image_size": self.network.preprocessing.size,
            "crop_share": self.network.preprocessing.crop_share,
            "precision": self._precision(),
            "device": self.device.type,
            "weights_digest": self.network.weights_digest,
            "decoding": self.survey.decoding.to_json(),
            "processes": self.world.size,
            "micro_batch_size": tuned.micro_batch_size or share,
            **asdict(self.training),
            "rate_halvings": self.rate_halvings,
            "regularization": asdict(self.regularization),
            "self_labeling": asdict(self.config.self_labeling),
            "notes": self._notes(tuned),
        }

    def _notes(self, tuned: FineTuned) -> list[str]:
        """Return what did not go as a reader of the report would think, a sentence each."""
        notes = []
        if not self.config.backbone.pretrained:
            notes.append("the networks began with random weights: only their heads were held")
            notes.append(f"images were compared with each other by {EMBEDDED_BACKBONE}")
        if self.rate_halvings:
            rate = f"{self.training.learning_rate:.2g}"
            notes.append(f"training diverged; it ended with a learning rate of {rate}")
        if tuned.micro_batch_size is not None:
            notes.append(f"memory was short: {tuned.micro_batch_size} images at a time were seen")
        if tuned.compile_fault is not None:
            notes.append(f"the network could not be compiled ({tuned.compile_fault}): it ran as is")
        return notes

    def _precision(self) -> str:
        is_half = uses_half(self.config.fine_tuning, self.device)
        return "bfloat16" if is_half else "float32"

    def _make(self, classes: int) -> nn.Module:
        model = fresh_classifier(self.network, classes)
        model = model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self.world.share_norms(model, self.device)

    def _flip(self, dataset: LabeledDataset, seen: Pixels) -> float:
        if seen.values is None:
            return 0.0
        return flip_probability(seen.values, dataset.given_label)
