"""Open probabilities that some model gave: one file, or the files of several models.

::

    .csv .tsv .parquet    sample_id, given_label and a column prob:<class> for each class
    .parquet              sample_id, given_label and the lists top_classes and top_probs
    .npz                  arrays pred_probs, labels and, if wanted, class_names

``probability_tables`` reads the first two forms; the checks that are common to all are here.

Letters: N samples, K classes.
"""

import hashlib
import math
import re
import shutil
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib import format as npy
from numpy.typing import NDArray

from labelfix.data.columns import refuse_repeated_ids
from labelfix.data.files import FileTimes, fingerprint
from labelfix.data.labels import blank_to_null, missing_words_to_null
from labelfix.data.probability_checks import MixUp, are_many, check_rows, find_mix_up
from labelfix.data.probability_store import (
    ArrayStore,
    ListedStore,
    MeanStore,
    ProbabilityStore,
    map_file,
)
from labelfix.data.probability_tables import (
    ID,
    LABEL,
    PREFIX,
    SHAPE_OF_TABLE,
    RawPredProbs,
    read_parquet_table,
    read_text_table,
)
from labelfix.errors import DatasetError
from labelfix.types import (
    MISSING,
    PRED_PROBS_KIND,
    Assumption,
    Codes,
    DatasetSource,
    Label,
    Samples,
    code_type,
)
from labelfix.utils.file_matrix import FileMatrix
from labelfix.utils.files import anonymous_file, refuse_special_file
from labelfix.utils.progress import OnProgress
from labelfix.utils.reading import ARRAY_FAULTS, ZIP_FAULTS
from labelfix.utils.text import counted

PROBS, LABELS, CLASSES = "pred_probs", "labels", "class_names"

_HOW = f"write it with numpy.savez(FILE, {PROBS}=..., {LABELS}=..., {CLASSES}=...)"
_PACKINGS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_LOCAL_HEADER = struct.Struct("<26x2H")
"""The end of a ZIP entry's own header: how long its name and its extra field are."""


@dataclass(frozen=True, slots=True)
class _Header:
    """What an array in the file is: its shape, type and layout, and the bytes before its data."""

    shape: tuple[int, ...]
    is_by_column: bool
    kind: np.dtype[Any]
    length: int

    @property
    def size(self) -> int:
        return self.length + math.prod(self.shape) * self.kind.itemsize


def read_npz(path: Path, folder: Path) -> RawPredProbs:
    """Read probabilities from ``.npz``. Nothing in it is unpickled.

    Integer labels are positions in ``class_names``, -1 for none; labels of text are names. Without
    ``class_names`` the classes are the numbers 0 to K-1.

    Args:
        path: The file.
        folder: Where to put compressed probabilities aside.

    Raises:
        DatasetError: The file or its arrays cannot be used.
        RunError: ``folder`` cannot be written to.
    """
    with _opened(path) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist()]
        missing = [name for name in (PROBS, LABELS) if name not in held]
        if missing:
            raise DatasetError(
                f"{path} has no {' and no '.join(missing)}; it holds: {', '.join(held)}", hint=_HOW
            )
        header = _header(archive, path)
        names = _class_names(archive, path, header.shape[1]) if CLASSES in held else None
        class_names = names if names is not None else tuple(range(header.shape[1]))
        label = _labels(_array(archive, path, LABELS), class_names, header.shape[0], path)
        _check_sum(archive)
        store = _store(archive, header, path, folder)
    return RawPredProbs(path, None, label, class_names, store)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ZIP_FAULTS as error:
        why = str(error) or type(error).__name__
        raise DatasetError(f"cannot read {path} as .npz: {why}", hint=_HOW) from error


def _header(archive: zipfile.ZipFile, path: Path) -> _Header:
    """Return what ``pred_probs`` is, and refuse what is no ``(N, K)`` of floats."""
    info = archive.getinfo(f"{PROBS}.npy")
    with archive.open(info) as file:
        header = _read_header(file, path, PROBS)
    shape = header.shape
    if header.kind.kind != "f" or len(shape) != 2:
        raise DatasetError(
            f"{PROBS} in {path} is of type {header.kind} and shape {shape}",
            hint="it has to be an array of floats, one row a sample and one column a class",
        )
    if not shape[0]:
        raise DatasetError(f"{PROBS} in {path} has no rows", hint="write one row a sample")
    if not shape[1]:
        raise DatasetError(f"{PROBS} in {path} has no columns", hint="write one column a class")
    _refuse_short(info, header, path, PROBS)
    return header


