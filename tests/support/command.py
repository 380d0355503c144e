"""Run the real command, in this process: a new one would spend most of its time on imports."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

from labelfix.cli.console import run_as_process
from labelfix.cli.main import app


def labelfix(*args: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``labelfix``; what it prints and its exit code are as of a process."""
    command = ["labelfix", *map(str, args)]
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    place = contextlib.chdir(cwd) if cwd is not None else contextlib.nullcontext()
    given, code = sys.argv, 0
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]), place:
        sys.argv = command
        try:
            run_as_process(app)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        finally:
            sys.argv = given
    out, err = (_text_of(stream) for stream in streams)
    return subprocess.CompletedProcess(command, code, out, err)


def _text_of(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]
