"""The certificate of a run: what was drawn, who decided, and what follows.

Letters: N samples of the report, m samples drawn.
"""

import json
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelfix.certificate.inference import (
    Shares,
    can_infer,
    expected_half_width,
    infer,
    recalibrate,
)
from labelfix.certificate.sampling import AuditSample, draw_sample
from labelfix.config import CertificateConfig
from labelfix.data.decisions import Decision
from labelfix.errors import RunError
from labelfix.report.run_folder import CERTIFICATE_NAMES
from labelfix.report.view import ReportView
from labelfix.utils.files import atomic_path

CERTIFICATE_NAME, PAGE_NAME, PROBABILITIES_NAME = CERTIFICATE_NAMES
"""What the certificate, its page and the probabilities are called in a RUN folder."""

_UNKNOWN, _RIGHT, _WRONG = -1, 0, 1


@dataclass(frozen=True, slots=True)
class Certificate:
    """How many labels are wrong, by samples drawn at random that people decided on.

    Args:
        run_id: Names the run whose report was sampled; ``None`` in an old one.
        source: The data that were audited.
        fingerprint: The fingerprint of its samples.
        samples: Scored samples: those that the shares are of.
        flagged: How many of them are flagged.
        looks: How many samples were asked for.
        drawn: How many were drawn: all, where there are no more.
        seed: What the draw came from.
        decided: How many of them were decided, right or wrong.
        left_out: Decisions that say nothing of the label: not sure, or dropped as a copy of
            another sample. These samples are taken to be like the rest of their stratum.
        dropped: How many were dropped for what they show: they count as wrong.
        decided_by: How many of the decisions each person made; ``""`` is nobody named.
        decided_at: When the first and the last of them were made, UTC; ``None`` for none.
        model_noise_rate: The share of wrong labels that the audit had estimated.
        half_width: About how far from the estimate each end of its interval was to be expected.
        shares: What follows; ``None`` before each stratum has looks enough.
    """

    run_id: str | None
    source: str
    fingerprint: str
    samples: int
    flagged: int
    looks: int
    drawn: int
    seed: int
    decided: int
    left_out: int
    dropped: int
    decided_by: Mapping[str, int]
    decided_at: tuple[str, str] | None
    model_noise_rate: float | None
    half_width: float
    shares: Shares | None

    @property
    def is_complete(self) -> bool:
        """Return whether every sample drawn was looked at, and enough of them tell."""
        return self.shares is not None and self.undecided == 0

    @property
    def undecided(self) -> int:
        """Return how many of the samples drawn nobody has decided on."""
        return self.drawn - self.decided - self.left_out

    def to_json(self) -> dict[str, Any]:
        """Return the certificate as JSON values."""
        return asdict(self)

    def write(self, run: Path) -> Path:
        """Write ``certificate.json`` into a RUN folder, and return where it is.

        Raises:
            RunError: It cannot be written.
        """
        path = run / CERTIFICATE_NAME
        with atomic_path(path) as draft:
            draft.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
        return path


def write_probabilities(certificate: Certificate, view: ReportView, run: Path) -> Path:
    """Write what the looks make of all probabilities into a RUN folder, and return where it is.

    Columns, one row a sample of the report: ``sample_id``, ``label_error_probability`` as the
    report has it, ``recalibrated_error_probability``; higher is more probably wrong, null where the
    label was not scored.

    Raises:
        RunError: It cannot be written, or the certificate says nothing yet.
    """
    path, probability = run / PROBABILITIES_NAME, view.error_probability
    corrected = recalibrate(probability, shares_of(certificate).calibration)
    table = pa.table({
        "sample_id": view.sample_id,
        "label_error_probability": pa.array(probability, from_pandas=True),
        "recalibrated_error_probability": pa.array(corrected, pa.float32(), from_pandas=True),
    })  # fmt: skip
    with atomic_path(path) as draft:
        pq.write_table(table, draft)
    return path


def shares_of(certificate: Certificate) -> Shares:
    """Return what follows from the looks.

    Raises:
        RunError: Nothing yet.
    """
    if certificate.shares is None:
        raise RunError(
            "too few samples were looked at to say how many labels are wrong",
            hint="decide on the rest with labelfix review RUN --certify",
        )
    return certificate.shares


def drawn_for(
    view: ReportView, looks: int, seed: int = 0, config: CertificateConfig = CertificateConfig()
) -> AuditSample:
    """Return the samples of a report to look at; the same for the same run, looks and seed.

    Raises:
        ConfigError: There are too few looks.
        ReportError: No label was scored.
    """
    of_run = zlib.crc32((view.report.run.run_id or view.report.run.fingerprint).encode())
    return draw_sample(
        view.error_probability, view.is_flagged, looks, seed=(seed << 32) + of_run, config=config
    )


def certify(
    view: ReportView, looks: int, seed: int = 0, config: CertificateConfig = CertificateConfig()
) -> Certificate:
    """Return what the decisions on the samples drawn say of all labels.

    Decisions on other samples count for nothing: people look at suspects first, and those are no
    random sample.

    Args:
        view: N samples, and what people decided.
        looks: How many samples are drawn.
        seed: What they are drawn from.
        config: How strata are made, and how wide intervals are.

    Raises:
        ConfigError: There are too few looks.
        ReportError: No label was scored.
    """
    sample = drawn_for(view, looks, seed, config)
    is_wrong = _said(view)[sample.row]
    names = view.take(sample.row, ["sample_id"])["sample_id"].to_pylist()
    made = [view.decisions[name] for name in names if name in view.decisions]
    decided = int(np.count_nonzero(is_wrong != _UNKNOWN))
    run = view.report.run
    return Certificate(
        run_id=run.run_id,
        source=str(run.source.path),
        fingerprint=run.fingerprint,
        samples=int(sample.size.sum()),
        flagged=int(sample.size[sample.is_flagged].sum()),
        looks=looks,
        drawn=len(sample),
        seed=seed,
        decided=decided,
        left_out=len(made) - decided,
        dropped=sum(one.action == "drop" and not one.as_copy for one in made),
        decided_by=dict(sorted(Counter(one.decided_by or "" for one in made).items())),
        decided_at=_span(made),
        model_noise_rate=run.noise_rate,
        half_width=expected_half_width(sample, config),
        shares=infer(sample, is_wrong, config) if can_infer(sample, is_wrong, config) else None,
    )


def _said(view: ReportView) -> NDArray[np.int8]:
    """Return ``(N,)`` 1 where a label was decided to be wrong, 0 where right, -1 elsewhere."""
    said = np.full(len(view), _UNKNOWN, np.int8)
    said[view.decided.has("keep", "relabel")] = _RIGHT
    said[view.is_decided_wrong] = _WRONG
    return said


def _span(decisions: list[Decision]) -> tuple[str, str] | None:
    times = sorted(decision.decided_at for decision in decisions if decision.decided_at)
    return (times[0], times[-1]) if times else None
