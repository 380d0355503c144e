"""The two quantities that decide how a fine-tuned network generalises, and the bound they give.

Distance travelled and noise stability, after Li & Zhang (NeurIPS 2021, arXiv 2111.04578). A weight
is a parameter of more than one dimension: the noise, the distances and the bound all take the same
weights; biases, the scales of norms and the statistics of batch norms stay as they were trained.
"""

import hashlib
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from labelfix.diagnosis_records import LayerDistance, NoiseStability, PacBayesBound
from labelfix.errors import ConfigError

SIGMAS = (1e-2, 1e-3, 1e-4)
"""The standard deviations of the paper's table."""

DRAWS = 20
DELTA = 0.05


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of more than one dimension, by name; they share memory with it."""
    return {name: value for name, value in model.named_parameters() if value.ndim > 1}


def layer_distances(
    state: Mapping[str, Tensor], pretrained: Mapping[str, Tensor]
) -> tuple[LayerDistance, ...]:
    """Return how far each weight of ``state`` lies from where it started.

    Args:
        state: Parameters by name; those of one dimension or none are passed over.
        pretrained: Where they started. A weight that it lacks was not pretrained: its centre is 0.

    Raises:
        ConfigError: A weight has another shape than its start.
    """
    records = []
    for name, value in state.items():
        if value.ndim < 2 or not value.is_floating_point():
            continue
        start = pretrained.get(name)
        if start is not None and start.shape != value.shape:
            raise ConfigError(
                f"{name} is {tuple(value.shape)}, but was {tuple(start.shape)} when it started",
                hint="compare a network with the pretrained weights that it was tuned from",
            )
        records.append(_layer_distance(name, value, start))
    return tuple(records)


def _layer_distance(name: str, value: Tensor, start: Tensor | None) -> LayerDistance:
    now = value.detach().cpu().double()
    centre = torch.zeros_like(now) if start is None else start.detach().cpu().double()
    distance, norm = float((now - centre).norm()), float(centre.norm())
    return LayerDistance(
        name=name,
        size=value.numel(),
        distance=distance,
        start_norm=norm,
        relative=distance / norm if norm > 0 else None,
    )


@torch.no_grad()
def noise_stability(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss_bound: float,
    sigmas: Sequence[float] = SIGMAS,
    draws: int = DRAWS,
    seed: int = 0,
    on_draw: Callable[[int], None] = lambda done: None,
) -> tuple[NoiseStability, ...]:
    """Return what noise N(0, sigma^2) on every weight does to the loss, for each sigma.

    The network is in eval mode meanwhile; afterwards its weights are, bit for bit, and its modes
    what they were, also if the block is left by an error. The noise depends on the seed, the place
    of sigma, the draw and the weight's name and shape alone: two networks get the same.

    Args:
        model: In float32 (bfloat16 would swallow a sigma of 1e-4), on any device.
        batches: Inputs and ``(B,)`` labels on the model's device; gone through many times.
        loss_bound: C, to which each sample's loss is clipped for ``clipped_loss``.
        sigmas: Standard deviations, each >= 0.
        draws: How many times noise is drawn, at least 1.
        seed: Of the noise.
        on_draw: Told how many draws are done, over all sigmas.
    """
    if draws < 1:
        raise ConfigError(f"{draws} draws tell nothing", hint="take 20 or more")
    records = []
    with _eval_mode(model):
        calm, _ = _mean_losses(model, batches, loss_bound)
        for place, sigma in enumerate(sigmas):
            losses, clipped = [], []
            for draw in range(draws):
                with _perturbed(model, sigma, f"{seed}/{place}/{draw}"):
                    loss, clipped_loss = _mean_losses(model, batches, loss_bound)
                losses.append(loss)
                clipped.append(clipped_loss)
                on_draw(place * draws + draw + 1)
            mean = _mean(losses)
            records.append(
                NoiseStability(
                    sigma=sigma,
                    loss=mean,
                    increase=mean - calm,
                    std=_std(losses),
                    unperturbed_loss=calm,
                    clipped_loss=_mean(clipped),
                    draws=tuple(losses),
                )
            )
    return tuple(records)


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


@contextmanager
def _perturbed(model: nn.Module, sigma: float, draw: str) -> Iterator[None]:
    """Add noise to every weight; put copies back at the end, which subtracting would not do."""
    weights = weights_of(model)
    originals = {name: value.detach().clone() for name, value in weights.items()}
    try:
        for name, value in weights.items():
            noise = _standard_noise(f"{draw}/{name}", value.shape)
            value.add_(noise.to(device=value.device, dtype=value.dtype), alpha=sigma)
        yield
    finally:
        for name, value in weights.items():
            value.copy_(originals[name])


def _standard_noise(key: str, shape: torch.Size) -> Tensor:
    """Return N(0, 1) noise that is the same wherever the key and the shape are; drawn on the CPU.

    A generator for each weight, because one for all would shift the noise of every weight behind
    one that another network has not got.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.randn(shape, generator=generator)


