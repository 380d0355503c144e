"""The notebooks of the documentation run from their first cell to the last, and hold no outputs."""

import os
import re
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))

LAST_WORDS = {
    "images": r"(\d+)% of the flagged labels are wrong\n(\d+)% of the wrong labels are flagged",
    "texts": r"(\d+)% of the flagged labels are wrong\n(\d+)% of the wrong labels are flagged",
    "from_cleanlab": r"(\d+) (50)",
}
"""How each notebook ends; the numbers are high where an audit found what it was to find."""


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
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    said = "".join(out["text"] for out in last.outputs if out.get("name") == "stdout")
    end = re.fullmatch(LAST_WORDS[path.stem], said.strip())
    assert end, said
    assert min(map(int, end.groups())) >= 50, end
    assert any("text/html" in out.get("data", {}) for out in outputs)


def test_each_notebook_is_known():
    assert {path.stem for path in NOTEBOOKS} == set(LAST_WORDS)
