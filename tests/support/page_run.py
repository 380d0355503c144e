"""A finished run with images to draw, for tests of what people look at."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from encoded_images import numbered
from small_report import Sample, report_of

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.report.io import write_report
from labelfix.report.types import Report
from labelfix.types import SampleStore

PLAIN = ("cat", "dog", "fox")
A_CLASS = 24
CLEAN, DOUBTFUL = 12, 12

HOSTILE_CLASS = '"><img src=x onerror="document.title=1">'
HOSTILE_FILE = "<script>document.title=2<%2Fscript>\u202egnp.{{7*7}}'--!>.png"


@dataclass(frozen=True)
class PageRun:
    """A RUN folder, its report, the data set it is of, and its images."""

    run: Path
    report: Report
    data: Path
    images: SampleStore


def make_run(folder: Path, classes=PLAIN, *, hostile: bool = False) -> PageRun:
    """Write a class folder and a report that flags the second half of each class."""
    data, run = folder / "pets", folder / "run"
    names = [*classes, HOSTILE_CLASS] if hostile else list(classes)
    for code, name in enumerate(names):
        (data / name).mkdir(parents=True)
        for number in range(A_CLASS):
            image = numbered(code * A_CLASS + number)
            end = HOSTILE_FILE if hostile and number == A_CLASS - 1 else ".png"
            (data / name / f"{number:02}{end}").write_bytes(image)
    dataset = open_dataset(data, DatasetConfig())
    report = report_of(_samples(dataset), dataset=dataset)
    run.mkdir()
    write_report(report, run / "report.parquet")
    return PageRun(run, report, data, dataset.store)


def _samples(dataset) -> list[Sample]:
    size = len(dataset.class_names)
    samples = []
    for row, (name, code) in enumerate(
        zip(dataset.sample_id.to_pylist(), dataset.given_label, strict=True)
    ):
        number = row % A_CLASS
        # towards the next class twice as often as towards the one after
        other = (int(code) + (1 if number % 3 else 2)) % size
        is_flagged = number >= CLEAN
        samples.append(
            Sample(
                name,
                int(code),
                0.5 + 0.49 * number / A_CLASS if is_flagged else 0.02,
                suggested=other if is_flagged and other != code else None,
                certainty=0.9,
                duplicate_set=0 if row in (1, A_CLASS + 1) else -1,
                conflicting=row in (1, A_CLASS + 1),
            )
        )
    return samples


def with_columns(report: Report, **columns) -> Report:
    """Return a report with more columns, or others."""
    table = report.table
    for name, values in columns.items():
        if name in table.column_names:
            table = table.drop_columns(name)
        table = table.append_column(name, pa.array(values))
    return replace(report, columns=table)


def write_neighbors(run: Path, rows, similarities, places=None) -> None:
    table = {
        "sample_id": pq.read_table(run / "report.parquet", columns=["sample_id"])["sample_id"],
        "neighbors": pa.array(rows, pa.list_(pa.int64())),
        "similarities": pa.array(similarities, pa.list_(pa.float32())),
    }
    if places is not None:
        table |= {"x": places[:, 0], "y": places[:, 1]}
    pq.write_table(pa.table(table), run / "neighbors.parquet")


def every_issue(report: Report, seed: int = 0) -> Report:
    """Return a report in which every kind of issue occurs."""
    rng = np.random.default_rng(seed)
    size = len(report)
    near = pa.array((np.arange(size) // 2).tolist(), mask=np.arange(size) >= 8)
    is_near = np.arange(size) < 8
    columns = {
        "split": ["test" if row % 6 == 0 else "train" for row in range(size)],
        "near_duplicate_set": near,
        "is_near_duplicate_issue": is_near,
        "is_conflicting_near_duplicate_issue": is_near & (np.arange(size) < 4),
    }
    for name in ("outlier", "dark", "bright", "blurry", "odd_size"):
        columns[f"is_{name}_issue"] = np.arange(size) % 5 == 1
        columns[f"{name}_score"] = rng.random(size).astype(np.float32)
    return with_columns(report, **columns)
