"""The entrance of arrays: wrong labels by probabilities that a program holds, in one call.

Nothing is written unless it is asked for, and torch is not loaded.

Letters: N samples, K classes, M flagged samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.arguments import checks_arguments
from labelfix.config import AuditConfig, ScoringConfig
from labelfix.config.file import config_of, flag_changes, overridden, read_settings
from labelfix.data.arrays import (
    GivenLabels,
    ProgramPredProbs,
    digest_of_pred_probs,
    labels_of,
    pred_probs_of_arrays,
)
from labelfix.data.dataset import settled_dataset
from labelfix.data.decisions import read_decisions
from labelfix.data.objects import samples_of_features
from labelfix.data.trusted_labels import decisions_of, refuse_to_replace, reviewed_by
from labelfix.errors import ConfigError, LabelfixError
from labelfix.pipeline.probabilities import (
    OF_PROBABILITIES,
    claim_of_given,
    report_on_given,
    score_given,
    write_given,
)
from labelfix.pipeline.result import AuditResult, in_temporary_run
from labelfix.report.frame import frame_of
from labelfix.report.html.notebook import Told, as_html
from labelfix.report.run_folder import RunFolder
from labelfix.report.types import Report
from labelfix.report.view import ReportView
from labelfix.scoring.flags import correct
from labelfix.types import MISSING, Label, LabelScores, NoiseCells, Reviewed
from labelfix.utils.progress import StageTimer, no_progress

COLUMNS = (
    "given_label", "is_label_issue", "label_error_probability", "label_score", "predicted_label",
    "suggested_label", "suggested_label_probability", "sample_weight", "reason",
)  # fmt: skip
"""What a DataFrame of label issues tells of each sample, as the report calls it."""


class Findings(Protocol):
    """What label issues were made of, and where a full report of them comes from."""

    def report(self) -> Report:
        """Return the report on every sample."""
        ...

    def write(self, out: Path, *, overwrite: bool) -> AuditResult:
        """Write a RUN folder."""
        ...


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LabelIssues:
    """What `labelfix.find_label_issues` found; arrays are in the order of the labels.

    Args:
        is_label_issue: ``(N,)`` bool: the label is probably wrong.
        label_error_probability: ``(N,)`` float32: how probably it is wrong, NaN where it was not
            scored.
        label_score: ``(N,)`` float32: 1 - that.
        suggested_label: ``(N,)`` the label that a flagged sample should have, in the form that
            labels were given: positions of classes, -1 for none, or names, None for none.
        suggested_label_probability: ``(N,)`` float32: how probably that is right, NaN where nothing
            is suggested.
        sample_weight: ``(N,)`` float32, of mean 1: how much each sample with its given label should
            count in training.
        noise_rate: The estimated share of wrong labels.
        noise_rate_interval: Between which shares it lies with a probability of 90 %.
        class_names: K names, in the order of the columns of the probabilities.
        noise: How often each class is given each label.
    """

    is_label_issue: NDArray[np.bool_]
    label_error_probability: NDArray[np.float32]
    label_score: NDArray[np.float32]
    suggested_label: NDArray[Any]
    suggested_label_probability: NDArray[np.float32]
    sample_weight: NDArray[np.float32]
    noise_rate: float
    noise_rate_interval: tuple[float, float]
    class_names: tuple[Label, ...]
    noise: NoiseCells
    findings: Findings = field(repr=False)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    def __len__(self) -> int:
        """Return N."""
        return len(self.is_label_issue)

    @cached_property
    def noise_matrix(self) -> NDArray[np.float64]:
        """Return ``(K, K)``: in row j, column k how often class j is given the label k."""
        return self.noise.whole(self.noise.probability)

    @cached_property
    def ranked(self) -> NDArray[np.int64]:
        """Return the ``(M,)`` flagged rows, most probably wrong first."""
        rows = np.flatnonzero(self.is_label_issue)
        order = np.argsort(-self.label_error_probability[rows], kind="stable")
        return np.asarray(rows[order])

    @cached_property
    def report(self) -> Report:
        """Return the report on every sample, as an audit makes it."""
        return self.findings.report()

    def to_pandas(self) -> pd.DataFrame:
        """Return a row for each sample, with labels by name and a sentence where there is one.

        The columns are those of the same name in docs/report.md.
        """
        return frame_of(replace(self.report, columns=self.report.table.select(list(COLUMNS))))

    @checks_arguments
    def top(self, count: int = 20) -> pd.DataFrame:
        """Return the rows of the flagged samples, most probably wrong first.

        Args:
            count: How many at most.
        """
        return self.to_pandas().iloc[self.ranked[: max(count, 0)]]

    @checks_arguments
    def write(self, out: str | Path, *, overwrite: bool = False) -> AuditResult:
        """Write a RUN folder, as ``labelfix audit --pred-probs`` does of files.

        Args:
            out: The folder.
            overwrite: Whether a run that is in it already may be replaced.

        Raises:
            RunError: The folder holds something else, or cannot be written to.
        """
        return self.findings.write(Path(out), overwrite=overwrite)

    @cached_property
    def told(self) -> Told:
        """Return the result in figures."""
        is_unknown = bool(np.isnan(self.noise_rate))
        return Told(
            name="LabelIssues",
            flagged=int(np.count_nonzero(self.is_label_issue)),
            samples=len(self),
            noise_rate=None if is_unknown else self.noise_rate,
            interval=None if is_unknown else self.noise_rate_interval,
            next=".top(20) shows the surest, .is_label_issue masks them, .write(RUN) writes a "
            "report to review",
            unscored=int(np.count_nonzero(np.isnan(self.label_error_probability))),
        )

    def __repr__(self) -> str:
        return self.told.as_text()

    def _repr_html_(self) -> str:
        return as_html(self.told, ReportView(self.report), None)


@dataclass(frozen=True, slots=True, eq=False)
class OfProbabilities:
    """Findings on probabilities that a program holds.

    Args:
        probs: They, with their labels.
        scores: How far the labels can be believed.
        reviewed: What people decided.
        config: How to score and flag.
        decisions: Where the decisions came from.
        force: Whether a mix-up was let pass.
    """

    probs: ProgramPredProbs
    scores: LabelScores
    reviewed: Reviewed | None
    config: AuditConfig
    decisions: Path | None
    force: bool

    def report(self) -> Report:
        """Return the report on every sample."""
        given = self.probs.given
        given = replace(given, fingerprint=digest_of_pred_probs(given))
        return report_on_given(given, self.scores, self.reviewed, self.config, self.probs.models)

    def write(self, out: Path, *, overwrite: bool) -> AuditResult:
        """Write a RUN folder."""
        report, folder, clock = self.report(), RunFolder(out), StageTimer()
        with folder.held(may_hold_run=overwrite):
            read_decisions(out)  # the page tells them: better to fail before the work than after it
            refuse_to_replace(self.decisions, out)
            claim = claim_of_given(
                self.config,
                decisions_of(self.decisions),
                report.run.fingerprint,
                models=len(self.probs.models),
                force=self.force,
            )
            folder.claim(claim, overwrite=overwrite)
            try:
                written = write_given(
                    folder, self.probs.given, report, self.config, self.decisions, clock,
                    no_progress,
                )  # fmt: skip
            except LabelfixError:
                folder.release()
                raise
        return AuditResult(out, written)


@checks_arguments
def find_label_issues(
    labels: Any,
    pred_probs: Any = None,
    *,
    features: Any = None,
    class_names: Sequence[Any] | None = None,
    precision: float | None = None,
    budget: int | None = None,
    decisions: str | Path | None = None,
    seed: int | None = None,
    config: str | Path | None = None,
    force: bool = False,
) -> LabelIssues:
    """Find the labels that are probably wrong, by probabilities or features that you hold.

    Lists, NumPy arrays, pandas columns and tensors of torch are taken. Nothing is written.

    Args:
        labels: ``(N,)`` the given labels: positions of classes from 0, or names; None, NaN or -1
            where there is none.
        pred_probs: ``(N, K)`` out-of-sample probabilities, from models that never trained on the
            sample; or a list of such arrays, one a model, which are averaged.
        features: ``(N, D)`` floats instead of probabilities: what any network made of the samples.
            Heads are trained on them, in folds, by torch.
        class_names: K names, in the order of the columns; ``None`` takes those of categories, of
            the columns of a table, of labels that are text in alphabetical order, or 0 to K-1.
        precision: Flag as many labels as leave this share of the flags right; ``None`` flags as
            many as make the expected F1 the highest.
        budget: Flag so many labels instead.
        decisions: A RUN whose suspects were reviewed; its samples are called by their row.
        seed: With features: what every random choice is drawn from.
        config: A TOML file of settings, or the run.json of an earlier run.
        force: Go on although labels and probabilities do not seem to belong together.

    Raises:
        ConfigError: An argument cannot be used.
        DatasetError: Labels or probabilities are none, or do not fit each other.
        DecisionsError: There are no decisions, or they cannot be used.
    """
    _refuse_misfits(pred_probs, features, seed, force=force)
    sections = {"sections": OF_PROBABILITIES} if features is None else {}
    settings = {} if config is None else read_settings(Path(config), **sections)
    changes = {"flags": flag_changes(precision, budget), **({} if seed is None else {"seed": seed})}
    whole = config_of(overridden(settings, changes))
    source = None if decisions is None else Path(decisions)
    if features is not None:
        return _of_features(labels, features, class_names, whole, source)
    probs = pred_probs_of_arrays(labels, pred_probs, class_names, force=force)
    given = probs.given
    decided = decisions_of(source)
    reviewed = reviewed_by(decided, given.sample_id, given.given_label, given.class_names)
    scores = score_given(given, reviewed, whole)
    return issues_of(OfProbabilities(probs, scores, reviewed, whole, source, force))


def issues_of(found: OfProbabilities) -> LabelIssues:
    """Return findings in the form that labels were given."""
    probs, scores = found.probs, found.scores
    corrections = correct(scores, probs.given.given_label != MISSING, found.config.flags)
    is_flagged = corrections.is_label_issue
    names = probs.given.class_names
    position = {name: place for place, name in enumerate(probs.class_names)}
    place = np.array([position[name] for name in names])
    return LabelIssues(
        is_label_issue=is_flagged,
        label_error_probability=scores.label_error_probability,
        label_score=(1 - scores.label_error_probability).astype(np.float32),
        suggested_label=_as_given(corrections.suggested_label, probs, place),
        suggested_label_probability=np.where(
            is_flagged, scores.alternative_probability, np.float32(np.nan)
        ).astype(np.float32),
        sample_weight=corrections.sample_weight,
        noise_rate=scores.noise_rate,
        noise_rate_interval=scores.noise_rate_interval,
        class_names=probs.class_names,
        noise=scores.noise.among(
            place, len(names), whole=len(names) <= found.config.scoring.dense_classes
        ),
        findings=found,
    )


def _as_given(
    codes: NDArray[np.int64], probs: ProgramPredProbs, place: NDArray[np.int64]
) -> NDArray[Any]:
    """Return codes of sorted classes in the form that labels were given."""
    if not probs.labels.are_names and probs.labels.categories is None:
        return np.where(codes == MISSING, MISSING, place[codes])
    names = np.array([*probs.given.class_names, None], object)
    return np.asarray(names[codes])  # the code of none is the last


def _refuse_misfits(pred_probs: Any, features: Any, seed: int | None, *, force: bool) -> None:
    """Refuse what cannot go together."""
    if pred_probs is None and features is None:
        raise ConfigError(
            "pred_probs is missing",
            hint="give the labels and the probabilities of a model, or features",
        )
    if pred_probs is not None and features is not None:
        raise ConfigError(
            "there are both pred_probs and features", hint="give one of the two beside the labels"
        )
    if features is None and seed is not None:
        raise ConfigError(
            f"seed is {seed}, and nothing is drawn where pred_probs are given", hint="leave it out"
        )
    if features is not None and force:
        raise ConfigError("force is for pred_probs", hint="leave it out with features")


@dataclass(frozen=True, slots=True, eq=False)
class _OfFeatures:
    """Findings on features that a program holds; their run is a temporary one."""

    result: AuditResult

    def report(self) -> Report:
        """Return the report on every sample."""
        return self.result.report

    def write(self, out: Path, *, overwrite: bool) -> AuditResult:
        """Write a RUN folder."""
        return self.result.save(out, overwrite=overwrite)


def _of_features(
    labels: Any,
    features: Any,
    class_names: Sequence[Label] | None,
    config: AuditConfig,
    decisions: Path | None,
) -> LabelIssues:
    """Train heads on features, as an audit with ``features=`` does, and return what it found."""
    given = labels_of(labels)
    dataset = settled_dataset(samples_of_features(features, given, class_names), config.dataset)
    from labelfix.pipeline.samples import audit_samples  # which loads torch

    result = in_temporary_run(
        lambda run: audit_samples(lambda: dataset, run, None, config, decisions=decisions)
    )
    return _issues_of_report(result, given, class_names)


def _issues_of_report(
    result: AuditResult, labels: GivenLabels, class_names: Sequence[Label] | None
) -> LabelIssues:
    """Return what a report says of labels, in the form that they were given."""
    view, report = ReportView(result.report), result.report
    named = class_names or labels.categories or report.class_names
    names = tuple(named)
    position = {name: place for place, name in enumerate(names)}
    place = np.array([position[name] for name in report.class_names])
    as_values = np.array([*report.class_names, None], object)[view.suggested]
    if not labels.are_names and labels.categories is None:
        # without names, positions are the classes themselves
        positions = place if class_names is not None else np.array(report.class_names)
        as_values = np.where(view.suggested == MISSING, MISSING, positions[view.suggested])
    low, high = report.run.noise_rate_interval or (np.nan, np.nan)
    rate = report.run.noise_rate
    return LabelIssues(
        is_label_issue=view.is_flagged.copy(),
        label_error_probability=view.error_probability.copy(),
        label_score=view.label_score.copy(),
        suggested_label=as_values,
        suggested_label_probability=view.suggested_probability.copy(),
        sample_weight=view.sample_weight.copy(),
        noise_rate=np.nan if rate is None else rate,
        noise_rate_interval=(low, high),
        class_names=names,
        noise=_noise_of(report).among(
            place, len(names), whole=len(names) <= ScoringConfig().dense_classes
        ),
        findings=_OfFeatures(result),
    )


def _noise_of(report: Report) -> NoiseCells:
    """Return the cells of the noise matrix of an audit."""
    table = report.noise
    if table is None:
        raise AssertionError("an audit that has just been made holds its noise matrix")
    names = pa.array(report.class_names)
    codes = (pc.index_in(table[name], names).to_numpy() for name in ("true_label", "given_label"))
    values = (table[name].to_numpy() for name in ("probability", "low", "high"))
    return NoiseCells(len(names), *(code.astype(np.int64) for code in codes), *values)
