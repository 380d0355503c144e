"""A report as everybody reads it: its columns decoded once, and one definition of each term.

`labelfix show`, `check`, `diff`, `export`, `review`, `diagnose` and the page take what a flagged,
scored, leaking or decided sample is from here, so that they cannot disagree.

Letters: N samples, K classes, M flagged samples.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.data.decisions import Decision
from labelfix.data.splits import in_several, leaking, rows_for_testing, split_codes
from labelfix.modalities.base import Wording, wording_of
from labelfix.report.decisions import Decided, join_decisions
from labelfix.report.schema import label_type
from labelfix.report.types import Report
from labelfix.types import MISSING, Label

LABEL = "label"
"""The kind of issue of labels that are probably wrong."""

LEAKAGE = "leakage"
"""The kind of issue of copies, exact or near, that lie in more than one split."""

_ISSUE = re.compile(r"is_(.+)_issue")
_OF_DECISIONS = {"decisions", "decided", "is_decided", "is_decided_wrong"}
"""What a view holds that depends on the decisions; all else depends on the report alone."""


@dataclass(frozen=True, eq=False)
class ReportView:
    """A report, and what people decided on it; a column is decoded when it is first asked for.

    Arrays are shared by all who ask: do not write to them.

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
        """Return the ``(N,)`` names of the samples."""
        return self.report.table["sample_id"]

    # Labels

    @property
    def class_names(self) -> tuple[Label, ...]:
        """Return the K names that codes of labels are positions in."""
        return self.report.class_names

    @cached_property
    def given(self) -> NDArray[np.int64]:
        """Return ``(N,)`` codes of the given labels, ``MISSING`` where there is none."""
        return self._label_codes("given_label")

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Return ``(N,)`` codes of the most probable classes, ``MISSING`` where not scored."""
        return self._label_codes("predicted_label")

    @cached_property
    def suggested(self) -> NDArray[np.int64]:
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
    def fold(self) -> NDArray[np.int64]:
        """Return ``(N,)`` which fold held each sample out, ``MISSING`` where none did."""
        return self._integers("fold")

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
        found = (_ISSUE.fullmatch(name) for name in self.report.table.column_names)
        return (*(match[1] for match in found if match), LEAKAGE)

    def tells_of(self, kind: str) -> bool:
        """Return whether samples were looked at for a kind of issue."""
        if kind == LABEL:
            return True
        column = self._score_column(kind)
        return self.has_samples and (column is None or column.null_count < len(self))

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
        return int(np.count_nonzero(self.issue(kind)))

    def score(self, kind: str) -> NDArray[np.float32] | None:
        """Return ``(N,)`` scores of a kind of issue, 0 the worst to 1, NaN where there is none.

        Conflicting copies are scored as copies; kinds without a score give ``None``.
        """
        column = self._score_column(kind)
        return None if column is None or kind == LABEL else column.to_numpy().astype(np.float32)

    # Copies and splits

    @cached_property
    def exact_set(self) -> NDArray[np.int64]:
        """Return ``(N,)`` numbers of the sets of byte-identical samples, ``MISSING`` for none."""
        return self._integers("exact_duplicate_set")

    @cached_property
    def near_set(self) -> NDArray[np.int64]:
        """Return ``(N,)`` numbers of the sets of near-copies, ``MISSING`` for none."""
        return self._integers("near_duplicate_set")

    @cached_property
    def split_code(self) -> NDArray[np.int64]:
        """Return ``(N,)`` numbers that are equal for the same split, however it is spelled.

        Samples without a split are of a split of their own, ``MISSING``.
        """
        return split_codes(self.report.table["split"])

    @cached_property
    def split_names(self) -> tuple[str, ...]:
        """Return the names of the splits as the input spells them, sorted."""
        return tuple(sorted(filter(None, pc.unique(self.report.table["split"]).to_pylist())))

    @property
    def has_splits(self) -> bool:
        """Return whether any sample came in a split."""
        return bool(self.report.table["split"].null_count < len(self))

    @cached_property
    def split_name(self) -> NDArray[np.int64]:
        """Return ``(N,)`` positions in `split_names`, ``MISSING`` for no name."""
        return _positions(self.report.table["split"], pa.array(self.split_names, pa.string()))

    @cached_property
    def is_test(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` which samples are of a test split, by its name or by the settings."""
        named = self.report.run.settings.get("test_splits", ())
        return rows_for_testing(self.report.table["split"], named)

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
        decided: NDArray[np.bool_] = self.decided.columns["decision"].is_valid().to_numpy()
        return decided

    @property
    def new_suspects(self) -> NDArray[np.int64]:
        """Return the `suspects` on which nobody has decided."""
        return self.suspects[~self.is_decided[self.suspects]]

    @cached_property
    def is_decided_wrong(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` which samples were dropped, or relabeled to another class than given.

        A sample that was dropped as a copy of another says nothing of its label.
        """
        given = self.report.table["given_label"]
        differs = pc.fill_null(pc.not_equal(self.decided.columns["final_label"], given), True)
        is_elsewhere = self.decided.has("relabel") & differs.to_numpy()
        is_dropped = self.decided.has("drop") & ~self.decided.is_copy
        is_wrong: NDArray[np.bool_] = is_dropped | is_elsewhere
        return is_wrong

    # Cells

    def cells(
        self, rows: NDArray[np.int64] | Sequence[int], names: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return the cells of some rows and columns, a dictionary for each row."""
        return self.take(rows, names).to_pylist()  # type: ignore[no-any-return]

    def take(self, rows: NDArray[np.int64] | Sequence[int], names: Sequence[str]) -> pa.Table:
        """Return some rows of some columns as the report has them."""
        return self.columns(names).take(pa.array(rows, pa.int64()))

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Return some columns as the report has them."""
        return self.report.table.select(list(names))

    def _label_codes(self, name: str) -> NDArray[np.int64]:
        names = pa.array(self.class_names, label_type(self.class_names))
        return _positions(self.report.table[name], names)

    def _truths(self, name: str) -> NDArray[np.bool_]:
        values: NDArray[np.bool_] = pc.fill_null(self.report.table[name], False).to_numpy()
        return values

    def _floats(self, name: str) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self.report.table[name].to_numpy()
        return values

    def _integers(self, name: str) -> NDArray[np.int64]:
        """Return a column of integers, ``MISSING`` where it is null or the report lacks it."""
        if name not in self.report.table.column_names:
            return np.full(len(self), MISSING, np.int64)
        values = pc.fill_null(self.report.table[name], MISSING).to_numpy()
        return values.astype(np.int64)  # type: ignore[no-any-return]

    def _score_column(self, kind: str) -> pa.ChunkedArray | None:
        name = f"{kind.removeprefix('conflicting_')}_score"
        return self.report.table[name] if name in self.report.table.column_names else None


def _positions(column: pa.ChunkedArray, names: pa.Array) -> NDArray[np.int64]:
    """Return ``(N,)`` where each value is among the names, ``MISSING`` where it is not."""
    found = pc.fill_null(pc.index_in(column, names), MISSING)
    return found.to_numpy().astype(np.int64)  # type: ignore[no-any-return]


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


def count_pairs(given: NDArray[np.int64], suggested: NDArray[np.int64], classes: int) -> ClassPairs:
    """Count the pairs of classes; a sample without either label counts for none.

    Args:
        given: ``(M,)`` codes in ``[0, classes)``, or ``MISSING``.
        suggested: ``(M,)`` likewise.
        classes: K.
    """
    is_pair = (given != MISSING) & (suggested != MISSING)
    cells, counts = np.unique(given[is_pair] * classes + suggested[is_pair], return_counts=True)
    most = np.argsort(-counts, kind="stable")
    rows, columns = np.divmod(cells[most], max(classes, 1))
    return ClassPairs(rows, columns, counts[most])
