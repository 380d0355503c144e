"""From files of rows to a page of tables and the pictures on it."""

from collections.abc import Sequence
from pathlib import Path

from labelfix.benchmark.plot import task_svg
from labelfix.benchmark.rows import read_rows
from labelfix.benchmark.summary import group_rows
from labelfix.benchmark.tables import slug, tables_page
from labelfix.errors import BenchmarkError
from labelfix.files import atomic_path, make_folder

PLOTS = "plots"


def write_pages(results: Sequence[Path], out: Path) -> list[Path]:
    """Write the page and its pictures, which lie in ``plots`` beside it; return what was written.

    Args:
        results: Files of rows; a later one counts as later.
        out: The page.

    Raises:
        BenchmarkError: A file is not there, or holds something else.
        RunError: The place cannot be written to.
    """
    rows = []
    for path in results:
        if not path.is_file():
            raise BenchmarkError(
                f"there is no file {path}", hint="name files that labelfix benchmark run wrote"
            )
        rows += read_rows(path)
    tasks = group_rows(rows)
    plots = out.parent / PLOTS
    make_folder(plots)
    written = {}
    for task in tasks:
        written[slug(task)] = plots / f"{slug(task)}.svg"
        _write(written[slug(task)], task_svg(task))
    names = " ".join(path.name for path in results)
    _write(out, tables_page(tasks, names, {name: f"{PLOTS}/{name}.svg" for name in written}))
    return [out, *written.values()]


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")
