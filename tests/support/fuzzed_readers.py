"""A good file for every reader of labelfix, to be damaged: see `fuzzing`."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from benchmark_row import ROW
from compressed_tables import compressed
from fuzzing import Reader
from given_probs import noisy, write, write_lists
from PIL import Image
from small_report import Sample, report_of
from tiff_files import tiff
from whole_networks import write_weights
from written_forms import CLASSES, picture, shard, write_tar, write_zip
from written_texts import sentences, write_table

from labelfix.benchmark.rows import append_rows
from labelfix.benchmark.rows import read_rows as read_benchmark_rows
from labelfix.config import BackboneConfig, DatasetConfig
from labelfix.config.file import config_of, read_settings
from labelfix.data.dataset import open_dataset
from labelfix.data.decisions import Decision, DecisionLog, read_decisions
from labelfix.data.probabilities import open_pred_probs
from labelfix.errors import UnreadableSample
from labelfix.issues.types import Neighbors
from labelfix.modalities.image.backbone import load_network
from labelfix.modalities.image.decode import decode_with_size, measure, read_deep
from labelfix.modalities.text.reading import decode_text, fault_of, phrases, shown_text
from labelfix.report.decisions import join_decisions
from labelfix.report.io import read_report_table, write_report
from labelfix.report.neighbors import read_neighbors, read_places, write_neighbors
from labelfix.report.run_folder import RunFolder
from labelfix.report.summary import summarize
from labelfix.report.top_classes import top_lists
from labelfix.report.training_log import _farthest, read_json, read_layers, read_log, summarize_log
from labelfix.report.view import ReportView
from labelfix.review.samples import ShownSamples
from labelfix.training.checkpoints import Checkpoints
from labelfix.utils.progress import no_progress

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


def readers_of_probabilities(folder: Path) -> list[Reader]:
    probs = noisy(count=30, classes=("café", "dog", "hen"))
    files = [write(folder / f"p.{form}", probs) for form in ("csv", "tsv", "parquet", "npz")]
    packed = folder / "packed.npz"
    np.savez_compressed(packed, pred_probs=probs.values, labels=np.zeros(30, int))
    lists = write_lists(folder / "lists.parquet", probs, 2)

    def reading(path: Path) -> Callable[[], object]:
        return lambda: open_pred_probs([path], folder, no_progress, force=True)

    return [Reader(path.name, path, reading(path)) for path in [*files, packed, lists]]


def readers_of_runs(folder: Path) -> list[Reader]:
    run = folder / "run"
    run.mkdir()
    report = report_of([Sample(f"{i}", error=0.5 if i % 2 else 0.1) for i in range(12)])
    write_report(report, run / "report.parquet")
    near = Neighbors(
        np.tile(np.arange(3), (12, 1)).astype(np.int64), np.full((12, 3), 0.5, np.float32)
    )
    write_neighbors(
        near,
        report.table["sample_id"].combine_chunks(),
        run / "neighbors.parquet",
        np.zeros((12, 2), np.float32),
    )
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
        assert len(found.table) == len(found)
        summarize(ReportView(found))
        ShownSamples(found)

    top = folder / "top" / "report.parquet"
    top.parent.mkdir()
    lists = top_lists(np.full((12, 2), 0.5, np.float32), np.arange(12) % 5 > 0, 2)
    without = replace(report, columns=report.table.drop_columns(["pred_probs"]))
    write_report(without, top, iter([lists]), top_classes=2)

    parts = folder / "in-parts"
    parts.mkdir()
    write_report(report, parts / "report.parquet", group_values=8, part_rows=4)

    def report_in_parts() -> None:
        found = read_report_table(parts)
        assert len(found.table) == len(found)

    def neighbors() -> None:
        read_neighbors(run, report)
        read_places(run, len(report))

    def reopened() -> None:
        held = RunFolder(run)
        held.is_finished({"config": {}})
        held._held()

    return [
        Reader("report", run / "report.parquet", whole_report),
        Reader("report of the top", top, lambda: ShownSamples(read_report_table(top))),
        Reader("a part", parts / "report" / "part-00001.parquet", report_in_parts),
        Reader("parts", parts / "report" / "_manifest.json", report_in_parts),
        Reader("neighbors", run / "neighbors.parquet", neighbors),
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
    """Return the readers of data sets of images; each reads all its samples."""

    def reader_of(form: str) -> Reader:
        root = folder / form.replace(" ", "-")
        root.mkdir()
        file = SEEDS[form](root)
        opened = file.parent if form in WHOLE_FOLDER else file
        return Reader(form, file, lambda: read_all(opened, DatasetConfig()))

    return [reader_of(form) for form in SEEDS]


def read_all(path: Path, config: DatasetConfig) -> None:
    """Open a data set and read each sample, or hear why that cannot be."""
    data = open_dataset(path, config, no_progress)
    for row in range(len(data)):
        data.store.location(row)
        with suppress(UnreadableSample):
            assert isinstance(data.store.read(row), bytes)


def readers_of_texts(folder: Path) -> list[Reader]:
    """Return the readers of tables of texts, of pairs of texts, and of one text."""
    texts, labels = sentences(8)
    texts[3] = "café \u202e ünï \x07"
    table = {"id": [*range(8)], "text": texts, "label": labels}
    pairs = {"premise": texts, "hypothesis": texts[::-1], "label": labels}
    files = [
        write_table(folder / f"{name}.{form}", dict(columns))
        for name, columns in (("texts", table), ("pairs", pairs))
        for form in ("csv", "tsv", "jsonl", "json", "parquet")
    ]
    one = folder / "one.bin"
    one.write_bytes(texts[3].encode())

    def read_one() -> None:
        data = one.read_bytes()
        shown_text(data)
        if fault_of(data) is None:
            phrases(decode_text(data))

    return [
        *(Reader(path.name, path, lambda path=path: read_all(path, DatasetConfig()))
          for path in files),
        Reader("a text", one, read_one),
    ]  # fmt: skip


def readers_of_embeddings(folder: Path) -> list[Reader]:
    """Return the readers of vectors: a file beside the data, and a column of a table."""
    data = write_table(folder / "t.csv", {"id": [*range(6)], "text": ["a b"] * 6,
                                          "label": ["x", "y"] * 3})  # fmt: skip
    values = np.arange(24, dtype=np.float32).reshape(6, 4)
    np.save(folder / "v.npy", values)
    np.savez(folder / "v.npz", features=values)
    np.savez_compressed(folder / "packed.npz", features=values)
    column = pa.array(values.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"embedding": column, "label": ["x", "y"] * 3}), folder / "v.parquet")

    def beside(path: Path) -> Callable[[], object]:
        return lambda: read_all(data, DatasetConfig(features=path))

    files = [folder / name for name in ("v.npy", "v.npz", "packed.npz")]
    in_table = folder / "v.parquet"
    asked = DatasetConfig(features_column="embedding")
    return [
        *(Reader(f"features {path.name}", path, beside(path)) for path in files),
        Reader("features column", in_table, lambda: read_all(in_table, asked)),
    ]


def readers_of_images(folder: Path) -> list[Reader]:
    """Return the decoder of images, for each of its forms."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    photo = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[274] = 6
    written: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "png": (photo, {}), "jpg": (photo, {"exif": exif}), "gif": (photo.quantize(16), {}),
        "webp": (photo, {}), "bmp": (photo, {}), "ppm": (photo, {}), "tga": (photo, {}),
        "lzw.tif": (photo, {"compression": "tiff_lzw"}), "ico": (photo, {}),
        "palette.png": (photo.quantize(9), {"transparency": 0}),
        "progressive.jpg": (photo, {"progressive": True}), "cmyk.jpg": (photo.convert("CMYK"), {}),
        "16.png": (Image.fromarray(pixels[..., 0].astype(np.uint16) * 200), {}),
        "float.tif": (Image.fromarray(pixels[..., 0].astype(np.float32)), {}),
        "jp2": (photo, {}), "alpha.png": (photo.convert("RGBA"), {}),
    }  # fmt: skip
    for name, (image, options) in written.items():
        form = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(name.rsplit(".", 1)[-1])
        image.save(folder / f"i.{name}", form, **options)
    (folder / "i.bands.tif").write_bytes(tiff(pixels[..., :1].repeat(5, 2).astype(np.uint16)))
    (folder / "i.big.tif").write_bytes(tiff(pixels.astype(np.float64), ">"))

    def decoding(path: Path) -> Callable[[], object]:
        def decode() -> None:
            data = path.read_bytes()
            rgb, size = decode_with_size(data)
            assert rgb.mode == "RGB"
            measure(rgb, size)
            decode_with_size(data, at_least=8)
            read_deep(data)

        return decode

    return [Reader(path.name, path, decoding(path)) for path in sorted(folder.iterdir())]


