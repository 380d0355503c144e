"""The seam of modalities: all that an audit asks of a kind of sample, be it images or another.

A modality encodes samples as `Features`, names checks of single samples, confirms pairs that may be
the same sample, and may train whole networks and draw samples for a page. Everything else, from
folds and heads to scores and the report, is the same for all of them. Nothing here imports torch,
so that who reads a report may ask a modality for its columns and its renderer.

Letters: N samples, n different readable samples, E pairs, B samples of a batch, K classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from labelfix.config import AuditConfig
from labelfix.errors import ConfigError
from labelfix.types import EncodedSamples, Features, SampleStore
from labelfix.utils.progress import OnProgress

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class IssueCheck:
    """A check of single samples, whatever their label: a score below a threshold is an issue.

    The report has the columns ``is_<name>_issue`` and ``<name>_score`` of it.

    Args:
        name: Lower case, with underscores.
        meaning: Of the first column, one sentence.
        score_meaning: Of the second, without a full stop: units and direction.
        reason: What a sentence about the row says.
        threshold: Where the configuration names none.
        score: ``(n,)`` float32 in [0, 1], low is bad, of the statistics of n samples.
        found: What a summary says after the number and the plural of the samples.
    """

    name: str
    meaning: str
    score_meaning: str
    reason: str
    threshold: float
    score: Callable[[Any], NDArray[np.float32]]
    found: str = ""


@dataclass(frozen=True, slots=True)
class ThumbnailRequest:
    """A picture that a page wants: the row of a sample, and how many pixels a side at most."""

    row: int
    side: int


@dataclass(frozen=True, slots=True)
class Snippet:
    """Text that a page shows in place of a picture; nobody takes it for HTML."""

    text: str


ReviewSize: TypeAlias = Literal["small", "large", "full"]
"""How much of a sample a review asks for: beside others, alone, or all that can be seen."""

REVIEW_SIZES: tuple[ReviewSize, ...] = get_args(ReviewSize)


@dataclass(frozen=True, slots=True)
class Rendering:
    """A sample as a browser shows it: an encoded picture or text, and its media type."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class MarkedPart:
    """A part of a text; ``speaks_for`` is the code of the class that a marked word speaks for."""

    text: str
    speaks_for: int | None = None


class Marker(Protocol):
    """Who marks the words of texts that speak for one class rather than another."""

    def parts(self, row: int, given: int, other: int) -> Sequence[MarkedPart]:
        """Return the text of a row in parts, or raise `UnreadableSample`.

        Args:
            row: Of the text.
            given: Code of the class that is its label.
            other: Code of the class that the given one is compared with.
        """
        ...


@dataclass(frozen=True, slots=True)
class Renderer:
    """Who shows samples to people: on a page, and in a review.

    Args:
        draw: Takes requests of a page, the most important first, and returns ``data:`` addresses
            of pictures, or snippets, for those that can be had and fit.
        exclusion_reason: A sentence that says why none can be had; ``None`` if they can.
        open: Returns the sample of a row for a review, or raises `UnreadableSample`; safe to call
            from several threads. ``None`` if a review shows none.
        is_text: Whether ``open`` returns text, and no pictures.
        marker: Takes ``(N,)`` codes of trusted labels, ``MISSING`` elsewhere, and returns who marks
            words; ``None`` where samples have none.
    """

    draw: Callable[[Sequence[ThumbnailRequest]], Mapping[ThumbnailRequest, str | Snippet]]
    exclusion_reason: str | None
    open: Callable[[int, ReviewSize], Rendering] | None = None
    is_text: bool = False
    marker: Callable[[NDArray[np.int64]], Marker] | None = None


def no_pictures(exclusion_reason: str) -> Renderer:
    """Return a renderer that draws nothing, and says why."""
    return Renderer(lambda requests: {}, exclusion_reason)


class Encoder(Protocol):
    """What makes features of samples: a frozen network, or anything else."""

    @property
    def name(self) -> str:
        """What the report calls it: its ``backbone``."""
        ...

    def encode(
        self, store: SampleStore, fingerprint: str, cache: Path, on_progress: OnProgress
    ) -> Features:
        """Return the features of all samples, from the cache where it holds them.

        Args:
            store: N samples.
            fingerprint: Names the data set, so that interrupted work is found again.
            cache: A folder that holds what was computed before.
            on_progress: Told how far it is.

        Raises:
            RunError: The cache cannot be written to.
        """
        ...

    def settings(self) -> Mapping[str, Any]:
        """Return what shaped the features, as JSON values."""
        ...


