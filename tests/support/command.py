"""Run the real command as a process."""

import subprocess
import sys
from pathlib import Path


def labelfix(*args: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labelfix", *map(str, args)],
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        check=False,
    )
