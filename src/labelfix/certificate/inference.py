"""From what people said of a stratified random sample to shares of all samples.

The estimate of a share is the plain stratified one, unbiased whatever the report's probabilities
are worth. Its interval comes from a Beta distribution of the share of errors in each stratum, which
begins as a fraction of one look that agrees with the report and is renewed by the looks. A stratum
in which no error was seen may have none: for the lower end its share is 0, and likewise 1 for the
upper end where nothing but errors was seen.

Letters: H strata, m samples drawn, D draws.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.certificate.sampling import AuditSample
from labelfix.config import CertificateConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Share:
    """A share of samples, and the interval that holds it with 90 % by default; 0 to 1 each."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class StratumShare:
    """What was seen of the samples that are about as probably wrong.

    Args:
        lowest: The least of their probabilities.
        probability: Their mean probability, as the report has it.
        is_flagged: Whether they are flagged.
        samples: How many there are.
        looked_at: How many people decided on.
        wrong: How many of these labels were wrong.
        share: The share of wrong labels among all of them.
    """

    lowest: float
    probability: float
    is_flagged: bool
    samples: int
    looked_at: int
    wrong: int
    share: Share


@dataclass(frozen=True, slots=True)
class Shares:
    """What the looks say of all scored samples.

    Args:
        noise_rate: The share of labels that are wrong.
        precision: The share of flags that are right; ``None`` where nothing is flagged.
        recall: The share of wrong labels that is flagged; ``None`` where no error was seen.
        strata: The same stratum by stratum, the most probable errors first.
        calibration: Points of a rising line, from (0, 0) to (1, 1): a probability of the report,
            and what it should have been. See `recalibrate`.
    """

    noise_rate: Share
    precision: Share | None
    recall: Share | None
    strata: tuple[StratumShare, ...]
    calibration: tuple[tuple[float, float], ...]


def can_infer(sample: AuditSample, is_wrong: NDArray[np.int8], config: CertificateConfig) -> bool:
    """Return whether each stratum has looks enough, or was looked at whole."""
    seen = np.bincount(sample.stratum[is_wrong >= 0], minlength=len(sample.size))
    return bool(np.all(seen >= np.minimum(sample.size, config.least_of_stratum)))


def infer(
    sample: AuditSample,
    is_wrong: NDArray[np.int8],
    config: CertificateConfig = CertificateConfig(),
    seed: int = 0,
) -> Shares:
    """Return the shares of wrong labels and of right flags.

    Args:
        sample: m samples drawn; each stratum needs looks: see `can_infer`.
        is_wrong: ``(m,)`` what people said: 1 wrong, 0 right, -1 nothing or not sure.
        config: How wide intervals are.
        seed: What the draws come from.
    """
    strata = len(sample.size)
    seen = np.bincount(sample.stratum[is_wrong >= 0], minlength=strata)
    wrong = np.bincount(sample.stratum[is_wrong == 1], minlength=strata)
    low, high = _drawn_shares(sample, seen, wrong, config, np.random.default_rng(seed))
    flag, weight, plain = sample.is_flagged, sample.weight, wrong / seen
    limits = [(1 - config.share) / 2, (1 + config.share) / 2]

    def share(estimate: float, lows: Floats, highs: Floats) -> Share:
        return Share(
            estimate,
            float(np.quantile(lows, limits[0])),
            float(np.quantile(highs, limits[1])),
        )

    found, missed = weight * flag, weight * ~flag
    precision = recall = None
    if flag.any():
        of_flags = found / found.sum()
        precision = share(float(of_flags @ plain), low @ of_flags, high @ of_flags)
        if wrong.any():
            recall = share(
                float(found @ plain / (weight @ plain)),
                _ratio(low @ found, high @ missed),
                _ratio(high @ found, low @ missed),
            )
    return Shares(
        noise_rate=share(float(weight @ plain), low @ weight, high @ weight),
        precision=precision,
        recall=recall,
        strata=tuple(
            StratumShare(
                lowest=float(sample.lowest[code]),
                probability=float(sample.probability[code]),
                is_flagged=bool(flag[code]),
                samples=int(sample.size[code]),
                looked_at=int(seen[code]),
                wrong=int(wrong[code]),
                share=share(plain[code], low[:, code], high[:, code]),
            )
            for code in np.lexsort((-sample.probability, ~flag)).tolist()
        ),
        calibration=_calibration(sample, seen, wrong, config),
    )


