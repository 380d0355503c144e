"""A hook of mkdocs: the site also has notebooks, the README, and pages outside this folder.

Pages link to each other as files of the repository do; in the site, the folder ``docs`` is the
root, and the README is its first page.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")
DRAWN = "benchmarks/plots/*.svg"
NOTEBOOKS = "docs/notebooks/*.ipynb"

_LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)#\s]+)")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks, and what lies outside the folder."""
    drawn = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(DRAWN))
    for path in (*OUTSIDE, *drawn):
        files.append(File.generated(config, place_in_site(path), abs_src_path=str(ROOT / path)))
    for notebook in sorted(ROOT.glob(NOTEBOOKS)):
        text, _ = MarkdownExporter().from_filename(str(notebook))  # type: ignore[no-untyped-call]
        at = f"notebooks/{notebook.stem}.md"
        files.append(File.generated(config, at, content=text + told_of(notebook.name)))
    return files


def told_of(name: str) -> str:
    """Return what the page of a notebook says of it at its end."""
    return f"\n---\n\nThis page is the notebook `docs/notebooks/{name}` of the repository.\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    return linked(markdown, page.file.src_uri)


def place_in_site(path: str) -> str:
    """Return where a file of the repository is in the site."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/").replace(".ipynb", ".md")


def place_in_repository(page: str) -> str:
    """Return which file of the repository a page of the site is."""
    if page == "index.md":
        return "README.md"
    return page if page in OUTSIDE else f"docs/{page}"


def linked(markdown: str, page: str) -> str:
    """Return a page whose links lead to pages of the site; code is left as it is."""
    here = posixpath.dirname(place_in_repository(page))

    def leads(found: re.Match[str]) -> str:
        target = place_in_site(posixpath.normpath(posixpath.join(here, found[2])))
        return found[1] + posixpath.relpath(target, posixpath.dirname(page) or ".")

    parts = _CODE.split(markdown)
    return "".join(part if n % 2 else _LINK.sub(leads, part) for n, part in enumerate(parts))
