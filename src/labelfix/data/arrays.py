"""Labels and probabilities that a program holds, checked as those of files are.

Lists, NumPy arrays, pandas columns and tables, and tensors of torch are taken, which need not be
installed: what they are called in messages is the argument of the caller.

Letters: N samples, K classes, D features.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from labelfix.data.labels import blank_to_null
from labelfix.data.probabilities import (
    CLASSES,
    LABELS,
    PROBS,
    GivenPredProbs,
    checked_pred_probs,
    joined_pred_probs,
    names_of_positions,
)
from labelfix.data.probability_store import ArrayStore, blocks
from labelfix.data.probability_tables import RawPredProbs
from labelfix.errors import DatasetError
from labelfix.types import MISSING, Assumption, Label
from labelfix.utils.progress import no_progress

_ONE_LABEL = "give one label a sample: the position of its class from 0, or its name"
_ONE_ROW = "give one row a sample and one column a class, of floats"


@dataclass(frozen=True, slots=True, eq=False)
class GivenLabels:
    """Labels as a program holds them.

    Args:
        values: ``(N,)`` Arrow int64 (positions of classes) or strings (their names), null where a
            label is missing.
        categories: The names that positions stand for, where the labels themselves say so.
    """

    values: pa.Array
    categories: tuple[Label, ...] | None = None

    @property
    def are_names(self) -> bool:
        """Return whether the labels are names of classes and not positions."""
        return bool(pt.is_string(self.values.type))

    def __len__(self) -> int:
        """Return N."""
        return len(self.values)

    def named(self, class_names: Sequence[Label] | None) -> pa.Array:
        """Return the ``(N,)`` labels by the names of their classes, as data sets have them.

        Args:
            class_names: What positions stand for; ``None`` takes the categories of the labels, or
                positions as they are.

        Raises:
            DatasetError: A position has no name.
        """
        names = class_names if class_names is not None else self.categories
        if self.are_names or names is None:
            return self.values
        positions = pc.if_else(pc.equal(self.values, MISSING), pa.scalar(None), self.values)
        odd = pc.or_(pc.less(positions, 0), pc.greater_equal(positions, len(names)))
        if pc.any(odd).as_py():
            row = pc.index(odd, True).as_py()
            raise DatasetError(
                f"label {self.values[row].as_py()} of sample {row} is none of the {len(names)} "
                "classes",
                hint="count classes from 0, and name all of them",
            )
        return pa.array(names).take(positions)


@dataclass(frozen=True, slots=True, eq=False)
class ProgramPredProbs:
    """Probabilities as a program holds them, checked.

    Args:
        given: What is scored, with its classes sorted.
        labels: The labels as they came.
        class_names: K names in the order of the columns, which positions of classes count in.
        models: What messages call the probabilities of each model.
    """

    given: GivenPredProbs
    labels: GivenLabels
    class_names: tuple[Label, ...]
    models: tuple[str, ...]


def pred_probs_of_arrays(
    labels: Any, pred_probs: Any, class_names: Sequence[Label] | None = None, *, force: bool = False
) -> ProgramPredProbs:
    """Return probabilities that a program holds as `open_pred_probs` does those of ``.npz``.

    They are copied, so that nothing that is written to them later counts.

    Args:
        labels: ``(N,)`` positions of classes or their names, missing ones as None, NaN or -1.
        pred_probs: ``(N, K)`` floats, or several such arrays, one a model, of which the mean
            counts.
        class_names: K names, in the order of the columns; ``None`` takes those of the labels, if
            they are categories or text, or of the columns, or the numbers 0 to K-1.
        force: Whether to go on where labels and probabilities do not seem to belong together.

    Raises:
        DatasetError: An argument is of another shape or type, holds something else than
            probabilities, or they do not fit each other.
    """
    _refuse_swapped(labels, pred_probs)
    given = labels_of(labels)
    tables = _of_models(pred_probs)
    arrays = [_probabilities(table, name) for name, table in tables.items()]
    classes = arrays[0].shape[1]
    for name, array in zip(tables, arrays, strict=True):
        if array.shape[1] != classes:
            raise DatasetError(
                f"{name} has {array.shape[1]} columns, and that of the first model has {classes}",
                hint="give the models the same classes, in the same order",
            )
        if len(array) != len(given):
            raise DatasetError(
                f"{LABELS} holds {len(given):,} labels, and {name} has {len(array):,} rows",
                hint=f"give {LABELS} and {PROBS} of the same samples, in the same order",
            )
    named, said = _names(given, class_names, next(iter(tables.values())), classes)
    text = _as_names(given, named)
    parts = []
    for name, array in zip(tables, arrays, strict=True):
        raw = RawPredProbs(Path(name), None, text, named, ArrayStore(array), said)
        parts.append(checked_pred_probs(raw, no_progress, force=force))
        said = ()
    joined = joined_pred_probs(parts, [Path(name) for name in tables])
    return ProgramPredProbs(joined, given, named, tuple(tables))


def digest_of_pred_probs(given: GivenPredProbs) -> str:
    """Return a digest of labels, names and probabilities."""
    digest = hashlib.blake2b(json.dumps(given.class_names).encode(), digest_size=16)
    digest.update(given.given_label.astype(np.int64).tobytes())
    for block in blocks(len(given), len(given.class_names)):
        digest.update(given.pred_probs.read(block).tobytes())
    return digest.hexdigest()


def as_array(value: Any) -> Any:
    """Return what NumPy makes of a tensor or a table; anything else as it is.

    A tensor is known by its methods, as importing torch takes seconds.
    """
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # which NumPy does not know
            value = value.float()
        return value.numpy()
    if isinstance(value, np.ma.MaskedArray) and value.dtype.kind == "f":
        return value.filled(np.nan)
    if hasattr(value, "iloc") and hasattr(value, "to_numpy"):
        return value.to_numpy()
    return value


def dimensions(value: Any) -> int | None:
    """Return how many dimensions a value has; ``None`` where NumPy makes no array of it."""
    try:
        return int(np.ndim(value))
    except (ValueError, TypeError, RuntimeError):
        return None


def labels_of(labels: Any, name: str = LABELS) -> GivenLabels:
    """Return the labels of a program.

    Args:
        labels: ``(N,)`` values.
        name: Of the argument.

    Raises:
        DatasetError: They are no labels.
    """
    values = as_array(labels) if hasattr(labels, "detach") else labels
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise DatasetError(f"{name} is {_shown(values)}", hint=_ONE_LABEL)
    many = dimensions(values)
    if many != 1:
        shape = getattr(values, "shape", None)
        what = f"has the shape {tuple(shape)}" if shape is not None else "is no row of labels"
        raise DatasetError(
            f"{name} {what}", hint=f"{_ONE_LABEL}; argmax(axis=1) makes labels of one-hot rows"
        )
    if not len(values):
        raise DatasetError(f"{name} is empty", hint=_ONE_LABEL)
    return _typed(_arrow(values, name), name)


def _arrow(values: Any, name: str) -> pa.Array:
    if not isinstance(values, np.ndarray | list | tuple) and not hasattr(values, "iloc"):
        categories = getattr(values, "categories", None)  # a pandas Categorical has no iloc
        values = values if categories is not None else list(values)
    try:
        found = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        words = " ".join(str(error).split())[:200]
        raise DatasetError(f"{name} cannot be read as labels: {words}", hint=_ONE_LABEL) from error
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _typed(values: pa.Array, name: str) -> GivenLabels:
    """Return labels as positions or names, by their type."""
    categories = None
    kind = values.type
    if pt.is_dictionary(kind):
        categories = _categories(values.dictionary.to_pylist(), name)
        values, kind = values.indices, values.indices.type
    if values.null_count == len(values):
        raise DatasetError(f"{name} holds no label at all", hint=_ONE_LABEL)
    if pt.is_boolean(kind):
        return GivenLabels(values.cast(pa.int64()))
    if pt.is_integer(kind) or pt.is_floating(kind):
        try:
            return GivenLabels(values.cast(pa.int64()), categories)
        except pa.ArrowInvalid as error:
            raise DatasetError(
                f"{name} holds numbers that are no classes: {' '.join(str(error).split())[:120]}",
                hint=_ONE_LABEL,
            ) from error
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return GivenLabels(blank_to_null(values.cast(pa.string())))
    raise DatasetError(f"{name} holds values of type {kind}", hint=_ONE_LABEL)


def _categories(names: list[Any], name: str) -> tuple[Label, ...]:
    if all(isinstance(one, str) for one in names):
        return tuple(names)
    if all(isinstance(one, int) and not isinstance(one, bool) for one in names):
        return tuple(map(int, names))
    return tuple(map(str, names))


def _refuse_swapped(labels: Any, pred_probs: Any) -> None:
    if dimensions(labels) == 2 and dimensions(pred_probs) == 1:
        raise DatasetError(
            f"{LABELS} is a matrix and {PROBS} a row of values: they are in each other's place",
            hint=f"give {LABELS} first, then {PROBS}",
        )


def _of_models(pred_probs: Any) -> dict[str, Any]:
    """Return the table of each model by the name that messages call it."""
    are_listed = isinstance(pred_probs, list | tuple) and len(pred_probs) > 0
    are_many = are_listed and dimensions(pred_probs[0]) == 2
    if (are_many or dimensions(pred_probs) == 3) and len(pred_probs) > 0:
        return {f"{PROBS}[{number}]": one for number, one in enumerate(pred_probs)}
    return {PROBS: pred_probs}


def _probabilities(table: Any, name: str) -> NDArray[np.float32]:
    """Return a copy of ``(N, K)`` probabilities."""
    values = matrix_of(table, name, _ONE_ROW)
    if not values.shape[1]:
        raise DatasetError(f"{name} has no columns", hint=_ONE_ROW)
    with np.errstate(over="ignore"):
        return np.array(values, np.float32, order="C")


def matrix_of(table: Any, name: str, hint: str) -> NDArray[np.floating]:
    """Return a matrix of floats that a program holds, without a copy where it is an array.

    Raises:
        DatasetError: It is something else, or has no rows.
    """
    values = as_array(table)
    if isinstance(values, list | tuple) and values:
        try:
            values = np.asarray(values, np.float64)
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise DatasetError(f"{name} is no matrix of numbers: {error}", hint=hint) from error
    if not isinstance(values, np.ndarray):
        raise DatasetError(f"{name} is {_shown(values)}, which is no matrix", hint=hint)
    if values.ndim != 2 or values.dtype.kind != "f":
        raise DatasetError(f"{name} is of type {values.dtype} and shape {values.shape}", hint=hint)
    if not len(values):
        raise DatasetError(f"{name} has no rows", hint=hint)
    return values


def _names(
    given: GivenLabels, class_names: Sequence[Label] | None, table: Any, classes: int
) -> tuple[tuple[Label, ...], tuple[Assumption, ...]]:
    """Return the names of the columns, and what was taken for granted of them."""
    if class_names is not None:
        return _fitting(tuple(class_names), CLASSES, classes), ()
    if given.categories is not None:
        return _fitting(given.categories, f"the categories of {LABELS}", classes), ()
    columns = _columns_of(table)
    if columns is not None:
        return columns, ()
    if not given.are_names:
        return tuple(range(classes)), ()
    found = sorted(given.values.unique().drop_null().to_pylist())
    if len(found) != classes:
        raise DatasetError(
            f"{LABELS} holds {len(found):,} different names, and {PROBS} has {classes} columns",
            hint=f"name the columns, in their order, with {CLASSES}",
        )
    said = (
        f"the columns of {PROBS} are taken to be the classes in alphabetical order, {found[0]!r} "
        f"first; {CLASSES} names another order"
    )
    return tuple(found), (Assumption("columns", said),)


def _columns_of(table: Any) -> tuple[Label, ...] | None:
    """Return the names of the columns of a pandas table, ``None`` where there are none."""
    columns = list(getattr(table, "columns", ())) if hasattr(table, "iloc") else []
    if not columns or columns == list(range(len(columns))):
        return None
    if not all(isinstance(name, str) for name in columns):
        raise DatasetError(
            f"the columns of {PROBS} are called {columns[0]!r} and so on, which are no names",
            hint=f"name the classes with {CLASSES}, or give {PROBS}.to_numpy()",
        )
    return tuple(columns)


def _fitting(names: tuple[Any, ...], what: str, classes: int) -> tuple[Label, ...]:
    if len(names) != classes:
        raise DatasetError(
            f"{what} are {len(names)} names, and {PROBS} has {classes} columns",
            hint=f"name each column once, in the order of {PROBS}, with {CLASSES}",
        )
    names = tuple(name.item() if isinstance(name, np.generic) else name for name in names)
    if not (
        all(isinstance(name, str) for name in names)
        or all(isinstance(name, int) and not isinstance(name, bool) for name in names)
    ):
        raise DatasetError(
            f"{what} are of several types: {names[0]!r} and so on",
            hint=f"give {CLASSES} as text or as integers",
        )
    return names


def _as_names(given: GivenLabels, class_names: tuple[Label, ...]) -> pa.StringArray:
    if given.are_names:
        return given.values
    positions = given.values.fill_null(MISSING).to_numpy(zero_copy_only=False)
    return names_of_positions(positions, class_names)


def _shown(value: Any) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 60 else f"of type {type(value).__name__}"
