"""Cross-fitted fine-tuning: a network a fold, each predicts what it never saw.

Letters: N samples, B samples of a batch, K classes, F folds.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from threading import Event
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelfix.config import FineTuningConfig, RegularizationConfig, SelfLabelingConfig
from labelfix.errors import TrainingError
from labelfix.modalities.base import Views
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.distributed import World
from labelfix.training.finetune import Diverged, EpochLog, FineTuning, TrainingSetup, predict
from labelfix.training.gradients import batch_norms
from labelfix.training.layers import LayerParameter
from labelfix.training.recorder import EvidenceRecorder, mean_over
from labelfix.training.regularization import LayerBalls, LayerTravel
from labelfix.training.self_labeling import SelfLabeler
from labelfix.types import MISSING, Evidence, FoldAssignment
from labelfix.utils.progress import OnProgress, Progress, SharedStage, no_progress
from labelfix.utils.torch_utils import CorePool, one_core_threads

Predictions: TypeAlias = Iterator[tuple[Tensor, Tensor]]
"""Rows ``(R,)`` and probabilities ``(R, K)``, batch by batch."""


class OutOfFoldPredictions:
    """The predictions of all networks so far, sample by sample.

    Args:
        count: N.
        classes: K.
    """

    def __init__(self, count: int, classes: int) -> None:
        self._probs = torch.zeros(count, classes, dtype=torch.float64)
        self._count = torch.zeros(count, dtype=torch.float64)
        self._margins: list[Tensor] = []
        self._labels: list[NDArray[np.int64]] = []

    def add(
        self,
        predictions: Predictions,
        margin: Tensor,
        self_label: NDArray[np.int64],
        world: World,
    ) -> None:
        """Add one network.

        Args:
            predictions: Rows ``(R,)`` and probabilities ``(R, K)`` of samples that it never saw, of
                this process.
            margin: ``(N,)`` logit units, in-sample; NaN where it was not trained.
            self_label: ``(N,)`` the labels that it was trained on last.
            world: Of the processes that scored.

        Raises:
            TrainingError: Another process is gone.
        """
        new_probs, scored = torch.zeros_like(self._probs), torch.zeros_like(self._count)
        for rows, probs in predictions:  # a row comes once for each view that it is scored by
            new_probs[rows.cpu()] += probs.double().cpu()
            scored[rows.cpu()] += 1
        self._probs += world.sum(new_probs)
        self._count += world.sum(scored)
        self._margins.append(margin)
        self._labels.append(self_label)

    def evidence(self, assignment: FoldAssignment) -> Evidence:
        """Return the means of probabilities and margins, and the labels of most networks."""
        probs = (self._probs / self._count[:, None]).float().numpy()
        probs[~assignment.is_scored] = np.nan
        return Evidence(
            pred_probs=probs,
            fold=assignment.fold,
            margin=torch.stack(self._margins).nanmean(dim=0).numpy(),
            self_label=_majority(np.stack(self._labels), probs.shape[1]),
        )


def _majority(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return ``(N,)`` the label that most networks trained a sample on, ``MISSING`` if none did."""
    votes = np.zeros((labels.shape[1], classes), dtype=np.int16)
    for of_network in labels:
        rows = np.flatnonzero(of_network != MISSING)
        votes[rows, of_network[rows]] += 1
    return np.where(votes.any(axis=1), votes.argmax(axis=1), MISSING)


