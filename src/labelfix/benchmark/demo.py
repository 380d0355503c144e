"""A small data set with known mistakes, to see an audit at work.

scikit-learn's 1,797 handwritten digits as class folders. The true labels lie beside the data; only
`labelfix.benchmark.demo_score` reads them.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from labelfix.benchmark.demo_score import PLANTED, TRUTH_COLUMNS, TRUTH_NAME
from labelfix.errors import RunError
from labelfix.utils.files import atomic_folder

Content = TypeVar("Content")

DATA_NAME = "data"

PLANTED_SHARE = 0.08
"""The share of the digits that get a wrong label; half of them one at random."""

LOOK_ALIKE = {0: 6, 1: 7, 2: 7, 3: 8, 4: 9, 5: 6, 6: 0, 7: 1, 8: 3, 9: 4}
"""The other half's wrong label: the class that a hasty eye takes the digit for."""

SIDE = 32
"""Pixels a side of the pictures; the digits are drawn with 8."""


@dataclass(frozen=True, slots=True)
class DemoData:
    """What was written: the data, the truth beside them, and how much of what."""

    data: Path
    truth: Path
    samples: int
    planted: int
    plural: str = "images"


@dataclass(frozen=True, slots=True)
class DemoSample(Generic[Content]):
    """A sample that an audit is to score.

    Args:
        name: Its ``sample_id``.
        given: The label that it gets.
        true: The right one.
        kind: What was done to it: see `write_demo`.
        content: The sample itself.
    """

    name: str
    given: int | str
    true: int | str
    kind: str
    content: Content


def write_demo(folder: Path, *, seed: int = 0) -> DemoData:
    """Write the demo data: ``folder/data/<class>/*.png`` and ``folder/truth.csv``.

    The ``kind`` of a sample in the truth says what was done to it:

    - ``clean``: nothing;
    - ``random`` or ``look-alike``: its label is planted, 4 % of the digits each;
    - ``copy``: byte for byte the picture of a clean digit, under a wrong label. It is wrong too,
      but not counted among the planted ones;
    - ``broken``: a PNG that was cut off half-way, under its right label.

    Args:
        folder: A folder that is not there yet, or empty.
        seed: Decides which labels are planted.

    Raises:
        RunError: ``folder`` is there already and not empty, or cannot be written to.
    """
    samples = _samples(np.random.default_rng(seed))
    with demo_folder(folder) as draft:
        for sample in samples:
            path = draft / DATA_NAME / sample.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sample.content)
        return write_truth(samples, draft, folder, DATA_NAME, "images")


@contextmanager
def demo_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill, which takes its place if the block succeeds.

    Raises:
        RunError: ``folder`` is there already and not empty, or cannot be written to.
    """
    if folder.is_dir():
        if any(folder.iterdir()):
            raise RunError(
                f"{folder} is there already and not empty",
                hint="name a folder that does not exist yet",
            )
        folder.rmdir()
    with atomic_folder(folder) as draft:
        yield draft


def write_truth(
    samples: Sequence[DemoSample[Any]], draft: Path, folder: Path, data_name: str, plural: str
) -> DemoData:
    """Write the truth beside the data, and return what was written.

    Args:
        samples: All of them.
        draft: Where the data were written.
        folder: What becomes of the draft.
        data_name: What an audit is to read in it.
        plural: What the samples are called.
    """
    with (draft / TRUTH_NAME).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(TRUTH_COLUMNS)
        for sample in sorted(samples, key=lambda sample: sample.name):
            writer.writerow((sample.name, sample.given, sample.true, sample.kind))
    planted = sum(sample.kind in PLANTED for sample in samples)
    return DemoData(folder / data_name, folder / TRUTH_NAME, len(samples), planted, plural)


def _samples(rng: np.random.Generator) -> list[DemoSample[bytes]]:
    digits = load_digits()
    true = digits.target
    given, kind = plant(true, np.array(list(LOOK_ALIKE.values())), rng)
    samples = [
        DemoSample(
            f"{given[i]}/digit-{i:04}.png", int(given[i]), int(true[i]), str(kind[i]), _png(x)
        )
        for i, x in enumerate(digits.images)
    ]
    copied, broken = rng.choice(np.flatnonzero(kind == "clean"), 2, replace=False).tolist()
    return [*samples, _wrong_copy(samples[copied]), _broken(samples[broken])]


def plant(
    true: NDArray[np.int64], look_alike: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Return ``(N,)`` labels to give, 8 % of them wrong, and what was done to each.

    Args:
        true: ``(N,)`` codes.
        look_alike: ``(K,)`` the class that each is easily taken for.
        rng: Draws.
    """
    classes = len(look_alike)
    chosen = rng.choice(len(true), round(PLANTED_SHARE * len(true)), replace=False)
    at_random, alike = np.array_split(chosen, 2)
    given = true.copy()
    given[at_random] = (true[at_random] + rng.integers(1, classes, len(at_random))) % classes
    given[alike] = look_alike[true[alike]]
    kind = np.full(len(true), "clean", dtype="<U10")
    kind[at_random] = "random"
    kind[alike] = "look-alike"
    return given, kind


def _wrong_copy(sample: DemoSample[bytes]) -> DemoSample[bytes]:
    label = LOOK_ALIKE[int(sample.true)]
    name = f"{label}/copy-of-{Path(sample.name).name}"
    return DemoSample(name, label, sample.true, "copy", sample.content)


def _broken(sample: DemoSample[bytes]) -> DemoSample[bytes]:
    half = sample.content[: len(sample.content) // 2]
    name = f"{sample.true}/broken-{Path(sample.name).name}"
    return DemoSample(name, sample.true, sample.true, "broken", half)


def _png(digit: NDArray[np.float64]) -> bytes:
    """Return an ``(8, 8)`` digit with ink from 0 to 16 as a smooth picture, dark on light."""
    grey = Image.fromarray((255 - digit * (255 / 16)).round().astype(np.uint8))
    buffer = io.BytesIO()
    grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()
