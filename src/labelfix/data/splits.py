"""Which names mean a split of a data set, which split is for testing, and what lies in several.

Names are read word by word, in any case: ``Testing``, ``train2017``, ``01_train``, ``test-set`` and
``imagenet_val`` are splits, ``test_tube`` and ``trainer`` are not. A name on its own proves little
(a class may be called ``train``): a folder counts as a split only if its name holds nothing but
such words, and `labelfix.data.folder` looks at what lies beside and below it.

Letters: N rows.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.errors import ConfigError
from labelfix.types import MISSING, Assumption

Role = Literal["train", "validation", "test"]
"""What a split is for. Rows of ``test`` are scored, but never trained on and never changed."""


def _set_of(words: str) -> frozenset[str]:
    return frozenset(words.split())


_SYNONYMS: Mapping[Role, Mapping[str, str]] = {
    "train": {"train": "train training trainings trains trn", "trainval": "trainval trainvalid"},
    "validation": {
        "validation": "val vals valid validation validations vali vld",
        "dev": "dev devs devel development",
    },
    "test": {
        "test": "test tests testing testings tst devtest testdev",
        "eval": "eval evals evaluation evaluations evaluate",
        "holdout": "holdout holdouts heldout",
    },
}
"""For each role, the names that are one split, each with all its spellings."""

_WORDS: Mapping[str, tuple[Role, str]] = {
    spelling: (role, name)
    for role, names in _SYNONYMS.items()
    for name, spellings in names.items()
    for spelling in spellings.split()
}
_CONTENTS = _set_of("""
    set sets data dataset datasets image images img imgs picture pictures pic pics photo photos
    sample samples example examples file files split splits
""")
"""Words for what is in a split, which change nothing about what it is for."""

_BESIDE = _set_of("jpegimages labels masks annotations all frames")

_FILLERS = _CONTENTS | _set_of("""
    subset part fold folder dir batch version ver final full small mini tiny large big clean noisy
    raw orig original new old all public private labeled labeled labels resized cropped augmented
    aug balanced extra hard easy seen unseen the my for of and only jpg jpeg jpegs png
""")
"""Words that tell two splits of one kind apart."""
_EXTRAS = _set_of("""
    unlabeled unlabeled unannotated unsup unsupervised unsorted unknown extra extras additional
    misc miscellaneous other others rest spare pseudo augmented aug synthetic
""")
_COMPOUND = re.compile(
    rf"({'|'.join(sorted(_WORDS, key=len, reverse=True))})({'|'.join(sorted(_CONTENTS))})"
)
_PLAIN = frozenset({"train", "training", "val", "valid", "validation", "test"})
"""Names about which nobody needs to be told what was assumed."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class _Reading:
    """A name of a split, word by word: which splits it names, and what else is in it."""

    roles: tuple[tuple[Role, str], ...]
    unknown: tuple[str, ...]
    numbers: tuple[str, ...]


def split_role(name: str) -> Role | None:
    """Return what a split is for, by its name, of which one word is enough.

    ``imagenet_test`` is a test split, ``trainval`` and ``train+val`` are for training; a name that
    speaks of testing beside anything else is a test split.
    """
    roles = {role for role, _ in _read(name).roles}
    order: tuple[Role, ...] = ("test", "train", "validation")
    return next((role for role in order if role in roles), None)


def is_split_name(name: str) -> bool:
    """Return whether a name holds nothing but words for a split, its contents, and numbers."""
    reading = _read(name)
    return bool(reading.roles) and not reading.unknown and not _is_train_and_test(reading)


def is_extra_name(name: str) -> bool:
    """Return whether a name is usual for what lies beside splits: ``unlabeled``, ``extra``."""
    words = _words(name)
    return any(word in _EXTRAS for word in words) and not split_role(name)


def is_content_name(name: str) -> bool:
    """Return whether a name only says what kind of files is there: ``images``, ``labels``."""
    words = _words(name)
    return bool(words) and all(word in _CONTENTS or word in _BESIDE for word in words)


def split_names(names: Sequence[str]) -> set[str]:
    """Return those of some folders beside each other that are called like splits.

    ``imagenet_train`` is, if there is ``imagenet_val`` too; ``bullet_train`` beside ``car`` is not.
    """
    found = {name for name in names if is_split_name(name)}
    by_rest: dict[tuple[str, ...], set[str]] = {}
    for name in names:
        reading = _read(name)
        if reading.roles and reading.unknown and not _is_train_and_test(reading):
            by_rest.setdefault(reading.unknown, set()).add(name)
    for alike in by_rest.values():
        if len({split_role(name) for name in alike}) > 1:
            found |= alike
    return found


def split_key(name: str) -> str:
    """Return a name that is the same for all spellings of one split.

    ``Train``, ``training`` and ``train_images`` are the same, ``train2017`` and ``train`` are not.
    """
    reading = _read(name)
    if not reading.roles:
        return " ".join(_words(name)) or name.strip()
    words = {word for _, word in reading.roles}
    return " ".join([*sorted(words), *reading.unknown, *reading.numbers])


def is_test_name(name: str, named: Sequence[str] = ()) -> bool:
    """Return whether a split is a test split, by its name or because the user says so."""
    return split_role(name) == "test" or _folded(name) in {_folded(one) for one in named}


def rows_for_testing(
    split: pa.Array | pa.ChunkedArray, named: Sequence[str] = ()
) -> NDArray[np.bool_]:
    """Return ``(N,)`` whether each row is of a test split.

    Args:
        split: ``(N,)`` names, null where a row is of none.
        named: Names of further test splits.
    """
    return _by_name(split, lambda name: is_test_name(name, named), False)


