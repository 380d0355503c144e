"""How the training of whole networks went, read from what a run wrote of it: no torch is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelfix.diagnosis_log import read_layers, read_log, summarise_log
from labelfix.report import Report
from labelfix.run_folder import LAYERS_NAME, LOG_NAME

FARTHEST = 5
"""How many layers are named."""

WEIGHTS = ("stem", "stage")
"""The roles that count: a bias may go many times its own small size and change little."""


@dataclass(frozen=True, slots=True)
class LayerWay:
    """How far one layer's weight has gone.

    Args:
        name: As in the network's own ``named_parameters``.
        relative_distance: From where it was pretrained, as a share of its norm there.
        at_boundary: Whether regularisation held it back in the end.
    """

    name: str
    relative_distance: float
    at_boundary: bool


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """The training of the networks of a run.

    Args:
        networks: How many were trained, a fold each.
        epochs: Of each.
        boundary_share: The share of the tensors that are held which lay at their boundary in the
            last epoch, 0 to 1, on average over the networks; ``None`` where nothing was held.
        corrected: Samples that a network was trained on with another label than the given one, in
            the last epoch, on average over the networks.
        farthest: The weights of the first network that went farthest, farthest first.
    """

    networks: int
    epochs: int
    boundary_share: float | None
    corrected: float | None
    farthest: tuple[LayerWay, ...]


def summarise_training(run: Path, report: Report) -> TrainingSummary | None:
    """Return how training went, ``None`` if no whole network was trained or no log lies there.

    Args:
        run: The RUN folder, or the report file in it.
        report: Of that run.

    Raises:
        RunError: The log or the list of layers is damaged.
    """
    folder = run if run.is_dir() else run.parent
    log, layers = folder / LOG_NAME, folder / LAYERS_NAME
    if report.run.settings.get("tune") != "full" or not (log.is_file() and layers.is_file()):
        return None
    epochs = summarise_log(read_log(log))
    if not epochs:
        return None
    last = epochs[-1]
    return TrainingSummary(
        networks=last.networks,
        epochs=last.epoch,
        boundary_share=last.boundary_share,
        corrected=last.corrected,
        farthest=_farthest(read_layers(layers)),
    )


def _farthest(layers: Sequence[Mapping[str, Any]]) -> tuple[LayerWay, ...]:
    ways = [
        LayerWay(layer["name"], layer["relative_distance"], bool(layer.get("at_boundary")))
        for layer in layers
        if layer.get("role") in WEIGHTS and layer.get("relative_distance") is not None
    ]
    return tuple(sorted(ways, key=lambda way: -way.relative_distance)[:FARTHEST])
