"""What is known of each text besides its features: its length, script, language and copies.

Letters: N texts, E pairs, W kinds of script, S shingles of all texts, P phrases of a text.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from labelfix.data.texts import PART_SEPARATOR
from labelfix.modalities.text.reading import PHRASES, SKETCH, phrases, shingles

SCRIPTS = (
    "LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "CJK", "HIRAGANA", "KATAKANA", "HANGUL",
    "DEVANAGARI", "BENGALI", "TAMIL", "TELUGU", "THAI", "GEORGIAN", "ARMENIAN", "ETHIOPIC",
    "OTHER",
)  # fmt: skip
"""The first word of the Unicode name of a letter; all that are not listed are the last."""

_SAME = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}
"""Scripts that one language mixes."""

_PLACE = {name: SCRIPTS.index(_SAME.get(name, name)) for name in SCRIPTS}
_LOOKED_AT = 20_000
"""Characters of a text whose scripts are counted."""

_LEAST_LETTERS = 12
"""Of fewer characters nobody can tell the language."""

_MOST_READ = 1_000
"""Characters of a text that its language is told from."""

_AS_BYTE = {
    ord(char): byte
    for byte in range(0x80, 0xA0)
    if (char := bytes([byte]).decode("cp1252", "ignore"))
}
_BROKEN = re.compile("[\ufffd\x80-\x9f]")
_UTF8_AS_LATIN = re.compile(
    "[\xc2\xc3\xd0\xd1\xd8\xd9][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|\xf0[\x80-\xbf]{3}"
)
"""UTF-8 of a letter that was read as Windows-1252. Of two bytes only leads that hardly any
language writes before a sign: a French capital letter before a quotation mark is no fault."""

_PAIRS = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class TextStatistics:
    """What each text is like as a whole; zeros where it cannot be read.

    Args:
        length: ``(N,)`` int64, characters.
        broken: ``(N,)`` int32: characters that an encoding has broken.
        scripts: ``(N, W)`` float32: the share of the letters that each script has.
        language: ``(N,)`` codes of ISO 639, such as ``en``; "" where a text is too short to tell.
        language_probability: ``(N,)`` float32 in [0, 1], of that language.
        starts: ``(N + 1,)`` int64: where the shingles of each text begin.
        hashes: ``(S,)`` uint32: the shingles, rising for each text.
        phrases: ``(N, P)`` uint64: hashes of the phrases at both ends, 0 where there are fewer.
    """

    length: NDArray[np.int64]
    broken: NDArray[np.int32]
    scripts: NDArray[np.float32]
    language: NDArray[np.str_]
    language_probability: NDArray[np.float32]
    starts: NDArray[np.int64]
    hashes: NDArray[np.uint32]
    phrases: NDArray[np.uint64]

    def of(self, rows: NDArray[np.int64]) -> "TextStatistics":
        """Return those of some rows, in that order."""
        sizes = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        return TextStatistics(
            self.length[rows],
            self.broken[rows],
            self.scripts[rows],
            self.language[rows],
            self.language_probability[rows],
            starts,
            self.hashes[_places(self.starts, rows, sizes)],
            self.phrases[rows],
        )


def text_statistics(texts: Sequence[str | None]) -> TextStatistics:
    """Return the statistics of N texts, ``None`` where one cannot be read."""
    found = [shingles(text) if text else np.empty(0, np.uint32) for text in texts]
    language_of = _language_reader()
    languages = [language_of(text or "") for text in texts]
    return TextStatistics(
        length=np.array([len(text or "") for text in texts], np.int64),
        broken=np.array([_broken(text or "") for text in texts], np.int32),
        scripts=np.array([_scripts(text or "") for text in texts], np.float32).reshape(
            len(texts), len(SCRIPTS)
        ),
        language=np.array([code for code, _ in languages], np.str_),
        language_probability=np.array([chance for _, chance in languages], np.float32),
        starts=np.concatenate([[0], np.cumsum([len(one) for one in found], dtype=np.int64)]),
        hashes=np.concatenate([np.empty(0, np.uint32), *found]),
        phrases=_hashed_phrases(texts),
    )


def _hashed_phrases(texts: Sequence[str | None]) -> NDArray[np.uint64]:
    """Return ``(N, P)`` hashes of the phrases at both ends of texts, 0 where there are fewer."""
    from pandas.util import hash_array  # noqa: PLC0415 - who reads a report needs no pandas

    found = [phrases(text) if text else [] for text in texts]
    rows = np.repeat(np.arange(len(found)), [len(one) for one in found])
    places = np.concatenate([np.empty(0, np.int64), *(np.arange(len(one)) for one in found)])
    hashed = np.zeros((len(found), 2 * PHRASES), np.uint64)
    flat = np.array([phrase for one in found for phrase in one], object)
    hashed[rows, places] = hash_array(flat)
    return hashed


def shingle_similarity(
    texts: TextStatistics, first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return ``(E,)`` the Jaccard index of the shingles of each pair: 1 if all are the same.

    Of long texts it is estimated from their sketches.
    """
    alike = np.zeros(len(first), np.float32)
    for start in range(0, len(first), _PAIRS):
        part = slice(start, start + _PAIRS)
        alike[part] = _jaccard(texts, first[part], second[part])
    return alike


