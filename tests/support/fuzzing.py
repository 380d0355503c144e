"""Files damaged in every way, and what readers may say of them: errors with a meaning only."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmark_row import ROW
from given_probs import noisy, write
from small_report import Sample, report_of

from labelfix.benchmark.rows import append_rows
from labelfix.benchmark.rows import read_rows as read_benchmark_rows
from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.decisions import Decision, DecisionLog, read_decisions
from labelfix.data.probabilities import open_pred_probs
from labelfix.errors import LabelfixError, UnreadableSample
from labelfix.issues.types import Neighbors
from labelfix.report.decisions import join_decisions
from labelfix.report.io import read_report_table, write_report
from labelfix.report.neighbors import read_neighbors, write_neighbors
from labelfix.report.run_folder import RunFolder
from labelfix.report.summary import summarize
from labelfix.report.training_log import _farthest, read_json, read_layers, read_log, summarize_log
from labelfix.report.view import ReportView
from labelfix.review.top_classes import read_top_classes
from labelfix.utils.progress import no_progress

JSON_BOMBS = (
    b"[" * 3000, b'{"a":' * 3000, b"1" * 5000, b"1e999", b"NaN", b'"\\ud800"', b"\xff\xfe{", b"{}",
    b"[]", b"null", b'""', b"-1", b"true", b'{"":[]}', b"\xef\xbb\xbf{}", b"1" * 400, b'{"a":1}',
)  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A reader and a good file for it."""

    name: str
    file: Path
    read: Callable[[], object]


def damaged(good: bytes, rng: random.Random, *, is_text: bool) -> bytes:
    """Return a file with some damage: bytes flipped, cut, doubled, or replaced by nonsense."""
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1) if data else 0
        size = rng.choice((1, 1, 4, 8, 60))
        how = rng.randrange(7 if is_text else 5)
        if how == 0 and data:
            data[at - 1 if at else 0] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[at : at + size] = rng.randbytes(size)
        elif how == 2:
            del data[at : at + size]
        elif how == 3:
            data[at:at] = data[max(0, at - size) : at]
        elif how == 4:
            data[at : at + 8] = rng.choice((b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b""))
        else:
            swap_value(data, rng)
    return bytes(data)


def swap_value(data: bytearray, rng: random.Random) -> None:
    """Put other JSON in the place of a value, whole line or word."""
    ends = [place for place, sign in enumerate(data) if sign in b':,[]{}\n"']
    if len(ends) > 1:
        first = rng.randrange(len(ends) - 1)
        start, stop = ends[first] + 1, ends[min(first + rng.choice((1, 2)), len(ends) - 1)]
        data[start : max(start, stop)] = rng.choice(JSON_BOMBS)


def swap_metadata(path: Path, rng: random.Random) -> None:
    """Write a Parquet file again with the JSON of its metadata, or its schema, damaged."""
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata or {})
    if metadata and rng.random() < 0.7:
        key = rng.choice(list(metadata))
        value = bytearray(metadata[key])
        swap_value(value, rng)
        metadata[key] = bytes(value)
    else:
        name = rng.choice(table.column_names)
        place = table.column_names.index(name)
        odd = rng.choice((
            pa.nulls(len(table)), pa.array([b"\xff\xfe"] * len(table)).cast(pa.binary()),
            pa.array([float("nan")] * len(table)), pa.array([[-1]] * len(table)),
            pa.array([{"a": 1}] * len(table)), pa.array(["zebra"] * len(table)),
            pa.array([2**62] * len(table)), pa.array([[0.5]] * len(table), pa.list_(pa.float32())),
            pa.array([[]] * len(table), pa.list_(pa.float32())),
            pa.StringArray.from_buffers(
                len(table), pa.array(np.arange(len(table) + 1, dtype=np.int32)).buffers()[1],
                pa.py_buffer(b"\xff" * len(table)),
            ),
        ))  # fmt: skip
        table = (
            table.remove_column(place)
            if rng.random() < 0.2 and len(table.column_names) > 1
            else table.set_column(place, name, odd)
        )
    pq.write_table(table.replace_schema_metadata(metadata), path)


def check(reader: Reader, data: bytes) -> str | None:
    """Return what came out of a reader that should not, if anything did."""
    try:
        reader.file.write_bytes(data)
        reader.read()
    except (LabelfixError, UnreadableSample) as error:
        if isinstance(error, LabelfixError) and not error.hint:
            return f"{reader.name}: no hint: {error}"
    except Exception as error:
        return f"{reader.name}: {type(error).__name__}: {str(error)[:200]}"
    return None


def spoil(reader: Reader, good: bytes, rng: random.Random) -> str | None:
    """Damage a file once, read it, and return what came out that should not."""
    is_parquet = reader.file.suffix == ".parquet"
    if is_parquet and rng.random() < 0.5:
        reader.file.write_bytes(good)
        swap_metadata(reader.file, rng)
        return check(reader, reader.file.read_bytes())
    is_text = not is_parquet and reader.file.suffix != ".npz"
    return check(reader, damaged(good, rng, is_text=is_text))


