"""Which part of a timm network each of its parameters belongs to.

Where the stem ends and a stage begins is timm's to say (its coarse parameter groups); what is a
norm, a bias or a head follows from the modules, never from words in a name.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import timm.layers
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd

from labelfix.config import RegularizationConfig
from labelfix.errors import BackboneError, TrainingError

Role = Literal["stem", "stage", "norm", "bias", "head"]
Kind = Literal["weight", "vector", "batch_norm_scale"]

# timm's own norms that extend none of torch's; an older timm lacks some of them
_TIMM_NORMS = tuple(
    getattr(timm.layers, name)
    for name in (
        "RmsNorm", "RmsNorm2d", "RmsNormFp32", "RmsNorm2dFp32", "SimpleNorm", "SimpleNorm2d",
        "SimpleNormFp32", "SimpleNorm2dFp32", "FilterResponseNormAct2d", "FilterResponseNormTlu2d",
        "EvoNorm2dB0", "EvoNorm2dB1", "EvoNorm2dB2", "EvoNorm2dS0", "EvoNorm2dS1", "EvoNorm2dS2",
    )
    if hasattr(timm.layers, name)
)  # fmt: skip
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, *_TIMM_NORMS)


@dataclass(frozen=True, slots=True)
class LayerParameter:
    """One parameter and its place in the network.

    Args:
        name: As in ``model.named_parameters()``.
        role: ``"head"`` is every parameter of the classifier, its bias too; ``"norm"`` is scale
            and shift of a norm; class tokens, position embeddings and layer scales are of the
            stem or of their stage.
        depth: 0 for the stem, then the number of the stage from 1; the head is one deeper than
            the last stage. Norms and biases have the depth of where they stand.
        kind: ``"weight"`` is a matrix or a kernel, ``"vector"`` anything with one long axis or
            none, ``"batch_norm_scale"`` the scale of a batch norm that keeps running statistics.
    """

    name: str
    role: Role
    depth: int
    kind: Kind


def group_layers(model: nn.Module) -> tuple[LayerParameter, ...]:
    """Map every parameter of a timm network, once, in the order of ``named_parameters()``.

    A stage is one of timm's coarse groups: four in a ResNet, one a block in a ViT. What timm puts
    beside the classifier (a last norm or convolution) belongs to the last stage, and a group of
    nothing but norms and vectors to the one before it.

    Raises:
        BackboneError: timm does not know the groups of this network, it has no classifier, or a
            parameter fits no group.
    """
    parameters = dict(model.named_parameters())
    owners = _owners(model)
    kinds = {name: _kind(p, *owners[id(p)]) for name, p in parameters.items()}
    heads = _head_names(model, parameters)
    depths = _depths(_coarse_groups(model), kinds, heads)
    head_depth = max(depths.values()) + 1
    layers = []
    for name, parameter in parameters.items():
        owner, key = owners[id(parameter)]
        depth = head_depth if name in heads else depths[name]
        role = "head" if name in heads else _role(owner, key, depth, kinds[name])
        layers.append(LayerParameter(name, role, depth, kinds[name]))
    return tuple(layers)


def _owners(model: nn.Module) -> dict[int, tuple[nn.Module, str]]:
    """Return the module that holds each parameter, and its name there; a shared one counts once."""
    owners: dict[int, tuple[nn.Module, str]] = {}
    for module in model.modules():
        for key, parameter in module.named_parameters(recurse=False):
            owners.setdefault(id(parameter), (module, key))
    return owners


def _kind(parameter: Tensor, owner: nn.Module, key: str) -> Kind:
    if isinstance(owner, _BatchNorm) and key == "weight" and owner.running_var is not None:
        return "batch_norm_scale"
    if isinstance(owner, (nn.Linear, _ConvNd)) and key == "weight":
        return "weight"
    return "weight" if sum(side > 1 for side in parameter.shape) > 1 else "vector"


def _role(owner: nn.Module, key: str, depth: int, kind: Kind) -> Role:
    if isinstance(owner, _NORMS):
        return "norm"
    if kind == "vector" and (key == "bias" or key.endswith("_bias")):  # timm: q_bias, v_bias
        return "bias"
    return "stage" if depth else "stem"


def _head_names(model: nn.Module, parameters: dict[str, nn.Parameter]) -> set[str]:
    timm_model: Any = model
    found = timm_model.get_classifier() if hasattr(model, "get_classifier") else ()
    modules: Iterable[Any] = found if isinstance(found, (tuple, list)) else (found,)
    ids = {id(p) for m in modules if isinstance(m, nn.Module) for p in m.parameters()}
    names = {name for name, parameter in parameters.items() if id(parameter) in ids}
    if not names:
        raise BackboneError(
            f"{type(model).__name__} has no classifier",
            hint="create it with timm.create_model(..., num_classes=K)",
        )
    return names


def _coarse_groups(model: nn.Module) -> list[list[str]]:
    timm_model: Any = model
    try:
        groups = group_parameters(model, timm_model.group_matcher(coarse=True))
    except (AttributeError, AssertionError, NotImplementedError, TypeError) as error:
        raise BackboneError(
            f"timm does not say which parameters of {type(model).__name__} form its stages",
            hint="choose another backbone: most ResNets, EfficientNets, ConvNeXts, ViTs will do",
        ) from error
    return [groups[number] for number in sorted(groups)]


def _depths(groups: list[list[str]], kinds: dict[str, Kind], heads: set[str]) -> dict[str, int]:
    """Return the depth of every parameter that is not of the head."""
    place = {name: number for number, name in enumerate(kinds)}
    depths: dict[str, int] = {}
    depth = -1
    for group in groups:
        rest = [name for name in group if name not in heads]
        is_beside_head = len(rest) < len(group)
        if is_beside_head and depths:
            _refuse_strays(rest, place, after=max(place[name] for name in depths))
        opens_stage = not is_beside_head and any(kinds[name] == "weight" for name in rest)
        depth += opens_stage or depth < 0
        depths.update(dict.fromkeys(rest, depth))
    missing = [name for name in kinds if name not in depths and name not in heads]
    _refuse(missing)
    return depths


def _refuse_strays(names: list[str], place: dict[str, int], after: int) -> None:
    """Refuse what timm matched with nothing, and so left to the head, though it comes earlier."""
    _refuse([name for name in names if place[name] < after])


def _refuse(names: list[str]) -> None:
    if names:
        raise BackboneError(
            f"timm gives no stage to {len(names)} of the parameters: {', '.join(names[:3])}",
            hint="choose another backbone, or one without such extra parts",
        )


CODE_EXPONENTS = (0, 0, 1, 2)
"""Powers of gamma over the four stages of a ResNet in the code of Li & Zhang (NeurIPS 2021)."""


def radii(
    layers: Sequence[LayerParameter],
    config: RegularizationConfig,
    *,
    norms: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return the radius of every parameter by its name; infinity leaves it free.

    Args:
        layers: All parameters of a network.
        config: The schedule and its numbers.
        norms: Norms of the centers, for the schedule ``"relative"``.

    Raises:
        TrainingError: The schedule needs a norm that was not given.
    """
    stages = max((layer.depth for layer in layers if layer.role != "head"), default=0)
    result = dict.fromkeys((layer.name for layer in layers), math.inf)
    for layer in layers:
        if not _is_held(layer, config):
            continue
        if layer.role == "head":
            result[layer.name] = config.head_distance
        elif config.schedule == "relative":
            result[layer.name] = _times(config.distance, _norm_of(layer, norms))
        else:
            power = _exponent(config.schedule, layer.depth, stages)
            result[layer.name] = _times(config.distance, config.gamma**power)
    return result


def _is_held(layer: LayerParameter, config: RegularizationConfig) -> bool:
    if config.form == "none" or (layer.depth == 0 and not config.hold_stem):
        return False
    if layer.kind == "batch_norm_scale":
        return layer.role != "head" and (config.batch_norm_rule or config.hold_vectors)
    return layer.kind == "weight" or config.hold_vectors


def _exponent(schedule: str, depth: int, stages: int) -> int:
    if schedule == "constant" or depth == 0:  # a stem that is held is held as the first stage is
        return 0
    if schedule == "geometric":
        return depth - 1
    return CODE_EXPONENTS[(depth - 1) * len(CODE_EXPONENTS) // stages]


def _norm_of(layer: LayerParameter, norms: Mapping[str, float] | None) -> float:
    if norms is None or layer.name not in norms:
        raise TrainingError(
            f"the schedule 'relative' needs the norm of {layer.name}, which was not given",
            hint="measure the same backbone, or choose the schedule constant or geometric",
        )
    return norms[layer.name]


def _times(distance: float, factor: float) -> float:
    return math.inf if math.isinf(distance) else distance * factor  # inf * 0 would be NaN
