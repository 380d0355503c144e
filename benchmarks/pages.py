"""How long the page of a large report takes to write, how big it is, and how soon it paints.

    python benchmarks/pages.py [--samples 1000000] [--classes 1000] [--side 1024] [--seed 0]
        [--folder DIR] [--keep FILE]

Makes a report in which a fiftieth of the rows is flagged, with near-copies, outliers and neighbors
as they usually occur, and photographs of noise with ``--side`` pixels a side. Then it writes the
page, prints what that cost, and opens it in Chromium where that is installed. The bars are 15 MB
and a first paint below a second. Other jobs on the machine make times longer: there they are upper
bounds.
"""

import argparse
import io
import os
import resource
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from harness import bar, new_parser
from labelfix.modalities.image.rendering import pictures_of
from labelfix.report.html.page import write_page
from labelfix.report.schema import PRED_PROBS, arrow_schema, with_late_columns
from labelfix.report.types import Report, RunInfo
from labelfix.types import DatasetSource
from labelfix.utils.progress import no_progress

MEGABYTES = 15.0
PAINT_SECONDS = 1.0
"""The bars."""

BROWSER = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking")

PAINT = """
const tell = arguments[0];
new PerformanceObserver((list) => {
  for (const paint of list.getEntriesByName("first-contentful-paint")) tell(paint.startTime);
}).observe({type: "paint", buffered: true});
"""

PHOTOS = 16
"""How many different photographs are made; the rows share them in turn."""


@dataclass
class Photos:
    """The images of N rows, out of a few."""

    encoded: list[bytes]
    size: int

    def __len__(self) -> int:
        return self.size

    def read(self, index: int) -> bytes:
        """Return the encoded image of a row."""
        return self.encoded[index % len(self.encoded)]

    def location(self, index: int) -> str:
        """Return a name."""
        return f"photo-{index}"


def make_photos(samples: int, side: int, rng: np.random.Generator) -> Photos:
    """Return photographs of coarse noise, which JPEG holds about as well as it does leaves."""
    encoded = []
    for _ in range(PHOTOS):
        coarse = rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((side, side)).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    return Photos(encoded, samples)