SETTINGS = """\
tune = "head"
seed = 3
self_labeling = "careful"
[heads]
folds = 3
radii = [1.0, 5.0]
[backbone]
image_size = 64
name = "test_resnet"
[dataset]
test_split = ["test"]
"""


def readers_of_settings(folder: Path) -> list[Reader]:
    """Return the readers of ``--config``, of weights and of checkpoints."""
    toml, record = folder / "audit.toml", folder / "run.json"
    toml.write_text(SETTINGS.replace('self_labeling = "careful"\n', ""))
    record.write_text(json.dumps({"config": {"tune": "head", "heads": {"folds": 3}, "seed": 1}}))
    weights = write_weights(folder) / "test_resnet.safetensors"
    chosen = BackboneConfig(name="test_resnet", weights=weights, image_size=32, device="cpu")
    checkpoints = Checkpoints(folder / "checkpoints", "claim")
    checkpoints.save("fold", {"log": [{"loss": 0.5}], "tuning": {"a": torch.arange(64.0)}})
    saved = folder / "checkpoints" / "fold.pt"

    def load() -> None:
        state = checkpoints.load("fold", torch.device("cpu"))
        assert state is not None
        assert torch.equal(state["tuning"]["a"], torch.arange(64.0)), "wrong weights"

    def settings(path: Path) -> Callable[[], object]:
        return lambda: config_of(read_settings(path))

    return [
        Reader("settings", toml, settings(toml)),
        Reader("settings of a run", record, settings(record)),
        Reader("weights", weights, lambda: load_network(chosen, 32)),
        Reader("checkpoint", saved, load),
    ]


EVERY = {
    "probabilities": readers_of_probabilities,
    "runs": readers_of_runs,
    "data": readers_of_data,
    "texts": readers_of_texts,
    "embeddings": readers_of_embeddings,
    "images": readers_of_images,
    "settings": readers_of_settings,
}
"""Kinds of readers, and what writes good files for all of a kind into an empty folder."""