def split_codes(split: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Return ``(N,)`` numbers that are equal for rows of the same split.

    All rows without a split are one of their own; spellings of one name are the same split.
    """
    codes: dict[str, int] = {}
    code_of = _by_name(split, lambda name: codes.setdefault(split_key(name), len(codes)), MISSING)
    return code_of.astype(np.int64)


def in_several(sets: NDArray[np.int64], codes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return ``(N,)`` whether a row is in a set whose rows are of different splits.

    Args:
        sets: ``(N,)`` numbers of sets, ``MISSING`` where a row is in none.
        codes: ``(N,)`` splits, from `split_codes`.
    """
    is_in_set = sets != MISSING
    size = int(sets.max(initial=MISSING)) + 1
    low, high = np.full(size, np.iinfo(np.int64).max), np.full(size, np.iinfo(np.int64).min)
    np.minimum.at(low, sets[is_in_set], codes[is_in_set])
    np.maximum.at(high, sets[is_in_set], codes[is_in_set])
    found = np.zeros(len(sets), np.bool_)
    found[is_in_set] = (low != high)[sets[is_in_set]]
    return found


def leaking(
    exact_set: NDArray[np.int64], near_set: NDArray[np.int64], codes: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return ``(N,)`` whether a row has a copy, exact or near, in another split.

    Args:
        exact_set: ``(N,)`` sets of byte-identical rows, ``MISSING`` where a row is in none.
        near_set: ``(N,)`` sets of near-copies, likewise.
        codes: ``(N,)`` splits, from `split_codes`.
    """
    return in_several(exact_set, codes) | in_several(near_set, codes)


def check_named(split: pa.StringArray, named: Sequence[str], where: str) -> None:
    """Refuse names of test splits that the data do not have.

    Raises:
        ConfigError: There is no such split; the message lists those there.
    """
    there = _names_in(split)
    folded = {_folded(name) for name in there}
    missing = [name for name in named if _folded(name) not in folded]
    if not missing:
        return
    if not there:
        raise ConfigError(
            f"{where} has no splits, and so no test split {missing[0]!r}",
            hint="leave out --test-split, or name the column of splits with --split-column",
        )
    near = get_close_matches(missing[0], there, n=1)
    some = ", ".join(map(repr, there[:20])) + (" ..." if len(there) > 20 else "")
    raise ConfigError(
        f"{where} has no split {missing[0]!r}; its splits are: {some}",
        hint=f"did you mean --test-split {near[0]!r}?"
        if near
        else "choose one of them with --test-split",
    )


def assumed_roles(split: pa.StringArray, named: Sequence[str]) -> tuple[Assumption, ...]:
    """Return what the splits were taken to be for, in one sentence, unless it is plain."""
    names = _names_in(split)
    testing = [name for name in names if is_test_name(name, named)]
    if len(testing) == len(names) and names and not split.null_count:
        text = (
            f"all samples are of a test split ({quoted(testing)}), so they are trained on all the "
            "same; an export changes none of them unless somebody decides so in `labelfix review`"
        )
        return (Assumption("splits", text),)
    if not [name for name in names if _folded(name) not in _PLAIN and name not in named]:
        return ()
    trained = [name for name in names if name not in testing]
    parts = []
    if testing:
        parts.append(f"{quoted(testing)} {_is(testing)} for testing: never trained on nor changed")
    if trained:
        parts.append(f"{quoted(trained)} {_is(trained)} trained on")
    return (Assumption("splits", f"{'; '.join(parts)} (--test-split names other test splits)"),)


def quoted(names: Sequence[str]) -> str:
    """Return names in quotes, the first of them if they are many."""
    some = ", ".join(map(repr, names[:_SHOWN]))
    return some + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _names_in(split: pa.StringArray) -> list[str]:
    return sorted(split.unique().drop_null().to_pylist())


def _by_name(
    split: pa.Array | pa.ChunkedArray, value_of: Callable[[str], Any], without: Any
) -> NDArray[Any]:
    """Return ``(N,)`` values of names, ``without`` where there is none."""
    chunked = split if isinstance(split, pa.ChunkedArray) else pa.chunked_array([split])
    encoded = chunked.cast(pa.string()).combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    values = np.array([*map(value_of, encoded.dictionary.to_pylist()), without])
    found: NDArray[Any] = values[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)]
    return found


def _is_train_and_test(reading: _Reading) -> bool:
    """Return whether a name names training and testing at once, as ``train_test_split`` does."""
    return {"train", "test"} <= {role for role, _ in reading.roles}


@lru_cache(maxsize=4096)
def _read(name: str) -> _Reading:
    words = _words(name)
    roles: list[tuple[Role, str]] = []
    unknown, numbers = [], []
    place = 0
    while place < len(words):
        word = words[place]
        pair = word + words[place + 1] if place + 1 < len(words) else ""
        compound = _COMPOUND.fullmatch(word)
        if pair in {"holdout", "heldout"}:
            roles.append(("test", "holdout"))
            place += 1
        elif word in _WORDS:
            roles.append(_WORDS[word])
        elif compound is not None:
            roles.append(_WORDS[compound[1]])
        elif word.isdecimal() or len(word) == 1:
            numbers.append(word)
        elif word in _CONTENTS:
            pass
        elif word in _FILLERS:
            numbers.append(word)
        else:
            unknown.append(word)
        place += 1
    return _Reading(tuple(roles), tuple(unknown), tuple(numbers))


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case: ``TrainSet2017`` has three."""
    text = unicodedata.normalize("NFKC", name)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    text = re.sub(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])", " ", text)
    return re.findall(r"[^\W_]+", text.casefold())


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()
