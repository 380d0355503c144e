"""The notebooks of the documentation run from their first cell to the last, and hold no outputs."""

import os
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))

LAST_WORDS = {
    "images": "of the wrong labels are flagged",
    "texts": "of the wrong labels are flagged",
    "from_cleanlab": "50",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where ``labelfix`` is the command of the Python that runs the tests."""
    command = tmp_path / "bin" / "labelfix"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m labelfix "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_runs(path, tmp_path, environment):
    notebook = nbformat.read(path, as_version=4)
    assert all(
        not cell.outputs and cell.execution_count is None
        for cell in notebook.cells
        if cell.cell_type == "code"
    )
    client = nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=environment)
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert LAST_WORDS[path.stem] in outputs[-1]["text"]
    assert any("text/html" in out.get("data", {}) for out in outputs)


def test_each_notebook_is_known():
    assert {path.stem for path in NOTEBOOKS} == set(LAST_WORDS)