DIVERGENCE_FACTOR = 10.0
"""A mean loss of so many times a guess's, ln K, is that of a network that is lost already, though
its weights are still finite: at half the learning rate it is trained anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """How to make the networks that are trained.

    Args:
        make: A pretrained network with a fresh head of the given number of classes, on the device.
        pretrained: The state it starts from: the centers of regularization.
        device: Where it is trained.
        layers: Of the whole network, where what is made is the upper half of one; ``None`` asks
            timm.
    """

    make: Callable[[int], nn.Module]
    pretrained: dict[str, Tensor]
    device: torch.device
    layers: tuple[LayerParameter, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is done to a network."""

    training: FineTuningConfig
    regularization: RegularizationConfig
    self_labeling: SelfLabelingConfig
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """What came of it.

    Args:
        evidence: Of every scored sample.
        model_state: The averaged weights of the network of fold 0.
        log: A row a fold and epoch, as JSON values.
        layers: A row a layer of that network: how far it went.
        micro_batch_size: How many images went through a network at once, in the end; ``None`` if
            each batch went whole.
        compile_fault: Why the network could not be compiled, in the last fold; ``None`` if it was,
            or was not tried.
        epochs: Passes over the data that each network took.
    """

    evidence: Evidence
    model_state: dict[str, Tensor]
    log: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    micro_batch_size: int | None = None
    compile_fault: str | None = None
    epochs: int = 0


@dataclass(frozen=True, slots=True)
class AtOnce:
    """What runs at the same time on a CPU; no figure depends on the number of networks or cores.

    Args:
        networks: How many train and predict at once.
        cores: How many portions of batches are computed at once, each on one core.
        portion: Samples of a batch that one core takes, at most.
    """

    networks: int
    cores: int
    portion: int


def cross_fit_networks(
    views: Views,
    given_label: NDArray[np.int64],
    assignment: FoldAssignment,
    networks: Networks,
    recipe: Recipe,
    *,
    classes: int,
    checkpoints: Checkpoints,
    world: World,
    trusted_label: NDArray[np.int64] | None = None,
    at_once: AtOnce | None = None,
    on_progress: OnProgress = no_progress,
) -> FineTuned:
    """Fine-tune a network a fold and return what they say of every scored sample.

    Args:
        views: Inputs of the images.
        given_label: ``(N,)`` codes in ``[0, K)``.
        assignment: Which samples take part, and in which fold.
        networks: How to make them.
        recipe: What is done to them.
        classes: K.
        checkpoints: Where each network stands after each epoch.
        world: The processes that train together.
        trusted_label: ``(N,)`` codes of labels that are right: they are trained on in place of the
            given ones, never corrected, and count in full. ``MISSING`` where that is not known.
        at_once: What runs at the same time on a CPU; ``None`` trains one network after the other,
            each step on all cores or on the device.
        on_progress: Told about every few steps.

    Raises:
        TrainingError: The loss is no longer finite, memory runs out with the fewest images that
            can be taken, or another process is gone.
        RunError: A checkpoint cannot be written or read.
    """
    label = torch.from_numpy(np.where(assignment.is_scored, given_label, MISSING))
    label = label.to(networks.device)
    trusted = torch.full_like(label, MISSING)
    if trusted_label is not None:
        trusted = torch.tensor(trusted_label, device=networks.device)
    recipe = _with_enough_steps(recipe, views, _rows_of(assignment, 0), world)
    fittings = [
        _Fitting(views, networks, recipe, checkpoints, world, on_progress, fold)
        for fold in range(recipe.training.folds)
    ]
    if at_once is not None and at_once.networks > 1:
        fittings = _as_one_stage(fittings, assignment, on_progress)

    def fit(fitting: _Fitting, size: int | None = None) -> tuple[_Trained, Predictions]:
        rows = _rows_of(assignment, fitting.fold)
        trained = fitting.run(rows, label, trusted, classes, size)
        return trained, fitting.predict(trained.average, _scored_in(assignment, fitting.fold))

    gathered = OutOfFoldPredictions(len(given_label), classes)
    first: _Trained | None = None
    last: _Trained | None = None
    log: list[dict[str, Any]] = []
    with _in_turn_or_at_once(fittings, fit, at_once) as all_trained:
        for last, predictions in all_trained:
            gathered.add(predictions, last.margin, last.self_label, world)
            log += last.log
            first = first or last
    if first is None or last is None:  # FineTuningConfig refuses 0 folds
        raise AssertionError
    return FineTuned(
        evidence=gathered.evidence(assignment),
        model_state={name: value.cpu() for name, value in first.average.state_dict().items()},
        log=log,
        layers=first.layers,
        micro_batch_size=last.micro_batch_size,
        compile_fault=last.compile_fault,
        epochs=recipe.training.epochs,
    )


