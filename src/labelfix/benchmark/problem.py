"""What a method of a benchmark sees, and what it says.

A `Problem` holds given labels and no truth: a method runs in a process of its own, to which only
the files of its problem are handed. Truth stays with the code that scores.

Letters: N samples, K classes, M models.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.config import BackboneConfig
from labelfix.types import MISSING
from labelfix.utils.cache import read_column

ANY_SCORE = ""
"""The name of the answer of a method that gives one score only."""

BINS = 15
"""Of equal width, for the calibration error of a probability (Guo et al., ICML 2017)."""

_PROBLEM = "problem.json"
_ARRAYS = "problem.npz"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """A data set with given labels, as a method sees it.

    Args:
        given_label: ``(N,)`` int64 codes in ``[0, K)``.
        classes: K.
        seed: The one source of the method's random choices.
        data: A manifest of the samples with those labels; ``None`` where there are none.
        cache: Where features are kept.
        features: The folder of their cached features, once they are computed.
        pred_probs: ``(M, N, K)`` out-of-sample probabilities of M models, where a task gives them.
        backbone: Which network looks at the samples.
    """

    given_label: NDArray[np.int64]
    classes: int
    seed: int
    data: Path | None = None
    cache: Path | None = None
    features: Path | None = None
    pred_probs: NDArray[np.floating] | None = None
    backbone: BackboneConfig = field(default_factory=BackboneConfig)

    def __len__(self) -> int:
        """Return N."""
        return len(self.given_label)

    def feature_values(self) -> NDArray[np.float16]:
        """Return the ``(N, D)`` features, mapped from disk."""
        if self.features is None:
            raise AssertionError("a method that reads features is given some")
        return read_column(self.features, "values")

    def write(self, folder: Path) -> None:
        """Write the problem to files in a folder."""
        arrays: dict[str, NDArray[Any]] = {"given_label": self.given_label}
        if self.pred_probs is not None:
            arrays["pred_probs"] = self.pred_probs
        np.savez(folder / _ARRAYS, **arrays)  # type: ignore[arg-type]
        values = {
            "classes": self.classes,
            "seed": self.seed,
            **{name: _text(getattr(self, name)) for name in ("data", "cache", "features")},
            "backbone": asdict(self.backbone) | {"weights": _text(self.backbone.weights)},
        }
        (folder / _PROBLEM).write_text(json.dumps(values), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Problem":
        """Return the problem that `write` wrote."""
        values = json.loads((folder / _PROBLEM).read_text(encoding="utf-8"))
        with np.load(folder / _ARRAYS) as arrays:
            held = dict(arrays)
        backbone = values["backbone"]
        return cls(
            given_label=held["given_label"],
            classes=values["classes"],
            seed=values["seed"],
            pred_probs=held.get("pred_probs"),
            backbone=BackboneConfig(**{**backbone, "weights": _path(backbone["weights"])}),
            **{name: _path(values[name]) for name in ("data", "cache", "features")},
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MethodResult:
    """What a method says of each sample.

    Args:
        score: ``(N,)`` float64, high is probably wrong; NaN where a sample was not scored.
        probability: What ``score`` is called if it claims to be the probability that a label is
            wrong, else ``""``.
        flags: Rule to ``(N,)`` bool; the first rule is the method's default.
        suggested_label: ``(N,)`` int64, another class where there is one to suggest, else
            ``MISSING``.
        noise_rate: The estimated share of wrong labels; NaN without an estimate.
        predicted_label: ``(N,)`` int64, the class that the method takes each sample for, whatever
            its label; ``MISSING`` where it was not scored, ``None`` if the method predicts none.
        sample_weight: ``(N,)`` what each sample should count in later training with its given
            label, or ``None``.
        clean_label: ``(N,)`` int64, the labels to train on after cleaning, or ``None``; a sample
            whose weight is 0 is left out.
        clean_weight: ``(N,)`` what they should count, or ``None``.
        soft_label: ``(N, K)`` how probable each class is, to train on, or ``None``; 0 in the row of
            a sample that is left out.
        settings: What the method chose by itself, as JSON values.
    """

    score: NDArray[np.float64]
    flags: Mapping[str, NDArray[np.bool_]]
    suggested_label: NDArray[np.int64]
    noise_rate: float
    probability: str = ""
    predicted_label: NDArray[np.int64] | None = None
    sample_weight: NDArray[np.float64] | None = None
    clean_label: NDArray[np.int64] | None = None
    clean_weight: NDArray[np.float64] | None = None
    soft_label: NDArray[np.float32] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def default_flags(self) -> NDArray[np.bool_]:
        """Return the flags of the default rule."""
        return next(iter(self.flags.values()))

    def lacks(self, samples: int) -> str:
        """Return what is wrong with the answer about so many samples; ``""`` if nothing is."""
        arrays = {**_arrays_of(self), **{f"flags {rule}": f for rule, f in self.flags.items()}}
        for name, values in arrays.items():
            wanted = (samples, *values.shape[1:]) if name == "soft_label" else (samples,)
            if values.shape != wanted:
                return f"{name} has the shape {values.shape} instead of {wanted}"
        if not self.flags:
            return "there are no flags"
        return "every score is NaN" if samples and bool(np.isnan(self.score).all()) else ""


MethodOutputs = Mapping[str, MethodResult]
"""Name of a score to what a method says with it."""


def write_answers(answers: MethodOutputs, path: Path) -> None:
    """Write what a method said to one ``.npz`` file."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, (score, result) in enumerate(answers.items()):
        about = {
            "score": score,
            "probability": result.probability,
            "noise_rate": None if np.isnan(result.noise_rate) else float(result.noise_rate),
            "rules": list(result.flags),
            "settings": dict(result.settings),
        }
        arrays[f"{number}/about"] = np.array(json.dumps(about))
        arrays |= {f"{number}/{name}": values for name, values in _arrays_of(result).items()}
        for place, flags in enumerate(result.flags.values()):
            arrays[f"{number}/flags{place}"] = flags
    np.savez(path, **arrays)  # type: ignore[arg-type]


