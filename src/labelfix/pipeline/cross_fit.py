"""Out-of-sample probabilities from the training that a program has already.

The program's own function trains once a fold, on the other folds; torch is not loaded here.

Letters: N samples, K classes, F folds, n samples of a part.
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from labelfix.arguments import checks_arguments
from labelfix.data.arrays import as_array, labels_of, matrix_of
from labelfix.errors import ConfigError, DatasetError
from labelfix.training.folds import assign_folds
from labelfix.types import MISSING
from labelfix.utils.progress import OnProgress, Progress, no_progress

_ONE_ROW = "return a row for each sample and a column for each class, of floats"
_SUM_TOLERANCE = 0.01


@checks_arguments
def cross_fit(
    train: Callable[[Any, Any], Any],
    data: Any,
    labels: Any,
    *,
    folds: int = 5,
    groups: Any = None,
    seed: int = 0,
    on_progress: OnProgress = no_progress,
) -> NDArray[np.floating]:
    """Return ``(N, K)`` probabilities, each row by a model that never trained on its sample.

    ::

        def train(images, labels):
            model = my_training(images, labels)
            return lambda others: model.probabilities(others)

        pred_probs = labelfix.cross_fit(train, images, labels)
        issues = labelfix.find_label_issues(labels, pred_probs)

    Folds have equal shares of each class. Byte-identical copies are in one fold where the content
    of samples is known: of arrays, tensors, tables, texts, bytes and PIL pictures. A sample without
    a label trains no model, and gets the mean of all.

    Args:
        train: Takes the samples and the labels of F - 1 folds. It returns a function, or an object
            with ``predict_proba``, that takes samples and returns their ``(n, K)`` probabilities;
            columns are classes by position, or by name in alphabetical order.
        data: N samples: an array, a tensor, a list, a pandas table, a Hugging Face ``Dataset``, or
            anything with a length and items, which comes as a view with a length and items.
        labels: ``(N,)`` positions of classes from 0, or names; None, NaN or -1 where there is none.
            They come as an array of positions or of names.
        folds: F, 2 or more.
        groups: ``(N,)`` of what belongs together besides copies, such as the patient of an image:
            no group is both trained on and scored.
        seed: How samples are assigned to folds.
        on_progress: Told of each fold.

    Raises:
        ConfigError: ``train`` returns nothing that predicts, or a setting cannot be used.
        DatasetError: Samples, labels and groups do not fit together, a class has one sample, or
            what was predicted are no probabilities.
    """
    if not callable(train):
        raise ConfigError(
            f"train is of type {type(train).__name__}, which cannot be called",
            hint="give the function that trains first, then the samples and their labels",
        )
    codes, values = _coded(labels)
    if not hasattr(data, "__len__") or len(data) != len(codes):
        held = f"{len(data):,} samples" if hasattr(data, "__len__") else "samples without a length"
        raise DatasetError(
            f"data holds {held}, and labels {len(codes):,} labels",
            hint="give a label for each sample, in the same order",
        )
    _refuse_rare(codes, values)
    fold = _assigned(codes, data, groups, folds=folds, seed=seed)
    scored_by_all = np.flatnonzero(fold == MISSING)
    pred_probs: NDArray[np.floating] | None = None
    for number in range(folds):
        on_progress(Progress("training in folds", number, folds, "folds"))
        rows = np.flatnonzero((fold != MISSING) & (fold != number))
        predict = _predictor(train(_some(data, rows), values[rows]))
        rows = np.concatenate([np.flatnonzero(fold == number), scored_by_all])
        probs = _checked(predict(_some(data, rows)), len(rows), pred_probs)
        if pred_probs is None:
            pred_probs = np.zeros((len(codes), probs.shape[1]), probs.dtype)
        held_out = len(rows) - len(scored_by_all)
        pred_probs[rows[:held_out]] = probs[:held_out]
        pred_probs[scored_by_all] += probs[held_out:] / folds
    on_progress(Progress("training in folds", folds, folds, "folds"))
    if pred_probs is None:
        raise AssertionError("there are two folds or more")
    return pred_probs


def _coded(labels: Any) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return ``(N,)`` codes, ``MISSING`` for no label, and the labels as ``train`` gets them."""
    given = labels_of(labels)
    if given.are_names:
        encoded = pc.fill_null(given.values.dictionary_encode().indices, MISSING)
        return encoded.to_numpy().astype(np.int64), given.values.to_numpy(zero_copy_only=False)
    values = pc.fill_null(given.values, MISSING).to_numpy()
    return values, values


