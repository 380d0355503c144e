"""The report: one row a sample, as a Parquet file.

Letters: N samples, K classes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from labelfix.data.remote import path_of_record
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
        noise_rate: The estimated share of wrong labels among the judged samples; ``None`` when
            nothing was judged.
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
        table: N rows, the columns of `labelfix.report.schema.COLUMNS`, with or without
            ``pred_probs``, which is most of a report when K is large.
        class_names: K names, in the order of ``pred_probs``.
        run: Where the actions came from.
        noise: The class-to-class noise matrix, as `labelfix.report.build.noise_table` gives it;
            ``None`` in a report that was read, as it has a file of its own.
    """

    table: pa.Table
    class_names: tuple[Label, ...]
    run: RunInfo
    noise: pa.Table | None = None

    def __len__(self) -> int:
        """Return N."""
        return int(self.table.num_rows)
