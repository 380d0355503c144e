"""What one may train on before and after cleaning, and the test set that judges it.

Letters: N samples, T test samples.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelfix.benchmark.records import MethodResult

Variant = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Labels ``(N,)`` to train on and what each sample counts."""


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
        for number, (label, weight) in enumerate(self.variants.values()):
            arrays |= {f"label{number}": label, f"weight{number}": weight}
        np.savez(folder / "downstream.npz", **arrays)  # type: ignore[arg-type]
        values = {"variants": list(self.variants), "test_features": str(self.test_features)}
        (folder / "downstream.json").write_text(json.dumps(values), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Downstream":
        """Return the record that `write` wrote."""
        values = json.loads((folder / "downstream.json").read_text(encoding="utf-8"))
        with np.load(folder / "downstream.npz") as arrays:
            variants = {
                name: (arrays[f"label{number}"], arrays[f"weight{number}"])
                for number, name in enumerate(values["variants"])
            }
            return cls(variants, Path(values["test_features"]), arrays["test_label"])


def variants_of(result: MethodResult, given_label: NDArray[np.int64]) -> dict[str, Variant]:
    """Return what one may train on after a method has spoken.

    ``pruned``: the given labels without flagged samples. ``weighted``: the given labels with the
    method's weights. ``cleaned``: the method's own labels and weights.
    """
    variants = {"pruned": (given_label, (~result.default_flags()).astype(np.float64))}
    if result.sample_weight is not None:
        variants["weighted"] = (given_label, result.sample_weight)
    if result.clean_label is not None:
        weight = result.clean_weight
        variants["cleaned"] = (
            result.clean_label,
            np.ones(len(given_label)) if weight is None else weight,
        )
    return variants