def _jaccard(
    texts: TextStatistics, first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.float32]:
    sizes = np.diff(texts.starts)
    keys = []
    for rows in (first, second):
        pair = np.repeat(np.arange(len(rows)), sizes[rows]).astype(np.uint64)
        hashes = texts.hashes[_places(texts.starts, rows, sizes[rows])]
        keys.append((pair << np.uint64(32)) | hashes)
    joined, counts = np.unique(np.concatenate(keys), return_counts=True)
    pair = (joined >> np.uint64(32)).astype(np.int64)
    begin = np.searchsorted(pair, np.arange(len(first)))
    rank = np.arange(len(joined)) - begin[pair]
    is_whole = np.maximum(sizes[first], sizes[second]) < SKETCH
    is_counted = is_whole[pair] | (rank < SKETCH)  # the smallest of both are a fair sample
    shared = np.bincount(pair[is_counted & (counts == 2)], minlength=len(first))
    both = np.bincount(pair[is_counted], minlength=len(first))
    return (shared / np.maximum(both, 1)).astype(np.float32)


def _places(
    starts: NDArray[np.int64], rows: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return where the entries of some rows lie, one row after the other."""
    ends = np.cumsum(sizes)
    within = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - sizes, sizes)
    places: NDArray[np.int64] = np.repeat(starts[rows], sizes) + within
    return places


def _broken(text: str) -> int:
    """Return how many characters of a text an encoding has broken."""
    if text.isascii():
        return 0
    return len(_BROKEN.findall(text)) + len(_UTF8_AS_LATIN.findall(text.translate(_AS_BYTE)))


@cache
def _language_reader() -> Callable[[str], tuple[str, float]]:
    """Return what tells the language of a text, and how probable that is."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415 - it takes a second

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def language_of(text: str) -> tuple[str, float]:
        text = text[:_MOST_READ].replace(PART_SEPARATOR, " ")
        if sum(map(str.isalpha, text)) < _LEAST_LETTERS:
            return "", 0.0
        code, chance = identifier.classify(text)
        return str(code), float(chance)

    return language_of


def _scripts(text: str) -> NDArray[np.float32]:
    """Return ``(W,)`` the share of the letters that each script has, zeros without a letter."""
    shares = np.zeros(len(SCRIPTS), np.float32)
    text = text[:_LOOKED_AT]
    if text.isascii():
        shares[0] = any(map(str.isalpha, text))
        return shares
    for char in text:
        if char.isalpha():
            script = unicodedata.name(char, "").partition(" ")[0]
            shares[_PLACE.get(script, len(SCRIPTS) - 1)] += 1
    return shares / max(1.0, float(shares.sum()))
