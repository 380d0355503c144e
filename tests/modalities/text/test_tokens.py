"""``labelfix.modalities.text.tokens``: which texts meet in a batch, and how they are filled up."""

import numpy as np
import torch

from labelfix.modalities.text.tokens import TextViews, Tokens

CPU = torch.device("cpu")
COUNT = 103
LENGTHS = np.random.default_rng(0).integers(1, 40, COUNT)
STARTS = np.concatenate([[0], np.cumsum(LENGTHS)])
TOKENS = Tokens(
    codes=np.concatenate([np.full(size, row + 1) for row, size in enumerate(LENGTHS)]).astype(
        np.int32
    ),
    parts=np.zeros(STARTS[-1], np.uint8),
    starts=STARTS,
    content=np.zeros(COUNT, "S16"),
    unreadable={},
)
ROWS = np.arange(1, COUNT)


def views(**place):
    return TextViews(TOKENS.lengths, TOKENS.padded, CPU, **place)


def epoch(number, rank=0, world_size=1, batch_size=8):
    seen = views(rank=rank, world_size=world_size)
    return list(seen.training(ROWS, batch_size, seed=0, epoch=number))


def test_each_text_is_filled_up_to_the_longest_of_its_batch():
    for rows, inputs in [*epoch(1), *views().evaluation(ROWS, 8)]:
        assert inputs.shape == (len(rows), LENGTHS[rows].max(), 3)
        for row, text in zip(rows.tolist(), inputs, strict=True):
            size = LENGTHS[row]
            assert (text[:size, 0] == row + 1).all()
            assert (text[:size, 1] == 1).all()
            assert (text[size:] == 0).all()


def test_every_text_is_seen_once_an_epoch_in_steps_of_the_sizes_that_were_told():
    for number in (1, 2):
        batches = epoch(number)
        assert sorted(torch.cat([rows for rows, _ in batches]).tolist()) == ROWS.tolist()
        assert [len(rows) for rows, _ in batches] == views().step_sizes(ROWS, 8)
    scored = torch.cat([rows for rows, _ in views().evaluation(ROWS, 8)])
    assert sorted(scored.tolist()) == ROWS.tolist()


def test_batches_hold_little_padding_and_differ_from_epoch_to_epoch():
    def padding(batches):
        return sum(int((inputs[:, :, 1] == 0).sum()) for _, inputs in batches)

    at_random = sum(
        int((LENGTHS[rows].max() - LENGTHS[rows]).sum())
        for rows in np.array_split(np.random.default_rng(0).permutation(ROWS), 13)
    )
    assert padding(epoch(1)) < at_random / 2
    first, again, second = epoch(1), epoch(1), epoch(2)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    assert {frozenset(rows.tolist()) for rows, _ in first} != {
        frozenset(rows.tolist()) for rows, _ in second
    }


def test_two_processes_take_the_steps_of_one():
    both = zip(epoch(1, 0, 2, batch_size=4), epoch(1, 1, 2, batch_size=4), strict=True)
    steps = [{*first.tolist(), *second.tolist()} for (first, _), (second, _) in both]
    assert steps == [set(rows.tolist()) for rows, _ in epoch(1)]