def read_answers(path: Path) -> dict[str, MethodResult]:
    """Return what `write_answers` wrote."""
    with np.load(path) as arrays:
        held = dict(arrays)
    answers = {}
    for number in range(sum(name.endswith("/about") for name in held)):
        about = json.loads(str(held[f"{number}/about"]))
        rate = about["noise_rate"]
        answers[about["score"]] = MethodResult(
            probability=about["probability"],
            noise_rate=float("nan") if rate is None else rate,
            settings=about["settings"],
            flags={
                rule: held[f"{number}/flags{place}"] for place, rule in enumerate(about["rules"])
            },
            **{name: held.get(f"{number}/{name}") for name in _ARRAY_FIELDS},  # type: ignore[arg-type]
        )
    return answers


def suggestions(
    flags: NDArray[np.bool_], predicted: NDArray[np.int64], given: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return ``(N,)`` the predicted class of flagged samples where it is another one."""
    return np.where(flags & (predicted != given), predicted, MISSING)


_ARRAY_FIELDS = (
    "score", "suggested_label", "predicted_label", "sample_weight", "clean_label", "clean_weight",
    "soft_label",
)  # fmt: skip


def _arrays_of(result: MethodResult) -> dict[str, NDArray[Any]]:
    values = {name: getattr(result, name) for name in _ARRAY_FIELDS}
    return {name: array for name, array in values.items() if array is not None}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """What one may train on.

    Args:
        label: ``(N,)`` codes, ``MISSING`` for a sample that is left out.
        weight: ``(N,)`` what each sample counts, at least 0.
        soft_label: ``(N, K)`` how probable each class is, to learn in place of ``label``; ``None``
            for hard labels.
    """

    label: NDArray[np.int64]
    weight: NDArray[np.float64]
    soft_label: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Downstream:
    """Variants of a training set, and a clean test set.

    Args:
        variants: Name to labels and weights.
        test_features: The folder of the test features.
        test_label: ``(T,)`` true codes.
    """

    variants: Mapping[str, Variant]
    test_features: Path
    test_label: NDArray[np.int64]

    def write(self, folder: Path) -> None:
        """Write the record to files in a folder."""
        arrays: dict[str, NDArray[np.generic]] = {"test_label": self.test_label}
        for number, variant in enumerate(self.variants.values()):
            arrays |= {f"label{number}": variant.label, f"weight{number}": variant.weight}
            if variant.soft_label is not None:
                arrays[f"soft_label{number}"] = variant.soft_label
        np.savez(folder / "downstream.npz", **arrays)  # type: ignore[arg-type]
        values = {"variants": list(self.variants), "test_features": str(self.test_features)}
        (folder / "downstream.json").write_text(json.dumps(values), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Downstream":
        """Return the record that `write` wrote."""
        values = json.loads((folder / "downstream.json").read_text(encoding="utf-8"))
        with np.load(folder / "downstream.npz") as arrays:
            variants = {
                name: Variant(
                    arrays[f"label{number}"],
                    arrays[f"weight{number}"],
                    arrays.get(f"soft_label{number}"),
                )
                for number, name in enumerate(values["variants"])
            }
            return cls(variants, Path(values["test_features"]), arrays["test_label"])


def variants_of(result: MethodResult, given_label: NDArray[np.int64]) -> dict[str, Variant]:
    """Return what one may train on after a method has spoken.

    ``pruned``: the given labels without flagged samples. ``weighted``: the given labels with the
    method's weights. ``cleaned``: the method's own labels and weights. ``soft``: its soft labels.
    """
    ones = np.ones(len(given_label))
    variants = {"pruned": Variant(given_label, (~result.default_flags()).astype(np.float64))}
    if result.sample_weight is not None:
        variants["weighted"] = Variant(given_label, result.sample_weight)
    if result.clean_label is not None:
        weight = ones if result.clean_weight is None else result.clean_weight
        variants["cleaned"] = Variant(result.clean_label, weight)
    if result.soft_label is not None:
        label = np.where(result.soft_label.any(axis=1), given_label, MISSING)
        variants["soft"] = Variant(label, ones, result.soft_label)
    return variants
