"""Labels as they came, whatever column they came in: all text or all integers, null where missing.

- Text files hold text; a column whose labels are all whole numbers (``3``, or ``3.0`` as pandas
  writes a column with holes) is integers. A leading zero or a plus sign keeps it text. ``NaN`` or
  ``nan`` without quotes is a missing label.
- Typed columns keep their type; floats have to be whole and become integers; booleans become
  ``False`` and ``True``.
- A Hugging Face ``ClassLabel`` becomes the text of its names; its ``-1`` is a missing label. Names
  that a file gives in any other way are left alone.
- Null, NaN, empty and blank text are missing labels; so is -1 among integers from 0 on, and what
  the user names. Blanks around the labels of a text are taken away.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from labelfix.errors import DatasetError
from labelfix.types import MISSING, Assumption, Label
from labelfix.utils.text import counted

_WHOLE = r"^(?:0|-?[1-9][0-9]{0,17})$"
MISSING_WORDS = ("nan", "na", "n/a", "#n/a", "<na>", "null", "none")
"""How programs write a missing value, in any case: no label, unless a class is called so."""

_WHOLE_FLOAT = r"^(?:0|-?[1-9][0-9]{0,17})\.0+$"

_NUMBER = r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"
_FRACTION = r"\.[0-9]*[1-9]|[eE]-"
_MANY = 20
"""With fewer labels, that each is another one proves nothing."""

_TOO_DISTINCT = 0.9
"""With more different values than this share of the rows, a column holds no classes."""

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """Which column holds the labels, for messages.

    Args:
        name: The name of the column.
        where: The file or folder, as messages name it.
    """

    name: str
    where: str

    def fault(self, what: str, hint: str) -> DatasetError:
        """Return an error that says what is wrong with the column."""
        return DatasetError(
            f"the label column {self.name!r} of {self.where} {what}",
            hint=f"{hint}, or name another column with --label-column",
        )


def blank_to_null(text: pa.Array) -> pa.Array:
    """Return text with null for what is empty or only space; the rest as it is."""
    is_blank = pc.equal(pc.utf8_trim_whitespace(text), "")
    return pc.if_else(pc.fill_null(is_blank, True), pa.scalar(None, text.type), text)


def missing_words_to_null(labels: pa.Array, classes: Sequence[str]) -> pa.Array:
    """Return text labels with null for words such as ``NA`` that no class is called.

    Args:
        labels: ``(N,)`` text.
        classes: The names of all classes.
    """
    words = pa.array(MISSING_WORDS, pa.string())
    is_word = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(labels)), words)
    is_missing = pc.and_(is_word, pc.invert(pc.is_in(labels, pa.array(classes, pa.string()))))
    return pc.if_else(is_missing, pa.scalar(None, labels.type), labels)


def is_whole(text: str) -> bool:
    """Return whether a name is a whole number, written as Python would write it."""
    return re.match(_WHOLE, text) is not None


def labels_of_text(text: pa.Array) -> pa.Array:
    """Return the labels of a text file: int64 if all are whole numbers, else text."""
    labels = blank_to_null(text)
    if labels.null_count == len(labels):
        return labels
    if _all_match(labels, _WHOLE):
        return labels.cast(pa.int64())
    if _all_match(labels, _WHOLE_FLOAT):
        return pc.replace_substring_regex(labels, r"\.0+$", "").cast(pa.int64())
    return labels


def labels_of_column(values: pa.Array, column: LabelColumn) -> pa.Array:
    """Return the labels of a typed column: int64, text, or type null if none is there.

    Raises:
        DatasetError: The column holds no labels: fractions, lists, records, dates, bytes.
    """
    if pt.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.null_count == len(values):
        return pa.nulls(len(values))
    kind = values.type
    if pt.is_integer(kind):
        return _to_int64(values, column)
    if pt.is_floating(kind) or pt.is_decimal(kind):
        return _whole_numbers(values.cast(pa.float64()), column)
    if pt.is_boolean(kind):
        return pc.if_else(values, "True", "False")
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        labels = blank_to_null(values.cast(pa.string()))
        return pa.nulls(len(labels)) if labels.null_count == len(labels) else labels
    if pt.is_nested(kind):
        raise column.fault("holds lists or records", "give each image one label")
    raise column.fault(f"is of type {kind}", "write the labels as text or integers")


def names_of_class_label(schema: pa.Schema, name: str) -> tuple[str, ...] | None:
    """Return the class names that Hugging Face's metadata give to a column of integers, if any."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        feature = features[name]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if not isinstance(names, list) or not names or not pt.is_integer(schema.field(name).type):
        return None
    return tuple(map(str, names))


