"""Text for people and terminals: figures, times and names, and settings as JSON values."""

import math
from pathlib import Path
from typing import Any


def plain(text: str) -> str:
    r"""Return text with what could command or upset a terminal written as ``\x1b`` and the like.

    Control characters, marks that turn the direction of writing and half characters are escaped;
    letters of every script stay.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def duration(seconds: float) -> str:
    """Return a time as ``42 s``, ``3:07 min`` or ``2:05 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    minutes = whole // 60
    return f"{minutes // 60}:{minutes % 60:02} h"


def rate(per_second: float) -> str:
    """Return a rate as ``350/s``, or ``0.4/s`` for a slow one."""
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


def percent(share: float) -> str:
    """Return a probability so that only certainty reads as 100 %."""
    return f"{share:.1%}" if share <= 0.999 or share == 1 else ">99.9%"


def as_json(value: Any) -> Any:
    """Return a configuration as JSON values: paths and infinities become text, tuples lists."""
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    is_endless = isinstance(value, float) and not math.isfinite(value)  # JSON has no such number
    return str(value) if is_endless or isinstance(value, Path) else value
