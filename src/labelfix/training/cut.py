"""Cut a network in two: lower stages that stay as pretrained, upper ones that are trained.

Layer-wise regularization (Li & Zhang, NeurIPS 2021) holds each weight in a ball around its
pretrained value. Where the radius of the lower stages is zero, their output for an image never
changes: it is computed once, and each training step runs the upper stages alone.

The two halves are made of any network of timm or of blocks of texts: what runs before the cut is
replaced by nothing in the upper half, and the lower half ends where the first trained module would
begin. Both together are compared with the whole network before they are used.

Letters: B samples of a batch, D stages.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from labelfix.errors import BackboneError
from labelfix.training.layers import LayerParameter, group_layers


@dataclass(frozen=True, slots=True)
class Cut:
    """A place between two stages of a network.

    Args:
        depth: Of the last stage that stays as pretrained, as `LayerParameter` counts.
        module: Name of the first module that is trained.
        dropped: Names of the modules that run before it and hold no trained parameter.
        shape: Of what enters it, for one sample.
        step_share: Multiplications of a training step from the cut on, as a share of those of a
            step of the whole network.
    """

    depth: int
    module: str
    dropped: tuple[str, ...]
    shape: tuple[int, ...]
    step_share: float

    @property
    def bytes_of_view(self) -> int:
        """Return what enters for one sample, kept in bfloat16, takes."""
        return 2 * torch.Size(self.shape).numel()


class LowerNetwork:
    """The stages below a cut.

    Args:
        model: A network, in eval mode; it may be in another form than the one that was cut, as
            long as the first trained module has the same name.
        cut: Where it ends.
    """

    def __init__(self, model: nn.Module, cut: Cut) -> None:
        self._model = model
        model.get_submodule(cut.module).register_forward_pre_hook(_stop)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return what enters the first trained module, ``(B, ...)``."""
        try:
            self._model(inputs)
        except _CutReached as reached:
            return reached.activations
        raise BackboneError(
            "the network never came to the module that it was cut at",
            hint="train heads with --tune head, or the whole network with --tune full",
        )


def upper_network(model: nn.Module, layers: Sequence[LayerParameter], cut: Cut) -> nn.Module:
    """Return a copy of a network that takes what `LowerNetwork` returns.

    Parameters keep their names; those of the lower stages are gone, or need no gradient.

    Args:
        model: The whole network; left as it is.
        layers: All its parameters, from `group_layers`.
        cut: Where it begins.

    Raises:
        BackboneError: The network cannot be cut there.
    """
    depth_of = {layer.name: layer.depth for layer in layers}
    upper = copy.deepcopy(model)
    _leave_out(upper, cut.dropped)
    for name, parameter in upper.named_parameters():
        if name not in depth_of:
            raise BackboneError(
                f"stages on both sides of {cut.module} share weights: {name}",
                hint="train heads with --tune head, or the whole network with --tune full",
            )
        parameter.requires_grad_(depth_of[name] > cut.depth)
    return upper


def possible_cuts(model: nn.Module, probe: Tensor) -> tuple[Cut, ...]:
    """Return every place where a network can be cut, from its input to its head.

    Args:
        model: A network with its head, on the CPU.
        probe: ``(1, ...)`` an input of the usual size.

    Raises:
        BackboneError: timm does not know its stages.
    """
    layers = group_layers(model)
    depth_of = {layer.name: layer.depth for layer in layers}
    model = copy.deepcopy(model).eval().requires_grad_(False)  # or the counter follows gradients
    shapes: dict[str, tuple[int, ...]] = {}
    order = _order_of_modules(model, probe, shapes)
    costs = _multiplications(model, probe)
    whole = costs[""]
    cuts = []
    for depth in range(max(depth_of.values()) - 1):  # the last stage and the head are trained
        lower = _lower_modules(model, depth_of, depth)
        first = _first_trained(model, order, depth_of, depth)
        if first is None or first not in shapes:
            continue
        share = 1 - sum(costs.get(name, 0) for name in lower) / whole
        cut = Cut(
            depth=depth,
            module=first,
            dropped=(*lower, *_without_parameters(model, order, lower, first)),
            shape=shapes[first],
            step_share=share,
        )
        if _is_exact(model, layers, cut, probe):
            cuts.append(cut)
    return tuple(cuts)


def affordable_cuts(
    cuts: Sequence[Cut],
    samples: int,
    *,
    largest_share: float,
    budget: int,
    module: str | None = None,
) -> tuple[Cut, ...]:
    """Return the cuts whose steps are cheap enough and whose activations fit, the lowest first.

    Where no step is cheap enough, the highest that fits is left.

    Args:
        cuts: From `possible_cuts`.
        samples: N.
        largest_share: Of the multiplications of a whole step that a step may take.
        budget: Bytes for the activations of one view of all samples.
        module: The first trained one, if that is decided.
    """
    fitting = [cut for cut in cuts if cut.bytes_of_view * samples <= budget]
    if module is not None:
        return tuple(cut for cut in fitting if cut.module == module)
    cheap = [cut for cut in fitting if cut.step_share <= largest_share]
    return tuple(cheap or fitting[-1:])


