"""Threads that each work alone, so that no result depends on how many there are."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import TypeVar

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """Yield threads on which a matrix product of numpy takes one core."""
    with ThreadPoolExecutor(cores()) as pool, one_blas_thread():
        yield pool


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let numpy and scipy work out matrices on one core, so that sums have one order."""
    with threadpool_limits(1, "blas"):
        yield


_lent: int | None = None


def lend_cores(count: int) -> None:
    """Tell this process how many cores it was lent, where others share the machine with it."""
    global _lent
    _lent = count


def cores() -> int:
    """Return how many cores this process may use."""
    if _lent is not None:
        return _lent
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows cannot bind a process
        return os.cpu_count() or 1


def blocks_of(size: int, length: int) -> list[slice]:
    """Return slices that cover ``size`` rows, ``length`` at a time."""
    return [slice(start, min(start + length, size)) for start in range(0, size, length)]


RUNS_PER_THREAD = 4
"""Each thread gets so many runs of work: few, for each costs; several, for none to wait."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], pool: ThreadPoolExecutor
) -> Iterator[Result]:
    """Yield what ``work`` makes of each item, in the order of the items, by threads.

    The threads get whole runs of items: handing them over one by one takes as long as the work.
    """
    step = -(-len(items) // (RUNS_PER_THREAD * cores())) or 1
    runs = [items[start : start + step] for start in range(0, len(items), step)]
    return chain.from_iterable(pool.map(lambda run: [work(item) for item in run], runs))


def map_ahead(
    pool: ThreadPoolExecutor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    limit: int,
) -> Iterator[Result]:
    """Yield the results in order, with at most ``limit`` items under way."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > limit:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
