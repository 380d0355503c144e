"""Fit tables into a terminal: a row is a line, and long names lose their middle.

Where nothing says how wide a line may be, as in a file or a pipe, names are shown whole.
"""

import os

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP = "..."
"""Stands for what was taken out of a name."""

LEAST = 8
"""Columns that a name keeps, however many others there are."""


def print_table(console: Console, table: Table) -> None:
    """Print a table whose rows are a line each; names, as `cell` makes them, are shortened.

    Args:
        console: Where to.
        table: Its cells are replaced.
    """
    for column in table.columns:
        column.no_wrap = True
    width = console.measure(table, options=console.options.update(max_width=1 << 20)).maximum
    if not (console.is_terminal or "COLUMNS" in os.environ):
        console.width = max(console.width, width)
    elif width > console.width:
        _shorten_names(table, width - console.width)
    console.print(table)


def _shorten_names(table: Table, excess: int) -> None:
    """Take so many columns of the terminal away from the widest names, if they have them."""
    names = [
        (column, texts)
        for column in table.columns
        if (texts := [one for one in column.cells if isinstance(one, Text)])
    ]
    widths = [max(cell_len(one.plain) for one in texts) for _, texts in names]
    least = [max(LEAST, cell_len(str(column.header))) for column, _ in names]

    def capped(cap: int) -> list[int]:
        pairs = zip(widths, least, strict=True)
        return [min(width, max(cap, fewest)) for width, fewest in pairs]

    most = sum(widths) - excess
    caps = range(max(widths, default=0), 0, -1)
    cap = next((one for one in caps if sum(capped(one)) <= most), 0)
    for (_, texts), width in zip(names, capped(cap), strict=True):
        for text in texts:
            text.plain = shortened(text.plain, width)


def shortened(name: str, width: int) -> str:
    """Return a name in at most so many columns: its beginning, ``...`` and its end.

    The end keeps more: there the files of one folder differ.

    Args:
        name: It.
        width: Columns, at least 4.
    """
    if cell_len(name) <= width:
        return name
    left = width - len(GAP)
    head = _first(name, left // 3)
    tail = _first(name[::-1], left - cell_len(head))[::-1]
    return f"{head}{GAP}{tail}"


def _first(text: str, width: int) -> str:
    """Return as many characters from the start as so many columns hold."""
    taken = 0
    for place, char in enumerate(text):
        taken += cell_len(char)
        if taken > width:
            return text[:place]
    return text
