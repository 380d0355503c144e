"""Many audits in one process leave nothing behind: no thread, no open file, no memory.

``pytest -s`` prints what was measured.
"""

import gc
import os
import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import labelfix
from fault_jobs import make_job

KINDS = ("probabilities", "head", "full")
WARM = 2
"""After so many rounds, libraries hold what they keep for good."""

MEMORY_OF_AN_AUDIT = 2 << 20
"""Bytes that an audit may leave behind on average: what the allocator keeps in odd places."""


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    threads: int
    files: int
    memory: int


def held() -> Held:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = list(Path("/proc/self/fd").iterdir())
    return Held(threading.active_count(), len(files), pages * os.sysconf("SC_PAGE_SIZE"))


def audit_again_and_again(folder: Path, rounds: int) -> list[Held]:
    """Audit each kind of data so many times; return what was held after each round."""
    jobs = [make_job(kind, folder / kind) for kind in KINDS]
    found = []
    for _ in range(rounds):
        for job in jobs:
            for place in (job.run, job.cache):
                shutil.rmtree(place, ignore_errors=True)
            done = labelfix(*job.words())
            assert done.returncode == 0, done.stderr
        found.append(held())
    return found


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it reads what Linux tells")
@pytest.mark.parametrize("rounds", [3, pytest.param(8 + WARM, marks=pytest.mark.slow)])
def test_audits_leave_no_thread_no_file_and_no_memory(tmp_path: Path, rounds: int) -> None:
    found = audit_again_and_again(tmp_path, rounds)
    warm, last = found[WARM - 1], found[-1]
    audits = (rounds - WARM) * len(KINDS)
    grown = (last.memory - warm.memory) / audits
    sys.stdout.write(
        f"\n{audits} audits after {WARM * len(KINDS)}: {last.threads - warm.threads} threads, "
        f"{last.files - warm.files} files, {grown / 2**20:.2f} MiB an audit\n"
    )
    assert last.threads <= warm.threads
    assert last.files <= warm.files
    assert grown < MEMORY_OF_AN_AUDIT * (4 if rounds < WARM + 8 else 1)
