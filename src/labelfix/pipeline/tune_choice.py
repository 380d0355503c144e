"""Choose what is trained by how long it would take: heads, upper stages, or whole networks.

A few real samples are read, encoded and trained on; the rest is multiplication. The choice is kept
with the claim of a run, so that a run that is gone on with does not choose anew.

Letters: N samples, K classes, D features, F folds, V views.
"""

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from labelfix.arguments import named
from labelfix.config import AuditConfig, AutoConfig, FineTuningConfig, Tune
from labelfix.errors import BackboneError
from labelfix.issues.cells import CellSearch
from labelfix.issues.neighbors import COMPONENTS, EXACT
from labelfix.modalities.base import Modality, NetworkTrainer
from labelfix.recipes import HeadTuning, networks_at_once, views_kept
from labelfix.training.cross_fit_networks import AtOnce
from labelfix.training.cut import Cut, affordable_cuts, possible_cuts, upper_network
from labelfix.training.layers import group_layers
from labelfix.training.step_times import StepTimes, time_step
from labelfix.types import MISSING, Assumption, LabeledDataset, SampleStore
from labelfix.utils.progress import OnProgress, no_progress, remark, said
from labelfix.utils.text import about
from labelfix.utils.threads import cores
from labelfix.utils.torch_utils import choose_device, one_core_threads

STAGE = "timing a few batches"

_JOINING = 3
"""A comparison with the rows of cells takes so many times one with all rows: what is found in each
cell is joined."""


@dataclass(frozen=True, slots=True)
class TuningPlan:
    """One way to train.

    Args:
        tune: ``"head"``, ``"top"`` or ``"full"``.
        cut: For ``"top"``: the module that is trained first.
        seconds: How long the whole audit would take.
    """

    tune: Tune
    cut: str | None = None
    seconds: float = math.nan

    @property
    def name(self) -> str:
        """What a sentence calls it."""
        if self.tune == "head":
            return "heads on frozen features (head)"
        if self.tune == "full":
            return "whole networks (full)"
        start = "" if self.cut is None else f", from {self.cut} on"
        return f"the upper stages of networks (top{start})"

    @property
    def asked_by(self) -> str:
        """How a caller asks for it."""
        return named("tune", value=self.tune)


@dataclass(frozen=True, slots=True)
class TuneChoice:
    """What is trained, and what is said of it.

    Args:
        config: The configuration with ``tune`` decided.
        kept: What the claim of the run holds of it, as JSON values; empty where nothing was chosen.
        assumption: What the report says: the same whenever the same is chosen.
        estimate: What the terminal and ``run.json`` say in its place: with times, which are never
            the same; ``None`` where nothing was timed.
    """

    config: AuditConfig
    kept: Mapping[str, Any]
    assumption: Assumption | None = None
    estimate: Assumption | None = None

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """Return what the report takes for granted."""
        return () if self.assumption is None else (self.assumption,)

    def told(self, assumptions: Sequence[Assumption]) -> list[dict[str, str]]:
        """Return the assumptions of a report with the estimate, as JSON values."""
        others = [one for one in assumptions if one != self.assumption]
        own = self.estimate or self.assumption
        return [asdict(one) for one in [*others, *([own] if own else [])]]


def is_left_open(config: AuditConfig) -> bool:
    """Return whether it has yet to be chosen what is trained.

    Raises:
        BackboneError: The device that was asked for is not there.
    """
    return config.tune == "auto" and _limit(config) is not None


def choose_tuning(
    dataset: LabeledDataset,
    modality: Modality,
    config: AuditConfig,
    kept: Mapping[str, Any] | None,
    on_progress: OnProgress,
) -> TuneChoice:
    """Return the most thorough training that is done within the time limit.

    Args:
        dataset: The samples.
        modality: Of them.
        config: What was asked for.
        kept: What an unfinished run that is gone on with has chosen; ``None`` chooses.
        on_progress: Told the choice.

    Raises:
        LabelfixError: The network cannot be had, or the samples cannot be read.
    """
    limit = _limit(config)
    if limit is None or (config.tune != "auto" and config.auto.time_limit is None):
        return TuneChoice(config, {})
    if config.tune != "auto":
        return TuneChoice(config, {}, estimate=_warned(dataset, modality, config, on_progress))
    if kept is not None:
        return _chosen(config, _kept_plan(kept))
    labeled = int((dataset.given_label != MISSING).sum())
    if labeled < config.auto.least_samples:
        return _of_few(config, labeled, modality.plural)
    with said(STAGE, on_progress):
        plans, fault = timed_plans(dataset, modality, config)
    if len(plans) == 1:
        return _of_no_network(config, fault)
    plan = most_thorough(_worth_choosing(plans, config), limit)
    choice = _chosen(config, plan)
    estimate = Assumption("tune", estimate_of(plan, plans))
    on_progress(remark(f"tune: {estimate.text}"))
    return replace(choice, estimate=estimate)


