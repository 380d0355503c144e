"""How many planted copies are found, what else is reported as a copy, and how long it takes.

    python benchmarks/duplicates.py flowers128.parquet --rows benchmarks/results/duplicates.jsonl \
        [--copies 200] [--seed 0] [--pictures FOLDER] [--timing 200000 1280]

Plants copies of random images: a quarter are encoded again (JPEG of quality 40 to 90), a quarter
are resized (each side to 50 to 90 %, or 110 to 150 %), a quarter are slightly cropped (each side to
85 to 97 %, anywhere), a quarter are made darker or brighter by up to 40 %. A copy is found if it is
in one near-duplicate set with its original. ``--loosely`` compares thumbnails alone.

Sets with neither a planted copy nor byte-identical images have to be scored by eye:
``--pictures`` draws them on sheets, one set in each row. ``--timing`` times N made-up images with D
features and thumbnails of noise instead.
"""

import argparse
import io
import json
import resource
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from harness import append_row, new_parser, open_labels
from labelfix.config import BackboneConfig, IssueConfig
from labelfix.data.duplicates import find_duplicates
from labelfix.issues.find import find_issue_kinds
from labelfix.modalities.base import get_modality
from labelfix.modalities.image.backbone import load_backbone
from labelfix.modalities.image.decode import decode_image
from labelfix.modalities.image.features import compute_features, typical_side
from labelfix.types import MISSING, Features, ImageStatistics, SampleStore

WAYS = ("encoded", "resized", "cropped", "brightened")
SHEET_SIDE = 160


class WithCopies:
    """The first images of a data set, and copies of some of them after those."""

    def __init__(self, images: SampleStore, size: int, copies: list[bytes]) -> None:
        self._images, self._size, self._copies = images, size, copies

    def __len__(self) -> int:
        return self._size + len(self._copies)

    def read(self, index: int) -> bytes:
        """Return an encoded image."""
        is_copy = index >= self._size
        return self._copies[index - self._size] if is_copy else self._images.read(index)

    def location(self, index: int) -> str:
        """Return which image it is."""
        return f"image {index}"


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--copies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label-column")
    parser.add_argument("--images", type=int, help="only so many, from the first")
    parser.add_argument("--rows", type=Path, help="a JSON Lines file to add the figures to")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--loosely", action="store_true", help="compare thumbnails alone")
    parser.add_argument("--timing", type=int, nargs=2, metavar=("N", "D"))
    arguments = parser.parse_args()
    figures = measure_time(*arguments.timing) if arguments.timing else find_planted(arguments)
    print(json.dumps(figures, indent=1))
    if arguments.rows is not None:
        append_row(arguments.rows, figures)


def find_planted(arguments: argparse.Namespace) -> dict[str, Any]:
    dataset = open_labels(arguments.data, arguments.label_column)
    size = min(len(dataset), arguments.images or len(dataset))
    rng = np.random.default_rng(arguments.seed)
    originals = rng.choice(size, arguments.copies, replace=False)
    ways = [WAYS[number % len(WAYS)] for number in range(arguments.copies)]
    copies = [
        copy_of(decode_image(dataset.store.read(row)), way, rng)
        for row, way in zip(originals.tolist(), ways, strict=True)
    ]
    images = WithCopies(dataset.store, size, copies)
    backbone = load_backbone(BackboneConfig(), typical_side(images))
    with tempfile.TemporaryDirectory() as cache:
        features = compute_features(
            images,
            "planted",
            backbone,
            cache=Path(cache),
            batch_size=backbone.best_batch_size,
        )
        given = np.append(dataset.given_label[:size], dataset.given_label[originals])
        duplicates = find_duplicates(features, given)
        start = time.perf_counter()
        modality = get_modality("image")
        kinds = find_issue_kinds(
            features,
            given,
            duplicates,
            IssueConfig(),
            modality,
            closely=None if arguments.loosely else partial(modality.compare_closely, images, {}),
        )
        seconds = time.perf_counter() - start
    sets = kinds.near_duplicate_set
    is_found = (sets[size:] == sets[originals]) & (sets[size:] != MISSING)
    natural = natural_sets(sets, size, duplicates.exact_duplicate_set)
    if arguments.pictures is not None:
        draw(images, natural, arguments.pictures)
    conflicts = np.unique(duplicates.exact_duplicate_set[duplicates.is_conflicting])
    reported = [
        bool(kinds.is_conflicting[duplicates.exact_duplicate_set == number].all())
        for number in conflicts.tolist()
    ]
    return {
        "data": arguments.data.name,
        "images": size,
        "copies": arguments.copies,
        "seed": arguments.seed,
        "loosely": arguments.loosely,
        "found": float(is_found.mean()),
        **{f"found_{way}": float(is_found[[one == way for one in ways]].mean()) for way in WAYS},
        "sets": int(sets.max() + 1),
        "sets_with_several_originals": mixed_sets(sets, size, originals),
        "natural_sets": len(natural),
        "limit": kinds.limits["near_duplicate"],
        "conflicting_exact_sets": len(reported),
        "conflicting_exact_sets_reported": sum(reported),
        "seconds": round(seconds, 2),
    }


