"""Networks of timm on images: a frozen one that makes features, or one that is trained as a whole.

Letters: N samples, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelfix.config import EMBEDDED_BACKBONE, AuditConfig
from labelfix.modalities.activations import Activations, ActivationViews
from labelfix.modalities.base import NetworkCut, NetworkTrainer
from labelfix.modalities.image.activations import FrozenStages, ViewPlan, stored_activations
from labelfix.modalities.image.backbone import (
    Backbone,
    Network,
    fold_batch_norms,
    fresh_classifier,
    load_backbone,
    load_network,
)
from labelfix.modalities.image.features import features_of, stored_features, typical_side
from labelfix.modalities.image.pixels import Pixels, decode_once, source_of, stored_square
from labelfix.modalities.image.survey import Survey, survey_images
from labelfix.modalities.image.transforms import Augment, flip_probability
from labelfix.modalities.image.views import ImageViews
from labelfix.types import Assumption, Features, SampleStore
from labelfix.utils.cache import StoredRows
from labelfix.utils.progress import OnProgress
from labelfix.utils.torch_utils import fastest_dtype


@dataclass(frozen=True, slots=True, eq=False)
class ImageEncoder:
    """A frozen backbone and how images are decoded for it.

    Args:
        backbone: The network.
        survey: How the images of the data set are decoded.
        batch_size: Images a forward pass.
    """

    backbone: Backbone
    survey: Survey
    batch_size: int

    @classmethod
    def load(cls, config: AuditConfig, images: SampleStore) -> "ImageEncoder":
        """Load the backbone; in place of random weights, which see nothing, the default one.

        Args:
            config: What was asked for.
            images: They decide how they are decoded, and at what size they are seen.

        Raises:
            BackboneError: It cannot be had.
        """
        asked = config.backbone
        if not asked.pretrained:
            asked = replace(asked, name=EMBEDDED_BACKBONE, pretrained=True)
        survey = survey_images(images, config.images)
        backbone = load_backbone(asked, typical_side(images, survey.decoding))
        preprocessing = replace(backbone.preprocessing, decoding=survey.decoding)
        backbone = replace(backbone, preprocessing=preprocessing)
        return cls(backbone, survey, asked.batch_size or backbone.best_batch_size)

    @property
    def name(self) -> str:
        """Which network of timm it is."""
        return self.backbone.name

    def encode(
        self, store: SampleStore, fingerprint: str, cache: Path, on_progress: OnProgress
    ) -> Features:
        """Return the features of every image.

        Raises:
            RunError: The cache cannot be written to.
        """
        features = features_of(self.stored(store, fingerprint, cache, on_progress))
        return replace(features, assumptions=features.assumptions + self.survey.assumptions)

    def stored(
        self, store: SampleStore, fingerprint: str, cache: Path, on_progress: OnProgress
    ) -> StoredRows:
        """Return what `encode` does, as rows of the cache and the folder they lie in."""
        return stored_features(
            store,
            fingerprint,
            self.backbone,
            cache=cache / "features",
            batch_size=self.batch_size,
            on_progress=on_progress,
        )

    def settings(self) -> Mapping[str, Any]:
        """Return what shaped the features, as JSON values."""
        return {
            "image_size": self.backbone.preprocessing.size,
            "crop_share": self.backbone.preprocessing.crop_share,
            "precision": str(self.backbone.dtype).removeprefix("torch."),
            "weights_digest": self.backbone.weights_digest,
            "decoding": self.survey.decoding.to_json(),
        }


MIN_CROP = 0.35
"""The least share of an image that a training view shows. Below it the labeled thing is often out
of sight, and a right label looks wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageTrainer:
    """A network of timm that is trained as a whole, and the pixels that it is trained on.

    Args:
        network: As it starts.
        survey: How the images of the data set are decoded.
        config: What was asked for.
    """

    network: Network
    survey: Survey
    config: AuditConfig

    @classmethod
    def load(cls, config: AuditConfig, images: SampleStore) -> "ImageTrainer":
        """Load the network.

        Args:
            config: What was asked for.
            images: They decide how they are decoded, and at what size they are seen.

        Raises:
            BackboneError: It cannot be had.
        """
        survey = survey_images(images, config.images)
        side = typical_side(images, survey.decoding)
        at_most = config.top.largest_image_size if config.tune == "top" else None
        network = load_network(config.backbone, side, seed=config.seed, at_most=at_most)
        size = network.preprocessing.size
        if at_most is not None and network.unlimited_size > at_most == size:
            said = (
                f"upper stages are trained on images of {size} pixels a side, not "
                f"{network.unlimited_size} (--image-size asks for another size)"
            )
            assumptions = (*survey.assumptions, Assumption("tune", said))
            survey = replace(survey, assumptions=assumptions)
        preprocessing = replace(network.preprocessing, decoding=survey.decoding)
        return cls(replace(network, preprocessing=preprocessing), survey, config)

    @property
    def name(self) -> str:
        """Which network of timm it is."""
        return self.config.backbone.name

    def encode(
        self, store: SampleStore, fingerprint: str, cache: Path, on_progress: OnProgress
    ) -> Pixels:
        """Decode every image once.

        Raises:
            RunError: The cache cannot be written to.
        """
        pixels = decode_once(
            store,
            fingerprint,
            stored_square(self.network.preprocessing),
            cache=cache / "pixels",
            on_progress=on_progress,
        )
        return replace(pixels, assumptions=pixels.assumptions + self.survey.assumptions)

    def views(
        self,
        store: SampleStore,
        seen: Pixels,
        given_label: NDArray[np.int64],
        device: torch.device,
        *,
        rank: int,
        world_size: int,
    ) -> ImageViews:
        """Return crops of the images; arguments as of `NetworkTrainer`.

        They are flipped where the classes look the same in a mirror.
        """
        flip = 0.0 if seen.values is None else flip_probability(seen.values, given_label)
        return ImageViews(
            source_of(store, seen),
            self.network.preprocessing,
            Augment(scale=(MIN_CROP, 1.0), flip=flip),
            device,
            rank=rank,
            world_size=world_size,
        )

    def pretrained_state(self) -> dict[str, Tensor]:
        """Return the weights that training begins with."""
        return self.network.model.state_dict()

    def fresh_network(self, classes: int, device: torch.device) -> nn.Module:
        """Return the network with a fresh head of K classes, on a device."""
        model = fresh_classifier(self.network, classes)
        return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def settings(self) -> Mapping[str, Any]:
        """Return what shapes the inputs and names the weights, as JSON values."""
        return {
            "image_size": self.network.preprocessing.size,
            "crop_share": self.network.preprocessing.crop_share,
            "weights_digest": self.network.weights_digest,
            "decoding": self.survey.decoding.to_json(),
        }

    def notes(self) -> Sequence[str]:
        """Return by what images were compared, where it was not the network itself."""
        if self.config.backbone.pretrained:
            return ()
        return (f"images were compared with each other by {EMBEDDED_BACKBONE}",)

    def probe(self, count: int, *, is_longest: bool = False) -> Tensor:
        """Return ``(count, 3, T, T)`` noise in the place of pixels."""
        size = self.network.preprocessing.size
        chance = torch.Generator().manual_seed(0)
        noise = torch.rand(count, 3, size, size, generator=chance) * 2 - 1
        return noise.contiguous(memory_format=torch.channels_last)

    @property
    def has_views(self) -> bool:
        """Return that an image is seen in its mirror image and in crops as well."""
        return True

    def cut_at(self, cut: NetworkCut) -> NetworkTrainer:
        """Return a trainer of the upper stages on activations of the lower ones."""
        return ImageTopTrainer(self, cut, ViewPlan(cut.views, MIN_CROP))

    def recipe(self, classes: int, weights: str) -> str:
        """Return the call of timm that loads the network from a file of weights."""
        size = self.network.preprocessing.size
        fitted = f"img_size={size}, " if hasattr(self.network.model, "set_input_size") else ""
        return (
            f"timm.create_model({self.name!r}, num_classes={classes}, {fitted}"
            f"checkpoint_path={weights!r}); inputs of {size} pixels"
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ImageActivations(Activations):
    """Activations of images.

    Args:
        thumbnails: ``(N, 16, 16, 3)`` uint8.
    """

    thumbnails: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class ImageTopTrainer:
    """The upper stages of a network, trained on what the frozen lower ones make of each image.

    Args:
        whole: The network and how images are decoded for it.
        cut: Where it is cut.
        plan: Which views of an image are kept.
    """

    whole: ImageTrainer
    cut: NetworkCut
    plan: ViewPlan

    @property
    def name(self) -> str:
        """Which network of timm it is."""
        return self.whole.name

    def probe(self, count: int, *, is_longest: bool = False) -> Tensor:
        """Return ``(count, 3, T, T)`` noise in the place of pixels."""
        return self.whole.probe(count)

    def encode(
        self, store: SampleStore, fingerprint: str, cache: Path, on_progress: OnProgress
    ) -> ImageActivations:
        """Run every view of every image through the lower stages, or find it in the cache.

        Raises:
            RunError: The cache cannot be written to, or has too little space.
        """
        stages = self._frozen_stages()
        asked = self.whole.config.backbone.batch_size
        stored = stored_activations(
            store,
            fingerprint,
            stages,
            self.plan,
            cache=cache / "activations",
            batch_size=asked or (16 if stages.device.type == "cpu" else 256),
            on_progress=on_progress,
        )
        return ImageActivations(
            values=stored.arrays["values"],
            thumbnails=stored.arrays["thumbnails"],
            content=stored.content,
            unreadable=stored.unreadable,
            assumptions=self.whole.survey.assumptions,
        )

    def views(
        self,
        store: SampleStore,
        seen: ImageActivations,
        given_label: NDArray[np.int64],
        device: torch.device,
        *,
        rank: int,
        world_size: int,
    ) -> ActivationViews:
        """Return activations; arguments as of `NetworkTrainer`.

        Those of mirror images are left out where the classes do not look the same in a mirror.
        """
        mirrors = flip_probability(seen.thumbnails, given_label) > 0
        return ActivationViews(
            seen.values,
            training_views=self.plan.all() if mirrors else self.plan.plain(),
            evaluation_views=(0, 1) if mirrors and self.plan.count > 1 else (0,),
            device=device,
            rank=rank,
            world_size=world_size,
        )

    def pretrained_state(self) -> dict[str, Tensor]:
        """Return the weights of the whole network."""
        return self.whole.pretrained_state()

    def fresh_network(self, classes: int, device: torch.device) -> nn.Module:
        """Return the upper stages with a fresh head of K classes, on a device."""
        model = self.cut.upper(fresh_classifier(self.whole.network, classes))
        return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def settings(self) -> Mapping[str, Any]:
        """Return what shapes the inputs and names the weights, as JSON values."""
        return {**self.whole.settings(), "cut": self.cut.module, "views": self.plan.count}

    def notes(self) -> Sequence[str]:
        """Return what a reader of the report would not think of, a sentence each."""
        return (f"the stages below {self.cut.module} stayed as pretrained",)

    @property
    def has_views(self) -> bool:
        """Return that an image is seen in its mirror image and in crops as well."""
        return True

    def cut_at(self, cut: NetworkCut) -> NetworkTrainer:
        """Return a trainer of the same network, cut elsewhere."""
        return self.whole.cut_at(cut)

    def recipe(self, classes: int, weights: str) -> str:
        """Return the call of timm that loads the whole network from a file of weights."""
        return self.whole.recipe(classes, weights)

    def _frozen_stages(self) -> FrozenStages:
        network, device = self.whole.network, self.cut.device
        model = fold_batch_norms(network.model, network.preprocessing.size)
        dtype = fastest_dtype(device)
        model = model.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return FrozenStages(
            forward=self.cut.lower(model),
            shape=self.cut.shape,
            key=f"{network.weights_digest} {self.cut.module}",
            preprocessing=network.preprocessing,
            device=device,
            dtype=dtype,
        )
