"""The report: one row a sample, in memory or as Parquet.

Letters: N samples, K classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.data.remote import path_of_record
from labelfix.report.made import MadeColumns
from labelfix.report.stored import StoredColumns
from labelfix.types import (
    Assumption,
    DatasetSource,
    Label,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Where the actions came from. No dates, timings or places of output: see `write_report`.

    Args:
        source: The data that were audited.
        fingerprint: The fingerprint of their images.
        noise_rate: The estimated share of wrong labels among the scored samples; ``None`` when
            nothing was scored.
        noise_rate_interval: Between which shares it lies with a probability of 90 %.
        modality: The kind of the samples, ``"image"`` say; ``None`` where only probabilities were
            given.
        backbone: The network that made features of the samples; ``None`` where there was none.
        seed: What every random choice was drawn from; ``None`` where there was none.
        versions: Library to version.
        settings: The rest of what shaped the actions, as JSON values.
        assumptions: What was taken for granted, the most important first.
        run_id: Names the run, so that files of two runs are told apart: equal for equal data,
            settings and decisions. ``None`` in a report that is older than such names.
    """

    source: DatasetSource
    fingerprint: str
    noise_rate: float | None
    noise_rate_interval: tuple[float, float] | None
    modality: str | None
    backbone: str | None
    seed: int | None
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    assumptions: tuple[Assumption, ...] = ()
    run_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        source = {**asdict(self.source), "path": str(self.source.path)}
        rate = self.noise_rate
        return {
            "source": source,
            "fingerprint": self.fingerprint,
            "noise_rate": None if rate is None or not np.isfinite(rate) else float(rate),
            "noise_rate_interval": self.noise_rate_interval and list(self.noise_rate_interval),
            "modality": self.modality,
            "backbone": self.backbone,
            "seed": self.seed,
            "versions": dict(self.versions),
            "settings": dict(self.settings),
            "assumptions": [asdict(assumption) for assumption in self.assumptions],
            "run_id": self.run_id,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RunInfo":
        """Return the record that `to_json` wrote; keys that are not known are left alone.

        Raises:
            KeyError: A key is missing.
        """
        source, interval = values["source"], values["noise_rate_interval"]
        own = {"source", "noise_rate_interval", "modality", "assumptions", "run_id"}
        images = None if values["backbone"] is None else "image"  # in reports without the key
        return cls(
            source=DatasetSource(
                source["kind"],
                path_of_record(source["path"]),
                source["columns"],
                follow_links=bool(source.get("follow_links", False)),
            ),
            noise_rate_interval=None if interval is None else (interval[0], interval[1]),
            modality=values.get("modality", images),
            assumptions=tuple(Assumption(**found) for found in values.get("assumptions", ())),
            run_id=values.get("run_id"),
            **{name: values[name] for name in cls.__slots__ if name not in own},
        )


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What an audit found.

    Args:
        columns: N rows, the columns of `labelfix.report.schema.COLUMNS`, with or without
            ``pred_probs``, which is most of a report when K is large: in memory, or on disk, where
            a column is read when it is asked for, or not written yet, and made when it is.
        class_names: K names, in the order of ``pred_probs``.
        run: Where the actions came from.
        noise: The class-to-class noise matrix, as `labelfix.report.build.noise_table` gives it;
            ``None`` in a report that was read, as it has a file of its own.
    """

    columns: pa.Table | StoredColumns | MadeColumns
    class_names: tuple[Label, ...]
    run: RunInfo
    noise: pa.Table | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self.columns)

    @property
    def column_names(self) -> list[str]:
        """Return the names of the columns, in their order."""
        return self.columns.schema.names  # type: ignore[no-any-return]

    @property
    def table(self) -> pa.Table:
        """Return all columns in memory; a report on disk is read whole, another one made whole.

        Raises:
            ReportError: The file is damaged, as for all that reads.
        """
        return self.columns if isinstance(self.columns, pa.Table) else self.columns.read()

    def read(self, names: Sequence[str]) -> pa.Table:
        """Return some columns in memory."""
        if isinstance(self.columns, pa.Table):
            return self.columns.select(list(names))
        return self.columns.read(names)

    def batches(
        self, names: Sequence[str], *, as_codes: bool = False
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield some columns batch by batch, each with the row at which it begins.

        Args:
            names: The columns.
            as_codes: Whether columns of text may be dictionary arrays.
        """
        if not isinstance(self.columns, pa.Table):
            yield from self.columns.batches(names, as_codes=as_codes)
            return
        start = 0
        for batch in self.columns.select(list(names)).to_batches():
            yield start, batch
            start += len(batch)

    def has_names(self, sample_id: pa.Array | pa.ChunkedArray) -> bool:
        """Return whether the samples have these names, in this order."""
        names = pa.chunked_array([sample_id]) if isinstance(sample_id, pa.Array) else sample_id
        return len(self) == len(names) and all(
            names.slice(start, len(batch)).equals(pa.chunked_array([batch.column(0)]))
            for start, batch in self.batches(["sample_id"])
        )

    def take(self, rows: NDArray[np.integer] | Sequence[int], names: Sequence[str]) -> pa.Table:
        """Return some rows of some columns, in the order in which they are named."""
        if isinstance(self.columns, pa.Table):
            return self.columns.select(list(names)).take(pa.array(rows, pa.int64()))
        return self.columns.take(np.asarray(rows, np.int64), names)