def copy_of(image: Image.Image, way: str, rng: np.random.Generator) -> bytes:
    width, height = image.size
    if way == "encoded":
        return encode(image, int(rng.integers(40, 91)))
    if way == "resized":
        share = rng.uniform(0.5, 0.9) if rng.random() < 0.7 else rng.uniform(1.1, 1.5)
        sides = (max(8, round(width * share)), max(8, round(height * share)))
        return encode(image.resize(sides, Image.Resampling.BICUBIC), int(rng.integers(75, 96)))
    if way == "brightened":
        factor = rng.uniform(0.6, 0.9) if rng.random() < 0.5 else rng.uniform(1.1, 1.4)
        return encode(ImageEnhance.Brightness(image).enhance(factor), int(rng.integers(75, 96)))
    share = rng.uniform(0.85, 0.97)
    kept = (max(4, round(width * share)), max(4, round(height * share)))
    left = int(rng.integers(0, width - kept[0] + 1))
    top = int(rng.integers(0, height - kept[1] + 1))
    part = image.crop((left, top, left + kept[0], top + kept[1]))
    return encode(part, int(rng.integers(75, 96)))


def encode(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def natural_sets(
    sets: NDArray[np.int64], size: int, exact: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Return the sets that are neither a planted pair nor byte-identical images, as rows."""
    found = []
    for number in range(int(sets.max()) + 1):
        rows = np.flatnonzero((sets == number) & (np.arange(len(sets)) < size))
        is_exact = exact[rows[0]] != MISSING and len(np.unique(exact[rows])) == 1
        if len(rows) > 1 and not is_exact:
            found.append(rows)
    return found


def mixed_sets(sets: NDArray[np.int64], size: int, originals: NDArray[np.int64]) -> int:
    """Return how many sets hold a planted copy and an image that is not its original."""
    of_copies = sets[size:]
    pairs = zip(of_copies.tolist(), originals.tolist(), strict=True)
    return sum(
        bool(((sets[:size] == number) & (np.arange(size) != original)).any())
        for number, original in pairs
        if number != MISSING
    )


def draw(images: SampleStore, sets: list[NDArray[np.int64]], folder: Path) -> None:
    """Write sheets of ten sets, one set in each row."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(sets), 10):
        part = sets[start : start + 10]
        widest = max(map(len, part))
        sheet = Image.new("RGB", (widest * SHEET_SIDE, len(part) * SHEET_SIDE), "white")
        for line, rows in enumerate(part):
            for column, row in enumerate(rows.tolist()):
                picture = decode_image(images.read(row))
                picture.thumbnail((SHEET_SIDE - 4, SHEET_SIDE - 4))
                sheet.paste(picture, (column * SHEET_SIDE, line * SHEET_SIDE))
        sheet.save(folder / f"sets-{start:04d}.png")


def measure_time(size: int, width: int) -> dict[str, Any]:
    features = made_up(size, width)
    given = np.zeros(size, np.int64)
    duplicates = find_duplicates(features, given)
    before = peak_bytes()
    start, processor = time.perf_counter(), time.process_time()
    kinds = find_issue_kinds(features, given, duplicates, IssueConfig(), get_modality("image"))
    return {
        "images": size,
        "features": width,
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "more_bytes_an_image": round((peak_bytes() - before) / size),
        "sets": int(kinds.near_duplicate_set.max() + 1),
    }


def made_up(size: int, width: int) -> Features:
    """Return features in clusters, with a spectrum that falls like that of real features."""
    rng = np.random.default_rng(0)
    directions = 300
    falls = np.arange(1, directions + 1, dtype=np.float32)[:, None] ** -0.5
    basis = rng.standard_normal((directions, width), dtype=np.float32) * falls
    centers = rng.standard_normal((500, directions), dtype=np.float32)
    values = np.empty((size, width), np.float16)
    for start in range(0, size, 10_000):
        rows = min(10_000, size - start)
        place = centers[rng.integers(0, 500, rows)]
        place = place + rng.standard_normal((rows, directions), dtype=np.float32)
        noise = rng.standard_normal((rows, width), dtype=np.float32)
        values[start : start + rows] = place @ basis + 0.3 * noise
    flat = np.full(size, 0.5, np.float32)
    thumbnails = rng.integers(0, 256, (size, 32, 32), dtype=np.uint8)
    content = np.array([f"{row:015d}x" for row in range(size)], "S16")
    return Features(values, content, {}, ImageStatistics(flat, flat, flat, 100 * flat, thumbnails))


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
