"""Which samples meet in which batch, on which process, in which epoch.

Letters: N samples, B samples of a batch on one process, W processes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, device

from labelfix.errors import TrainingError
from labelfix.utils.threads import map_ahead

Rows = NDArray[np.int64]
"""Numbers of samples."""

AHEAD = 3
"""Batches that are ready, or being made, beside the one in use."""

MIXED_STEPS = 16
"""Rows of so many steps are sorted by their length: fewer leave more padding, more leave batches
that hardly differ from one epoch to the next."""


BatchT = TypeVar("BatchT")


def prefetched(
    gather: Callable[[BatchT], tuple[Tensor, Tensor]], batches: Iterable[BatchT], place: device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows ``(B,)`` and inputs on a device; a thread gathers some batches ahead.

    Args:
        gather: Returns rows and inputs of a batch, in memory.
        batches: What it is given, batch by batch.
        place: The device where they are wanted.
    """

    def gathered(batch: BatchT) -> tuple[Tensor, Tensor]:
        rows, inputs = gather(batch)
        return rows, inputs.pin_memory() if place.type == "cuda" else inputs

    with ThreadPoolExecutor(1) as pool:
        try:
            for rows, inputs in map_ahead(pool, gathered, batches, AHEAD):
                yield rows.to(place, non_blocking=True), inputs.to(place, non_blocking=True)
        finally:
            pool.shutdown(cancel_futures=True)


def epoch_order(
    rows: Rows, *, seed: int, epoch: int, block_rows: int = 1, mixed_blocks: int = 64
) -> Rows:
    """Return the rows in an order that ``seed`` and ``epoch`` alone decide.

    Args:
        rows: ``(N,)`` numbers of samples, rising.
        seed: Of the run.
        epoch: Each has its own order.
        block_rows: 1 shuffles all rows. More leaves neighbors near each other, for stores that
            are slow in random order: blocks of this many rows are shuffled, and then the rows
            within every ``mixed_blocks`` blocks.
        mixed_blocks: See ``block_rows``.
    """
    chance = np.random.default_rng([seed, epoch])
    if block_rows == 1:
        return chance.permutation(rows)
    blocks = np.split(rows, np.arange(block_rows, len(rows), block_rows))
    blocks = [blocks[number] for number in chance.permutation(len(blocks))]
    mixes = (blocks[start : start + mixed_blocks] for start in range(0, len(blocks), mixed_blocks))
    return np.concatenate([chance.permutation(np.concatenate(mix)) for mix in mixes])


def training_steps(count: int, *, batch_size: int, world_size: int = 1) -> list[int]:
    """Return how many rows each step of an epoch takes, over all processes.

    Every row is in one step. A rest that would leave a process with fewer than two rows, on which
    batch normalization fails, goes into the step before it.

    Args:
        count: N.
        batch_size: B.
        world_size: W.

    Raises:
        TrainingError: There are fewer than two rows for each process.
    """
    if count < 2 * world_size:
        raise TrainingError(
            f"{count} samples to train on are too few for {world_size} processes: "
            "each needs two or more in a batch",
            hint="label more samples, or use fewer processes",
        )
    if batch_size < 2:
        raise TrainingError("a batch of one sample cannot be trained on", hint="use 2 or more")
    whole, rest = divmod(count, batch_size * world_size)
    steps = [batch_size * world_size] * whole
    if rest >= 2 * world_size or not whole:
        return [*steps, rest]
    steps[-1] += rest
    return steps


def alike_in_length(
    order: Rows, lengths: NDArray[np.int64], steps: Sequence[int], *, seed: int, epoch: int
) -> Rows:
    """Return an order in which the rows of a step are about equally long: less is padding.

    Rows are sorted within every `MIXED_STEPS` steps, and the steps shuffled again. A step of
    another size stays where it is, so that the sizes of the steps are what they were.

    Args:
        order: ``(N,)`` from `epoch_order`, the same on every process.
        lengths: By row.
        steps: From `training_steps`.
        seed: Of the run.
        epoch: Each has its own order.
    """
    stream = 3  # not that of the epoch's order, nor that of views
    chance = np.random.default_rng([seed, epoch, stream])
    parts = np.split(order, np.cumsum(steps)[:-1])
    usual = [part for part in parts if len(part) == steps[0]]
    result = []
    for start in range(0, len(usual), MIXED_STEPS):
        mixed = usual[start : start + MIXED_STEPS]
        rows = np.concatenate(mixed)
        by_length = rows[np.argsort(lengths[rows], kind="stable")]
        pieces = np.split(by_length, len(mixed))
        result += [pieces[number] for number in chance.permutation(len(pieces))]
    return np.concatenate([*result, *parts[len(usual) :]])


def training_batches(
    order: Rows, *, batch_size: int, rank: int = 0, world_size: int = 1
) -> list[Rows]:
    """Return the batches of one process.

    All processes have equally many. What they hold in the same step is, taken together, the batch
    that one process would take there with a ``batch_size`` W times as large.

    Args:
        order: ``(N,)`` the epoch's order, the same on every process.
        batch_size: B.
        rank: Which process, from 0.
        world_size: W.

    Raises:
        TrainingError: There are fewer than two rows for each process.
    """
    steps = training_steps(len(order), batch_size=batch_size, world_size=world_size)
    return [step[rank::world_size] for step in np.split(order, np.cumsum(steps)[:-1])]


def evaluation_batches(
    rows: Rows, *, batch_size: int, rank: int = 0, world_size: int = 1
) -> list[Rows]:
    """Return the batches that one process looks at without training, in rising order.

    Every row is in one batch of one process. The batches are the same for any number of processes,
    so that what a network says of a row is, too; a process may have one batch more than another.

    Args:
        rows: ``(N,)`` numbers of samples.
        batch_size: B.
        rank: Which process, from 0.
        world_size: W.
    """
    ordered = np.sort(rows)
    batches = np.split(ordered, np.arange(batch_size, len(ordered), batch_size))
    batches = [batch for batch in batches if len(batch)]
    first, last = (len(batches) * number // world_size for number in (rank, rank + 1))
    return batches[first:last]


def neighbors(batches: Sequence[Rows], count: int) -> list[Sequence[Rows]]:
    """Return the batches in groups of ``count`` that follow each other."""
    return [batches[start : start + count] for start in range(0, len(batches), count)]
