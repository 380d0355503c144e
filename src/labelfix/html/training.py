"""How whole networks were trained: the course of it, and how far each layer has gone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelfix.diagnosis_log import read_layers, read_log, summarise_log
from labelfix.diagnosis_records import EpochSummary
from labelfix.run_folder import LAYERS_NAME, LOG_NAME
from labelfix.training_summary import WEIGHTS, LayerWay, TrainingSummary


@dataclass(frozen=True, slots=True)
class Training:
    """The training of the networks of a run.

    Args:
        summary: In figures.
        epochs: Each averaged over the networks.
        layers: The weights of the first network, in its own order.
    """

    summary: TrainingSummary
    epochs: tuple[EpochSummary, ...]
    layers: tuple[LayerWay, ...]


def read_training(run: Path, summary: TrainingSummary | None) -> Training | None:
    """Return how training went, ``None`` where no whole network was trained.

    Args:
        run: The RUN folder.
        summary: By `labelfix.training_summary`.

    Raises:
        RunError: The log or the list of layers is damaged.
    """
    if summary is None:
        return None
    epochs = summarise_log(read_log(run / LOG_NAME))
    return Training(summary, epochs, _ways(read_layers(run / LAYERS_NAME)))


def _ways(layers: Sequence[Mapping[str, Any]]) -> tuple[LayerWay, ...]:
    return tuple(
        LayerWay(layer["name"], layer["relative_distance"], bool(layer.get("at_boundary")))
        for layer in layers
        if layer.get("role") in WEIGHTS and layer.get("relative_distance") is not None
    )
