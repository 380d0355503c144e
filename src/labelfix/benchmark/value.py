"""Whether cleaning pays on one's own data: heads trained before and after, on the test split.

Letters: N samples of a report, T of them for testing, V ways to train, S seeds, R resamples.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.benchmark.methods.heads import HeadTargets, choose_radii, fit, predictions
from labelfix.config import MIN_PROBABILITY
from labelfix.config.file import config_of, read_settings
from labelfix.data.decisions import folder_of_run, read_decisions
from labelfix.errors import ConfigError
from labelfix.exports.plan import ExportPlan, plan_export
from labelfix.exports.soft_labels import soft_labels_of
from labelfix.modalities.base import get_modality
from labelfix.recipes import HeadTuning
from labelfix.report.io import RUN_NAME, read_pred_probs, read_report_table
from labelfix.report.reopen import open_audited
from labelfix.report.view import ReportView
from labelfix.types import MISSING, Features
from labelfix.utils.cache import default_cache
from labelfix.utils.progress import OnProgress, Progress, no_progress

GIVEN = "given labels"
"""The way to train that all others are compared with."""

RESAMPLES = 2000
SHARE = 0.9
LEAST_TESTS = 20


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """Labels to train on, ``(N,)`` codes or ``MISSING``, and how much each counts.

    Where there are soft labels, ``(N, K)``, they are learned in place of the others.
    """

    label: NDArray[np.int64]
    weight: NDArray[np.float64]
    soft_label: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class WayValue:
    """What one way to train is worth.

    Args:
        name: Which.
        trained: How many samples are trained on.
        changed: How many of their labels are not the given ones.
        accuracy: The share of test samples whose label is predicted, the mean over seeds.
        gain: How much more that is than with the given labels.
        gain_interval: Between which gains it lies with 90 %: other test samples of the same kind
            might have been drawn.
    """

    name: str
    trained: int
    changed: int
    accuracy: float
    gain: float
    gain_interval: tuple[float, float]

    @property
    def is_measurable(self) -> bool:
        """Return whether the interval of the gain leaves 0 out."""
        return not self.gain_interval[0] <= 0 <= self.gain_interval[1]


@dataclass(frozen=True, slots=True)
class Value:
    """Whether cleaning pays.

    Args:
        test: The splits that were tested on.
        tested: T.
        test_suspects: How many of the test labels look wrong themselves.
        copies_left_out: Samples that were not trained on, as the test has the same ones.
        seeds: S.
        ways: The given labels first.
    """

    test: tuple[str, ...]
    tested: int
    test_suspects: int
    copies_left_out: int
    seeds: int
    ways: tuple[WayValue, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        ways = [{**asdict(way), "is_measurable": way.is_measurable} for way in self.ways]
        return {**asdict(self), "ways": ways}


def value_of(
    run: Path, *, test: str | None = None, seeds: int = 3, on_progress: OnProgress = no_progress
) -> Value:
    """Train heads on the labels of a run before and after cleaning, and test them.

    The heads are trained on the features of the audit, each with a radius of its own choice, on all
    samples that are not of a test split. Test labels are taken as they were given.

    Args:
        run: The RUN folder of an audit of samples.
        test: The split to test on; ``None`` takes those whose names say so.
        seeds: How often everything is trained, in other orders.
        on_progress: Told what is going on.

    Raises:
        ConfigError: The report has no such split, or one too small, or only probabilities.
        DatasetError: The data set is gone or has changed.
        DecisionsError: The decisions cannot be read.
        ReportError: ``run`` holds no report.
    """
    report = read_report_table(run, pred_probs=False)
    view = ReportView(report, read_decisions(run))
    is_test = _test_rows(view, test)
    folder = folder_of_run(run)
    config = replace(config_of(read_settings(folder / RUN_NAME)), tune="head")
    dataset = open_audited(report, on_progress, as_shown=False)
    if dataset is None:
        raise ConfigError(
            "the run has probabilities only, and nothing to train on",
            hint="audit the samples themselves, or their embeddings with --features",
        )
    tuning = HeadTuning.load(dataset, config, get_modality(dataset.modality))
    features = tuning.look(dataset, config.cache or default_cache(), on_progress)
    is_readable = np.ones(len(view), np.bool_)
    is_readable[list(features.unreadable)] = False
    tests = np.flatnonzero(is_test & is_readable & (view.given != MISSING))
    is_copy = (view.exact_set != MISSING) & np.isin(view.exact_set, view.exact_set[tests])
    trains = np.flatnonzero(~is_test & is_readable & ~is_copy)
    ways = _ways(view, run)
    right = np.zeros((len(tests), len(ways)))
    for seed in range(seeds):
        on_progress(Progress("training on given and cleaned labels", seed, seeds, "rounds"))
        targets = _targets(ways, features, trains, view, config.seed + seed, tuning)
        heads = fit(targets, choose_radii(targets))
        predicted = predictions(heads, targets, np.asarray(features.values[tests]))
        right += (predicted == view.given[tests][:, None]) / seeds
    names = {view.split_names[code] for code in set(view.split_name[is_test].tolist())}
    return Value(
        test=tuple(sorted(names)),
        tested=len(tests),
        test_suspects=int(np.count_nonzero(view.is_flagged[tests])),
        copies_left_out=int(np.count_nonzero(~is_test & is_readable & is_copy)),
        seeds=seeds,
        ways=_compared(ways, right, trains, view.given, config.seed),
    )


def _targets(
    ways: Mapping[str, _Way],
    features: Features,
    trains: NDArray[np.int64],
    view: ReportView,
    seed: int,
    tuning: HeadTuning,
) -> HeadTargets:
    """Return what a head of each way learns."""
    label = np.stack([way.label[trains] for way in ways.values()], axis=1)
    weight = np.stack([way.weight[trains] for way in ways.values()], axis=1)
    return HeadTargets(
        values=np.asarray(features.values[trains]),
        label=np.where(label == MISSING, 0, label),
        weight=np.where(label == MISSING, 0.0, np.nan_to_num(weight)).astype(np.float32),
        classes=len(view.class_names),
        seed=seed,
        device=tuning.device,
        soft_label={
            place: way.soft_label[trains]
            for place, way in enumerate(ways.values())
            if way.soft_label is not None
        },
    )


def _test_rows(view: ReportView, test: str | None) -> NDArray[np.bool_]:
    """Return ``(N,)`` which samples are tested on."""
    known = ", ".join(view.split_names) or "none"
    if test is None:
        is_test = view.is_test
    elif test in view.split_names:
        is_test = view.split_name == view.split_names.index(test)
    else:
        raise ConfigError(f"the report has no split {test!r}", hint=f"its splits are: {known}")
    if np.count_nonzero(is_test & (view.given != MISSING)) < LEAST_TESTS:
        raise ConfigError(
            f"there are fewer than {LEAST_TESTS} labeled test samples",
            hint=f"name a split with --test (there are: {known}), or audit data that have one",
        )
    if is_test.all():
        raise ConfigError("every sample is of the test split", hint="name another with --test")
    return is_test


def _ways(view: ReportView, run: Path) -> Mapping[str, _Way]:
    """Return the ways to train, over all N rows."""
    given, one = view.given.astype(np.int64), np.ones(len(view))
    plan = plan_export(view, min_probability=MIN_PROBABILITY, drop=False)
    cleaned = _codes(view, plan)
    soft = np.concatenate(list(soft_labels_of(view, plan, read_pred_probs(run))))
    soft_label = np.zeros((len(view), len(view.class_names)), np.float32)
    soft_label[plan.rows] = soft[:, : len(view.class_names)]  # nobody can test a new class
    all_taken = np.where(view.is_flagged & (view.suggested != MISSING), view.suggested, given)
    ways = {
        GIVEN: _Way(given, one),
        "given labels with sample weights": _Way(given, view.sample_weight.astype(np.float64)),
        "without flagged samples": _Way(given, (~view.is_flagged).astype(np.float64)),
        "export: sure and decided labels": _Way(cleaned, one),
        "every suggested label": _Way(all_taken, one),
        "soft labels": _Way(
            np.where(soft_label.any(axis=1), given, MISSING), one, soft_label=soft_label
        ),
    }
    if view.decisions:
        decided = plan_export(view, min_probability=1.0, drop=False)
        ways["decisions so far"] = _Way(_codes(view, decided), one)
    return ways


def _codes(view: ReportView, plan: ExportPlan) -> NDArray[np.int64]:
    """Return ``(N,)`` the labels of an export as codes; ``MISSING`` for none or a new class."""
    names = pa.array(view.class_names, plan.label.type)
    codes = np.full(len(view), MISSING)
    codes[plan.rows] = pc.fill_null(pc.index_in(plan.label, names), MISSING).to_numpy(
        zero_copy_only=False
    )
    return codes


def _compared(
    ways: Mapping[str, _Way],
    right: NDArray[np.float64],
    trains: NDArray[np.int64],
    given: NDArray[np.int64],
    seed: int,
) -> tuple[WayValue, ...]:
    """Return each way beside the first one, by a paired bootstrap over test samples."""
    gains = right - right[:, :1]
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(right), np.full(len(right), 1 / len(right)), RESAMPLES)
    drawn = counts @ gains / len(right)
    low, high = np.quantile(drawn, [(1 - SHARE) / 2, (1 + SHARE) / 2], axis=0)
    return tuple(
        WayValue(
            name=name,
            trained=int(
                np.count_nonzero((way.label[trains] != MISSING) & (way.weight[trains] > 0))
            ),
            changed=int(
                np.count_nonzero((way.label != given)[trains] & (way.label[trains] != MISSING))
            ),
            accuracy=float(right[:, place].mean()),
            gain=float(gains[:, place].mean()),
            gain_interval=(float(low[place]), float(high[place])),
        )
        for place, (name, way) in enumerate(ways.items())
    )
