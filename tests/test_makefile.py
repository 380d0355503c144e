"""What a Makefile on a fresh machine says when something is missing."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(checkout: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *args], cwd=checkout, capture_output=True, encoding="utf-8", check=False
    )


def fake_python(folder: Path, script: str) -> Path:
    program = folder / "python-fake"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def test_an_old_python_is_refused_with_a_hint(checkout: Path) -> None:
    old = fake_python(checkout, '[ "$1" = -V ] && echo "Python 3.9.2" || exit 1')
    done = make(checkout, "demo", f"PYTHON={old}")
    assert done.returncode != 0
    assert "is Python 3.9.2, and labelfix needs Python 3.11 or newer" in done.stderr
    assert "hint: name a newer one" in done.stderr
    assert not (checkout / ".venv").exists()


def test_no_python_is_told(checkout: Path) -> None:
    done = make(checkout, "test", "PYTHON=python-that-is-not-here")
    assert done.returncode != 0
    assert "there is no python-that-is-not-here here" in done.stderr


def test_a_python_without_venv_is_told(checkout: Path) -> None:
    bare = fake_python(checkout, '[ "$2" = venv ] && mkdir -p .venv && exit 1 || exit 0')
    done = make(checkout, "lint", f"PYTHON={bare}")
    assert done.returncode != 0
    assert "cannot make a virtual environment" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_second_call_installs_nothing(checkout: Path) -> None:
    program = checkout / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text("", encoding="utf-8")
    planned = make(checkout, "-n", "test").stdout
    assert "pip install" in planned
    (checkout / ".venv" / "installed-dev").touch()
    again = make(checkout, "-n", "test").stdout
    assert "pip install" not in again
    assert "-m pytest" in again


def test_make_alone_lists_its_targets(checkout: Path) -> None:
    told = make(checkout).stdout
    for target in ("demo", "test", "lint", "wheel", "docs", "site", "clean"):
        assert f"\n{target} " in f"\n{told}"
