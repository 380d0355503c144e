"""The face of the package: what is public, and that it has the shape of the command."""

import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from small_report import Sample, report_of

import labelfix
from labelfix.cli.main import app
from labelfix.exports.export import ExportFormat, export
from labelfix.report.io import write_report

PUBLIC = [
    "AuditResult",
    "EvidenceRecorder",
    "LabelIssues",
    "LabelfixError",
    "__version__",
    "audit",
    "audit_pred_probs",
    "cross_fit",
    "export",
    "find_label_issues",
    "open_run",
    "read_report",
]
SPELT_OTHERWISE = {"as_json", "quiet", "ctx", "pred_probs", "force", "images"}
"""What only a command has: it prints, and it audits images and probabilities by one name (--force
and --images are for the latter)."""


def options_of(command: str) -> set[str]:
    [found] = [c for c in app.registered_commands if c.callback and c.callback.__name__ == command]
    assert found.callback is not None
    return set(inspect.signature(found.callback).parameters) - SPELT_OTHERWISE


def test_the_public_names_are_these() -> None:
    assert labelfix.__all__ == sorted(PUBLIC) == dir(labelfix)
    assert all(getattr(labelfix, name) is not None for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        labelfix.nonsense  # noqa: B018


@pytest.mark.parametrize("name", ["audit", "export"])
def test_a_function_takes_what_its_command_takes(name: str) -> None:
    function = inspect.signature(getattr(labelfix, name))
    assert set(function.parameters) - {"on_progress", "progress"} == options_of(name)


@pytest.mark.parametrize("name", ["audit", "export"])
def test_a_function_has_the_defaults_of_its_command(name: str) -> None:
    [command] = [c for c in app.registered_commands if c.callback.__name__ == name]
    of_command = inspect.signature(command.callback).parameters
    of_function = inspect.signature(getattr(labelfix, name)).parameters
    # a command may have --pred-probs instead of DATA, and has no object to keep a run in
    for option in options_of(name) - {"data", "out"}:
        assert of_command[option].default == of_function[option].default, option


def test_probabilities_have_a_function_of_their_own() -> None:
    function = inspect.signature(labelfix.audit_pred_probs).parameters
    [command] = [c for c in app.registered_commands if c.callback.__name__ == "audit"]
    of_command = inspect.signature(command.callback).parameters
    options = {
        "budget", "config", "decisions", "force", "image_column", "images", "memory", "overwrite",
        "precision", "resume", "text_column", "top_classes",
    }  # fmt: skip
    assert set(function) - {"on_progress"} == {"pred_probs", "out"} | options
    for option in options:
        assert function[option].default == of_command[option].default


def test_the_command_offers_every_format_of_export() -> None:
    [command] = [c for c in app.registered_commands if c.callback.__name__ == "export"]
    [offered, _] = get_args(get_type_hints(command.callback)["format"])
    assert set(get_args(offered)) == set(get_args(ExportFormat))
    assert labelfix.export is export


def test_the_version_is_the_package_s_and_the_changelog_s() -> None:
    assert labelfix.__version__ == version("labelfix")
    told = subprocess.run(
        [sys.executable, "-m", "labelfix", "--version"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert told.stdout == f"labelfix {labelfix.__version__}\n"
    changelog = Path(__file__).parents[1] / "CHANGELOG.md"
    headings = [line for line in changelog.read_text("utf-8").splitlines() if line[:3] == "## "]
    assert headings[0].startswith(f"## [{labelfix.__version__}]")


def test_read_report_gives_a_data_frame(tmp_path: Path) -> None:
    write_report(report_of([Sample("a.png"), Sample("b.png", 1)]), tmp_path / "report.parquet")
    frame = labelfix.read_report(str(tmp_path))
    assert frame["sample_id"].tolist() == ["a.png", "b.png"]


@pytest.mark.parametrize("how", [{}, {"progress": False}, {"on_progress": lambda progress: None}])
def test_progress_is_shown_on_a_terminal_unless_it_is_not_wanted(how, monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    labelfix.audit((rng.normal(0, 1, (60, 4)) + 4 * np.eye(2, 4)[labels], labels), **how)
    assert ("training" in capsys.readouterr().err) == (not how)
