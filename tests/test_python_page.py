"""docs/python.md keeps its word: its lines of Python run, one after the other."""

import contextlib
import io
import re
import shutil
from pathlib import Path

from written_texts import sentences

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

BEFORE = """
import numpy as np
rng = np.random.default_rng(0)
true = np.arange(120) % 3
labels = np.where(rng.random(120) < .1, (true + 1) % 3, true)
features = rng.normal(0, 1, (120, 6)) + 3 * np.eye(3, 6)[true]
pred_probs = np.full((120, 3), .1) + .7 * np.eye(3)[true]
"""


def test_the_lines_of_python_run_in_the_order_of_the_page(small_data: Path, tmp_path: Path) -> None:
    shutil.copytree(small_data, tmp_path / "photos")
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) == 9
    texts, topics = sentences(20)
    words = f"texts, topics = {texts!r}, {topics!r}\n"
    said = io.StringIO()
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(said):
        exec(BEFORE + words + "".join(blocks), {})
    assert said.getvalue().startswith("LabelIssues: ")
    assert "AuditResult: " in said.getvalue()
    for name in ("arrays-run", "photos-run", "texts-run", "texts-clean.csv"):
        assert (tmp_path / name).exists(), name


def test_every_page_that_is_linked_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE.read_text(encoding="utf-8"))
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
