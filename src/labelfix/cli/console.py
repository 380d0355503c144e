"""What all commands share: how they print, how they end, and how the process runs.

rich is loaded when the first of its texts, tables or consoles is made: ``--help`` needs none.
"""

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import typer
from typer.core import TyperGroup

from labelfix.arguments import spelled_as_options
from labelfix.errors import LabelfixError, system_faults_told
from labelfix.utils.interrupts import interrupts_kept
from labelfix.utils.text import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from labelfix.types import Label

WIDTH_OF_A_FILE = 160
"""Columns of the tables where no terminal says how wide it is."""


def cell(value: "Label", style: str = "") -> "Text":
    """Return a name as one cell of a table: no markup in it counts, and it is shown whole."""
    from rich.text import Text

    return Text(plain(str(value)), style=style, overflow="fold")


def print_json(values: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print values as JSON, ASCII only, so that no name can command a terminal."""
    typer.echo(json.dumps(values, indent=2))


def stdout_console() -> "Console":
    """Return the console of stdout; text that is piped away is not cut to 80 columns."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH_OF_A_FILE
    return console


def print_heading(console: "Console", text: str) -> None:
    """Print a heading, after an empty line."""
    from rich.text import Text

    console.print()
    console.print(Text(text, style="bold"), soft_wrap=True)


def print_line(console: "Console", text: str) -> None:
    """Print one indented line; what could command a terminal is escaped."""
    from rich.text import Text

    console.print(Text(f"  {plain(text)}"), soft_wrap=True)


def make_table(*columns: str | tuple[str, Literal["left", "right"]]) -> "Table":
    """Return an empty table; a column is a name, or a name and the side that its cells keep to."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, header_style="bold", show_edge=False)
    for column in columns:
        name, side = (column, "left") if isinstance(column, str) else column
        table.add_column(name, justify="right" if side == "right" else "left")
    return table


INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C ended."""


ORDER = (
    "audit",
    "show",
    "review",
    "certify",
    "diff",
    "export",
    "check",
    "diagnose",
    "demo",
    "benchmark",
)
"""The commands in the order of the work, as the help lists them."""


class CommandGroup(TyperGroup):
    """Turns expected faults into two lines on stderr; a bug keeps its traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order of the work."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: (*ORDER, name).index(name))

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the command line; exit 130 on Ctrl-C."""
        with _interrupts_told():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit 1 on an expected fault, 130 on Ctrl-C."""
        with _interrupts_told(is_audit=ctx.invoked_subcommand == "audit"):
            try:
                with interrupts_kept(), spelled_as_options(), system_faults_told():
                    return super().invoke(ctx)
            except LabelfixError as error:
                if _is_interrupt(error):
                    raise
                _say("error", str(error), typer.colors.RED)
                if error.hint:
                    _say("hint", error.hint, typer.colors.CYAN)
                raise typer.Exit(1) from error


@contextmanager
def _interrupts_told(*, is_audit: bool = False) -> Iterator[None]:
    """End the command with a line, not with a traceback, where Ctrl-C stops the block."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, typer.Exit) or not _is_interrupt(error):
            raise
        hint = "; the same command with --resume goes on where it stopped" if is_audit else ""
        _say("interrupted", f"nothing half-written is left{hint}", typer.colors.YELLOW)
        sys.exit(INTERRUPTED)


def _is_interrupt(error: BaseException | None) -> bool:
    """Return whether Ctrl-C is behind an error.

    It may come while a library holds a lock, whose own error then takes its place.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What tells OpenMP how its threads wait for work: the standard's name, GNU's, and LLVM's."""


def let_idle_threads_sleep() -> None:
    """Tell OpenMP, before a library loads it, that a thread without work leaves its core.

    By default such threads spin for a while: on small data, or beside other work, that takes many
    times the processor time of the work itself. What the user has set is left as it is.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ["KMP_BLOCKTIME"] = "0"  # LLVM's threads spin for .2 s even if they are passive


def run_as_process(app: typer.Typer) -> None:
    """Run the command line as a process."""
    let_idle_threads_sleep()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(
            stream, "reconfigure"
        ):  # a name must not break a terminal that lacks its letters
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            with _interrupts_told(), interrupts_kept():
                app(prog_name="labelfix")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as in `labelfix show RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _say(what: str, text: str, color: str) -> None:
    typer.secho(f"{what}: ", err=True, fg=color, bold=True, nl=False)
    typer.echo(plain(" ".join(text.splitlines())), err=True)


def refuse_idle_options(ctx: typer.Context, *, used: Collection[str]) -> None:
    """Refuse options of ``audit`` that were given and have no use with ``--pred-probs``."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if parameter.name not in used and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                f"{parameter.opts[0]} has no use with --pred-probs: no images are looked at"
            )
