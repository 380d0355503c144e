"""Threads that each work alone, so that no result depends on how many there are."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

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


def cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows cannot bind a process
        return os.cpu_count() or 1


def blocks_of(size: int, length: int) -> list[slice]:
    """Return slices that cover ``size`` rows, ``length`` at a time."""
    return [slice(start, min(start + length, size)) for start in range(0, size, length)]
