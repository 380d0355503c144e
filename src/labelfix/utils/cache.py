"""Arrays with a row a sample, computed once and kept on disk by the content of the samples.

A kept row is found by the digest of the encoded sample that it was computed from, never by a name,
a size or a time. Nothing is kept of a sample that could not be read or used: it is tried again each
time. Digests of every array are compared when an array is opened; what is damaged is computed anew.

Under ``folder``, which belongs to one way of computing, each data set has an entry: a folder named
by the digests of its samples. An entry is written beside its place and renamed, and never changed
afterwards, as other processes may have mapped it.

Letters: N samples, B samples of a batch, R of them that were computed.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import DTypeLike, NDArray

from labelfix.errors import RunError, UnreadableSample
from labelfix.types import SampleStore
from labelfix.utils.files import atomic_path, make_folder, remove_drafts_in, remove_drafts_of
from labelfix.utils.interrupts import raise_if_interrupted
from labelfix.utils.progress import OnProgress, Progress
from labelfix.utils.sample_reader import DIGEST_BYTES
from labelfix.utils.shards import (
    Compute,
    Contents,
    EarlyShards,
    RowBatch,
    Shard,
    ShardTask,
    computed_contents,
    current_engine,
    digest_task,
    is_held,
    taken_up,
)
from labelfix.utils.threads import cores

CHUNK = 2048
"""Rows that share a digest; finished work is marked as such on disk after so many."""

CONTENT = "content"
"""The column of digests: empty in a row that holds nothing."""

CHECKING = "comparing the images with the cache"
"""The stage in which every sample is read and its digest compared."""

MAX_BLANKED_BYTES = 256 << 20
"""Memory that rows may take which an entry holds, and whose sample cannot be read just now."""

_MANIFEST = "manifest.json"
_NAME = re.compile(r"[0-9a-f]{32}")

_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# This file says that labelfix keeps a cache here: see https://bford.info/cachedir/
"""


@dataclass(frozen=True, slots=True)
class Column:
    """One array over all samples.

    Args:
        dtype: Of its entries.
        shape: Of one row.
    """

    dtype: DTypeLike
    shape: tuple[int, ...] = ()

    @property
    def row_bytes(self) -> int:
        """What one row takes."""
        return np.dtype(self.dtype).itemsize * int(np.prod(self.shape))


@dataclass(frozen=True, slots=True)
class RowWork:
    """How rows are computed.

    Args:
        what: What the arrays are, for a message.
        stage: The name of the stage that computes them.
        columns: Name to form; ``content`` is added.
        compute: Yields batch after batch of some rows, in order.
        batch_size: B.
        fault: Says why an encoded sample cannot be used, ``None`` if it can.
        may_write: Asked before anything is written, with the folder of unfinished work.
    """

    what: str
    stage: str
    columns: Mapping[str, Column]
    compute: Compute
    batch_size: int
    fault: Callable[[bytes], str | None]
    may_write: Callable[[Path], bool] = lambda unfinished: True


@dataclass(frozen=True, slots=True, eq=False)
class StoredRows:
    """The rows of a data set.

    Args:
        folder: Of the entry that holds them.
        arrays: Name of a column to its N rows, mapped from disk, 0 where a sample is unreadable.
        content: ``(N,)`` digests of the encoded samples, empty where there was nothing to read.
        unreadable: Row to reason.
    """

    folder: Path
    arrays: Mapping[str, NDArray[Any]]
    content: Contents
    unreadable: Mapping[int, str]


def default_cache() -> Path:
    """Return where features and pixels are kept when the caller names no place."""
    return Path(platformdirs.user_cache_dir("labelfix"))


def marked_cache(folder: Path | None) -> Path:
    """Return where features and pixels are kept, marked as a cache if it is a new folder.

    Backups leave out what is marked so, and so does an audit of a folder that holds it. A folder
    that holds something else already is left unmarked.
    """
    cache = folder or default_cache()
    with suppress(OSError, RunError):  # who writes the arrays says why that cannot be
        remove_drafts_of(cache / "CACHEDIR.TAG")  # a killed process left one, and no mark
        if not cache.exists() or not any(cache.iterdir()):
            make_folder(cache)
            with atomic_path(cache / "CACHEDIR.TAG") as draft:
                draft.write_text(_TAG, encoding="ascii")
    return cache


