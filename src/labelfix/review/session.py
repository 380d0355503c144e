"""One review of one run: what was decided, by whom, and what that says.

Every change goes to the log of decisions first; what is held here is replayed from it, so that
several tabs, several servers and a crash all end in the same place.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from labelfix.certificate import AuditSample, drawn_for
from labelfix.data.decisions import Decision, DecisionAction, DecisionLog, folder_of_run
from labelfix.report.decisions import find_rows
from labelfix.report.io import read_report_table
from labelfix.report.neighbors import NeighborLists, read_neighbors
from labelfix.report.types import Report
from labelfix.report.view import LABEL, ReportView
from labelfix.review.estimate import Estimate, estimate
from labelfix.review.groups import GroupPage, Groups, Which, groups_of, page_of_groups
from labelfix.review.leases import Leases
from labelfix.review.queue import (
    ALL,
    RANDOM_SAMPLE,
    Order,
    Page,
    QueueFilter,
    order_of,
    page,
    pairs,
    select,
)
from labelfix.review.samples import MOST_KEPT, ShownSamples
from labelfix.types import Label

_UNKNOWN, _RIGHT, _WRONG = -1, 0, 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """A decision that a page asks for.

    Args:
        row: The sample's row in the report.
        action: What was decided.
        label: The class chosen, with ``relabel``.
        seen: The time of the decision that the page showed; ``None`` if it showed none.
        as_copy: Whether the sample is dropped as a copy of one that stays.
    """

    row: int
    action: DecisionAction
    label: Label | None = None
    seen: str | None = None
    as_copy: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What a change did: the rows that it changed, and those that somebody else had changed."""

    changed: list[int]
    conflicts: list[int]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many samples have which decision, and how often that has changed."""

    keep: int
    relabel: int
    unsure: int
    drop: int
    suspects: int
    suspects_decided: int
    version: int


class Session:
    """The review of a run; safe to use from several threads.

    Args:
        report: The report, without ``pred_probs``.
        run: The RUN folder, or the report in it.
        reviewer: Who decides, kept with each decision.
        looks: How many samples are drawn for a certificate, to be decided first; ``None`` for none.
        hides_labels: Whether their given labels are hidden too: the reviewer names the class.
        most_kept: Of a report with more samples only those that a queue shows are in memory.

    Raises:
        ConfigError: There are too few looks.
        ReportError: The report or its neighbors cannot be read, or no label was scored.
        DecisionsError: The decisions cannot be read.
    """

    def __init__(
        self,
        report: Report,
        run: Path,
        reviewer: str | None = None,
        looks: int | None = None,
        *,
        hides_labels: bool = False,
        most_kept: int = MOST_KEPT,
    ) -> None:
        self.run = run
        self.source = report.run.source
        self.fingerprint = report.run.fingerprint
        # a name from the command line may hold bytes that are no text, which no log can keep
        self.reviewer = reviewer and reviewer.encode("utf-8", "replace").decode()
        self.view = ReportView(report)  # the log is live: decisions are replayed from it
        self._decided_view = self.view
        self.sample: AuditSample | None = None if looks is None else drawn_for(self.view, looks)
        self.hides_labels = hides_labels and self.sample is not None
        folder = folder_of_run(run)
        self.neighbors: NeighborLists | None = read_neighbors(folder, report)
        self._row_of: dict[str, int | None] = {}
        self._log = DecisionLog(run, report.class_names)
        self._orders: dict[tuple[str, bool], Order] = {}
        self._groups: Groups | None = None
        self._is_decided = np.zeros(len(report), np.bool_)
        self._is_wrong = np.full(len(report), _UNKNOWN, np.int8)
        self._version = 0
        self._leases = Leases(len(report))
        self._lock = RLock()
        self._estimating = Lock()
        self._estimated: tuple[int, Estimate] | None = None
        self._refresh()
        is_large = len(report) > most_kept
        self.samples = ShownSamples(read_report_table(run), self._listed() if is_large else None)

    def _listed(self) -> NDArray[np.int64]:
        """Return the rows, rising, that queues of issues show, and those that are decided."""
        is_listed = self._is_decided.copy()
        for kind in self.view.kinds:
            is_listed |= self.view.issue(kind)
        is_listed[self._order(LABEL, with_checks=True).row] = True
        return np.flatnonzero(is_listed)

    @property
    def kinds(self) -> dict[str, int]:
        """Return the kinds of issue that can be asked for, and how many samples have each."""
        counts = {kind: int(np.count_nonzero(self.view.issue(kind))) for kind in self.view.kinds}
        drawn = {} if self.sample is None else {RANDOM_SAMPLE: len(self.sample)}
        return {**drawn, LABEL: counts.pop(LABEL), **counts, ALL: len(self.view)}

    @property
    def is_decided(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` bool: which samples have a decision."""
        with self._lock:
            self._refresh()
            return self._is_decided.copy()

    @property
    def settled(self) -> int:
        """Return how many decisions say something: "not sure" says nothing."""
        with self._lock:
            self._refresh()
            return sum(d.action != "unsure" for d in self._log.in_force.values())

    def decision(self, row: int) -> Decision | None:
        """Return the decision in force on a row."""
        return self._log.in_force.get(self.samples.name(row))

    def decided_view(self) -> ReportView:
        """Return the report with the decisions in force.

        Raises:
            DecisionsError: A chosen label is text where the classes are integers, or the other way.
        """
        with self._lock:
            self._refresh()
            decisions = dict(self._log.in_force)
            row_of = {name: row for name, row in self._row_of.items() if row is not None}
        # made from the one before, whose columns are decoded already
        self._decided_view = self._decided_view.with_decisions(decisions, row_of)
        return self._decided_view

    def find(
        self,
        queue_filter: QueueFilter,
        *,
        after: int = -1,
        limit: int = 20,
        tab: str | None = None,
    ) -> Page:
        """Return the next samples that a queue_filter leaves; see `labelfix.review.queue.page`.

        Undecided ones are then in the hands of ``tab``, if one is named, and no other gets them.
        """
        with self._lock:
            self._refresh()
            order = self._order(queue_filter.kind, with_checks=queue_filter.with_checks)
            left = select(order, self.view, queue_filter)
            is_taken = None
            if tab is not None and after < 0:
                self._leases.release(tab)  # it looks at another view
            if tab is not None and queue_filter.is_decided is False:
                is_taken = self._leases.taken(tab)
            found = page(
                order, left, self._is_decided, queue_filter,
                after=after, limit=limit, is_taken=is_taken,
            )  # fmt: skip
            if tab is not None and is_taken is not None:
                self._leases.take(tab, found.row.tolist())
            return found

    @property
    def groups(self) -> Groups:
        """Return the sets of copies, found when they are first asked for."""
        with self._lock:
            if self._groups is None:
                self._groups = groups_of(self.view)
            return self._groups

    def find_groups(
        self,
        which: Which,
        queue_filter: QueueFilter,
        *,
        after: int = -1,
        limit: int = 5,
        most_members: int = 200,
        tab: str | None = None,
    ) -> GroupPage:
        """Return the next sets of copies; see `labelfix.review.groups.page_of_groups`.

        Args:
            which: Of which kind the sets are.
            queue_filter: A class or a split that a member has to have, and whether sets are asked
                for of which every member is decided; nothing else of it counts.
            after: The place after which to begin; -1 is the start.
            limit: How many sets to return at most.
            most_members: Of how many members together.
            tab: Who has the samples in hand from now on; no other gets them.
        """
        with self._lock:
            self._refresh()
            groups = self.groups
            left = groups.which(which).copy()
            if queue_filter.of_class is not None:
                left &= groups.any(self.view.given == queue_filter.of_class)
            if queue_filter.split is not None:
                left &= groups.any(self.view.split_name == queue_filter.split)
            is_taken = np.zeros(len(self.view), np.bool_)
            if tab is not None and queue_filter.is_decided is False:
                if after < 0:
                    self._leases.release(tab)
                is_taken = self._leases.taken(tab)
            found = page_of_groups(
                groups, left, groups.all(self._is_decided), groups.any(is_taken),
                is_decided=queue_filter.is_decided, after=after, limit=limit,
                most_members=most_members,
            )  # fmt: skip
            if tab is not None and queue_filter.is_decided is False:
                for place in found.places:
                    self._leases.take(tab, groups.members(place).tolist())
            return found

    def hold(self, tab: str) -> None:
        """Let a tab that is still open keep the samples that it has in hand."""
        with self._lock:
            self._leases.hold(tab)

    def pairs(self, limit: int = 100) -> list[tuple[int, int, int]]:
        """Return the pairs of classes with the most suspects that nobody has decided."""
        with self._lock:
            self._refresh()
            return pairs(self.view, self._is_decided, limit)

    def decide(
        self, wanted: Sequence[Wanted], *, as_batch: bool = False, reviewer: str | None = None
    ) -> Done:
        """Put decisions on disk, but for samples that somebody else has decided meanwhile.

        Args:
            wanted: What was decided.
            as_batch: Whether it was one action, which is taken back as one.
            reviewer: Who decided; ``None`` is the reviewer of the session.

        Raises:
            DecisionsError: A decision does not hold together.
            RunError: The log cannot be written to; nothing is kept then.
        """
        with self._lock:
            self._refresh()
            conflicts = [w.row for w in wanted if self._seen(w.row) != w.seen]
            refused = set(conflicts)
            fresh = [w for w in wanted if w.row not in refused]
            batch = uuid4().hex if as_batch else None
            decisions = [self._decision(w, batch, reviewer) for w in fresh]
            self._log.append(decisions)
            changed = [w.row for w in fresh]
            names = [decision.sample_id for decision in decisions]
            self._row_of.update(zip(names, changed, strict=True))
            self._replay(names)
            return Done(changed, conflicts)

    def undo(
        self,
        seen: Sequence[tuple[int, str]] | None = None,
        *,
        reviewer: str | None = None,
        only_own: bool = False,
    ) -> Done:
        """Take back decisions, all of their batch with them, or else the last action.

        Args:
            seen: Rows and the times of the decisions to take back; those that somebody has
                changed meanwhile stay. ``None`` is the last action of anybody.
            reviewer: Who takes them back; ``None`` is the reviewer of the session.
            only_own: Whether the last action is that of the reviewer alone.

        Raises:
            RunError: The log cannot be written to; nothing is taken back then.
        """
        with self._lock:
            self._refresh()
            who = reviewer or self.reviewer
            if seen is None:
                decisions = self._log.last_action(who if only_own else None)
            else:
                decisions = self._with_their_batches(seen)
            done = self._log.undo(decisions, decided_by=who)
            changed = self._replay(done)
            kept = set(changed)
            return Done(changed, [row for row, _ in seen or () if row not in kept])

    def _with_their_batches(self, seen: Sequence[tuple[int, str]]) -> list[Decision]:
        held = [(at, self.decision(row)) for row, at in seen]
        meant = [d for at, d in held if d is not None and d.decided_at == at]
        batches = {d.batch for d in meant if d.batch is not None}
        others = [d for batch in batches for d in self._log.of_batch(batch)]
        return [*(d for d in meant if d.batch is None), *others]

    def counts(self) -> Counts:
        """Return how far the review is."""
        with self._lock:
            self._refresh()
            actions = [d.action for d in self._log.in_force.values()]
            flagged = self.view.is_flagged
            return Counts(
                keep=actions.count("keep"),
                relabel=actions.count("relabel"),
                unsure=actions.count("unsure"),
                drop=actions.count("drop"),
                suspects=int(np.count_nonzero(flagged)),
                suspects_decided=int(np.count_nonzero(flagged & self._is_decided)),
                version=self._version,
            )

    def estimate(self) -> Estimate:
        """Return what the decisions so far say of all samples.

        One at a time, on one thread, and once for all who ask between two decisions: many tabs
        must not take the machine from the pictures.
        """
        with self._estimating:
            with self._lock:
                self._refresh()
                version, is_wrong = self._version, self._is_wrong.copy()
            if self._estimated is None or self._estimated[0] != version:
                with threadpool_limits(1, "blas"):
                    found = estimate(self.view.error_probability, self.view.is_flagged, is_wrong)
                self._estimated = version, found
            return self._estimated[1]

    def _order(self, kind: str, *, with_checks: bool) -> Order:
        key = kind, with_checks
        if key not in self._orders:
            seed = int.from_bytes(self.fingerprint.encode()[:8], "little")
            if kind == RANDOM_SAMPLE and self.sample is not None:
                return Order(self.sample.row, np.zeros(len(self.sample), np.bool_))
            self._orders[key] = order_of(self.view, kind, seed, with_checks=with_checks)
        return self._orders[key]

    def _seen(self, row: int) -> str | None:
        decision = self.decision(row)
        return None if decision is None else decision.decided_at

    def _decision(self, wanted: Wanted, batch: str | None, reviewer: str | None) -> Decision:
        return Decision(
            sample_id=self.samples.name(wanted.row),
            action=wanted.action,
            label=wanted.label,
            decided_by=reviewer or self.reviewer,
            flagged=bool(self.view.is_flagged[wanted.row]),
            batch=batch,
            as_copy=wanted.as_copy,
        )

    def is_undisclosed(self, row: int) -> bool:
        """Return whether a sample is drawn for a certificate that is not finished."""
        if self.sample is None or row not in self.sample.row:
            return False
        return not bool(self._is_decided[self.sample.row].all())

    def _refresh(self) -> None:
        """Take in what others have appended."""
        touched = self._log.refresh()
        if touched:
            self._replay(set(touched))

    def _replay(self, names: Iterable[str]) -> list[int]:
        """Take in what the log says of some samples; return the rows of those in the report."""
        self._version += 1
        names = list(names)
        unknown = [name for name in names if name not in self._row_of]
        found = find_rows(self.view.report, unknown)
        self._row_of.update((name, found.get(name)) for name in unknown)
        held = [(name, row) for name in names if (row := self._row_of[name]) is not None]
        for name, row in held:
            decision = self._log.in_force.get(name)
            self._is_decided[row] = decision is not None
            given = self.view.label(int(self.view.given[row]))
            self._is_wrong[row] = _action_on_label(decision, given)
        return [row for _, row in held]


def _action_on_label(decision: Decision | None, given: Label | None) -> int:
    """Return whether a decision says that the given label is wrong.

    "Not sure" says nothing, nor does dropping a copy.
    """
    if decision is None or decision.action == "unsure" or decision.as_copy:
        return _UNKNOWN
    if decision.action == "keep" or (decision.action == "relabel" and decision.label == given):
        return _RIGHT
    return _WRONG