def most_thorough(plans: Sequence[TuningPlan], limit: float) -> TuningPlan:
    """Return the last plan that fits, or the first if none does.

    Args:
        plans: From the least thorough to the most.
        limit: Seconds.
    """
    fitting = [plan for plan in plans if plan.seconds <= limit]
    return fitting[-1] if fitting else plans[0]


def _worth_choosing(plans: Sequence[TuningPlan], config: AuditConfig) -> list[TuningPlan]:
    """Return the plans without whole networks on a CPU, where upper stages found as many errors."""
    is_cpu = choose_device(config.backbone.device).type == "cpu"
    return [plan for plan in plans if not (is_cpu and plan.tune == "full")]


def estimate_of(plan: TuningPlan, plans: Sequence[TuningPlan]) -> str:
    """Return how long a plan takes, and what each other one would, in a sentence."""
    told = [
        f"{one.asked_by} would take {about(one.seconds)}" for one in plans if one.tune != plan.tune
    ]
    return "; ".join([f"{plan.name} are trained, in {about(plan.seconds)}", *told])


def timed_plans(
    dataset: LabeledDataset, modality: Modality, config: AuditConfig
) -> tuple[list[TuningPlan], str]:
    """Return every way to train these samples, from the least thorough to the most.

    Heads are always among them. The text says why networks are not, where they cannot be trained.

    Raises:
        LabelfixError: The network cannot be had, or the samples cannot be read.
    """
    load = _Load.of(dataset, config)
    features = _time_features(dataset, modality, config, load)
    plans = [TuningPlan("head", None, features.rest + features.heads)]
    trainer = modality.trainer(replace(config, tune="full"), dataset.store)
    upper = modality.trainer(replace(config, tune="top"), dataset.store)
    if trainer is None or upper is None:
        return plans, f"there is no network to train on {modality.plural}"
    try:
        return plans + _network_plans(trainer, upper, config, load, features), ""
    except BackboneError as error:  # heads on its features can be trained all the same
        return plans, str(error)


@dataclass(frozen=True, slots=True)
class _Load:
    """How much there is to do."""

    samples: int
    labeled: int
    classes: int
    device: torch.device

    @classmethod
    def of(cls, dataset: LabeledDataset, config: AuditConfig) -> "_Load":
        return cls(
            samples=len(dataset.store),
            labeled=int((dataset.given_label != MISSING).sum()),
            classes=len(dataset.class_names),
            device=choose_device(config.backbone.device),
        )


@dataclass(frozen=True, slots=True)
class _FeatureTimes:
    """Seconds of training heads, of the rest of their audit, and of one sample's features."""

    heads: float
    rest: float
    sample: float


