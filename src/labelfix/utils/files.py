"""Writing files so that nothing half-written is ever seen under its own name.

A file is written under a draft's name first. A draft is locked while its process lives, so what a
killed process left is told from what another one is writing just now, and is taken away by the
next process that writes the same target.
"""

import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from labelfix.errors import ConfigError, LabelfixError, RunError
from labelfix.utils.interrupts import interrupts_held

DISK_SHARE = 0.8
"""The largest share of the free space that a cache may take."""

_SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def refuse_special_file(path: Path, fault: type[LabelfixError]) -> None:
    """Refuse a pipe, a socket or a device before it is opened: reading one may never end.

    What is not there, or cannot be looked up, is left to whoever reads it.

    Raises:
        LabelfixError: Of the kind ``fault``: the path is such a thing, or leads to one.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    what = next((name for is_it, name in _SPECIAL if is_it(mode)), None)
    if what is None:
        return
    is_descriptor = path.as_posix().startswith(("/dev/fd/", "/proc/", "/dev/std"))
    if what == "a named pipe" and is_descriptor:
        what = "a pipe"
    raise fault(
        f"{path} is {what}, not a regular file",
        hint="write it to a file first, and give that file"
        if is_descriptor
        else "give a regular file",
    )


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_DRAFT_SUFFIX = ".labelfix-draft"
_DRAFT = re.compile(rf"\..*\.[a-z0-9_]{{8}}{re.escape(_DRAFT_SUFFIX)}", re.DOTALL)
_LONGEST_STEM = 100
"""Bytes of a target's name in the name of its draft, which must not become too long for a disk."""

