"""Runs to review: a small one whose report is made up, over images that are there, and its page."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from small_report import Sample, report_of

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.report.io import write_report

SCRIPT = "<script>document.title='taken'</script>".replace("/", "\u2215")
"""What a hostile name would run; a file system takes it but for the slash."""

HOSTILE_CLASS = "<img src=x onerror=document.title='taken'>"


def write_images(folder: Path, classes: tuple[str, ...], each: int) -> Path:
    """Write a class folder of small pictures, no two of them alike."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder


def write_run(data: Path, run: Path, *, unflagged: int = 10) -> Path:
    """Write the report on a class folder: the first of each class are not flagged."""
    dataset = open_dataset(data, DatasetConfig())
    names = dataset.sample_id.to_pylist()
    classes = len(dataset.class_names)
    samples, seen = [], [0] * classes
    for number, (name, given) in enumerate(zip(names, dataset.given_label.tolist(), strict=True)):
        seen[given] += 1
        flagged = seen[given] > unflagged
        error = 0.99 - 0.4 * number / len(names) if flagged else 0.02
        suggested = (given + 1) % classes if flagged else None
        samples.append(Sample(name, given, error, suggested=suggested, certainty=0.9))
    run.mkdir(parents=True)
    report = report_of(samples, dataset.class_names, dataset=dataset)
    write_report(report, run / "report.parquet")
    return run


@dataclass
class Page:
    """A review page that a process of its own serves."""

    process: "subprocess.Popen[str]"
    address: str

    def kill(self) -> None:
        """End the process as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def served(run: Path, *more: str) -> Iterator[Page]:
    """Serve a run by the real command until the block ends."""
    command = [sys.executable, "-m", "labelfix", "review", str(run), "--no-browser", *more]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    )
    assert process.stdout is not None
    try:
        said = iter(process.stdout)
        address = next(line for line in said if line.startswith("open http"))
        yield Page(process, address.removeprefix("open ").strip())
    finally:
        process.kill()
        process.communicate()
