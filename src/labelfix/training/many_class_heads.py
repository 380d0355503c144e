"""Heads for many classes: discriminants in closed form, and a few steps of training from there.

Trained from zero, a head has to learn the center of every class step by step, and a step costs as
much as it has weights. `labelfix.training.discriminants` finds most of that at once. From there
training takes as few steps as the likelihood of held-out given labels tells, none perhaps; that
tells it of the final heads anew, which begin with the mean of those that left out two folds. Each
head is trained alone, on nothing but its own samples, and asked for nothing but its own samples.

Letters: N samples, B samples of a batch, D features, K classes, F folds.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.errors import TrainingError
from labelfix.training.discriminants import LinearHead, Moments, discriminants
from labelfix.training.head_task import HeadTask, PseudoLabels
from labelfix.training.self_labeling import SelfLabeling, self_label
from labelfix.types import MISSING
from labelfix.utils.progress import Progress
from labelfix.utils.torch_utils import warm_up_and_cosine

LOGITS = 2**24
"""So many logits are held in memory at once, and at most so many choose the settings."""

FACTORS = 2.0 ** (np.arange(-24, 25) / 2)
"""The candidates for the factor of the logits. They are few, as those of all settings are: what is
chosen for all samples shall tell nothing of the label of one."""

CHOOSING, PAIRS, FINAL = (
    "choosing the steps of the heads",
    "training heads that leave out two folds",
    "training the final heads",
)


Targets = Callable[[NDArray[np.int64]], tuple[Tensor, Tensor]]
"""Gives the ``(B,)`` labels and weights of a batch of rows."""


@dataclass(frozen=True, slots=True, eq=False)
class ManyClassHeads:
    """What is learned of many classes.

    Args:
        heads: F, of which each left out the samples of its fold; their logits are calibrated.
        pseudo_labels: What they learned from.
    """

    heads: list[LinearHead]
    pseudo_labels: PseudoLabels


@dataclass(frozen=True, slots=True)
class _Plan:
    """What held-out given labels tell of how to train.

    Args:
        shrinkage: Of the covariance of the discriminants.
        factor: By which the logits of a discriminant are calibrated.
        steps: Of training from there.
    """

    shrinkage: float
    factor: float
    steps: int


def fit_many_classes(task: HeadTask) -> ManyClassHeads:
    """Train the heads of all folds on the beliefs of heads that left out two.

    Raises:
        TrainingError: The features or the loss are not finite.
    """
    folds, device = range(task.config.folds), task.features.device
    of_fold = [
        Moments.of(task.features, task.rows_of(fold), task.label, task.classes) for fold in folds
    ]
    plan = _choose(task, of_fold)
    given = _given(task)
    pairs: dict[frozenset[int], LinearHead] = {}
    for pair in map(frozenset, combinations(folds, 2)):
        others = Moments.sum(of_fold[fold] for fold in folds if fold not in pair)
        start = discriminants(others, [plan.shrinkage], device)[0].times(plan.factor)
        pairs[pair] = _refined(task, start, pair, plan.steps, given)
        _tell(task, PAIRS, len(pairs), math.comb(len(folds), 2))
    pseudo_labels = _ask_pairs(task, pairs)
    heads: list[LinearHead] = []
    steps = 0
    for fold in folds:
        # they know nothing of the fold either, and what they know need not be learned again
        start = LinearHead.mean([head for pair, head in pairs.items() if fold in pair])
        believed = partial(_column, pseudo_labels, fold)
        if not heads:
            steps = _likeliest_steps(task, start, believed)
        heads.append(_refined(task, start, frozenset([fold]), steps, believed))
        _tell(task, FINAL, len(heads), len(folds))
    _, factor = _held_out(task, heads[0])
    return ManyClassHeads([head.times(factor) for head in heads], pseudo_labels)


def own_probabilities(
    task: HeadTask, heads: list[LinearHead], rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Yield rows and their ``(B, K)`` probabilities, from the head that left them out.

    Rows of no fold get the mean of what all heads say.
    """
    fold = task.fold[rows].cpu().numpy()
    for number in (MISSING, *range(len(heads))):
        asked = heads if number == MISSING else [heads[number]]
        for part, values in _blocks(task, rows[fold == number], len(asked)):
            probs = sum(head.logits(values).softmax(dim=1) for head in asked)
            yield part, torch.as_tensor(probs) / len(asked)


def _choose(task: HeadTask, of_fold: list[Moments]) -> _Plan:
    """Return under which plan the labels of fold 0 are most likely, without fold 0."""
    shrinkages = task.config.shrinkages
    found = discriminants(Moments.sum(of_fold[1:]), shrinkages, task.features.device)
    scored = [_held_out(task, head) for head in found]
    best = int(np.argmax([likelihood for likelihood, _ in scored]))
    _, factor = scored[best]
    steps = _likeliest_steps(task, found[best].times(factor), _given(task))
    return _Plan(shrinkages[best], factor, steps)


