"""Large arrays that an audit fills: in memory where they are small, else in files without a name.

What a mapped file holds the system writes out and reads back as it needs the memory for others, so
an audit takes more samples than fit. Where an array lies changes no figure.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from weakref import WeakSet

import numpy as np
from numpy.typing import DTypeLike, NDArray

from labelfix.config.sizes import told_bytes
from labelfix.errors import RunError

MAPPED_SHARE = 1 / 16
"""The largest share of a budget that one array takes in memory: an audit fills four at once."""

_ZEROS = bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where large arrays lie.

    Args:
        folder: Of the files; nothing in it has a name.
        largest: Bytes of an array up to which it lies in memory.
        mappings: Of the arrays that lie in files, as long as somebody holds them.
    """

    folder: Path
    largest: int
    mappings: "WeakSet[mmap.mmap]" = field(default_factory=WeakSet)


_SCRATCH: ContextVar[Scratch | None] = ContextVar("scratch", default=None)


@contextmanager
def large_arrays_in(folder: Path, budget: int) -> Iterator[None]:
    """Let arrays of the block that are large for a budget lie in files of a folder.

    A context, as neither encoders nor scoring have to know how much memory there is. The files have
    no name, so that nothing is left of them even where the process is killed.

    Args:
        folder: Where the disk has space; it has to be there when an array is made.
        budget: Bytes of memory that the whole audit may take.
    """
    token = _SCRATCH.set(Scratch(folder, int(budget * MAPPED_SHARE)))
    try:
        yield
    finally:
        _SCRATCH.reset(token)


def is_large(shape: tuple[int, ...], dtype: DTypeLike) -> bool:
    """Return whether an array would lie in a file."""
    scratch = _SCRATCH.get()
    return scratch is not None and _bytes_of(shape, dtype) > scratch.largest


def new_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros, in a file where it is large for the budget of the context.

    Call it in the thread that began the context.

    Raises:
        RunError: The disk is full, or the folder cannot be written to.
    """
    scratch = _SCRATCH.get()
    if scratch is None or not is_large(shape, dtype):
        return np.zeros(shape, dtype)
    size = _bytes_of(shape, dtype)
    try:
        with tempfile.TemporaryFile(dir=scratch.folder, prefix=".labelfix-scratch-") as file:
            _reserve(file, size)
            mapping = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise RunError(
            f"{told_bytes(size)} of scratch space cannot be had in {scratch.folder}: "
            f"{error.strerror or error}",
            hint="free space there, or allow more memory with --memory",
        ) from error
    scratch.mappings.add(mapping)
    return np.frombuffer(mapping, np.dtype(dtype)).reshape(shape)


def let_go_of_pages() -> None:
    """Take no page of a file for resident any more; what is wanted again is mapped again.

    Between stages of an audit, so that the resident memory, by which a process is measured, holds
    what the present stage looks at.
    """
    scratch = _SCRATCH.get()
    if scratch is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    for mapping in list(scratch.mappings):
        mapping.madvise(mmap.MADV_DONTNEED)


def _reserve(file: IO[bytes], size: int) -> None:
    """Take the space now: a full disk would end the process when a page is first written to."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, len(_ZEROS)):
        file.write(_ZEROS[: size - start])
    file.flush()


def _bytes_of(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
