"""The result of a check as the files that build servers read: JUnit XML and SARIF 2.1.0."""

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from labelfix.checking import CheckResult
from labelfix.files import atomic_path

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
    driver = {"name": "labelfix", "version": version("labelfix"), "rules": rules}
    run = {"tool": {"driver": driver}, "results": results}
    with atomic_path(to) as draft:
        text = json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)
        draft.write_text(text + "\n", encoding="utf-8")


def _place(sample_id: str) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": {"uri": quote(sample_id)}}}


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
