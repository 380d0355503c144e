"""How far each parameter may travel: the schedules of radii, as data.

The numbers serve both forms of regularisation: radius of a ball, or strength of a penalty.
"""

import math
from collections.abc import Mapping, Sequence

from labelfix.config import RegularizationConfig
from labelfix.errors import TrainingError
from labelfix.layers import LayerParameter

CODE_EXPONENTS = (0, 0, 1, 2)
"""Powers of gamma over the four stages of a ResNet in the code of Li & Zhang (NeurIPS 2021)."""


def radii(
    layers: Sequence[LayerParameter],
    config: RegularizationConfig,
    *,
    norms: Mapping[str, float] | None = None,
    travelled: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return the radius of every parameter by its name; infinity leaves it free.

    Args:
        layers: All parameters of a network.
        config: The schedule and its numbers.
        norms: Norms of the centres, for the schedule ``"relative"``.
        travelled: How far each parameter went when it was trained without regularisation, for
            the schedule ``"travelled"``.

    Raises:
        TrainingError: The schedule needs a norm or a distance that was not given.
    """
    stages = max((layer.depth for layer in layers if layer.role != "head"), default=0)
    measured = {"relative": norms, "travelled": travelled}.get(config.schedule)
    result = dict.fromkeys((layer.name for layer in layers), math.inf)
    for layer in layers:
        if not _is_held(layer, config):
            continue
        if layer.role == "head":
            result[layer.name] = config.head_distance
        elif config.schedule in ("relative", "travelled"):
            result[layer.name] = _times(config.distance, _lookup(measured, layer, config.schedule))
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


def _lookup(measured: Mapping[str, float] | None, layer: LayerParameter, schedule: str) -> float:
    if measured is None or layer.name not in measured:
        raise TrainingError(
            f"the schedule {schedule!r} needs a measurement of {layer.name}, which was not given",
            hint="measure the same backbone, or choose the schedule constant or geometric",
        )
    return measured[layer.name]


def _times(distance: float, factor: float) -> float:
    return math.inf if math.isinf(distance) else distance * factor  # inf * 0 would be NaN
