"""A disk of a few bytes, where this process may mount one."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A file system in memory, of a size that can be changed."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def resize(self, size: int) -> None:
        """Give it so many bytes, rounded up to whole pages."""
        _mount("-o", f"remount,rw,size={max(size, 1)}", str(self.place))

    def forbid_writing(self) -> None:
        _mount("-o", "remount,ro", str(self.place))


@contextmanager
def small_disk(place: Path, size: int = 1 << 30) -> Iterator[SmallDisk]:
    """Yield a disk of so many bytes; skip the test where none can be mounted."""
    place.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    try:
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)
