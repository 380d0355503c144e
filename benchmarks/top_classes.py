"""What is lost and saved where only the likeliest classes of each sample are kept.

    python benchmarks/top_classes.py [--top 5 10 20 50] [--shapes 20000x256x1000]
        [--kinds groups rectified] [--sets FOLDER] [--cost 100000x1000 ...] [--seed 0]
        [--folder DIR] [--results FILE]

Audits the same samples with the probabilities of all classes (``.npz``) and with lists of the
likeliest (Parquet), and prints for each the average precision for the wrong labels, the F1 of the
flags, and the estimated noise rate beside the true one. The samples are

- made-up features, N x D of K classes, with a tenth of the labels wrong, half of those anything
  and half a class that looks alike (``many_classes.py`` has both kinds), scored by heads that are
  cross-fitted here: so the probabilities are those of a model;
- with ``--sets`` the sets that the ``.npz`` files of a folder hold, as the tasks ``probs/SET`` of
  `labelfix benchmark` do.

With ``--cost`` it only runs the command on made-up probabilities, for each N x K three times: with
all classes read and kept, with all read and 20 of them kept, and with 20 read and kept. Printed are
the sizes of the file that is read and of the report, wall seconds, and the peak of memory.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score

from harness import append_row, new_parser
from labelfix.benchmark.data import open_probs, sets_in
from labelfix.benchmark.scale import make_probabilities, measured_command
from labelfix.benchmark.tasks import ProbsTask
from labelfix.config import HeadConfig
from labelfix.pipeline.probabilities import audit_pred_probs
from labelfix.report.top_classes import top_lists
from labelfix.training.cross_fit_heads import cross_fit_heads
from labelfix.types import Features, FoldAssignment
from labelfix.utils.progress import no_progress
from many_classes import FOLDS, folds_of, write
from many_classes import shape as shape_of_features
from scoring import shape as shape_of_probabilities

KEPT = 20
"""Classes that are kept where the cost is measured."""

BLOCK_CELLS = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class Audited:
    """Probabilities of samples whose true labels are known.

    Args:
        name: What rows call them.
        probs: ``(N, K)``.
        given: ``(N,)`` codes.
        true: ``(N,)`` codes.
    """

    name: str
    probs: NDArray[np.float32]
    given: NDArray[np.int64]
    true: NDArray[np.int64]


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.cost:
            for samples, classes in arguments.cost:
                measure_cost(Path(folder), samples, classes, arguments)
            return
        for audited in audited_sets(Path(folder), arguments):
            compare(audited, Path(folder), arguments)


def audited_sets(folder: Path, arguments: argparse.Namespace) -> Iterator[Audited]:
    """Yield the samples to audit, one set after the other."""
    if arguments.sets is not None:
        for name in sets_in(arguments.sets):
            data = open_probs(ProbsTask(name=f"probs/{name}"), arguments.sets)
            if data.pred_probs is not None and data.given_label is not None:
                probs = np.asarray(data.pred_probs[0], np.float32)
                yield Audited(name, probs, data.given_label, data.true_label)
        return
    for kind in arguments.kinds:
        for samples, width, classes in arguments.shapes:
            write(folder, kind, (samples, width, classes), arguments.seed)
            yield cross_fitted(folder, f"{kind} {samples}x{width}x{classes}", arguments.seed)


def cross_fitted(folder: Path, name: str, seed: int) -> Audited:
    """Return the probabilities that heads give the features of a folder."""
    values = np.load(folder / "values.npy", mmap_mode="r")
    given, true = np.load(folder / "given.npy"), np.load(folder / "true.npy")
    evidence = cross_fit_heads(
        Features(values, np.zeros(len(given), "S16"), {}),
        given,
        FoldAssignment(np.ones(len(given), np.bool_), folds_of(given, seed), {}),
        classes=int(given.max()) + 1,
        config=HeadConfig(folds=FOLDS),
        seed=seed,
        device=torch.device("cpu"),
        on_progress=no_progress,
    )
    return Audited(name, evidence.pred_probs, given, true)


def compare(audited: Audited, folder: Path, arguments: argparse.Namespace) -> None:
    """Print how good audits are with all classes and with the likeliest."""
    is_wrong = audited.given != audited.true
    classes = audited.probs.shape[1]
    print(f"{audited.name}: {len(is_wrong):,} samples, {classes:,} classes", end=", ")
    print(f"{is_wrong.mean():.2%} wrong", flush=True)
    for top in (None, *(top for top in arguments.top if top < classes)):
        file = write_file(folder, audited, top)
        report = audit_pred_probs(file, folder / "run", overwrite=True).report
        columns = report.read(["label_error_probability", "is_label_issue"])
        error = np.nan_to_num(columns["label_error_probability"].to_numpy())
        rate = report.run.noise_rate
        row = {
            "set": audited.name,
            "classes": classes,
            "top": top,
            "average_precision": round(float(average_precision_score(is_wrong, error)), 4),
            "f1": round(float(f1_score(is_wrong, columns["is_label_issue"].to_numpy())), 4),
            "noise_rate": None if rate is None else round(rate, 4),
            "true_noise_rate": round(float(is_wrong.mean()), 4),
        }
        told = ", ".join(f"{key} {row[key]}" for key in ("average_precision", "f1", "noise_rate"))
        print(f"  {'all' if top is None else top:>4}: {told}", flush=True)
        append_row(arguments.results, row)


def write_file(folder: Path, audited: Audited, top: int | None) -> Path:
    """Write probabilities as `labelfix audit --pred-probs` reads them."""
    if top is None:
        np.savez(folder / "p.npz", pred_probs=audited.probs, labels=audited.given)
        return folder / "p.npz"
    path = folder / "p.parquet"
    write_lists(path, audited.probs, audited.given, top)
    return path


def write_lists(path: Path, probs: NDArray[np.float32], given: NDArray[np.int64], top: int) -> None:
    """Write lists of the likeliest classes, a block at a time."""
    schema = pa.schema(
        [
            ("sample_id", pa.int64()),
            ("given_label", pa.int64()),
            ("top_classes", pa.list_(pa.int32())),
            ("top_probs", pa.list_(pa.float32())),
        ],
        {"labelfix.class_names": str(list(range(probs.shape[1])))},
    )
    step = max(1, BLOCK_CELLS // probs.shape[1])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(probs), step):
            part = np.asarray(probs[start : start + step])
            lists = top_lists(part, np.ones(len(part), np.bool_), top)
            rows = np.arange(start, start + len(part))
            columns = [pa.array(rows), pa.array(given[rows]), *lists.columns]
            cast = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(cast, schema=schema))


def measure_cost(folder: Path, samples: int, classes: int, arguments: argparse.Namespace) -> None:
    """Print what the command takes and leaves."""
    whole = make_probabilities(folder / "p.npz", samples, classes, arguments.seed)
    lists = folder / "p.parquet"
    with np.load(whole) as arrays:
        write_lists(lists, arrays["pred_probs"], arrays["labels"], KEPT)
    ways = {
        "all read, all kept": (whole, []),
        f"all read, {KEPT} kept": (whole, ["--top-classes", f"{KEPT}"]),
        f"{KEPT} read and kept": (lists, []),
    }
    for name, (file, options) in ways.items():
        words = ["audit", "--pred-probs", str(file), "--out", str(folder / "run"), "--quiet"]
        cost = measured_command(name, [*words, "--overwrite", *options])
        row = {
            "cost": f"{samples}x{classes}",
            "way": name,
            **cost,
            "file_mb": round(file.stat().st_size / 1e6, 1),
            "report_mb": round((folder / "run" / "report.parquet").stat().st_size / 1e6, 1),
        }
        told = ", ".join(f"{key} {value}" for key, value in row.items())
        print(told, flush=True)
        append_row(arguments.results, row)


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__, rows="top_classes.jsonl")
    parser.add_argument("--top", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument(
        "--shapes", type=shape_of_features, nargs="+", default=[(20_000, 256, 1000)]
    )
    parser.add_argument("--kinds", nargs="+", default=["groups", "rectified"])
    parser.add_argument("--sets", type=Path, help="a folder of .npz files of published sets")
    parser.add_argument("--cost", type=shape_of_probabilities, nargs="+", help="N x K")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where files are written for a while")
    return parser.parse_args()


if __name__ == "__main__":
    main()