def choose_cut(
    cuts: Sequence[Cut],
    samples: int,
    *,
    largest_share: float,
    budget: int,
    module: str | None = None,
) -> Cut:
    """Return the lowest of `affordable_cuts`, which has the same arguments.

    Raises:
        BackboneError: There is no cut, none at that module, or the activations of none fit.
    """
    if not cuts:
        raise BackboneError(
            "this network cannot be cut between its stages",
            hint="train heads with --tune head, or the whole network with --tune full",
        )
    wanted = [cut for cut in cuts if module in (None, cut.module)]
    if not wanted:
        raise BackboneError(
            f"this network cannot be cut at {module!r}",
            hint=f"set top.cut to one of {', '.join(cut.module for cut in cuts)}",
        )
    affordable = affordable_cuts(
        cuts, samples, largest_share=largest_share, budget=budget, module=module
    )
    if not affordable:
        least = min(cut.bytes_of_view for cut in wanted) * samples
        raise BackboneError(
            f"the activations of {samples:,} samples would take {least / 1e9:.1f} GB or more, and "
            f"{budget / 1e9:.1f} GB are allowed",
            hint="choose a smaller --image-size or --backbone, a larger top.cache_bytes with "
            "--config, or --tune head",
        )
    return affordable[0]


def draws_chances(model: nn.Module) -> bool:
    """Return whether a training pass through a network is random, as drop-out makes it."""
    dropped = (nn.modules.dropout._DropoutNd, DropPath)
    return any(
        getattr(module, "drop_rate", None)  # drop-out that timm has as a function
        or (
            isinstance(module, dropped)
            and (getattr(module, "p", None) or getattr(module, "drop_prob", None))
        )
        for module in model.modules()
    )


def _leave_out(model: Any, dropped: Sequence[str]) -> None:
    """Leave out modules that ran before the cut; a network that knows how to does so itself."""
    if hasattr(model, "begin_at"):
        model.begin_at(dropped)
        return
    for name in dropped:
        model.set_submodule(name, _Skipped())
    if hasattr(model, "_pos_embed"):  # a ViT's tokens have their positions already
        model._pos_embed = _same


class _CutReached(Exception):
    """Carries what enters the first trained module out of a forward pass."""

    def __init__(self, activations: Tensor) -> None:
        super().__init__()
        self.activations = activations


def _stop(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    raise _CutReached(inputs[0])


def _same(inputs: Tensor, *_: Any, **__: Any) -> Tensor:
    return inputs


class _Skipped(nn.Module):
    """Stands in the place of a module that ran before the cut, whatever else it was given."""

    def forward(self, inputs: Tensor, *_: Any, **__: Any) -> Tensor:
        return inputs


def _without_parameters(
    model: nn.Module, order: Sequence[str], lower: Sequence[str], first: str
) -> list[str]:
    """Return the modules outside the lower ones that run before the first trained one."""
    inside = tuple(f"{name}." for name in lower)
    return [
        name
        for name in order[: order.index(first)]
        if not name.startswith(inside) and _is_bare(model.get_submodule(name))
    ]


def _is_bare(module: nn.Module) -> bool:
    return not any(True for _ in module.parameters()) and not any(True for _ in module.children())


def _lower_modules(model: nn.Module, depth_of: dict[str, int], depth: int) -> list[str]:
    """Return the largest modules whose parameters are all of the lower stages."""
    found: list[str] = []

    def visit(prefix: str, module: nn.Module) -> None:
        for key, child in module.named_children():
            name = f"{prefix}.{key}" if prefix else key
            parts = (part for part, _ in child.named_parameters(prefix=name))
            depths = {depth_of[part] for part in parts if part in depth_of}  # shared: one name
            if depths and max(depths) <= depth:
                found.append(name)
            elif depths and min(depths) <= depth:
                visit(name, child)

    visit("", model)
    return found


def _first_trained(
    model: nn.Module, order: Sequence[str], depth_of: dict[str, int], depth: int
) -> str | None:
    """Return the first module in the order of the forward pass that has no lower parameters."""
    for name in order:
        depths = [
            depth_of[part]
            for part, _ in model.get_submodule(name).named_parameters(prefix=name)
            if part in depth_of
        ]
        if depths and min(depths) > depth:
            return name
    return None


def _order_of_modules(
    model: nn.Module, probe: Tensor, shapes: dict[str, tuple[int, ...]]
) -> list[str]:
    """Return the names of modules in the order in which a forward pass enters them.

    Args:
        model: In eval mode.
        probe: ``(1, ...)`` an input.
        shapes: Takes by name what enters each module first, without the batch.
    """
    order: list[str] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if name not in order:
                order.append(name)
                if inputs and isinstance(inputs[0], Tensor):
                    shapes[name] = tuple(inputs[0].shape[1:])

        return hook

    handles = [
        module.register_forward_pre_hook(note(name))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.inference_mode():
            model(probe)
    finally:
        for handle in handles:
            handle.remove()
    return order


def _multiplications(model: nn.Module, probe: Tensor) -> dict[str, int]:
    """Return what a forward pass through each module costs; ``""`` is the whole network."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(probe)
    costs = {
        name.partition(".")[2]: sum(counts.values())
        for name, counts in counter.get_flop_counts().items()
        if name != "Global"
    }
    return costs | {"": max(1, counter.get_total_flops())}


def _is_exact(model: nn.Module, layers: Sequence[LayerParameter], cut: Cut, probe: Tensor) -> bool:
    """Return whether both halves, one after the other, give what the network gives."""
    try:
        upper = upper_network(model, layers, cut).eval()
        lower = LowerNetwork(copy.deepcopy(model), cut)
        with torch.inference_mode():
            whole = model(probe)
            halves = upper(lower(probe))
    except (BackboneError, RuntimeError, AttributeError, TypeError, ValueError):
        return False
    return isinstance(halves, Tensor) and torch.allclose(whole, halves, rtol=1e-4, atol=1e-5)