def labels_by_name(codes: pa.Array, names: Sequence[str], column: LabelColumn) -> pa.Array:
    """Return the names that codes stand for; a code of -1 is a missing label.

    Raises:
        DatasetError: A code has no name.
    """
    codes = pc.if_else(pc.equal(codes, MISSING), pa.scalar(None, codes.type), codes)
    low, high = pc.min_max(codes).values()
    if high.is_valid and (low.as_py() < 0 or high.as_py() >= len(names)):
        odd = low if low.as_py() < 0 else high
        raise column.fault(
            f"holds {odd.as_py()}, but the file names only {len(names)} classes",
            "mend the class names in the file",
        )
    return pa.array(names, pa.string()).take(codes)


def join_labels(parts: Sequence[pa.Array], column: LabelColumn) -> pa.Array:
    """Return the labels of several chunks as one array of int64 or of text.

    Raises:
        DatasetError: Some are text and some are integers.
    """
    kinds = {part.type for part in parts} - {pa.null()}
    if len(kinds) > 1:
        raise column.fault("mixes text and numbers", "write all labels the same way")
    kind = kinds.pop() if kinds else pa.string()
    return pa.concat_arrays([pa.array([], kind), *(part.cast(kind) for part in parts)])


def without_blanks(
    labels: pa.Array, *, may_be_numbers: bool
) -> tuple[pa.Array, tuple[Assumption, ...]]:
    """Return the labels of a text without blanks around them, and how many had some.

    Args:
        labels: ``(N,)`` labels.
        may_be_numbers: Whether text in which only blanks hid numbers becomes integers.
    """
    if not pt.is_string(labels.type):
        return labels, ()
    plain = pc.utf8_trim_whitespace(labels)
    count = pc.sum(pc.not_equal(plain, labels)).as_py() or 0
    if not count:
        return labels, ()
    some = counted(count, "label")
    text = f"blanks around {some} were taken away; write the table as Parquet to keep them"
    return labels_of_text(plain) if may_be_numbers else plain, (Assumption("labels", text),)


def without_missing(
    labels: pa.Array, named: Sequence[str]
) -> tuple[pa.Array, tuple[Assumption, ...]]:
    """Return labels with null for values that mean that there is none, and what was assumed.

    Among integers that are otherwise at least 0, -1 means that there is no label, unless it makes
    the second of two classes.

    Args:
        labels: ``(N,)`` int64, text, or nulls.
        named: The values that the user named; an empty text says that -1 is a class.
    """
    assumptions: list[Assumption] = []
    values = [value.strip() for value in named if value.strip()]
    text = labels.cast(pa.string())
    there = set(text.unique().drop_null().to_pylist())
    if values:
        plain = pc.utf8_trim_whitespace(text)
        labels = pc.if_else(pc.is_in(plain, pa.array(values)), _null_of(labels), labels)
        absent = [value for value in values if value not in {one.strip() for one in there}]
        if absent:
            what = "is no label of the data" if len(absent) == 1 else "are no labels of the data"
            some = ", ".join(map(repr, absent[:5]))
            assumptions.append(Assumption("labels", f"--label-missing {some} {what}"))
    is_decided = "-1" in values or len(values) < len(named)
    if is_decided or not pt.is_integer(labels.type) or str(MISSING) not in there:
        return labels, tuple(assumptions)
    numbers = labels.drop_null().unique()
    if pc.min(numbers).as_py() != MISSING or len(numbers) < 2:
        return labels, tuple(assumptions)
    if len(numbers) == 2:
        other = pc.max(numbers)
        said = f"-1 is a class, for {other} is the only other; --label-missing -1 makes it none"
        return labels, (*assumptions, Assumption("labels", said))
    is_missing = pc.equal(labels, MISSING)
    count = pc.sum(is_missing).as_py()
    what = counted(count, "label of -1 means", "labels of -1 mean")
    said = f"{what} that there is no label; --label-missing '' makes -1 a class"
    labels = pc.if_else(is_missing, _null_of(labels), labels)
    return labels, (*assumptions, Assumption("labels", said))


