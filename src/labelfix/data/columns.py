"""What every form of a data set is read into, and which of its columns hold what."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.config import DatasetConfig
from labelfix.data.labels import blank_to_null
from labelfix.data.splits import is_split_name
from labelfix.errors import DatasetError
from labelfix.types import Assumption, DatasetSource, SampleStore

IMAGE_NAMES = (
    "image", "image_path", "img_path", "file_path", "filepath", "path", "file_name", "filename",
    "file", "image_file", "img", "image_name", "images", "image_paths", "filepaths", "file_paths",
    "filenames", "img_name", "imgpath", "photo", "picture", "image_id",
)  # fmt: skip
"""Names of a column of images or their paths, the best first."""

LABEL_NAMES = (
    ("label", "class", "category", "target", "y"),
    ("labels", "given_label", "class_name", "label_name", "category_name", "class_label"),
    ("species", "breed", "variety", "diagnosis", "dx", "disease", "emotion", "classification",
     "annotation", "ground_truth", "gt", "tag", "class_id", "label_id", "category_id", "classes"),
)  # fmt: skip
"""Names of a label column: any of one row before any of the next, one at a time."""

ID_NAME = "sample_id"
SPLIT_NAMES = ("split", "subset", "partition", "data_split", "dataset_split", "split_name")

PERHAPS_SPLIT_NAMES = ("set", "data_set", "dataset", "usage", "phase", "stage", "splits", "fold")
"""Names of a column of splits, if all that it holds are names of splits."""

TEXT_ROLES = ("text", "text_2")
"""The roles of the columns of texts, of which there may be two."""

_ACROSS = re.compile(
    r"(?:\w+_)?(?:c?x|x_?(?:\d+|min|max|c|center|center|pos|coord)|cx|left|right|lon|lng|longitude)"
)
_OTHER_COORDINATE = re.compile(
    r"(?:\w+_)?(?:[zwh]|cy|y_?(?:\d+|min|max|c|center|center|pos|coord)|width|height|top|bottom|lat"
    r"|latitude|bbox|box|roi)"
)
"""Names of columns in whose company ``y`` is where something lies, and no label."""


@dataclass(frozen=True, slots=True, eq=False)
class RawSamples:
    """What a data set holds, before the checks that are common to all forms.

    Args:
        sample_id: ``(N,)`` Arrow strings.
        split: ``(N,)`` Arrow strings, null where the input names none.
        label: ``(N,)`` Arrow int64 or strings, null where the label is missing.
        store: The encoded samples, N rows.
        source: Where they came from.
        fingerprint: A digest of what identifies the images.
        assumptions: What was taken for granted, the most important first.
        modality: The kind of the samples, by the name of its modality.
    """

    sample_id: pa.StringArray
    split: pa.StringArray
    label: pa.Array
    store: SampleStore
    source: DatasetSource
    fingerprint: str
    assumptions: tuple[Assumption, ...] = ()
    modality: str = "image"


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Which column of a table holds what.

    Args:
        image: The images, or their paths; empty if the samples are texts, or features alone.
        label: The labels; empty if they are in several columns, one a class.
        id: The sample ids; ``None`` takes the path of the image.
        split: The splits; ``None`` if there are none.
        is_id_sure: Whether ``id`` was meant as an id, rather than only being called so.
        is_split_sure: Likewise ``split``.
        assumptions: Which other columns could have been meant.
        texts: The texts; empty if the samples are images.
    """

    image: str
    label: str
    id: str | None
    split: str | None
    is_id_sure: bool
    is_split_sure: bool = True
    assumptions: tuple[Assumption, ...] = ()
    texts: tuple[str, ...] = ()

    def by_role(self) -> dict[str, str]:
        """Return the name of the column of each role that has one; see `TEXT_ROLES`."""
        roles: dict[str, str | None] = dict(zip(TEXT_ROLES, self.texts, strict=False))
        roles |= {"image": self.image, "label": self.label, "id": self.id, "split": self.split}
        return {role: name for role, name in roles.items() if name}