def readers_of_probabilities(folder: Path) -> list[Reader]:
    probs = noisy(count=30, classes=("café", "dog", "hen"))
    files = [write(folder / f"p.{form}", probs) for form in ("csv", "tsv", "parquet", "npz")]
    packed = folder / "packed.npz"
    np.savez_compressed(packed, pred_probs=probs.values, labels=np.zeros(30, int))

    def reading(path: Path) -> Callable[[], object]:
        return lambda: open_pred_probs([path], folder, no_progress, force=True)

    return [Reader(path.name, path, reading(path)) for path in [*files, packed]]


def readers_of_runs(folder: Path) -> list[Reader]:
    run = folder / "run"
    run.mkdir()
    report = report_of([Sample(f"{i}", error=0.5 if i % 2 else 0.1) for i in range(12)])
    write_report(report, run / "report.parquet")
    near = Neighbors(
        np.tile(np.arange(3), (12, 1)).astype(np.int64), np.full((12, 3), 0.5, np.float32)
    )
    write_neighbors(near, report.table["sample_id"].combine_chunks(), run / "neighbors.parquet")
    names = report.class_names
    DecisionLog(run).append(
        [Decision("1", "keep"), Decision("2", "relabel", names[0]), Decision("3", "undo")]
    )
    entry = {"fold": 0, "epoch": 1, "loss": 0.5, "corrected": 3, "boundary_share": 0.25}
    (run / "training_log.jsonl").write_text("".join(json.dumps(entry) + "\n" for _ in range(3)))
    layer = {"name": "a", "role": "stage", "depth": 1, "relative_distance": 0.1, "radius": 1.0,
             "distance": 0.1, "at_boundary": True}  # fmt: skip
    (run / "layers.json").write_text(json.dumps([layer, layer]))
    (run / "run.json").write_text(json.dumps({"claim": {"config": {}}, "seconds": {}}))
    (run / "diagnosis.json").write_text(json.dumps({"layers": [layer]}))
    append_rows(run / "rows.jsonl", [ROW, ROW])

    def whole_report() -> None:
        found = read_report_table(run)
        summarize(ReportView(found))
        read_top_classes(run, len(found), len(found.class_names))

    def reopened() -> None:
        held = RunFolder(run)
        held.is_finished({"config": {}})
        held._held()

    return [
        Reader("report", run / "report.parquet", whole_report),
        Reader(
            "neighbors",
            run / "neighbors.parquet",
            lambda: read_neighbors(run, report.table["sample_id"]),
        ),
        Reader(
            "decisions",
            run / "decisions.jsonl",
            lambda: join_decisions(report, read_decisions(run)),
        ),
        Reader(
            "training log",
            run / "training_log.jsonl",
            lambda: summarize_log(read_log(run / "training_log.jsonl")),
        ),
        Reader("layers", run / "layers.json", lambda: _farthest(read_layers(run / "layers.json"))),
        Reader("run.json", run / "run.json", reopened),
        Reader("diagnosis.json", run / "diagnosis.json", lambda: read_json(run / "diagnosis.json")),
        Reader("benchmark", run / "rows.jsonl", lambda: read_benchmark_rows(run / "rows.jsonl")),
    ]


def readers_of_data(folder: Path) -> list[Reader]:
    """Return the readers of manifests and Parquet with images."""
    (folder / "images").mkdir()
    ids = [f"images/{i}.png" for i in range(10)]
    for name in ids:
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    labels = ["cat", "dog"] * 5
    lines = [json.dumps({"image": i, "label": k}) for i, k in zip(ids, labels, strict=True)]
    texts = {
        "m.csv": "image,label\n" + "".join(f"{i},{k}\n" for i, k in zip(ids, labels, strict=True)),
        "m.tsv": "image\tlabel\n"
        + "".join(f"{i}\t{k}\n" for i, k in zip(ids, labels, strict=True)),
        "m.jsonl": "\n".join(lines),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    features = {
        "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
        "image": {"_type": "Image"},
    }
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table(
        {"image": [{"bytes": b"x", "path": i} for i in ids], "label": pa.array([0, 1] * 5)}
    )
    pq.write_table(table.replace_schema_metadata(metadata), folder / "h.parquet")
    pq.write_table(pa.table({"image": ids, "label": labels}), folder / "m.parquet")

    def reading(path: Path) -> Callable[[], object]:
        return lambda: open_dataset(path, DatasetConfig(), no_progress)

    files = [folder / name for name in (*texts, "h.parquet", "m.parquet")]
    return [Reader(path.name, path, reading(path)) for path in files]


def fuzz(readers: list[Reader], cases: int, seed: int) -> list[str]:
    """Return what came out of readers that should not, of so many cases over all of them."""
    rng, found = random.Random(seed), []
    good = [reader.file.read_bytes() for reader in readers]
    for case in range(cases):
        which = case % len(readers)
        fault = spoil(readers[which], good[which], rng)
        readers[which].file.write_bytes(good[which])
        if fault is not None:
            found.append(f"case {case}: {fault}")
    return found
