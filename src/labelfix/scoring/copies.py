"""What byte-identical images say of each other's labels: there is one true label to all of them.

Only copies that are the same byte for byte are known to show the same; near-duplicates may differ
in what their label names, and are left alone. Letters: N samples, n of them scored, G sets of
copies, m members of all sets, K classes, H hypotheses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labelfix.data.probability_store import blocks
from labelfix.scoring.priors import LabelPriors, NoiseColumns, Posteriors, noise_columns, squared
from labelfix.types import MISSING, Codes, Reviewed

LEAST_LIKELY = 1e-30
"""No given label is taken to be less likely, so that copies never contradict all classes."""


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """Sets of samples that are the same image.

    Args:
        samples: ``(m,)`` int64: members of sets with at least two, in the order of the sets.
        of_set: ``(m,)`` int64, rising: the set of each, counted from 0.
        counts: ``(m,)`` bool: its label is one that was given for itself. Where all copies carry
            one label, it may have been copied with the file, and only the first counts.
        is_known: ``(m,)`` bool: a person chose or kept its label.
        is_settled: ``(m,)`` bool: its set has labels that differ, or one that a person decided.
    """

    samples: NDArray[np.int64]
    of_set: NDArray[np.int64]
    counts: NDArray[np.bool_]
    is_known: NDArray[np.bool_]
    is_settled: NDArray[np.bool_]

    @classmethod
    def among(
        cls,
        sets: NDArray[np.int64] | None,
        rows: NDArray[np.int64],
        given: Codes,
        reviewed: Reviewed,
    ) -> "Copies":
        """Return the sets of the scored samples.

        A sample that a person dropped is in none: what is wrong with it may be that it is a copy.
        Nor are those of a set for which people chose labels that differ.

        Args:
            sets: ``(N,)`` numbers of sets, ``MISSING`` where a sample is in none; ``None`` for no
                copies.
            rows: ``(n,)`` which of the N samples are scored.
            given: ``(n,)`` codes.
            reviewed: What people decided about the N samples.
        """
        if sets is None:
            none, no_flags = np.zeros(0, np.int64), np.zeros(0, np.bool_)
            return cls(none, none, no_flags, no_flags, no_flags)
        number = sets[rows].copy()
        decided = reviewed.label[rows]
        number[reviewed.is_dropped[rows]] = MISSING
        is_known = decided != MISSING
        number[np.isin(number, _of_several(number[is_known], decided[is_known]))] = MISSING
        samples = np.flatnonzero(number != MISSING)
        _, of_set, size = np.unique(number[samples], return_inverse=True, return_counts=True)
        samples = samples[size[of_set] > 1]
        samples = samples[np.argsort(number[samples], kind="stable")]
        _, first, of_set = np.unique(number[samples], return_index=True, return_inverse=True)
        differs = np.isin(of_set, _of_several(of_set, given[samples]))
        is_first = np.zeros(len(samples), np.bool_)
        is_first[first] = True
        known = is_known[samples]
        has_known = np.bincount(of_set, known, minlength=len(first)) > 0
        return cls(samples, of_set, differs | is_first, known, differs | has_known[of_set])

    def __len__(self) -> int:
        """Return G."""
        return int(self.of_set[-1]) + 1 if len(self.of_set) else 0

    @property
    def settled_samples(self) -> NDArray[np.int64]:
        """Return the samples whose copies say more than how they rank among others."""
        return self.samples[self.is_settled]

    def of_rows(self, rows: NDArray[np.int64]) -> "Copies":
        """Return the same copies, numbered as the rows of a larger table.

        Args:
            rows: ``(n,)`` which row each scored sample is.
        """
        return replace(self, samples=rows[self.samples])

    def evened(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(..., n)`` values in which the members of a set all have their mean.

        Args:
            values: ``(..., n)``; those of settled sets are left alone.
        """
        open_ = ~self.is_settled
        samples, of_set = self.samples[open_], self.of_set[open_]
        if not len(samples):
            return values
        evened = values.copy()
        size = np.maximum(np.bincount(of_set, minlength=len(self)), 1)
        for row in evened.reshape(-1, values.shape[-1]):
            mean = np.bincount(of_set, row[samples].astype(np.float64), len(self)) / size
            row[samples] = mean[of_set]
        return evened

    def score(
        self,
        scored: Posteriors,
        priors: LabelPriors,
        matrices: Sequence[NDArray[np.float64] | NoiseColumns],
        weights: NDArray[np.float64] | None = None,
    ) -> NDArray[np.bool_]:
        """Write to the posteriors what the labels of all copies together say of each.

        ``P(true = k | x, given) ~ P(true = k | x) ** (2 ** h) * product of matrices[h][k, given]``:
        so at most one label of a set can be right, and the probabilities of k labels to be wrong
        sum to at least k - 1. The suggestion is one for the whole set: its most probable class.

        Args:
            scored: Of n samples, each for itself.
            priors: Of the same.
            matrices: As `labelfix.scoring.priors.posteriors` has them.
            weights: How much each hypothesis counts in the mean; ``None`` for all alike.

        Returns:
            ``(n,)`` bool: labels that are the most probable ones of sets whose labels differ.
        """
        is_best = np.zeros(len(scored.wrong), np.bool_)
        if not len(self):
            return is_best
        columns = [noise_columns(matrix) for matrix in matrices]
        shares = np.ones(len(columns)) if weights is None else weights
        place = np.empty(len(priors.order), priors.order.dtype)
        place[priors.order] = np.arange(len(place), dtype=place.dtype)
        given = priors.given[place[self.samples]]
        for part in blocks(len(self), priors.classes):
            some = slice(*np.searchsorted(self.of_set, [part.start, part.stop]).tolist())
            samples, own, labels = self.samples[some], self.of_set[some] - part.start, given[some]
            values = self._shared_priors(priors.values[place[samples]], some, part)
            total = np.zeros(values.shape)
            for number, column in enumerate(columns):
                if number:
                    values = squared(values)
                with np.errstate(under="ignore"):
                    joint = np.log(values.astype(np.float64))
                    for at in np.flatnonzero(self.counts[some]):
                        joint[own[at]] += np.log(np.maximum(column(labels[at]), LEAST_LIKELY))
                    joint = np.exp(joint - joint.max(axis=1, keepdims=True))
                joint /= joint.sum(axis=1, keepdims=True)
                scored.under[number, samples] = _rest(joint, own, labels)
                total += shares[number] * joint
            total /= shares.sum()
            scored.wrong[samples] = _rest(total, own, labels)
            best = total.argmax(axis=1)[own]
            is_best[samples] = (best == labels) & (self.counts[some] & self._differs(some, given))
            others = total[own]
            others[np.arange(len(own)), labels] = -1
            other = np.where(best == labels, others.argmax(axis=1), best)
            scored.alternative_label[samples] = other
            scored.alternative_probability[samples] = total[own, other]
        return is_best

    def _differs(self, some: slice, given: Codes) -> NDArray[np.bool_]:
        return np.isin(self.of_set[some], _of_several(self.of_set, given))

    def _shared_priors(
        self, values: NDArray[np.float32], some: slice, part: slice
    ) -> NDArray[np.float32]:
        """Return the ``(B, K)`` mean priors of B sets, or what a person decided of a set."""
        own, known = self.of_set[some] - part.start, self.is_known[some]
        has_known = np.bincount(own, known, part.stop - part.start) > 0
        weight = np.where(has_known[own], known, 1.0)
        values = values / values.sum(axis=1, keepdims=True) * weight[:, None].astype(np.float32)
        starts = np.searchsorted(own, np.arange(part.stop - part.start))
        shared = np.add.reduceat(values, starts, axis=0)
        return np.asarray(np.maximum(shared / shared.max(axis=1, keepdims=True), 1e-36))


def _rest(joint: NDArray[np.float64], own: NDArray[np.int64], labels: Codes) -> NDArray[np.float64]:
    """Return ``(B,)`` what is left to all classes but the given one."""
    others = joint[own]
    others[np.arange(len(own)), labels] = 0
    return np.asarray(np.minimum(others.sum(axis=1), 1))


def _of_several(group: NDArray[np.int64], label: Codes) -> NDArray[np.int64]:
    """Return the groups whose members have more than one label."""
    if not len(group):
        return group
    groups, place = np.unique(group, return_inverse=True)
    low, high = np.full(len(groups), label.max()), np.full(len(groups), label.min())
    np.minimum.at(low, place, label)
    np.maximum.at(high, place, label)
    return groups[low < high]