def cache_key(*parts: Any) -> str:
    """Return a name for what was made from ``parts``, which are values that JSON can hold."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def content_key(content: Contents) -> str:
    """Return a name for samples in their order, by their ``(N,)`` digests."""
    padded = content.astype(f"S{DIGEST_BYTES}")
    return hashlib.blake2b(padded.tobytes(), digest_size=16).hexdigest()


def content_of(store: SampleStore, on_progress: OnProgress) -> Contents:
    """Read all samples and return their ``(N,)`` digests, empty where there is nothing to read."""
    content = np.zeros(len(store), dtype=f"S{DIGEST_BYTES}")
    done = 0
    for start, batch in _read_batches(store):
        content[start : start + len(batch.content)] = batch.content
        done += len(batch.content)
        on_progress(
            Progress("comparing the images with those of the run", done, len(content), "images")
        )
    return content


def _read_batches(store: SampleStore) -> Iterator[tuple[int, RowBatch]]:
    """Yield first row and digests of all samples, in any order, as the engine reads them."""
    for rows, batches in current_engine().map_shards(digest_task(store)):
        start = rows.start
        for batch in batches:
            yield start, batch
            start += len(batch.content)


def read_column(folder: Path, name: str) -> NDArray[Any]:
    """Return an array of an entry, mapped from disk. Its digest is not compared."""
    array: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r")
    return array


def rows_of(
    folder: Path, store: SampleStore, fingerprint: str, work: RowWork, on_progress: OnProgress
) -> StoredRows | None:
    """Return the rows of all samples; those that are not kept yet are computed.

    Every sample is read, and its digest compared with that of what is kept. Processes that want
    the same at once wait for the first. What an interrupted one marked as done is gone on with.

    Args:
        folder: Holds the entries of all data sets, computed in this one way.
        store: N encoded samples.
        fingerprint: Names the data set, so that interrupted work is found again; nothing more
            depends on it.
        work: How rows are computed.
        on_progress: Told about every batch.

    Returns:
        The rows, or ``None`` if they are not kept and ``work.may_write`` forbids it.

    Raises:
        RunError: The place cannot be written to, or is full.
    """
    columns = {**work.columns, CONTENT: Column(f"S{DIGEST_BYTES}")}
    unfinished = folder / f"{cache_key(fingerprint, len(store))}.partial"
    while True:
        state = _state(folder)
        entries = _entries(folder, columns)
        matching = _Matching(store, entries)
        found, fault = matching.find(work, on_progress)
        if found is not None:
            return found
        if not work.may_write(unfinished):
            return None
        make_folder(folder)
        with _explained(work.what, unfinished), FileLock(f"{unfinished}.lock"):
            if _state(folder) != state:  # another process has finished something since
                continue
            draft = _Draft(unfinished, len(store), columns)
            note = _note(work.what, fault or draft.fault)
            return _fill(draft, _Known(entries), folder, store, work, note, on_progress)


def _fill(
    draft: "_Draft",
    known: "_Known",
    folder: Path,
    store: SampleStore,
    work: RowWork,
    note: str,
    on_progress: OnProgress,
) -> StoredRows:
    filling = _Filling(draft, known, work.batch_size)
    columns = draft.columns.values()
    task = ShardTask(
        store=store,
        compute=work.compute,
        batch_size=work.batch_size,
        row_bytes=sum(column.row_bytes for column in columns),
        is_known=filling.is_known,
        held_of=filling.held_of,
        kept=known.digests,
    )
    for shard in current_engine().map_shards(task):
        for done in filling.take(shard):
            if done < draft.count:
                on_progress(Progress(work.stage, done, draft.count, "images", note=note))
    filling.complete()
    place, fault = draft.publish(folder)
    note = note or _note(work.what, fault)
    on_progress(Progress(work.stage, draft.count, draft.count, "images", note=note))
    try:
        arrays = _Entry(place, draft.columns).arrays()
    except _Damaged as damage:
        raise RunError(
            f"the cache {place} was changed while it was written: {damage}",
            hint="audit again, or choose another place with --cache",
        ) from damage
    return StoredRows(place, arrays, filling.content, filling.unreadable)


class _Filling:
    """Half-computed arrays that shards are written to, in the order of the rows.

    Args:
        draft: The arrays.
        known: Rows that need not be computed.
        batch_size: Rows that are computed together.

    Attributes:
        content: ``(N,)`` digests of the samples, as far as they were read.
        unreadable: Row to reason.
    """

    def __init__(self, draft: "_Draft", known: "_Known", batch_size: int) -> None:
        self.content = np.zeros(draft.count, dtype=f"S{DIGEST_BYTES}")
        self.unreadable: dict[int, str] = {}
        self._draft, self._known, self._batch_size = draft, known, batch_size
        self._early = EarlyShards(draft.folder, draft.columns.keys() - {CONTENT})
        self._new: set[range] = set()
        self._next = self._done = 0

    def is_known(self, start: int, content: Contents) -> NDArray[np.bool_]:
        """Return ``(B,)`` which rows of a batch need not be computed."""
        return self._draft.held(start, content) | (self._known.find(content) >= 0)

    def held_of(self, rows: range) -> Contents:
        """Return ``(n,)`` digests of the rows of a shard that an earlier process computed."""
        held = self._draft.held_content(rows, self._batch_size)
        earlier = self._early.load(rows)
        if earlier is not None:
            in_file = np.concatenate([computed_contents(batch) for batch in earlier])
            held = np.where(held == b"", in_file, held)
        return held

    def take(self, shard: Shard) -> Iterator[int]:
        """Write a shard if it is its turn, else into a file; yield how many rows are done."""
        rows, batches = shard
        if rows.start != self._next:
            self._early.save(rows, self._taken_up(rows, list(batches)))
            self._new.add(rows)
            self._done += len(rows)
            yield self._done
            return
        if rows in self._early:
            batches = self._taken_up(rows, list(batches))
        for batch in batches:
            self._write(batch)
            self._done += len(batch.content)
            yield self._done
        self._early.remove(rows)
        while (waiting := self._early.from_row(self._next)) in self._new:
            self._write_early(waiting)

    def complete(self) -> None:
        """Mark all rows as done; nothing but the arrays is left.

        Raises:
            RunError: Shards are missing.
        """
        if self._next != self._draft.count:
            raise RunError(f"only {self._next:,} of {self._draft.count:,} samples were looked at")
        self._early.remove_all()
        self._draft.complete()

    def _write_early(self, rows: range) -> None:
        batches = self._early.load(rows)
        if batches is None:
            raise RunError(
                f"the cache {self._draft.folder} was changed while it was written",
                hint="audit again, or choose another place with --cache",
            )
        for batch in batches:
            self._write(batch)
        self._early.remove(rows)

    def _taken_up(self, rows: range, batches: Sequence[RowBatch]) -> list[RowBatch]:
        return taken_up(batches, self._early.load(rows) or [])

    def _write(self, batch: RowBatch) -> None:
        start, stop = self._next, self._next + len(batch.content)
        self.content[start:stop] = batch.content
        self.unreadable |= {start + place: why for place, why in batch.unreadable.items()}
        self._draft.put(start, batch, self._known)
        self._next = stop


def _note(what: str, fault: str | None) -> str:
    return f"the cached {what} were damaged ({fault}) and were computed anew" if fault else ""


class _Damaged(Exception):
    """Something in the cache is not what was written there."""


class _Entry:
    """An entry: what its manifest says, and its digests of samples, both checked.

    Raises:
        _Damaged: One of them is not what was written.
    """

    def __init__(self, folder: Path, columns: Mapping[str, Column]) -> None:
        self.folder = folder
        self._columns = columns
        self._manifest = _read_manifest(folder, columns)
        if self._manifest["done"] != self._manifest["rows"]:
            raise _Damaged("it is not whole")
        self.content: Contents = np.array(self._checked(CONTENT))

    def __len__(self) -> int:
        """Return N."""
        return int(self._manifest["rows"])

    def arrays(self, *, blank: NDArray[np.int64] | None = None) -> dict[str, NDArray[Any]]:
        """Return the columns, mapped; rows ``blank`` are zeros, in memory alone.

        Raises:
            _Damaged: One cannot be mapped.
        """
        mode = "r" if blank is None or not len(blank) else "c"
        arrays = {name: self._open(name, mode) for name in self._columns}
        if mode == "c":
            for array in arrays.values():
                array[blank] = np.zeros((), array.dtype)
        return arrays

    def check(self) -> None:
        """Compare the digests of all columns.

        Raises:
            _Damaged: One differs.
        """
        for name in self._columns:
            self._checked(name)

    def _checked(self, name: str) -> NDArray[Any]:
        array = self._open(name, "r")
        if _digests(array, 0, len(self)) != self._manifest["digests"][name]:
            raise _Damaged(f"{name}.npy")
        return array

    def _open(self, name: str, mode: Any) -> NDArray[Any]:
        return _open(self.folder, name, self._columns[name], len(self), mode)


class _Matching:
    """Looks for an entry that was computed from the very samples that are there now.

    Args:
        store: N encoded samples.
        entries: All that there are.
    """

    def __init__(self, store: SampleStore, entries: Sequence[_Entry]) -> None:
        self._store = store
        self._entries = entries
        self._left = [entry for entry in entries if len(entry) == len(store)]

    def find(self, work: RowWork, on_progress: OnProgress) -> tuple[StoredRows | None, str | None]:
        """Return the rows, or ``None`` and, if the entry was damaged, what was wrong with it.

        A sample that cannot be read now may be one that could be: its row is blanked. One that
        could not be used when the entry was made is tried again.
        """
        content = np.zeros(len(self._store), dtype=f"S{DIGEST_BYTES}")
        reasons: dict[int, str] = {}
        if not self._left:
            return None, None
        done = 0
        for start, batch in _read_batches(self._store):
            content[start : start + len(batch.content)] = batch.content
            reasons |= {start + place: why for place, why in batch.unreadable.items()}
            self._left = [entry for entry in self._left if _fits(entry, start, batch.content)]
            if not self._left:
                return None, None
            done += len(batch.content)
            on_progress(Progress(CHECKING, done, len(content), "images"))
        # that which holds the most: the least is tried again
        entry = max(self._left, key=lambda entry: int((entry.content != b"").sum()))
        untried = np.flatnonzero((entry.content == b"") & (content != b""))
        if any(np.isin(content[untried], other.content).any() for other in self._entries):
            return None, None
        for row in untried.tolist():
            fault = self._fault(row, work)
            if fault is None:
                return None, None
            reasons[row] = fault
        return self._open(entry, content, reasons)

    def _fault(self, row: int, work: RowWork) -> str | None:
        try:
            data = self._store.read(row)
        except UnreadableSample:  # it could be read a moment ago: let it be read once more
            return None
        return work.fault(data)

    def _open(
        self, entry: _Entry, content: Contents, unreadable: dict[int, str]
    ) -> tuple[StoredRows | None, str | None]:
        rows = np.array(sorted(unreadable), dtype=np.int64)
        blank = rows[entry.content[rows] != b""]
        try:
            entry.check()
            per_row = sum(array[:1].nbytes for array in entry.arrays().values())
            if len(blank) * per_row > MAX_BLANKED_BYTES:
                return None, None
            arrays = entry.arrays(blank=blank)
        except _Damaged as damage:
            return None, str(damage)
        return StoredRows(entry.folder, arrays, content, unreadable), None


def _fits(entry: _Entry, start: int, digests: Contents) -> bool:
    """Return whether an entry holds nothing that was computed from other samples than a batch."""
    kept = entry.content[start : start + len(digests)]
    return bool(((kept == digests) | (kept == b"") | (digests == b"")).all())


class _Known:
    """Rows of any entries, found by the digests of their samples.

    An entry is checked when the first of its rows is asked for; a damaged one is left out.
    """

    def __init__(self, entries: Sequence[_Entry]) -> None:
        self._entries = list(entries)
        self._is_checked = [False] * len(entries)
        self._lock = Lock()
        self._index()

    def find(self, content: Contents) -> NDArray[np.int64]:
        """Return ``(B,)`` places, to be given to ``copy``; -1 where nothing is kept."""
        with self._lock:
            while True:
                places = self._look_up(content)
                owners = np.unique(self._owners(places[places >= 0])).tolist()
                damaged = [number for number in owners if not self._check(number)]
                if not damaged:
                    return places
                for number in damaged:
                    self._contents[number][:] = b""
                self._sort()

    def digests(self) -> Contents:
        """Return the sorted digests of all samples whose rows are kept and undamaged."""
        with self._lock:
            for number in range(len(self._entries)):
                if not self._check(number):
                    self._contents[number][:] = b""
            self._sort()
            return self._sorted

    def copy(self, places: NDArray[np.int64], name: str) -> NDArray[Any]:
        """Return the rows of one column at places that are not -1."""
        owners = self._owners(places)
        parts = [
            (owners == owner, self._arrays[owner][name], places - self._starts[owner])
            for owner in np.unique(owners).tolist()
        ]
        first = parts[0][1]
        rows = np.empty((len(places), *first.shape[1:]), dtype=first.dtype)
        for is_of, array, at in parts:
            rows[is_of] = array[at[is_of]]
        return rows

    def _index(self) -> None:
        self._contents = [entry.content.copy() for entry in self._entries]
        self._arrays: dict[int, dict[str, NDArray[Any]]] = {}
        self._starts = np.cumsum([0, *(len(content) for content in self._contents)])
        self._sort()

    def _sort(self) -> None:
        empty = np.zeros(0, dtype=f"S{DIGEST_BYTES}")
        content = np.concatenate([empty, *self._contents])
        held = np.flatnonzero(content != b"")
        self._places = held[np.argsort(content[held], kind="stable")]
        self._sorted = content[self._places]

    def _look_up(self, content: Contents) -> NDArray[np.int64]:
        places = np.full(len(content), -1, dtype=np.int64)
        if len(self._sorted):
            at = np.searchsorted(self._sorted, content).clip(max=len(self._sorted) - 1)
            is_found = (self._sorted[at] == content) & (content != b"")
            places[is_found] = self._places[at[is_found]]
        return places

    def _owners(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._starts, places, side="right") - 1

    def _check(self, number: int) -> bool:
        if not self._is_checked[number]:
            try:
                self._entries[number].check()
                self._arrays[number] = self._entries[number].arrays()
            except _Damaged:
                return False
            self._is_checked[number] = True
        return True


class _Draft:
    """Half-computed arrays on disk, of full length.

    Args:
        folder: Where they lie. If it holds marked work that is whole, that is kept; else it is
            made anew.
        count: N.
        columns: Name to form.

    Attributes:
        fault: What was wrong with marked work that could not be kept; ``None`` if nothing was.
    """

    def __init__(self, folder: Path, count: int, columns: Mapping[str, Column]) -> None:
        self.count, self.columns, self.fault = count, columns, None
        self.folder = folder
        self._digests: dict[str, list[str]] = {name: [] for name in columns}
        self._held = 0
        if os.path.lexists(folder / _MANIFEST) or (folder.exists() and not folder.is_dir()):
            try:
                self._reopen()
                return
            except _Damaged as damage:
                self.fault = f"unfinished work: {damage}"
        _remove(folder)
        folder.mkdir(parents=True)
        self._arrays = {
            name: np.lib.format.open_memmap(
                self._file(name), mode="w+", dtype=column.dtype, shape=(count, *column.shape)
            )
            for name, column in columns.items()
        }
        try:
            for name in columns:
                _reserve(self._file(name))
            self._mark()  # shards that are finished before their turn are found again
        except OSError:
            self._arrays = {}
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def held(self, start: int, content: Contents) -> NDArray[np.bool_]:
        """Return which rows of a batch were computed by an earlier process; see `is_held`."""
        stop = start + len(content)
        if stop > self._held:
            return np.zeros(len(content), dtype=np.bool_)
        return is_held(self._arrays[CONTENT][start:stop], content)

    def held_content(self, rows: range, batch_size: int) -> Contents:
        """Return the digests of some rows as an earlier process left them, empty if it did not.

        Args:
            rows: They begin at a multiple of ``batch_size``.
            batch_size: Rows of a batch, which is held as a whole or not at all.
        """
        whole = self._held // batch_size * batch_size
        stop = min(rows.stop, self.count if self._held == self.count else whole)
        held = np.zeros(len(rows), dtype=f"S{DIGEST_BYTES}")
        if stop > rows.start:
            held[: stop - rows.start] = self._arrays[CONTENT][rows.start : stop]
        return held

    def put(self, start: int, batch: RowBatch, known: _Known) -> None:
        """Write the rows of a batch, those that are known and those that were computed."""
        raise_if_interrupted()  # else what it made of a sample would be kept as its fault
        held = self.held(start, batch.content)
        copied = ~held
        copied[batch.computed] = False
        copied[list(batch.unreadable)] = False
        if not held.any() or copied.any() or batch.computed.size:
            self._forget_from(start)
            self._write(start, batch, held, np.flatnonzero(copied), known)
        before = self._done
        self._digest_until((start + len(batch.content)) // CHUNK * CHUNK)
        if self._done > before:
            self._mark()

    def complete(self) -> None:
        """Mark all rows as done."""
        self._digest_until(self.count)
        self._mark()

    def publish(self, folder: Path) -> tuple[Path, str | None]:
        """Give the whole folder its name; return it, and what was wrong with one of that name."""
        place = folder / content_key(self._arrays[CONTENT])
        fault = None
        if os.path.lexists(place):
            try:
                _Entry(place, self.columns).check()
            except _Damaged as damage:
                fault = str(damage)
                aside = place.with_name(f"{place.name}.{os.getpid()}.old")
                place.rename(aside)
                _remove(aside)
            else:
                _remove(self.folder)
                return place, None
        remove_drafts_in(self.folder)
        try:
            self.folder.replace(place)
        except OSError:
            if not place.is_dir():
                raise
            _remove(self.folder)  # another process was faster
        return place, fault

    @property
    def _done(self) -> int:
        """Rows that digests were taken of."""
        return min(self.count, len(self._digests[CONTENT]) * CHUNK)

    def _reopen(self) -> None:
        manifest = _read_manifest(self.folder, self.columns)
        done = manifest["done"]
        if manifest["rows"] != self.count:
            raise _Damaged("it is of another data set")
        self._arrays = {
            name: _open(self.folder, name, column, self.count, "r+")
            for name, column in self.columns.items()
        }
        for name, array in self._arrays.items():
            if _digests(array, 0, done) != manifest["digests"][name]:
                raise _Damaged(f"{name}.npy")
        self._digests = manifest["digests"]
        self._held = done

    def _write(
        self,
        start: int,
        batch: RowBatch,
        held: NDArray[np.bool_],
        copied: NDArray[np.int64],
        known: _Known,
    ) -> None:
        stop = start + len(batch.content)
        rows = {name: array[start:stop] for name, array in self._arrays.items()}
        for array in rows.values():
            array[~held] = np.zeros((), array.dtype)
        if copied.size:
            found = known.find(batch.content[copied])
            for name in rows.keys() - {CONTENT}:
                rows[name][copied] = known.copy(found, name)
        for name, values in batch.rows.items():
            rows[name][batch.computed] = values
        for places in (copied, batch.computed):
            rows[CONTENT][places] = batch.content[places]

    def _forget_from(self, start: int) -> None:
        """Take back the mark of rows that are about to be written once more."""
        keep = start // CHUNK
        if len(self._digests[CONTENT]) > keep:
            self._digests = {name: digests[:keep] for name, digests in self._digests.items()}
            self._mark()

    def _digest_until(self, stop: int) -> None:
        done = self._done
        if stop > done:
            for name, array in self._arrays.items():
                self._digests[name] += _digests(array, done, stop)

    def _mark(self) -> None:
        """Make rows safe that digests were taken of: a later process goes on after them."""
        for array in self._arrays.values():
            array.flush()
        _write_manifest(self.folder, self.columns, self.count, self._done, self._digests)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


@contextmanager
def _explained(what: str, place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write the {what} to {place}: {error.strerror or error}",
            hint="free some space, or choose another place with --cache",
        ) from error


def _state(folder: Path) -> frozenset[tuple[str, int]]:
    """Return what tells whether entries were added or replaced since."""
    found = set()
    for name in _names(folder):
        with suppress(OSError):
            found.add((name, (folder / name).stat().st_ino))
    return frozenset(found)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except OSError:
        return []


def _entries(folder: Path, columns: Mapping[str, Column]) -> list[_Entry]:
    """Return the entries whose manifest and digests of samples are whole."""
    found = []
    for name in _names(folder):
        with suppress(_Damaged):
            found.append(_Entry(folder / name, columns))
    return found


def _open(folder: Path, name: str, column: Column, count: int, mode: Any) -> "np.memmap[Any, Any]":
    try:
        array = np.load(folder / f"{name}.npy", mmap_mode=mode)
    except Exception as error:  # a damaged header raises errors of many kinds
        raise _Damaged(f"{name}.npy") from error
    if array.shape != (count, *column.shape) or array.dtype != np.dtype(column.dtype):
        raise _Damaged(f"{name}.npy")
    return array  # type: ignore[no-any-return]


def _digests(array: NDArray[Any], start: int, stop: int) -> list[str]:
    """Return the digests of rows ``start`` to ``stop``, one of ``CHUNK`` rows."""

    def digest(first: int) -> str:
        rows = np.ascontiguousarray(array[first : min(first + CHUNK, stop)])
        return hashlib.blake2b(rows.data, digest_size=16).hexdigest()

    firsts = range(start, stop, CHUNK)
    if len(firsts) < 2:
        return [digest(first) for first in firsts]
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(digest, firsts))


def _forms(columns: Mapping[str, Column]) -> dict[str, Any]:
    return {
        name: [np.dtype(column.dtype).str, list(column.shape)] for name, column in columns.items()
    }


def _write_manifest(
    folder: Path,
    columns: Mapping[str, Column],
    rows: int,
    done: int,
    digests: Mapping[str, list[str]],
) -> None:
    body = {
        "rows": rows,
        "done": done,
        "chunk": CHUNK,
        "columns": _forms(columns),
        "digests": digests,
    }
    with atomic_path(folder / _MANIFEST) as path:
        path.write_text(json.dumps({**body, "digest": cache_key(body)}), encoding="utf-8")


def _read_manifest(folder: Path, columns: Mapping[str, Column]) -> dict[str, Any]:
    """Return what was written, or raise ``_Damaged``."""
    try:
        content = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        digest = content.pop("digest")
        if digest != cache_key(content):
            raise _Damaged(_MANIFEST)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _Damaged(_MANIFEST) from error
    if content["columns"] != _forms(columns) or content["chunk"] != CHUNK:
        raise _Damaged("it is of another form")
    return content  # type: ignore[no-any-return]


def _reserve(path: Path) -> None:
    """Take the space now: a full disk must show as an error, not as a fault in mapped memory."""
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, path.stat().st_size))


def _remove(path: Path) -> None:
    """Delete whatever lies at a path of the cache, if that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