_SURELY_DEAD = 86_400
"""Seconds after which a draft counts as left behind where drafts cannot be locked."""


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to; rename it to ``target`` if the block succeeds.

    Raises:
        RunError: The disk is full or the folder cannot be written to; nothing is left behind.
    """
    with _explained(target):
        remove_drafts_of(target)
    with _draft_of(target, is_folder=False) as draft, _explained(target):
        yield draft
        draft.chmod(0o666 & ~_umask())
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(target)


@contextmanager
def atomic_folder(target: Path, *, may_be_there: bool = False) -> Iterator[Path]:
    """Yield a folder beside ``target`` to fill; rename it to ``target`` if the block succeeds.

    Args:
        target: The folder.
        may_be_there: Whether one may be there until the block ends, which has to take it away.

    Raises:
        RunError: ``target`` is there already, the disk is full, or the place cannot be written to.
    """
    if target.exists() and not may_be_there:
        raise RunError(f"{target} is there already", hint="name a folder that does not exist yet")
    with _explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_drafts_of(target)
    with _draft_of(target, is_folder=True) as draft, _explained(target):
        yield draft
        draft.chmod(0o777 & ~_umask())
        draft.replace(target)


@contextmanager
def _draft_of(target: Path, *, is_folder: bool) -> Iterator[Path]:
    """Yield a new draft, which is gone after the block, even if Ctrl-C comes while it is made."""
    with interrupts_held():
        with _explained(target):
            draft, lock = _new_draft(target, is_folder=is_folder)
        try:
            with interrupts_held(is_held=False):
                yield draft
        finally:
            if is_folder:
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)
            if lock is not None:
                os.close(lock)


def remove_drafts_of(target: Path) -> None:
    """Take away the drafts of a file or folder that killed processes left beside it."""
    stem = _stem(target)
    _remove_drafts(target.parent, lambda name: name[: -len(_DRAFT_SUFFIX) - 9] == stem)


def remove_drafts_in(folder: Path) -> None:
    """Take away all drafts of labelfix in a folder whose processes were killed."""
    _remove_drafts(folder, lambda name: True)


def is_draft(name: str) -> bool:
    """Return whether a file of this name is a draft of labelfix."""
    return _DRAFT.fullmatch(name) is not None


@contextmanager
def anonymous_file(folder: Path) -> Iterator[IO[bytes]]:
    """Yield a file in a folder to put something aside in: it is gone when it is closed.

    Raises:
        RunError: The disk is full or the folder cannot be written to.
    """
    with (
        _explained(folder),
        tempfile.TemporaryFile(dir=folder, prefix=".aside.", suffix=_DRAFT_SUFFIX) as file,
    ):
        yield file


def make_folder(path: Path) -> None:
    """Make a folder and its parents, or say why that cannot be.

    Raises:
        RunError: The place cannot be written to, or a file is in the way.
    """
    with _explained(path):
        path.mkdir(parents=True, exist_ok=True)


def has_space(unfinished: Path, wanted: int) -> bool:
    """Return whether so many bytes may be written, or were begun to be, in a folder of a cache."""
    place = unfinished.parent
    while not place.exists():
        place = place.parent
    is_space = wanted <= DISK_SHARE * shutil.disk_usage(place).free
    # looked at last, as another process may be taking the space right now
    return is_space or unfinished.is_dir()


def _stem(target: Path) -> str:
    return "." + os.fsencode(target.name)[:_LONGEST_STEM].decode("utf-8", "ignore")


def _new_draft(target: Path, *, is_folder: bool) -> tuple[Path, int | None]:
    """Return a new draft, and the handle that holds its lock: ``None`` where it cannot be had."""
    make: Callable[..., str] = tempfile.mkdtemp if is_folder else _make_file
    while True:
        draft = Path(make(prefix=f"{_stem(target)}.", suffix=_DRAFT_SUFFIX, dir=target.parent))
        lock = _open_to_lock(draft)
        if lock is not None:
            with suppress(OSError):  # a disk that knows no locks
                _lock(lock)
        if draft.exists():  # or else it was taken for one left behind, before it was locked
            return draft, lock
        if lock is not None:
            os.close(lock)


def _make_file(**place: Any) -> str:
    handle, name = tempfile.mkstemp(**place)
    os.close(handle)
    return str(name)


def _open_to_lock(draft: Path) -> int | None:
    """Return a handle on a draft; ``None`` where a folder has none, and if it is gone."""
    try:
        return os.open(draft, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None


def _lock(handle: int) -> None:
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_drafts(folder: Path, is_meant: Callable[[str], bool]) -> None:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if is_draft(entry.name)]
    except OSError:
        return
    for name in names:
        if is_meant(name):
            _remove_if_left(folder / name)


def _remove_if_left(draft: Path) -> None:
    """Take away a draft unless its process may still be there."""
    lock = _open_to_lock(draft)
    try:
        if not _is_left(draft, lock):
            return
        if draft.is_dir() and not draft.is_symlink():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)
    except OSError:  # it is another user's, say: then it stays
        return
    finally:
        if lock is not None:
            os.close(lock)


def _is_left(draft: Path, lock: int | None) -> bool:
    if fcntl is not None and lock is not None:
        try:
            _lock(lock)
        except BlockingIOError:
            return False
        except OSError:
            pass
        else:
            return True
    return time.time() - draft.lstat().st_mtime > _SURELY_DEAD


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(
            f"cannot write {target}: {reason}",
            hint="free some space or choose another place for the output",
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def remove_checkpoints(folder: Path) -> None:
    """Delete all of them, and what a killed process left of one; files of others stay."""
    if not folder.is_dir():
        return
    for path in folder.glob("*.pt"):
        path.unlink()
    remove_drafts_in(folder)
    with suppress(OSError):  # a file of someone else's keeps the folder
        folder.rmdir()


def refuse_overwriting_inputs(places: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse to write over or into what was read.

    Raises:
        ConfigError: A place lies in an input.
    """
    for place in places:
        for path in inputs:
            if not isinstance(path, os.PathLike):
                continue  # an address, which nothing is written to
            if place.resolve().is_relative_to(path.resolve()):
                raise ConfigError(
                    f"{place} lies in {path}, which labelfix never changes",
                    hint="choose another place",
                )


def refuse_existing_folder(to: Path) -> None:
    """Refuse a folder that is there and holds something.

    Raises:
        RunError: It is not empty, or a file.
    """
    if to.is_dir() and not any(to.iterdir()):
        return
    if to.exists():
        raise RunError(
            f"{to} is there already and not an empty folder",
            hint="name a folder that does not exist yet; a folder is never overwritten",
        )


def refuse_existing_file(to: Path, *, overwrite: bool) -> None:
    """Refuse a file that is there, unless it may be replaced.

    Raises:
        RunError: It is there, or a folder.
    """
    if to.is_dir():
        raise RunError(f"{to} is a folder", hint="name a file to write to")
    if to.exists() and not overwrite:
        raise RunError(f"{to} is there already", hint="choose another name, or add --overwrite")
