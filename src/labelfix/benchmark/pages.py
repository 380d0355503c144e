"""From files of rows to a page of tables and the pictures on it."""

from collections.abc import Sequence
from pathlib import Path

from labelfix.benchmark.plot import task_svg
from labelfix.benchmark.rows import BenchmarkRow, read_rows
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
    rows: list[BenchmarkRow] = []
    came_from: dict[str, str] = {}
    for path in results:
        if not path.is_file():
            raise BenchmarkError(
                f"there is no file {path}", hint="name files that labelfix benchmark run wrote"
            )
        held = read_rows(path)
        rows += held
        came_from |= {row.task: path.name for row in held}
    tasks = group_rows(rows)
    plots = out.parent / PLOTS
    make_folder(plots)
    written = {}
    for task in tasks:
        written[slug(task)] = plots / f"{slug(task)}.svg"
        _write(written[slug(task)], task_svg(task))
    pictures = {name: f"{PLOTS}/{name}.svg" for name in written}
    _write(out, tables_page(tasks, came_from, pictures))
    return [out, *written.values()]


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")
