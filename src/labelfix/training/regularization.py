"""Keep weights within a distance of where they started.

Letters: M models that train side by side.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labelfix.config import RegularizationConfig
from labelfix.errors import TrainingError
from labelfix.training.layers import LayerParameter, Role, group_layers, radii

ROUNDING = 1e-5
"""A distance that exceeds its radius by less than this share is at it: so that projecting twice
changes nothing more, to the bit."""

SCALE_EPS = 1e-6
"""Added to the running variance under the square root in the rule for batch norm scales."""


class TensorBalls:
    """Balls around given centers that tensors are held in.

    Args:
        weights: The tensors; changed in place by ``project``.
        centers: The centers, with the shapes and strides of ``weights``.
        radii: One radius for each tensor, finite.
        by_row: Hold each row's sum of absolute values (rows lie along the first axis) instead of
            the tensor's Frobenius norm.
        fused: Take the path of few kernels, each over all tensors; for accelerators. It needs
            another 4 N bytes, and on a CPU the plain path is faster.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        centers: Sequence[Tensor],
        radii: Sequence[float],
        *,
        by_row: bool,
        fused: bool,
    ) -> None:
        self._weights, self._centers, self._by_row = list(weights), list(centers), by_row
        self._rows = [len(w) if by_row and w.dim() else 1 for w in weights]
        numbers = [w.numel() for w in weights]
        device = weights[0].device
        self._buffer = torch.empty(sum(numbers), device=device, dtype=weights[0].dtype)
        self._away = [
            part.as_strided(w.shape, _strides(w), part.storage_offset())
            for part, w in zip(torch.split(self._buffer, numbers), weights, strict=True)
        ]
        rows = torch.tensor(self._rows)
        self._radius = torch.tensor(radii, dtype=self._buffer.dtype).repeat_interleave(rows)
        self._radius = self._radius.to(device)
        lengths = (torch.tensor(numbers) // rows).repeat_interleave(rows)
        self._lengths = lengths.to(device)
        self._segment_of = (
            torch.arange(len(lengths), dtype=torch.int32).repeat_interleave(lengths).to(device)
            if fused
            else None
        )

    @torch.no_grad()
    def project(self) -> None:
        """Move each tensor (or row) to ``W0 + (W - W0) * min(1, D / distance)``.

        By Frobenius norm that is the nearest point of the ball. By row it shrinks the whole row
        (Gouk et al., ICLR 2021), which ends inside, though not at the nearest point.
        """
        torch._foreach_copy_(self._away, self._weights)
        torch._foreach_sub_(self._away, self._centers)
        distance = self._distances()
        outside = distance > self._radius * (1 + ROUNDING)
        # a share of exactly 0 leaves a tensor as it is, and of exactly 1 (D = 0) copies the center
        share = torch.where(outside, 1 - self._radius / distance, 0.0)
        torch._foreach_lerp_(self._weights, self._centers, self._spread(share))

    def _distances(self) -> Tensor:
        """Return ``(S,)`` norms of what lies in the buffer."""
        if self._by_row:
            amounts = self._buffer.abs_()
            return torch.segment_reduce(amounts, "sum", lengths=self._lengths, unsafe=True)
        return torch.stack(torch._foreach_norm(self._away))

    def _spread(self, share: Tensor) -> list[Tensor]:
        """Return ``(S,)`` shares as tensors that broadcast against the weights.

        Kernels that run over many tensors at once want equal shapes: then each number's share is
        written into the buffer, which has served its turn.
        """
        if self._segment_of is not None:
            torch.index_select(share, 0, self._segment_of, out=self._buffer)
            return self._away
        if not self._by_row:
            return list(share.unbind())
        return [
            part.view(-1, *[1] * (w.dim() - 1)) if w.dim() else part[0]
            for part, w in zip(torch.split(share, self._rows), self._weights, strict=True)
        ]


class ScaleBands:
    """Bands that batch norm scales, seen as factors ``s = g / sqrt(running_var)``, are held in.

    Args:
        norms: The batch norms; their scales g are changed in place by ``project``.
        centers: ``s0`` for each, per channel.
        radii: One radius for each, finite: ``|s - s0| <= D`` in every channel.
    """

    def __init__(
        self, norms: Sequence[_BatchNorm], centers: Sequence[Tensor], radii: Sequence[float]
    ) -> None:
        self._norms = list(norms)
        pairs = list(zip(centers, radii, strict=True))
        self._least = [center - radius for center, radius in pairs]
        self._most = [center + radius for center, radius in pairs]

    @torch.no_grad()
    def project(self) -> None:
        """Clip every factor to its band; a scale within it is not touched."""
        scales: list[Tensor] = [norm.weight for norm in self._norms]
        spread = torch._foreach_add([running_var(norm) for norm in self._norms], SCALE_EPS)
        torch._foreach_sqrt_(spread)
        torch._foreach_minimum_(scales, list(torch._foreach_mul(spread, self._most)))
        torch._foreach_maximum_(scales, list(torch._foreach_mul(spread, self._least)))


def scale_factor(scale: Tensor, running_var: Tensor) -> Tensor:
    """Return by what a batch norm multiplies each channel: ``g / sqrt(running_var + 1e-6)``."""
    return scale / (running_var + SCALE_EPS).sqrt()


def largest_row_sum(tensor: Tensor) -> Tensor:
    """Return the largest sum of absolute values over a row; a vector's rows are its entries."""
    amounts = tensor.abs()
    return amounts.flatten(1).sum(1).max() if tensor.dim() > 1 else amounts.max()


def running_var(norm: _BatchNorm) -> Tensor:
    """Return the running variance of a batch norm that keeps one."""
    variance = norm.running_var
    assert variance is not None, "a batch norm without running statistics has no rule"
    return variance


def _strides(weight: Tensor) -> tuple[int, ...]:
    """Return strides under which a row lies in one piece: the weight's own wherever they do."""
    memory_formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    usual = memory_formats.get(weight.dim(), torch.contiguous_format)
    if weight.is_contiguous() or weight.is_contiguous(memory_format=usual):
        return weight.stride()
    return torch.empty(weight.shape, device="meta").stride()


AT_BOUNDARY = 1e-4
"""A parameter is at its boundary when it lacks less than this share of the radius."""


def project_onto_balls(weight: Tensor, radius: Tensor, center: Tensor | None = None) -> None:
    """Move each model's weights, in place, to the nearest point of its ball.

    ``W <- W0 + (W - W0) * min(1, D / ||W - W0||_F)``: the Euclidean projection onto the
    Frobenius ball of Li & Zhang (NeurIPS 2021), section 3, after Gouk et al. (ICLR 2021).

    Args:
        weight: ``(M, ...)``, one model a row; changed in place.
        radius: ``(M,)`` D >= 0; infinity leaves a model alone, 0 puts it back to the center.
        center: ``(M, ...)`` W0; ``None`` is zero, as for a head that was not pretrained.
    """
    with torch.no_grad():
        flat = weight.view(len(weight), -1)
        origin = torch.zeros_like(flat) if center is None else center.reshape(flat.shape)
        away = flat - origin
        distance = away.norm(dim=1)
        # 0/0 would be NaN at the center itself, which is inside every ball
        shrink = torch.where(distance > radius, radius / distance, 1.0)
        if center is None:
            flat.mul_(shrink[:, None])
        else:
            flat.copy_(torch.where(shrink[:, None] < 1, origin + away * shrink[:, None], flat))


@dataclass(frozen=True, slots=True)
class LayerTravel:
    """How far one parameter has travelled from its center.

    Args:
        name: As in ``model.named_parameters()``.
        role: What it is.
        depth: 0 for the stem, then the stage; the head last.
        distance: In the norm that holds it: Frobenius, the largest row sum, or, for a batch norm
            scale under its rule, the largest difference of a channel's factor.
        relative: ``distance`` as a share of the center's norm; ``None`` where that is zero.
        radius: The bound; infinite where there is none.
        at_boundary: Whether the bound holds it back.
    """

    name: str
    role: Role
    depth: int
    distance: float
    relative: float | None
    radius: float
    at_boundary: bool


class LayerBalls:
    """Layer-wise regularization of a timm network: Li & Zhang (NeurIPS 2021), section 3.

    Build it when the model has its last device, memory format and modules; call ``project`` after
    each optimizer step, or add ``penalty`` to the loss, as ``config.form`` says. Every process of
    a distributed run does the same to the same weights, so nothing has to be sent.

    Args:
        model: The network with its new head, unwrapped.
        pretrained: Its state dictionary before training: the centers. The head's is zero.
        config: What is held, and how far.
        layers: Of the whole network, where ``model`` is its upper half; ``None`` asks timm. What
            needs no gradient never moves, and is left out.
        fused: Project with few kernels over all tensors; ``None`` does where there is a GPU.

    Raises:
        BackboneError: A parameter fits no group.
        TrainingError: A parameter has no pretrained value.
    """

    def __init__(
        self,
        model: nn.Module,
        pretrained: Mapping[str, Tensor],
        config: RegularizationConfig,
        *,
        layers: Sequence[LayerParameter] | None = None,
        fused: bool | None = None,
    ) -> None:
        self.config = config
        self._parameters = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        whole = group_layers(model) if layers is None else layers
        self.layers = tuple(layer for layer in whole if layer.name in self._parameters)
        self._norms = self._ruled_norms(model)
        self._centers = {layer.name: self._center(layer, pretrained) for layer in self.layers}
        # where a parameter is measured: as it is, or as the factors of its batch norm
        self._origins = dict(self._centers)
        for name in self._norms:
            variance = _pretrained(pretrained, _sibling(name, "running_var"), self._centers[name])
            self._origins[name] = scale_factor(self._centers[name], variance)
        self._center_norms = self._measure(self._origins)
        self.radii = radii(self.layers, config, norms=self._center_norms)
        self._held = [name for name, radius in self.radii.items() if math.isfinite(radius)]
        self._projections: list[TensorBalls | ScaleBands] = []
        if config.form == "projection":
            self._projections = self._build(fused=fused)
        weights = [self.radii[name] for name in self._held]
        self._strengths = torch.tensor(weights, device=next(iter(self._parameters.values())).device)

    def project(self) -> None:
        """Put every weight that left its ball back, in place; other forms do nothing here."""
        for projection in self._projections:
            projection.project()

    def penalty(self) -> Tensor:
        """Return what the loss grows by: a differentiable scalar, zero in other forms.

        The sum over weights of ``strength * R(W - W0)``, R the squared Frobenius norm or the
        largest row sum.
        """
        if self.config.form != "penalty" or not self._held:
            return self._strengths.new_zeros(())
        away = torch._foreach_sub(
            [self._parameters[name] for name in self._held],
            [self._centers[name] for name in self._held],
        )
        if self.config.norm == "frobenius":
            return (torch.stack(torch._foreach_norm(away)).square() * self._strengths).sum()
        return (torch.stack([largest_row_sum(part) for part in away]) * self._strengths).sum()

    @torch.no_grad()
    def distances(self) -> list[LayerTravel]:
        """Return how far every parameter is from its center, free ones too; waits for the GPU."""
        away = {}
        for name, parameter in self._parameters.items():
            norm = self._norms.get(name)
            here = parameter if norm is None else scale_factor(parameter, running_var(norm))
            away[name] = here - self._origins[name]
        measured = self._measure(away)
        return [self._distance(layer, measured[layer.name]) for layer in self.layers]

    def _distance(self, layer: LayerParameter, distance: float) -> LayerTravel:
        size, radius = self._center_norms[layer.name], self.radii[layer.name]
        is_ball = self.config.form == "projection"
        return LayerTravel(
            name=layer.name,
            role=layer.role,
            depth=layer.depth,
            distance=distance,
            relative=distance / size if size > 0 else None,
            radius=radius if is_ball else math.inf,
            at_boundary=is_ball and distance >= radius * (1 - AT_BOUNDARY),
        )

    def _measure(self, tensors: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the norm of each tensor, in the norm that holds the parameter of that name."""
        if not tensors:
            return {}
        by_row = self.config.norm == "max_row_sum"
        norms = [
            largest_row_sum(tensor) if by_row or name in self._norms else tensor.norm()
            for name, tensor in tensors.items()
        ]
        return dict(zip(tensors, torch.stack(norms).tolist(), strict=True))

    def _ruled_norms(self, model: nn.Module) -> dict[str, _BatchNorm]:
        """Return the batch norms whose scales are seen as factors, by the scale's name."""
        if self.config.form == "penalty" or not self.config.batch_norm_rule:
            return {}
        found = {}
        for layer in self.layers:
            if layer.kind == "batch_norm_scale" and layer.role != "head":
                norm = model.get_submodule(layer.name.rpartition(".")[0])
                assert isinstance(norm, _BatchNorm), layer
                found[layer.name] = norm
        return found

    def _center(self, layer: LayerParameter, pretrained: Mapping[str, Tensor]) -> Tensor:
        parameter = self._parameters[layer.name].detach()
        if layer.role == "head":
            return torch.zeros_like(parameter)
        return _pretrained(pretrained, layer.name, parameter)

    def _build(self, *, fused: bool | None) -> list[TensorBalls | ScaleBands]:
        bands = [name for name in self._held if name in self._norms]
        balls = [name for name in self._held if name not in self._norms]
        built: list[TensorBalls | ScaleBands] = []
        if balls:
            weights = [self._parameters[name] for name in balls]
            built.append(
                TensorBalls(
                    weights,
                    [self._centers[name] for name in balls],
                    [self.radii[name] for name in balls],
                    by_row=self.config.norm == "max_row_sum",
                    fused=weights[0].is_cuda if fused is None else fused,
                )
            )
        if bands:
            built.append(
                ScaleBands(
                    [self._norms[name] for name in bands],
                    [self._origins[name] for name in bands],
                    [self.radii[name] for name in bands],
                )
            )
        return built


def _sibling(name: str, key: str) -> str:
    module, dot, _ = name.rpartition(".")
    return f"{module}{dot}{key}"


def _pretrained(state: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """Return a copy of a pretrained value, laid out as the parameter is.

    Raises:
        TrainingError: It is not there, or of another shape.
    """
    if name not in state or state[name].shape != like.shape:
        raise TrainingError(
            f"there is no pretrained value for {name} of shape {tuple(like.shape)} to stay near to",
            hint="use a backbone with pretrained weights, or train without regularization",
        )
    return torch.empty_like(like).copy_(state[name])
