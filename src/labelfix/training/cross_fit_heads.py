"""Cross-fitted, self-labeled heads: probabilities of each sample from models that never saw it.

Four passes over the features, of which three train many heads side by side:

1. one head a candidate radius, to choose the ball from the likelihood of held-out given labels;
2. one head a *pair* of folds, trained without both: its beliefs on one fold can guide a head that
   is to check the other, and no label ever speaks for itself, not even by a detour;
3. one head a fold, trained without it on labels corrected and weighted by those beliefs;
4. a vote on each sample by those that look most like it, outside its fold, of the same labels.

Of more classes than ``trained_classes`` the first three go by `labelfix.training.many_class_heads`.

The probabilities are the mean of what the last two say: they err in different places.

A label that a person has reviewed takes the given one's place in all three, is never corrected, and
always counts in full; but in its own fold it trains nothing either.

Letters: N samples, B samples of a batch, D features, K classes, F folds, P pairs of folds.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.config import HeadConfig
from labelfix.training.head_task import HeadTask, PseudoLabels
from labelfix.training.heads import (
    Batch,
    LinearHeads,
    fit_heads,
    head_probabilities,
)
from labelfix.training.many_class_heads import fit_many_classes, own_probabilities
from labelfix.training.neighbor_votes import ReferenceSet, draw_voters, neighbor_probabilities
from labelfix.training.recorder import MarginRecorder
from labelfix.training.self_labeling import SelfLabeling, self_label
from labelfix.types import MISSING, Evidence, Features, FoldAssignment
from labelfix.utils.progress import OnProgress, Progress, no_progress
from labelfix.utils.scratch import let_go_of_pages, new_array

SMALL_STEP = 2**26
"""Multiplications of a step, at most, that one thread does as fast as several: these would wait for
each other longer than they work."""


def cross_fit_heads(
    features: Features,
    given_label: NDArray[np.int64],
    assignment: FoldAssignment,
    *,
    classes: int,
    config: HeadConfig,
    seed: int,
    device: torch.device,
    trusted_label: NDArray[np.int64] | None = None,
    on_progress: OnProgress = no_progress,
) -> Evidence:
    """Train the heads and return what they say of every scored sample.

    Args:
        features: Of N images.
        given_label: ``(N,)`` codes in ``[0, K)``.
        assignment: Which samples take part, and in which fold.
        classes: K; a class without scored samples gets probability 0.
        config: How to train.
        seed: Of the order of the samples.
        device: Where to train.
        trusted_label: ``(N,)`` codes of labels that are right, ``MISSING`` where that is not known;
            those that are trained on are of classes that some scored sample was given.
        on_progress: Told about every epoch.

    Raises:
        TrainingError: The loss is no longer finite.
    """
    task = HeadTask.of(
        features, given_label, trusted_label, assignment, config,
        seed=seed, device=device, on_progress=on_progress,
    )  # fmt: skip
    scored = np.flatnonzero(assignment.is_scored)
    with _threads_that_pay(task):
        learned = _learn(task, scored)
    names = task.names
    pred_probs = new_array((len(given_label), classes), np.float32)
    pred_probs[~assignment.is_scored] = np.nan
    for part, probs in learned.probabilities:
        own = (1 - config.neighbor_share) * probs
        pred_probs[part[:, None], names] = own.float().cpu().numpy()
    let_go_of_pages()
    for part, probs in _ask_neighbors(task, learned.pseudo_labels, scored):
        pred_probs[part[:, None], names] += config.neighbor_share * probs.cpu().numpy()
    self_label_ = np.full(len(given_label), MISSING, dtype=np.int64)
    self_label_[task.rows] = names[learned.pseudo_labels.majority[task.rows].cpu().numpy()]
    return Evidence(
        pred_probs=pred_probs,
        fold=assignment.fold,
        margin=learned.recorder.margin(),
        self_label=self_label_,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Learned:
    """What heads have learned.

    Args:
        probabilities: Rows and their ``(B, J)`` probabilities, block by block, as they are asked
            for.
        pseudo_labels: What the final heads learned from.
        recorder: What training saw; nothing where heads are mostly found in closed form, of which
            no margin over the time of training can be had.
    """

    probabilities: Iterator[tuple[NDArray[np.int64], Tensor]]
    pseudo_labels: PseudoLabels
    recorder: MarginRecorder


def _learn(task: HeadTask, scored: NDArray[np.int64]) -> _Learned:
    recorder = MarginRecorder(len(task.label))
    if task.classes > task.config.trained_classes:
        found = fit_many_classes(task)
        return _Learned(own_probabilities(task, found.heads, scored), found.pseudo_labels, recorder)
    radius = _choose_radius(task)
    pseudo_labels = _learn_from_pairs(task, radius)
    heads = _fit_final(task, pseudo_labels, radius, recorder)
    of_all = head_probabilities(heads, task.features, scored)
    own = ((part, _of_own_fold(probs, task.fold[part])) for part, probs in of_all)
    return _Learned(own, pseudo_labels, recorder)


def _fit(
    task: HeadTask,
    stage: str,
    pseudo_labels: Callable[[NDArray[np.int64]], Batch],
    radius: Tensor,
    on_logits: Callable[[NDArray[np.int64], Tensor], None] | None = None,
) -> LinearHeads:
    def report(epoch: int, epochs: int, loss: float) -> None:
        task.on_progress(Progress(stage, epoch, epochs, "epochs", f"loss {loss:.3f}"))

    return fit_heads(
        task.features,
        task.rows,
        pseudo_labels,
        classes=task.classes,
        radius=radius,
        config=task.config,
        seed=task.seed,
        on_epoch=report,
        on_logits=on_logits,
    )


@contextmanager
def _threads_that_pay(task: HeadTask) -> Iterator[None]:
    """Let one thread of torch's do the steps where they are small."""
    config = task.config
    heads = config.folds * (config.folds - 1) // 2
    samples = min(config.batch_size, len(task.rows))
    before = torch.get_num_threads()
    if samples * len(task.features.mean) * heads * task.classes <= SMALL_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _choose_radius(task: HeadTask) -> float:
    """Return the radius under which the labels of fold 0 are most likely, without fold 0."""
    radii = torch.tensor(task.config.radii) * task.classes**0.5

    def pseudo_labels(rows: NDArray[np.int64]) -> Batch:
        weight = (task.fold[rows] != 0).float()[:, None].expand(-1, len(radii))
        return Batch(task.labels(rows, len(radii)), weight)

    heads = _fit(task, "choosing the radius of the head", pseudo_labels, radii)
    held_out = task.rows[(task.fold[task.rows] == 0).cpu().numpy()]
    loss = torch.zeros(len(radii), dtype=torch.float64)
    for part, probs in head_probabilities(heads, task.features, held_out):
        index = task.labels(part, len(radii)).unsqueeze(2)
        likelihood = probs.gather(2, index).squeeze(2).clamp_min(1e-12)
        loss -= likelihood.log().double().sum(dim=0).cpu()
    return float(radii[int(loss.argmin())])