def make_report(samples: int, classes: int, rng: np.random.Generator) -> Report:
    """Return a report with all the columns that a page reads."""
    names = tuple(f"class {code:04}" for code in range(classes))
    given = rng.integers(0, classes, samples)
    suggested = (given + rng.geometric(0.3, samples)) % classes
    error = rng.beta(0.15, 4, samples).astype(np.float32)
    is_flagged = np.zeros(samples, np.bool_)
    is_flagged[np.argsort(-error)[: samples // 50]] = True
    labels = pa.array(names)
    nobody = pa.array(np.zeros(samples, np.bool_))
    columns = {
        "sample_id": pa.array([f"photos/{row:07}.jpg" for row in range(samples)]),
        "split": pa.array(np.where(rng.random(samples) < 0.9, "train", "test").tolist()),
        "given_label": labels.take(pa.array(given)),
        "predicted_label": labels.take(pa.array(np.where(is_flagged, suggested, given))),
        "suggested_label": labels.take(pa.array(suggested, mask=~is_flagged)),
        "is_label_issue": pa.array(is_flagged),
        "label_score": pa.array(1 - error),
        "label_error_probability": pa.array(error),
        "suggested_label_probability": pa.array(error, mask=~is_flagged),
        "sample_weight": pa.array(np.ones(samples, np.float32)),
        "fold": pa.array((np.arange(samples) % 5).astype(np.int16)),
        "is_unreadable_issue": nobody,
        "is_exact_duplicate_issue": nobody,
        "exact_duplicate_set": pa.nulls(samples, pa.int64()),
        "is_conflicting_duplicate_issue": nobody,
        "reason": pa.nulls(samples, pa.string()),
    }
    schema = arrow_schema(names)
    schema = pa.schema([field for field in schema if field.name in columns])
    table = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
    more = _more_columns(samples, rng)
    for name in [name for name in more if name not in table.column_names]:
        table = table.append_column(name, more[name])
    assert PRED_PROBS not in table.column_names  # a page does not read them
    return Report(with_late_columns(table), names, _run_info(error))


def _more_columns(samples: int, rng: np.random.Generator) -> dict[str, pa.Array]:
    """Return near-copies, a hundredth of the rows in pairs, and outliers, a thousandth."""
    is_near = np.zeros(samples, np.bool_)
    is_near[rng.permutation(samples)[: samples // 200 * 2]] = True
    sets = np.zeros(samples, np.int64)
    sets[is_near] = np.arange(np.count_nonzero(is_near)) // 2
    score = rng.random(samples).astype(np.float32)
    return {
        "near_duplicate_set": pa.array(sets, mask=~is_near),
        "is_near_duplicate_issue": pa.array(is_near),
        "is_conflicting_near_duplicate_issue": pa.array(is_near & (sets % 2 == 0)),
        "outlier_score": pa.array(score),
        "is_outlier_issue": pa.array(score < 0.001),
    }


def _run_info(error: np.ndarray[Any, np.dtype[np.float32]]) -> RunInfo:
    rate = float(error.mean())
    return RunInfo(
        source=DatasetSource("folder", Path("/data/photos"), {}),
        fingerprint="0" * 32,
        noise_rate=rate,
        noise_rate_interval=(rate * 0.8, rate * 1.2),
        modality="image",
        backbone="tf_efficientnet_lite0",
        seed=0,
        versions={},
        settings={"tune": "head", "image_size": 224},
    )


def write_neighbors(run: Path, report: Report, rng: np.random.Generator) -> None:
    """Write ten neighbors of each row at random."""
    samples = report.table.num_rows
    offsets = pa.array(np.arange(0, 10 * samples + 1, 10, dtype=np.int32))
    rows = pa.array(rng.integers(0, samples, 10 * samples))
    cosines = pa.array(rng.random(10 * samples, np.float32))
    table = {
        "sample_id": report.table["sample_id"],
        "neighbors": pa.ListArray.from_arrays(offsets, rows),
        "similarities": pa.ListArray.from_arrays(offsets, cosines),
    }
    pq.write_table(pa.table(table), run / "neighbors.parquet")


def first_paint(page: Path, profile: Path) -> float | None:
    """Return the seconds until the first paint of a page; ``None`` without a browser."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        return None
    from selenium import webdriver  # noqa: PLC0415 - an optional package

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (*BROWSER, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        browser.get(page.as_uri())
        return float(browser.execute_async_script(PAINT)) / 1000
    finally:
        browser.quit()


def main() -> None:
    arguments = parse()
    rng = np.random.default_rng(arguments.seed)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    report = make_report(arguments.samples, arguments.classes, rng)
    photos = make_photos(arguments.samples, arguments.side, rng)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        run, profile = Path(folder) / "run", Path(folder) / "profile"
        run.mkdir()
        write_neighbors(run, report, rng)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, started = time.perf_counter(), time.process_time()
        page = write_page(run, report, pictures_of(photos, no_progress))
        wall, work = time.perf_counter() - start, time.process_time() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = page.stat().st_size / 1e6
        print(f"{arguments.samples:,} samples, {arguments.classes:,} classes")
        print(f"the page is written in  {wall:6.1f} s, with {work:.1f} s of work")
        print(f"memory beyond the rest  {(peak - before) / 2**10:6.0f} MiB")
        print(f"its size                {size:6.2f} MB {bar(size < MEGABYTES, str(MEGABYTES))}")
        paint = first_paint(page, profile)
        if paint is not None:
            told = bar(paint < PAINT_SECONDS, str(PAINT_SECONDS))
            print(f"first paint after       {paint:6.2f} s {told}")
        if arguments.keep is not None:
            shutil.copy(page, arguments.keep)


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--side", type=int, default=1024, help="pixels a side of the photographs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to write what is measured")
    parser.add_argument("--keep", type=Path, help="copy the page to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
