"""The order in which samples are shown, and the parts of it that filters leave.

The most probable errors come first: looking at a sample is worth the chance that its label gets
mended. Every `CHECK_EVERY`-th place goes to a sample drawn at random: two of three from the labels
that are not flagged, one from the suspects further down. Without them nobody could tell how many
errors the flags miss, or how far down the list it is worth going.

Letters: N samples, M samples in an order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from labelfix.report.view import LABEL, ReportView, count_pairs

CHECK_EVERY = 8
"""One place in so many goes to a sample drawn at random."""

ALL = "all"
"""The kind that holds every sample of the report."""

RANDOM_SAMPLE = "random_sample"
"""The kind that holds the samples drawn for a certificate."""

Rank = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Samples in the order in which they are shown.

    Args:
        row: ``(M,)`` int64 rows of the report, each at most once.
        is_check: ``(M,)`` bool: drawn at random.
    """

    row: Rank
    is_check: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return M."""
        return len(self.row)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFilter:
    """What a person wants to see; what is ``None`` is not asked for.

    Args:
        kind: A kind of issue of the report, or `ALL`.
        of_class: A class that the sample came with or should have.
        pair: The given and the suggested class.
        split: A split.
        is_decided: Whether there is a decision.
        with_checks: Whether samples drawn at random come in between the suspects.
    """

    kind: str = LABEL
    of_class: int | None = None
    pair: tuple[int, int] | None = None
    split: int | None = None
    is_decided: bool | None = None
    with_checks: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Some of the samples that a queue_filter leaves.

    Args:
        place: Their places in the order.
        row: Their rows in the report.
        is_check: Which were drawn at random.
        total: How many the queue_filter leaves whether decided or not.
        decided: How many of those are decided.
        more: How many of what is asked for come after these.
        elsewhere: How many of what is asked for others have in hand.
    """

    place: Rank
    row: Rank
    is_check: NDArray[np.bool_]
    total: int
    decided: int
    more: int
    elsewhere: int


def order_of(view: ReportView, kind: str, seed: int, *, with_checks: bool = True) -> Order:
    """Return the samples with a kind of issue, the worst first.

    Args:
        view: N samples.
        kind: The kind of issue; random checks are mixed in where it is `LABEL`.
        seed: What the checks are drawn from: the same seed always gives the same order.
        with_checks: Whether random checks are mixed in at all.
    """
    if kind == LABEL and not with_checks:
        return Order(view.suspects, np.zeros(len(view.suspects), np.bool_))
    if kind == LABEL:
        return order_with_checks(view.error_probability, view.is_flagged, seed)
    found = np.arange(len(view)) if kind == ALL else np.flatnonzero(view.issue(kind))
    score = None if kind == ALL else view.score(kind)
    worst = -view.error_probability if score is None else score
    ranked = found[np.argsort(worst[found], kind="stable")]  # NaN comes last
    return Order(ranked, np.zeros(len(ranked), np.bool_))


def select(order: Order, view: ReportView, queue_filter: QueueFilter) -> NDArray[np.bool_]:
    """Return ``(M,)`` which samples of an order a queue_filter leaves, decided or not."""
    given, suggested = view.given[order.row], view.suggested[order.row]
    left = np.ones(len(order), np.bool_)
    if queue_filter.of_class is not None:
        left &= (given == queue_filter.of_class) | (suggested == queue_filter.of_class)
    if queue_filter.pair is not None:
        left &= (given == queue_filter.pair[0]) & (suggested == queue_filter.pair[1])
    if queue_filter.split is not None:
        left &= view.split_name[order.row] == queue_filter.split
    return left


def page(
    order: Order, left: NDArray[np.bool_], is_decided: NDArray[np.bool_],
    queue_filter: QueueFilter, *, after: int, limit: int,
    is_taken: NDArray[np.bool_] | None = None,
) -> Page:  # fmt: skip
    """Return the first samples after a place.

    Args:
        order: M samples.
        left: ``(M,)`` bool: what `select` gave.
        is_decided: ``(N,)`` bool.
        queue_filter: Says whether decided samples, others or both are asked for.
        after: The place in the order after which to begin; -1 is the start.
        limit: How many to return at most.
        is_taken: ``(N,)`` bool: what others have in hand, and what is passed over.
    """
    decided = is_decided[order.row] & left
    asked = left
    if queue_filter.is_decided is not None:
        asked = decided if queue_filter.is_decided else left & ~decided
    free = asked if is_taken is None else asked & ~is_taken[order.row]
    place = np.flatnonzero(free[after + 1 :]) + after + 1
    return Page(
        place=place[:limit],
        row=order.row[place[:limit]],
        is_check=order.is_check[place[:limit]],
        total=int(np.count_nonzero(left)),
        decided=int(np.count_nonzero(decided)),
        more=max(0, len(place) - limit),
        elsewhere=int(np.count_nonzero(asked & ~free)),
    )


def pairs(
    view: ReportView, is_decided: NDArray[np.bool_], limit: int
) -> list[tuple[int, int, int]]:
    """Return given class, suggested class and number of flagged samples without a decision.

    The largest numbers come first.
    """
    is_open = view.is_flagged & ~is_decided
    counted = count_pairs(view.given[is_open], view.suggested[is_open], len(view.class_names))
    return counted.first(limit)


def order_with_checks(
    probability: NDArray[np.floating], is_flagged: NDArray[np.bool_], seed: int
) -> Order:
    """Return the flagged samples by falling probability, with random checks in between.

    Args:
        probability: ``(N,)`` that each label is wrong; NaN where it was not scored.
        is_flagged: ``(N,)`` bool.
        seed: What the checks are drawn from.
    """
    rng = np.random.default_rng(seed)
    p = np.nan_to_num(probability.astype(np.float64), nan=0.0)
    flagged = np.flatnonzero(is_flagged)
    suspects = flagged[np.argsort(-p[flagged], kind="stable")]
    early = rng.permutation(suspects)
    others = np.flatnonzero(~is_flagged & np.isfinite(probability))
    # without replacement, with weights that grow with the doubt (Efraimidis and Spirakis 2006)
    doubt = np.sqrt(p[others] * (1 - p[others])) + 1e-3
    misses = others[np.argsort(rng.exponential(size=len(others)) / doubt, kind="stable")]
    return _merge(suspects, [misses, misses, early])  # the order alone tells least of misses


def _merge(suspects: Rank, checks: Sequence[Rank]) -> Order:
    """Take `CHECK_EVERY` - 1 suspects, then one of the checks in turn; nothing twice."""
    row: list[int] = []
    is_check: list[bool] = []
    shown: set[int] = set()

    def fresh(line: Rank) -> Iterator[int]:
        return (sample for sample in line.tolist() if sample not in shown)

    def show(sample: int, *, as_check: bool) -> None:
        shown.add(sample)
        row.append(sample)
        is_check.append(as_check)

    turns = cycle([fresh(line) for line in checks])
    for sample in fresh(suspects):
        show(sample, as_check=False)
        if (len(row) + 1) % CHECK_EVERY == 0:
            check = next(next(turns), None)
            if check is not None:
                show(check, as_check=True)
    return Order(np.array(row, np.int64), np.array(is_check, np.bool_))
