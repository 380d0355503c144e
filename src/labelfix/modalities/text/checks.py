"""The checks of texts: length, broken encoding, another script or language, boilerplate.

Letters: N rows. Scores are in [0, 1], and low is bad.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelfix.config import IssueConfig
from labelfix.modalities.base import IssueCheck
from labelfix.modalities.text.statistics import TextStatistics

ODD_SPREADS = 3.0
"""A length may leave the median by so many distances between its quartiles, in octaves ..."""

LEAST_ALLOWED = 2.0
"""... and by so many octaves in any case: a quarter, or four times, the usual is not odd."""

USUAL_SHARE = 0.05
"""A script or a language in which so many of the texts are written is usual."""

MANY_SHARE = 0.01
"""A phrase at an end of a text is boilerplate if a larger share of the other texts has it ..."""

MANY = 20
"""... and more than so many."""

Scores: TypeAlias = NDArray[np.float32]


def too_short_score(texts: TextStatistics) -> Scores:
    """Return ``(N,)`` 1 for the median length or more, 1/2 for the least that is allowed."""
    return _distance_score(texts, -1)


def too_long_score(texts: TextStatistics) -> Scores:
    """Return ``(N,)`` 1 for the median length or less, 1/2 for the most that is allowed."""
    return _distance_score(texts, 1)


def broken_encoding_score(texts: TextStatistics) -> Scores:
    """Return ``(N,)`` 1 / (1 + broken characters)."""
    return (1 / (1 + texts.broken)).astype(np.float32)


def other_script_score(texts: TextStatistics) -> Scores:
    """Return ``(N,)`` the share of the letters that are of a usual script; 1 without letters."""
    has_letters = texts.scripts.any(axis=1)
    main = texts.scripts[has_letters].argmax(axis=1)
    share = np.bincount(main, minlength=texts.scripts.shape[1]) / max(1, len(main))
    score = texts.scripts @ np.minimum(1, share / USUAL_SHARE).astype(np.float32)
    return np.where(has_letters, score, 1).clip(0, 1).astype(np.float32)


def other_language_score(texts: TextStatistics) -> Scores:
    """Return ``(N,)`` 1 - the probability of a text's language, or 1 if that is a usual one."""
    is_known = texts.language != ""
    names, place = np.unique(texts.language, return_inverse=True)
    counts = np.bincount(place[is_known], minlength=len(names))
    is_usual = counts[place] >= USUAL_SHARE * is_known.sum()
    score: Scores = np.where(is_usual | ~is_known, 1, 1 - texts.language_probability)
    return score.clip(0, 1).astype(np.float32)


def boilerplate_score(texts: TextStatistics) -> Scores:
    """Return ``(N,)`` 1 for phrases that no other text has, 1/2 for as many as are allowed."""
    is_there = texts.phrases != 0
    _, place, counts = np.unique(texts.phrases, return_inverse=True, return_counts=True)
    shared = np.where(is_there, counts[place.reshape(texts.phrases.shape)] - 1, 0)
    allowed = max(MANY, MANY_SHARE * len(shared))
    score: Scores = 1 - shared.max(axis=1, initial=0) / (2 * allowed)
    return score.clip(0, 1).astype(np.float32)


def _distance_score(texts: TextStatistics, side: int) -> Scores:
    octaves = np.log2(texts.length.clip(1))
    low, middle, high = np.quantile(octaves, [0.25, 0.5, 0.75]) if octaves.size else (0, 0, 0)
    allowed = max(LEAST_ALLOWED, ODD_SPREADS * (high - low))
    beyond = (side * (octaves - middle)).clip(0)
    score: Scores = (1 - beyond / (2 * allowed)).clip(0, 1).astype(np.float32)
    return score


_THRESHOLDS = IssueConfig()

TEXT_CHECKS = (
    IssueCheck(
        "too_short",
        "Whether the text is much shorter than the others.",
        "How usual it is for a text to be as short, 0 (far too short) to 1 (the median and above); "
        "0.5 is three times the distance between the quartiles below the median, and at least two "
        "octaves, of the number of characters",
        "much shorter than the other texts",
        _THRESHOLDS.too_short,
        too_short_score,
        found="much shorter than the others",
    ),
    IssueCheck(
        "too_long",
        "Whether the text is much longer than the others.",
        "How usual it is for a text to be as long, 0 (far too long) to 1 (the median and below); "
        "0.5 is three times the distance between the quartiles above the median, and at least two "
        "octaves, of the number of characters",
        "much longer than the other texts",
        _THRESHOLDS.too_long,
        too_long_score,
        found="much longer than the others",
    ),
    IssueCheck(
        "broken_encoding",
        "Whether characters of the text were broken by a wrong encoding.",
        "1 / (1 + the number of broken characters), such as \u00e3\u00a9 in place of \u00e9",
        "its characters were broken by a wrong encoding",
        _THRESHOLDS.broken_encoding,
        broken_encoding_score,
        found="with characters that a wrong encoding broke",
    ),
    IssueCheck(
        "other_script",
        "Whether the text is written in another script than the others.",
        "The share of its letters, 0 to 1, in a script in which at least one in 20 texts is "
        "written; letters of a rarer script count in proportion",
        "in another script than the other texts",
        _THRESHOLDS.other_script,
        other_script_score,
        found="in another script than the others",
    ),
    IssueCheck(
        "other_language",
        "Whether the text is written in another language than the others.",
        "1 for a language in which at least one in 20 texts is written; 1 - the probability of its "
        "language, as py3langid tells it, for a rarer one",
        "in another language than the other texts",
        _THRESHOLDS.other_language,
        other_language_score,
        found="in another language than the others",
    ),
    IssueCheck(
        "boilerplate",
        "Whether the text begins or ends with words that many of the texts have.",
        "1 - n / 2m, at least 0: n other texts have the same 8 words in a row among the first or "
        "the last 12; m is one in 100 of the texts, and at least 20",
        "begins or ends with the same words as many other texts",
        _THRESHOLDS.boilerplate,
        boilerplate_score,
        found="that begin or end with the same words as many others",
    ),
)
"""In the order of the report."""
