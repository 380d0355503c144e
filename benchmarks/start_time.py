"""How long commands take that load no model: ``python benchmarks/start_time.py``."""

import statistics
import subprocess
import sys
from functools import partial

from harness import seconds_of

RUNS = 7
COMMANDS = (["--version"], ["--help"], ["audit", "--help"])


def start(args: list[str]) -> None:
    """Run one command to its end."""
    command = [sys.executable, "-m", "labelfix", *args]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Print the least and the median time of each command."""
    for args in COMMANDS:
        times = [seconds_of(partial(start, args)) for _ in range(RUNS)]
        middle = statistics.median(times)
        print(f"labelfix {' '.join(args):<14} least {min(times):.2f} s, median {middle:.2f} s")


if __name__ == "__main__":
    main()
