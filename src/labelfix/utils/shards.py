"""Rows that are computed from samples, shard by shard, and the engines that do it.

An engine maps work over ranges of rows; who asked for it puts the results together in the order of
the rows, so that the engine never shows in a result. `LocalEngine` does the work in this process;
engines for several machines are in `labelfix.engines`.

Letters: N samples, B samples of a batch, R of them that were computed, n samples of a shard.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from labelfix.types import SampleStore
from labelfix.utils.files import atomic_path
from labelfix.utils.sample_reader import DIGEST_BYTES, READ_BATCH, digest_rows

Contents: TypeAlias = NDArray[np.bytes_]
IsKnown: TypeAlias = Callable[[int, Contents], NDArray[np.bool_]]
"""Says which rows of a batch need not be computed, from its first row and ``(B,)`` digests."""

LEAST_ROWS, MOST_ROWS = 256, 8192
"""Rows of a shard: enough to be worth a message, few enough to be lost."""

SHARDS = 64
"""A data set is cut into so many shards at least, as far as ``LEAST_ROWS`` allows."""

SHARD_BYTES = 32 << 20
"""What the rows of a shard take at most, as far as whole batches allow: several are in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class RowBatch:
    """What became of B neighboring samples.

    Args:
        content: ``(B,)`` digests, empty where there was nothing to read.
        computed: ``(R,)`` int64: the places in the batch that were computed.
        rows: Name of a column to its R rows.
        unreadable: Place in the batch to reason.
    """

    content: Contents
    computed: NDArray[np.int64]
    rows: Mapping[str, NDArray[Any]]
    unreadable: Mapping[int, str]


Shard: TypeAlias = tuple[range, Iterable[RowBatch]]
"""Rows, and their batches in order."""


