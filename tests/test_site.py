"""The pages of the documentation: what is public is documented, and links and options are real."""

import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
HOWTO = sorted((ROOT / "docs" / "howto").glob("*.md"))
MODULES = ("labelfix", "labelfix.sklearn", "labelfix.integrations.evidence",
           "labelfix.integrations.keras", "labelfix.integrations.lightning",
           "labelfix.integrations.timm", "labelfix.integrations.transformers")  # fmt: skip


def test_the_reference_documents_what_is_public():
    public = {
        f"{module}.{name}" for module in MODULES for name in importlib.import_module(module).__all__
    }
    documented = re.findall(r"^::: (\S+)$", REFERENCE, re.MULTILINE)
    assert len(documented) == len(set(documented))
    assert {*documented, "labelfix.__version__"} == public
    assert "`labelfix.__version__`" in REFERENCE


def test_every_integration_is_one_of_the_modules():
    folder = ROOT / "src" / "labelfix" / "integrations"
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {f"labelfix.integrations.{name}" for name in names} < set(MODULES)


@pytest.mark.parametrize("page", HOWTO, ids=lambda page: page.stem)
def test_options_of_the_how_tos_are_options_of_the_command(page):
    known = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    for name in ("exports", "review"):
        known += (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    known += "labelfix show --top --drop"
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
    assert {option for option in named if option not in known} == set()


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = {path.parent.name for path in (tmp_path / "site").rglob("index.html")}
    assert {"python", "reference", "benchmarks", "CHANGELOG", "from_cleanlab"} <= pages
    loaded = re.findall(
        r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"',
        (tmp_path / "site" / "index.html").read_text(encoding="utf-8"),
    )
    assert loaded == []  # no fonts and no scripts of the internet


def test_links_between_files_become_links_between_pages():
    pytest.importorskip("mkdocs")
    linked = runpy.run_path(str(ROOT / "docs" / "site_pages.py"))["linked"]
    assert linked("[a](docs/paper.md#b) `[c](docs/d.md)`", "index.md") == (
        "[a](paper.md#b) `[c](docs/d.md)`"
    )
    assert linked("[a](../benchmarks/README.md)", "python.md") == "[a](benchmarks/README.md)"
    assert linked("[a](../docs/benchmark.md)", "benchmarks/README.md") == "[a](../benchmark.md)"
    assert linked("[a](../../README.md#b)", "howto/texts.md") == "[a](../index.md#b)"
    assert linked("[a](https://b.c) [d](#e)", "python.md") == "[a](https://b.c) [d](#e)"
