"""Well-known ways to find wrong labels, on the same frozen features.

Letters: N samples, B samples of a batch, K classes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from torch import Tensor

from labelfix.benchmark.methods.heads import HeadTargets, choose_radii, fit
from labelfix.benchmark.problem import ANY_SCORE, MethodOutputs, MethodResult, Problem
from labelfix.types import MISSING
from labelfix.utils.torch_utils import choose_device

THRESHOLD_QUANTILE = 0.99
"""Of the margins of threshold samples: what is below it is flagged (Pleiss et al., section 3.3)."""


def aum(problem: Problem) -> MethodOutputs:
    """Area under the margin of a linear head, with threshold samples (Pleiss et al., NeurIPS 2020).

    Two heads train side by side; in each another ``N / (K + 1)`` samples get the label of a class
    that does not exist. A sample is flagged whose margin is below the 99th percentile of theirs.
    """
    count, fake = len(problem), problem.classes
    rng = np.random.default_rng(problem.seed)
    size = count // (fake + 1)
    chosen = rng.permutation(count)[: 2 * size].reshape(2, size)
    label = np.repeat(problem.given_label[:, None], 2, axis=1)
    is_fake = np.zeros((count, 2), dtype=bool)
    for head, rows in enumerate(chosen):
        is_fake[rows, head] = True
    label[is_fake] = fake
    radius = choose_radii(_targets(problem, problem.given_label[:, None], fake))
    margin = _Mean(count, 2)
    labels = torch.from_numpy(label)

    def record(rows: NDArray[np.int64], logits: Tensor) -> None:
        index = labels[rows].to(logits.device).unsqueeze(2)
        own = logits.gather(2, index).squeeze(2)
        margin.add(rows, own - logits.scatter(2, index, -torch.inf).amax(dim=2))

    fit(_targets(problem, label, fake + 1), radius.repeat(2), record)
    means = margin.result()
    threshold = [
        float(np.quantile(means[is_fake[:, head], head], THRESHOLD_QUANTILE)) for head in (0, 1)
    ]
    # a sample is scored by the heads in which it kept its label: one of them at least
    own = np.ma.array(means - np.array(threshold), mask=is_fake).mean(axis=1)
    flags = np.asarray(own < 0)
    return {
        ANY_SCORE: MethodResult(
            score=-np.ma.array(means, mask=is_fake).mean(axis=1).filled(np.nan),
            flags={"threshold_samples": flags},
            suggested_label=np.full(count, MISSING),
            noise_rate=float(flags.mean()),
            settings={"radius": float(radius[0]), "threshold": threshold},
        )
    }


def small_loss(problem: Problem) -> MethodOutputs:
    """Mean loss of a linear head over training; flags from a mixture of two (DivideMix, ICLR 2020).

    A sample is flagged that more probably belongs to the component of larger losses.
    """
    given = torch.from_numpy(problem.given_label)
    loss, belief = _Mean(len(problem), 1), _Mean(len(problem), problem.classes)

    def record(rows: NDArray[np.int64], logits: Tensor) -> None:
        log_probs = logits[:, 0].log_softmax(dim=1)
        own = log_probs.gather(1, given[rows].to(logits.device)[:, None])
        loss.add(rows, -own)
        belief.add(rows, log_probs.exp())

    targets = _targets(problem, problem.given_label[:, None], problem.classes)
    radius = choose_radii(targets)
    fit(targets, radius, record)
    score = loss.result()[:, 0]
    mixture = GaussianMixture(2, random_state=problem.seed).fit(score[:, None])
    larger = int(mixture.means_[:, 0].argmax())
    flags = mixture.predict_proba(score[:, None])[:, larger] > 0.5
    others = belief.result()
    predicted = others.argmax(axis=1)
    others[np.arange(len(problem)), problem.given_label] = -1
    return {
        ANY_SCORE: MethodResult(
            score=score,
            flags={"mixture": flags},
            suggested_label=np.where(flags, others.argmax(axis=1), MISSING),
            predicted_label=predicted,
            noise_rate=float(flags.mean()),
            settings={"radius": float(radius[0])},
        )
    }


class _Mean:
    """Averages ``(N, M)`` figures of a training run over its epochs."""

    def __init__(self, count: int, figures: int) -> None:
        self._sum = np.zeros((count, figures))
        self._seen = np.zeros(count, dtype=np.int64)

    def add(self, rows: NDArray[np.int64], values: Tensor) -> None:
        self._sum[rows] += values.double().cpu().numpy()
        self._seen[rows] += 1

    def result(self) -> NDArray[np.float64]:
        return np.asarray(self._sum / self._seen[:, None])


def _targets(problem: Problem, label: NDArray[np.int64], classes: int) -> HeadTargets:
    return HeadTargets(
        values=problem.feature_values(),
        label=label,
        weight=np.ones(label.shape, dtype=np.float32),
        classes=classes,
        seed=problem.seed,
        device=choose_device(problem.backbone.device),
    )
