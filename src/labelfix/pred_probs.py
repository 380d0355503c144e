"""Open probabilities that some model gave: one file, or the files of several models.

::

    .csv .tsv .parquet    sample_id, given_label and a column prob:<class> for each class
    .npz                  arrays pred_probs, labels and, if wanted, class_names

The rooms ``pred_probs_tables`` and ``pred_probs_npz`` read one form each; the checks that are
common to all are here.

Letters: N samples, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.dataset_columns import refuse_repeated_ids
from labelfix.dataset_files import FileTimes, fingerprint
from labelfix.errors import DatasetError
from labelfix.files import refuse_special_file
from labelfix.pred_probs_npz import CLASSES, LABELS, read_npz
from labelfix.pred_probs_tables import (
    ID,
    LABEL,
    PREFIX,
    SHAPE_OF_TABLE,
    RawPredProbs,
    read_parquet_table,
    read_text_table,
)
from labelfix.probability_store import MeanStore, ProbabilityStore, blocks
from labelfix.records import MISSING, Assumption, Label, OnProgress, Progress

SUM_TOLERANCE = 1e-3
"""How far from 1 the probabilities of a sample may add up: float16 is no finer."""

BAD_SHARE = 0.05
"""With more bad rows than this, the file is another kind of file."""

_FORMS = f".csv, .tsv or .parquet with {ID}, {LABEL} and {PREFIX}<class> columns, or .npz"


@dataclass(frozen=True, slots=True, eq=False)
class GivenPredProbs:
    """Probabilities of N samples, and what is known of the samples.

    Args:
        sample_id: ``(N,)`` Arrow strings, unique.
        given_label: ``(N,)`` int64 in ``[0, K)``, ``MISSING`` where there is none or it is unknown.
        class_names: K names, sorted.
        store: The probabilities, K columns in the order of ``class_names``.
        why_not: Row to reason, for the samples that cannot be judged.
        columns: What the columns of ids and labels are called in the first file.
        assumptions: What was taken for granted, the most important first.
    """

    sample_id: pa.StringArray
    given_label: NDArray[np.int64]
    class_names: tuple[Label, ...]
    store: ProbabilityStore
    why_not: dict[int, str]
    columns: dict[str, str]
    assumptions: tuple[Assumption, ...] = ()

    def __len__(self) -> int:
        """Return N."""
        return len(self.sample_id)


def fingerprint_of(paths: Sequence[Path]) -> str:
    """Return a digest of the files' names, sizes and times: what tells whether they have changed.

    Raises:
        DatasetError: A file is not there.
    """
    for path in paths:
        refuse_special_file(path, DatasetError)
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise DatasetError(f"{path} {what}", hint=f"name a file: {_FORMS}")
    stats = [path.stat() for path in paths]
    times = FileTimes(
        np.array([stat.st_size for stat in stats]), np.array([stat.st_mtime_ns for stat in stats])
    )
    return fingerprint(pa.array([path.name for path in paths]), times)


def open_pred_probs(paths: Sequence[Path], folder: Path, on_progress: OnProgress) -> GivenPredProbs:
    """Open the probabilities of one model, or the mean of several models'.

    Args:
        paths: A file a model: the same samples, classes and given labels in each. Tables are
            matched by ``sample_id``, arrays by row.
        folder: Where to put aside what cannot be used where it lies.
        on_progress: Told how far reading is.

    Raises:
        DatasetError: A file cannot be used, or the files do not fit each other.
        RunError: ``folder`` cannot be written to.
    """
    parts = [_open_one(path, folder, on_progress) for path in paths]
    given = parts[0] if len(parts) == 1 else _mean(parts, paths)
    if len(given.why_not) == len(given):
        raise DatasetError(
            f"no row of {paths[0]} can be judged; the first: {given.why_not[0]}",
            hint=f"give {_FORMS}",
        )
    return given


def _mean(parts: Sequence[GivenPredProbs], paths: Sequence[Path]) -> GivenPredProbs:
    rows = [_rows_in(parts[0], part, path) for part, path in zip(parts, paths, strict=True)]
    return replace(
        parts[0],
        store=MeanStore([part.store for part in parts], rows),
        why_not=_joined_reasons(parts, rows, paths),
    )


def _open_one(path: Path, folder: Path, on_progress: OnProgress) -> GivenPredProbs:
    raw = _read(path, folder, on_progress)
    class_names = _sorted_classes(raw)
    columns = np.array([raw.class_names.index(name) for name in class_names])
    store = raw.store.with_columns(columns)
    names = pa.array([str(name) for name in class_names], pa.string())
    codes = pc.fill_null(pc.index_in(raw.label, names), MISSING).to_numpy().astype(np.int64)
    why_not = _why_no_label(raw, codes) | _why_no_probabilities(
        store, class_names, path, on_progress
    )
    ids = raw.sample_id
    return GivenPredProbs(
        sample_id=pa.array(np.arange(len(codes))).cast(pa.string()) if ids is None else ids,
        given_label=codes,
        class_names=class_names,
        store=store,
        why_not=why_not,
        columns={"label": LABELS} if ids is None else {"id": ID, "label": LABEL},
    )


def _read(path: Path, folder: Path, on_progress: OnProgress) -> RawPredProbs:
    suffix = path.suffix.lower()
    try:
        if suffix in {".csv", ".tsv"}:
            return read_text_table(path, folder, on_progress)
        if suffix == ".parquet":
            return read_parquet_table(path, folder, on_progress)
        if suffix == ".npz":
            return read_npz(path, folder)
    except OSError as error:
        raise DatasetError(
            f"cannot read {path}: {error.strerror or error}", hint="make it readable"
        ) from error
    raise DatasetError(f"cannot tell from its name what {path} is", hint=f"give {_FORMS}")


def _sorted_classes(raw: RawPredProbs) -> tuple[Label, ...]:
    names = raw.class_names
    how = f"name each class once, in {CLASSES}" if raw.sample_id is None else SHAPE_OF_TABLE
    if len(set(map(str, names))) < len(names) or not all(str(name).strip() for name in names):
        raise DatasetError(f"classes of {raw.path} have no name, or the same one", hint=how)
    if len(names) < 2:
        raise DatasetError(
            f"{raw.path} has only one class, {names[0]!r}",
            hint="wrong labels can be told only between two classes or more",
        )
    if raw.sample_id is not None:
        refuse_repeated_ids(raw.sample_id, str(raw.path), "take out the repeated rows")
    return tuple(sorted(names))  # all text or all integers


def _why_no_label(raw: RawPredProbs, codes: NDArray[np.int64]) -> dict[int, str]:
    why_not = dict.fromkeys(
        np.flatnonzero(codes == MISSING).tolist(), "not judged: it has no label"
    )
    is_unknown = (codes == MISSING) & pc.is_valid(raw.label).to_numpy(zero_copy_only=False)
    unknown = np.flatnonzero(is_unknown)
    if _are_many(len(unknown), len(codes)):
        row, some = int(unknown[0]), ", ".join(str(name) for name in raw.class_names[:5])
        raise DatasetError(
            f"{len(unknown):,} of {len(codes):,} given labels in {raw.path} are none of its "
            f"{len(raw.class_names)} classes: row {row + 1:,} has {raw.label[row].as_py()!r}",
            hint=f"spell labels and classes alike; the classes are {some}"
            + (", ..." if len(raw.class_names) > 5 else ""),
        )
    for row, name in zip(
        unknown.tolist(), raw.label.take(pa.array(unknown)).to_pylist(), strict=True
    ):
        why_not[row] = (
            f"not judged: its label {name!r} is none of the {len(raw.class_names)} classes"
        )
    return why_not


def _why_no_probabilities(
    store: ProbabilityStore, class_names: Sequence[Label], path: Path, on_progress: OnProgress
) -> dict[int, str]:
    why_not: dict[int, str] = {}
    count, size, stage = 0, len(store), f"checking {path.name}"
    for block in blocks(size, store.classes):
        probs = store.read(block)
        with np.errstate(invalid="ignore"):
            total = probs.sum(axis=1, dtype=np.float64)
            is_good = (np.abs(total - 1) <= SUM_TOLERANCE) & (probs.min(axis=1) >= 0)
        bad = np.flatnonzero(~is_good)
        count += len(bad)
        if not _are_many(len(why_not), size):  # else the run will end: one reason is enough
            for row in bad.tolist():
                why_not[block.start + row] = f"not judged: {_fault_of(probs[row], class_names)}"
        on_progress(Progress(stage, block.stop, size, "rows"))
    if _are_many(count, size):
        row, why = next(iter(why_not.items()))
        raise DatasetError(
            f"{count:,} of {size:,} rows of {path} hold no probabilities; row {row + 1:,} is {why}",
            hint="each row has to hold numbers from 0 to 1 that sum to 1: take the softmax of "
            "logits, divide per cents by 100",
        )
    return why_not


def _are_many(bad: int, size: int) -> bool:
    return bad > max(1, BAD_SHARE * size)


def _fault_of(probs: NDArray[np.float32], class_names: Sequence[Label]) -> str:
    odd = np.flatnonzero(~(np.isfinite(probs) & (probs >= 0)))
    if len(odd):
        return f"the probability of {class_names[odd[0]]!r} is {probs[odd[0]]:.4g}"
    return f"its probabilities sum to {probs.sum(dtype=np.float64):.4g}, not 1"


def _rows_in(first: GivenPredProbs, other: GivenPredProbs, path: Path) -> NDArray[np.int64] | None:
    """Return which row of another file holds each sample; ``None`` for the same order.

    Raises:
        DatasetError: The files do not fit each other.
    """
    if set(first.class_names) != set(other.class_names):
        odd = sorted(map(str, set(first.class_names) ^ set(other.class_names)))
        raise _misfit(path, f"has other classes than the first file: {', '.join(odd[:5])}")
    if first.columns != other.columns:
        raise _misfit(path, "knows its samples by row, or the first file does, and the other by id")
    if len(first) != len(other):
        raise _misfit(path, f"has {len(other):,} samples, the first file has {len(first):,}")
    rows = None
    if not first.sample_id.equals(other.sample_id):
        found = pc.index_in(first.sample_id, other.sample_id)
        if found.null_count:
            row = pc.index(pc.is_null(found), True).as_py()
            raise _misfit(path, f"has no sample {first.sample_id[row].as_py()!r}")
        rows = found.to_numpy().astype(np.int64)
    label = other.given_label if rows is None else other.given_label[rows]
    differs = np.flatnonzero(label != first.given_label)
    if len(differs):
        sample = first.sample_id[int(differs[0])].as_py()
        raise _misfit(path, f"gives sample {sample!r} another label than the first file")
    return rows


def _misfit(path: Path, what: str) -> DatasetError:
    return DatasetError(
        f"{path} {what}",
        hint="files of one ensemble hold the same samples, classes and given labels",
    )


def _joined_reasons(
    parts: Sequence[GivenPredProbs],
    rows: Sequence[NDArray[np.int64] | None],
    paths: Sequence[Path],
) -> dict[int, str]:
    """Return why samples are not judged; of several files' reasons, the first."""
    why_not = dict(parts[0].why_not)
    for part, order, path in zip(parts[1:], rows[1:], paths[1:], strict=True):
        sample_of = None if order is None else np.argsort(order)
        for row, why in part.why_not.items():
            sample = row if sample_of is None else int(sample_of[row])
            why_not.setdefault(sample, f"{why}, in {path.name}")
    return why_not
