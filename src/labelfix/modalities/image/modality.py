"""Images as a modality: what its encoder, checks, trainer and renderer are.

Torch is imported only where a network is asked for, so that who reads a report needs none.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.config import EMBEDDED_BACKBONE, AuditConfig
from labelfix.modalities.base import (
    OF_IMAGES,
    Encoder,
    IssueCheck,
    Modality,
    NetworkTrainer,
    Renderer,
)
from labelfix.modalities.image.checks import IMAGE_CHECKS
from labelfix.modalities.image.decode import Decoding
from labelfix.modalities.image.rendering import pictures_of
from labelfix.modalities.image.same_picture import least_agreement
from labelfix.modalities.image.similarity import Pairs, pixel_similarity
from labelfix.types import SampleStore
from labelfix.utils.progress import OnProgress


class ImageModality(Modality):
    """Encoded images: pictures of any format that Pillow reads."""

    name = "image"
    noun, plural, content = OF_IMAGES.noun, OF_IMAGES.plural, OF_IMAGES.content
    libraries = ("timm", "pillow")
    default_backbone = EMBEDDED_BACKBONE

    def encoder(self, config: AuditConfig, store: SampleStore) -> Encoder:
        """Return a frozen backbone; see `labelfix.modalities.image.encoder.ImageEncoder`."""
        encoder: Encoder = _networks().ImageEncoder.load(config, store)
        return encoder

    def checks(self) -> Sequence[IssueCheck]:
        """Return whether images are dark, bright, blurry or of an odd size."""
        return IMAGE_CHECKS

    def confirm_duplicates(
        self, statistics: Any, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return ``(E,)`` how much of their detail the thumbnails of each pair share."""
        return pixel_similarity(statistics.thumbnails, Pairs(first, second))

    def compare_closely(
        self,
        store: SampleStore,
        settings: Mapping[str, Any],
        first: NDArray[np.int64],
        second: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return ``(E,)`` how far the pictures of each pair agree, laid on each other."""
        return least_agreement(store, first, second, Decoding.from_json(settings.get("decoding")))

    def trainer(self, config: AuditConfig, store: SampleStore) -> NetworkTrainer:
        """Return a network of timm and the pixels that it is trained on."""
        trainer: NetworkTrainer = _networks().ImageTrainer.load(config, store)
        return trainer

    def has_network(self, config: AuditConfig) -> bool:
        """Return that there is one: timm's."""
        return True

    def renderer(
        self, store: SampleStore, settings: Mapping[str, Any], on_progress: OnProgress
    ) -> Renderer:
        """Return who draws thumbnails, decoded as in the audit."""
        return pictures_of(store, on_progress, Decoding.from_json(settings.get("decoding")))


def _networks() -> Any:
    return import_module("labelfix.modalities.image.encoder")
