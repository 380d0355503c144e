"""Read encoded samples in batches ahead of whoever uses them, and digest what was read.

Letters: N samples, B samples of a batch.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.errors import UnreadableSample
from labelfix.types import SampleStore
from labelfix.utils.threads import Item, Result, cores, map_ahead

DIGEST_BYTES = 16
"""The length of a ``content_digest``."""

READ_BATCH = 64
"""Images that a thread reads or digests at a time."""


def content_digest(data: bytes) -> bytes:
    """Return the 16-byte BLAKE2b digest of an encoded image; equal means byte-identical."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def read_batches(
    store: SampleStore, *, batch_size: int, rows: range | None = None
) -> Iterator[tuple[int, list[bytes | str]]]:
    """Yield first row and encoded images of each batch, in rising order, as ``read_rows`` does.

    Args:
        store: N encoded images.
        batch_size: B.
        rows: Those that are read; ``None`` reads all.
    """
    rows = range(len(store)) if rows is None else rows
    for start in range(rows.start, rows.stop, batch_size):
        yield start, read_rows(store, range(start, min(start + batch_size, rows.stop)))


def read_rows(store: SampleStore, rows: Iterable[int]) -> list[bytes | str]:
    """Return the encoded images of some rows, or as text the reasons why there is none."""
    return [_read(store, row) for row in rows]


def digest_rows(
    store: SampleStore, rows: range | None = None
) -> Iterator[tuple[int, NDArray[np.bytes_], dict[int, str]]]:
    """Read images and yield, batch by batch in order, the digests of what was read.

    Files are read by several threads; other stores are read by the caller's alone.

    Args:
        store: N encoded images.
        rows: Those that are read; ``None`` reads all.

    Yields:
        The first row of a batch, its ``(B,)`` digests, and place in the batch to reason for the
        images that could not be read, whose digest is empty.
    """
    rows = range(len(store)) if rows is None else rows
    stop = rows.stop
    starts = range(rows.start, stop, READ_BATCH)

    def read_and_digest(start: int) -> tuple[int, NDArray[np.bytes_], dict[int, str]]:
        batch = range(start, min(start + READ_BATCH, stop))
        # one by one, so that a thread holds one large file at a time
        found = [digest_or_reason(_read(store, row)) for row in batch]
        return digests_of_batch(start, found)

    def digest(batch: tuple[int, list[bytes | str]]) -> tuple[int, Any, dict[int, str]]:
        return digests_of_batch(batch[0], [digest_or_reason(data) for data in batch[1]])

    workers = cores()
    if getattr(store, "random_access", False):
        with ThreadPoolExecutor(workers + 2) as pool:  # some of them wait for the disk
            yield from _ahead_and_dropped(pool, read_and_digest, starts, 2 * workers)
    else:
        with ThreadPoolExecutor(workers) as pool:
            batches = read_batches(store, batch_size=READ_BATCH, rows=rows)
            yield from _ahead_and_dropped(pool, digest, batches, 2 * workers)


def _ahead_and_dropped(
    pool: ThreadPoolExecutor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    limit: int,
) -> Iterator[Result]:
    """Yield as ``map_ahead`` does; drop waiting work where the caller stops."""
    try:
        yield from map_ahead(pool, work, items, limit)
    finally:
        pool.shutdown(cancel_futures=True)


def digest_or_reason(data: bytes | str) -> bytes | str:
    """Return the digest of an encoded sample, or hand on the reason why there is none."""
    return data if isinstance(data, str) else content_digest(data)


def digests_of_batch(
    start: int, found: Sequence[bytes | str]
) -> tuple[int, NDArray[np.bytes_], dict[int, str]]:
    """Return first row, digests, and place to reason, from digests or reasons."""
    unreadable = {place: why for place, why in enumerate(found) if isinstance(why, str)}
    digests = [b"" if isinstance(digest, str) else digest for digest in found]
    return start, np.array(digests, dtype=f"S{DIGEST_BYTES}"), unreadable


def _read(store: SampleStore, row: int) -> bytes | str:
    try:
        return store.read(row)
    except UnreadableSample as error:
        return str(error)
