"""Class noise where classes are many: a matrix of K by K holds too much, and costs too much.

Of K classes each is mistaken for few others, and for all the rest about alike. So what the model
expects of a sure sample of a class is a few cells and a share of one common background, and the
noise matrix is a few cells of each given label and one value for all others of a true class. Time
and memory then grow with N times K, where dense matrices take N times K squared.

Letters: N samples, n of them scored, f of those fitted to, K classes, B rows of a block, M mistakes
of a class that are told apart, C true classes that are told apart for a given label, H hypotheses.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from labelfix.config import ScoringConfig
from labelfix.data.probability_store import BLOCK_ELEMENTS, blocks
from labelfix.scoring.priors import (
    LEAST_PRIOR,
    LabelPriors,
    Mistakes,
    mistake_concentration,
    mistaken_share,
    some_classes,
)
from labelfix.types import NoiseCells
from labelfix.utils.threads import in_order

LEAST_COLUMNS = 32
"""Samples that are unmixed at a time, at least: a sparse product of fewer spends its time on
finding its cells."""

RUNS = 16
"""So many runs of labels the candidates are picked in: each holds sums of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class SparseMixture:
    """``(K, K)`` P(given = k | true = j) in row j: ``cells + outer(share, background)``.

    Args:
        cells: ``(K, K)`` float32, of which M + 1 in a row are not 0.
        turned: The same, transposed.
        share: ``(K,)`` float32.
        background: ``(K,)`` float32, sums to 1.
    """

    cells: csr_array
    turned: csr_array
    share: NDArray[np.float32]
    background: NDArray[np.float32]

    @classmethod
    def of_rows(
        cls, rows: Iterable[NDArray[np.float64]], classes: int, *, mistakes: int
    ) -> "SparseMixture":
        """Return the mixture that is nearest to some rows.

        The diagonal and the M largest other cells of a row are kept as they are; the rest of the
        row is spread as the rests of all rows together are.

        Args:
            rows: K of ``(K,)``, each sums to 1.
            classes: K.
            mistakes: M, at most.
        """
        kept = min(mistakes, classes - 1)
        places = np.empty((classes, kept + 1), np.int64)
        values = np.empty((classes, kept + 1))
        background = np.full(classes, 1e-12)
        for label, row in enumerate(rows):
            others = row.copy()
            others[label] = -1
            largest = np.argpartition(others, classes - kept)[classes - kept :]
            places[label] = np.sort(np.append(largest, label))
            values[label] = row[places[label]]
            others[places[label]] = 0
            background += others
        background /= background.sum()
        rest = np.maximum(1 - values.sum(axis=1), 0)
        share = rest / np.maximum(1 - background[places].sum(axis=1), 1e-6)
        values -= share[:, None] * background[places]
        starts = np.arange(0, places.size + 1, kept + 1)
        cells = csr_array(
            (values.ravel().astype(np.float32), places.ravel(), starts), shape=(classes, classes)
        )
        return cls(cells, cells.T.tocsr(), share.astype(np.float32), background.astype(np.float32))

    def mix(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the ``(K, B)`` probabilities of each given label, for ``(K, B)`` of true ones."""
        mixed = self.turned @ weights
        mixed += self.background[:, None] * (self.share @ weights)
        return np.asarray(mixed)

    def pull(self, ratios: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(K, B)`` the mean of ``(K, B)`` ratios of given labels for each true class."""
        means = self.cells @ ratios
        means += self.share[:, None] * (self.background @ ratios)
        return np.asarray(means)


def unmixed(
    priors: LabelPriors,
    mixture: SparseMixture,
    pool: ThreadPoolExecutor,
    *,
    rounds: int,
    least_share: float,
) -> LabelPriors:
    """Do what `labelfix.scoring.class_noise.without_class_noise` does, with a sparse mixture.

    Overwrites the values of ``priors``.

    Args:
        priors: P(given | x) of n samples, up to a factor.
        mixture: P(given | true).
        pool: The threads to use.
        rounds: Of expectation maximization.
        least_share: No class is taken to be less likely than this share of the likeliest.
    """
    classes = priors.classes

    def unmix(rows: slice) -> None:
        part = np.ascontiguousarray(priors.values[rows].T)
        part /= part.sum(axis=0)
        weights = np.full_like(part, 1 / classes)
        for _ in range(rounds):
            mixed = mixture.mix(weights)
            np.maximum(mixed, np.float32(1e-12), out=mixed)
            np.divide(part, mixed, out=mixed)
            # what is taken off a cell and put back by the background may leave less than nothing
            weights *= np.maximum(mixture.pull(mixed), 0)
        weights /= weights.max(axis=0)
        priors.values[rows] = np.maximum(weights, np.float32(least_share)).T

    size = len(priors.values)
    step = max(LEAST_COLUMNS, BLOCK_ELEMENTS // classes)
    pieces = [slice(start, min(start + step, size)) for start in range(0, size, step)]
    for _ in in_order(unmix, pieces, pool):
        pass
    return priors


@dataclass(frozen=True, slots=True, eq=False)
class SparseNoise:
    """P(given = k | true = j): cells of each given label, and one value for the rest of each class.

    Args:
        truth: ``(K, C)`` in row k: the true classes that are told apart for given label k, k among
            them.
        cells: ``(K, C)`` float64: the probability of given label k for each of them.
        rest: ``(K,)`` float64: that of each other given label, for each true class.
    """

    truth: NDArray[np.int64]
    cells: NDArray[np.float64]
    rest: NDArray[np.float64]

    def column(self, label: int) -> NDArray[np.float32]:
        """Return ``(K,)`` the probability of one given label for each true class."""
        column = self.rest.astype(np.float32)
        column[self.truth[label]] = self.cells[label]
        return column


@dataclass(frozen=True, slots=True, eq=False)
class CandidatePriors:
    """P(true | x) of f samples, by their given label, for the true classes told apart for it.

    Args:
        truth: ``(K, C)`` in row k: the classes told apart for given label k.
        given: ``(f,)`` rising: the given label of each sample.
        values: ``(H, f, C)`` float32, to the power 1, 2, 4 ...
        others: ``(H, f)`` float32: the sum over all other classes.
        tails: ``(H, K)`` float64: for each class the sum over the samples that do not tell it
            apart.
    """

    truth: NDArray[np.int64]
    given: NDArray[np.int64]
    values: NDArray[np.float32]
    others: NDArray[np.float32]
    tails: NDArray[np.float64]

    @classmethod
    def of(
        cls, priors: LabelPriors, config: ScoringConfig, pool: ThreadPoolExecutor
    ) -> "CandidatePriors":
        """Return those of some samples, evenly spaced; nothing of K by n is copied.

        Args:
            priors: Of n samples.
            config: How many samples and candidates at most, and how many hypotheses.
            pool: The threads to use.
        """
        hypotheses = config.hypotheses
        step = max(1, -(-len(priors.values) // config.fitted_samples))
        given = priors.given[::step]
        classes, count = priors.classes, len(given)
        kept = min(config.candidate_classes, classes)
        truth = np.empty((classes, kept), np.int64)
        values = np.empty((hypotheses, count, kept), np.float32)
        others = np.empty((hypotheses, count), np.float32)
        starts = np.searchsorted(given, np.arange(classes + 1))

        def look(labels: slice) -> NDArray[np.float64]:
            tails = np.zeros((hypotheses, classes))
            for label in range(labels.start, labels.stop):
                rows = slice(int(starts[label]), int(starts[label + 1]))
                own = priors.values[rows.start * step : rows.stop * step : step]
                parts = blocks(len(own), classes)
                mass = np.zeros(classes)
                for block in parts:
                    mass += own[block].sum(axis=0, dtype=np.float64)
                mass[label] = np.inf
                some = np.sort(np.argpartition(mass, classes - kept)[classes - kept :])
                truth[label] = some
                for block in parts:
                    part = np.array(own[block])
                    at = slice(rows.start + block.start, rows.start + block.stop)
                    for number in range(hypotheses):
                        if number:
                            np.maximum(part * part, LEAST_PRIOR, out=part)
                        values[number, at] = part[:, some]
                        part[:, some] = 0
                        others[number, at] = part.sum(axis=1)
                        tails[number] += part.sum(axis=0)
                        part[:, some] = values[number, at]
            return tails

        runs = [slice(k[0], k[-1] + 1) for k in np.array_split(np.arange(classes), RUNS) if len(k)]
        tails = np.sum(list(in_order(look, runs, pool)), axis=0)
        return cls(truth, given, values, others, tails)

    def start(self) -> NDArray[np.float64]:
        """Return the parameters of labels that are right nine times of ten."""
        classes, kept = self.truth.shape
        wrong = 0.1 / max(classes - 1, 1)
        cells = np.full((classes, kept), wrong)
        cells[self.truth == np.arange(classes)[:, None]] = 0.9
        return np.concatenate([cells.ravel(), np.full(classes, wrong)])

    def noise(self, parameters: NDArray[np.float64]) -> SparseNoise:
        """Return the noise that some parameters stand for: all cells, and then the rests."""
        size = self.truth.size
        return SparseNoise(
            self.truth, parameters[:size].reshape(self.truth.shape), parameters[size:]
        )

    def as_rows(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the parameters scaled so that the labels of each true class sum to 1."""
        noise = self.noise(parameters)
        totals = self._row_sums(noise.cells) + self._number_of_rests() * noise.rest
        return np.concatenate([(noise.cells / totals[self.truth]).ravel(), noise.rest / totals])

    def renewed(
        self,
        parameters: NDArray[np.float64],
        hypothesis: int,
        config: ScoringConfig,
        pool: ThreadPoolExecutor,
    ) -> NDArray[np.float64]:
        """Return the parameters after one round of expectation maximization.

        Args:
            parameters: As `start` has them.
            hypothesis: Which power of the priors.
            config: What is taken for granted of each class.
            pool: The threads to use.
        """
        noise = self.noise(parameters)
        tails = self.tails[hypothesis] * noise.rest
        mass = float(self.tails[hypothesis].sum())
        # the classes that a sample does not tell apart share its rest as they do on the whole
        common = np.float32(tails.sum() / mass) if mass > 0 else np.float32(0)
        values, others = self.values[hypothesis], self.others[hypothesis]
        known = noise.cells.astype(np.float32)

        def count(rows: slice) -> tuple[NDArray[np.int64], NDArray[np.float32], float]:
            part, given = values[rows], self.given[rows]
            share = np.einsum("ij,ij->i", part, known[given])
            share += others[rows] * common
            np.divide(1, share, out=share)
            labels, starts = np.unique(given, return_index=True)
            sums = np.add.reduceat(part * share[:, None], starts, axis=0)
            return labels, sums, float(others[rows] @ share)

        ratios = np.zeros(self.truth.shape)
        outside = 0.0
        parts = blocks(len(self.given), self.truth.shape[1])
        for labels, sums, more in in_order(count, parts, pool):
            ratios[labels] += sums
            outside += more
        cells = ratios * noise.cells
        is_own = self.truth == np.arange(len(self.truth))[:, None]
        number = self._number_of_rests()
        rest = np.zeros(len(cells))
        if mass > 0:
            rest += float(common) * outside * (tails / tails.sum()) / np.maximum(number, 1)
        own = cells[is_own]
        cells[is_own] = 0
        of_class = self._row_sums(cells) + number * rest
        rate = mistaken_share(own, of_class, config)
        some = some_classes(len(cells), config)
        mistakes = Mistakes(
            of_class[some], cells[np.isin(self.truth, some) & ~is_own], rest[some], number[some]
        )
        share = mistake_concentration(mistakes, len(cells), config) / max(len(cells) - 1, 1) + 1e-9
        cells += share
        rest += share
        cells[is_own] = 0
        scale = rate / np.maximum(self._row_sums(cells) + number * rest, 1e-300)
        cells *= scale[self.truth]
        cells[is_own] = 1 - rate
        return np.concatenate([cells.ravel(), rest * scale])

    def _row_sums(self, cells: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(self.truth.ravel(), cells.ravel(), minlength=len(self.truth))
        return np.asarray(sums, np.float64)

    def _number_of_rests(self) -> NDArray[np.int64]:
        classes = len(self.truth)
        return np.asarray(classes - np.bincount(self.truth.ravel(), minlength=classes))


def noise_cells(
    noises: Sequence[SparseNoise], of_class: NDArray[np.float64], config: ScoringConfig
) -> NoiseCells:
    """Return the cells that are not negligible, and the diagonal.

    Args:
        noises: Of H hypotheses, with the same cells.
        of_class: ``(K,)`` the expected samples of each true class.
        config: How wide intervals are, and which cells are negligible.
    """
    cells = np.stack([noise.cells for noise in noises])
    truth = noises[0].truth
    probability = cells.mean(axis=0)
    bounds = np.stack([cells.min(axis=0), cells.max(axis=0)])
    spread = config.interval_deviations * np.sqrt(
        bounds * (1 - bounds) / np.maximum(of_class, 1)[truth]
    )
    spread[0] *= -1
    low, high = np.clip(bounds + spread, 0, 1)
    given = np.broadcast_to(np.arange(len(truth))[:, None], truth.shape)
    kept = (probability >= config.negligible_cell) | (truth == given)
    order = np.lexsort((given[kept], truth[kept]))
    return NoiseCells(
        classes=len(truth),
        true_label=truth[kept][order],
        given_label=given[kept][order],
        probability=probability[kept][order],
        low=low[kept][order],
        high=high[kept][order],
    )
