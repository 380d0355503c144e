"""Progress on stderr: bars on a terminal and in Jupyter, a few plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from labelfix.utils.interrupts import heeding_interrupts
from labelfix.utils.progress import OnProgress, Progress, no_progress
from labelfix.utils.text import duration, plain, rate

PLAIN_EVERY = 30.0
"""Seconds between two plain lines of one stage."""


@contextmanager
def shown_progress(
    *, quiet: bool = False, first: str = "", plain_lines: bool = True
) -> Iterator[OnProgress]:
    """Yield what draws progress on stderr for as long as the block runs.

    Args:
        quiet: Draw nothing.
        plain_lines: Whether to print lines where nobody may be looking: into a file, say.
        first: What goes on before the block reports anything; shown on a terminal.
    """
    console = Console(stderr=True)
    if quiet or not (plain_lines or console.is_terminal or console.is_jupyter):
        yield heeding_interrupts(no_progress)
    elif _draws_bars(console):
        with _bars(console) as bars:
            drawing = _Drawn(bars)
            if first:
                drawing(Progress(first, 0, None, ""))
            yield heeding_interrupts(drawing)
            drawing.end_stage()
    elif console.is_jupyter:
        line = _OneLine()
        yield heeding_interrupts(line)
        line.show("")
    else:
        lines = _Lines(console)
        yield heeding_interrupts(lines)
        lines.end_stage()


def _draws_bars(console: Console) -> bool:
    """Return whether bars can move here; in Jupyter rich moves them by ipywidgets."""
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    return console.is_terminal


def _bars(console: Console) -> Bars:
    return Bars(
        SpinnerColumn(finished_text="[green]*"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        _Figures(),
        console=console,
        refresh_per_second=4,
        speed_estimate_period=20,
    )


class _Figures(ProgressColumn):
    """How much is done, how fast, and how long it will still take."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        done, unit, note = int(task.completed), task.fields["unit"], task.fields["note"]
        if task.finished:
            parts = [_finished(done, unit, task.finished_time or 0)]
        elif task.total is None:
            parts = [f"{done:,} {unit}" if done else ""]
        else:
            parts = [f"{done:,} of {int(task.total):,} {unit}", *_pace(task)]
        return Text("  ".join([*parts, *([note] if note else [])]))


def _finished(done: int, unit: str, seconds: float) -> str:
    """Return how much was done in what time; of one step only the time is worth saying."""
    what = f"{done:,} {unit} in " if done > 1 else ""
    return what + duration(seconds)


def _pace(task: Task) -> list[str]:
    if not task.speed or task.time_remaining is None:
        return []
    return [rate(task.speed), f"{duration(task.time_remaining)} left"]


class _Drawn:
    """Draws a bar for each stage."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._stage = ""
        self._task: TaskID | None = None

    def __call__(self, progress: Progress, /) -> None:
        if progress.is_remark:
            self._bars.console.print(Text(plain(progress.stage)))  # which folds it by words
            return
        if self._task is None or progress.stage != self._stage:
            self.end_stage()
            self._stage = progress.stage
            self._task = self._bars.add_task(plain(progress.stage), total=None, unit="", note="")
        self._bars.update(
            self._task,
            total=progress.total,
            completed=progress.done,
            unit=plain(progress.unit),
            note=plain(progress.note),
        )

    def end_stage(self) -> None:
        """Let the bar of the stage stand full: the next stage has begun."""
        if self._task is not None:
            done = self._bars.tasks[self._task].completed
            self._bars.update(self._task, total=done, completed=done)
            self._task = None


class _OneLine:
    """Shows the stage that goes on in one line of a notebook, where no bars can move."""

    def __init__(self) -> None:
        display: Any = import_module("IPython.display").display
        self._handle = display({"text/plain": ""}, raw=True, display_id=True)
        self._stage, self._spoke = "", 0.0

    def __call__(self, progress: Progress, /) -> None:
        now = time.monotonic()
        if progress.is_remark or (progress.stage == self._stage and now - self._spoke < 1):
            return
        self._stage, self._spoke = progress.stage, now
        counted = "" if progress.total is None else f" of {progress.total:,} {progress.unit}"
        done = f": {progress.done:,}{counted}" if counted else " ..."
        self.show(plain(progress.stage) + done)

    def show(self, text: str) -> None:
        """Put a text in the place of the last one."""
        self._handle.update({"text/plain": text}, raw=True)


class _Lines:
    """Prints a line when a stage begins, when it ends, and now and then between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: Progress | None = None
        self._began = self._spoke = 0.0
        self._done_before = 0
        self._ended = False

    def __call__(self, progress: Progress, /) -> None:
        if progress.is_remark:
            self._say(progress.stage)
            return
        now = time.monotonic()
        if self._last is None or progress.stage != self._last.stage:
            self.end_stage()
            self._began, self._spoke, self._done_before = now, now, progress.done
            self._ended = False
            of = "" if progress.total is None else f" {progress.total:,} {progress.unit}"
            self._say(f"{progress.stage}:{of} ...")
        self._last = progress
        if progress.done == progress.total:
            self.end_stage()
        elif not self._ended and now - self._spoke >= PLAIN_EVERY:
            self._spoke = now
            self._say(self._between(progress, now - self._began))

    def end_stage(self) -> None:
        """Say that the stage is over, once."""
        if self._last is None or self._ended:
            return
        self._ended = True
        last, took = self._last, time.monotonic() - self._began
        note = f", {last.note}" if last.note else ""
        self._say(f"{last.stage}: {_finished(last.done, last.unit, took)}{note}")

    def _between(self, progress: Progress, took: float) -> str:
        speed = (progress.done - self._done_before) / took
        if progress.total is None:
            return f"{progress.stage}: {progress.done:,} {progress.unit}, {rate(speed)}"
        left = f", {duration((progress.total - progress.done) / speed)} left" if speed > 0 else ""
        return (
            f"{progress.stage}: {progress.done:,} of {progress.total:,} {progress.unit}, "
            f"{rate(speed)}{left}"
        )

    def _say(self, line: str) -> None:
        self._console.print(Text(plain(line)), soft_wrap=True)
