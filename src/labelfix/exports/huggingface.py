"""An export as a folder of Parquet shards that Hugging Face's ``datasets`` reads, split by split.

Letters: M rows of the export.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelfix.exports.folder import take_image
from labelfix.exports.plan import ExportPlan
from labelfix.report.view import ReportView
from labelfix.types import SampleStore
from labelfix.utils.files import atomic_folder
from labelfix.utils.progress import OnProgress, Progress

NO_SPLIT = "unsplit"
"""The split of the rows without one, in a data set that has splits."""

ONLY_SPLIT = "train"
"""The split of all rows, in a data set that has none: what ``datasets`` calls it too."""

_ROWS_A_GROUP = 100  # as ``datasets`` writes images, so that a viewer can read a few at a time
_SHARD_BYTES = 500 << 20
_COLUMNS = ("sample_id", "given_label", "label_score")
_Field: TypeAlias = Literal["image", "text"]
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_huggingface(
    view: ReportView,
    plan: ExportPlan,
    store: SampleStore,
    to: Path,
    text_of: Callable[[int], str | None] | None,
    on_progress: OnProgress,
) -> int:
    """Write ``TO/data/<split>-00000-of-00001.parquet`` and so on; return how many files.

    Columns: ``image`` or ``text`` (null where there is none, or it cannot be read), ``label`` (a
    ``ClassLabel`` where the classes are text), ``sample_id``, ``given_label``, ``label_score``,
    ``sample_weight``, ``decision``.

    Args:
        view: The report.
        plan: What is exported.
        store: The samples.
        to: The folder to write.
        text_of: Returns the text of a row, or ``None`` where it cannot be read; without it, the
            samples are images.
        on_progress: Told about the samples.

    Raises:
        RunError: ``to`` is there already, or cannot be written to.
    """
    field: _Field = "image" if text_of is None else "text"
    table = _table_without_samples(view, plan, field)
    splits = _splits(view, plan)
    is_unreadable = view.issue("unreadable")
    with atomic_folder(to) as draft:
        (draft / "data").mkdir()
        shards = {
            split: _Shards(draft / "data", split, table, field) for split in dict.fromkeys(splits)
        }
        try:
            for position, (row, split) in enumerate(zip(plan.rows.tolist(), splits, strict=True)):
                sample = None if is_unreadable[row] else _sample_of(row, store, text_of)
                shards[split].add(position, sample)
                if position % 256 == 255 or position + 1 == len(splits):
                    plural = view.wording.plural
                    on_progress(Progress(f"writing {plural}", position + 1, len(splits), plural))
        finally:
            for shard in shards.values():
                shard.close()
        return sum(shard.name_files() for shard in shards.values())


def _sample_of(
    row: int, store: SampleStore, text_of: Callable[[int], str | None] | None
) -> bytes | None:
    """Return an encoded image, or a text as UTF-8; ``None`` where it cannot be had."""
    if text_of is not None:
        text = text_of(row)
        return None if text is None else text.encode()
    image = take_image(store, row)
    return None if image is None else image.data


class _Shards:
    """The shards of one split, one after the other; their count is known only at the end.

    Args:
        folder: Where they are written.
        split: The split.
        table: The M rows of all splits without their samples.
        field: The column of the samples.
    """

    def __init__(self, folder: Path, split: str, table: pa.Table, field: _Field) -> None:
        self._folder = folder
        self._field = field
        self._split = split
        self._table = table
        self._positions: list[int] = []
        self._samples: list[bytes | None] = []
        self._bytes = 0
        self._shards = 0
        self._writer: pq.ParquetWriter | None = None

    def add(self, position: int, sample: bytes | None) -> None:
        """Add a row; samples are in memory until a row group is full."""
        self._positions.append(position)
        self._samples.append(sample)
        self._bytes += len(sample or b"")
        if len(self._positions) == _ROWS_A_GROUP:
            self._write()
        if self._bytes > _SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """Finish the shard that is open."""
        if self._positions:
            self._write()
        if self._writer is not None:
            self._writer.close()
        self._writer, self._bytes = None, 0

    def name_files(self) -> int:
        """Give the shards their names; return how many there are."""
        for number in range(self._shards):
            name = f"{self._split}-{number:05}-of-{self._shards:05}.parquet"
            self._draft(number).replace(self._folder / name)
        return self._shards

    def _write(self) -> None:
        rows = self._table.take(pa.array(self._positions))
        rows = rows.add_column(0, self._field, self._cells(rows["sample_id"].to_pylist()))
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._draft(self._shards), rows.schema)
            self._shards += 1
        self._writer.write_table(rows)
        self._positions, self._samples = [], []

    def _cells(self, names: list[str]) -> pa.Array:
        if self._field == "text":
            return pa.array(self._samples, pa.binary()).cast(pa.string())
        cells = [
            image if image is None else {"bytes": image, "path": name}
            for image, name in zip(self._samples, names, strict=True)
        ]
        return pa.array(cells, _IMAGE)

    def _draft(self, number: int) -> Path:
        return self._folder / f".{self._split}-{number}"


def _table_without_samples(view: ReportView, plan: ExportPlan, field: _Field) -> pa.Table:
    """Return M rows, with the metadata that tell ``datasets`` what the columns are."""
    label, feature = _label_column(view, plan)
    said = view.take(plan.rows, _COLUMNS)
    columns = {
        "label": label,
        **{name: said[name] for name in _COLUMNS},
        "sample_weight": pa.array(plan.sample_weight),
        "decision": plan.decided.take(plan.rows)["decision"],
    }
    table = pa.table(columns)
    is_text = field == "text"
    sample = {"dtype": "string", "_type": "Value"} if is_text else {"_type": "Image"}
    features = {field: sample, "label": feature} | {
        column.name: {"dtype": _dtype(column.type), "_type": "Value"}
        for column in table.schema
        if column.name != "label"
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return table.replace_schema_metadata(metadata)


def _label_column(view: ReportView, plan: ExportPlan) -> tuple[pa.Array, dict[str, Any]]:
    """Return the labels and what they are: codes of named classes, or the integers they were."""
    if plan.label.type == pa.int64():
        return plan.label, {"dtype": "int64", "_type": "Value"}
    names = [*view.class_names, *plan.decided.new_classes]
    codes = pc.index_in(plan.label, pa.array(names, pa.string())).cast(pa.int64())
    codes = pc.if_else(plan.label.is_valid(), codes, pa.scalar(None, pa.int64()))
    return codes, {"names": names, "_type": "ClassLabel"}


def _dtype(kind: pa.DataType) -> str:
    return {pa.float32(): "float32", pa.int64(): "int64"}.get(kind, "string")


def _splits(view: ReportView, plan: ExportPlan) -> list[str]:
    """Return the M splits, as names that ``datasets`` takes: letters, digits and underscores."""
    splits = view.take(plan.rows, ["split"])["split"].to_pylist()
    if not view.has_splits:
        return [ONLY_SPLIT] * len(splits)
    names: dict[str | None, str] = {None: NO_SPLIT}
    taken = Counter(names.values())
    for split in dict.fromkeys(splits):
        if split is None:
            continue
        plain = re.sub(r"\W+", "_", split, flags=re.ASCII) or "_"
        taken[plain] += 1
        names[split] = plain if taken[plain] == 1 else f"{plain}_{taken[plain]}"
    return [names[split] for split in splits]
