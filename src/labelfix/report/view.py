"""A report as everybody reads it: its columns decoded once, and one definition of each term.

`labelfix show`, `check`, `diff`, `export`, `review`, `diagnose` and the page take what a flagged,
scored, leaking or decided sample is from here, so that they cannot disagree.

Letters: N samples, K classes, M flagged samples.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.data.decisions import Decision
from labelfix.data.splits import in_several, leaking, rows_for_testing, split_codes
from labelfix.modalities.base import Wording, wording_of
from labelfix.report.decisions import Decided, join_decisions
from labelfix.report.schema import codes_of, label_type
from labelfix.report.types import Report
from labelfix.types import MISSING, Codes, Label, code_type

LABEL = "label"
"""The kind of issue of labels that are probably wrong."""

LEAKAGE = "leakage"
"""The kind of issue of copies, exact or near, that lie in more than one split."""

Number = TypeVar("Number", bound=np.generic)

_ISSUE = re.compile(r"is_(.+)_issue")
_OF_DECISIONS = {"decisions", "decided", "is_decided", "is_decided_wrong"}
"""What a view holds that depends on the decisions; all else depends on the report alone."""


@dataclass(frozen=True, eq=False)
class ReportView:
    """A report, and what people decided on it; a column is decoded when it is first asked for.

    Arrays are shared by all who ask: do not write to them. Codes and numbers of sets are of the
    smallest signed type that holds them: widen them before you multiply.

    Args:
        report: N rows, with or without ``pred_probs``.
        decisions: The decisions in force by sample id, as `labelfix.data.decisions.read_decisions`
            returns them.
    """

    report: Report
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    _issues: dict[str, NDArray[np.bool_]] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        """Return N."""
        return len(self.report)

    def with_decisions(
        self, decisions: Mapping[str, Decision], row_of: Mapping[str, int] | None = None
    ) -> "ReportView":
        """Return the same report with other decisions; columns that are decoded stay so.

        Args:
            decisions: The decisions in force by sample id.
            row_of: The row of each sample, where somebody knows it already.
        """
        other = ReportView(self.report, decisions)
        of_report = self.__dict__.keys() - _OF_DECISIONS
        other.__dict__.update({name: self.__dict__[name] for name in of_report})
        if row_of is not None:
            other.__dict__["decided"] = join_decisions(self.report, decisions, row_of)
        return other

    @property
    def sample_id(self) -> pa.ChunkedArray:
        """Return the ``(N,)`` names of the samples, all of them in memory."""
        return self.report.read(["sample_id"])["sample_id"]

    def names_of(self, rows: NDArray[np.int64] | Sequence[int]) -> list[str]:
        """Return the names of some samples."""
        return self.take(rows, ["sample_id"])["sample_id"].to_pylist()  # type: ignore[no-any-return]

    # Labels

    @property
    def class_names(self) -> tuple[Label, ...]:
        """Return the K names that codes of labels are positions in."""
        return self.report.class_names

    @cached_property
    def given(self) -> Codes:
        """Return ``(N,)`` codes of the given labels, ``MISSING`` where there is none."""
        return self._label_codes("given_label")

    @cached_property
    def predicted(self) -> Codes:
        """Return ``(N,)`` codes of the most probable classes, ``MISSING`` where not scored."""
        return self._label_codes("predicted_label")

    @cached_property
    def suggested(self) -> Codes:
        """Return ``(N,)`` codes of the suggested labels, ``MISSING`` where there is none."""
        return self._label_codes("suggested_label")

    def label(self, code: int) -> Label | None:
        """Return the class of a code, ``None`` for ``MISSING``."""
        return None if code == MISSING else self.class_names[code]

    # Scores

    @cached_property
    def error_probability(self) -> NDArray[np.float32]:
        """Return ``(N,)`` how probably each given label is wrong; NaN where not scored."""
        return self._floats("label_error_probability")

    @cached_property
    def suggested_probability(self) -> NDArray[np.float32]:
        """Return ``(N,)`` how probably each suggested label is right; NaN where there is none."""
        return self._floats("suggested_label_probability")

    @cached_property
    def label_score(self) -> NDArray[np.float32]:
        """Return ``(N,)`` how far each given label can be believed; NaN where not scored."""
        return self._floats("label_score")

    @cached_property
    def sample_weight(self) -> NDArray[np.float32]:
        """Return ``(N,)`` weights for training with the given labels, at least 0, of mean 1."""
        return self._floats("sample_weight")

    @cached_property
    def is_scored(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` which given labels have a probability of being wrong."""
        return ~np.isnan(self.error_probability)

    @property
    def is_flagged(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` which given labels are flagged as probably wrong."""
        return self.issue(LABEL)

    @cached_property
    def suspects(self) -> NDArray[np.int64]:
        """Return the ``(M,)`` flagged rows, most probably wrong first, equals as in the report."""
        rows = np.flatnonzero(self.is_flagged)
        return rows[np.argsort(-self.error_probability[rows], kind="stable")]

    def is_surely_wrong(self, least: float) -> NDArray[np.bool_]:
        """Return ``(N,)`` which flagged labels are wrong, and their suggestions right, so surely.

        Args:
            least: What both probabilities reach, 0 to 1.
        """
        coarse = np.float32(least)  # as coarse as the report, so that equal is equal
        is_wrong = self.is_flagged & (self.error_probability >= coarse)
        return is_wrong & (self.suggested_probability >= coarse)

    @cached_property
    def fold(self) -> Codes:
        """Return ``(N,)`` which fold held each sample out, ``MISSING`` where none did."""
        return self._integers("fold", np.int16)

    # Issues

    @property
    def has_samples(self) -> bool:
        """Return whether the audit looked at samples, not only at probabilities."""
        return self.report.run.modality is not None

    @property
    def shows_images(self) -> bool:
        """Return whether the samples are images; those of given probabilities are taken to be."""
        return self.wording.are_pictures

    @cached_property
    def wording(self) -> Wording:
        """Return what sentences call the samples."""
        run = self.report.run
        return wording_of(run.modality or run.settings.get("shown"))

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of issue that the report knows, as its columns spell them."""
        found = (_ISSUE.fullmatch(name) for name in self.report.column_names)
        return (*(match[1] for match in found if match), LEAKAGE)

    def tells_of(self, kind: str) -> bool:
        """Return whether samples were looked at for a kind of issue."""
        if kind == LABEL:
            return True
        name = self._score_column(kind)
        return self.has_samples and (name is None or not len(self) or self._tells_anything(name))

    def issue(self, kind: str) -> NDArray[np.bool_]:
        """Return ``(N,)`` which samples have an issue of a kind, one of `kinds`."""
        if kind not in self._issues:
            is_it = self.is_leaking if kind == LEAKAGE else self._truths(f"is_{kind}_issue")
            self._issues[kind] = is_it
        return self._issues[kind]

    def count(self, kind: str) -> int | None:
        """Return how many samples have an issue of a kind; ``None`` if nobody looked for it."""
        if kind not in self.kinds or not self.tells_of(kind):
            return None
        if kind == LEAKAGE or kind in self._issues:
            return int(np.count_nonzero(self.issue(kind)))
        name = f"is_{kind}_issue"  # nobody needs to know which they are
        return sum(int(batch.column(0).true_count) for _, batch in self.report.batches([name]))

    def score(self, kind: str) -> NDArray[np.float32] | None:
        """Return ``(N,)`` scores of a kind of issue, 0 the worst to 1, NaN where there is none.

        Conflicting copies are scored as copies; kinds without a score give ``None``.
        """
        name = self._score_column(kind)
        return None if name is None or kind == LABEL else self._floats(name)

    # Copies and splits

    @cached_property
    def exact_set(self) -> Codes:
        """Return ``(N,)`` numbers of the sets of byte-identical samples, ``MISSING`` for none."""
        return self._integers("exact_duplicate_set", code_type(len(self)))

    @cached_property
    def near_set(self) -> Codes:
        """Return ``(N,)`` numbers of the sets of near-copies, ``MISSING`` for none."""
        return self._integers("near_duplicate_set", code_type(len(self)))

    @cached_property
    def split_code(self) -> Codes:
        """Return ``(N,)`` numbers that are equal for the same split, however it is spelled.

        Samples without a split are of a split of their own, ``MISSING``.
        """
        names, place, _ = self._splits
        codes = split_codes(pa.array(names, pa.string()))
        return np.append(codes, MISSING).astype(place.dtype)[place]

    @property
    def split_names(self) -> tuple[str, ...]:
        """Return the names of the splits as the input spells them, sorted."""
        return tuple(filter(None, self._splits[0]))

    @property
    def has_splits(self) -> bool:
        """Return whether any sample came in a split."""
        return self._splits[2]

    @cached_property
    def split_name(self) -> Codes:
        """Return ``(N,)`` positions in `split_names`, ``MISSING`` for no name."""
        names, place, _ = self._splits
        return np.maximum(place - 1, MISSING) if "" in names else place  # it is the first

    @cached_property
    def _splits(self) -> tuple[tuple[str, ...], Codes, bool]:
        """Return the names, ``(N,)`` positions in them, and whether any row has a split."""
        seen: dict[str, int] = {}
        found = np.full(len(self), MISSING, np.int8)
        is_any = False
        for start, batch in self.report.batches(["split"], as_codes=True):
            column = batch.column(0)
            is_any = is_any or column.null_count < len(column)
            for name in pc.unique(column).to_pylist():
                if name is not None:
                    seen.setdefault(name, len(seen))
            if code_type(len(seen)) != found.dtype:
                found = found.astype(code_type(len(seen)))
            found[start : start + len(column)] = codes_of(column, pa.array(seen, pa.string()))
        names = tuple(sorted(seen))
        position = {name: number for number, name in enumerate(names)}
        place = np.array([*(position[name] for name in seen), MISSING], found.dtype)
        return names, place[found], is_any

    @cached_property
    def is_test(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` which samples are of a test split, by its name or by the settings."""
        named = self.report.run.settings.get("test_splits", ())
        names, place, _ = self._splits
        of_name = rows_for_testing(pa.array(names, pa.string()), named)
        is_test: NDArray[np.bool_] = np.append(of_name, np.False_)[place]
        return is_test

    @cached_property
    def is_exact_leak(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` which samples have a byte-identical copy in another split."""
        return in_several(self.exact_set, self.split_code)

    @cached_property
    def is_near_leak(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` which samples have a near-copy in another split."""
        return in_several(self.near_set, self.split_code)

    @cached_property
    def is_leaking(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` which samples have a copy, exact or near, in another split.

        Splits differ if their normalized names do; having no split differs from having any.
        """
        return leaking(self.exact_set, self.near_set, self.split_code)

    # Decisions

    @cached_property
    def decided(self) -> Decided:
        """Return the decisions row by row.

        Raises:
            DecisionsError: A chosen label is text where the classes are integers, or the other way.
        """
        return join_decisions(self.report, self.decisions)

    @cached_property
    def is_decided(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` on which samples there is a decision; ``unsure`` is one, too."""
        return self.decided.is_decided

    @property
    def new_suspects(self) -> NDArray[np.int64]:
        """Return the `suspects` on which nobody has decided."""
        return self.suspects[~self.is_decided[self.suspects]]

    @cached_property
    def is_decided_wrong(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` which samples were dropped, or relabeled to another class than given.

        A sample that was dropped as a copy of another says nothing of its label.
        """
        decided = self.decided
        given = self.report.take(decided.rows, ["given_label"])["given_label"]
        differs = pc.fill_null(pc.not_equal(decided.table["final_label"], given), True)
        is_elsewhere = decided.are("relabel") & differs.to_numpy()
        is_dropped = decided.are("drop") & ~decided.as_copy
        is_wrong = np.zeros(len(self), np.bool_)
        is_wrong[decided.rows[is_dropped | is_elsewhere]] = True
        return is_wrong

    # Cells

    def cells(
        self, rows: NDArray[np.int64] | Sequence[int], names: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return the cells of some rows and columns, a dictionary for each row."""
        return self.take(rows, names).to_pylist()  # type: ignore[no-any-return]

    def take(self, rows: NDArray[np.int64] | Sequence[int], names: Sequence[str]) -> pa.Table:
        """Return some rows of some columns as the report has them."""
        return self.report.take(rows, names)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Return some columns as the report has them, in memory."""
        return self.report.read(names)

    def _label_codes(self, name: str) -> Codes:
        names = pa.array(self.class_names, label_type(self.class_names))
        codes = np.empty(len(self), code_type(len(names)))
        for start, batch in self.report.batches([name], as_codes=True):
            codes[start : start + len(batch)] = codes_of(batch.column(0), names)
        return codes

    def _truths(self, name: str) -> NDArray[np.bool_]:
        return self._decoded(name, np.bool_, False)

    def _floats(self, name: str) -> NDArray[np.float32]:
        return self._decoded(name, np.float32, np.nan)

    def _integers(self, name: str, kind: type[np.signedinteger[Any]]) -> Codes:
        """Return a column of integers, ``MISSING`` where it is null or the report lacks it."""
        if name not in self.report.column_names:
            return np.full(len(self), MISSING, np.int8)
        return self._decoded(name, kind, MISSING)

    def _decoded(self, name: str, kind: type[Number], null: Any) -> NDArray[Number]:
        """Return ``(N,)`` cells of a column, ``null`` where there is none."""
        values = np.empty(len(self), kind)
        for start, batch in self.report.batches([name]):
            column = batch.column(0)
            cells = pc.fill_null(column, null) if column.null_count else column
            values[start : start + len(batch)] = cells.to_numpy(zero_copy_only=False)
        return values

    def _tells_anything(self, name: str) -> bool:
        """Return whether any cell of a column has a value."""
        batches = self.report.batches([name])
        return any(batch.column(0).null_count < len(batch) for _, batch in batches)

    def _score_column(self, kind: str) -> str | None:
        name = f"{kind.removeprefix('conflicting_')}_score"
        return name if name in self.report.column_names else None


@dataclass(frozen=True, slots=True, eq=False)
class ClassPairs:
    """Pairs of classes that occur, the most frequent first, equals by their codes.

    Args:
        given: ``(P,)`` int64 codes of the given labels.
        suggested: ``(P,)`` int64 codes of the suggested ones.
        count: ``(P,)`` int64, at least 1.
    """

    given: NDArray[np.int64]
    suggested: NDArray[np.int64]
    count: NDArray[np.int64]

    def first(self, limit: int) -> list[tuple[int, int, int]]:
        """Return the first pairs as given code, suggested code and count."""
        columns = (values[:limit].tolist() for values in (self.given, self.suggested, self.count))
        return list(zip(*columns, strict=True))


_FEW_PAIRS = 1 << 16  # of classes: counting into all of them takes less than to sort


def count_pairs(given: Codes, suggested: Codes, classes: int) -> ClassPairs:
    """Count the pairs of classes; a sample without either label counts for none.

    Args:
        given: ``(M,)`` codes in ``[0, classes)``, or ``MISSING``.
        suggested: ``(M,)`` likewise.
        classes: K.
    """
    is_pair = (given != MISSING) & (suggested != MISSING)
    pairs = given[is_pair].astype(np.int64) * classes + suggested[is_pair]
    if classes**2 <= max(_FEW_PAIRS, len(pairs)):
        counts = np.bincount(pairs)
        cells = np.flatnonzero(counts)
        counts = counts[cells]
    else:
        cells, counts = np.unique(pairs, return_counts=True)
    most = np.argsort(-counts, kind="stable")
    rows, columns = np.divmod(cells[most], max(classes, 1))
    return ClassPairs(rows, columns, counts[most])
