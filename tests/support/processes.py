"""Two processes that train together, without torchrun, which takes seconds to load."""

import os
import runpy
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from command_processes import start_process


@contextmanager
def two_processes(script: Path, *arguments: Any) -> Iterator[None]:
    """Run a script in two processes that find each other, beside what the block does.

    Each has to end well by the end of the block, and none outlives it.
    """
    port, words = _free_port(), [str(word) for word in arguments]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / f"{rank}.txt" for rank in (0, 1)]
        workers = [
            start_process(_run, str(script), words, port, rank, str(output))
            for rank, output in enumerate(outputs)
        ]
        try:
            yield
            for worker, output in zip(workers, outputs, strict=True):
                worker.join(120)
                assert worker.exitcode == 0, _end_of(worker, output)
        finally:
            for worker in workers:
                worker.kill()
                worker.join()


def _run(script: str, words: list[str], port: int, rank: int, output: str) -> None:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(place, WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank))
    handle = os.open(output, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(handle, stream)
    sys.argv = [script, *words]
    runpy.run_path(script, run_name="__main__")


def _end_of(worker: ForkServerProcess, output: Path) -> str:
    said = output.read_text("utf-8", "replace")[-2000:] if output.exists() else ""
    return f"it ended with {worker.exitcode}: {said}"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
