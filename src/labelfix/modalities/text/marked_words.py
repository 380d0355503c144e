"""Mark the words of a text that speak for one class rather than another.

A word speaks for a class by how much more often texts of that class hold it: the log-odds ratio of
Monroe, Colaresi and Quinn, "Fightin' Words: Lexical Feature Selection and Evaluation for
Identifying the Content of Political Conflict" (Political Analysis, 2008), equations 15 to 22, with
the words of all texts as the prior. The network and its heads are not asked: who reviews a report
has neither.

Letters: N texts, K classes.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelfix.errors import UnreadableSample
from labelfix.modalities.base import MarkedPart
from labelfix.types import MISSING

MOST_TEXTS = 20_000
"""Texts that are counted: more make a review wait."""

MOST_MARKED = 5
"""Words that are marked for each class."""

_LEAST_Z = 1.645
"""Of the log-odds ratio: one word in twenty that says nothing is above."""

_PRIOR_TEXTS = 10.0
"""What the prior weighs, as so many texts of each class."""

_LOOKED_AT = 20_000
"""Characters of a text that are read."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


@dataclass(frozen=True, slots=True, eq=False)
class WordMarker:
    """How many texts of each class hold each word.

    Args:
        read: Returns the text of a row, or raises `UnreadableSample`.
        label: ``(N,)`` codes in ``[0, K)`` that the words were counted by; ``MISSING`` where a text
            was not counted.
        texts: Counted ones of each class.
        holding: By word, and by class, how many of them hold it.
    """

    read: Callable[[int], str]
    label: NDArray[np.int64]
    texts: Counter[int]
    holding: dict[str, Counter[int]]

    @classmethod
    def of(cls, read: Callable[[int], str], label: NDArray[np.int64]) -> "WordMarker":
        """Count the words of texts whose label is trusted, of `MOST_TEXTS` at most.

        Args:
            read: Returns the text of a row, or raises `UnreadableSample`.
            label: ``(N,)`` codes; ``MISSING`` leaves a text out.
        """
        rows = np.flatnonzero(label != MISSING)
        if len(rows) > MOST_TEXTS:
            rows = rows[np.linspace(0, len(rows) - 1, MOST_TEXTS).astype(np.int64)]
        counted = np.full(len(label), MISSING)
        texts: Counter[int] = Counter()
        holding: dict[str, Counter[int]] = defaultdict(Counter)
        for row in rows.tolist():
            try:
                text = read(row)
            except UnreadableSample:
                continue
            counted[row] = code = int(label[row])
            texts[code] += 1
            for word in _words(text):
                holding[word][code] += 1
        return cls(read, counted, texts, dict(holding))

    def parts(self, row: int, given: int, other: int) -> list[MarkedPart]:
        """Return the text of a row in parts; those that are words for a class say for which.

        Args:
            row: Of the text; what it counted for its own label does not count.
            given: Code of the class that is its label.
            other: Code of the class that the given one is compared with.

        Raises:
            UnreadableSample: There is no text.
        """
        text = self.read(row)
        scores = {word: self._z(word, row, given, other) for word in _words(text)}
        by_score = sorted(scores, key=lambda word: (-abs(scores[word]), word))
        strong = [word for word in by_score if abs(scores[word]) >= _LEAST_Z]
        of_given = [word for word in strong if scores[word] > 0][:MOST_MARKED]
        of_other = [word for word in strong if scores[word] < 0][:MOST_MARKED]
        speaks_for = dict.fromkeys(of_given, given) | dict.fromkeys(of_other, other)
        return _in_parts(text, speaks_for)

    def _z(self, word: str, row: int, given: int, other: int) -> float:
        """Return the z-score of the log-odds ratio: above 0 speaks for the given class."""
        holding = self.holding.get(word, Counter())
        share = sum(holding.values()) / max(1, sum(self.texts.values()))
        prior = max(share, 1e-6) * _PRIOR_TEXTS
        odds, variance = [], 0.0
        for code in (given, other):
            is_own = int(self.label[row] == code)
            held = max(0, holding[code] - is_own)
            texts = max(held, self.texts[code] - is_own)
            odds.append(math.log((held + prior) / (texts + _PRIOR_TEXTS - held - prior + 1e-9)))
            variance += 1 / (held + prior)
        return (odds[0] - odds[1]) / math.sqrt(variance)


def _words(text: str) -> set[str]:
    return {match.group().casefold() for match in _WORD.finditer(text[:_LOOKED_AT])}


def _in_parts(text: str, speaks_for: dict[str, int]) -> list[MarkedPart]:
    parts, end = [], 0
    for match in _WORD.finditer(text):
        code = speaks_for.get(match.group().casefold())
        if code is None:
            continue
        if match.start() > end:
            parts.append(MarkedPart(text[end : match.start()]))
        parts.append(MarkedPart(match.group(), code))
        end = match.end()
    if end < len(text):
        parts.append(MarkedPart(text[end:]))
    return parts
