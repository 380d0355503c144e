"""Helpers of several tests, first written for test_dataset_forms."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


CLASSES = {
    f"{label}/{number}.png": picture(number)
    for number, label in enumerate(["cat", "dog", "cat", "dog"])
}


# WebDataset


def shard(numbers: range, note: str = "cls") -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for n in numbers:
        files[f"{n:04}.png"] = picture(n)
        if note == "cls":
            files[f"{n:04}.cls"] = str(n % 2).encode()
        elif note == "json":
            record = {"label": ["cat", "dog"][n % 2], "caption": f"no {n}", "id": f"n{n}"}
            files[f"{n:04}.json"] = json.dumps(record).encode()
        else:
            files[f"{n:04}.txt"] = ["cat", "dog"][n % 2].encode() + b"\n"
    return files


# Hugging Face


def hugging(features, numbers):
    datasets = pytest.importorskip("datasets")
    rows = {
        "image": [{"bytes": picture(n), "path": f"{n}.png"} for n in numbers],
        "label": [n % 2 for n in numbers],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def folder_with_metadata(root: Path, form: str) -> None:
    for split, numbers in (("train", range(3)), ("test", range(3, 6))):
        (root / split).mkdir(parents=True)
        rows = []
        for n in numbers:
            (root / split / f"{n}.png").write_bytes(picture(n))
            rows.append({"file_name": f"{n}.png", "label": ["cat", "dog"][n % 2]})
        if form == "csv":
            lines = ["file_name,label", *(f"{r['file_name']},{r['label']}" for r in rows)]
            (root / split / "metadata.csv").write_text("\n".join(lines))
        elif form == "jsonl":
            lines = [json.dumps(row) for row in rows]
            (root / split / "metadata.jsonl").write_text("\n".join(lines))
        else:
            pq.write_table(pa.Table.from_pylist(rows), root / split / "metadata.parquet")