class Compute(Protocol):
    """Computes rows of samples; safe to pickle into another process.

    What becomes of a batch depends on the batch alone.
    """

    def __call__(self, store: SampleStore, rows: range, is_known: IsKnown, /) -> Iterator[RowBatch]:
        """Yield the batches of some rows, in order; a sample that cannot be used is a reason."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class KnownRows:
    """An ``IsKnown`` of the rows of one shard, for another process.

    Args:
        start: The first row of the shard.
        held: ``(n,)`` digests of rows that were computed earlier, empty where none was. A batch is
            known by them as a whole or not at all.
        kept: Sorted digests of samples whose rows are kept elsewhere.
    """

    start: int
    held: Contents
    kept: Contents

    def __call__(self, start: int, content: Contents) -> NDArray[np.bool_]:
        """Return ``(B,)`` which rows of a batch need not be computed."""
        known = is_held(self.held[start - self.start :][: len(content)], content)
        if len(self.kept):
            at = np.searchsorted(self.kept, content).clip(max=len(self.kept) - 1)
            known |= (self.kept[at] == content) & (content != b"")
        return known


def is_held(held: Contents, content: Contents) -> NDArray[np.bool_]:
    """Return ``(B,)`` which rows of a batch lie among those of an earlier process.

    A batch is held as a whole or not at all, but for samples that could not be used: features
    depend in their last digits on what else is in the batch, and a run that was interrupted shall
    end like one that was not.

    Args:
        held: ``(B,)`` digests of the earlier rows.
        content: ``(B,)`` digests of now.
    """
    is_same = held == content
    return np.asarray(is_same & (held != b"") & (is_same | (held == b"")).all())


@dataclass(frozen=True, slots=True, eq=False)
class ShardTask:
    """Rows of all samples of a data set, to be computed.

    Args:
        store: N encoded samples.
        compute: Computes rows.
        batch_size: B; what is computed together begins at a multiple of it.
        row_bytes: What one row takes.
        is_known: Which rows need not be computed, for work in this process.
        held_of: ``(n,)`` digests of the rows of a shard that were computed earlier, as of
            `KnownRows`, by which another process knows them.
        kept: Returns sorted digests of samples whose rows are kept elsewhere, likewise.
    """

    store: SampleStore
    compute: Compute
    batch_size: int
    row_bytes: int
    is_known: IsKnown
    held_of: Callable[[range], Contents]
    kept: Callable[[], Contents]

    def shards(self) -> list[range]:
        """Return ranges that cover the N rows; they depend on the data and the work alone."""
        count = len(self.store)
        rows = min(max(count // SHARDS, LEAST_ROWS), MOST_ROWS)
        rows = min(rows, SHARD_BYTES // max(1, self.row_bytes))
        step = self.batch_size * max(1, -(-rows // self.batch_size))
        return [range(start, min(start + step, count)) for start in range(0, count, step)]


def digest_task(store: SampleStore) -> ShardTask:
    """Return the task to read every sample and to digest it, and no more."""
    return ShardTask(
        store=store,
        compute=_digested,
        batch_size=READ_BATCH,
        row_bytes=DIGEST_BYTES,
        is_known=lambda start, content: np.ones(len(content), np.bool_),
        held_of=lambda rows: np.zeros(len(rows), f"S{DIGEST_BYTES}"),
        kept=lambda: np.zeros(0, f"S{DIGEST_BYTES}"),
    )


def _digested(store: SampleStore, rows: range, is_known: IsKnown) -> Iterator[RowBatch]:
    nothing = np.zeros(0, np.int64)
    for _, content, unreadable in digest_rows(store, rows):
        yield RowBatch(content, nothing, {}, unreadable)


class Engine(Protocol):
    """Where rows are computed."""

    def map_shards(self, task: ShardTask) -> Iterator[Shard]:
        """Yield all rows of a task, a shard at a time, in any order.

        Raises:
            LabelfixError: The work cannot be done there.
        """
        ...

    def record(self) -> Mapping[str, Any]:
        """Return what a RUN keeps of the engine, as JSON values."""
        ...


class LocalEngine:
    """Computes all rows in this process, one batch after the other, as threads finish them."""

    def map_shards(self, task: ShardTask) -> Iterator[Shard]:
        """Yield one shard of all rows, whose batches are computed as they are taken."""
        rows = range(len(task.store))
        yield rows, task.compute(task.store, rows, task.is_known)

    def record(self) -> Mapping[str, Any]:
        """Return its name."""
        return {"name": "local"}


_ENGINE: ContextVar[Engine | None] = ContextVar("engine", default=None)


@contextmanager
def mapped_by(engine: Engine) -> Iterator[None]:
    """Let an engine compute all rows that are asked for in the block.

    A context, as neither encoders nor their callers have to know where rows are computed.
    """
    token = _ENGINE.set(engine)
    try:
        yield
    finally:
        _ENGINE.reset(token)


def current_engine() -> Engine:
    """Return the engine of the context; without one, this process does the work."""
    return _ENGINE.get() or LocalEngine()


_NAME = re.compile(r"shard-(\d+)-(\d+)\.npz")
_DAMAGES = (OSError, ValueError, KeyError, BadZipFile, EOFError)


class EarlyShards:
    """Shards that were finished before their turn, one file each, written whole or not at all.

    A file that is damaged, or was written by other work, is as good as none.

    Args:
        folder: Holds the files; it may be missing.
        columns: The names of the columns.
    """

    def __init__(self, folder: Path, columns: Iterable[str]) -> None:
        self._folder = folder
        self._columns = frozenset(columns)
        self._files: dict[range, Path] = {}
        with suppress(OSError):
            for path in folder.iterdir():
                if found := _NAME.fullmatch(path.name):
                    self._files[range(int(found[1]), int(found[2]))] = path

    def __contains__(self, rows: range) -> bool:
        """Return whether there is a file of some rows."""
        return rows in self._files

    def from_row(self, start: int) -> range | None:
        """Return the rows of the shard that begins at a row, if there is a file of it."""
        return next((rows for rows in self._files if rows.start == start), None)

    def save(self, rows: range, batches: Sequence[RowBatch]) -> None:
        """Write one file: a shard, its batches in order.

        Raises:
            OSError: It cannot be written.
        """
        path = self._folder / f"shard-{rows.start:012d}-{rows.stop:012d}.npz"
        unreadable = [dict(batch.unreadable) for batch in batches]
        arrays = {
            "sizes": np.array([len(batch.content) for batch in batches], np.int64),
            "counts": np.array([len(batch.computed) for batch in batches], np.int64),
            "content": np.concatenate([batch.content for batch in batches]),
            "computed": np.concatenate([batch.computed for batch in batches]),
            "unreadable": np.frombuffer(json.dumps(unreadable).encode(), np.uint8),
        }
        for name in self._columns:
            parts = [batch.rows[name] for batch in batches if len(batch.computed)]
            arrays[f"rows_{name}"] = np.concatenate(parts) if parts else np.zeros(0)
        with atomic_path(path) as draft, draft.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # whose member names are ours
        self._files[rows] = path

    def load(self, rows: range) -> list[RowBatch] | None:
        """Return the batches of a shard, or ``None`` if there is no whole file of it."""
        path = self._files.get(rows)
        if path is None:
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = self._batches({name: arrays[name] for name in arrays.files})
        except _DAMAGES:
            self.remove(rows)
            return None
        if sum(len(batch.content) for batch in found) != len(rows):
            self.remove(rows)
            return None
        return found

    def _batches(self, arrays: Mapping[str, NDArray[Any]]) -> list[RowBatch]:
        ends, computed_ends = np.cumsum(arrays["sizes"]), np.cumsum(arrays["counts"])
        reasons = json.loads(arrays["unreadable"].tobytes())
        content = np.split(arrays["content"], ends[:-1])
        computed = np.split(arrays["computed"], computed_ends[:-1])
        rows = {
            name: np.split(arrays[f"rows_{name}"], computed_ends[:-1]) for name in self._columns
        }
        return [
            RowBatch(
                content=content[number],
                computed=computed[number],
                rows={name: parts[number] for name, parts in rows.items()},
                unreadable={int(place): str(why) for place, why in reasons[number].items()},
            )
            for number in range(len(reasons))
        ]

    def remove(self, rows: range) -> None:
        """Remove the file of a shard."""
        path = self._files.pop(rows, None)
        if path is not None:
            path.unlink(missing_ok=True)

    def remove_all(self) -> None:
        """Remove the files of all shards."""
        for rows in list(self._files):
            self.remove(rows)


def taken_up(batches: Sequence[RowBatch], earlier: Sequence[RowBatch]) -> list[RowBatch]:
    """Return the batches of a shard, with the rows of an earlier process that were known by it.

    Args:
        batches: As they were computed now.
        earlier: Of a file; none, or as many.
    """
    if len(earlier) != len(batches):
        return list(batches)
    return [_joined(new, old) for new, old in zip(batches, earlier, strict=True)]


def _joined(new: RowBatch, old: RowBatch) -> RowBatch:
    held = is_held(computed_contents(old), new.content)
    held[new.computed] = False
    places = np.flatnonzero(held)
    if not len(places):
        return new
    computed = np.concatenate([new.computed, places])
    order, from_old = np.argsort(computed), np.searchsorted(old.computed, places)
    rows = {}
    for name, values in old.rows.items():
        parts = [new.rows[name]] if len(new.computed) else []
        rows[name] = np.concatenate([*parts, values[from_old]])[order]
    return RowBatch(new.content, computed[order], rows, new.unreadable)


def computed_contents(batch: RowBatch) -> Contents:
    """Return ``(B,)`` digests of a batch, empty in rows that were not computed."""
    contents = np.zeros_like(batch.content)
    contents[batch.computed] = batch.content[batch.computed]
    return contents
