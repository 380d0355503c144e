"""How much processor time an audit of small data takes, with all threads and with one.

    python benchmarks/processor_time.py [--images 24 300 3000] [--rounds 3] [--busy 0 1]
        [--side 32] [--folder DIR]

Writes pictures of ten classes or fewer, a twentieth of them with a wrong label, and runs
``labelfix audit`` on them in a process of its own, each time with an empty cache: as it is, and
with ``OMP_NUM_THREADS=1``. Prints the medians of user and system time together; the bar is 1.3
times that of one thread. With ``--busy 1`` another process keeps one core busy meanwhile. Other
jobs on the machine make times longer.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from harness import bar, new_parser

RATIO = 1.3
"""The bar."""

CLASSES = 10

COUNT = "import os\nwhile os.getppid() != 1: pass"
"""What a busy process does, until the one that started it has ended."""

OURS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
"""Variables that are removed from the environment, so that labelfix chooses."""


def write(folder: Path, images: int, side: int) -> None:
    """Write a class folder of noisy stripes, each class with a slope and a color of its own."""
    rng = np.random.default_rng(0)
    classes = min(CLASSES, max(2, images // 8))
    across, down = np.meshgrid(np.arange(side), np.arange(side))
    for number in range(images):
        label = number % classes
        given = label if rng.random() > 0.05 else int(rng.integers(classes))
        waves = np.sin((across * np.cos(label) + down * np.sin(label)) / 2 + rng.random() * 6)
        pixels = 127 + 60 * waves[..., None] * rng.random(3) + rng.normal(0, 20, (side, side, 3))
        place = folder / f"class-{given}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number:06}.png")


def audit(data: Path, place: Path, threads: int | None) -> tuple[float, float]:
    """Return the processor time and the wall time of one audit, in seconds."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    words = [sys.executable, "-m", "labelfix", "audit", str(data), "--out", str(place / "run")]
    words += ["--cache", str(place / "cache"), "--quiet", "--tune", "head"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, check=True, env=environment)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def compare(data: Path, folder: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median processor and wall time of both ways, turn by turn."""
    found: dict[str, list[tuple[float, float]]] = {"one thread": [], "as it is": []}
    for _ in range(rounds):
        for (name, times), threads in zip(found.items(), (1, None), strict=True):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                found[name] = [*times, audit(data, Path(place), threads)]
    return {
        name: (statistics.median(t[0] for t in times), statistics.median(t[1] for t in times))
        for name, times in found.items()
    }


@contextmanager
def counting(processes: int) -> Iterator[None]:
    """Keep so many cores busy."""
    others = [subprocess.Popen([sys.executable, "-c", COUNT]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    arguments = parse()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, side {arguments.side} px")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for images in arguments.images:
            write(Path(folder) / str(images), images, arguments.side)
        for busy in arguments.busy:
            for images in arguments.images:
                with counting(busy):
                    found = compare(Path(folder) / str(images), Path(folder), arguments.rounds)
                ratio = found["as it is"][0] / found["one thread"][0]
                told = ", ".join(f"{n} {cpu:.1f} s ({w:.1f} s)" for n, (cpu, w) in found.items())
                beside = "beside a busy process" if busy else "alone"
                met = bar(ratio <= RATIO, str(RATIO))
                print(f"{images:6,} images {beside}: {told}: {ratio:.2f} {met}")


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[24, 300, 3000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, nargs="+", choices=(0, 1), default=[0, 1])
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--folder", type=Path, help="where to write data, caches and runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