def _learn_from_pairs(task: HeadTask, radius: float) -> PseudoLabels:
    folds = task.config.folds
    pairs = list(combinations(range(folds), 2))
    leaves_out = torch.zeros(folds, len(pairs), dtype=torch.bool, device=task.features.device)
    pair_of = torch.zeros(folds, folds, dtype=torch.int64, device=task.features.device)
    for number, (one, other) in enumerate(pairs):
        leaves_out[[one, other], number] = True
        pair_of[one, other] = pair_of[other, one] = number

    def pseudo_labels(rows: NDArray[np.int64]) -> Batch:
        return Batch(task.labels(rows, len(pairs)), (~leaves_out[task.fold[rows]]).float())

    heads = _fit(
        task, "training heads that leave out two folds", pseudo_labels, _radii(radius, len(pairs))
    )
    result = PseudoLabels.none_yet(task)
    rules = SelfLabeling(
        threshold=task.config.self_label_threshold, temperature=task.config.self_label_temperature
    )
    for part, probs in head_probabilities(heads, task.features, task.rows):
        fold = task.fold[part]
        index = pair_of[fold][:, :, None].expand(-1, -1, task.classes)
        is_trusted = task.is_trusted[part][:, None]
        start = task.labels(part, folds)
        taught, believed = self_label(probs.gather(1, index), start, rules)
        result.label[part] = torch.where(is_trusted, start, taught)
        result.weight[part] = believed.masked_fill(is_trusted, 1.0).scatter(1, fold[:, None], 0.0)
        outside = leaves_out[fold].float()[:, :, None]
        average = (probs * outside).sum(dim=1) / (folds - 1)
        common, _ = self_label(average, task.label[part], rules)
        result.majority[part] = torch.where(task.is_trusted[part], task.label[part], common)
    return result


def _fit_final(
    task: HeadTask, pseudo_labels: PseudoLabels, radius: float, recorder: MarginRecorder
) -> LinearHeads:
    def record(rows: NDArray[np.int64], logits: Tensor) -> None:
        trains = pseudo_labels.weight[rows] > 0
        recorder.update(torch.from_numpy(rows), logits, task.given_label[rows], trains)

    radii = _radii(task.config.radius_after_weighting * radius, task.config.folds)
    return _fit(task, "training the final heads", pseudo_labels, radii, record)


def _ask_neighbors(
    task: HeadTask, pseudo_labels: PseudoLabels, scored: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    rows = draw_voters(task.rows, task.config.voters, task.seed)
    weight = pseudo_labels.weight[rows]
    # a sample of no fold hears everybody: the mean weight of the folds that do
    on_the_whole = weight.sum(dim=1, keepdim=True) / (task.config.folds - 1)
    voters = ReferenceSet(
        rows=rows,
        fold=task.fold[rows],
        label=torch.cat([pseudo_labels.label[rows], pseudo_labels.majority[rows][:, None]], dim=1),
        weight=torch.cat([weight, on_the_whole], dim=1),
    )
    done = 0
    for part, probs in neighbor_probabilities(
        task.features, scored, task.fold, voters, classes=task.classes, config=task.config
    ):
        done += len(part)
        task.on_progress(Progress("asking the neighbors", done, len(scored), "samples"))
        yield part, probs


def _radii(radius: float, heads: int) -> Tensor:
    return torch.full((heads,), radius)


def _of_own_fold(probs: Tensor, fold: Tensor) -> Tensor:
    """Return ``(B, K)``: from the head that left the sample out, or the mean where all did."""
    index = fold.clamp_min(0)[:, None, None].expand(-1, 1, probs.shape[2])
    own = probs.gather(1, index).squeeze(1)
    return torch.where((fold == MISSING)[:, None], probs.mean(dim=1), own)
