"""How much memory this process takes, and how much it may take.

What counts is anonymous memory, which the system cannot give to others: pages of files it can drop
and read again.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

DEFAULT_SHARE = 0.6
"""The share of the available memory that an audit takes where nobody says how much it may."""

_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_UNKNOWN = 8 << 30


def anonymous_bytes(process: int | None = None) -> int:
    """Return the anonymous memory of this process, or of another; 0 where that is not told."""
    return _kibibytes(_PROC / str(process or "self") / "status", "RssAnon")


def available_memory(proc: Path = _PROC, groups: Path = _GROUPS) -> int:
    """Return the bytes that this machine, and the group that this process is in, have left.

    Where neither tells it, 8 GiB are taken for granted.

    Args:
        proc: Where the system tells of its processes.
        groups: Where it tells of control groups.
    """
    left = [_kibibytes(proc / "meminfo", "MemAvailable"), *_left_in_groups(proc, groups)]
    known = [size for size in left if size > 0]
    if known:
        return min(known)
    with suppress(AttributeError, ValueError, OSError):  # Windows has none of it
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return _UNKNOWN


def give_back_freed() -> None:
    """Give the system back what was freed, which the C library of Linux keeps for later.

    After a training it keeps gigabytes.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library, or another system
        ctypes.CDLL(None).malloc_trim(0)


def _kibibytes(file: Path, key: str) -> int:
    """Return the bytes that a line ``key: N kB`` tells; 0 without one."""
    with suppress(OSError, ValueError, IndexError):
        for line in file.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    return 0


def _left_in_groups(proc: Path, groups: Path) -> Iterator[int]:
    """Yield what each control group that this process is in leaves it, version 2 and 1."""
    lines: list[str] = []
    with suppress(OSError):
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = groups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = groups / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        place = root / path.lstrip("/")
        for folder in (place, *place.parents):
            if not folder.is_relative_to(root):
                break
            with suppress(OSError, ValueError):  # no limit there, or the word max
                limit, used = (int((folder / name).read_text()) for name in names[:2])
                yield max(limit - used + _reclaimable(folder, names[2]), 1)


def _reclaimable(folder: Path, name: str) -> int:
    """Return the pages of files in a group, which it gives up for others."""
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