def _likeliest_steps(task: HeadTask, start: LinearHead, targets_of: Targets) -> int:
    """Return how many steps from a start make the labels of fold 0 most likely, without fold 0.

    None, or so many that half as many make them less likely by ``least_gain`` a sample, up to an
    epoch, or to ``least_steps`` where the data are small.

    Args:
        task: What is trained on.
        start: A head that left out fold 0.
        targets_of: What it is to learn.
    """
    config, chosen = task.config, 0
    likelihood, _ = _held_out(task, start)
    _tell(task, CHOOSING, 0, None, f"log-likelihood {likelihood:.3f}")
    steps, most = config.first_steps, max(config.least_steps, len(task.rows) // config.batch_size)
    while 0 < steps <= most:
        more, _ = _held_out(task, _refined(task, start, frozenset([0]), steps, targets_of))
        _tell(task, CHOOSING, steps, None, f"log-likelihood {more:.3f}")
        if more < likelihood + config.least_gain:
            break
        likelihood, chosen = more, steps
        steps *= 2
    return chosen


def _given(task: HeadTask) -> Targets:
    """Return the labels that training begins with, which all count alike."""
    return lambda rows: (task.label[rows], torch.ones(len(rows), device=task.features.device))


def _column(labels: PseudoLabels, fold: int, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return what the head of one fold is to learn."""
    return labels.label[rows, fold], labels.weight[rows, fold]


def _refined(
    task: HeadTask, head: LinearHead, left_out: frozenset[int], steps: int, targets_of: Targets
) -> LinearHead:
    """Return a head after some steps of Adam on the weighted cross-entropy.

    Args:
        task: What is trained on.
        head: Where training begins.
        left_out: Folds that it must not see.
        steps: How many.
        targets_of: What it is to learn.

    Raises:
        TrainingError: The head is no longer finite.
    """
    if not steps:
        return head
    is_seen = ~np.isin(task.fold[task.rows].cpu().numpy(), list(left_out))
    weight, bias = head.weight.clone().requires_grad_(), head.bias.clone().requires_grad_()
    fused = weight.device.type in ("cpu", "cuda")  # older torch has it nowhere else
    optimizer = torch.optim.Adam([weight, bias], lr=task.config.learning_rate, fused=fused)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_up_and_cosine(steps))
    with torch.no_grad():
        for part in _batches(task.rows[is_seen], task.config.batch_size, steps, task.seed):
            values, (label, share) = task.features.batch(part), targets_of(part)
            # the gradient by hand: autograd would hold three more arrays of B x K
            error = torch.addmm(bias, values, weight.T).softmax(dim=1)
            error.scatter_add_(1, label[:, None], error.new_full((len(part), 1), -1))
            error *= (share / share.sum().clamp_min(1e-6))[:, None]
            weight.grad, bias.grad = error.T @ values, error.sum(dim=0)
            optimizer.step()
            schedule.step()
    if not bool(weight.isfinite().all()):
        raise TrainingError(
            "the heads are no longer finite",
            hint="the features may hold very large values; try another backbone, or a smaller "
            "learning_rate of the heads",
        )
    return LinearHead(weight.detach(), bias.detach())


def _batches(
    rows: NDArray[np.int64], size: int, steps: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Yield as many batches as there are steps, all full if there are enough rows for one."""
    size = min(size, len(rows))
    done = epoch = 0
    while done < steps:
        order = np.random.default_rng([seed, epoch]).permutation(rows)
        for start in range(0, len(order) - size + 1, size)[: steps - done]:
            # rising row numbers within a batch: features on disk are read front to back
            yield np.sort(order[start : start + size])
            done += 1
        epoch += 1


def _held_out(task: HeadTask, head: LinearHead) -> tuple[float, float]:
    """Return how likely a head makes the labels of fold 0, and the factor of its logits for that.

    The likelihood is the mean logarithm of a label's probability.
    """
    rows = task.rows_of(0)
    rows = rows[:: -(-len(rows) * task.classes // LOGITS)]
    logits = torch.cat([head.logits(values) for _, values in _blocks(task, rows, 1)])
    own = logits.gather(1, task.label[rows][:, None]).mean(dtype=torch.float64)

    def likelihood(number: int) -> float:
        factor = float(FACTORS[number])
        total = (logits * factor).logsumexp(dim=1).mean(dtype=torch.float64)
        return float(factor * own - total)

    low, high = 0, len(FACTORS) - 1
    while low < high:  # it has but one peak
        middle = (low + high) // 2
        if likelihood(middle) < likelihood(middle + 1):
            low = middle + 1
        else:
            high = middle
    return likelihood(low), float(FACTORS[low])


def _ask_pairs(task: HeadTask, pairs: dict[frozenset[int], LinearHead]) -> PseudoLabels:
    """Return what heads that left out two folds believe of the samples of both."""
    rules = SelfLabeling(
        threshold=task.config.self_label_threshold, temperature=task.config.self_label_temperature
    )
    result = PseudoLabels.none_yet(task)
    for fold in range(task.config.folds):
        others = [other for other in range(task.config.folds) if other != fold]
        columns = torch.tensor(others)
        for part, values in _blocks(task, task.rows_of(fold), len(others)):
            logits = [pairs[frozenset((fold, other))].logits(values) for other in others]
            probs = torch.stack(logits, dim=1).softmax(dim=2)
            is_trusted = task.is_trusted[part][:, None]
            start = task.labels(part, len(others))
            taught, believed = self_label(probs, start, rules)
            at = torch.from_numpy(part)[:, None]
            result.label[at, columns] = torch.where(is_trusted, start, taught)
            result.weight[at, columns] = believed.masked_fill(is_trusted, 1.0)
            common, _ = self_label(probs.mean(dim=1), task.label[part], rules)
            result.majority[part] = torch.where(is_trusted[:, 0], task.label[part], common)
    return result


def _blocks(
    task: HeadTask, rows: NDArray[np.int64], heads: int
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Yield rows and their ``(B, D)`` features, few enough for the logits of some heads."""
    size = max(1, LOGITS // (heads * task.classes))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield part, task.features.batch(part)


def _tell(task: HeadTask, stage: str, done: int, total: int | None, note: str = "") -> None:
    task.on_progress(Progress(stage, done, total, "heads" if total else "steps", note))
