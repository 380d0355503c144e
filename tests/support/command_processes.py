"""The real command in processes of its own, which can be killed at any moment of any stage.

A server loads the libraries once, and every process is forked from it: a new one would spend
seconds on imports.
"""

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import labelfix as package

FIRST = "starting"
"""The stage before the command has said anything."""

_POLL = 0.002


@dataclass(frozen=True)
class Stage:
    """A stage of a command, as it says itself, and how many seconds it took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Ended:
    """What became of a process: its exit code, minus a signal perhaps, and all that it printed."""

    code: int
    said: str
    stages: tuple[Stage, ...] = ()

    @property
    def is_refusal(self) -> bool:
        """Return whether the process ended with one clear error, and a hint."""
        return (
            self.code == 1
            and sum(line.startswith("error: ") for line in self.said.splitlines()) == 1
            and "hint: " in self.said
            and not self.has_traceback
        )

    @property
    def has_traceback(self) -> bool:
        return "Traceback" in self.said or "Exception ignored" in self.said


@dataclass
class Running:
    """A command that is under way."""

    process: ForkServerProcess
    output: Path
    started: float
    _marks: list[tuple[str, float]] = field(default_factory=list)

    def said(self) -> str:
        return self.output.read_text("utf-8", "replace")

    def wait(self, seconds: float = 120) -> Ended:
        """Wait for its end, and note when each stage began."""
        end = time.monotonic() + seconds
        while self.process.is_alive():
            self._look()
            if time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f"still running after {seconds} s: {self.said()}")
            time.sleep(_POLL)
        self.process.join()
        code = self.process.exitcode
        assert code is not None
        ended = time.monotonic()
        marks = [(FIRST, self.started), *self._marks]
        ends = [began for _, began in marks[1:]] + [ended]
        stages = [Stage(name, end - began) for (name, began), end in zip(marks, ends, strict=True)]
        return Ended(code, self.said(), tuple(stages))

    def wait_for(self, stage: str) -> bool:
        """Wait until a stage begins; return ``False`` if the command ended before that."""
        while stage != FIRST and stage not in (name for name, _ in self._marks):
            if not self.process.is_alive():
                return False
            self._look()
            time.sleep(_POLL)
        return True

    def send(self, which: signal.Signals) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, which)

    def _look(self) -> None:
        names = stages_in(self.said())
        self._marks += [(name, time.monotonic()) for name in names[len(self._marks) :]]


def stages_in(said: str) -> list[str]:
    """Return the stages that a command has said it begins."""
    lines = [line for line in said.splitlines() if line.endswith(" ...")]
    return [line.removesuffix(" ...").rsplit(":", 1)[0] for line in lines]


class Commands:
    """Starts ``labelfix`` in processes that are forked from one that has loaded everything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.aside = folder / "temporary"

    def start(
        self,
        *args: str | Path,
        limits: Mapping[int, int] | None = None,
        is_powerless: bool = False,
    ) -> Running:
        """Start a command.

        Args:
            args: What follows ``labelfix``.
            limits: Resources, as ``resource`` names them, and how much of each it may take.
            is_powerless: Whether permissions bind the process even if root runs it.
        """
        self._count += 1
        output = self._folder / f"{self._count}.txt"
        self.aside.mkdir(exist_ok=True)
        words = [os.fspath(arg) for arg in args]
        process = start_process(
            _run, words, str(output), str(self.aside), dict(limits or {}), is_powerless
        )
        while not output.exists() and process.is_alive():
            time.sleep(_POLL)
        return Running(process, output, time.monotonic())

    def run(
        self,
        *args: str | Path,
        limits: Mapping[int, int] | None = None,
        is_powerless: bool = False,
    ) -> Ended:
        """Run a command to its end; the arguments are as of `start`."""
        return self.start(*args, limits=limits, is_powerless=is_powerless).wait()


def start_process(target: Callable[..., None], *args: Any) -> ForkServerProcess:
    """Start a function of a module in a process that has loaded the libraries already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["warm_libraries"])
    process = context.Process(target=target, args=args)
    with _found_by_the_server():
        process.start()
    return process


@contextmanager
def _found_by_the_server() -> Iterator[None]:
    """Let the server, if it starts now, find what it loads."""
    before = os.environ.get("PYTHONPATH")
    places = [str(Path(__file__).parent), str(Path(package.__file__).parents[1])]
    os.environ["PYTHONPATH"] = os.pathsep.join([*places, *([before] if before else [])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _run(
    words: list[str], output: str, aside: str, limits: dict[int, int], is_powerless: bool
) -> None:
    from labelfix.cli.console import run_as_process
    from labelfix.cli.main import app

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TMPDIR"], tempfile.tempdir = aside, None
    for which, size in limits.items():
        resource.setrlimit(which, (size, resource.getrlimit(which)[1]))
    if is_powerless:
        _drop_capabilities()
    sys.argv = ["labelfix", *words]
    handle = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(handle, stream)
    run_as_process(app)


def _drop_capabilities() -> None:
    """Let permissions bind this process, as they bind everybody but root."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")
