"""Probabilities as some model might give them, in every form that labelfix reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

FORMS = ("csv", "tsv", "parquet", "npz")


@dataclass(frozen=True)
class Probs:
    """Probabilities of named samples; labels are names of classes, or None."""

    ids: Sequence[str]
    labels: Sequence[str | int | None]
    classes: Sequence[str | int]
    values: NDArray[np.floating]

    def but(self, **changes: object) -> "Probs":
        return replace(self, **changes)


def noisy(seed: int = 0, count: int = 300, classes: Sequence[str | int] = ("cat", "dog", "hen")):
    """Return probabilities of which a good part of the given labels disagrees."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, len(classes), count)
    concentration = np.full((count, len(classes)), 0.1)
    concentration[np.arange(count), true] = 2
    values = rng.standard_gamma(concentration) + 1e-6
    values = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
    flips = rng.random(count) < 0.2
    given = np.where(flips, (true + 1) % len(classes), true)
    labels = [classes[code] for code in given]
    return Probs([f"{i:05}.png" for i in range(count)], labels, classes, values)


def softer(probs: Probs) -> Probs:
    """Return what another model, less sure of itself, might give the same samples."""
    values = np.sqrt(probs.values)
    return probs.but(values=(values / values.sum(axis=1, keepdims=True)).astype(np.float32))


def write(path: Path, probs: Probs, *, row_group: int = 50) -> Path:
    """Write probabilities as whatever the suffix of ``path`` says."""
    if path.suffix == ".npz":
        names = list(probs.classes)
        codes = [-1 if label is None else names.index(label) for label in probs.labels]
        np.savez(path, pred_probs=probs.values, labels=np.array(codes), class_names=names)
        return path
    table = table_of(probs)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=row_group)
    else:
        delimiter = "," if path.suffix == ".csv" else "\t"
        pacsv.write_csv(table, path, pacsv.WriteOptions(delimiter=delimiter))
    return path


def write_lists(path: Path, probs: Probs, top: int, *, row_group: int = 50) -> Path:
    """Write the likeliest classes of each sample by name, the likeliest first."""
    order = np.argsort(-probs.values, axis=1, kind="stable")[:, :top]
    columns = {
        "sample_id": pa.array(probs.ids, pa.string()),
        "given_label": pa.array(probs.labels),
        "top_classes": pa.array([[probs.classes[code] for code in row] for row in order.tolist()]),
        "top_probs": pa.array(
            np.take_along_axis(probs.values, order, axis=1).tolist(), pa.list_(pa.float32())
        ),
    }
    pq.write_table(pa.table(columns), path, row_group_size=row_group)
    return path


def table_of(probs: Probs) -> pa.Table:
    columns = {"sample_id": pa.array(probs.ids, pa.string()), "given_label": pa.array(probs.labels)}
    for position, name in enumerate(probs.classes):
        columns[f"prob:{name}"] = pa.array(np.ascontiguousarray(probs.values[:, position]))
    return pa.table(columns)
