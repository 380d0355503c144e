"""What a run of whole-network training wrote of itself: its layers and its log.

``layers.json``: a list with an object for each weight (name, role, depth, distance,
relative_distance, radius, at_boundary). ``training_log.jsonl``: an object for each fold and epoch
(fold, epoch, loss, learning_rate, images_per_second, corrected, correction_precision,
mean_weight_kept, mean_weight_corrected, boundary_share).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labelfix.diagnosis_records import EpochSummary, LayerDistance
from labelfix.errors import RunError
from labelfix.files import refuse_special_file
from labelfix.reading import is_number, parse_json


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


def summarise_log(entries: Sequence[Mapping[str, Any]]) -> tuple[EpochSummary, ...]:
    """Return each epoch averaged over the folds that reached it, in order.

    The precision and the mean weight of corrections count each fold by its corrections.
    """
    by_epoch: dict[int, list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_epoch.setdefault(int(entry["epoch"]), []).append(entry)
    return tuple(_epoch(epoch, by_epoch[epoch]) for epoch in sorted(by_epoch))


def _epoch(epoch: int, entries: Sequence[Mapping[str, Any]]) -> EpochSummary:
    def mean(key: str) -> float | None:
        return _mean([(entry.get(key), 1.0) for entry in entries])

    def mean_of_corrections(key: str) -> float | None:
        return _mean(
            [(entry.get(key), _number(entry.get("corrected")) or 0.0) for entry in entries]
        )

    return EpochSummary(
        epoch=epoch,
        networks=len(entries),
        loss=mean("loss"),
        corrected=mean("corrected"),
        correction_precision=mean_of_corrections("correction_precision"),
        mean_weight_kept=mean("mean_weight_kept"),
        mean_weight_corrected=mean_of_corrections("mean_weight_corrected"),
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
            hint="name the RUN folder of a finished `labelfix audit --tune full`",
        ) from error


def _parsed(text: str, path: Path, where: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise _damaged(path, where, str(error)) from error


def _damaged(path: Path, where: str, why: str) -> RunError:
    return RunError(f"{path}{where} is damaged: {why}", hint="audit again with --overwrite")
