"""Who is at work on a RUN folder: one process that writes to it, and any number of reviews."""

import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from labelfix.errors import RunError
from labelfix.utils.files import atomic_path
from labelfix.utils.reading import parse_json

LOCK_NAME = ".labelfix.lock"
OWNER_NAME = ".labelfix.owner.json"

_REVIEW = ".labelfix.review-"
"""Each review holds a lock of its own, as several may be open."""

_LONGEST_COMMAND = 300


def is_lock(name: str) -> bool:
    """Return whether a file in a RUN folder says who is at work there."""
    return name in (LOCK_NAME, OWNER_NAME) or name.startswith(_REVIEW)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes of labelfix from writing to a RUN folder; a killed one frees it.

    Raises:
        RunError: Another process is writing to it, or the folder cannot be written to.
    """
    lock = _acquire(folder)
    try:
        _write_owner(folder / OWNER_NAME)
        yield
    finally:
        for name in (OWNER_NAME, LOCK_NAME):  # while it is held: see _is_current
            with suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        lock.release()


@contextmanager
def under_review(folder: Path) -> Iterator[None]:
    """Say that a review of the run in a folder is open, so that nothing replaces the run.

    Where the folder cannot be written to, nothing is said.
    """
    path = folder / f"{_REVIEW}{uuid4().hex}.lock"
    owner = path.with_suffix(".json")
    lock = FileLock(path, timeout=0)
    try:
        with suppress(OSError, NotImplementedError, RunError):
            lock.acquire()
            _write_owner(owner)
        yield
    finally:
        for left in (path, owner):
            with suppress(OSError):
                left.unlink(missing_ok=True)
        lock.release()


def is_under_review(folder: Path) -> bool:
    """Return whether a review of the run in a folder is open."""
    return any(True for _ in _reviews(folder))


def refuse_while_reviewed(folder: Path) -> None:
    """Refuse to replace a run while another process reviews it.

    A notebook serves a review beside it until it ends, and so may replace what it reviews itself.

    Raises:
        RunError: A review of it is open.
    """
    for owner in _reviews(folder):
        if not _is_of_this_process(owner):
            raise RunError(
                f"{folder} is open for review, in {_told(owner)}",
                hint="end that review with Ctrl-C and repeat the command, or choose another "
                "folder for --out",
            )


def _reviews(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield who reviews a run; what killed reviews left behind is removed."""
    for path in sorted(folder.glob(f"{_REVIEW}*.lock")):
        owner = path.with_suffix(".json")
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield read_json(owner) or {}
            continue
        except (OSError, NotImplementedError):  # nobody can tell
            continue
        for left in (path, owner):
            with suppress(OSError):
                left.unlink(missing_ok=True)
        lock.release()


def _acquire(folder: Path) -> FileLock:
    path = folder / LOCK_NAME
    while True:
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise RunError(
                f"{folder} is being written to by {_told(read_json(folder / OWNER_NAME) or {})}",
                hint="wait until it has ended, or name another folder",
            ) from None
        except NotImplementedError:  # a disk that knows no locks
            return lock
        except OSError as error:
            raise RunError(
                f"cannot write {path}: {error.strerror or error}",
                hint="free some space or choose another place for the output",
            ) from error
        if _is_current(lock, path):
            return lock
        lock.release()


def _is_current(lock: FileLock, path: Path) -> bool:
    """Return whether the lock is on the file that lies there.

    Its last holder may have removed that file after this process had opened it.
    """
    handle = getattr(getattr(lock, "_context", None), "lock_file_fd", None)
    if handle is None or os.name != "posix":
        return True
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _write_owner(path: Path) -> None:
    command = shlex.join(sys.orig_argv)
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": command[:_LONGEST_COMMAND] + "..." * (len(command) > _LONGEST_COMMAND),
    }
    with atomic_path(path) as draft:
        draft.write_bytes(json_bytes(owner))


def _told(owner: Mapping[str, Any]) -> str:
    """Return who holds a lock, in words."""
    if not all(key in owner for key in ("pid", "host", "since", "command")):
        return "another process of labelfix"
    return f"process {owner['pid']} on {owner['host']} since {owner['since']}: {owner['command']}"


def _is_of_this_process(owner: Mapping[str, Any]) -> bool:
    return (owner.get("pid"), owner.get("host")) == (os.getpid(), socket.gethostname())


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object of a file: ``None`` if it is not there, nothing if it is damaged."""
    try:
        content = parse_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):  # a file may be in the way further up
        return None
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Return an object of JSON as the bytes of a file."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return (text + "\n").encode("utf-8", "backslashreplace")  # a path need not be Unicode
