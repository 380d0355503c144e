"""Texts in a column of a table, or in two that belong together.

Which columns hold texts is told by the user, by names such as ``text`` or ``review``, or by what
the columns hold: the longest free text. A table with a column of images or paths holds images.

Letters: N rows.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.config import DatasetConfig
from labelfix.data.columns import (
    IMAGE_NAMES,
    LABEL_NAMES,
    SPLIT_NAMES,
    first_column,
    named_column,
    plain_name,
)
from labelfix.errors import DatasetError, UnreadableSample
from labelfix.types import Assumption

MODALITY = "text"
"""The name of the modality of texts."""

PART_SEPARATOR = "\x1e"
"""Stands between the texts of two columns (a record separator, which no text has)."""

TEXT_NAMES = (
    "text", "sentence", "review", "content", "question", "utterance", "body", "message", "comment",
    "tweet", "description", "document", "query", "abstract", "post", "review_text", "review_body",
    "full_text", "sentence_text", "raw_text", "clean_text", "texts", "sentences", "reviews",
    "headline", "title", "summary", "prompt", "input", "inputs", "request", "ticket", "transcript",
)  # fmt: skip
"""Names of a column of texts, the best first."""

PAIR_NAMES = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("sentence_1", "sentence_2"),
    ("question1", "question2"), ("question_1", "question_2"), ("text1", "text2"),
    ("text_1", "text_2"), ("text_a", "text_b"), ("sentence_a", "sentence_b"),
)  # fmt: skip
"""Names of two columns that one label is about."""

_OTHERS = frozenset(
    (*SPLIT_NAMES, "id", "sample_id", *(name for tier in LABEL_NAMES for name in tier))
)
_PEEKED = 1000
_LEAST_WORDS = 3.0
"""Words that the cells of a column of free text have on average, at least."""

_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"


@dataclass(frozen=True, slots=True)
class TextColumns:
    """Which columns hold the texts.

    Args:
        names: One or more, in order; empty if none does.
        assumptions: What was taken for granted.
    """

    names: tuple[str, ...] = ()
    assumptions: tuple[Assumption, ...] = ()


Peek = Callable[[Sequence[str]], Mapping[str, pa.Array]]
"""Returns the first cells of columns as text."""


def find_text_columns(
    names: Sequence[str], config: DatasetConfig, where: str, peek: Peek
) -> TextColumns:
    """Return the columns of a table that hold texts; none if it holds images.

    Args:
        names: The columns that are there.
        config: The columns that the user named.
        where: The table, as messages name it.
        peek: Asked only if no name tells.

    Raises:
        DatasetError: A column that the user named is not there, or holds the labels.
    """
    if config.text_column:
        found = (named_column(names, name, "text", where) for name in config.text_column)
        return TextColumns(tuple(dict.fromkeys(name for name in found if name is not None)))
    if config.image_column is not None or first_column(names, IMAGE_NAMES) is not None:
        return TextColumns()
    taken = {config.label_column, config.id_column, config.split_column}
    others = [name for name in names if name not in taken and names.count(name) == 1]
    for pair in PAIR_NAMES:
        both = [first_column(others, (name,)) for name in pair]
        if all(both):
            return _assumed([name for name in both if name is not None], ())
    called = first_column(others, TEXT_NAMES)
    if called is not None:
        rivals = [n for n in others if n != called and plain_name(n) in TEXT_NAMES]
        return _assumed([called], rivals)
    others = [name for name in others if name and plain_name(name) not in _OTHERS]
    words = {name: _mean_words(cells) for name, cells in peek(others).items()} if others else {}
    longest = max(words, key=lambda name: words[name], default=None)
    if longest is None or words[longest] < _LEAST_WORDS:
        return TextColumns()
    return _assumed([longest], [n for n in words if n != longest and words[n] >= _LEAST_WORDS])


def _assumed(names: Sequence[str], rivals: Sequence[str]) -> TextColumns:
    what = f"column {names[0]!r}" if len(names) == 1 else f"columns {names[0]!r} and {names[1]!r}"
    also = f"; {', '.join(map(repr, rivals))} could be meant, too" if rivals else ""
    said = f"the samples are the texts in {what}{also} (--text-column, --image-column)"
    return TextColumns(tuple(names), (Assumption("columns", said),))


def _mean_words(cells: pa.Array) -> float:
    """Return how many words the cells of a column have on average, those without any left out."""
    cells = cells.slice(0, _PEEKED).drop_null()
    if not len(cells):
        return 0.0
    words = pc.count_substring_regex(cells, r"\S+").to_numpy(zero_copy_only=False)
    return float(words[words > 0].mean()) if words.any() else 0.0


class TextStore:
    """N texts in memory, or N pairs of them; a null cell is a row without a text.

    Args:
        columns: ``(N,)`` Arrow text each.
        where: Row to the place of its text.
    """

    random_access = True

    def __init__(self, columns: Sequence[pa.Array], where: str) -> None:
        self._columns = tuple(columns)
        self._where = where

    def __len__(self) -> int:
        """Return N."""
        return len(self._columns[0])

    def read(self, index: int) -> bytes:
        """Return the text of one row as UTF-8.

        Raises:
            UnreadableSample: Its cells are all empty.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        parts = [column[index].as_py() or "" for column in self._columns]
        if not any(part.strip() for part in parts):
            raise UnreadableSample("the text is empty")
        whole = PART_SEPARATOR.join(part.replace(PART_SEPARATOR, " ") for part in parts)
        return whole.encode("utf-8", "replace") if len(parts) > 1 else parts[0].encode()

    def location(self, index: int) -> str:
        """Return the table and the row in it, counted from 0: ``reviews.csv:17``."""
        return f"{self._where}:{index}"


def text_store(columns: Sequence[pa.Array], names: Sequence[str], where: str) -> TextStore:
    """Return the texts of a table, once they are known to be texts.

    Args:
        columns: ``(N,)`` Arrow text each.
        names: What they are called.
        where: The table, as messages name it.

    Raises:
        DatasetError: A column is empty, or holds nothing but numbers.
    """
    for name, cells in zip(names, columns, strict=True):
        filled = cells.filter(pc.match_substring_regex(cells, r"\S").fill_null(False))
        if len(cells) and not len(filled):
            raise DatasetError(
                f"the text column {name!r} of {where} is empty: none of its {len(cells):,} rows "
                "has a text",
                hint="choose another column with --text-column",
            )
        if len(filled) and pc.all(pc.match_substring_regex(filled, _NUMBER)).as_py():
            raise DatasetError(
                f"the text column {name!r} of {where} holds numbers, such as "
                f"{filled[0].as_py().strip()[:40]}",
                hint="choose the column that holds the texts with --text-column",
            )
    return TextStore(columns, where)


def digest_of_texts(columns: Sequence[pa.Array]) -> str:
    """Return a digest of texts that is the same wherever they are stored."""
    digest = hashlib.blake2b(digest_size=16)
    for cells in columns:
        lengths = pc.binary_length(cells).cast(pa.int64()).fill_null(-1)
        digest.update(np.ascontiguousarray(lengths.to_numpy(zero_copy_only=False)).tobytes())
        for start in range(0, len(cells), 1 << 14):
            part = cells.slice(start, 1 << 14).fill_null("").to_pylist()
            digest.update("".join(part).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