def _read_header(file: IO[bytes], path: Path, name: str) -> _Header:
    """Return what an array is, from the beginning of its entry."""
    with _explained(path, name), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that Python 2 wrote
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_by_column, kind = read(file)
        header = _Header(tuple(map(int, shape)), is_by_column, kind, file.tell())
    if min(header.shape, default=0) < 0:
        raise DatasetError(f"{name} in {path} is of the shape {shape}", hint=_HOW)
    return header


def _refuse_short(info: zipfile.ZipInfo, header: _Header, path: Path, name: str) -> None:
    """Refuse an array that says it is larger than it is, before memory is taken for it."""
    if info.compress_type not in _PACKINGS:
        raise DatasetError(f"{path} is packed in a way that NumPy does not use", hint=_HOW)
    if info.file_size < header.size:
        raise DatasetError(f"{name} in {path} is cut short", hint=_HOW)


@contextmanager
def _explained(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except ARRAY_FAULTS as error:
        raise DatasetError(
            f"cannot read {name} in {path}: {error}",
            hint="write it as an array of numbers or text, not of Python objects",
        ) from error


def _array(archive: zipfile.ZipFile, path: Path, name: str) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        header = _read_header(file, path, name)
    if len(header.shape) != 1:
        raise DatasetError(
            f"{name} in {path} has the shape {header.shape}", hint="it has to be one row of values"
        )
    if not header.kind.hasobject:  # else NumPy refuses it below
        _refuse_short(info, header, path, name)
    with archive.open(info) as file, _explained(path, name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return values


def _check_sum(archive: zipfile.ZipFile) -> None:
    """Read the probabilities once from end to end: that is when a wrong checksum is told."""
    with archive.open(f"{PROBS}.npy") as file:
        while file.read(1 << 20):
            pass


def _class_names(archive: zipfile.ZipFile, path: Path, classes: int) -> tuple[Label, ...]:
    values = _array(archive, path, CLASSES)
    if values.dtype.kind not in "Uiu" or len(values) != classes:
        raise DatasetError(
            f"{CLASSES} in {path} holds {len(values)} values of type {values.dtype}, and {PROBS} "
            f"has {classes} columns",
            hint="name each column once, with text or an integer",
        )
    return tuple(values.tolist())


def _labels(
    values: NDArray[Any], class_names: tuple[Label, ...], size: int, path: Path
) -> pa.StringArray:
    """Return the given labels as text; of a position without a name, that it is one."""
    if values.dtype.kind not in "Uiu" or len(values) != size:
        raise DatasetError(
            f"{LABELS} in {path} holds {len(values):,} values of type {values.dtype}, and {PROBS} "
            f"has {size:,} rows",
            hint=f"give each row one label: its position in {CLASSES} as an integer, or its name",
        )
    if values.dtype.kind == "U":
        return blank_to_null(pa.array(values, pa.string()))
    return names_of_positions(values, class_names)


def names_of_positions(
    values: NDArray[np.integer], class_names: tuple[Label, ...]
) -> pa.StringArray:
    """Return the names that ``(N,)`` positions stand for, null for -1; of others, that they are."""
    is_known = (values >= 0) & (values < len(class_names))
    names = pa.array([str(name) for name in class_names], pa.string())
    is_none = values == MISSING
    if np.all(is_known | is_none):
        return names.take(pa.array(values, mask=is_none))
    known = names.take(pa.array(np.where(is_known, values, 0).astype(np.int64)))
    position = pa.array(values).cast(pa.string())
    unknown = pc.binary_join_element_wise("position ", position, "")
    text = pc.if_else(pa.array(is_known), known, unknown)
    return pc.if_else(pa.array(is_none), pa.scalar(None, pa.string()), text)


def _store(archive: zipfile.ZipFile, header: _Header, path: Path, folder: Path) -> ArrayStore:
    info = archive.getinfo(f"{PROBS}.npy")
    shape = (header.shape[0], header.shape[1])
    order = "F" if header.is_by_column else "C"
    if info.compress_type == zipfile.ZIP_STORED:
        with path.open("rb") as file:
            offset = _start(file, info) + header.length
            if header.is_by_column:  # whose rows are read in too many places
                return map_file(file, shape, header.kind, offset=offset, order=order)
        return ArrayStore(FileMatrix(path, shape, header.kind, offset=offset))
    with anonymous_file(folder) as aside:
        with archive.open(info) as packed:
            shutil.copyfileobj(packed, aside, 1 << 20)
        aside.flush()
        return map_file(aside, shape, header.kind, offset=header.length, order=order)


def _start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Return where the bytes of a stored entry begin."""
    file.seek(info.header_offset)
    name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)


_FORMS = f".csv, .tsv or .parquet with {ID}, {LABEL} and {PREFIX}<class> columns, or .npz"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GivenPredProbs(Samples):
    """Samples of which nothing but probabilities was given.

    Args:
        pred_probs: ``(N, K)``, the columns in the order of ``class_names``.
        exclusion_reason: Row to reason, for the samples that cannot be scored.
        listed_classes: Of how many classes of a sample there are probabilities at most; 0 where
            there are those of all.
    """

    pred_probs: ProbabilityStore
    exclusion_reason: Mapping[int, str]
    listed_classes: int = 0

    @property
    def is_scored(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` bool: the sample has a label and probabilities that can be used."""
        is_scored = np.ones(len(self), np.bool_)
        is_scored[list(self.exclusion_reason)] = False
        return is_scored


def fingerprint_of(paths: Sequence[Path]) -> str:
    """Return a digest of the files' names, times and contents: what tells whether they changed.

    Raises:
        DatasetError: A file is not there, or cannot be read.
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
    contents = b"".join(_digest(path) for path in paths)  # times may be kept where contents change
    return fingerprint(pa.array([path.name for path in paths]), times, extra=contents)


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, hashlib.blake2b).digest()
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read: {error.strerror or error}", hint="make the file readable"
        ) from error


def open_pred_probs(
    paths: Sequence[Path],
    folder: Path,
    on_progress: OnProgress,
    *,
    force: bool = False,
    fingerprint: str = "",
) -> GivenPredProbs:
    """Open the probabilities of one model, or the mean of several models'.

    Args:
        paths: A file a model: the same samples, classes and given labels in each. Tables are
            matched by ``sample_id``, arrays by row.
        folder: Where to put aside what cannot be used where it lies.
        on_progress: Told how far reading is.
        force: Whether to go on where labels and probabilities look as if they did not belong
            together: their columns or rows in another order.
        fingerprint: `fingerprint_of` the files, if it is known.

    Raises:
        DatasetError: A file cannot be used, its columns or rows look mixed up, or the files do not
            fit each other.
        RunError: ``folder`` cannot be written to.
    """
    parts = [
        checked_pred_probs(_read(path, folder, on_progress), on_progress, force=force)
        for path in paths
    ]
    return replace(joined_pred_probs(parts, paths), fingerprint=fingerprint)


def joined_pred_probs(parts: Sequence[GivenPredProbs], paths: Sequence[Path]) -> GivenPredProbs:
    """Return the probabilities of one model, or the mean of several models'.

    Args:
        parts: Of each model.
        paths: What messages call them.

    Raises:
        DatasetError: They do not fit each other, or no row can be scored.
    """
    given = parts[0] if len(parts) == 1 else _mean(parts, paths)
    if len(given.exclusion_reason) == len(given):
        raise DatasetError(
            f"no row of {paths[0]} can be scored; the first: {given.exclusion_reason[0]}",
            hint=f"give {_FORMS}",
        )
    return given


def _mean(parts: Sequence[GivenPredProbs], paths: Sequence[Path]) -> GivenPredProbs:
    rows = [_rows_in(parts[0], part, path) for part, path in zip(parts, paths, strict=True)]
    listed = [part.listed_classes for part in parts]
    return replace(
        parts[0],
        pred_probs=MeanStore([part.pred_probs for part in parts], rows),
        exclusion_reason=_joined_reasons(parts, rows, paths),
        listed_classes=min(sum(listed), len(parts[0].class_names)) if all(listed) else 0,
        assumptions=tuple(assumption for part in parts for assumption in part.assumptions),
    )


def checked_pred_probs(
    raw: RawPredProbs, on_progress: OnProgress, *, force: bool
) -> GivenPredProbs:
    """Return what one model gave, with labels as codes of sorted classes and every row checked.

    Args:
        raw: What was read.
        on_progress: Told how far it is.
        force: As `open_pred_probs` has it.

    Raises:
        DatasetError: It cannot be used, or its columns or rows look mixed up.
    """
    path = raw.path
    class_names = _sorted_classes(raw)
    place = {name: column for column, name in enumerate(raw.class_names)}
    columns = np.array([place[name] for name in class_names])
    raw, codes = _with_codes(raw, class_names)
    raw, unlabeled = _without_minus_one(raw, class_names, codes)
    exclusion_reason = _why_no_label(raw, codes)
    store = raw.store.with_columns(columns)
    lists = store if isinstance(store, ListedStore) else None
    is_listed = None if lists is None else lists.is_listed
    checked = check_rows(store, class_names, codes, path, on_progress, is_listed)
    mix_up = find_mix_up(checked, class_names, raw.class_names, str(path))
    ids, size = raw.sample_id, len(codes)
    columns_called = {"label": LABELS} if ids is None else {"id": ID, "label": LABEL}
    return GivenPredProbs(
        sample_id=pa.array(np.arange(size)).cast(pa.string()) if ids is None else ids,
        split=pa.nulls(size, pa.string()),
        given_label=codes,
        class_names=class_names,
        source=DatasetSource(PRED_PROBS_KIND, path, columns_called),
        fingerprint="",
        pred_probs=checked.store,
        exclusion_reason=exclusion_reason | checked.exclusion_reason,
        listed_classes=0 if lists is None else lists.longest,
        assumptions=(
            raw.assumptions + _mixed_up(mix_up, force=force) + checked.assumptions + unlabeled
        ),
    )


def _without_minus_one(
    raw: RawPredProbs, class_names: Sequence[Label], codes: Codes
) -> tuple[RawPredProbs, tuple[Assumption, ...]]:
    """Return the file with null for labels of -1, where all classes are numbers from 0 on."""
    are_numbers = all(str(name).isdecimal() for name in class_names)
    is_minus_one = pc.fill_null(pc.is_in(raw.label, pa.array(["-1", "-1.0"])), False)
    is_missing = pc.and_(is_minus_one, pa.array((codes == MISSING) & are_numbers))
    count = pc.sum(is_missing).as_py() or 0
    if not count:
        return raw, ()
    label = pc.if_else(is_missing, pa.scalar(None, pa.string()), raw.label)
    what = counted(count, "label of -1 means", "labels of -1 mean")
    text = f"{what} that there is no label; a column {PREFIX}-1 would make -1 a class"
    return replace(raw, label=label), (Assumption("labels", text),)


def _mixed_up(found: MixUp | None, *, force: bool) -> tuple[Assumption, ...]:
    """Refuse a file that is surely mixed up, unless told to go on; return what to say of it."""
    if found is None:
        return ()
    if found.is_sure and not force:
        raise DatasetError(found.what, hint=found.hint)
    taken = "; taken as they are, by --force" if found.is_sure else ""
    return (Assumption("probabilities", found.what + taken),)


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


def _with_codes(raw: RawPredProbs, class_names: Sequence[Label]) -> tuple[RawPredProbs, Codes]:
    """Return the file with null for every label that is none, and the ``(N,)`` codes of labels.

    A label is the class of that very name; else the one that is the same number or truth value
    (``1`` is ``1.0``, ``True`` is ``true``); else a word for a missing value is no label.
    """
    names = [str(name) for name in class_names]
    raw = replace(raw, label=missing_words_to_null(raw.label, names))
    found = pc.index_in(raw.label, pa.array(names, pa.string()))
    plain = [_plain(name) for name in names]
    is_open = pc.and_(pc.is_null(found), pc.is_valid(raw.label))
    if pc.any(is_open).as_py() and len(set(plain)) == len(plain):
        spelled = raw.label.filter(is_open).unique().to_pylist()
        code_of = {name: code for code, name in enumerate(plain)}
        known = {text: code_of[_plain(text)] for text in spelled if _plain(text) in code_of}
        other = pc.index_in(raw.label, pa.array(list(known), pa.string()))
        codes_of_other = pa.array(list(known.values()), pa.int32())
        found = pc.coalesce(found, codes_of_other.take(other))
    codes = pc.fill_null(found, MISSING).to_numpy(zero_copy_only=False)
    return raw, codes.astype(code_type(len(names)))


def _plain(text: str) -> str:
    """Return one spelling for a number or truth value, other text as it is."""
    if text.casefold() in {"true", "false"}:
        return text.casefold()
    whole = re.fullmatch(r"([+-]?)0*([0-9]+)(?:\.0*)?", text, re.ASCII)
    if whole is None:
        return text
    return f"{'-' if whole[1] == '-' and whole[2] != '0' else ''}{whole[2]}"


def _why_no_label(raw: RawPredProbs, codes: Codes) -> dict[int, str]:
    exclusion_reason = dict.fromkeys(
        np.flatnonzero(codes == MISSING).tolist(), "not scored: it has no label"
    )
    is_unknown = (codes == MISSING) & pc.is_valid(raw.label).to_numpy(zero_copy_only=False)
    unknown = np.flatnonzero(is_unknown)
    if are_many(len(unknown), len(codes)):
        row, some = int(unknown[0]), ", ".join(str(name) for name in raw.class_names[:5])
        raise DatasetError(
            f"{len(unknown):,} of {len(codes):,} given labels in {raw.path} are none of its "
            f"{len(raw.class_names)} classes: row {row + 1:,} has {raw.label[row].as_py()!r}",
            hint="count labels from 0, as columns are counted: they look counted from 1"
            if _counted_from_one(raw, unknown, codes)
            else f"spell labels and classes alike; the classes are {some}"
            + (", ..." if len(raw.class_names) > 5 else ""),
        )
    for row, name in zip(
        unknown.tolist(), raw.label.take(pa.array(unknown)).to_pylist(), strict=True
    ):
        exclusion_reason[row] = (
            f"not scored: its label {name!r} is none of the {len(raw.class_names)} classes"
        )
    return exclusion_reason


def _counted_from_one(raw: RawPredProbs, unknown: NDArray[np.int64], codes: Codes) -> bool:
    """Return whether the one label that is no class follows the last, and the first is never used.

    Labels of arrays are positions; those of tables are numbers if the classes are.
    """
    place = [raw.class_names.index(name) for name in sorted(raw.class_names)]
    first, last = place.index(0), len(place)
    if raw.sample_id is not None:
        if not all(isinstance(name, int) for name in raw.class_names):
            return False
        first, last = 0, int(max(raw.class_names)) + 1
    beyond = str(last) if raw.sample_id is not None else f"position {last}"
    labels = raw.label.take(pa.array(unknown)).unique().to_pylist()
    return labels == [beyond] and not np.any(codes == first)


def _rows_in(first: GivenPredProbs, other: GivenPredProbs, path: Path) -> NDArray[np.int64] | None:
    """Return which row of another file holds each sample; ``None`` for the same order.

    Raises:
        DatasetError: The files do not fit each other.
    """
    if set(first.class_names) != set(other.class_names):
        odd = sorted(map(str, set(first.class_names) ^ set(other.class_names)))
        raise _misfit(path, f"has other classes than the first file: {', '.join(odd[:5])}")
    if first.source.columns != other.source.columns:
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
    """Return why samples are not scored; of several files' reasons, the first."""
    exclusion_reason = dict(parts[0].exclusion_reason)
    for part, order, path in zip(parts[1:], rows[1:], paths[1:], strict=True):
        sample_of = None if order is None else np.argsort(order)
        for row, why in part.exclusion_reason.items():
            sample = row if sample_of is None else int(sample_of[row])
            exclusion_reason.setdefault(sample, f"{why}, in {path.name}")
    return exclusion_reason
