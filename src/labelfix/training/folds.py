"""Which samples are scored, which fold holds each out, and which samples are the same.

Letters: N samples, K classes, F folds.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from labelfix.data.splits import rows_for_testing
from labelfix.errors import DatasetError
from labelfix.modalities.base import Wording
from labelfix.types import MISSING, Duplicates, EncodedSamples, FoldAssignment, LabeledDataset


def plan_folds(
    dataset: LabeledDataset,
    seen: EncodedSamples,
    duplicates: Duplicates,
    *,
    folds: int,
    seed: int,
    wording: Wording = Wording(),
) -> FoldAssignment:
    """Deal the samples into folds of equal class shares, copies of a sample together.

    A sample is scored if it can be read, has a label, and its class has at least F different
    samples to train on. A row of a test split is scored by all models and trains none, unless there
    is nothing but test rows.

    Raises:
        DatasetError: Fewer than two classes are large enough.
    """
    usable, exclusion_reason = _usable(dataset, seen)
    trains = usable & ~rows_for_testing(dataset.split, dataset.test_splits)
    if not trains.any():
        trains = usable
    leader = _leaders(duplicates.exact_duplicate_set, trains)
    large = _large_classes(dataset, leader, folds, wording.plural)
    is_scored = usable & large[np.maximum(dataset.given_label, 0)]
    rows = usable & ~is_scored
    _explain_small_classes(exclusion_reason, dataset, leader, rows, folds, wording)
    return FoldAssignment(
        is_scored=is_scored,
        fold=assign_folds(dataset.given_label, leader, is_scored & trains, folds=folds, seed=seed),
        exclusion_reason=exclusion_reason,
    )


def _usable(
    dataset: LabeledDataset, seen: EncodedSamples
) -> tuple[NDArray[np.bool_], dict[int, str]]:
    usable = dataset.given_label != MISSING
    exclusion_reason = dict.fromkeys(
        np.flatnonzero(~usable).tolist(), "not scored: it has no label"
    )
    usable[list(seen.unreadable)] = False
    return usable, exclusion_reason


def _leaders(sets: NDArray[np.int64], trains: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return ``(N,)`` the row that stands for each sample: the first of its copies that trains."""
    leader = np.arange(len(sets))
    rows = np.flatnonzero((sets != MISSING) & trains)
    _, first, group = np.unique(sets[rows], return_index=True, return_inverse=True)
    leader[rows] = rows[first][group]
    leader[~trains] = MISSING
    return leader


def _large_classes(
    dataset: LabeledDataset, leader: NDArray[np.int64], folds: int, plural: str
) -> NDArray[np.bool_]:
    count = _samples_of_class(dataset, leader)
    large = count >= folds
    if large.sum() < 2:
        raise DatasetError(
            f"only {int(large.sum())} of {len(count)} classes have {folds} or more readable "
            f"{plural}",
            hint=f"an audit needs at least two classes of {folds} different {plural} each",
        )
    return np.asarray(large)


def _samples_of_class(dataset: LabeledDataset, leader: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``(K,)`` how many different samples of each class can be trained on."""
    own = np.flatnonzero(leader == np.arange(len(leader)))
    labels = dataset.given_label[own]
    return np.bincount(labels[labels != MISSING], minlength=len(dataset.class_names))


def _explain_small_classes(
    exclusion_reason: dict[int, str],
    dataset: LabeledDataset,
    leader: NDArray[np.int64],
    rows: NDArray[np.bool_],
    folds: int,
    wording: Wording,
) -> None:
    count = _samples_of_class(dataset, leader)
    for row in np.flatnonzero(rows).tolist():
        code = dataset.given_label[row]
        noun = wording.noun if count[code] == 1 else wording.plural
        exclusion_reason[row] = (
            f"not scored: class {str(dataset.class_names[code])!r} has {count[code]} different "
            f"readable {noun} to train on, {folds} are needed"
        )


def assign_folds(
    given_label: NDArray[np.int64],
    leader: NDArray[np.int64],
    takes_part: NDArray[np.bool_],
    *,
    folds: int,
    seed: int,
) -> NDArray[np.int16]:
    """Return ``(N,)`` the fold that holds each sample out, ``MISSING`` for those that take no part.

    Args:
        given_label: ``(N,)`` codes.
        leader: ``(N,)`` the row that stands for each sample: copies of it are in its fold.
        takes_part: ``(N,)`` bool.
        folds: F.
        seed: How they are shuffled.
    """
    fold = np.full(len(given_label), MISSING, dtype=np.int16)
    rows = np.flatnonzero(takes_part & (leader == np.arange(len(leader))))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(rows, given_label[rows])):
        fold[rows[held_out]] = number
    copies = np.flatnonzero(takes_part & (leader != np.arange(len(leader))))
    fold[copies] = fold[leader[copies]]
    return fold