def recalibrate(
    probability: NDArray[np.floating], calibration: tuple[tuple[float, float], ...]
) -> Floats:
    """Return ``(N,)`` probabilities as the looks correct them: higher is more probably wrong.

    Args:
        probability: ``(N,)`` of the report, 0 to 1; NaN stays NaN.
        calibration: Of `Shares`.
    """
    given, corrected = zip(*calibration, strict=True)
    return np.asarray(np.interp(probability.astype(np.float64), given, corrected), np.float64)


def _calibration(
    sample: AuditSample,
    seen: NDArray[np.int64],
    wrong: NDArray[np.int64],
    config: CertificateConfig,
) -> tuple[tuple[float, float], ...]:
    """Return the isotonic regression of what was seen, stratum by stratum, on the probabilities.

    Each stratum begins with ``prior_looks`` that agree with the report.
    """
    order = np.argsort(sample.probability, kind="stable")
    given = sample.probability[order]
    looks = np.asarray(seen + config.prior_looks, np.float64)[order]
    rising = _isotonic((wrong[order] + config.prior_looks * given) / looks, looks)
    points = [(0.0, 0.0), *zip(given.tolist(), rising.tolist(), strict=True), (1.0, 1.0)]
    return tuple(points)


def _isotonic(values: Floats, weight: Floats) -> Floats:
    """Return ``(H,)`` the rising values nearest to ``values`` in weighted squares.

    Pools neighbors that fall (Ayer et al., Annals of Mathematical Statistics 1955).
    """
    blocks: list[tuple[float, float, int]] = []  # value, weight, how many strata
    for value, heavy in zip(values.tolist(), weight.tolist(), strict=True):
        blocks.append((value, heavy, 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (one, w, n), (other, v, m) = blocks[-2:]
            blocks[-2:] = [((one * w + other * v) / (w + v), w + v, n + m)]
    return np.repeat([value for value, _, _ in blocks], [many for _, _, many in blocks])


def _ratio(found: Floats, missed: Floats) -> Floats:
    """Return ``(D,)`` the share of errors that is found; all where there is none."""
    whole = found + missed
    return np.divide(found, whole, out=np.ones_like(whole), where=whole > 0)


def _drawn_shares(
    sample: AuditSample,
    seen: NDArray[np.int64],
    wrong: NDArray[np.int64],
    config: CertificateConfig,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Return ``(D, H)`` shares of errors in each stratum, for the lower and for the upper end.

    What was looked at is known; only the rest of a stratum is drawn.
    """
    begin = config.prior_looks * sample.probability + config.prior_each
    begin_right = config.prior_looks * (1 - sample.probability) + config.prior_each
    rest = rng.beta(begin + wrong, begin_right + seen - wrong, (config.draws, len(seen)))
    known = seen / sample.size
    shares = known * wrong / seen + (1 - known) * rest
    return np.where(wrong == 0, 0.0, shares), np.where(wrong == seen, 1.0, shares)


def expected_half_width(sample: AuditSample, config: CertificateConfig) -> float:
    """Return about how far from the estimate either end of the interval of the rate will be."""
    p = np.clip(sample.probability, config.least_doubt, 1 - config.least_doubt)
    looks = np.bincount(sample.stratum, minlength=len(sample.size))
    variance = sample.weight**2 * p * (1 - p) / looks * (1 - looks / sample.size)
    return float(config.deviations * np.sqrt(variance.sum()))
