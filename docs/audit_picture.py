"""Draw the picture in the README from a real audit: ``python docs/audit_picture.py``.

Audits the demo data in a temporary folder and writes ``docs/images/audit.svg``.
"""

import io
import os
import tempfile
from pathlib import Path

from rich.console import Console

from labelfix.api import audit
from labelfix.benchmark.demo import write_demo
from labelfix.cli.answer import WIDTH, print_answer
from labelfix.exports.leftovers import outlook_of
from labelfix.report.summary import summarize
from labelfix.report.view import ReportView
from labelfix.utils.files import atomic_path

PICTURE = Path(__file__).resolve().parent / "images" / "audit.svg"
COMMAND = "labelfix audit demo-data/data --out demo-run --tune head"


def main() -> None:
    """Audit the demo data and write the picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that the picture shows the places as a user names them
        demo, run = write_demo(Path("demo-data")), Path("demo-run")
        view = ReportView(audit(demo.data, run, tune="head").report)
        print_answer(console, summarize(view), outlook_of(view), run)
        os.chdir(PICTURE.parent)
    PICTURE.parent.mkdir(exist_ok=True)
    with atomic_path(PICTURE) as draft:
        text = console.export_svg(title=f"$ {COMMAND}", unique_id="labelfix-audit")
        draft.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
