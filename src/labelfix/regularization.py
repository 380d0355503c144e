"""Keep weights within a distance of where they started.

Letters: M models that train side by side.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labelfix.balls import ScaleBands, TensorBalls, largest_row_sum, running_var, scale_factor
from labelfix.config import RegularizationConfig
from labelfix.errors import TrainingError
from labelfix.layer_radii import radii
from labelfix.layers import LayerParameter, Role, group_layers

AT_BOUNDARY = 1e-4
"""A parameter is at its boundary when it lacks less than this share of the radius."""


def project_onto_balls(weight: Tensor, radius: Tensor, centre: Tensor | None = None) -> None:
    """Move each model's weights, in place, to the nearest point of its ball.

    ``W <- W0 + (W - W0) * min(1, D / ||W - W0||_F)``: the Euclidean projection onto the
    Frobenius ball of Li & Zhang (NeurIPS 2021), section 3, after Gouk et al. (ICLR 2021).

    Args:
        weight: ``(M, ...)``, one model a row; changed in place.
        radius: ``(M,)`` D >= 0; infinity leaves a model alone, 0 puts it back to the centre.
        centre: ``(M, ...)`` W0; ``None`` is zero, as for a head that was not pretrained.
    """
    with torch.no_grad():
        flat = weight.view(len(weight), -1)
        origin = torch.zeros_like(flat) if centre is None else centre.reshape(flat.shape)
        away = flat - origin
        distance = away.norm(dim=1)
        # 0/0 would be NaN at the centre itself, which is inside every ball
        shrink = torch.where(distance > radius, radius / distance, 1.0)
        if centre is None:
            flat.mul_(shrink[:, None])
        else:
            flat.copy_(torch.where(shrink[:, None] < 1, origin + away * shrink[:, None], flat))


@dataclass(frozen=True, slots=True)
class LayerTravel:
    """How far one parameter has travelled from its centre.

    Args:
        name: As in ``model.named_parameters()``.
        role: What it is.
        depth: 0 for the stem, then the stage; the head last.
        distance: In the norm that holds it: Frobenius, the largest row sum, or, for a batch norm
            scale under its rule, the largest difference of a channel's factor.
        relative: ``distance`` as a share of the centre's norm; ``None`` where that is zero.
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
    """Layer-wise regularisation of a timm network: Li & Zhang (NeurIPS 2021), section 3.

    Build it when the model has its last device, memory format and modules; call ``project`` after
    each optimiser step, or add ``penalty`` to the loss, as ``config.form`` says. Every process of
    a distributed run does the same to the same weights, so nothing has to be sent.

    Args:
        model: The network with its new head, unwrapped.
        pretrained: Its state dictionary before training: the centres. The head's is zero.
        config: What is held, and how far.
        travelled: Distances of a run without regularisation, for the schedule ``"travelled"``.
        fused: Project with few kernels over all tensors; ``None`` does where there is a GPU.

    Raises:
        BackboneError: A parameter fits no group.
        TrainingError: A parameter has no pretrained value, or no distance in ``travelled``.
    """

    def __init__(
        self,
        model: nn.Module,
        pretrained: Mapping[str, Tensor],
        config: RegularizationConfig,
        *,
        travelled: Mapping[str, float] | None = None,
        fused: bool | None = None,
    ) -> None:
        self.config = config
        self.layers = group_layers(model)
        self._parameters = dict(model.named_parameters())
        self._norms = self._ruled_norms(model)
        self._centres = {layer.name: self._centre(layer, pretrained) for layer in self.layers}
        # where a parameter is measured: as it is, or as the factors of its batch norm
        self._origins = dict(self._centres)
        for name in self._norms:
            variance = _pretrained(pretrained, _sibling(name, "running_var"), self._centres[name])
            self._origins[name] = scale_factor(self._centres[name], variance)
        self._centre_norms = self._measure(self._origins)
        self.radii = radii(self.layers, config, norms=self._centre_norms, travelled=travelled)
        self._held = [name for name, radius in self.radii.items() if math.isfinite(radius)]
        self._projections: list[TensorBalls | ScaleBands] = []
        if config.form == "projection":
            self._projections = self._build(fused=fused)
        weights = [self.radii[name] for name in self._held]
        self._strengths = torch.tensor(weights, device=next(model.parameters()).device)

    @property
    def is_active(self) -> bool:
        """Whether anything is held at all."""
        return bool(self._held)

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
            [self._centres[name] for name in self._held],
        )
        if self.config.norm == "frobenius":
            return (torch.stack(torch._foreach_norm(away)).square() * self._strengths).sum()
        return (torch.stack([largest_row_sum(part) for part in away]) * self._strengths).sum()

    @torch.no_grad()
    def distances(self) -> list[LayerTravel]:
        """Return how far every parameter is from its centre, free ones too; waits for the device.

        The distances of a run of form ``"none"``, by name, are what ``travelled`` takes.
        """
        away = {}
        for name, parameter in self._parameters.items():
            norm = self._norms.get(name)
            here = parameter if norm is None else scale_factor(parameter, running_var(norm))
            away[name] = here - self._origins[name]
        measured = self._measure(away)
        return [self._distance(layer, measured[layer.name]) for layer in self.layers]

    def _distance(self, layer: LayerParameter, distance: float) -> LayerTravel:
        size, radius = self._centre_norms[layer.name], self.radii[layer.name]
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

    def _centre(self, layer: LayerParameter, pretrained: Mapping[str, Tensor]) -> Tensor:
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
                    [self._centres[name] for name in balls],
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
            hint="use a backbone with pretrained weights, or train without regularisation",
        )
    return torch.empty_like(like).copy_(state[name])
