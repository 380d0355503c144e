"""Portions of a batch: smaller ones where memory runs out, one a core where cores are free.

Letters: B images of a batch.
"""

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch

from labelfix.arguments import named
from labelfix.config import refuse_unknown_device
from labelfix.errors import BackboneError, TrainingError


def warm_up_and_cosine(steps: int, warm_up_share: float = 0.1) -> Callable[[int], float]:
    """Return the factor of the peak rate at each step: a linear rise, then half a cosine to 0.

    Args:
        steps: Of the whole run.
        warm_up_share: The share of them that the rise takes.
    """
    warm_up = max(1, round(steps * warm_up_share))

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / warm_up)
        return rise * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))

    return factor


T = TypeVar("T")

_TOLD_BY_OTHERS = ("can't allocate memory", "out of memory")
"""What the CPU's allocator and other devices say in a plain `RuntimeError`."""


_SMALLER = (
    "choose a smaller --image-size or --backbone; with several processes a smaller "
    "--train-batch-size helps too"
)


class MicroBatcher:
    """How many images go through a network at once: all of a batch until memory runs out.

    Args:
        size: To begin with; ``None`` takes each batch whole.
        least: No portion is smaller; ``None`` never cuts a batch.
    """

    def __init__(self, size: int | None = None, *, least: int | None = 1) -> None:
        self.size = size
        self._least = least

    def run(self, count: int, work: Callable[[list[slice]], T]) -> T:
        """Return what work on a batch returns, done anew in smaller portions while memory lacks.

        A size that did not fit into memory is not tried again on a later batch.

        Args:
            count: B.
            work: Takes the portions of the batch, in order; may be called several times.

        Raises:
            TrainingError: Memory is too small for the smallest portions, too.
        """
        while True:
            portions = self.split(count)
            try:
                return work(portions)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                largest = max(portion.stop - portion.start for portion in portions)
                if self._least is None or len(portions) >= count // self._least:
                    raise _is_out_of_memory(largest) from error
            # only here: while an error is handled, its traceback keeps what filled the memory
            self.size = max(self._least, -(-largest // 2))
            if torch.cuda.is_available():
                gc.collect()
                torch.cuda.empty_cache()

    def split(self, count: int) -> list[slice]:
        """Return the portions of a batch of B: of equal sizes, give or take one."""
        if self.size is None or self._least is None:
            return [slice(0, count)]
        parts = max(1, min(-(-count // self.size), count // self._least))
        edges = [count * number // parts for number in range(parts + 1)]
        return [slice(*pair) for pair in pairwise(edges)]


@contextmanager
def explain_out_of_memory() -> Iterator[None]:
    """Turn an error that memory has run out, where nothing can be cut, into one for a person.

    Raises:
        TrainingError: Memory has run out.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError("memory has run out", hint=_SMALLER) from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error of torch says that memory has run out, on any device."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return any(words in str(error).lower() for words in _TOLD_BY_OTHERS)


def _is_out_of_memory(count: int) -> TrainingError:
    images = "1 image" if count == 1 else f"{count} images"
    return TrainingError(
        f"memory runs out with {images} at a time, and fewer cannot be taken",
        hint=_SMALLER,
    )


@contextmanager
def one_core_threads(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads that each use one core of torch; drop waiting work on the way out."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # a worker's setting is taken over by new threads


@dataclass(frozen=True, slots=True, eq=False)
class CorePool:
    """Cores of the CPU that take portions of batches, one each.

    The portions of a batch, and so every sum over them, are the same for any number of cores.

    Args:
        executor: From `one_core_threads`.
        portion: Samples that one core takes of a batch, at most.
    """

    executor: ThreadPoolExecutor
    portion: int

    def split(self, count: int) -> list[slice]:
        """Return the portions of a batch of B: of equal sizes, give or take one."""
        return MicroBatcher(self.portion).split(count)

    def map(self, work: Callable[..., T], *of_portions: Sequence[Any]) -> list[T]:
        """Return what work returns of each portion, in order."""
        return list(self.executor.map(work, *of_portions))


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device multiplies in it natively, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = ("avx512_bf16", "amx_bf16", "amx_tile", "bf16")
        return torch.bfloat16 if any(capabilities.get(key) for key in native) else torch.float32
    return torch.float32


def choose_device(wanted: str) -> torch.device:
    """Return the device to run on; ``"auto"`` takes a GPU if there is one.

    Raises:
        BackboneError: The device that was asked for is not there.
    """
    refuse_unknown_device(wanted)
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = wanted.partition(":")
    is_there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not is_there[kind]:
        hint = f"use {named('device', value='cpu')} or {named('device', value='auto')}"
        raise BackboneError(f"there is no {kind} device here", hint=hint)
    if number and int(number) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise BackboneError(
            f"there is no device {wanted} here",
            hint="choose cuda:0" if last == 0 else f"choose one from cuda:0 to cuda:{last}",
        )
    return torch.device(wanted)
