"""How long commands take that load no model: ``python benchmarks/start_time.py``."""

import statistics
import subprocess
import sys
import time

RUNS = 7
COMMANDS = (["--version"], ["--help"], ["audit", "--help"])


def seconds(args: list[str]) -> float:
    """Return the wall time of one start."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "labelfix", *args]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Print the least and the median time of each command."""
    for args in COMMANDS:
        times = [seconds(args) for _ in range(RUNS)]
        middle = statistics.median(times)
        print(f"labelfix {' '.join(args):<14} least {min(times):.2f} s, median {middle:.2f} s")


if __name__ == "__main__":
    main()
