"""Many audits in one process leave nothing behind: no thread, no open file, no memory.

``pytest -s`` prints what was measured.
"""

import gc
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import labelfix as command
from fault_jobs import make_job

import labelfix

KINDS = ("probabilities", "head", "full")
WARM = 2
"""After so many rounds, libraries hold what they keep for good."""

MEMORY_OF_AN_AUDIT = 2 << 20
"""Bytes that an audit may leave behind on average: what the allocator keeps in odd places."""


FROM_PYTHON = ("head", "texts")
"""What is audited from Python, in turn."""

WARM_FROM_PYTHON = 6
MEMORY_OF_EIGHTEEN = 6 << 20
"""Bytes that eighteen audits after the first six may leave behind together."""


@dataclass(frozen=True)
class Held:
    """What a process holds: memory is that which no file on disk stands behind."""

    threads: int
    files: int
    memory: int


def held() -> Held:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    files = list(Path("/proc/self/fd").iterdir())
    kilobytes = int(status.split("RssAnon:")[1].split()[0])
    return Held(threading.active_count(), len(files), kilobytes << 10)


def audit_again_and_again(folder: Path, rounds: int) -> list[Held]:
    """Audit each kind of data so many times; return what was held after each round."""
    jobs = [make_job(kind, folder / kind) for kind in KINDS]
    found = []
    for _ in range(rounds):
        for job in jobs:
            for place in (job.run, job.cache):
                shutil.rmtree(place, ignore_errors=True)
            done = command(*job.words())
            assert done.returncode == 0, done.stderr
        found.append(held())
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads what Linux tells")
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


def audit_from_python(folder: Path, audits: int) -> list[Held]:
    """Audit pictures and texts in turn, in runs that go away; return what was held after each."""
    jobs = [make_job(kind, folder / kind) for kind in FROM_PYTHON]
    found = []
    for number in range(audits):
        job = jobs[number % len(jobs)]
        shutil.rmtree(job.cache, ignore_errors=True)
        labelfix.audit(
            job.inputs[0], tune="head", config=folder / job.name / "audit.toml", cache=job.cache,
            device="cpu", progress=False,
        )  # fmt: skip
        found.append(held())
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads what Linux tells")
@pytest.mark.parametrize("audits", [8, pytest.param(24, marks=pytest.mark.slow)])
def test_audits_from_python_leave_no_thread_no_file_and_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, audits: int
) -> None:
    aside = tmp_path / "temporary"
    aside.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(aside))
    found = audit_from_python(tmp_path, audits)
    warm, last = found[WARM_FROM_PYTHON - 1], found[-1]
    sys.stdout.write(
        f"\naudit {audits} beside audit {WARM_FROM_PYTHON}: {last.threads - warm.threads} threads, "
        f"{last.files - warm.files} files, {(last.memory - warm.memory) / 2**20:+.2f} MiB\n"
    )
    assert last.threads == warm.threads
    assert last.files == warm.files
    assert last.memory - warm.memory < MEMORY_OF_EIGHTEEN
    assert list(aside.iterdir()) == []
