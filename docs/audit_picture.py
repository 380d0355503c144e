"""Draw the picture in the README from a real audit: ``python docs/audit_picture.py``.

Audits the demo data in a temporary folder and writes ``docs/images/audit.svg``.
"""

import io
import tempfile
from pathlib import Path

from rich.console import Console

from labelfix.api import audit
from labelfix.benchmark.demo import write_demo
from labelfix.cli.tables import print_audit
from labelfix.report.summary import summarize
from labelfix.report.view import ReportView
from labelfix.utils.files import atomic_path

PICTURE = Path(__file__).parent / "images" / "audit.svg"
FILES = ("report.html", "report.parquet", "noise_matrix.parquet", "run.json")
COMMAND = "labelfix audit demo-data/data --out demo-run"


def main() -> None:
    """Audit the demo data and write the picture."""
    console = Console(record=True, width=84, file=io.StringIO(), highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        demo = write_demo(Path(folder) / "demo-data")
        result = audit(demo.data, Path(folder) / "demo-run")
        run = Path("demo-run")
        print_audit(
            console,
            summarize(ReportView(result.report), top=12),
            run,
            [run / name for name in FILES],
        )
    PICTURE.parent.mkdir(exist_ok=True)
    with atomic_path(PICTURE) as draft:
        text = console.export_svg(title=f"$ {COMMAND}", unique_id="labelfix-audit")
        draft.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
