"""Rows are the same whichever engine computes them, in whatever order shards are finished."""

import random

import numpy as np
import pytest
from encoded_images import MemoryImages, numbered
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sharded_work import BATCH, assert_same, lengths, look, samples

from labelfix.utils.shards import EarlyShards, KnownRows, is_held

SOME = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class ShuffledEngine:
    """Finishes shards in any order, from copies of what is known, and may stop after some."""

    def __init__(self, seed, stop_after=None):
        self._seed, self._stop_after = seed, stop_after

    def map_shards(self, task):
        shards = [range(start, min(start + 8, len(task.store)))
                  for start in range(0, len(task.store), 8)]  # fmt: skip
        random.Random(self._seed).shuffle(shards)
        for done, rows in enumerate(shards):
            if done == self._stop_after:
                raise KeyboardInterrupt
            known = KnownRows(rows.start, task.held_of(rows), task.kept())
            yield rows, list(task.compute(task.store, rows, known))

    def record(self):
        return {"name": "shuffled"}


@SOME
@given(st.integers(1, 70), st.sets(st.integers(0, 69), max_size=5), st.integers(0, 99))
def test_the_order_in_which_shards_are_finished_does_not_show(
    tmp_path_factory, count, missing, seed
):
    folder, encoded = tmp_path_factory.mktemp("cache"), samples(count, missing)
    local = look(folder / "local", MemoryImages(encoded))
    assert_same(look(folder / "shuffled", MemoryImages(encoded), ShuffledEngine(seed)), local)
    (entry,) = [path for path in (folder / "shuffled").iterdir() if path.is_dir()]
    assert not list(entry.glob("shard-*")), "no shard of its own is left"


@SOME
@given(st.integers(20, 70), st.integers(0, 8), st.integers(0, 99), st.integers(0, 69))
def test_finished_shards_are_skipped_unless_their_samples_changed(
    tmp_path_factory, count, stop_after, seed, changed
):
    folder, encoded = tmp_path_factory.mktemp("cache"), samples(count)
    before, after = [], []
    try:
        look(folder, MemoryImages(encoded), ShuffledEngine(seed, stop_after), looked=before)
    except KeyboardInterrupt:
        encoded = [data + b"!" if row == changed else data for row, data in enumerate(encoded)]
        resumed = look(folder, MemoryImages(encoded), ShuffledEngine(seed + 1), looked=after)
        assert_same(resumed, look(folder / "alone", MemoryImages(encoded)))
        done = {row // 8 for row in before}
        gap = min(set(range(count)) - done)  # what came in turn lies in arrays, marked now and then
        waited = {row for row in before if row // 8 > gap}
        its_batch = range(changed // BATCH * BATCH, changed // BATCH * BATCH + BATCH)
        assert set(after) & waited <= set(its_batch)


def test_an_interrupted_shard_that_could_not_be_read_then_is_read_now(tmp_path):
    whole, missing = samples(40), samples(40, {9, 30})
    with pytest.raises(KeyboardInterrupt):
        look(tmp_path, MemoryImages(missing), ShuffledEngine(3, 4))
    assert look(tmp_path, MemoryImages(whole), ShuffledEngine(4)).unreadable == {}


def test_a_damaged_shard_is_computed_again(tmp_path):
    encoded = samples(64)
    with pytest.raises(KeyboardInterrupt):
        look(tmp_path, MemoryImages(encoded), ShuffledEngine(1, 5))
    files = sorted(tmp_path.glob("*.partial/shard-*.npz"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:-40] + bytes(40))
    assert_same(
        look(tmp_path, MemoryImages(encoded), ShuffledEngine(2)),
        look(tmp_path / "alone", MemoryImages(encoded)),
    )


def test_a_batch_is_held_as_a_whole_or_not_at_all():
    content = np.array([b"a", b"b", b"c"], "S16")
    assert is_held(content, content).all()
    assert not is_held(np.array([b"a", b"x", b"c"], "S16"), content).any()
    assert is_held(np.array([b"a", b"", b"c"], "S16"), content).tolist() == [True, False, True]


def test_known_rows_are_those_held_or_kept():
    content = np.array([b"a", b"b", b"c", b""], "S16")
    known = KnownRows(8, np.array([b""] * 4 + [b"a", b"b", b"", b""], "S16"), np.array([b"c"]))
    assert known(12, content).tolist() == [True, True, True, False]
    assert known(8, content).tolist() == [False, False, True, False]


def test_files_of_shards_give_back_what_they_were_given(tmp_path):
    early = EarlyShards(tmp_path, ["values"])
    store = MemoryImages([numbered(0), None, numbered(2), numbered(3), numbered(4)])
    known = KnownRows(0, np.zeros(5, "S16"), np.zeros(0, "S16"))
    batches = list(lengths(store, range(5), known))
    early.save(range(5), batches)
    found = EarlyShards(tmp_path, ["values"]).load(range(5))
    assert [batch.unreadable for batch in found] == [{1: "file is missing"}, {}]
    for one, other in zip(batches, found, strict=True):
        np.testing.assert_array_equal(one.rows["values"], other.rows["values"])
        np.testing.assert_array_equal(one.content, other.content)
    assert EarlyShards(tmp_path, ["others"]).load(range(5)) is None
