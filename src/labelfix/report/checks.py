"""Checks for continuous integration: are the labels of a data set good enough?

Letters: N rows of the report.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from labelfix.data.decisions import decisions_file, read_decisions
from labelfix.errors import ConfigError, ReportError
from labelfix.report.io import read_report_table, report_file
from labelfix.report.view import LABEL, ReportView
from labelfix.utils.files import atomic_path, refuse_overwriting_inputs
from labelfix.utils.text import counted, percent, version_of

ERROR_RATE = "max-error-rate"
"""The name of the check of the share of wrong labels."""


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """The share of wrong labels among the given ones, 0 to 1.

    Args:
        estimate: What is expected.
        low: It is above this, ...
        high: ... and below this with a probability of 90 %.
        decided: How many of the labels somebody has decided on, which leaves nothing to estimate.
        samples: How many labels it is about: those scored or decided.
    """

    estimate: float
    low: float
    high: float
    decided: int
    samples: int


@dataclass(frozen=True, slots=True)
class Check:
    """One check and how it came out.

    Args:
        name: ``max-error-rate``, or the kind of issue that must not be there.
        passed: Whether the data set is good enough by it.
        reason: One line that says why, or why not.
        sample_ids: The samples that it fails on, in the order of the report; none where the check
            is about all of them together.
    """

    name: str
    passed: bool
    reason: str
    sample_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What all checks came to."""

    checks: tuple[Check, ...]
    error_rate: ErrorRate | None

    @property
    def passed(self) -> bool:
        """Whether every check has passed."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """Return one line: what has failed, or that nothing has."""
        failed = [check.reason for check in self.checks if not check.passed]
        return "; ".join(failed or [check.reason for check in self.checks])

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {"passed": self.passed, "reason": self.reason, **asdict(self)}


def check_run(
    run: Path,
    *,
    max_error_rate: float | None,
    upper_bound: bool,
    fail_on: Sequence[str],
    as_exported: Callable[[ReportView], ReportView] | None = None,
    outputs: Sequence[Path] = (),
) -> CheckResult:
    """Check the labels of the data set that a run is about; see `check_report`.

    Args:
        run: A RUN folder, or its report.
        max_error_rate: As for `check_report`.
        upper_bound: Likewise.
        fail_on: Likewise.
        as_exported: Returns the report of what an export gives; ``None`` checks the given labels.
        outputs: Where the result will be written: not over or into what is read.

    Raises:
        ReportError: ``run`` holds no report, or it does not tell.
        DecisionsError: The decisions on it cannot be read, or do not fit it.
        ConfigError: A kind is not known, ``max_error_rate`` is no share, or an output lies in
            the data or the run's own files.
    """
    report = read_report_table(run, pred_probs=False)
    refuse_overwriting_inputs(
        outputs, [report_file(run), decisions_file(run), report.run.source.path]
    )
    view = ReportView(report, read_decisions(run))
    if as_exported is not None:
        view = as_exported(view)
    return check_report(
        view, max_error_rate=max_error_rate, upper_bound=upper_bound, fail_on=fail_on
    )


def check_report(
    view: ReportView,
    *,
    max_error_rate: float | None = None,
    upper_bound: bool = False,
    fail_on: Sequence[str] = (),
) -> CheckResult:
    """Check the labels of a data set *as they were given*.

    Args:
        view: N rows, and what people decided on them. A label that somebody kept is no label issue.
        max_error_rate: The highest share of wrong labels that passes, 0 to 1; see `error_rate`.
        upper_bound: Compare the upper end of the interval, instead of the estimate.
        fail_on: Kinds of issue that must not be there at all: ``label``,
            ``conflicting-duplicates`` and so on, for each ``is_<kind>_issue`` of the report, and
            ``leakage``.

    Raises:
        ConfigError: A kind is not known, or ``max_error_rate`` is no share.
        ReportError: The report does not tell.
    """
    if max_error_rate is not None and not 0 <= max_error_rate <= 1:
        raise ConfigError(
            f"max_error_rate is {max_error_rate}, which is no share",
            hint="choose --max-error-rate between 0 and 1, such as 0.02",
        )
    rate = None if max_error_rate is None else error_rate(view)
    checks = [_check_kind(view, kind) for kind in dict.fromkeys(fail_on)]
    if rate is not None and max_error_rate is not None:
        checks.insert(0, _check_rate(rate, max_error_rate, upper_bound=upper_bound))
    return CheckResult(tuple(checks), rate)


def error_rate(view: ReportView) -> ErrorRate:
    """Return the share of wrong labels among those that were scored or decided.

    A decided label is wrong if the sample was relabeled to another class or dropped, right if it
    was kept; ``unsure`` decides nothing, nor does dropping a copy of a sample that stays. The
    others are wrong with the probabilities of the report, scaled so that their mean over all scored
    samples is the estimate of the report, or an end of its interval.

    Raises:
        ReportError: Nothing was scored or decided.
    """
    is_decided = view.decided.has("keep", "relabel", "drop") & ~view.decided.is_copy
    is_open = view.is_scored & ~is_decided
    samples = int(np.count_nonzero(is_open | is_decided))
    rate, interval = view.report.run.noise_rate, view.report.run.noise_rate_interval
    if not samples or (is_open.any() and (rate is None or interval is None)):
        raise ReportError(
            "the report does not say how many labels are wrong: none was scored",
            hint="leave out --max-error-rate, or audit data whose labels can be scored",
        )
    known = float(np.count_nonzero(view.is_decided_wrong))
    low, high = interval or (0.0, 0.0)
    estimate, low, high = (
        float(known + expected_errors(view, is_open, share)) / samples
        for share in (rate or 0.0, low, high)
    )
    return ErrorRate(estimate, low, high, int(np.count_nonzero(is_decided)), samples)


def expected_errors(view: ReportView, is_open: NDArray[np.bool_], share: float) -> float:
    """Return how many of some given labels are wrong, if a share of all scored ones is.

    The probabilities of the report are scaled so that their mean over all scored labels is the
    share.

    Args:
        view: N rows.
        is_open: ``(N,)`` bool: the labels to count, scored ones.
        share: Of the scored labels, 0 to 1.
    """
    probability = view.error_probability.astype(np.float64)
    mean = probability[view.is_scored].mean() if view.is_scored.any() else 0.0
    many = float(np.count_nonzero(is_open))
    if mean == 0:
        return share * many
    return min(many, float(probability[is_open].sum()) * share / mean)


def _check_rate(rate: ErrorRate, most: float, *, upper_bound: bool) -> Check:
    compared = rate.high if upper_bound else rate.estimate
    passed = compared <= most
    between = f"{percent(rate.low, 2)} to {percent(rate.high, 2)} with a probability of 90 %"
    known = f"{rate.decided:,} of {rate.samples:,} decided by people" if rate.decided else ""
    notes = "; ".join(filter(None, [between, known]))
    what = f"{percent(rate.estimate, 2)} of the labels are wrong by the estimate ({notes})"
    which = "the upper end is" if upper_bound else "that is"
    action = (
        f"{which} within {percent(most, 2)}" if passed else f"{which} more than {percent(most, 2)}"
    )
    return Check(ERROR_RATE, passed, f"{what}: {action}", ())


def _check_kind(view: ReportView, wanted: str) -> Check:
    kind = _kind_of(view, wanted)
    if not view.tells_of(kind):
        if view.has_samples:
            why = f"it looked at no {view.wording.noun} for it"
            hint = "audit again: the report may be older than this kind of issue"
        else:
            why, hint = "no image was looked at", "check a run of images, not of --pred-probs"
        raise ReportError(f"the report cannot tell of {wanted}: {why}", hint=hint)
    is_issue = view.issue(kind)
    if kind == LABEL:
        is_issue = is_issue & ~view.decided.has("keep")
    ids = tuple(view.names_of(np.flatnonzero(is_issue)))
    name = kind.replace("_", "-")
    many = counted(len(ids), "sample has", "samples have")
    return Check(name, not ids, f"{many} the issue {name}", ids)


def _kind_of(view: ReportView, wanted: str) -> str:
    """Return the kind as the columns spell it; hyphens and a plural will do.

    Raises:
        ConfigError: The report has no such kind.
    """
    plain = wanted.strip().lower().replace("-", "_")
    for name in (plain, plain.removesuffix("s")):
        if name in view.kinds:
            return name
    listed = ", ".join(kind.replace("_", "-") for kind in view.kinds)
    raise ConfigError(
        f"the report knows no issue of the kind {wanted!r}", hint=f"choose from: {listed}"
    )


MOST_RESULTS = 5_000
"""Samples that a SARIF file lists for one check; readers take no more of a run."""

_SHOWN = 20  # samples that the text of a JUnit failure names
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(result: CheckResult, run: Path, to: Path) -> None:
    """Write a check as JUnit XML: one test case a check.

    Raises:
        RunError: The place cannot be written to.
    """
    failures = sum(not check.passed for check in result.checks)
    counts: dict[str, Any] = {
        "tests": str(len(result.checks)),
        "failures": str(failures),
        "errors": "0",
    }
    suites = ElementTree.Element("testsuites", name="labelfix check", **counts)
    suite = ElementTree.SubElement(suites, "testsuite", name=_xml(str(run)), **counts, skipped="0")
    for check in result.checks:
        case = ElementTree.SubElement(
            suite, "testcase", classname="labelfix.check", name=check.name, time="0"
        )
        if not check.passed:
            fault = ElementTree.SubElement(
                case, "failure", message=_xml(check.reason), type=check.name
            )
            more = len(check.sample_ids) - _SHOWN
            names = [*check.sample_ids[:_SHOWN], *([f"and {more:,} more"] if more > 0 else [])]
            fault.text = _xml("\n".join([check.reason, *names]))
    ElementTree.indent(suites)
    with atomic_path(to) as draft:
        ElementTree.ElementTree(suites).write(draft, encoding="utf-8", xml_declaration=True)


def write_sarif(result: CheckResult, to: Path) -> None:
    """Write a check as SARIF 2.1.0: one rule a check, one result a sample that it fails on.

    Raises:
        RunError: The place cannot be written to.
    """
    rules = [
        {"id": check.name, "shortDescription": {"text": f"labelfix check: {check.name}"}}
        for check in result.checks
    ]
    results: list[dict[str, Any]] = []
    for index, check in enumerate(result.checks):
        if check.passed:
            continue
        common = {
            "ruleId": check.name,
            "ruleIndex": index,
            "level": "error",
            "message": {"text": check.reason},
        }
        places = [_place(sample) for sample in check.sample_ids[:MOST_RESULTS]]
        results += [{**common, "locations": [place]} for place in places] or [common]
    driver = {"name": "labelfix", "version": version_of("labelfix"), "rules": rules}
    run = {"tool": {"driver": driver}, "results": results}
    with atomic_path(to) as draft:
        text = json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)
        draft.write_text(text + "\n", encoding="utf-8")


def _place(sample_id: str) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": {"uri": quote(sample_id)}}}


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
