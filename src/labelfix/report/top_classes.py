"""The highest probabilities of each sample, which a report may keep in place of all.

They are two columns of lists, one of classes and one of probabilities, highest first; classes that
are as probable are in the order of their codes.

Letters: N samples, K classes, T classes that are kept, B rows of a block.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.report.schema import CODES, PRED_PROBS, PROBABILITIES, TOP_COLUMNS
from labelfix.types import TOP_CLASSES, TOP_PROBS

TOP_NAMES = tuple(column.name for column in TOP_COLUMNS)


def probability_schema(top_classes: int) -> pa.Schema:
    """Return the columns of a report that hold probabilities.

    Args:
        top_classes: T, 0 for all classes.
    """
    if not top_classes:
        return pa.schema([pa.field(PRED_PROBS, PROBABILITIES)])
    return pa.schema([pa.field(TOP_CLASSES, CODES), pa.field(TOP_PROBS, PROBABILITIES)])


def kept_classes(classes: int, top_classes: int) -> int:
    """Return of how many classes a report keeps the probabilities of a sample.

    Args:
        classes: K.
        top_classes: T, 0 for all classes.
    """
    return min(top_classes, classes) if top_classes else classes


def largest(probs: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return ``(B, count)`` the classes of the highest probabilities of each row, highest first.

    Args:
        probs: ``(B, K)``, at least 0.
        count: How many, at most K.
    """
    classes = probs.shape[1]
    # the bits of floats that are not negative rise with them; + 0 makes 0 of -0
    key = (np.ascontiguousarray(probs, np.float32) + np.float32(0)).view(np.uint32)
    # one number for both: no two of a row are the same, so that ties are in the order of classes
    both: NDArray[np.uint64] = key.astype(np.uint64) << np.uint64(32)
    both += np.arange(classes, 0, -1, dtype=np.uint64)
    if count < classes:
        both = np.partition(both, classes - count, axis=1)[:, classes - count :]
    both.sort(axis=1)
    place = classes - (both[:, ::-1] & np.uint64(2**32 - 1)).astype(np.int64)
    return np.asarray(place)


def top_lists(
    probs: NDArray[np.float32], is_scored: NDArray[np.bool_], top_classes: int
) -> pa.Table:
    """Return the columns ``top_classes`` and ``top_probs`` of some rows.

    Args:
        probs: ``(B, K)``.
        is_scored: ``(B,)`` bool: the others are null.
        top_classes: T; all are kept if there are not as many.
    """
    count = kept_classes(probs.shape[1], top_classes)
    known = probs if is_scored.all() else probs[is_scored]
    best = largest(known, count)
    offsets = pa.array(np.concatenate([[0], np.cumsum(is_scored) * count]).astype(np.int32))
    columns = [best.astype(np.int32), np.take_along_axis(known, best, axis=1)]
    return pa.Table.from_arrays(
        [
            pa.ListArray.from_arrays(
                offsets, pa.array(values.reshape(-1)), type=kind, mask=pa.array(~is_scored)
            )
            for values, kind in zip(columns, (CODES, PROBABILITIES), strict=True)
        ],
        schema=probability_schema(top_classes),
    )


def likeliest(
    batch: pa.RecordBatch, count: int, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the likeliest classes of the scored samples of a batch, whichever the report keeps.

    Args:
        batch: B rows of a report, with its columns of probabilities.
        count: How many classes at most.
        classes: K.

    Returns:
        ``(n,)`` the rows that were scored, and ``(n, C)`` of each the codes and probabilities of
        the C likeliest classes, highest first.
    """
    names = set(batch.schema.names)
    is_whole = PRED_PROBS in names
    lists = batch[PRED_PROBS if is_whole else TOP_PROBS]
    rows = np.flatnonzero(lists.is_valid().to_numpy(zero_copy_only=False))
    probs = lists.flatten().to_numpy(zero_copy_only=False)
    probs = probs.reshape(len(rows), classes if is_whole else len(probs) // max(len(rows), 1))
    if is_whole:
        best = largest(probs, min(count, classes))
        return rows, best, np.take_along_axis(probs, best, axis=1)
    codes = batch[TOP_CLASSES].flatten().to_numpy(zero_copy_only=False).reshape(probs.shape)
    return rows, codes[:, :count].astype(np.int64), probs[:, :count]


def faults_of_lists(batch: pa.RecordBatch, classes: int) -> list[str]:
    """Return what no audit writes of the columns of probabilities that a batch has.

    Args:
        batch: B rows of a report.
        classes: K.
    """
    names = batch.schema.names
    if PRED_PROBS in names:
        lengths = _lengths(batch[PRED_PROBS])
        if set(lengths) - {classes}:
            return [f"{PRED_PROBS} has {lengths[:3]} values for {classes} classes"]
    if TOP_CLASSES not in names or TOP_PROBS not in names:
        return []
    codes, probs = batch[TOP_CLASSES], batch[TOP_PROBS]
    lengths = _lengths(codes)
    if len(lengths) > 1 or any(not 0 < length <= classes for length in lengths):
        return [f"{TOP_CLASSES} has {lengths[:3]} values, of {classes} classes"]
    if not pc.list_value_length(codes).equals(pc.list_value_length(probs)):
        return [f"{TOP_CLASSES} and {TOP_PROBS} are of different lengths"]
    if codes.flatten().null_count or probs.flatten().null_count:
        return [f"{TOP_CLASSES} or {TOP_PROBS} has a list with a hole"]
    low, high = pc.min_max(codes.flatten()).values()
    if low.is_valid and not 0 <= low.as_py() <= high.as_py() < classes:
        return [f"{TOP_CLASSES} has codes that are not from 0 to {classes - 1:,}"]
    return []


def _lengths(lists: pa.Array) -> Sequence[int]:
    found: list[int] = pc.unique(pc.list_value_length(lists).drop_null()).to_pylist()
    return found