def refuse_no_classes(labels: pa.Array, column: LabelColumn) -> None:
    """Refuse the labels of a column that was chosen by its name and cannot hold classes.

    Raises:
        DatasetError: Nearly every row has another value, or they are numbers with fractions.
    """
    known = labels.drop_null()
    is_text = pt.is_string(known.type) and len(known) > 0
    if is_text and _all_match(known, _NUMBER) and _any_match(known, _FRACTION):
        raise column.fault(
            f"was chosen by its name, but holds numbers with fractions, such as {known[0]}",
            "if these are classes, say so with --label-column",
        )
    distinct = len(known.unique())
    if len(known) >= _MANY and distinct > _TOO_DISTINCT * len(known):
        raise column.fault(
            f"was chosen by its name, but holds {distinct:,} different values in {len(known):,} "
            f"rows, such as {known[0]}: are these classes?",
            "if they are, say so with --label-column",
        )


def look_alikes(class_names: Sequence[Label]) -> tuple[Assumption, ...]:
    """Return which classes differ in nothing but case, blanks or the form of their characters."""
    groups: dict[str, list[str]] = {}
    for name in class_names:
        if isinstance(name, str):
            groups.setdefault(_look(name), []).append(name)
    alike = [names for names in groups.values() if len(names) > 1]
    if not alike:
        return ()
    some = "; ".join(_shown_apart(names) for names in alike[:_SHOWN])
    more = f" and {len(alike) - _SHOWN} more" if len(alike) > _SHOWN else ""
    text = f"classes that look alike are kept apart: {some}{more}; write them alike if they are one"
    return (Assumption("labels", text),)


def _look(name: str) -> str:
    """Return a name without what the eye passes over: case, blanks, forms of characters."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    text = "".join(
        char for char in text if unicodedata.category(char) not in {"Cf", "Cc"} or char.isspace()
    )
    text = re.sub(r"(?<=\d)[\s_]+(?=\d)", "\0", text)  # 1 1 is not 11
    return re.sub(r"[\s_]+", "", text)


def _shown_apart(names: Sequence[str]) -> str:
    """Return names in quotes; those that look the same even so with their characters' codes."""
    shown = [repr(name) for name in names]
    composed = [unicodedata.normalize("NFKC", text) for text in shown]
    return ", ".join(map(ascii, names) if len(set(composed)) < len(composed) else shown)


def _null_of(values: pa.Array) -> pa.Scalar:
    return pa.scalar(None, values.type)


def encode_labels(labels: pa.Array) -> tuple[NDArray[np.int64], tuple[Label, ...]]:
    """Return the ``(N,)`` codes of labels, ``MISSING`` where null, and the K sorted classes."""
    encoded = labels.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order) + 1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    rank[-1] = MISSING  # the index -1 finds it
    indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return rank[indices], tuple(encoded.dictionary.take(pa.array(order)).to_pylist())


def _all_match(labels: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(labels, pattern)).as_py())


def _any_match(labels: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(labels, pattern)).as_py())


def _to_int64(values: pa.Array, column: LabelColumn) -> pa.Array:
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise column.fault("holds integers beyond 64 bits", "use smaller integers") from error


def _whole_numbers(values: pa.Array, column: LabelColumn) -> pa.Array:
    labels = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    if labels.null_count == len(labels):
        return pa.nulls(len(labels))
    try:
        return labels.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise column.fault(
            "holds fractions, which are no classes", "write the labels as text or integers"
        ) from error
