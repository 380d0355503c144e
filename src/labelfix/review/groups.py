"""Sets of copies, to be decided together: byte-identical samples and near-duplicates.

A set of near-duplicates holds the byte-identical copies of its samples. Sets whose given labels
contradict each other come first, byte-identical ones before others; then those that lie in several
splits; then the rest, each as the report has them.

Letters: N samples, G sets, M members of all sets together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labelfix.report.view import ReportView
from labelfix.review.samples import ShownSample
from labelfix.types import MISSING, Codes

Rows = NDArray[np.int64]
Truths = NDArray[np.bool_]

Which = Literal["all", "contradicting", "leaking", "identical"]
"""All sets; those with different given labels; in several splits; all byte-identical."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The sets of copies of a report, in the order in which they are shown.

    Args:
        rows: ``(M,)`` rows of the members, set after set; in a set, byte-identical ones together.
        starts: ``(G,)`` where each set begins in ``rows``.
        is_identical: ``(G,)``: all members are byte-identical.
        is_contradicting: ``(G,)``: the given labels of the members differ.
        is_leaking: ``(G,)``: the members lie in several splits.
    """

    rows: Rows
    starts: Rows
    is_identical: Truths
    is_contradicting: Truths
    is_leaking: Truths

    def __len__(self) -> int:
        """Return G."""
        return len(self.starts)

    def members(self, place: int) -> Rows:
        """Return the rows of a set."""
        end = self.starts[place + 1] if place + 1 < len(self) else len(self.rows)
        return self.rows[self.starts[place] : end]

    def of_row(self, row: int) -> int | None:
        """Return the place of the first set that holds a row; ``None`` if none does."""
        found = np.flatnonzero(self.rows == row)
        return int(np.searchsorted(self.starts, found[0], "right")) - 1 if len(found) else None

    def which(self, which: Which) -> Truths:
        """Return ``(G,)`` which sets are of a kind."""
        if which == "contradicting":
            return self.is_contradicting
        if which == "leaking":
            return self.is_leaking
        return self.is_identical if which == "identical" else np.ones(len(self), np.bool_)

    def any(self, of_member: Truths) -> Truths:
        """Return ``(G,)`` whether ``(N,)`` is true of any member."""
        return self._reduced(np.logical_or, of_member)

    def all(self, of_member: Truths) -> Truths:
        """Return ``(G,)`` whether ``(N,)`` is true of all members."""
        return self._reduced(np.logical_and, of_member)

    def _reduced(self, how: np.ufunc, of_member: Truths) -> Truths:
        if not len(self):
            return np.zeros(0, np.bool_)
        return how.reduceat(of_member[self.rows], self.starts)


@dataclass(frozen=True, slots=True, eq=False)
class GroupPage:
    """Some of the sets of copies that are asked for.

    Args:
        places: Their places among all sets.
        total: How many sets are asked for whether decided or not.
        decided: Of how many of those every member is decided.
        more: How many of what is asked for come after these.
        elsewhere: How many of what is asked for others have in hand.
    """

    places: list[int]
    total: int
    decided: int
    more: int
    elsewhere: int


def groups_of(view: ReportView) -> Groups:
    """Return the sets of copies of a report, the worst first."""
    is_whole = _is_within(view.exact_set, view.near_set)
    is_near, is_alone = view.near_set != MISSING, (view.exact_set != MISSING) & ~is_whole
    rows = np.concatenate([np.flatnonzero(is_near), np.flatnonzero(is_alone)])
    near_rows = int(np.count_nonzero(is_near))
    number = np.concatenate([
        view.near_set[rows[:near_rows]].astype(np.int64),
        int(view.near_set.max(initial=MISSING)) + 1
        + view.exact_set[rows[near_rows:]].astype(np.int64),
    ])  # fmt: skip
    order = np.lexsort((rows, view.exact_set[rows], number))
    rows, number = rows[order], number[order]
    starts = np.flatnonzero(np.diff(number, prepend=MISSING)) if len(number) else rows
    sizes = np.diff(starts, append=len(rows))
    found = _scored(view, rows, starts)
    worst = np.lexsort(
        (rows[starts], ~found.is_leaking, ~found.is_identical, ~found.is_contradicting)
    )
    return _scored(view, _taken(rows, starts[worst], sizes[worst]), _begins(sizes[worst]))


def offered_classes(given: Codes, members: Sequence[ShownSample]) -> list[tuple[int, float]]:
    """Return classes that a set may all have, with their mean probability over its members.

    The given ones come with all others that the model names among the first of any member, the most
    probable first; a class that it does not name has a probability of 0.

    Args:
        given: ``(m,)`` codes of the given labels of one set.
        members: Its m samples.
    """
    pairs = [pair for member in members for pair in member.top]
    named = np.array([*(code for code, _ in pairs), *given.tolist()], np.int64)
    shares = np.array([share for _, share in pairs], np.float32)
    weight = np.concatenate([shares, np.zeros(len(members), np.float32)])
    classes, place = np.unique(named, return_inverse=True)
    mean = np.bincount(place, weight, len(classes)) / max(len(members), 1)
    order = np.argsort(-mean, kind="stable")
    return [(int(classes[i]), float(mean[i])) for i in order if classes[i] != MISSING]


def page_of_groups(
    groups: Groups, left: Truths, is_settled: Truths, is_taken: Truths, *,
    is_decided: bool | None, after: int, limit: int, most_members: int,
) -> GroupPage:  # fmt: skip
    """Return the first sets after a place.

    Args:
        groups: G sets.
        left: ``(G,)``: what filters leave.
        is_settled: ``(G,)``: every member is decided.
        is_taken: ``(G,)``: others have a member in hand.
        is_decided: Whether settled sets, others or both (``None``) are asked for.
        after: The place after which to begin; -1 is the start.
        limit: How many to return at most.
        most_members: Of how many members together, unless the first set alone has more.
    """
    asked = left
    if is_decided is not None:
        asked = left & (is_settled if is_decided else ~is_settled)
    free = asked & ~is_taken
    places = np.flatnonzero(free[after + 1 :]) + after + 1
    sizes = np.diff(groups.starts, append=len(groups.rows))[places[:limit]]
    taken = max(1, int(np.searchsorted(np.cumsum(sizes), most_members, "right")))
    shown = places[:limit][:taken].tolist()
    return GroupPage(
        places=shown,
        total=int(np.count_nonzero(left)),
        decided=int(np.count_nonzero(left & is_settled)),
        more=len(places) - len(shown),
        elsewhere=int(np.count_nonzero(asked & ~free)),
    )


def _is_within(exact: Codes, near: Codes) -> Truths:
    """Return ``(N,)`` which samples are of an exact set that lies in one set of near-copies."""
    held = exact != MISSING
    size = int(exact.max(initial=MISSING)) + 1
    low, high = np.full(size, np.iinfo(np.int64).max), np.full(size, MISSING)
    np.minimum.at(low, exact[held], near[held])
    np.maximum.at(high, exact[held], near[held])
    is_within = np.zeros(len(exact), np.bool_)
    is_within[held] = ((low == high) & (low != MISSING))[exact[held]]
    return is_within


def _scored(view: ReportView, rows: Rows, starts: Rows) -> Groups:
    """Return sets with what is true of them."""

    def differ(codes: Codes, *, but_missing: bool = False) -> Truths:
        if not len(starts):
            return np.zeros(0, np.bool_)
        values = codes.astype(np.int64)
        low = np.where(values == MISSING, np.iinfo(np.int64).max, values) if but_missing else values
        smallest = np.minimum.reduceat(low, starts)
        is_more: Truths = np.maximum.reduceat(values, starts) > smallest
        return is_more

    exact = view.exact_set[rows]
    is_in_none = np.zeros(len(starts), np.bool_)
    if len(starts):
        is_in_none = np.minimum.reduceat(exact, starts) == MISSING
    return Groups(
        rows=rows,
        starts=starts,
        is_identical=~differ(exact) & ~is_in_none,
        is_contradicting=differ(view.given[rows], but_missing=True),
        is_leaking=differ(view.split_code[rows]),
    )


def _begins(sizes: Rows) -> Rows:
    return np.cumsum(sizes) - sizes


def _taken(rows: Rows, starts: Rows, sizes: Rows) -> Rows:
    """Return the rows of sets in a new order."""
    within = np.arange(int(sizes.sum())) - np.repeat(_begins(sizes), sizes)
    taken: Rows = rows[np.repeat(starts, sizes) + within]
    return taken
