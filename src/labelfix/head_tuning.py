"""`--tune head`: linear heads on the features of a frozen backbone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from labelfix.backbone import Backbone, load_backbone
from labelfix.config import AuditConfig
from labelfix.disk_cache import StoredRows
from labelfix.features import features_of, stored_features, typical_side
from labelfix.image_survey import Survey, survey_images
from labelfix.records import (
    Evidence,
    Features,
    Judgeable,
    LabeledDataset,
    OnProgress,
    Reviewed,
)
from labelfix.training import cross_fit_heads


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
        """Into how many folds the data are dealt."""
        return self.config.training.folds

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
        judgeable: Judgeable,
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
            config=self.config.training,
            seed=self.config.seed,
            device=self.backbone.device,
            trusted_label=None if reviewed is None else reviewed.label,
            on_progress=on_progress,
        )

    def settings(self) -> Mapping[str, Any]:
        """Return what shaped the verdicts, as JSON values."""
        return {
            "tune": "head",
            "image_size": self.backbone.preprocessing.size,
            "crop_share": self.backbone.preprocessing.crop_share,
            "precision": str(self.backbone.dtype).removeprefix("torch."),
            "device": self.backbone.device.type,
            "weights_digest": self.backbone.weights_digest,
            "decoding": self.survey.decoding.to_json(),
            **asdict(self.config.training),
        }
