"""Ctrl-C ends the work, whatever a library makes of it.

Python raises ``KeyboardInterrupt`` wherever the main thread happens to be. Inside a foreign library
it may come out as an exception of that library, which reads like a damaged file, or not at all:
a finalizer swallows it. So the signal itself is noted.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType

from labelfix.utils.progress import OnProgress, Progress


class _Noted:
    """How often Ctrl-C came that nothing has ended for yet, and what becomes of the next one."""

    def __init__(self) -> None:
        self.count = 0
        self.is_kept = False
        self.is_held = False
        self.is_waiting = False


_noted = _Noted()


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """End the block with ``KeyboardInterrupt`` if Ctrl-C came, whatever it would raise instead.

    Blocks may lie in each other. Where Ctrl-C is ignored, or left to the system, and outside the
    main thread, nothing is done.

    Raises:
        KeyboardInterrupt: The block failed after Ctrl-C.
    """
    if not _is_main_thread():
        yield
        return
    with nullcontext() if _noted.is_kept else _counted():
        before = _noted.count
        try:
            yield
        except Exception as error:
            if _noted.count > before:
                raise KeyboardInterrupt from error
            raise


@contextmanager
def _counted() -> Iterator[None]:
    """Count the interrupts that come while the block runs, and say nothing of swallowed ones."""
    handler, told = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if not callable(handler):
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        _noted.count += 1
        _noted.is_waiting = _noted.is_held
        if not _noted.is_held:
            handler(number, frame)

    def tell(fault: "sys.UnraisableHookArgs") -> None:
        if not isinstance(fault.exc_value, KeyboardInterrupt):  # else it is raised again
            told(fault)

    signal.signal(signal.SIGINT, note)
    sys.unraisablehook = tell
    _noted.is_kept = True
    try:
        yield
    finally:
        _noted.is_kept, _noted.is_waiting, _noted.count = False, False, 0
        signal.signal(signal.SIGINT, handler)
        sys.unraisablehook = told


@contextmanager
def interrupts_held(*, is_held: bool = True) -> Iterator[None]:
    """Let Ctrl-C wait for the end of a block that makes something, or takes it away again.

    It can wait in a block of `interrupts_kept` alone, and is raised where nothing holds it.

    Args:
        is_held: ``False`` lets it through again in a block within such a block.
    """
    if not _is_main_thread():
        yield
        return
    before, _noted.is_held = _noted.is_held, is_held
    try:
        if not is_held:
            _raise_if_waiting()
        yield
    finally:
        _noted.is_held = before
    if not before:
        _raise_if_waiting()


def _raise_if_waiting() -> None:
    if _noted.is_waiting:
        _noted.is_waiting = False
        raise KeyboardInterrupt


@contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """Let Ctrl-C be the usual way to end the block; what follows is not interrupted."""
    before = _noted.count
    with suppress(KeyboardInterrupt):
        yield
    _noted.count = before


def raise_if_interrupted() -> None:
    """Raise an interrupt again that a library has swallowed, or turned into a fault of a sample.

    Raises:
        KeyboardInterrupt: Ctrl-C came in a block of `interrupts_kept`, which has not ended.
    """
    if _noted.count and _is_main_thread():
        raise KeyboardInterrupt


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def heeding_interrupts(on_progress: OnProgress) -> OnProgress:
    """Return what tells of progress, and raises an interrupt again that was swallowed before."""

    def tell(progress: Progress, /) -> None:
        raise_if_interrupted()
        on_progress(progress)

    return tell
