"""What a diagnosis of a fine-tuned network says: frozen records that become JSON values.

A weight is a parameter of more than one dimension; biases and the scales of norms are left out.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LayerDistance:
    """How far one weight has travelled.

    Args:
        name: As in the network's own ``named_parameters``.
        size: How many numbers it holds.
        distance: ``||W - W0||_F``.
        start_norm: ``||W0||_F``; 0 for a weight that is not pretrained, whose centre is zero.
        relative: ``distance / start_norm``; ``None`` where that is 0.
        role: Its group in the regularisation; ``None`` where the run does not say.
        depth: How deep it lies, by that grouping; ``None`` as above.
        radius: Of the ball that held it in training; ``None`` for no ball.
        at_boundary: Whether it lay on the ball's boundary in the end; ``None`` for no ball.
    """

    name: str
    size: int
    distance: float
    start_norm: float
    relative: float | None
    role: str | None = None
    depth: int | None = None
    radius: float | None = None
    at_boundary: bool | None = None


@dataclass(frozen=True, slots=True)
class NoiseStability:
    """What Gaussian noise on every weight does to the loss (cross-entropy, nats).

    Args:
        sigma: The standard deviation of the noise.
        loss: The mean over draws of the perturbed loss.
        increase: The mean over draws of the perturbed loss minus the unperturbed one.
        std: Over draws (n - 1), of either: the unperturbed loss is one number.
        unperturbed_loss: Without noise, on the same images.
        clipped_loss: As ``loss``, each sample's loss clipped to the bound's ``loss_bound``.
        draws: The perturbed loss of each draw; the same draws for every network of the same
            shapes, so that two networks can be compared draw by draw.
    """

    sigma: float
    loss: float
    increase: float
    std: float
    unperturbed_loss: float
    clipped_loss: float
    draws: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PacBayesBound:
    """A bound on the *perturbed* loss over the data's distribution, with every term shown.

    ``bound = clipped_loss + complexity``, where
    ``complexity = loss_bound * sqrt((kl + log_term) / (2 * (samples - 1)))``.

    Args:
        sigma: Of prior N(W0, sigma^2) and posterior N(W, sigma^2).
        clipped_loss: The perturbed loss on training samples, clipped to ``[0, loss_bound]``.
        squared_distance: The sum over weights of ``||W - W0||_F^2``.
        kl: ``squared_distance / (2 * sigma^2)``.
        log_term: ``log(2 * samples / delta)``.
        samples: n, how many the network was trained on.
        delta: The bound may fail with this probability.
        loss_bound: C.
        complexity: The price of having travelled.
        bound: On the expected perturbed loss, clipped.
        is_vacuous: ``bound >= loss_bound``: it says nothing that the clipping did not say before.
    """

    sigma: float
    clipped_loss: float
    squared_distance: float
    kl: float
    log_term: float
    samples: int
    delta: float
    loss_bound: float
    complexity: float
    bound: float
    is_vacuous: bool


@dataclass(frozen=True, slots=True)
class EpochSummary:
    """One epoch of training, averaged over the networks of all folds; ``None`` is not known.

    Args:
        epoch: Counted from 1.
        networks: How many folds reached it.
        loss: The training loss.
        corrected: Labels that a network trained on other than given, on average.
        correction_precision: The share of those corrections that is right; needs the truth.
        mean_weight_kept: Of samples trained on with their given label.
        mean_weight_corrected: Of samples trained on with another one.
        boundary_share: The share of constrained tensors on the boundary of their ball.
    """

    epoch: int
    networks: int
    loss: float | None
    corrected: float | None
    correction_precision: float | None
    mean_weight_kept: float | None
    mean_weight_corrected: float | None
    boundary_share: float | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All of it.

    Args:
        backbone: Its timm name.
        images: On how many training samples the losses were taken, against their given labels.
        seed: Of the noise.
        layers: Every weight, in the order of the network.
        noise: One record for each sigma.
        bounds: One record for each sigma; each holds on its own with probability 1 - delta.
        epochs: The course of training.
        boundary_share: The share of constrained tensors on their boundary in the end; ``None``
            where none was constrained.
    """

    backbone: str
    images: int
    seed: int
    layers: tuple[LayerDistance, ...]
    noise: tuple[NoiseStability, ...]
    bounds: tuple[PacBayesBound, ...]
    epochs: tuple[EpochSummary, ...]
    boundary_share: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values; what is not finite becomes ``None``."""
        values: dict[str, Any] = _as_json(asdict(self))
        return values


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
