"""Sizes of memory as people write them: ``4GiB``, ``800MB``."""

import math
import re

from labelfix.arguments import named
from labelfix.errors import ConfigError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_LEAST = 1 << 20


def bytes_of(text: str, argument: str) -> int:
    """Return the bytes that a text such as ``4GiB``, ``800MB`` or ``1.5g`` means.

    ``KiB``, ``MiB``, ``GiB`` and ``TiB`` are powers of 1,024; without the ``i`` they are of 1,000.

    Args:
        text: The text; a number alone counts bytes.
        argument: What it is given for, as Python spells it.

    Raises:
        ConfigError: It is no size, or less than a mebibyte.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    fault = "no size"
    if match:
        number, unit, binary = match.groups()
        size = float(number) * (1024 if binary else 1000) ** _POWERS[unit]
        if _LEAST <= size < math.inf:
            return int(size)
        fault = "out of range" if size >= _LEAST else "less than 1 MiB"
        fault += "" if unit else ", as it has no unit"
    raise ConfigError(
        f"{named(argument)} {text!r} is {fault}",
        hint="write a number and a unit, such as 4GiB or 512MiB",
    )


def told_bytes(size: float) -> str:
    """Return a size for people to read: ``3.20 GiB`` or ``410 MiB``."""
    gib = size / 2**30
    return f"{gib:.2f} GiB" if gib >= 1 else f"{max(1, math.ceil(size / 2**20))} MiB"
