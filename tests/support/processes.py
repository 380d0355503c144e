"""Two processes that train together, without torchrun, which takes seconds to load."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def start_worker(script: Path, *arguments: Any, port: int, rank: int) -> "subprocess.Popen[str]":
    """Start one process of two; it finds the modules beside this one."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    world = {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    support = str(Path(__file__).parent)
    path = os.pathsep.join(filter(None, [support, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, *map(str, [script, *arguments])],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **place, **world, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )


@contextmanager
def running(workers: Sequence["subprocess.Popen[str]"]) -> Iterator[None]:
    """Wait for processes at the end of the block: each has to end well, and none outlives it."""
    try:
        yield
        for worker in workers:
            told = worker.communicate(timeout=120)[1]
            assert worker.returncode == 0, told[-2000:]
    finally:
        for worker in workers:
            worker.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
