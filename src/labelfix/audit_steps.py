"""What every audit does, whatever it takes for evidence."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelfix.records import OnProgress, Progress
from labelfix.report import Report


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What an audit left behind.

    Args:
        run: The RUN folder.
        report: What was found; also in ``run/report.parquet``. Of probabilities that were given,
            the table here lacks ``pred_probs``, which is most of a report when K is large.
    """

    run: Path
    report: Report


@dataclass(slots=True)
class Clock:
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


def as_json(value: Any) -> Any:
    """Return a configuration as JSON values: paths and infinities become text, tuples lists."""
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    is_endless = isinstance(value, float) and not math.isfinite(value)  # JSON has no such number
    return str(value) if is_endless or isinstance(value, Path) else value