def _refuse_rare(codes: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Refuse labels that no fold can both train on and score."""
    rows = np.flatnonzero(codes != MISSING)
    names, first, count = np.unique(codes[rows], return_index=True, return_counts=True)
    if len(names) >= 2 and count.min() >= 2:
        return
    told = f"labels hold {len(names)} classes"
    if len(names) >= 2:
        told = f"class {str(values[rows[first[count.argmin()]]])!r} has one sample"
    raise DatasetError(
        told, hint="each of two classes or more needs two samples: one to train on, one to score"
    )


def _assigned(
    codes: NDArray[np.int64], data: Any, groups: Any, *, folds: int, seed: int
) -> NDArray[np.int16]:
    """Return ``(N,)`` the fold that holds each sample out, ``MISSING`` where it has no label."""
    takes_part = codes != MISSING
    together = _copies(data) if groups is None else _grouped(groups, len(codes))
    parts = len(np.unique(together[takes_part]))
    if not 2 <= folds <= parts:
        raise ConfigError(
            f"folds is {folds}, and there are {parts:,} different samples or groups to assign",
            hint="choose 2 or more, and no more than there are",
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        if groups is None:
            return assign_folds(codes, together, takes_part, folds=folds, seed=seed)
        fold = np.full(len(codes), MISSING, np.int16)
        rows = np.flatnonzero(takes_part)
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for number, (_, held_out) in enumerate(splitter.split(rows, codes[rows], together[rows])):
            fold[rows[held_out]] = number
    return fold


def _grouped(groups: Any, count: int) -> NDArray[np.int64]:
    values = as_array(groups)
    if not hasattr(values, "__len__") or len(values) != count or np.ndim(values) != 1:
        raise DatasetError(
            f"groups are not {count:,} values",
            hint="give what each sample belongs to, one a sample",
        )
    return np.asarray(pd.factorize(np.asarray(values), use_na_sentinel=False)[0], np.int64)


def _copies(data: Any) -> NDArray[np.int64]:
    """Return ``(N,)`` the first row of the same content, its own row if that is unknown."""
    content = _content(data)
    if content is None:
        return np.arange(len(data))
    _, first, group = np.unique(np.array(content), return_index=True, return_inverse=True)
    return np.asarray(first[group])


def _content(data: Any) -> Any:
    """Return N values that are equal where samples are; ``None`` where that is unknown."""
    if hasattr(data, "iloc"):
        try:
            return pd.util.hash_pandas_object(data, index=False).to_numpy()
        except TypeError:  # a cell is a list, say
            return None
    values = as_array(data)
    if not isinstance(values, np.ndarray | list | tuple):
        return None
    digests = [_digest(value) for value in values]
    return None if None in digests else digests


def _digest(value: Any) -> str | None:
    value = as_array(value)
    if isinstance(value, str):
        content = value.encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes):
        content = value
    elif isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        content = f"{value.dtype} {value.shape} ".encode() + value.tobytes()
    elif hasattr(value, "tobytes") and hasattr(value, "mode"):  # a picture of PIL
        content = f"{value.mode} {value.size} ".encode() + value.tobytes()
    else:
        return None
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class SomeRows(Sequence[Any]):
    """Some samples of data that have a length and items, such as a torch ``Dataset``."""

    data: Any
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return SomeRows(self.data, self.rows[place])
        return self.data[int(self.rows[place])]


def _some(data: Any, rows: NDArray[np.int64]) -> Any:
    """Return some samples, in the form of all."""
    if hasattr(data, "iloc"):
        return data.iloc[rows]
    if hasattr(data, "select") and hasattr(data, "features"):  # of Hugging Face
        return data.select(rows)
    if isinstance(data, list | tuple):
        return [data[row] for row in rows.tolist()]
    if hasattr(data, "shape"):
        return data[rows]
    return SomeRows(data, rows)


def _predictor(made: Any) -> Callable[[Any], Any]:
    predict = getattr(made, "predict_proba", made)
    if not callable(predict):
        raise ConfigError(
            f"train returns {type(made).__name__}, which predicts nothing",
            hint="return a function from samples to probabilities, or a classifier with "
            "predict_proba",
        )
    return predict  # type: ignore[no-any-return]


def _checked(
    predicted: Any, count: int, before: NDArray[np.floating] | None
) -> NDArray[np.floating]:
    """Return what a model predicted, if these are probabilities of as many classes as before."""
    probs = matrix_of(predicted, "what the model predicts", _ONE_ROW)
    if len(probs) != count:
        raise DatasetError(f"the model predicts {len(probs):,} rows of {count:,}", hint=_ONE_ROW)
    if before is not None and probs.shape[1] != before.shape[1]:
        raise DatasetError(
            f"a model predicts {probs.shape[1]} classes, and the first one {before.shape[1]}",
            hint="give all models the same classes, also where a fold lacks one",
        )
    are_shares = np.isfinite(probs).all() and probs.min() >= 0
    if not are_shares or np.abs(probs.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
        raise DatasetError(
            "the model predicts rows that are no probabilities",
            hint="each row has to be 0 or more and sum to 1: of logits, return softmax(logits)",
        )
    return probs