def choose_columns(
    names: Sequence[str],
    config: DatasetConfig,
    where: str,
    *,
    image: str | None = None,
    texts: tuple[str, ...] = (),
) -> TableColumns:
    """Choose the columns of a table by the settings, else by their names.

    Args:
        names: The columns that are there.
        config: The columns that the user named.
        where: The table, as messages name it.
        image: The image column, where its type has told it.
        texts: The columns of texts; there is no image column then.

    Raises:
        DatasetError: A column is not there, is there twice, or two would do as the label.
    """
    of_type = image is not None or bool(texts)
    if not texts:
        image = image or named_column(names, config.image_column, "image", where)
        image = image or first_column(names, IMAGE_NAMES)
    has_features = config.features is not None or config.features_column is not None
    if image is None and not texts and not has_features:
        raise _not_found(names, "image", where)
    image = image or ""
    samples = {image, *texts}
    others = [name for name in names if name not in samples]
    label = named_column(names, config.label_column, "label", where) or _label(others, where)
    if label is None:
        raise _not_found(names, "label", where, others)
    if label in samples:
        kind = "text" if texts else "image"
        raise DatasetError(
            f"column {label!r} of {where} cannot hold both the {kind}s and the labels",
            hint=f"name two columns with --{kind}-column and --label-column",
        )
    others = [name for name in others if name != label]
    sure_id = named_column(names, config.id_column, "id", where) or first_column(others, (ID_NAME,))
    split = named_column(names, config.split_column, "split", where)
    split = split or first_column(others, SPLIT_NAMES)
    chosen = TableColumns(
        image=image,
        label=label,
        id=sure_id or first_column(others, ("id",)),
        split=split or first_column(others, PERHAPS_SPLIT_NAMES),
        is_id_sure=sure_id is not None,
        is_split_sure=split is not None,
        texts=texts,
    )
    images = [] if of_type or config.image_column else _named_like(others, IMAGE_NAMES[:-1])
    rivals = {"image": [name for name in images if name not in {chosen.id, chosen.split}]}
    if config.label_column is None:
        rivals["label"] = _named_like(_no_coordinates(others), sum(LABEL_NAMES, ()))
    chosen = replace(chosen, assumptions=_choice(chosen, rivals))
    for name in chosen.by_role().values():
        if names.count(name) > 1:
            raise DatasetError(
                f"{where} has {names.count(name)} columns called {name!r}",
                hint="give each column a name of its own",
            )
    return chosen


def named_column(names: Sequence[str], wanted: str | None, role: str, where: str) -> str | None:
    """Return the column that the user named, in whatever case; ``None`` if none was named.

    Raises:
        DatasetError: There is no such column; the message lists those there.
    """
    if wanted is None or wanted in names:
        return wanted
    alike = [name for name in names if name.casefold() == wanted.casefold()]
    if len(alike) == 1:
        return alike[0]
    near = get_close_matches(wanted, names, n=1)
    raise DatasetError(
        f"{where} has no column {wanted!r}; its columns are: {_listed(names)}",
        hint=f"did you mean --{role}-column {near[0]!r}?"
        if near
        else f"choose one of them with --{role}-column",
    )


def usable_ids(
    ids: pa.StringArray | None, columns: TableColumns, where: str
) -> tuple[pa.StringArray | None, TableColumns]:
    """Return the ids; ``None``, and columns without it, if it does not name rows.

    A column that is merely called ``id`` is used only if it names every row, each differently.

    Raises:
        DatasetError: The column that was meant as the id leaves rows without one.
    """
    if ids is None:
        return None, columns
    unnamed = blank_to_null(ids).null_count
    if unnamed and columns.is_id_sure:
        raise DatasetError(
            f"the id column {columns.id!r} of {where} leaves {unnamed:,} samples without an id",
            hint="fill the ids, or choose another column with --id-column",
        )
    if columns.is_id_sure or (not unnamed and len(ids.unique()) == len(ids)):
        return ids, columns
    return None, replace(columns, id=None)


def refuse_repeated_ids(
    ids: pa.StringArray, where: str, hint: str, *, at_once: int = 1 << 22
) -> None:
    """Refuse ids that are not unique.

    Args:
        ids: ``(N,)``.
        where: What holds them, for the message.
        hint: How to mend it.
        at_once: Ids that are compared at a time: a table of so many takes some 100 bytes each.

    Raises:
        DatasetError: Some stand for more than one sample; the message names them.
    """
    if all(len(some.unique()) == len(some) for some in _told_apart(ids, at_once)):
        return
    counts = ids.value_counts()
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    some = ", ".join(repr(name) for name in repeated.field("values").slice(0, 3).to_pylist())
    raise DatasetError(
        f"{len(repeated):,} ids of {where} stand for more than one sample: {some}", hint=hint
    )


