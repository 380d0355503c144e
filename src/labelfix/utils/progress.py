"""What every audit does, whatever it takes for evidence."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    """

    stage: str
    done: int
    total: int | None
    unit: str
    note: str = ""


class OnProgress(Protocol):
    """Takes progress as it happens; the command line draws it, a caller may ignore it."""

    def __call__(self, progress: Progress, /) -> None:
        """Take one step of progress."""
        ...


def no_progress(progress: Progress, /) -> None:
    """Ignore progress."""


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
