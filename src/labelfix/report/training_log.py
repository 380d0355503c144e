"""What a run of whole-network training wrote of itself: its layers and its log.

``layers.json``: a list with an object for each weight (name, role, depth, distance,
relative_distance, radius, at_boundary). ``training_log.jsonl``: an object for each fold and epoch
(fold, epoch, loss, learning_rate, images_per_second, corrected, mean_weight_kept,
mean_weight_corrected, boundary_share).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from labelfix.data.decisions import folder_of_run
from labelfix.errors import RunError
from labelfix.report.run_folder import LAYERS_NAME, LOG_NAME
from labelfix.report.types import Report
from labelfix.utils.files import refuse_special_file
from labelfix.utils.reading import is_number, parse_json


@dataclass(frozen=True, slots=True)
class LayerDistance:
    """How far one weight has travelled.

    Args:
        name: As in the network's own ``named_parameters``.
        size: How many numbers it holds.
        distance: ``||W - W0||_F``.
        start_norm: ``||W0||_F``; 0 for a weight that is not pretrained, whose center is zero.
        relative: ``distance / start_norm``; ``None`` where that is 0.
        role: Its group in the regularization; ``None`` where the run does not say.
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
        mean_weight_kept: Of samples trained on with their given label.
        mean_weight_corrected: Of samples trained on with another one.
        boundary_share: The share of constrained tensors on the boundary of their ball.
    """

    epoch: int
    networks: int
    loss: float | None
    corrected: float | None
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


def read_json(path: Path) -> Any:
    """Return what a JSON file of a run holds.

    Raises:
        RunError: It is missing or damaged.
    """
    return _parsed(_text(path), path, "")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a training log, the last one of each fold and epoch.

    An epoch that was trained again after an interruption has several.

    Raises:
        RunError: It is missing or damaged.
    """
    entries: dict[tuple[int, int], dict[str, Any]] = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        entry = _parsed(line, path, f", line {number}")
        try:
            entries[int(entry["fold"]), int(entry["epoch"])] = entry
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _damaged(path, f", line {number}", f"no fold and epoch ({error})") from error
    return list(entries.values())


def read_layers(path: Path) -> list[dict[str, Any]]:
    """Return the layers that ``layers.json`` lists.

    Raises:
        RunError: It is missing or damaged.
    """
    layers = read_json(path)
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise RunError(f"{path} is not a list of layers", hint="audit again with --overwrite")
    for number, layer in enumerate(layers, start=1):
        wrong = _layer_faults(layer)
        if wrong:
            raise _damaged(path, f", layer {number}", ", ".join(wrong))
    return layers


def _layer_faults(layer: Mapping[str, Any]) -> list[str]:
    is_right = {
        "name": isinstance(layer.get("name"), str),
        "role": isinstance(layer.get("role"), str | None),
        "depth": layer.get("depth") is None or type(layer["depth"]) is int,
        "at_boundary": isinstance(layer.get("at_boundary"), bool | None),
        **{
            key: layer.get(key) is None or is_number(layer[key])
            for key in ("relative_distance", "radius", "distance")
        },
    }
    return [f"its {key} cannot be read" for key, is_it in is_right.items() if not is_it]


def with_limits(
    layers: Iterable[LayerDistance], limits: Sequence[Mapping[str, Any]]
) -> tuple[LayerDistance, ...]:
    """Return the layers with the role, depth, radius and boundary that ``layers.json`` gives."""
    by_name = {limit.get("name"): limit for limit in limits}
    return tuple(_with_limit(layer, by_name.get(layer.name, {})) for layer in layers)


def _with_limit(layer: LayerDistance, limit: Mapping[str, Any]) -> LayerDistance:
    radius = _number(limit.get("radius"))
    return replace(
        layer,
        role=limit.get("role"),
        depth=limit.get("depth"),
        radius=radius,
        at_boundary=None if radius is None else bool(limit.get("at_boundary")),
    )


def boundary_share(limits: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the share of constrained tensors on their boundary, ``None`` if there are none.

    ``limits`` are all of the run's, also those of norms, which are no weights here.
    """
    held = [limit for limit in limits if _number(limit.get("radius")) is not None]
    return sum(bool(limit.get("at_boundary")) for limit in held) / len(held) if held else None


def summarize_log(entries: Sequence[Mapping[str, Any]]) -> tuple[EpochSummary, ...]:
    """Return each epoch averaged over the folds that reached it, in order.

    The mean weight of corrected samples counts each fold by its corrections.
    """
    by_epoch: dict[int, list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_epoch.setdefault(int(entry["epoch"]), []).append(entry)
    return tuple(_epoch(epoch, by_epoch[epoch]) for epoch in sorted(by_epoch))


def _epoch(epoch: int, entries: Sequence[Mapping[str, Any]]) -> EpochSummary:
    def mean(key: str) -> float | None:
        return _mean([(entry.get(key), 1.0) for entry in entries])

    corrected = [_number(entry.get("corrected")) or 0.0 for entry in entries]
    weight_corrected = [entry.get("mean_weight_corrected") for entry in entries]
    return EpochSummary(
        epoch=epoch,
        networks=len(entries),
        loss=mean("loss"),
        corrected=mean("corrected"),
        mean_weight_kept=mean("mean_weight_kept"),
        mean_weight_corrected=_mean(zip(weight_corrected, corrected, strict=True)),
        boundary_share=mean("boundary_share"),
    )


def _mean(pairs: Iterable[tuple[Any, float]]) -> float | None:
    """Return the weighted mean of the values that are known."""
    known = [(value, weight) for raw, weight in pairs if (value := _number(raw)) is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total > 0 else None


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _text(path: Path) -> str:
    refuse_special_file(path, RunError)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(
            f"cannot read {path}: {reason}",
            hint="name the RUN folder of a finished `labelfix audit --tune top` or `--tune full`",
        ) from error


def _parsed(text: str, path: Path, where: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise _damaged(path, where, str(error)) from error


def _damaged(path: Path, where: str, why: str) -> RunError:
    return RunError(f"{path}{where} is damaged: {why}", hint="audit again with --overwrite")


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
        at_boundary: Whether regularization held it back in the end.
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


def summarize_training(run: Path, report: Report) -> TrainingSummary | None:
    """Return how training went, ``None`` if no whole network was trained or no log lies there.

    Args:
        run: The RUN folder, or the report file in it.
        report: Of that run.

    Raises:
        RunError: The log or the list of layers is damaged.
    """
    folder = folder_of_run(run)
    log, layers = folder / LOG_NAME, folder / LAYERS_NAME
    if report.run.settings.get("tune") not in ("top", "full") or not (
        log.is_file() and layers.is_file()
    ):
        return None
    epochs = summarize_log(read_log(log))
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
    return tuple(sorted(_ways(layers), key=lambda way: -way.relative_distance)[:FARTHEST])


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
        summary: By `labelfix.report.training_log`.

    Raises:
        RunError: The log or the list of layers is damaged.
    """
    if summary is None:
        return None
    epochs = summarize_log(read_log(run / LOG_NAME))
    return Training(summary, epochs, _ways(read_layers(run / LAYERS_NAME)))


def _ways(layers: Sequence[Mapping[str, Any]]) -> tuple[LayerWay, ...]:
    return tuple(
        LayerWay(layer["name"], layer["relative_distance"], bool(layer.get("at_boundary")))
        for layer in layers
        if layer.get("role") in WEIGHTS and layer.get("relative_distance") is not None
    )
