"""Helpers of several tests, first written for test_export."""

import io
from pathlib import Path

from PIL import Image
from small_report import Sample, report_of

from labelfix.report.io import write_report
from labelfix.types import MISSING

CAT, DOG = 0, 1

SURE = {"error": 0.99, "certainty": 0.98}

SAMPLES = [
    Sample("clean", CAT, weight=1.25),
    Sample("sure", CAT, suggested=DOG, weight=0.01, **SURE),
    Sample("unsure what", CAT, 0.99, suggested=DOG, certainty=0.6, weight=0.01),
    Sample("maybe", CAT, 0.7, suggested=DOG, certainty=0.7, weight=0.3),
    Sample("test", CAT, suggested=DOG, split="Test", weight=0.01, **SURE),
    Sample("broken", CAT, None, unreadable="empty file", weight=0),
    Sample("test broken", CAT, None, unreadable="empty file", split="test", weight=0),
    Sample("unlabeled", MISSING, None, exclusion_reason="not scored: it has no label", weight=0),
]


def png(color: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (color, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def files_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def class_folder(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(number))
    return root


def run_of(folder: Path, samples=SAMPLES, class_names=("cat", "dog")) -> Path:
    write_report(report_of(samples, class_names), folder / "report.parquet")
    return folder
