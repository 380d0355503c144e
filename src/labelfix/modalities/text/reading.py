"""From the bytes of a sample to its text, and from a text to the shingles that copies share.

Letters: S shingles of a text.
"""

import codecs
import re

import numpy as np
from numpy.typing import NDArray

from labelfix.data.texts import PART_SEPARATOR
from labelfix.errors import UnreadableSample

SHINGLE = 5
"""Characters of a shingle: a run of a text, that near-copies share and other texts do not."""

SKETCH = 256
"""How many shingles are kept of a long text: those of the smallest hashes (Broder 1997)."""

PHRASE = 8
"""Words of a phrase that texts from one template begin or end with."""

PHRASES = 5
"""So many phrases are looked at from each end of a text: a name or a number may come before."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_WORDS = re.compile(r"(?:[^\w$€£¥₹%]|_)+")
_ODD = np.uint64(0x9E3779B97F4A7C15)


def decode_text(data: bytes) -> str:
    """Return the text of a sample; what is not UTF-8 is taken for Windows-1252.

    Args:
        data: The bytes; a byte order mark names the encoding.

    Raises:
        UnreadableSample: There is nothing in it, or it is no text.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    try:
        text = data.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise UnreadableSample(f"not text in {encoding}: {error.reason}") from error
        text = data.decode("cp1252", "replace")
    if "\0" in text:
        raise UnreadableSample("not text: it has NUL characters in it")
    if not text.replace(PART_SEPARATOR, "").strip():
        raise UnreadableSample("the text is empty")
    return text


def fault_of(data: bytes) -> str | None:
    """Return why the bytes of a sample cannot be used as a text, ``None`` if they can."""
    try:
        decode_text(data)
    except UnreadableSample as error:
        return str(error)
    return None


def shown_text(data: bytes) -> str:
    """Return the text of a sample as people see it: two texts that belong together apart.

    Raises:
        UnreadableSample: There is none.
    """
    return decode_text(data).replace(PART_SEPARATOR, "\n\n")


def phrases(text: str) -> list[str]:
    """Return the phrases of `PHRASE` words at both ends of a text, each once.

    Case and punctuation make no difference; a text of fewer words has none.
    """
    reach = PHRASE + PHRASES - 1
    if len(text.split(None, reach)) < PHRASE:
        return []
    first = " ".join(text.split(None, reach)[:reach])
    last = " ".join(text.rsplit(None, reach)[-reach:])
    found: dict[str, None] = {}
    for words in (_words(first)[:reach], _words(last)[-reach:]):
        for place in range(len(words) - PHRASE + 1):
            found[" ".join(words[place : place + PHRASE])] = None
    return list(found)


def _words(text: str) -> list[str]:
    return _NOT_WORDS.sub(" ", text.casefold()).split()


def shingles(text: str) -> NDArray[np.uint32]:
    """Return ``(S,)`` hashes of the shingles of a text, rising, the `SKETCH` smallest at most.

    Case, white space and punctuation make no difference, but signs of currencies and per cent do;
    of a text without a word all does.
    """
    plain = _NOT_WORDS.sub(" ", text.casefold()).strip() or text
    points = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    width = min(SHINGLE, len(points))
    with np.errstate(over="ignore"):
        mixed = np.zeros(len(points) - width + 1, np.uint64)
        for place in range(width):
            mixed = (mixed + points[place : place + len(mixed)]) * _ODD
            mixed ^= mixed >> np.uint64(29)
        hashes = (mixed * _ODD) >> np.uint64(32)
    return np.unique(hashes.astype(np.uint32))[:SKETCH]
