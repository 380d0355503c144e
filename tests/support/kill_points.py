"""Kill a process before the k-th thing that it changes below a folder, or fill its disk."""

import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelfix.utils.files import is_draft

KILLED = 137
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def run_to_the_end(work: Callable[[], Any]) -> int:
    """Do some work in a process of its own; return its exit status."""
    return _forked(work, lambda: None)


def run_and_kill(work: Callable[[], Any], folder: Path, point: int) -> bool:
    """Do some work and kill it before change number ``point``; return whether it came so far."""
    status = _forked(work, lambda: _kill_at(folder, point))
    assert status in (0, KILLED), status
    return status == KILLED


def kills(work: Callable[[], Any], folder: Path, *, every: int = 1) -> Iterator[int]:
    """Kill some work before one change after the other, until it comes to its end."""
    point = 1
    while run_and_kill(work, folder, point):
        yield point
        point += every


def drafts_below(folder: Path) -> list[str]:
    """Return the drafts and locks that are left anywhere below a folder."""
    return [
        path.name
        for path in folder.rglob("*")
        if is_draft(path.name) or path.name.startswith(".labelfix")
    ]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Make every write beyond so many bytes of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _forked(work: Callable[[], Any], prepare: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            prepare()
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _kill_at(folder: Path, point: int) -> None:
    within, count = os.fspath(folder), 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        is_change = bool((args[2] or 0) & _WRITING) if event == "open" else event in _CHANGES
        if is_change and any(_is_below(argument, within) for argument in args):
            count += 1
            if count == point:
                os._exit(KILLED)

    sys.addaudithook(hook)


def _is_below(path: Any, folder: str) -> bool:
    if not isinstance(path, str | os.PathLike):
        return False
    text = os.fspath(path)
    return text == folder or text.startswith(folder + os.sep)
