"""Whatever the bytes, ``open_dataset`` gives a data set or a `DatasetError`.

Each reader gets small good files, damaged. The long test is marked slow: ``pytest -m slow``.
"""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from compressed_tables import compressed
from fuzzing import damaged
from written_forms import CLASSES, picture, shard, write_tar, write_zip

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.errors import LabelfixError, UnreadableSample

LABELS = ["cat", "dog", "cat", "dog"]
HUGGING_FACE = json.dumps({
    "info": {"features": {"image": {"_type": "Image"},
                          "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}
})  # fmt: skip


def images(root: Path) -> None:
    for n in range(4):
        (root / f"{n}.png").write_bytes(picture(n))


def csv_text(sign: str = ",") -> str:
    lines = [f"{n}.png{sign}{label}{sign}train" for n, label in enumerate(LABELS)]
    return "\n".join([f"image{sign}label{sign}split", *lines]) + "\n"


def rows() -> list[dict[str, object]]:
    return [{"image": f"{n}.png", "label": label, "n": n} for n, label in enumerate(LABELS)]


def tasks() -> list[dict[str, object]]:
    def task(n: int, label: str) -> dict[str, object]:
        result = [{"type": "choices", "value": {"choices": [label]}}]
        return {"data": {"image": f"{n}.png"}, "annotations": [{"result": result}]}

    return [task(n, label) for n, label in enumerate(LABELS)]


def table() -> pa.Table:
    cells = [{"bytes": picture(n), "path": f"{n}.png"} for n in range(4)]
    held = pa.table({"image": cells, "label": [0, 1, 0, 1], "note": ["a", "é", "", None]})
    return held.replace_schema_metadata({"huggingface": HUGGING_FACE})


def parquet(root: Path, name: str = "p.parquet", **options: object) -> Path:
    pq.write_table(table(), root / name, **options)
    return root / name


def paths_in_parquet(root: Path) -> Path:
    images(root)
    pq.write_table(pa.Table.from_pylist(rows()), root / "m.parquet", compression="none")
    return root / "m.parquet"


def arrow(root: Path, held: pa.Table | None = None) -> Path:
    held = table() if held is None else held
    (root / "saved").mkdir()
    with pa.ipc.new_stream(root / "saved" / "data.arrow", held.schema) as writer:
        writer.write_table(held)
    state = {"_data_files": [{"filename": "data.arrow"}], "_indices_data_files": None}
    (root / "saved" / "state.json").write_text(json.dumps(state))
    (root / "saved" / "dataset_info.json").write_text(json.dumps(json.loads(HUGGING_FACE)["info"]))
    return root / "saved" / "data.arrow"


def state(root: Path) -> Path:
    return arrow(root).with_name("state.json")


def info(root: Path) -> Path:
    return arrow(root, table().replace_schema_metadata()).with_name("dataset_info.json")


def text(root: Path, name: str, content: str, encoding: str = "utf-8") -> Path:
    images(root)
    suffix = Path(name).suffix
    data = content.encode(encoding)
    packed = compressed(data, suffix) if suffix in (".gz", ".bz2", ".xz", ".zst", ".lz4") else data
    (root / name).write_bytes(packed)
    return root / name


def metadata(root: Path) -> Path:
    return text(root, "metadata.csv", csv_text().replace("image", "file_name"))


def metadata_lines(root: Path) -> Path:
    lines = [json.dumps({"file_name": row["image"], "label": row["label"]}) for row in rows()]
    return text(root, "metadata.jsonl", "\n".join(lines))


SEEDS: dict[str, Callable[[Path], Path]] = {
    "csv": lambda root: text(root, "m.csv", csv_text()),
    "sep": lambda root: text(root, "m.csv", "sep=;\n" + csv_text(";")),
    "utf-16": lambda root: text(root, "m.csv", csv_text("\t"), "utf-16"),
    "latin-1": lambda root: text(root, "m.csv", csv_text().replace("cat", "kät"), "latin-1"),
    "gz": lambda root: text(root, "m.csv.gz", csv_text()),
    "zst": lambda root: text(root, "m.csv.zst", csv_text()),
    "bz2": lambda root: text(root, "m.csv.bz2", csv_text()),
    "xz": lambda root: text(root, "m.csv.xz", csv_text()),
    "jsonl": lambda root: text(root, "m.jsonl", "\n".join(map(json.dumps, rows()))),
    "json": lambda root: text(root, "m.json", json.dumps(rows())),
    "label studio": lambda root: text(root, "m.json", json.dumps(tasks())),
    "parquet": parquet,
    "plain parquet": lambda root: parquet(
        root, compression="none", use_dictionary=False, store_schema=False
    ),
    "paths in parquet": paths_in_parquet,
    "arrow": arrow,
    "state of save_to_disk": state,
    "features of save_to_disk": info,
    "metadata.csv": metadata,
    "metadata.jsonl": metadata_lines,
    "zip": lambda root: write_zip(root / "p.zip", CLASSES),
    "zip with a manifest": lambda root: write_zip(
        root / "p.zip",
        {f"i/{n}.png": picture(n) for n in range(4)}
        | {"m.csv": csv_text().replace("\n", "\ni/").rstrip("i/").encode()},
    ),
    "tar": lambda root: write_tar(root / "p.tar", CLASSES),
    "web dataset": lambda root: write_tar(root / "w.tar", shard(range(4), "json")),
}
WHOLE_FOLDER = {"arrow", "state of save_to_disk", "features of save_to_disk", "metadata.csv",
                "metadata.jsonl"}  # fmt: skip


def fuzz(folder: Path, case: str, cases: int, seed: int) -> None:
    """Open that many damaged forms of a good file."""
    folder.mkdir()
    target = SEEDS[case](folder)
    good, rng = target.read_bytes(), random.Random(f"{case}{seed}")
    opened = target.parent if case in WHOLE_FOLDER else target
    assert len(open_dataset(opened, DatasetConfig())) == 4
    for number in range(cases):
        data = damaged(good, rng, is_text=bool(number % 2))
        target.write_bytes(data)
        try:
            is_sound = ends_as_it_should(opened)
        except Exception as error:
            raise AssertionError(f"{case}: {data!r}"[:4000]) from error
        assert is_sound, data
    shutil.rmtree(folder)


def ends_as_it_should(path: Path) -> bool:
    """Return whether there is a data set or an error with a hint, and an image or a reason."""
    try:
        data = open_dataset(path, DatasetConfig())
    except LabelfixError as error:
        return bool(str(error) and error.hint)
    sound = []
    for row in range(len(data)):
        data.store.location(row)
        try:
            sound.append(isinstance(data.store.read(row), bytes))
        except UnreadableSample as error:
            sound.append(bool(str(error)))
    return all(sound)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", SEEDS)
def test_no_foreign_error_comes_out(tmp_path, case):
    fuzz(tmp_path / "data", case, 60, seed=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", SEEDS)
def test_no_foreign_error_comes_out_of_many(tmp_path, case):
    fuzz(tmp_path / "data", case, 2000, seed=1)
