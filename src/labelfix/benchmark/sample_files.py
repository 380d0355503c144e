"""The files of a task that methods see: numbered, in random order, and with given labels alone.

Truth-holding code, as `labelfix.benchmark.data` is. Pictures are files that a manifest lists, texts
a column of a table. Letters: N samples.
"""

import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelfix.benchmark.data import LabeledRows
from labelfix.errors import BenchmarkError, UnreadableSample
from labelfix.modalities.base import Modality, wording_of
from labelfix.types import SampleStore
from labelfix.utils.files import atomic_folder, atomic_path, make_folder
from labelfix.utils.progress import OnProgress, Progress, no_progress

SAMPLES, TEST = "samples", "test"
PER_FOLDER = 1000
REPORT_EVERY = 500

_TEXTS = ".parquet"


@dataclass(frozen=True, slots=True)
class PreparedSamples:
    """The files of a task.

    Args:
        seen: What methods may see: a folder of files for each part, or a table of texts.
        hidden: Where what was made with the truth is kept.
    """

    seen: Path
    hidden: Path

    @contextmanager
    def manifest(self, label: Sequence[int], part: str = SAMPLES) -> Iterator[Path]:
        """Yield a manifest of the samples with labels; it is removed in the end.

        Args:
            label: One for each sample.
            part: ``samples`` or ``test``.
        """
        texts = self.seen / f"{part}{_TEXTS}"
        suffix = _TEXTS if texts.exists() else ".csv"
        handle, name = tempfile.mkstemp(prefix=f"{part}-", suffix=suffix, dir=self.seen)
        os.close(handle)
        try:
            if texts.exists():
                pq.write_table(pq.read_table(texts).append_column("label", pa.array(label)), name)
            else:
                _list_files(Path(name), part, label)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def kept(self, name: str) -> Any:
        """Return what `keep` kept under a name, ``None`` if nothing."""
        try:
            return json.loads((self.hidden / f"{name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def keep(self, name: str, values: Any) -> None:
        """Keep JSON values."""
        make_folder(self.hidden)
        with atomic_path(self.hidden / f"{name}.json") as draft:
            draft.write_text(json.dumps(values), encoding="utf-8")

    def kept_array(self, name: str) -> NDArray[Any] | None:
        """Return the array that `keep_array` kept under a name, ``None`` if there is none."""
        path = self.hidden / f"{name}.npy"
        return np.load(path) if path.exists() else None

    def keep_array(self, name: str, values: NDArray[Any]) -> None:
        """Keep an array."""
        make_folder(self.hidden)
        with atomic_path(self.hidden / f"{name}.npy") as draft, draft.open("wb") as file:
            np.save(file, values)


def prepare_samples(
    samples: LabeledRows,
    test: LabeledRows | None,
    modality: Modality,
    cache: Path,
    on_progress: OnProgress = no_progress,
) -> PreparedSamples:
    """Write the samples of a task, unless they are there from an earlier run.

    Files of a folder of pictures are linked where the file system can, else copied. A picture that
    cannot be read is a file that is missing, such a text an empty cell.

    Args:
        samples: The N samples that methods see.
        test: Those that they do not train on, or ``None``.
        modality: Of both.
        cache: The folder that holds the files of all tasks.
        on_progress: Told about every few hundred samples.

    Raises:
        BenchmarkError: They are neither pictures nor texts.
        RunError: The place cannot be written to.
    """
    key = _key(samples, test)
    prepared = PreparedSamples(seen=cache / key, hidden=cache / f"{key}-truth")
    write = _writer(modality)
    if not prepared.seen.is_dir():
        with atomic_folder(prepared.seen) as draft:
            write(samples, draft, SAMPLES, on_progress)
            if test is not None:
                write(test, draft, TEST, on_progress)
    return prepared


_Write = Callable[[LabeledRows, Path, str, OnProgress], None]


def _writer(modality: Modality) -> _Write:
    if modality.text_of is not None:
        return partial(_write_texts, modality.text_of)
    if wording_of(modality.name).are_pictures:
        return _write_files
    raise BenchmarkError(
        f"a benchmark cannot be made of {modality.plural} of the kind {modality.name!r}",
        hint="name a data set of images or texts",
    )


def _write_texts(
    text_of: Callable[[bytes], str],
    part: LabeledRows,
    folder: Path,
    name: str,
    on_progress: OnProgress,
) -> None:
    texts = [_text(part.store, row, text_of) for row in part.rows.tolist()]
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / f"{name}{_TEXTS}")
    on_progress(Progress(f"preparing the {name} of the task", len(part), len(part), "texts"))


def _text(store: SampleStore, row: int, text_of: Callable[[bytes], str]) -> str | None:
    try:
        data = store.read(row)
        shown = text_of(data)
    except UnreadableSample:
        return None
    try:
        return data.decode("utf-8")  # as it is in a table: two texts stay two
    except UnicodeDecodeError:
        return shown


def _key(samples: LabeledRows, test: LabeledRows | None) -> str:
    digest = hashlib.blake2b(SAMPLES.encode(), digest_size=16)
    for part in (samples, *([test] if test else [])):
        digest.update(part.fingerprint.encode())
        digest.update(part.rows.astype("<i8").tobytes())
        digest.update(part.true_label.astype("<i8").tobytes())
    return digest.hexdigest()


def _write_files(part: LabeledRows, folder: Path, name: str, on_progress: OnProgress) -> None:
    """Write the pictures of one part; in rising order of rows, which is quick for every store."""
    for number in range(-(-len(part) // PER_FOLDER)):
        (folder / name / f"{number:04}").mkdir(parents=True)
    order = np.argsort(part.rows, kind="stable")
    for done, place in enumerate(order.tolist(), 1):
        _write_one(part.store, int(part.rows[place]), folder / _place(name, place))
        if done % REPORT_EVERY == 0 or done == len(part):
            on_progress(Progress(f"preparing the {name} of the task", done, len(part), "files"))


def _write_one(store: SampleStore, row: int, to: Path) -> None:
    source = Path(store.location(row))
    if source.is_file():
        try:
            to.hardlink_to(source.resolve())
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    try:
        to.write_bytes(store.read(row))
    except UnreadableSample:
        return


def _list_files(manifest: Path, part: str, label: Sequence[int]) -> None:
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "label"))
        writer.writerows((_place(part, row), code) for row, code in enumerate(label))


def _place(part: str, row: int) -> str:
    return f"{part}/{row // PER_FOLDER:04}/{row:07}"
