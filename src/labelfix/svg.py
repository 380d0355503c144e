"""Pictures as SVG, written by hand: no display, no plotting library."""

from collections.abc import Sequence
from html import escape

BLUE, ORANGE, GREY, INK, PAPER = "#2563a8", "#c8641b", "#c9ced6", "#1c2430", "#ffffff"
FONT = "font-family='Helvetica, Arial, sans-serif'"


def framed(parts: Sequence[str], width: int, height: int, *, title: str) -> str:
    """Return the text of an SVG file with a heading; names are escaped."""
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' "
            f"viewBox='0 0 {width} {height}' {FONT} fill='{INK}'>",
            f"<title>{safe(title)}</title>",
            f"<rect width='{width}' height='{height}' fill='{PAPER}'/>",
            text_at(16, 26, title, size=15, weight="bold"),
            *parts,
            "</svg>",
            "",
        ]
    )


def text_at(
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    anchor: str = "start",
    weight: str = "normal",
    colour: str = INK,
) -> str:
    """Return text as an element."""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' "
        f"font-weight='{weight}' fill='{colour}'>{safe(text)}</text>"
    )


def safe(text: str) -> str:
    r"""Return text that XML can hold: marks escaped, control characters as ``\x1b``."""
    return escape(printable(text), quote=True)


def printable(text: str) -> str:
    r"""Return text without control characters and turns of direction: they become ``\x1b``."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
