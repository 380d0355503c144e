"""Writing files so that nothing half-written is ever seen under its own name."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from labelfix.errors import LabelfixError, RunError

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


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to; rename it to ``target`` if the block succeeds.

    Raises:
        RunError: The disk is full or the folder cannot be written to; nothing is left behind.
    """
    with _explained(target):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
    draft = Path(name)
    try:
        with _explained(target):
            yield draft
            draft.chmod(0o666 & ~_umask())
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a folder beside ``target`` to fill; rename it to ``target`` if the block succeeds.

    Raises:
        RunError: ``target`` is there already, the disk is full, or the place cannot be written to.
    """
    if target.exists():
        raise RunError(f"{target} is there already", hint="name a folder that does not exist yet")
    with _explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with _explained(target):
            yield draft
            draft.chmod(0o777 & ~_umask())
            draft.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def nameless_file(folder: Path) -> Iterator[IO[bytes]]:
    """Yield a file in a folder to put something aside in: it is gone when it is closed.

    Raises:
        RunError: The disk is full or the folder cannot be written to.
    """
    with _explained(folder), tempfile.TemporaryFile(dir=folder) as file:
        yield file


def make_folder(path: Path) -> None:
    """Make a folder and its parents, or say why that cannot be.

    Raises:
        RunError: The place cannot be written to, or a file is in the way.
    """
    with _explained(path):
        path.mkdir(parents=True, exist_ok=True)


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
