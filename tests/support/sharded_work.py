"""Work on shards that other processes can import, for tests of engines."""

import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
from encoded_images import MemoryImages

from labelfix.utils.cache import Column, RowWork, rows_of
from labelfix.utils.progress import no_progress
from labelfix.utils.sample_reader import digest_or_reason, digests_of_batch, read_batches
from labelfix.utils.shards import RowBatch, mapped_by

BATCH = 4


def lengths(store, rows, is_known, *, looked=None):
    """Compute of each sample its length, and of how many its batch was computed."""
    for start, encoded in read_batches(store, batch_size=BATCH, rows=rows):
        _, content, unreadable = digests_of_batch(start, [*map(digest_or_reason, encoded)])
        known = is_known(start, content)
        places = [
            place
            for place, data in enumerate(encoded)
            if not isinstance(data, str) and not known[place]
        ]
        if looked is not None:
            looked += [start + place for place in places]
        values = np.array([[len(encoded[place]), len(places)] for place in places], np.int64)
        yield RowBatch(
            content, np.array(places, np.int64), {"values": values.reshape(-1, 2)}, unreadable
        )


def counted(store, rows, is_known, *, folder):
    """Compute as `lengths`, and leave a file for each shard of which anything was computed."""
    batches = list(lengths(store, rows, is_known))
    if any(len(batch.computed) for batch in batches):
        (Path(folder) / f"{rows.start}-{os.getpid()}").touch()
    return iter(batches)


def dying(store, rows, is_known, *, folder, at, deaths):
    """Compute as `lengths`, in a process that is killed at one row, so and so many times."""
    marks = [Path(folder) / f"death-{number}" for number in range(deaths)]
    if at in rows and (left := [mark for mark in marks if not mark.exists()]):
        left[0].touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return lengths(store, rows, is_known)


class LocalOnly(MemoryImages):
    """A store that is empty in any other process, as a file system in memory is."""

    def __getstate__(self):
        return {"encoded": [None] * len(self.encoded), "stop_at": None, "reads": []}


def look(cache, store, engine=None, compute=lengths, /, **options):
    """Return the rows of all samples of a store."""
    work = RowWork(
        what="lengths",
        stage="measuring",
        columns={"values": Column(np.int64, (2,))},
        compute=partial(compute, **options),
        batch_size=BATCH,
        fault=lambda data: None,
    )
    if engine is None:
        return rows_of(cache, store, "same", work, no_progress)
    with mapped_by(engine):
        return rows_of(cache, store, "same", work, no_progress)


def samples(count, missing=()):
    """Return samples of differing lengths, and ``None`` for those that are missing."""
    return [
        None if row in missing else b"x" * (row % 7) + row.to_bytes(4, "big")
        for row in range(count)
    ]


def assert_same(first, second):
    """Fail unless two looks gave the same."""
    np.testing.assert_array_equal(first.arrays["values"], second.arrays["values"])
    np.testing.assert_array_equal(first.content, second.content)
    assert first.unreadable == second.unreadable