def _mean_losses(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss_bound: float
) -> tuple[float, float]:
    """Return the mean loss over all samples, as it is and clipped."""
    sums, count = torch.zeros(2, dtype=torch.float64), 0
    for inputs, labels in batches:
        losses = cross_entropy(model(inputs).float(), labels, reduction="none").cpu().double()
        clipped = losses.nan_to_num(nan=loss_bound).clamp(0, loss_bound)
        sums += torch.stack([losses.sum(), clipped.sum()])
        count += len(labels)
    if count == 0:
        raise ConfigError("there is no image to take the loss of", hint="name at least one")
    loss, clipped_loss = (sums / count).tolist()
    return loss, clipped_loss


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan


def _std(values: Sequence[float]) -> float:
    """Return the sample standard deviation, 0 for one value."""
    if not all(map(math.isfinite, values)):
        return math.nan
    return statistics.stdev(values) if len(values) > 1 else 0.0


def pac_bayes_bound(
    distances: Iterable[LayerDistance],
    *,
    perturbed_loss: float,
    sigma: float,
    samples: int,
    loss_bound: float,
    delta: float = DELTA,
) -> PacBayesBound:
    """Return McAllester's bound on the perturbed loss: prior at the start, posterior at the end.

    ``E_U L <= E_U L_emp + C * sqrt((KL + log(2n / delta)) / (2 (n - 1)))`` with
    ``KL = sum ||W_i - W0_i||_F^2 / (2 sigma^2)``. It bounds the loss *with* noise on the weights;
    a bound without noise needs more (products of spectral norms). What the noise leaves alone
    (biases, norms) it takes as given. sigma has to be chosen before the data are seen: of several
    sigmas the best may be taken only at delta divided by their number.

    Args:
        distances: Of every weight that the noise perturbs; a new head's centre is zero.
        perturbed_loss: E_U L_emp on the training samples, each loss clipped to ``[0, C]``.
        sigma: Of the noise, above 0.
        samples: n, how many the network was trained on, at least 2.
        loss_bound: C, above 0.
        delta: The bound may fail with this probability, above 0 and below 1.

    Raises:
        ConfigError: A number is out of its range.
    """
    if not (sigma > 0 and loss_bound > 0 and 0 < delta < 1 and samples > 1):
        raise ConfigError(
            f"no bound for sigma={sigma}, delta={delta}, C={loss_bound} and {samples} samples",
            hint="sigma and C lie above 0, delta between 0 and 1, and 2 samples are needed",
        )
    squared = math.fsum(layer.distance**2 for layer in distances)
    kl = squared / (2 * sigma**2)
    log_term = math.log(2 * samples / delta)
    complexity = loss_bound * math.sqrt((kl + log_term) / (2 * (samples - 1)))
    bound = perturbed_loss + complexity
    return PacBayesBound(
        sigma=sigma,
        clipped_loss=perturbed_loss,
        squared_distance=squared,
        kl=kl,
        log_term=log_term,
        samples=samples,
        delta=delta,
        loss_bound=loss_bound,
        complexity=complexity,
        bound=bound,
        is_vacuous=not bound < loss_bound,
    )
