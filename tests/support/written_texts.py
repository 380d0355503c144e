"""Texts of two classes that a machine can tell apart, with a few oddities, for tests."""

import csv
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

WORDS = {
    "refund": "refund money back paid charge return invoice amount bank fee wrong bill",
    "travel": "flight hotel trip city train beach ticket airport island map journey visa",
}
COMMON = "the a my please is for about this how when with and today need want to"


def sentences(count: int = 60, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return different texts and their labels, in turn of one class and of the other."""
    rng = random.Random(seed)
    texts, labels = [], []
    for number in range(count):
        label = list(WORDS)[number % 2]
        own = rng.choices(WORDS[label].split(), k=5)
        words = own + rng.choices(COMMON.split(), k=6)
        rng.shuffle(words)
        texts.append(f"{' '.join(words)} number {number}")
        labels.append(label)
    return texts, labels


def write_table(path: Path, columns: dict[str, list[object]]) -> Path:
    """Write columns as what the suffix of a path says."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path
