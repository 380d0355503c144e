from itertools import chain, zip_longest

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from encoded_images import TORN, MemoryImages, number_of, numbered
from hypothesis import given
from hypothesis import strategies as st

from labelfix.data.stores import ParquetImages
from labelfix.errors import TrainingError
from labelfix.modalities.batching import (
    epoch_order,
    evaluation_batches,
    training_batches,
    training_steps,
)
from labelfix.modalities.image.pixels import DecodedPixels, StoredPixels, decode_once, source_of
from labelfix.modalities.image.transforms import Preprocessing
from labelfix.modalities.image.views import TrainingImages

SQUARE = Preprocessing(
    size=8, crop_share=1.0, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
)
COUNT = 300
BROKEN = {0: None, 17: b"", 18: TORN, 299: b"no image"}
READABLE = np.setdiff1d(np.arange(COUNT), list(BROKEN))
STORE = MemoryImages([BROKEN.get(row) or numbered(row) for row in range(COUNT)])


def stored(cache):
    return source_of(STORE, decode_once(STORE, "data", SQUARE, cache=cache))


@pytest.fixture(scope="module", params=["stored", "decoded in a thread", "decoded by workers"])
def source(request, tmp_path_factory):
    if request.param == "stored":
        return stored(tmp_path_factory.mktemp("cache"))
    workers = 2 if "workers" in request.param else 0
    return DecodedPixels(STORE, SQUARE, workers=workers)


def images(source, rows=READABLE, **options):
    return TrainingImages(source, rows, **{"batch_size": 16, "seed": 5} | options)


def rows_of(batches):
    return [batch.rows.tolist() for batch in batches]


def test_rows_and_pixels_belong_together_and_every_row_comes_once(source):
    for way in (images(source).training(1), images(source).evaluation()):
        seen = []
        for rows, pixels in way:
            assert pixels.shape == (len(rows), 8, 8, 3)
            assert (pixels.dtype, rows.dtype) == (torch.uint8, torch.int64)
            np.testing.assert_array_equal(number_of(pixels), rows)
            seen += rows.tolist()
        assert sorted(seen) == READABLE.tolist()


def test_evaluation_goes_in_rising_order(source):
    assert list(chain.from_iterable(rows_of(images(source).evaluation()))) == READABLE.tolist()


def test_the_order_is_of_the_seed_and_the_epoch_alone(source):
    first = rows_of(images(source).training(1))
    assert rows_of(images(source, READABLE[::-1]).training(1)) == first
    assert rows_of(images(source).training(2)) != first
    assert rows_of(images(source, seed=6).training(1)) != first


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_take_the_steps_of_one_process(source, world_size):
    one = rows_of(images(source, batch_size=8 * world_size).training(1))
    ranks = [
        rows_of(images(source, batch_size=8, rank=rank, world_size=world_size).training(1))
        for rank in range(world_size)
    ]
    assert [len(rank) for rank in ranks] == [len(one)] * world_size
    for step, parts in zip(one, zip(*ranks, strict=True), strict=True):
        together = [list(filter(None.__ne__, each)) for each in zip_longest(*parts)]
        assert list(chain.from_iterable(together)) == step


def test_evaluation_has_the_same_batches_on_any_number_of_ranks(source):
    one = rows_of(images(source).evaluation())
    ranks = [rows_of(images(source, rank=rank, world_size=3).evaluation()) for rank in range(3)]
    assert list(chain.from_iterable(ranks)) == one


@pytest.mark.parametrize("source", [stored, lambda _: DecodedPixels(STORE, SQUARE, workers=0)])
def test_reading_ahead_stops_when_nobody_wants_more(source, tmp_path):
    batches = images(source(tmp_path)).training(1)
    next(batches)
    batches.close()
    assert list(batches) == []


def test_loading_draws_nothing_from_the_generator_that_training_uses(source):
    before = torch.get_rng_state()
    list(images(source).training(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_stored_and_decoded_pixels_are_the_same_batches(tmp_path):
    ways = [stored(tmp_path), DecodedPixels(STORE, SQUARE, workers=0)]
    for one, other in zip(*(images(way).training(2) for way in ways), strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.pixels, other.pixels)


def test_an_image_that_is_gone_says_where_it_was(tmp_path):
    store = MemoryImages([*STORE.encoded[:200], None, *STORE.encoded[201:]])
    with pytest.raises(TrainingError, match="memory:200: file is missing"):
        list(images(DecodedPixels(store, SQUARE, workers=2)).training(1))


def test_parquet_is_decoded_in_windows_of_neighbors_that_workers_do_not_change(tmp_path):
    table = pa.table({"image": [numbered(row) for row in range(COUNT)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=150)
    store = ParquetImages(tmp_path, ["a.parquet"], [COUNT], "image")
    orders = []
    for workers in (0, 2):
        source = DecodedPixels(
            store, SQUARE, workers=workers, block_rows=10, window_bytes=100 * 8 * 8 * 3
        )
        seen = []
        for rows, pixels in images(source, np.arange(COUNT)).training(1):
            np.testing.assert_array_equal(number_of(pixels), rows)
            seen += rows.tolist()
        orders.append(seen)
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == list(range(COUNT))
    assert len({row // 10 for row in orders[0][:100]}) == 10, "ten blocks of ten are mixed"
    assert DecodedPixels(store, SQUARE, workers=0).block_rows > 1, "slow in random order"


def test_a_row_named_twice_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="listed twice"):
        images(stored(tmp_path), np.array([3, 4, 3]))


@given(
    count=st.integers(2, 200),
    batch_size=st.integers(2, 40),
    world_size=st.integers(1, 5),
)
def test_no_process_gets_a_batch_of_one(count, batch_size, world_size):
    if count < 2 * world_size:
        with pytest.raises(TrainingError, match="too few"):
            training_steps(count, batch_size=batch_size, world_size=world_size)
        return
    ranks = [
        training_batches(np.arange(count), batch_size=batch_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    steps = training_steps(count, batch_size=batch_size, world_size=world_size)
    sizes = np.array([[len(batch) for batch in rank] for rank in ranks])
    assert sizes.min() >= 2
    assert sizes.max() <= batch_size + 2
    assert sizes.sum(axis=0).tolist() == steps
    assert sum(steps) == count
    assert sorted(np.concatenate([np.concatenate(rank) for rank in ranks])) == list(range(count))


def test_a_batch_of_one_that_was_asked_for_is_refused():
    with pytest.raises(TrainingError, match="batch of one"):
        training_steps(10, batch_size=1)


@given(count=st.integers(0, 100), batch_size=st.integers(1, 20), world_size=st.integers(1, 5))
def test_evaluation_takes_every_row_once(count, batch_size, world_size):
    taken = [
        row
        for rank in range(world_size)
        for batch in evaluation_batches(
            np.arange(count), batch_size=batch_size, rank=rank, world_size=world_size
        )
        for row in batch
    ]
    assert taken == list(range(count))


@given(count=st.integers(1, 300), block_rows=st.integers(1, 50), mixed_blocks=st.integers(1, 5))
def test_every_order_holds_every_row(count, block_rows, mixed_blocks):
    rows = np.arange(count) * 3
    order = epoch_order(rows, seed=1, epoch=2, block_rows=block_rows, mixed_blocks=mixed_blocks)
    assert sorted(order) == rows.tolist()


def test_stored_pixels_may_be_read_only_memory():
    values = np.zeros((4, 2, 2, 3), np.uint8)
    values.flags.writeable = False
    (batch,) = StoredPixels(values).batches([np.array([1, 3])], pin=False)
    batch.pixels.add_(1)
    assert values.sum() == 0
