"""The two ways to train on a data set, each bound to a modality: heads, or whole networks.

This is the only module that knows of both. Letters: N samples, K classes.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labelfix.config import (
    AuditConfig,
    FineTuningConfig,
    RegularizationConfig,
    TopConfig,
    settings_to_report,
)
from labelfix.errors import ConfigError
from labelfix.modalities.base import (
    Encoder,
    Modality,
    NetworkCut,
    NetworkTrainer,
    get_modality,
)
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.cross_fit_heads import cross_fit_heads
from labelfix.training.cross_fit_networks import (
    AtOnce,
    FineTuned,
    Networks,
    Recipe,
    cross_fit_networks,
)
from labelfix.training.cut import (
    Cut,
    LowerNetwork,
    choose_cut,
    draws_chances,
    possible_cuts,
    upper_network,
)
from labelfix.training.distributed import World
from labelfix.training.gradients import uses_half
from labelfix.training.layers import LayerParameter, group_layers
from labelfix.training.network_memory import NetworkMemory, network_memory
from labelfix.types import (
    EncodedSamples,
    Evidence,
    Features,
    FoldAssignment,
    LabeledDataset,
    Reviewed,
    Samples,
)
from labelfix.utils.progress import OnProgress
from labelfix.utils.torch_utils import choose_device, explain_out_of_memory

_ALWAYS_REPORTED_OF_HEADS = (
    "folds", "epochs", "least_steps", "batch_size", "learning_rate", "radii",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class HeadTuning:
    """The encoder of a modality and how heads are trained on its features.

    Args:
        encoder: Makes the features.
        config: What was asked for.
        device: Where heads are trained.
    """

    encoder: Encoder
    config: AuditConfig
    device: torch.device

    @classmethod
    def load(
        cls, dataset: LabeledDataset, config: AuditConfig, modality: Modality | None = None
    ) -> "HeadTuning":
        """Load the encoder.

        Args:
            dataset: The samples.
            config: What was asked for.
            modality: Of the samples; ``None`` takes images.

        Raises:
            BackboneError: It cannot be had.
        """
        encoder = (modality or get_modality("image")).encoder(config, dataset.store)
        return cls(encoder, config, choose_device(config.backbone.device))

    @property
    def folds(self) -> int:
        """How many folds the data are split into."""
        return self.config.heads.folds

    def look(self, dataset: LabeledDataset, cache: Path, on_progress: OnProgress) -> Features:
        """Return the features of every sample.

        Raises:
            RunError: The cache cannot be written to.
        """
        return self.encoder.encode(dataset.store, dataset.fingerprint, cache, on_progress)

    def train(
        self,
        dataset: Samples,
        seen: Features,
        assignment: FoldAssignment,
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
            assignment,
            classes=len(dataset.class_names),
            config=self.config.heads,
            seed=self.config.seed,
            device=self.device,
            trusted_label=None if reviewed is None else reviewed.label,
            on_progress=on_progress,
        )

    def settings(self) -> Mapping[str, Any]:
        """Return the settings that shaped the results, as JSON values."""
        return {
            "tune": "head",
            **self.encoder.settings(),
            "device": self.device.type,
            **settings_to_report(self.config.heads, always=_ALWAYS_REPORTED_OF_HEADS),
        }


@dataclass(frozen=True, slots=True, eq=False)
class FullTuning:
    """The pretrained network of a modality and how it is fine-tuned.

    Args:
        trainer: The network as it starts, and its inputs.
        device: Of this process.
        world: The processes that train together.
        config: What was asked for.
        rate_halvings: How often the learning rate was halved since, because training diverged.
        layers: Of the whole network, where its upper stages alone are trained.
        largest_input: The shape of the largest sample as it enters what is trained, but for texts
            that were not looked at.
        most_at_once: How many networks may train at once; ``None`` for as many as there are cores.
    """

    trainer: NetworkTrainer
    device: torch.device
    world: World
    config: AuditConfig
    rate_halvings: int = 0
    layers: tuple[LayerParameter, ...] | None = None
    largest_input: tuple[int, ...] = ()
    most_at_once: int | None = None

    @classmethod
    def load(
        cls,
        dataset: LabeledDataset,
        config: AuditConfig,
        world: World,
        modality: Modality,
        *,
        rate_halvings: int = 0,
    ) -> "FullTuning":
        """Load the network.

        Args:
            dataset: Its samples decide how the network sees them.
            config: What was asked for.
            world: The processes that train together.
            modality: Of the samples.
            rate_halvings: Of the process that writes; the others follow it.

        Raises:
            BackboneError: The network cannot be had.
            ConfigError: The modality has no networks to train.
            TrainingError: Another process is gone.
        """
        trainer = modality.trainer(config, dataset.store)
        if trainer is None:
            raise ConfigError(
                f"there is no whole network to train on {modality.plural}",
                hint="train heads on their features with --tune head",
            )
        device = world.device(choose_device(config.backbone.device))
        told = rate_halvings if world.is_writer else 0
        of_all = int(world.sum(torch.tensor(told, device=device)))
        if config.tune != "top":
            return cls(trainer, device, world, config, of_all)
        upper, layers, shape = _cut(trainer, len(dataset.store), config.top, device)
        return cls(upper, device, world, config, of_all, layers, shape)

    @property
    def training(self) -> FineTuningConfig:
        """How the networks are trained, with the learning rate as it is by now."""
        asked = self.config.fine_tuning if self.layers is None else self.config.top
        return replace(asked, learning_rate=asked.learning_rate / 2**self.rate_halvings)

    @property
    def regularization(self) -> RegularizationConfig:
        """How far weights may go: as far as they like from a start that is random."""
        asked = self.config.regularization
        if self.layers is not None:
            asked = self.config.top_regularization
        if self.config.backbone.pretrained:
            return asked
        free = 0.0 if asked.form == "penalty" else math.inf
        return replace(asked, schedule="constant", distance=free)

    @property
    def folds(self) -> int:
        """How many folds the data are split into."""
        return self.training.folds

    @property
    def networks_at_once(self) -> int:
        """How many networks train at once."""
        at_once = self._at_once()
        return 1 if at_once is None else at_once.networks

    def memory(self, dataset: LabeledDataset) -> NetworkMemory | None:
        """Return what training takes; ``None`` where networks lie in the memory of a GPU.

        Args:
            dataset: How many samples and classes there are.
        """
        if self.device.type != "cpu":
            return None
        model = self._make(max(2, len(dataset.class_names)))
        learned = math.ceil(len(dataset) * (self.folds - 1) / self.folds)
        at_once = self._at_once()
        return network_memory(
            model,
            self._largest_inputs(),
            self.training,
            batch_size=min(self.training.batch_size // self.world.size, max(2, learned)),
            pretrained=self.trainer.pretrained_state(),
            portion=None if at_once is None else at_once.portion,
        )

    def _largest_inputs(self) -> torch.Tensor:
        """Return ``(2, ...)`` made-up samples as they enter the networks."""
        if self.layers is None:
            return self.trainer.probe(2, is_longest=True)
        inputs = torch.rand(2, *self.largest_input, generator=torch.Generator().manual_seed(0))
        is_map = inputs.ndim == 4
        return inputs.contiguous(memory_format=torch.channels_last) if is_map else inputs

    def look(self, dataset: LabeledDataset, cache: Path, on_progress: OnProgress) -> EncodedSamples:
        """Read every sample once.

        Raises:
            RunError: The cache cannot be written to.
        """
        return self.trainer.encode(dataset.store, dataset.fingerprint, cache, on_progress)

    def train(
        self,
        dataset: LabeledDataset,
        seen: EncodedSamples,
        assignment: FoldAssignment,
        reviewed: Reviewed | None,
        checkpoints: Checkpoints,
        on_progress: OnProgress,
    ) -> FineTuned:
        """Fine-tune one network per fold, and let each score what it never saw.

        Reviewed labels are trained on as they are.

        Raises:
            TrainingError: The loss is no longer finite, memory runs out, or another process is
                gone.
            RunError: A checkpoint cannot be written or read.
        """
        views = self.trainer.views(
            dataset.store,
            seen,
            dataset.given_label,
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
        pretrained = self.trainer.pretrained_state()
        with explain_out_of_memory():  # of optimizer or samples, say, which are never cut
            tuned = cross_fit_networks(
                views,
                dataset.given_label,
                assignment,
                Networks(self._make, pretrained, self.device, self.layers),
                recipe,
                classes=len(dataset.class_names),
                checkpoints=checkpoints,
                world=self.world,
                trusted_label=None if reviewed is None else reviewed.label,
                at_once=self._at_once(),
                on_progress=on_progress,
            )
        return replace(tuned, model_state={**pretrained, **tuned.model_state})

    def settings(self, tuned: FineTuned) -> Mapping[str, Any]:
        """Return the settings that shaped the results, as JSON values."""
        share = self.training.batch_size // self.world.size
        return {
            "tune": "full" if self.layers is None else "top",
            **asdict(self.training),
            **self.trainer.settings(),  # what became of the cut and the views
            "precision": self._precision(),
            "device": self.device.type,
            "processes": self.world.size,
            "micro_batch_size": tuned.micro_batch_size or share,
            "epochs": tuned.epochs,
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
        notes += self.trainer.notes()
        if self.rate_halvings:
            rate = f"{self.training.learning_rate:.2g}"
            notes.append(f"training diverged; it ended with a learning rate of {rate}")
        if tuned.micro_batch_size is not None:
            notes.append(f"memory was short: {tuned.micro_batch_size} samples at a time were seen")
        if tuned.compile_fault is not None:
            notes.append(f"the network could not be compiled ({tuned.compile_fault}): it ran as is")
        return notes

    def _precision(self) -> str:
        is_half = uses_half(self.training, self.device)
        return "bfloat16" if is_half else "float32"

    def _make(self, classes: int) -> nn.Module:
        return self.world.share_norms(self.trainer.fresh_network(classes, self.device), self.device)

    def _at_once(self) -> AtOnce | None:
        if self.layers is None:  # a whole network is too slow on one core
            return None
        at_once = networks_at_once(
            self._make(2), self.config.top, self.device, processes=self.world.size
        )
        if at_once is None or self.most_at_once is None:
            return at_once
        return replace(at_once, networks=min(at_once.networks, self.most_at_once))


def networks_at_once(
    model: nn.Module, config: TopConfig, device: torch.device, *, processes: int
) -> AtOnce | None:
    """Return how many upper networks train at once: one, on one core, if they draw chances.

    ``None`` trains one after the other on all cores, or on the device.

    Args:
        model: One of them.
        config: How they are trained.
        device: Where they are trained.
        processes: How many train each network.
    """
    if device.type != "cpu" or processes > 1:
        return None
    cores = 1 if draws_chances(model) else torch.get_num_threads()
    return AtOnce(min(config.folds, cores), cores, config.core_batch_size)


def views_kept(trainer: NetworkTrainer, cut: Cut, samples: int, config: TopConfig) -> int:
    """Return how many views of each sample are kept: what was asked for, as far as it fits.

    Args:
        trainer: Of the whole network.
        cut: Where it is cut.
        samples: N.
        config: How many, and how much space they may take.
    """
    if not trainer.has_views:
        return 1
    fitting = config.cache_bytes // (cut.bytes_of_view * max(1, samples))
    return max(1, min(config.views, fitting))


def _cut(
    trainer: NetworkTrainer, samples: int, config: TopConfig, device: torch.device
) -> tuple[NetworkTrainer, tuple[LayerParameter, ...], tuple[int, ...]]:
    """Return a trainer of the upper stages, the layers of the whole network, and a shape.

    The shape is that of the largest sample where it enters the upper stages.

    Raises:
        BackboneError: The network cannot be cut, or no cut fits into the space that is allowed.
    """
    model = trainer.fresh_network(2, torch.device("cpu"))
    layers = group_layers(model)
    cut = choose_cut(
        possible_cuts(model, trainer.probe(1)),
        samples,
        largest_share=config.largest_step,
        budget=config.cache_bytes,
        module=config.cut,
    )
    upper = trainer.cut_at(
        NetworkCut(
            module=cut.module,
            shape=cut.shape,
            views=views_kept(trainer, cut, samples, config),
            device=device,
            lower=partial(LowerNetwork, cut=cut),
            upper=partial(upper_network, layers=layers, cut=cut),
        )
    )
    with torch.inference_mode():
        largest = LowerNetwork(model.eval(), cut)(trainer.probe(1, is_longest=True))
    return upper, layers, tuple(largest.shape[1:])
