"""Whether given labels and probabilities belong together at all, and if not, what was mixed up.

Compared are the given label of each row and the class that its probabilities favor. Noise lowers
their agreement and leaves it above chance; rows in another order bring it down to chance, and
columns in another order make other pairs of classes agree.

Letters: n rows that have both, K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.special import bdtr, betainc, gammainc, ndtr

from labelfix.types import MISSING, Codes

SIGNIFICANCE = 1e-3
"""Labels and probabilities are related if chance agrees as well with a smaller probability."""

WEAK_AGREEMENT = 0.25
"""A share of the way from chance to the best agreement possible. Below what it would give is too
little for the weakest model of use; above it a few rows may be too few to tell."""

DOUBT = 0.01
"""Rows are called unrelated if agreement as weak as that would look worse so seldom."""

DISPLACED = 1e-5
"""Columns are called displaced if as many rows would favor another column so seldom by chance."""

LEAST_RUN = 200
"""A stretch of rows that disagrees with the rest has at least so many rows, ..."""

RUN_SHARE = 0.04
"""... and at least this share of all."""

MOST_SEGMENTS = 64

LEAST_USUAL = 0.25
"""The share of rows that has to agree beyond chance for a stretch to stand out."""


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """The labels of n rows as given and as their probabilities have it.

    Args:
        given: ``(n,)`` codes in ``[0, K)``.
        predicted: ``(n,)`` codes, the most probable class.
        classes: K.
        trust: The sum of the probabilities of the given labels, in standard deviations above what
            the same rows in any order give; 0 where every order gives the same.
    """

    given: Codes
    predicted: Codes
    classes: int
    trust: float = 0.0

    def __len__(self) -> int:
        """Return n."""
        return len(self.given)


@dataclass(frozen=True, slots=True)
class Chance:
    """How the agreement of given labels and probabilities compares with chance.

    Args:
        rows: n.
        agreeing: How many rows agree.
        expected: How many would, with the rows in any order.
        is_related: They agree more often than chance.
        is_unrelated: They agree no more often, and there are rows enough to tell.
    """

    rows: int
    agreeing: int
    expected: float
    is_related: bool
    is_unrelated: bool

    def __str__(self) -> str:
        """Return the figures as part of a sentence."""
        return (
            f"{self.agreeing:,} of {self.rows:,} agree, and chance alone gives {self.expected:,.0f}"
        )


@dataclass(frozen=True, slots=True)
class MovedRows:
    """A stretch of rows that agree no better than chance, while the others do.

    Args:
        start: The first of them, in ``[0, n)``.
        stop: One behind the last.
        lag: They agree with the probabilities so many rows further down; 0 where they do not.
        agreeing: The share of the other rows that agree, 0 to 1.
    """

    start: int
    stop: int
    lag: int
    agreeing: float


@dataclass(frozen=True, slots=True)
class Move:
    """A given label that agrees better with the column of another class.

    Args:
        given: Its code.
        column: The code of the other class.
        rows: How many rows have the label.
        own: How many of them favor its own column.
        other: How many favor that of the other class.
    """

    given: int
    column: int
    rows: int
    own: int
    other: int


class GivenTrust:
    """Adds up what the probabilities of the given labels are worth, some rows at a time.

    The sum ``S = sum_i p_i[given_i]`` is set against its mean and variance over all orders of the
    rows (Hoeffding 1951), so that no order has to be drawn.

    Args:
        given: ``(N,)`` codes of all rows that will be added, ``MISSING`` left out.
        classes: K.
    """

    def __init__(self, given: NDArray[np.int64], classes: int) -> None:
        counts = np.bincount(given[given != MISSING], minlength=classes).astype(np.float64)
        self._share = counts / max(counts.sum(), 1)
        self._given = np.zeros(classes)
        self._sum, self._squares = np.zeros(classes), np.zeros(classes)
        self._total = self._mean_sum = self._mean_squares = 0.0
        self._rows = 0

    def add(self, probs: NDArray[np.float32], given: NDArray[np.int64]) -> None:
        """Take in ``(B, K)`` probabilities and the ``(B,)`` labels that their rows came with."""
        values = probs.astype(np.float64)
        mean = values @ self._share
        self._rows += len(values)
        self._total += float(values[np.arange(len(values)), given].sum())
        self._sum += values.sum(axis=0)
        self._squares += np.einsum("ij,ij->j", values, values)
        self._mean_sum += float(mean.sum())
        self._mean_squares += float(mean @ mean)

    def value(self) -> float:
        """Return how many standard deviations the sum lies above its mean."""
        rows = self._rows
        if rows < 2:
            return 0.0
        center = self._sum / rows
        expected = rows * float(self._share @ center)
        spread = float(self._share @ (self._squares - rows * center**2))
        spread -= self._mean_squares - self._mean_sum**2 / rows
        variance = rows / (rows - 1) * spread
        if variance <= 1e-9 * rows:
            return 0.0
        return float((self._total - expected) / np.sqrt(variance))


def compare_with_chance(compared: Compared) -> Chance:
    """Return whether labels and probabilities agree better than with the rows in any order."""
    count = len(compared)
    agreeing = int(np.count_nonzero(compared.given == compared.predicted))
    expected, variance, most = _of_any_order(compared.given, compared.predicted, compared.classes)
    chance = min(_as_many_by_chance(agreeing, expected, variance), float(ndtr(-compared.trust)))
    is_related = chance < SIGNIFICANCE / 2
    weak = expected + WEAK_AGREEMENT * (most - expected)
    is_powerful = count > 0 and most - expected > 0.5
    is_below = is_powerful and float(bdtr(agreeing, count, min(weak / count, 1.0))) < DOUBT
    return Chance(count, agreeing, expected, is_related, not is_related and is_below)


def notes_on_labels(
    given: NDArray[np.int64],
    predicted: Codes,
    is_flagged: NDArray[np.bool_],
    classes: int,
    *,
    by: str,
) -> list[str]:
    """Return what should make a person look at the labels as a whole, a sentence each.

    Args:
        given: ``(N,)`` codes, ``MISSING`` for no label.
        predicted: ``(N,)`` codes of the most probable class, ``MISSING`` where not scored.
        is_flagged: ``(N,)`` bool.
        classes: K.
        by: What scored the labels, in the plural.
    """
    rows = np.flatnonzero((given != MISSING) & (predicted != MISSING))
    flagged = int(np.count_nonzero(is_flagged[rows]))
    chance = compare_with_chance(Compared(given[rows], predicted[rows], classes))
    if chance.is_unrelated:
        return [
            f"labels and {by} agree no better than chance ({chance}): check that the labels belong "
            "to these samples (another column, rows in another order?) before any flag is used"
        ]
    if flagged > len(rows) / 2:
        return [
            f"{flagged:,} of {len(rows):,} scored labels are flagged: check a few, and that the "
            "labels belong to these samples, before any flag is used"
        ]
    return []


def _of_any_order(
    given: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> tuple[float, float, float]:
    """Return mean and variance of the agreement over all orders, and the most that there can be."""
    count = len(given)
    if count < 2:
        return float(count), 0.0, float(count)
    first = np.bincount(given, minlength=classes).astype(np.float64)
    second = np.bincount(predicted, minlength=classes).astype(np.float64)
    both = first * second
    expected = both.sum() / count
    spread = both.sum() ** 2 - (both**2).sum() + (both * (count - first) * (count - second)).sum()
    variance = spread / (count**2 * (count - 1))
    return float(expected), float(variance), float(np.minimum(first, second).sum())


def _as_many_by_chance(agreeing: int, expected: float, variance: float) -> float:
    """Return the probability of at least so many, by the binomial of that mean and variance."""
    if agreeing <= expected or expected <= 0:
        return 1.0 if expected > 0 or not agreeing else 0.0
    if variance >= expected:
        return float(gammainc(agreeing, expected))
    share = 1 - variance / expected
    draws = expected / share
    return float(betainc(agreeing, draws - agreeing + 1, share)) if agreeing < draws + 1 else 0.0


def moved_rows(compared: Compared) -> MovedRows | None:
    """Return the longest stretch of rows that agrees by chance alone, if the others do better.

    Rows that are sorted by class tell nothing and are never part of one.
    """
    count, given, predicted = len(compared), compared.given, compared.predicted
    segments = min(MOST_SEGMENTS, count // (LEAST_RUN // 2))
    if segments < 3:
        return None
    ends = np.linspace(0, count, segments + 1).astype(np.int64)
    expected, _, _ = _of_any_order(given, predicted, compared.classes)
    agrees = given == predicted
    if float(agrees.mean()) - expected / count < LEAST_USUAL:
        return None
    usual = np.bincount(predicted, minlength=compared.classes) / count
    halfway = (float(agrees.mean()) + expected / count) / 2
    is_odd = np.array(
        [
            _is_mixed(predicted[start:stop], usual) and agrees[start:stop].mean() < halfway
            for start, stop in pairwise(ends.tolist())
        ]
    )
    start, stop = _longest_run(is_odd)
    first, last = int(ends[start]), int(ends[stop])
    if last - first < max(LEAST_RUN, RUN_SHARE * count) or last - first == count:
        return None
    if not _is_by_chance(given[first:last], predicted[first:last], halfway):
        return None
    others = np.concatenate([agrees[:first], agrees[last:]])
    return MovedRows(first, last, _lag(given, predicted, first, last), float(others.mean()))


def _is_mixed(predicted: NDArray[np.int64], usual: NDArray[np.float64]) -> bool:
    """Return whether the classes of some rows are about as mixed as those of all."""
    share = np.bincount(predicted, minlength=len(usual)) / len(predicted)
    return float(share @ share) < 1.5 * float(usual @ usual) + 1 / len(predicted)


def _is_by_chance(given: NDArray[np.int64], predicted: NDArray[np.int64], halfway: float) -> bool:
    """Return whether some rows agree by chance alone, and in a smaller share than ``halfway``."""
    names, codes = np.unique(np.concatenate([given, predicted]), return_inverse=True)
    first, second = codes[: len(given)], codes[len(given) :]
    agreeing = int(np.count_nonzero(first == second))
    if float(bdtr(agreeing, len(given), halfway)) > DISPLACED:
        return False
    expected, variance, _ = _of_any_order(first, second, len(names))
    return _as_many_by_chance(agreeing, expected, variance) > SIGNIFICANCE


def _longest_run(is_odd: NDArray[np.bool_]) -> tuple[int, int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_odd.astype(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    starts, stops = edges[::2], edges[1::2]
    best = int(np.argmax(stops - starts))
    return int(starts[best]), int(stops[best])


def row_lag(compared: Compared) -> int:
    """Return by how many rows all labels look moved, down positive; 0 for none."""
    return _lag(compared.given, compared.predicted, 0, len(compared))


def _lag(given: NDArray[np.int64], predicted: NDArray[np.int64], start: int, stop: int) -> int:
    agreeing = np.count_nonzero(given[start:stop] == predicted[start:stop])
    for lag in (1, -1, 2, -2):
        first, last = max(start, -lag), min(stop, len(given) - max(lag, 0))
        moved = given[first:last], predicted[first + lag : last + lag]
        if len(moved[0]) < 2:
            continue
        count = int(np.count_nonzero(moved[0] == moved[1]))
        expected, variance, most = _of_any_order(*moved, int(max(map(np.max, moved))) + 1)
        is_much = count - expected > 0.5 * (most - expected) and count > 2 * agreeing
        if is_much and _as_many_by_chance(count, expected, variance) < DISPLACED:
            return lag
    return 0


def moved_columns(compared: Compared) -> tuple[Move, ...]:
    """Return the given labels whose column is that of another class, if columns are mixed up.

    Looked for is the assignment of labels to columns with the highest agreement, on one half of
    the rows; on the other half it has to beat the columns as they are. What counts are rings of
    two classes or more in which every label agrees better with the next column, or chains of them
    that end at a class that nobody was given: a class that is taken for another one, however
    often, is no ring, and neither is noise that leaves more labels right than it moves to one
    other class both ways.
    """
    count = len(compared)
    if count < 4 or compared.classes < 2:
        return ()
    first, second = (_pairs(compared, slice(start, None, 2)) for start in (0, 1))
    whole = first + second
    moved: dict[int, int] = {}
    for fitted, tested in ((first, second), (second, first)):
        moved |= _displaced(fitted, tested, whole, tries=None)
    moved |= _displaced(whole, whole, whole, tries=compared.classes)
    rows = np.bincount(compared.given, minlength=compared.classes)
    return tuple(
        Move(given, column, int(rows[given]), int(whole[given, given]), int(whole[given, column]))
        for given, column in sorted(moved.items())
    )


_PAIRS_AT_ONCE = 1 << 20


def _pairs(compared: Compared, rows: slice) -> csr_matrix:
    """Return ``(K, K)`` counts of given label and predicted class."""
    given, predicted = compared.given[rows], compared.predicted[rows]
    counts = csr_matrix((compared.classes,) * 2)
    for start in range(0, len(given), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        ones = np.ones(len(given[some]))
        counts += coo_matrix((ones, (given[some], predicted[some])), counts.shape).tocsr()
    return counts


def _displaced(
    fitted: csr_matrix, tested: csr_matrix, whole: csr_matrix, *, tries: int | None
) -> dict[int, int]:
    """Return label to column of the rings and chains that hold on the tested rows.

    Args:
        fitted: The counts that the assignment is fitted to.
        tested: The counts that it has to hold on.
        whole: The counts of all rows, which may not speak against a single label of it.
        tries: K, where the same rows are fitted and tested: the probability is then multiplied by
            the number of such rings; ``None`` otherwise.
    """
    best = _best_columns(fitted)
    labels = np.flatnonzero((best != MISSING) & (best != np.arange(len(best))))
    own, other = _counts(whole, labels, labels), _counts(whole, labels, best[labels])
    is_against = bdtr(other, own + other, 0.5) < DOUBT
    next_of = dict(
        zip(labels[~is_against].tolist(), best[labels[~is_against]].tolist(), strict=True)
    )
    is_given = np.diff(whole.indptr) > 0
    moved: dict[int, int] = {}
    for ring in _rings_and_chains(next_of, is_given):
        if _holds(ring, [next_of[label] for label in ring], tested, tries):
            moved |= {label: next_of[label] for label in ring}
    return moved | (_most_of_all(next_of, fitted, tested) if tries is None else {})


def _most_of_all(next_of: dict[int, int], fitted: csr_matrix, tested: csr_matrix) -> dict[int, int]:
    """Return all displaced labels, if most rows have one: a long ring breaks where data are few."""
    labels = np.array(list(next_of), np.int64)
    columns = np.array(list(next_of.values()), np.int64)
    is_gain = _counts(fitted, labels, columns) > _counts(fitted, labels, labels)
    labels, columns = labels[is_gain], columns[is_gain]
    rows = np.asarray(tested.sum(axis=1)).ravel()
    if len(labels) < 3 or rows[labels].sum() < 0.5 * rows.sum():
        return {}
    is_it = _holds(labels.tolist(), columns.tolist(), tested, None)
    return dict(zip(labels.tolist(), columns.tolist(), strict=True)) if is_it else {}


def _best_columns(counts: csr_matrix) -> NDArray[np.int64]:
    """Return ``(K,)`` the column of each label in the best assignment, ``MISSING`` for none.

    Of assignments that are as good, one with the most labels at their own column.
    """
    classes = counts.shape[0]
    every = np.arange(classes)
    full = counts.tocoo()
    rows = np.concatenate([full.row, every, every])
    columns = np.concatenate([full.col, every, every + classes])  # the latter: no column at all
    values = np.concatenate([full.data, np.full(classes, 0.25), np.full(classes, 0.125)])
    weights = coo_matrix((values, (rows, columns)), (classes, 2 * classes)).tocsr()
    label, column = min_weight_full_bipartite_matching(weights, maximize=True)
    best = np.full(classes, MISSING, np.int64)
    best[label] = np.where(column < classes, column, MISSING)
    return best


def _counts(
    counts: csr_matrix, labels: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    if not len(labels):
        return np.zeros(0)
    return np.asarray(counts[labels, columns], np.float64).ravel()


def _rings_and_chains(next_of: dict[int, int], is_given: NDArray[np.bool_]) -> Iterator[list[int]]:
    """Yield the labels of each ring, and of each chain that ends where no label was given."""
    left = dict(next_of)
    for start in sorted(set(next_of) - set(next_of.values())):
        chain = [start]
        while (column := left.pop(chain[-1])) in left:
            chain.append(column)
        if not is_given[column] and len(chain) > 1:
            yield chain
    while left:
        ring = [next(iter(left))]
        while (column := left.pop(ring[-1])) in left:
            ring.append(column)
        yield ring


def _holds(
    labels: Sequence[int], columns: Sequence[int], tested: csr_matrix, tries: int | None
) -> bool:
    """Return whether the rows of some labels favor other columns, and not those of one alone."""
    at = np.array(labels, np.int64)
    own, other = _counts(tested, at, at), _counts(tested, at, np.array(columns, np.int64))
    if len(at) < 2:
        return False
    without = np.arange(len(at)) != np.argmax(other - own)
    doubt = np.log(max(_as_many_of_two(own.sum(), other.sum()), 1e-300))
    doubt += 0.0 if tries is None else len(at) * np.log(tries)
    rest = _as_many_of_two(own[without].sum(), other[without].sum())
    return bool(doubt < np.log(DISPLACED) and rest < DOUBT)


def _as_many_of_two(own: float, other: float) -> float:
    """Return the probability that so many favor the other of two that are as likely."""
    return float(bdtr(own, own + other, 0.5)) if other > own else 1.0