def _told_apart(ids: pa.StringArray, at_once: int) -> Iterator[pa.StringArray]:
    """Yield groups of ids, of which equal ones are in the same."""
    if len(ids) <= at_once:
        yield ids
        return
    groups = min(-(-len(ids) // at_once), 251)
    group = np.concatenate(
        [
            _sums_of_bytes(ids.slice(start, at_once)) % groups
            for start in range(0, len(ids), at_once)
        ]
    )
    for number in range(groups):
        yield ids.filter(pa.array(group == number))


def _sums_of_bytes(texts: pa.StringArray) -> NDArray[np.uint8]:
    """Return a number for each text that is equal for equal ones."""
    _, places, held = texts.buffers()
    ends = np.frombuffer(places, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    total = np.zeros(len(texts), np.uint32)
    is_any = ends[1:] > ends[:-1]
    if is_any.any():
        text = np.frombuffer(held, np.uint8)[: ends[-1]]
        total[is_any] = np.add.reduceat(text, ends[:-1][is_any], dtype=np.uint32)
    return (total % 251).astype(np.uint8)


def usable_splits(
    split: pa.StringArray | None, columns: TableColumns
) -> tuple[pa.StringArray | None, TableColumns]:
    """Return the splits; ``None``, and columns without it, if the column holds something else.

    A column that is merely called like ``set`` is used only if all that it holds are splits.
    """
    if split is None or columns.is_split_sure:
        return split, columns
    names = blank_to_null(split).unique().drop_null().to_pylist()
    if names and all(map(is_split_name, names)):
        return split, columns
    return None, replace(columns, split=None, is_split_sure=True)


def _label(names: Sequence[str], where: str) -> str | None:
    candidates = _no_coordinates(names)
    for tier in LABEL_NAMES:
        found = _named_like(candidates, tier)
        if len(found) > 1:
            raise DatasetError(
                f"{where} has more than one column that could be the label: {_listed(found)}",
                hint="choose one of them with --label-column",
            )
        if found:
            return found[0]
    return None


def _no_coordinates(names: Sequence[str]) -> list[str]:
    """Return the columns without a ``y`` that is where something lies, as beside ``x`` it is."""
    plain = [plain_name(name) for name in names]
    has_company = any(
        _ACROSS.fullmatch(name) or _OTHER_COORDINATE.fullmatch(name) for name in plain
    )
    return [name for name in names if plain_name(name) != "y" or not has_company]


def _named_like(names: Sequence[str], candidates: Sequence[str]) -> list[str]:
    return [name for name in names if plain_name(name) in candidates]


def _choice(columns: TableColumns, rivals: Mapping[str, Sequence[str]]) -> tuple[Assumption, ...]:
    """Return which columns were taken where others could have been meant."""
    also = [
        f"{_listed(list(map(repr, names)))} (--{role}-column)"
        for role, names in rivals.items()
        if names
    ]
    if not also:
        return ()
    taken = f"the labels are in column {columns.label!r}"
    if columns.image:
        taken = f"the images are in column {columns.image!r}, the labels in {columns.label!r}"
    return (Assumption("columns", f"{taken}; {' and '.join(also)} could be meant, too"),)


def also_images(columns: TableColumns, names: Sequence[str]) -> TableColumns:
    """Return the columns, with the word that others hold images too."""
    if not names:
        return columns
    return replace(columns, assumptions=_choice(columns, {"image": names}) + columns.assumptions)


def first_column(names: Sequence[str], candidates: Sequence[str]) -> str | None:
    """Return the column that is called like the best of some candidates."""
    by_plain_name = {plain_name(name): name for name in reversed(names)}
    return next((by_plain_name[name] for name in candidates if name in by_plain_name), None)


def plain_name(name: str) -> str:
    """Return a name as ``snake_case``: ``ClassId``, ``class id`` and ``class-id`` are the same."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\W_]+", "_", apart).strip("_").casefold()


def _not_found(
    names: Sequence[str], role: str, where: str, others: Sequence[str] = ()
) -> DatasetError:
    y = [name for name in others if name not in _no_coordinates(others)]
    beside = f"; {y[0]!r} is taken for a coordinate, like those beside it" if y else ""
    other = ", or that of texts with --text-column" if role == "image" else ""
    return DatasetError(
        f"cannot tell which column of {where} holds the {role}s; its columns are: {_listed(names)}"
        f"{beside}",
        hint=f"name it with --{role}-column{other}; if these are no names, add a first line that "
        "has them",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
