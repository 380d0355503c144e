"""Which tab has which samples in hand, so that people who review at once see different ones.

Held in memory for some minutes: a tab that was closed gives its samples back by itself. Nothing
depends on it for safety: a decision is refused if somebody else has decided meanwhile.
"""

import time
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

LASTING = 300.0
"""Seconds for which a sample is a tab's after it was last asked for or held on to."""


class Leases:
    """The samples that tabs have in hand; not safe to use from several threads.

    Args:
        rows: How many samples there are, N.
        clock: Tells the time in seconds.
    """

    def __init__(self, rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows = rows
        self._clock = clock
        self._holder: dict[int, str] = {}
        self._until: dict[str, float] = {}

    def taken(self, tab: str) -> NDArray[np.bool_]:
        """Return ``(N,)`` which samples other tabs have in hand."""
        self._forget()
        is_taken = np.zeros(self._rows, np.bool_)
        others = [row for row, holder in self._holder.items() if holder != tab]
        is_taken[others] = True
        return is_taken

    def take(self, tab: str, rows: Iterable[int]) -> None:
        """Give samples that nobody else has to a tab."""
        self._forget()
        for row in rows:
            self._holder.setdefault(row, tab)
        self.hold(tab)

    def hold(self, tab: str) -> None:
        """Let a tab keep what it has."""
        self._until[tab] = self._clock() + LASTING

    def release(self, tab: str) -> None:
        """Take back all that a tab has."""
        self._until.pop(tab, None)
        self._holder = {row: holder for row, holder in self._holder.items() if holder != tab}

    def _forget(self) -> None:
        now = self._clock()
        for tab in [tab for tab, until in self._until.items() if until <= now]:
            self.release(tab)