class Views(Protocol):
    """Batches of inputs of a network, on its device."""

    def step_sizes(self, rows: NDArray[np.int64], batch_size: int) -> list[int]:
        """Return how many rows each step of an epoch takes, over all processes."""
        ...

    def training(
        self, rows: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int
    ) -> "Iterator[tuple[Tensor, Tensor]]":
        """Yield rows ``(B,)`` and augmented inputs in a new order each epoch."""
        ...

    def evaluation(
        self, rows: NDArray[np.int64], batch_size: int
    ) -> "Iterator[tuple[Tensor, Tensor]]":
        """Yield rows ``(B,)`` and plain inputs, each row once over all processes."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class NetworkCut:
    """Where a network is cut: below, it stays as pretrained; from there on, it is trained.

    Args:
        module: Name of the first module that is trained.
        shape: Of what enters it, for one sample.
        views: How many views of each sample are kept, at most.
        device: Where the lower half runs.
        lower: Makes the lower half, which takes inputs and returns what enters ``module``.
        upper: Makes the upper half, which takes that; its parameters keep their names.
    """

    module: str
    shape: tuple[int, ...]
    views: int
    device: "torch.device"
    lower: "Callable[[nn.Module], Callable[[Tensor], Tensor]]"
    upper: "Callable[[nn.Module], nn.Module]"


class NetworkTrainer(Protocol):
    """How samples enter networks that are trained as a whole, and what networks these are."""

    @property
    def name(self) -> str:
        """What the report calls the network: its ``backbone``."""
        ...

    def encode(
        self, store: SampleStore, fingerprint: str, cache: Path, on_progress: OnProgress
    ) -> EncodedSamples:
        """Read every sample once, and keep what training needs; arguments as of `Encoder`."""
        ...

    def views(
        self,
        store: SampleStore,
        seen: Any,
        given_label: NDArray[np.int64],
        device: "torch.device",
        *,
        rank: int,
        world_size: int,
    ) -> Views:
        """Return the inputs that networks are trained on.

        Args:
            store: N samples.
            seen: What `encode` returned of them.
            given_label: ``(N,)`` codes.
            device: Where inputs are wanted.
            rank: Which process this is, from 0.
            world_size: How many there are.
        """
        ...

    def pretrained_state(self) -> "dict[str, Tensor]":
        """Return the weights that training begins with."""
        ...

    def fresh_network(self, classes: int, device: "torch.device") -> "nn.Module":
        """Return a network with these weights and a fresh head, on a device."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """Return what shapes the inputs and names the weights, as JSON values."""
        ...

    def notes(self) -> Sequence[str]:
        """Return what a reader of the report would not think of, a sentence each."""
        ...

    def cut_at(self, cut: NetworkCut) -> "NetworkTrainer":
        """Return a trainer of the upper half, whose inputs are what the lower half makes."""
        ...

    def probe(self, count: int, *, is_longest: bool = False) -> "Tensor":
        """Return ``(count, ...)`` made-up inputs of the whole network, of the usual size.

        Args:
            count: How many.
            is_longest: Where sizes differ: of the size of the largest sample instead.
        """
        ...

    @property
    def has_views(self) -> bool:
        """Return whether a sample can be shown otherwise than it is, as in its mirror image."""
        ...

    def recipe(self, classes: int, weights: str) -> str:
        """Return in words how to load the network again from a file of weights."""
        ...


@dataclass(frozen=True, slots=True)
class Wording:
    """What sentences call samples of a kind.

    Args:
        noun: One of them.
        plural: Several.
        content: What a sample and a near-duplicate of it have in common.
        are_pictures: Whether they have a size in pixels.
    """

    noun: str = "sample"
    plural: str = "samples"
    content: str = "sample"
    are_pictures: bool = False


OF_IMAGES = Wording("image", "images", "picture", are_pictures=True)
"""Here, as a reader of a report asks for it without what decodes images."""

OF_TEXTS = Wording("text", "texts", "text")


class Modality(Protocol):
    """A kind of sample. A subclass has to name an encoder; the rest has a default that does least.

    Attributes:
        name: What ``modality`` of the report says.
        noun: What a sample is called in a message.
        plural: What several samples are called in a message.
        content: What a sample and a near-duplicate of it have in common; "" says the noun.
        libraries: Whose versions the report names, beside those of every audit.
        text_of: Makes the text that a table shows of an encoded sample, or raises
            `UnreadableSample`; ``None`` where samples are no texts.
        default_backbone: The encoder that is taken where nobody names one.
    """

    name: str
    noun: str = "sample"
    plural: str = "samples"
    content: str = ""
    libraries: tuple[str, ...] = ()
    text_of: Callable[[bytes], str] | None = None
    default_backbone: str = ""

    @property
    def wording(self) -> Wording:
        """Return what sentences call the samples."""
        return Wording(self.noun, self.plural, self.content or self.noun)

    def encoder(self, config: AuditConfig, store: SampleStore) -> Encoder:
        """Return what makes features of the samples.

        Raises:
            BackboneError: It cannot be had.
        """
        ...

    def checks(self) -> Sequence[IssueCheck]:
        """Return the checks of single samples, in the order of the report."""
        return ()

    def confirm_duplicates(
        self, statistics: Any, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return ``(E,)`` how much alike the two samples of each pair are, 1 for the same one.

        Near neighbors by their features are asked about; without a way to confirm one, none is a
        near-duplicate.

        Args:
            statistics: Those of the samples, by row.
            first: ``(E,)`` rows.
            second: ``(E,)`` rows.
        """
        return np.zeros(len(first), np.float32)

    def compare_closely(
        self,
        store: SampleStore,
        settings: Mapping[str, Any],
        first: NDArray[np.int64],
        second: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return ``(E,)`` how much alike the samples are of each pair that may be near-duplicates.

        Only pairs that `confirm_duplicates` takes for the same are asked about; by default that is
        enough.

        Args:
            store: N samples.
            settings: Of the run, as the report tells them.
            first: ``(E,)`` rows.
            second: ``(E,)`` rows.
        """
        return np.ones(len(first), np.float32)

    def trainer(self, config: AuditConfig, store: SampleStore) -> NetworkTrainer | None:
        """Return how whole networks are trained; ``None`` if only heads can be.

        Raises:
            BackboneError: The network cannot be had.
        """
        return None

    def has_network(self, config: AuditConfig) -> bool:
        """Return whether `trainer` may return one; without it, ``tune="auto"`` trains heads."""
        return False

    def renderer(
        self, store: SampleStore, settings: Mapping[str, Any], on_progress: OnProgress
    ) -> Renderer:
        """Return who draws samples for a page.

        Args:
            store: N samples.
            settings: Of the run, as the report tells them.
            on_progress: Told how many are drawn.
        """
        return no_pictures(f"There are no pictures of {self.plural}.")


_MODALITIES = {
    "image": "labelfix.modalities.image.modality:ImageModality",
    "text": "labelfix.modalities.text.modality:TextModality",
    "embedding": "labelfix.modalities.embedding.modality:EmbeddingModality",
}
"""By name the module and the class, which is imported when it is asked for."""

_WORDING: dict[str | None, Wording] = {None: OF_IMAGES, "image": OF_IMAGES, "text": OF_TEXTS}


def wording_of(name: str | None) -> Wording:
    """Return what sentences call the samples of a report.

    Those of a modality from outside are "samples": a report names it, and holds no more of it.

    Args:
        name: The modality as the record of the run names it; ``None`` where probabilities were
            given, whose samples are taken to be images.
    """
    return _WORDING.get(name, Wording())


def found_by_checks(name: str | None) -> dict[str, str]:
    """Return what a summary says of each kind of issue that a modality of labelfix checks.

    Args:
        name: The modality; one from outside, or ``None``, has none.
    """
    if name is None or not is_known(name):
        return {}
    return {check.name: check.found for check in get_modality(name).checks()}


def is_known(name: str) -> bool:
    """Return whether labelfix has a modality of that name."""
    return name in _MODALITIES


def get_modality(name: str) -> Modality:
    """Return a modality of labelfix by its name.

    Raises:
        ConfigError: There is none of that name.
    """
    if not is_known(name):
        raise ConfigError(
            f"labelfix knows no samples of the kind {name!r}",
            hint=f"choose one of {', '.join(_MODALITIES)}",
        )
    module, _, of_class = _MODALITIES[name].partition(":")
    modality: Modality = getattr(import_module(module), of_class)()
    return modality
