"""What each sample's true label may be, kept so that a pass over all samples is short.

Samples with the same given label lie together: what they all share is then one vector of K numbers,
and a pass of expectation maximization is two products of a matrix and a vector for each label.

Letters: N samples, n of them scored, K classes, B rows of a block.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

from labelfix.config import ScoringConfig
from labelfix.data.probability_store import ProbabilityStore, block_rows, blocks
from labelfix.types import Codes, code_type
from labelfix.utils.scratch import new_array
from labelfix.utils.threads import in_order

LEAST_PROBABILITY = 1e-12
"""Probabilities are not taken for less, so that none is impossible."""

LEAST_PRIOR = np.float32(1e-36)
"""Squared priors are not taken for less: float32 holds little below, and that slowly."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows ``start`` to ``stop`` of the priors, which were all given one label."""

    label: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class LabelPriors:
    """P(true | x) of n samples, sorted by their given label.

    Args:
        values: ``(n, K)`` float32, right up to a factor for each sample.
        order: ``(n,)``: which of the n samples each row is.
        pieces: The rows of each label, a block at most in one piece, in order.
        predicted_label: ``(n,)`` codes, in the order of the samples: the argmax of what came in.
    """

    values: NDArray[np.float32]
    order: Codes
    pieces: tuple[Piece, ...]
    predicted_label: Codes

    @property
    def classes(self) -> int:
        """Return K."""
        return int(self.values.shape[1])

    @property
    def given(self) -> Codes:
        """Return ``(n,)`` the given label of each row of ``values``."""
        counts = [piece.stop - piece.start for piece in self.pieces]
        labels = np.array([piece.label for piece in self.pieces], code_type(self.classes))
        return np.repeat(labels, counts)

    def spaced(self, limit: int, *, as_view: bool = False) -> "LabelPriors":
        """Return at most ``limit`` of the samples, evenly spaced; all where they are fewer.

        Args:
            limit: How many at most.
            as_view: Whether their priors are not copied side by side.
        """
        step = -(-len(self.values) // limit)
        if step <= 1:
            return self
        pieces = _pieces(self.given[::step], self.classes)
        values = self.values[::step] if as_view else self.values[::step].copy()
        order = np.arange(len(values))
        return LabelPriors(values, order, pieces, self.predicted_label[::step])

    def squared(self) -> "LabelPriors":
        """Return the priors squared: as sharp as if the model were half as doubtful."""
        return LabelPriors(squared(self.values), self.order, self.pieces, self.predicted_label)


def squared(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return priors squared, none of them 0."""
    return np.asarray(np.maximum(values * values, LEAST_PRIOR))


def sharpened_priors(
    probs: ProbabilityStore,
    rows: NDArray[np.int64],
    given: Codes,
    temperature: float,
    pool: ThreadPoolExecutor,
    *,
    zero: float = LEAST_PROBABILITY,
) -> LabelPriors:
    """Return the priors ``probability ** (1 / temperature)``, in one pass over the probabilities.

    Args:
        probs: Of N samples.
        rows: ``(n,)`` rising: those that are scored.
        given: ``(n,)`` codes, their given labels.
        temperature: Below 1 sharpens.
        pool: The threads to use.
        zero: What stands for a probability of 0: see `instead_of_zero`.
    """
    classes = probs.classes
    kind = code_type(len(rows))
    order = np.argsort(given, kind="stable").astype(kind)
    place = np.empty(len(rows), kind)
    place[order] = np.arange(len(rows), dtype=kind)
    values = new_array((len(rows), classes), np.float32)
    predicted = np.empty(len(rows), code_type(classes))
    power = np.float32(1 / temperature)
    # a factor that all samples share, to keep powers within what float32 can hold
    shift = np.float32(np.log(classes) / (2 * temperature))

    def load(block: slice) -> None:
        part = probs.read(rows[block] if len(rows) < len(probs) else block)
        predicted[block] = part.argmax(axis=1)
        part[part <= 0] = zero
        np.log(np.maximum(part, LEAST_PROBABILITY, out=part), out=part)
        part *= power
        part += shift
        values[place[block]] = np.exp(part, out=part)

    for _ in in_order(load, blocks(len(rows), classes), pool):
        pass
    return LabelPriors(values, order, _pieces(given[order], classes), predicted)


def instead_of_zero(probs: NDArray[np.float32], given: Codes) -> float:
    """Return what stands for a probability of 0: how often a class of probability 0 was given.

    Neighbor votes and trees give 0 to classes that they have not seen, and rounding and lists of
    the top classes to what they cut off: such a 0 does not mean impossible. It is never taken for
    more than the least probability above 0, so that the order of the classes stays.

    Args:
        probs: ``(n, K)`` of some samples.
        given: ``(n,)`` codes.
    """
    is_zero = probs <= 0
    zeros = np.count_nonzero(is_zero)
    if not zeros:
        return LEAST_PROBABILITY
    were_given = np.count_nonzero(is_zero[np.arange(len(given)), given])
    least = float(np.min(probs, initial=1.0, where=~is_zero))
    return max(min((were_given + 0.5) / (zeros + 1), least), LEAST_PROBABILITY)


def _pieces(given: Codes, classes: int) -> tuple[Piece, ...]:
    # in the type of the codes, which cannot hold the end of the last class: else all are widened
    ends = [*np.searchsorted(given, np.arange(classes, dtype=given.dtype)).tolist(), len(given)]
    step = block_rows(classes)
    return tuple(
        Piece(label, start, min(start + step, ends[label + 1]))
        for label in range(classes)
        for start in range(ends[label], ends[label + 1], step)
    )


def expected_counts(
    priors: LabelPriors, matrix: NDArray[np.float64], pool: ThreadPoolExecutor
) -> NDArray[np.float64]:
    """Return ``(K, K)``: in row j, column k the expected samples of class j with given label k.

    Args:
        priors: Of n samples.
        matrix: ``(K, K)`` P(given = k | true = j) in row j.
        pool: The threads to use.
    """
    columns = np.ascontiguousarray(matrix.T, np.float32)

    def count(piece: Piece) -> NDArray[np.float32]:
        part = priors.values[piece.start : piece.stop]
        # einsum, not matmul: its sums do not depend on how many threads a BLAS library takes
        share = 1 / np.einsum("ij,j->i", part, columns[piece.label])
        return np.asarray(np.einsum("ij,i->j", part, share))

    total = np.zeros(matrix.shape)
    for piece, ratios in zip(priors.pieces, in_order(count, priors.pieces, pool), strict=True):
        total[piece.label] += ratios
    return (total * columns).T


def prior_samples(
    right: float, count: float, classes: int, config: ScoringConfig
) -> tuple[float, float]:
    """Return how many samples each true class is taken to have before any is seen.

    Returns:
        Those with the right label, and those with each one of the wrong labels.

    Args:
        right: The expected samples with the right label, of all classes.
        count: All samples.
        classes: K.
        config: How many samples are taken for granted, and how often they are mistaken.
    """
    rate = (count - right + config.prior_noise_rate) / (count + 1)
    samples = config.class_prior_samples
    return samples * (1 - rate), samples * rate / max(classes - 1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Mistakes:
    """The expected samples of some true classes that were given a wrong label.

    Args:
        of_class: ``(R,)`` for each class the sum of its cells.
        cells: ``(M,)`` samples of a class with one wrong label; the cells of all classes.
        rest: ``(R,)`` samples in each cell of a class that is not told apart.
        rests: ``(R,)`` how many such cells there are.
    """

    of_class: NDArray[np.float64]
    cells: NDArray[np.float64]
    rest: NDArray[np.float64]
    rests: NDArray[np.int64]


def mistake_concentration(mistakes: Mistakes, classes: int, config: ScoringConfig) -> float:
    """Return how much the classes resemble each other in what they are mistaken for.

    The more, the fewer mistakes are learned for each class on its own. The shares of the mistakes
    of a class are taken to come from a symmetric Dirichlet distribution whose concentration makes
    the mistakes of all classes most likely (the Dirichlet-multinomial of Minka, "Estimating a
    Dirichlet distribution", 2000): it is small where each class has its own mistakes, and large
    where all are mistaken for any other, so that cells of few samples do not learn from chance.

    Args:
        mistakes: Of some classes.
        classes: K.
        config: In which range it is looked for.
    """
    if classes < 3:  # there is but one other class
        return 0.0

    def loss(log_concentration: float) -> float:
        whole = np.exp(log_concentration)
        share = whole / (classes - 1)
        of_classes = gammaln(whole + mistakes.of_class) - gammaln(whole)
        of_cells = gammaln(share + mistakes.cells) - gammaln(share)
        of_rests = mistakes.rests * (gammaln(share + mistakes.rest) - gammaln(share))
        return float(of_classes.sum() - of_cells.sum() - of_rests.sum())

    best = minimize_scalar(
        loss, bounds=config.log_concentration_range, method="bounded", options={"xatol": 1e-2}
    )
    return float(np.exp(best.x))


def some_classes(classes: int, config: ScoringConfig) -> NDArray[np.int64]:
    """Return ``(R,)`` the classes whose mistakes the concentration is fitted to."""
    count = min(classes, config.concentration_classes)
    return np.linspace(0, classes - 1, count).astype(np.int64)


def mistaken_share(
    own: NDArray[np.float64], mistaken: NDArray[np.float64], config: ScoringConfig
) -> NDArray[np.float64]:
    """Return ``(K,)`` the share of each true class that was given a wrong label.

    Args:
        own: ``(K,)`` expected samples with the right label.
        mistaken: ``(K,)`` with a wrong one.
        config: What is taken for granted of each class.
    """
    classes, right_of_all = len(own), float(own.sum())
    right, wrong = prior_samples(
        right_of_all, right_of_all + float(mistaken.sum()), classes, config
    )
    others = wrong * (classes - 1) + 1e-9
    return (mistaken + others) / (own + mistaken + right + others)


class NoiseColumns(Protocol):
    """P(given | true) of which no whole matrix is held."""

    def column(self, label: int) -> NDArray[np.float32]:
        """Return ``(K,)`` the probability of one given label for each true class."""
        ...


def noise_columns(
    noise: NDArray[np.float64] | NoiseColumns,
) -> Callable[[int], NDArray[np.float32]]:
    """Return what gives the column of a given label, of a matrix or of what stands for one."""
    if isinstance(noise, np.ndarray):
        return np.ascontiguousarray(noise.T, np.float32).__getitem__
    return noise.column


@dataclass(frozen=True, slots=True, eq=False)
class Posteriors:
    """What the given label and the prior together say of n samples, in the order of the samples.

    Args:
        wrong: ``(n,)`` float32, the probability that the true class is not the given one.
        under: ``(H, n)`` float32, the same under each hypothesis.
        alternative_label: ``(n,)`` codes, the most probable class other than the given one.
        alternative_probability: ``(n,)`` float32, its probability.
        of_class: ``(K,)`` how many samples are expected to be of each true class.
    """

    wrong: NDArray[np.float32]
    under: NDArray[np.float32]
    alternative_label: Codes
    alternative_probability: NDArray[np.float32]
    of_class: NDArray[np.float64]


def posteriors(
    priors: LabelPriors,
    matrices: Sequence["NDArray[np.float64] | NoiseColumns"],
    pool: ThreadPoolExecutor,
    weights: NDArray[np.float64] | None = None,
) -> Posteriors:
    """Return the mean of what Bayes' rule says under each of H hypotheses.

    ``P(true = k | x, given) ~ P(true = k | x) ** (2 ** h) * matrices[h][k, given]``.

    Args:
        priors: Of n samples.
        matrices: H of ``(K, K)``, P(given = k | true = j) in row j, or what gives its columns.
        pool: The threads to use.
        weights: ``(H,)`` how much each hypothesis counts in the mean; ``None`` for all alike.
    """
    columns = [noise_columns(matrix) for matrix in matrices]
    shares = np.asarray(np.ones(len(columns)) if weights is None else weights, np.float32)
    count = len(priors.order)
    wrong, probability = np.empty(count, np.float32), np.empty(count, np.float32)
    under = new_array((len(columns), count), np.float32)
    alternative = np.empty(count, code_type(priors.classes))

    def score(piece: Piece) -> NDArray[np.float64]:
        part = priors.values[piece.start : piece.stop]
        samples = priors.order[piece.start : piece.stop]
        others = np.zeros_like(part)
        for number, column in enumerate(columns):
            if number:
                part = squared(part)
            joint = part * column(piece.label)
            own = joint[:, piece.label].copy()
            joint[:, piece.label] = 0
            # a sum apart from the given label's own: 1 - own would lose what is tiny
            joint /= (joint.sum(axis=1) + own)[:, None]
            under[number, samples] = np.minimum(joint.sum(axis=1), 1)
            joint *= shares[number]
            others += joint
        others /= shares.sum()
        best = others.argmax(axis=1)
        wrong[samples] = np.minimum(others.sum(axis=1), 1)
        alternative[samples] = best
        probability[samples] = others[np.arange(len(best)), best]
        truly = others.sum(axis=0, dtype=np.float64)
        truly[piece.label] = len(part) - truly.sum()
        return np.asarray(truly)

    of_class = np.zeros(priors.classes)
    for truly in in_order(score, priors.pieces, pool):
        of_class += truly
    return Posteriors(wrong, under, alternative, probability, of_class)
