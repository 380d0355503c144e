"""What every audit does, whatever it takes for evidence."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a long stage, for a progress display.

    Args:
        stage: What is going on, as progress shows it.
        done: How many units are finished.
        total: How many there are; ``None`` while that is not known.
        unit: What is counted, in the plural.
        note: A figure worth seeing (a loss, a rate), or "".
        is_remark: Whether ``stage`` is a line to be printed once, and nothing that goes on.
    """

    stage: str
    done: int
    total: int | None
    unit: str
    note: str = ""
    is_remark: bool = False


class OnProgress(Protocol):
    """Takes progress as it happens; the command line draws it, a caller may ignore it."""

    def __call__(self, progress: Progress, /) -> None:
        """Take one step of progress."""
        ...


def no_progress(progress: Progress, /) -> None:
    """Ignore progress."""


def remark(text: str) -> Progress:
    """Return a line that stays on the terminal, between the stages."""
    return Progress(text, 0, None, "", is_remark=True)


class SharedStage:
    """One stage of several parts that go on at once: their units add up.

    Args:
        stage: What is going on.
        totals: How many units each part has.
        on_progress: Told whenever a part is; calls come from one thread at a time.
    """

    def __init__(self, stage: str, totals: Sequence[int], on_progress: OnProgress) -> None:
        self._stage, self._total, self._on_progress = stage, sum(totals), on_progress
        self._done = [0] * len(totals)
        self._lock = Lock()

    def of_part(self, number: int) -> OnProgress:
        """Return what takes the progress of one part."""

        def report(progress: Progress, /) -> None:
            with self._lock:
                self._done[number] = progress.done
                done = sum(self._done)
                self._on_progress(
                    Progress(self._stage, done, self._total, progress.unit, progress.note)
                )

        return report


@dataclass(slots=True)
class StageTimer:
    """How long each stage took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note how long the block takes, under a name."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


@contextmanager
def said(stage: str, on_progress: OnProgress) -> Iterator[None]:
    """Tell of a stage of one step when it begins and when it ends."""
    on_progress(Progress(stage, 0, None, "steps"))
    yield
    on_progress(Progress(stage, 1, 1, "steps"))
