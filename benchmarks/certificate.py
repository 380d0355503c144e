"""Whether certificates are honest: samples drawn again and again, where the truth is known.

    python benchmarks/certificate.py [--draws 1000] [--looks 50 100 200] [--pred-probs FILE.npz]
        [--evidence FILE.npz ...] [--run RUN --truth TRUTH.csv] [--results FILE]

A row tells in which share of the draws the 90 % intervals of `labelfix certify` held the truth, how
wide that of the share of wrong labels was, how far its estimate was off on the mean, and the
calibration error of all probabilities before and after the looks corrected them.
Populations: ``--pred-probs`` and ``--run`` as `benchmarks/review_estimate.py` has them;
``--evidence`` takes probabilities with planted errors (``probs``, ``given``, ``true``).
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness import append_row, new_parser
from labelfix.benchmark.metrics import calibration_error, reliability
from labelfix.certificate.inference import Share, infer, recalibrate
from labelfix.certificate.sampling import draw_sample
from labelfix.config import CertificateConfig, FlagConfig
from labelfix.scoring.flags import flag
from labelfix.scoring.scores import score_labels
from labelfix.types import Evidence
from review_estimate import Population, of_run, published


def main() -> None:
    arguments = parse()
    for name, population in populations(arguments):
        for looks in arguments.looks:
            row = measure(population, looks, arguments.draws)
            print(name, row, flush=True)
            append_row(arguments.results, {"population": name, **row})


def populations(arguments: argparse.Namespace) -> Iterator[tuple[str, Population]]:
    """Yield the populations that were asked for."""
    if arguments.pred_probs:
        yield from published(arguments.pred_probs)
    for file in arguments.evidence:
        with np.load(file) as arrays:
            probs, given = arrays["probs"], arrays["given"].astype(np.int64)
            nothing = np.full(len(given), np.nan, np.float32)
            evidence = Evidence(probs, np.zeros(len(given), np.int16), nothing, given)
            wrong = score_labels(evidence, given).label_error_probability.astype(np.float64)
            is_scored = np.isfinite(wrong)
            is_wrong = given != arrays["true"]
            yield file.stem, Population(wrong[is_scored], is_wrong[is_scored])
    if arguments.run:
        yield str(arguments.run), of_run(arguments.run, arguments.truth)


def measure(population: Population, looks: int, draws: int) -> dict[str, float]:
    """Return how often the intervals hold the truth."""
    p, is_wrong = population.probability, population.is_wrong
    flags = flag(p, FlagConfig())
    config = replace(CertificateConfig(), draws=1000)
    held: dict[str, list[bool]] = {"noise_rate": [], "precision": [], "recall": []}
    truth = {
        "noise_rate": is_wrong.mean(),
        "precision": is_wrong[flags].mean() if flags.any() else np.nan,
        "recall": flags[is_wrong].mean() if is_wrong.any() else np.nan,
    }
    widths, off, errors = [], [], []
    for seed in range(draws):
        sample = draw_sample(p, flags, looks, seed, config)
        shares = infer(sample, is_wrong[sample.row].astype(np.int8), config, seed)
        for name, values in held.items():
            share: Share | None = getattr(shares, name)
            if share is not None:
                values.append(bool(share.low <= truth[name] <= share.high))
        widths.append(shares.noise_rate.high - shares.noise_rate.low)
        off.append(shares.noise_rate.estimate - truth["noise_rate"])
        corrected = recalibrate(p, shares.calibration)
        errors.append(calibration_error(reliability(corrected, is_wrong)))
    return {
        "looks": looks,
        "draws": draws,
        "samples": len(p),
        "wrong": round(float(truth["noise_rate"]), 4),
        "estimated": round(float(p.mean()), 4),
        **{
            f"holds_{name}": round(float(np.mean(values)), 4)
            for name, values in held.items()
            if values
        },
        "width": round(float(np.mean(widths)), 4),
        "bias": round(float(np.mean(off)), 4),
        "error": round(float(np.mean(np.abs(off))), 4),
        "calibration_error": round(calibration_error(reliability(p, is_wrong)), 4),
        "calibration_error_corrected": round(float(np.mean(errors)), 4),
    }


def parse() -> argparse.Namespace:
    parser = new_parser(__doc__, rows="certificate.jsonl")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--looks", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--pred-probs", type=Path)
    parser.add_argument("--evidence", type=Path, nargs="*", default=[])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--truth", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
