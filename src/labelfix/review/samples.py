"""What the page shows of a sample besides columns of numbers: its name, its reason, its classes.

Of a large report only the samples that a queue may show are in memory; others are read from their
row groups when somebody looks at them.

Letters: N samples, K classes, T classes shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.report.schema import PRED_PROBS
from labelfix.report.top_classes import TOP_NAMES, likeliest
from labelfix.report.types import Report
from labelfix.types import Codes, code_type

MOST_KEPT = 2_000_000
"""Samples of a report that are all in memory; of more, those that a queue shows."""

SHOWN_CLASSES = 5
_REMEMBERED = 20_000  # samples that were read one by one


@dataclass(frozen=True, slots=True)
class ShownSample:
    """One sample.

    Args:
        name: Its sample id.
        reason: What the report says of it.
        top: The T most probable classes, falling, each with its probability; none if not scored.
    """

    name: str
    reason: str | None
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """Samples in memory, ``(M,)`` of each; probabilities are NaN where not scored."""

    texts: pa.Table
    code: Codes
    probability: NDArray[np.float32]

    def __getitem__(self, place: int) -> ShownSample:
        name, reason = (column[place].as_py() for column in self.texts.columns)
        pairs = zip(self.code[place].tolist(), self.probability[place].tolist(), strict=True)
        return ShownSample(name, reason, tuple(pair for pair in pairs if pair[1] == pair[1]))


class ShownSamples:
    """The samples of a report as they are shown; safe to use from several threads.

    Args:
        report: N rows, with ``pred_probs`` or the likeliest classes.
        rows: Rising rows to hold in memory; ``None`` holds all.

    Raises:
        ReportError: The report is damaged.
    """

    def __init__(self, report: Report, rows: NDArray[np.int64] | None = None) -> None:
        self._report = report
        self._rows = rows
        self._kept = _kept(_picked(report, rows), len(report.class_names))
        self._read: dict[int, ShownSample] = {}
        self._lock = Lock()

    def name(self, row: int) -> str:
        """Return the name of a sample."""
        return self.of([row])[0].name

    def of(self, rows: Sequence[int]) -> list[ShownSample]:
        """Return some samples; those that are not in memory are read together."""
        places = {row: self._place(row) for row in rows}
        with self._lock:
            self._fetch(sorted(row for row, place in places.items() if place is None))
            return [
                self._read[row] if (place := places[row]) is None else self._kept[place]
                for row in rows
            ]

    def _place(self, row: int) -> int | None:
        if self._rows is None:
            return row
        place = int(np.searchsorted(self._rows, row))
        return place if place < len(self._rows) and self._rows[place] == row else None

    def _fetch(self, rows: Sequence[int]) -> None:
        wanted = [row for row in rows if row not in self._read]
        if len(self._read) + len(wanted) > _REMEMBERED:
            self._read.clear()
            wanted = list(rows)
        if wanted:
            batches = self._report.take(wanted, _columns(self._report)).to_batches()
            found = _kept(iter(batches), len(self._report.class_names))
            self._read.update((row, found[place]) for place, row in enumerate(wanted))


def _columns(report: Report) -> list[str]:
    """Return the columns that hold what is shown."""
    names = report.column_names
    return ["sample_id", "reason", *([PRED_PROBS] if PRED_PROBS in names else TOP_NAMES)]


def _picked(report: Report, rows: NDArray[np.int64] | None) -> Iterator[pa.RecordBatch]:
    for start, batch in report.batches(_columns(report)):
        if rows is None:
            yield batch
            continue
        first, last = np.searchsorted(rows, [start, start + len(batch)])
        if first < last:
            yield batch.take(pa.array(rows[first:last] - start))


def _kept(batches: Iterator[pa.RecordBatch], classes: int) -> _Kept:
    """Return samples, whose probabilities are in memory one batch at a time."""
    count, kind = min(SHOWN_CLASSES, classes), code_type(classes)
    texts, codes = [], [np.empty((0, count), kind)]
    probabilities = [np.empty((0, count), np.float32)]
    for batch in batches:
        texts.append(batch.select(["sample_id", "reason"]))
        rows, best, probs = likeliest(batch, count, classes)
        code = np.zeros((len(batch), count), kind)
        probability = np.full((len(batch), count), np.nan, np.float32)
        code[rows, : best.shape[1]] = best
        probability[rows, : best.shape[1]] = probs
        codes.append(code)
        probabilities.append(probability)
    schema = pa.schema([("sample_id", pa.string()), ("reason", pa.string())])
    held = pa.Table.from_arrays(
        [pa.chunked_array([one[name] for one in texts], pa.string()) for name in schema.names],
        schema=schema,
    )
    return _Kept(held, np.concatenate(codes), np.concatenate(probabilities))
