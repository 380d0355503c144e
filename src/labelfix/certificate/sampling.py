"""Which samples to look at, so that few looks tell how many labels are wrong.

Stratified random sampling (Cochran, "Sampling Techniques", 1977, chapter 5): samples that are about
as probably wrong make a stratum, and a stratum gets more looks the larger it is and the less the
report knows about it (Neyman's allocation).

Letters: N samples of the report, n of them scored, H strata, m samples drawn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.config import CertificateConfig
from labelfix.errors import ConfigError, ReportError


@dataclass(frozen=True, slots=True, eq=False)
class AuditSample:
    """Samples drawn at random from strata of samples that are about as probably wrong.

    Args:
        row: ``(m,)`` rows of the report, in the order to look at them: whenever one stops, each
            stratum has had about its share of the looks.
        stratum: ``(m,)`` which stratum each is of, from 0.
        size: ``(H,)`` samples of each stratum.
        probability: ``(H,)`` the mean probability of an error, as the report has it.
        lowest: ``(H,)`` the least of these probabilities in the stratum.
        is_flagged: ``(H,)`` whether the samples of a stratum are flagged; all are, or none.
    """

    row: NDArray[np.int64]
    stratum: NDArray[np.int64]
    size: NDArray[np.int64]
    probability: NDArray[np.float64]
    lowest: NDArray[np.float64]
    is_flagged: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return m."""
        return len(self.row)

    @property
    def weight(self) -> NDArray[np.float64]:
        """Return ``(H,)`` the share of the scored samples that each stratum holds."""
        weight: NDArray[np.float64] = self.size / self.size.sum()
        return weight


def draw_sample(
    probability: NDArray[np.floating],
    is_flagged: NDArray[np.bool_],
    looks: int,
    seed: int,
    config: CertificateConfig = CertificateConfig(),
) -> AuditSample:
    """Draw the samples to look at.

    Args:
        probability: ``(N,)`` that each label is wrong, 0 to 1; NaN where it was not scored.
        is_flagged: ``(N,)`` bool.
        looks: m; all samples are drawn where there are no more.
        seed: What the draw comes from: the same seed always draws the same samples.
        config: How strata are made.

    Raises:
        ConfigError: There are too few looks.
        ReportError: No label was scored.
    """
    if looks < config.least_looks:
        raise ConfigError(
            f"{looks} looks tell too little", hint=f"take {config.least_looks} or more"
        )
    scored = np.flatnonzero(np.isfinite(probability))
    if not len(scored):
        raise ReportError("no label of the report was scored", hint="audit labeled data")
    p = probability[scored].astype(np.float64)
    kept = np.clip(p, config.least_doubt, 1 - config.least_doubt)
    deviation = np.sqrt(kept * (1 - kept))
    stratum = _strata(p, is_flagged[scored], deviation, config.strata)
    size = np.bincount(stratum)
    doubt = np.bincount(stratum, deviation).astype(np.float64)
    wanted = _looks_of_strata(size, doubt, looks, config)
    row, of = _drawn(stratum, wanted, np.random.default_rng(seed))
    first = np.unique(stratum, return_index=True)[1]
    lowest = np.full(len(size), np.inf)
    np.minimum.at(lowest, stratum, p)
    return AuditSample(
        row=scored[row],
        stratum=of,
        size=size,
        probability=np.bincount(stratum, p) / size,
        lowest=lowest,
        is_flagged=is_flagged[scored][first],
    )


def _strata(
    p: NDArray[np.float64], is_flagged: NDArray[np.bool_], deviation: NDArray[np.float64], most: int
) -> NDArray[np.int64]:
    """Return ``(n,)`` strata by rising probability, those of flagged samples apart and last.

    Each holds about as much of the standard deviation of errors, so that each gets as many looks.
    """
    stratum = np.zeros(len(p), np.int64)
    count = 0
    both = [part for part in (np.flatnonzero(~is_flagged), np.flatnonzero(is_flagged)) if len(part)]
    for later, part in zip(reversed(range(len(both))), both, strict=True):
        order = part[np.argsort(p[part], kind="stable")]
        upto = np.cumsum(deviation[order])
        wanted = round(most * upto[-1] / deviation.sum())
        parts = max(1, min(wanted, most - count - later, len(part)))  # one is left for each later
        place = np.ceil(upto / upto[-1] * parts - 1e-9).astype(np.int64) - 1
        codes = np.unique(np.clip(place, 0, parts - 1), return_inverse=True)[1]
        stratum[order] = count + codes
        count += int(codes.max()) + 1
    return stratum


def _looks_of_strata(
    size: NDArray[np.int64],
    deviation: NDArray[np.float64],
    looks: int,
    config: CertificateConfig,
) -> NDArray[np.int64]:
    """Return ``(H,)`` how many samples of each stratum are drawn, ``looks`` together at most."""
    wanted = np.minimum(size, config.least_of_stratum)
    while wanted.sum() < min(looks, size.sum()):
        # one by one to where a look is still worth most (Wright, The American Statistician 2012)
        worth = np.where(wanted < size, deviation / np.sqrt(wanted * (wanted + 1.0)), -1.0)
        wanted[worth.argmax()] += 1
    return wanted


def _drawn(
    stratum: NDArray[np.int64], wanted: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ``(m,)`` what was drawn, and of which stratum, the strata evenly mixed."""
    rows, strata, turns = [], [], []
    for code, many in enumerate(wanted.tolist()):
        rows.append(rng.choice(np.flatnonzero(stratum == code), many, replace=False))
        strata.append(np.full(many, code))
        turns.append((np.arange(many) + rng.random(many)) / many)
    order = np.argsort(np.concatenate(turns), kind="stable")
    return np.concatenate(rows)[order], np.concatenate(strata)[order]
