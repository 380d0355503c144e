"""Text for people and terminals: figures, times and names, and settings as JSON values."""

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from labelfix.arguments import named
from labelfix.errors import ConfigError

_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?) ?h)? ?(?:(\d+(?:\.\d+)?) ?m(?:in)?)? ?(?:(\d+(?:\.\d+)?) ?s)?"
)


def plain(text: str) -> str:
    r"""Return text with what could command or upset a terminal written as ``\x1b`` and the like.

    Control characters, marks that turn the direction of writing and half characters are escaped;
    letters of every script stay.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 label``, ``1,204 labels``.

    Args:
        count: How many.
        noun: One of them.
        plural: Several; "" puts an s behind ``noun``.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Return a time as ``42 s``, ``3:07 min`` or ``2:05 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    minutes = whole // 60
    return f"{minutes // 60}:{minutes % 60:02} h"


def seconds_of(value: str | float, argument: str) -> float:
    """Return the seconds that a text such as ``90s``, ``10m`` or ``1h30m`` means.

    Args:
        value: The text, or seconds.
        argument: What it is given for, as Python spells it.

    Raises:
        ConfigError: It is no duration, or none above 0.
    """
    seconds = _of_parts(value) if isinstance(value, str) else value
    if not 0 < seconds < math.inf:  # NaN fails too
        raise ConfigError(
            f"{named(argument)} {value!r} is no length of time",
            hint="write a number and a unit, such as 90s, 10m or 1h30m",
        )
    return seconds


def _of_parts(text: str) -> float:
    """Return the seconds of hours, minutes and seconds; NaN if it is not of that form."""
    match = _DURATION.fullmatch(text.strip().lower())
    parts = match.groups("") if match else ()
    if not any(parts):
        return math.nan
    return sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))


def about(seconds: float) -> str:
    """Return a time that was estimated, in words: ``about 7 minutes``."""
    for unit, length in (("hour", 3600), ("minute", 60)):
        # from 1.5 on, so that no estimate is off by half only because it was rounded
        if seconds >= 1.5 * length:
            return f"about {seconds / length:,.0f} {unit}s"
    return f"about {max(1, math.ceil(seconds / 10) * 10)} seconds"


def rate(per_second: float) -> str:
    """Return a rate as ``350/s``, or ``0.4/s`` for a slow one."""
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


def percent(share: float, digits: int = 1) -> str:
    """Return a share as ``78.0 %``, so that only certainty reads as 100 % and only none as 0 %."""
    step = 10.0**-digits / 100
    if 1 - step / 2 < share < 1:
        return f">{100 * (1 - step):.{digits}f} %"
    if 0 < share < step / 2:
        return f"<{100 * step:.{digits}f} %"
    return f"{100 * share:.{digits}f} %"


def version_of(name: str) -> str:
    """Return the version of an installed library; ``unknown`` where only its sources are there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Return name to version of those libraries that are installed."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def as_json(value: Any) -> Any:
    """Return a configuration as JSON values: paths and infinities become text, tuples lists."""
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    is_endless = isinstance(value, float) and not math.isfinite(value)  # JSON has no such number
    return str(value) if is_endless or isinstance(value, Path) else value