def _time_features(
    dataset: LabeledDataset, modality: Modality, config: AuditConfig, load: _Load
) -> _FeatureTimes:
    """Encode a few samples, and then more of them, as the first batches are slow."""
    encoder = HeadTuning.load(dataset, config, modality).encoder
    size = 16 if load.device.type == "cpu" else 256
    size = (config.backbone.batch_size or size) * (cores() if load.device.type == "cpu" else 1)
    count = min(5 * size, load.samples)
    rows = np.linspace(0, load.samples - 1, count).astype(np.int64)
    seconds, width = 0.0, 1
    parts = np.split(rows, [min(size, count // 2)])
    for part in parts:
        with tempfile.TemporaryDirectory() as cache:
            begin = time.perf_counter()
            some = _SomeSamples(dataset.store, part)
            features = encoder.encode(some, "timed", Path(cache), no_progress)
            seconds = time.perf_counter() - begin
            width = features.values.shape[1]
            del features  # it may be mapped from a file there
    sample = seconds / len(parts[-1])
    one = _seconds_of_a_multiplication(load.device)
    return _FeatureTimes(
        heads=_multiplications(load, config, width) * one,
        rest=load.samples * sample + _seconds_of_comparing(load.samples, one),
        sample=sample,
    )


def _seconds_of_comparing(samples: int, one: float) -> float:
    """Return how long it takes to find the nearest neighbors of all samples.

    Args:
        samples: How many there are.
        one: Seconds of a multiplication.
    """
    exact = float(samples**2 * COMPONENTS * one)
    if samples <= EXACT:
        return exact
    # what is found in one cell has to be joined with what was found in others
    return min(exact, samples * CellSearch().compared * COMPONENTS * one * _JOINING)


def _multiplications(load: _Load, config: AuditConfig, width: int) -> float:
    """Return those of heads, forward and backward for their weights, and of votes of neighbors."""
    heads, folds = config.heads, config.heads.folds
    steps = max(1, math.ceil(load.labeled / heads.batch_size))
    epochs = max(heads.epochs, min(heads.most_epochs, math.ceil(heads.least_steps / steps)))
    fitted = len(heads.radii) + folds * (folds - 1) // 2 + folds
    of_heads = 2 * load.labeled * epochs * width * load.classes * fitted
    of_votes = load.labeled * min(load.labeled, heads.voters) * heads.neighbor_components
    return float(of_heads + of_votes)


def _seconds_of_a_multiplication(device: torch.device) -> float:
    size = 512
    values = torch.ones(size, size, device=device)
    rounds = 8
    begin = 0.0
    for number in range(rounds + 1):
        if number == 1:  # the first one warms up
            begin = time.perf_counter()
        float((values @ values)[0, 0])
    return (time.perf_counter() - begin) / rounds / size**3


@dataclass(frozen=True, slots=True)
class _SomeSamples:
    """A few rows of a store."""

    store: SampleStore
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> bytes:
        return self.store.read(int(self.rows[index]))

    def location(self, index: int) -> str:
        return self.store.location(int(self.rows[index]))


def _network_plans(
    trainer: NetworkTrainer,
    cut_trainer: NetworkTrainer,
    config: AuditConfig,
    load: _Load,
    features: _FeatureTimes,
) -> list[TuningPlan]:
    """Return the plans of upper stages and of whole networks.

    Args:
        trainer: Of whole networks.
        cut_trainer: Of upper stages, which may see images smaller.
        config: What was asked for.
        load: How much there is to do.
        features: How long features take.
    """
    model = cut_trainer.fresh_network(2, torch.device("cpu"))
    cuts = affordable_cuts(
        possible_cuts(model, cut_trainer.probe(1)),
        load.samples,
        largest_share=config.top.largest_step,
        budget=config.top.cache_bytes,
        module=config.top.cut,
    )
    cuts = cuts[:1]  # the one that ``--tune top`` takes
    whole = _time_whole(trainer, config, load, [cut.module for cut in cuts])
    plans = []
    for cut in cuts:
        upper = upper_network(model, group_layers(model), cut)
        at_once = networks_at_once(upper, config.top, load.device, processes=1)
        step = _time_upper(cut_trainer, cut, config, load, at_once.networks if at_once else 0)
        views = views_kept(cut_trainer, cut, load.samples, config.top)
        frozen = features.sample * (1 + (views - 1) * whole.share_below(cut.module))
        seconds = features.rest + load.samples * frozen
        seconds += _training_seconds(
            step, config.top, load.labeled, evaluation_views=min(2, views), at_once=at_once
        )
        plans.append(TuningPlan("top", cut.module, seconds))
    seconds = features.rest + load.samples * features.sample  # decoding, at most
    seconds += _training_seconds(whole, config.fine_tuning, load.labeled)
    return [*plans, TuningPlan("full", None, seconds)]


def _training_seconds(
    step: StepTimes,
    training: FineTuningConfig,
    labeled: int,
    *,
    evaluation_views: int = 1,
    at_once: AtOnce | None = None,
) -> float:
    """Return the seconds of training all networks, and of predicting by them."""
    learned = labeled * (training.folds - 1) / training.folds
    steps = max(1, math.ceil(learned / training.batch_size))
    epochs = training.epochs_of(steps)
    scored = labeled * evaluation_views / training.folds
    seconds = 0.0
    for networks in _rounds(training.folds, at_once):
        shared = 1 if at_once is None else _cores_of_each(networks, training.batch_size, at_once)
        seconds += step.training(int(epochs * learned / shared), epochs * steps)
        seconds += step.evaluation(int(scored / shared))
    return seconds


def _rounds(folds: int, at_once: AtOnce | None) -> list[int]:
    """Return how many networks train at once, round by round."""
    most = 1 if at_once is None else at_once.networks
    return [min(most, folds - done) for done in range(0, folds, most)]


def _cores_of_each(networks: int, batch_size: int, at_once: AtOnce) -> int:
    """Return how many cores a network has, of those that it can use."""
    portions = max(1, batch_size // at_once.portion)
    return max(1, min(portions, at_once.cores // networks))


def _time_whole(
    trainer: NetworkTrainer, config: AuditConfig, load: _Load, modules: Sequence[str]
) -> StepTimes:
    """Return the times of a step of a whole network, and of what runs below some modules."""
    training, classes = config.fine_tuning, max(2, load.classes)
    return time_step(
        trainer.fresh_network(classes, load.device),
        modules,
        trainer.probe(_timed_batch(training, load)),
        training,
        config.regularization,
        classes=classes,
    )


def _time_upper(
    trainer: NetworkTrainer, cut: Cut, config: AuditConfig, load: _Load, at_once: int
) -> StepTimes:
    """Return the times of a step from a cut on, while as many others go on as will in training.

    Args:
        trainer: Of whole networks.
        cut: Where they are cut.
        config: What was asked for.
        load: How much there is to do.
        at_once: How many networks train at once; 0 trains one on all cores, or on the device.
    """
    classes = max(2, load.classes)
    whole = trainer.fresh_network(classes, load.device)
    layers = group_layers(whole)
    chance = torch.Generator().manual_seed(0)
    inputs = torch.rand(_timed_batch(config.top, load), *cut.shape, generator=chance)
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)

    def timed(model: nn.Module) -> StepTimes:
        return time_step(
            model, (), inputs, config.top, config.top_regularization, classes=classes, layers=layers
        )

    models = [upper_network(whole, layers, cut) for _ in range(max(1, at_once))]
    if not at_once:
        return timed(models[0])
    with one_core_threads(at_once) as pool:
        return max(pool.map(timed, models), key=lambda step: step.passes)


def _timed_batch(training: FineTuningConfig, load: _Load) -> int:
    on_cpu = load.device.type == "cpu"
    return min(training.batch_size, 32) if on_cpu else training.batch_size


def _limit(config: AuditConfig) -> float | None:
    """Return the seconds that an audit may take; ``None`` where that does not matter."""
    if config.auto.time_limit is not None:
        return config.auto.time_limit
    is_cpu = choose_device(config.backbone.device).type == "cpu"
    return config.auto.cpu_seconds if is_cpu else None


def _chosen(config: AuditConfig, plan: TuningPlan) -> TuneChoice:
    limit = _limit(config)
    assumption = Assumption(
        "tune",
        f"{plan.name} are trained, as {about(limit or 0).removeprefix('about ')} allow no more; "
        f"{named('tune')} or {named('time')} decides otherwise",
    )
    decided = replace(
        config,
        tune=plan.tune,
        top=config.top if plan.cut is None else replace(config.top, cut=plan.cut),
        auto=AutoConfig(),  # nothing is left to it
    )
    return TuneChoice(decided, {"tune": plan.tune, "cut": plan.cut}, assumption)


def _of_few(config: AuditConfig, labeled: int, plural: str) -> TuneChoice:
    choice = _chosen(config, TuningPlan("head"))
    told = Assumption(
        "tune",
        f"heads are trained, as {labeled:,} labeled {plural} are fewer than "
        f"{config.auto.least_samples:,}; {named('tune', value='top')} trains networks",
    )
    is_asked = config.auto.time_limit is not None
    return replace(choice, assumption=told if is_asked else None)


def _of_no_network(config: AuditConfig, fault: str) -> TuneChoice:
    told = Assumption("tune", f"heads are trained, as the network cannot be: {fault}")
    return replace(_chosen(config, TuningPlan("head")), assumption=told)


def _kept_plan(kept: Mapping[str, Any]) -> TuningPlan:
    tune = kept.get("tune")
    return TuningPlan(tune if tune in ("top", "full") else "head", kept.get("cut"))


def _warned(
    dataset: LabeledDataset, modality: Modality, config: AuditConfig, on_progress: OnProgress
) -> Assumption | None:
    """Return a sentence if what was asked for does not fit into the time that was given."""
    limit = config.auto.time_limit or math.inf
    with said(STAGE, on_progress):
        plans, _ = timed_plans(dataset, modality, config)
    asked = [plan for plan in plans if plan.tune == config.tune]
    if not asked or asked[-1].seconds <= limit:
        return None
    fitting = most_thorough(plans, limit)
    text = f"{config.tune} will take {about(asked[-1].seconds)}, longer than {named('time')} allows"
    if fitting.seconds <= limit:
        text += f"; {fitting.asked_by} would take {about(fitting.seconds)}"
    on_progress(remark(f"tune: {text}"))
    return Assumption("tune", text)