def _with_enough_steps(
    recipe: Recipe, views: Views, rows: NDArray[np.int64], world: World
) -> Recipe:
    """Return the recipe with as many passes as small data need to be trained on."""
    training = recipe.training
    steps = len(views.step_sizes(rows, training.batch_size // world.size))
    return replace(recipe, training=replace(training, epochs=training.epochs_of(steps)))


def _rows_of(assignment: FoldAssignment, fold: int) -> NDArray[np.int64]:
    """Return the samples that the network of a fold is trained on."""
    return np.flatnonzero((assignment.fold != MISSING) & (assignment.fold != fold))


def _scored_in(assignment: FoldAssignment, fold: int) -> NDArray[np.int64]:
    """Return the samples that the network of a fold predicts: those of its fold, and of none."""
    in_fold = (assignment.fold == fold) | (assignment.fold == MISSING)
    return np.flatnonzero(assignment.is_scored & in_fold)


def _as_one_stage(
    fittings: Sequence["_Fitting"], assignment: FoldAssignment, on_progress: OnProgress
) -> list["_Fitting"]:
    """Return fittings that go on at once, whose steps add up to those of one stage."""
    steps = [fitting.steps(_rows_of(assignment, fitting.fold)) for fitting in fittings]
    stage = SharedStage(f"fine-tuning {len(fittings)} networks", steps, on_progress)
    return [
        replace(fitting, on_progress=stage.of_part(number))
        for number, fitting in enumerate(fittings)
    ]


@contextmanager
def _in_turn_or_at_once(
    fittings: Sequence["_Fitting"],
    fit: Callable[..., tuple["_Trained", Predictions]],
    at_once: AtOnce | None,
) -> Iterator[Iterator[tuple["_Trained", Predictions]]]:
    """Yield what is trained and what it predicts, in the order of the folds.

    One after the other, a network begins with the portions that the one before it needed; at once,
    none depends on another, and the last ones take the cores of those that are done.
    """
    if at_once is None:
        yield _in_turn(fittings, fit)
        return
    stopped = Event()

    def on_cores(fitting: _Fitting) -> tuple[_Trained, Predictions]:
        told = partial(_tell_unless, stopped, fitting.on_progress)
        trained, predictions = fit(replace(fitting, on_progress=told, pool=pool))
        return trained, iter(list(predictions))

    with one_core_threads(at_once.cores) as cores, one_core_threads(at_once.networks) as steps:
        pool = CorePool(cores, at_once.portion)
        try:
            yield steps.map(on_cores, fittings)
        finally:
            stopped.set()


class _Stopped(Exception):
    """Ends the training of a network that nobody waits for any more."""


def _tell_unless(stopped: Event, on_progress: OnProgress, progress: Progress) -> None:
    if stopped.is_set():
        raise _Stopped
    on_progress(progress)


def _in_turn(
    fittings: Sequence["_Fitting"], fit: Callable[..., tuple["_Trained", Predictions]]
) -> Iterator[tuple["_Trained", Predictions]]:
    size = None
    for fitting in fittings:
        trained, predictions = fit(fitting, size)
        size = trained.micro_batch_size
        yield trained, predictions


@dataclass(frozen=True, slots=True, eq=False)
class _Trained:
    """One trained network and what its training saw."""

    average: nn.Module
    margin: Tensor
    self_label: NDArray[np.int64]
    log: list[dict[str, Any]]
    layers: list[dict[str, Any]]
    micro_batch_size: int | None
    compile_fault: str | None


@dataclass(frozen=True, slots=True, eq=False)
class _Fitting:
    """The training of the network of one fold."""

    views: Views
    networks: Networks
    recipe: Recipe
    checkpoints: Checkpoints
    world: World
    on_progress: OnProgress
    fold: int
    pool: CorePool | None = None

    def steps(self, rows: NDArray[np.int64]) -> int:
        """Return how many steps training on some rows takes."""
        training = self.recipe.training
        sizes = self.views.step_sizes(rows, training.batch_size // self.world.size)
        return training.epochs * len(sizes)

    def run(
        self,
        rows: NDArray[np.int64],
        label: Tensor,
        trusted: Tensor,
        classes: int,
        micro_batch_size: int | None = None,
    ) -> _Trained:
        """Train on some rows, from the last checkpoint if there is one."""
        recipe, training = self.recipe, self.recipe.training
        torch.manual_seed(recipe.seed + self.fold)
        model = self.networks.make(classes)
        index = _index(rows, label)
        own = torch.full_like(label, MISSING).index_copy(0, index, label[rows])
        own_trusted = torch.full_like(own, MISSING).index_copy(0, index, trusted[rows])
        labeler = SelfLabeler(own, classes, recipe.self_labeling, own_trusted)
        recorder = EvidenceRecorder(len(label), classes, keep_probs=False)
        limit = None
        if recipe.regularization.form != "none":
            limit = LayerBalls(
                model,
                self.networks.pretrained,
                recipe.regularization,
                layers=self.networks.layers,
            )
        share = training.batch_size // self.world.size
        setup = TrainingSetup(
            given_label=label,
            batches=lambda epoch: self.views.training(
                rows, share, seed=recipe.seed + self.fold, epoch=epoch
            ),
            step_sizes=self.views.step_sizes(rows, share),
            labeler=labeler,
            recorder=recorder,
            limit=limit,
            penalised=recipe.regularization.form == "penalty",
            processes=self.world.size,
        )
        wrapped = self.world.wrap(model, self.networks.device)
        tuning = FineTuning(
            model,
            setup,
            training,
            wrapped=wrapped,
            micro_batch_size=micro_batch_size,
            pool=None if training.update_norms and batch_norms(model) else self.pool,
        )
        log = self._train(tuning, labeler, limit, classes)
        margin = self._total_margin(recorder)
        layers = [] if limit is None else [_travel(layer) for layer in limit.distances()]
        return _Trained(
            average=tuning.average.module,
            margin=margin,
            self_label=labeler.labels(),
            log=log,
            layers=layers,
            micro_batch_size=tuning.micro_batch_size,
            compile_fault=tuning.compile_fault,
        )

    def predict(self, model: nn.Module, rows: NDArray[np.int64]) -> Predictions:
        """Yield rows and probabilities of what the network never saw, of all processes."""
        batches = self.views.evaluation(rows, self.recipe.training.batch_size)
        return predict(model, batches, self.recipe.training, self.pool)

    def _train(
        self, tuning: FineTuning, labeler: SelfLabeler, limit: LayerBalls | None, classes: int
    ) -> list[dict[str, Any]]:
        rate = self.recipe.training.learning_rate
        name = f"fold-{self.fold}-of-{self.recipe.training.folds}"
        saved = self.checkpoints.load(name, self.networks.device)
        log: list[dict[str, Any]] = []
        if saved is not None and (saved["rate"] == rate or not _is_wild(saved["log"], classes)):
            tuning.load_state_dict(saved["tuning"])
            log = saved["log"]
            steps = len(tuning.setup.step_sizes)
            self._tell(tuning.epoch * steps, steps)
        while tuning.epoch < self.recipe.training.epochs:
            # what is drawn inside the network (drop-out) must not depend on where a run was cut
            torch.manual_seed(hash((self.recipe.seed, self.fold, tuning.epoch)) % 2**63)
            try:
                epoch = tuning.run_epoch(self._on_step(tuning))
            except Diverged as error:
                raise self._where_to_go_on(error, log, classes) from error
            self._share_beliefs(labeler)
            log.append(self._row(epoch, labeler, limit))
            if self.world.is_writer:
                state = {"tuning": tuning.state_dict(), "log": log, "rate": rate}
                self.checkpoints.save(name, state)
            self.world.wait()
        return log

    def _where_to_go_on(
        self, error: Diverged, log: list[dict[str, Any]], classes: int
    ) -> TrainingError:
        """Return the error with the last good checkpoint, and what can be done from there."""
        training = self.recipe.training
        message = f"{error} of network {self.fold + 1} of {training.folds}"
        if not log and self.fold == 0:
            return TrainingError(
                f"{message}, before the first checkpoint",
                hint="start anew with a lower --learning-rate, such as "
                f"{training.learning_rate / 4:.1g}",
            )
        good, then = f"network {self.fold + 1}, epoch {len(log)}", "goes on from there"
        if not log or _is_wild(log, classes):
            good = f"network {self.fold}, epoch {training.epochs}" if self.fold else "none"
            then = f"trains network {self.fold + 1} anew"
        return TrainingError(
            f"{message}; the last good checkpoint: {good}",
            hint=f"--resume --halve-learning-rate {then} at half of it; --resume alone would come "
            "to the same end",
        )

    def _on_step(self, tuning: FineTuning) -> Callable[[int, float, float], None]:
        steps = len(tuning.setup.step_sizes)

        def report(step: int, loss: float, speed: float) -> None:
            note = f"loss {loss:.3f}, {speed:.0f} images/s"
            if tuning.micro_batch_size is not None:
                note += f", {tuning.micro_batch_size} at a time as memory is short"
            self._tell((tuning.epoch - 1) * steps + step, steps, note)

        return report

    def _tell(self, done: int, steps: int, note: str = "") -> None:
        """Tell how many steps are done, of all epochs of so many steps each."""
        training = self.recipe.training
        stage = f"fine-tuning network {self.fold + 1} of {training.folds}"
        self.on_progress(Progress(stage, done, training.epochs * steps, "steps", note))

    def _share_beliefs(self, labeler: SelfLabeler) -> None:
        if self.world.size == 1:
            return
        mine = labeler.rows_touched()
        count = len(labeler.labels())
        rows, of_all = mine, {}
        for name, values in labeler.read_rows(mine).items():
            rows, of_all[name] = self.world.rows_of_all(mine, values, count)
        labeler.write_rows(rows, of_all)

    def _row(
        self, epoch: EpochLog, labeler: SelfLabeler, limit: LayerBalls | None
    ) -> dict[str, Any]:
        seen = labeler.statistics()
        layers = [] if limit is None else limit.distances()
        bounded = [layer for layer in layers if np.isfinite(layer.radius)]
        return {
            "fold": self.fold,
            **asdict(epoch),
            "corrected": seen.corrected,
            "mean_weight_kept": _finite(seen.kept_weight),
            "mean_weight_corrected": _finite(seen.corrected_weight),
            "boundary_share": (
                sum(layer.at_boundary for layer in bounded) / len(bounded) if bounded else None
            ),
        }

    def _total_margin(self, recorder: EvidenceRecorder) -> Tensor:
        state = recorder.state_dict()
        return mean_over(self.world.sum(state["margin"]), self.world.sum(state["updates"])).cpu()


def _is_wild(log: list[dict[str, Any]], classes: int) -> bool:
    """Return whether the last epoch of a network is nothing to go on from more slowly."""
    return bool(log) and log[-1]["loss"] > DIVERGENCE_FACTOR * math.log(classes)


def _index(rows: NDArray[np.int64], like: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(like.device)


def _travel(layer: LayerTravel) -> dict[str, Any]:
    row = asdict(layer)
    row["relative_distance"] = row.pop("relative")
    return row | {"radius": _finite(layer.radius)}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
