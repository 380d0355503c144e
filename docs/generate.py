"""Write the pages of this folder that come from the code: ``python docs/generate.py``."""

from pathlib import Path

from labelfix.config.options import options_page
from labelfix.report.schema import schema_page
from labelfix.utils.files import atomic_path

PAGES = {"options.md": options_page, "report.md": schema_page}


def main() -> None:
    """Write every generated page."""
    for name, page in PAGES.items():
        with atomic_path(Path(__file__).parent / name) as draft:
            draft.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
