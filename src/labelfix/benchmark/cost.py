"""What a piece of work costs, and on what: time, memory, versions, commit, machine.

Memory is that of a whole process, so what is measured has a process of its own.
"""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from labelfix.utils.memory import anonymous_bytes
from labelfix.utils.text import versions_of
from labelfix.utils.threads import cores

GIB = 2**30

LIBRARIES = (
    "labelfix", "cleanlab", "datasets", "numpy", "pillow", "scikit-learn", "scipy", "timm", "torch",
    "tokenizers", "transformers", "wordllama",
)  # fmt: skip
"""Whose versions a row names, where they are installed."""


@dataclass(slots=True)
class Cost:
    """What some work cost; filled when the block of `measured` ends.

    Args:
        wall_seconds: On the clock.
        cpu_seconds: Of all threads, and of child processes that have ended.
        peak_gib: The largest resident memory so far of this process or one of its children; 0
            where the system does not tell.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_gib: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Yield the cost of the block."""
    cost = Cost()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    try:
        yield cost
    finally:
        cost.wall_seconds = time.perf_counter() - wall
        cost.cpu_seconds = _cpu_seconds() - cpu
        cost.peak_gib = peak_gib()


def anonymous_peak_gib(process: "subprocess.Popen[Any]", every: float = 0.02) -> float:
    """Wait for a process, and return the largest anonymous memory that it was seen with.

    Pages of files do not count: the system can give them to others. 0 where it does not tell.

    Args:
        process: It must not write to a pipe that nobody reads.
        every: Seconds between two looks.
    """
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous_bytes(process.pid))
        time.sleep(every)
    return peak / GIB


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_gib() -> float:
    """Return the largest resident memory so far of this process or one of its children."""
    return max(_own_peak(), _resource_peak("RUSAGE_CHILDREN")) / GIB


def _own_peak() -> float:
    # getrusage would count the memory of the parent too: a new process begins as its copy
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return _resource_peak("RUSAGE_SELF")
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _resource_peak(whose: str) -> float:
    try:
        resource = import_module("resource")
    except ImportError:  # Windows has none
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return float(unit * resource.getrusage(getattr(resource, whose)).ru_maxrss)


def gpu_name() -> str:
    """Return the GPU that this process has used through torch, ``""`` if none."""
    cuda = _used_cuda()
    return "" if cuda is None else str(cuda.get_device_name())


def gpu_peak_gib() -> float:
    """Return the most memory that torch has held on that GPU, 0 without one."""
    cuda = _used_cuda()
    return 0.0 if cuda is None else cuda.max_memory_allocated() / GIB


def _used_cuda() -> Any:
    torch: Any = sys.modules.get("torch")  # a process that never loaded it has used none
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return torch.cuda


def device_name(gpu: str = "") -> str:
    """Return the processor, the cores that this process may use, and the GPU if there is one."""
    return f"{_processor()}, {cores()} cores" + (f"; {gpu}" if gpu else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def library_versions() -> dict[str, str]:
    """Return the version of each of ``LIBRARIES`` that is installed."""
    return versions_of(LIBRARIES)


def source_commit() -> str:
    """Return the commit that labelfix runs from, with ``-dirty`` where its sources were changed.

    ``""`` where they lie in no git checkout.
    """
    sources = Path(__file__).parent
    commit = _git(sources, "rev-parse", "--short=12", "HEAD")
    if not commit or not _git(sources, "ls-files", Path(__file__).name):
        return ""
    return f"{commit}-dirty" if _git(sources, "status", "--porcelain", "--", ".") else commit


def _git(folder: Path, *args: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, encoding="utf-8", check=False
        )
    except OSError:  # no git here
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
