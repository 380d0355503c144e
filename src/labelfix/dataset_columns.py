"""What every form of a data set is read into, and which of its columns hold what."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import pyarrow as pa
import pyarrow.compute as pc

from labelfix.config import DatasetConfig
from labelfix.dataset_labels import blank_to_null
from labelfix.errors import DatasetError
from labelfix.records import Assumption, DatasetSource, ImageStore

IMAGE_NAMES = (
    "image", "image_path", "img_path", "file_path", "filepath", "path", "file_name", "filename",
    "file", "image_file", "img", "image_name",
)  # fmt: skip
"""Names of a column of images or their paths, the best first."""

LABEL_NAMES = (
    ("label", "class", "category", "target", "y"),
    ("labels", "given_label", "class_name", "label_name", "category_name", "class_label"),
)
"""Names of a label column: any of the first row before any of the second, one at a time."""

ID_NAME = "sample_id"
SPLIT_NAMES = ("split", "subset", "partition")

SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")
"""Names of folders and beginnings of names of shards, in any case, that tell the split."""


@dataclass(frozen=True, slots=True, eq=False)
class RawSamples:
    """What a data set holds, before the checks that are common to all forms.

    Args:
        sample_id: ``(N,)`` Arrow strings.
        split: ``(N,)`` Arrow strings, null where the input names none.
        label: ``(N,)`` Arrow int64 or strings, null where the label is missing.
        images: The encoded images, N rows.
        source: Where they came from.
        fingerprint: A digest of what identifies the images.
        assumptions: What was taken for granted, the most important first.
    """

    sample_id: pa.StringArray
    split: pa.StringArray
    label: pa.Array
    images: ImageStore
    source: DatasetSource
    fingerprint: str
    assumptions: tuple[Assumption, ...] = ()


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Which column of a table holds what.

    Args:
        image: The images, or their paths.
        label: The labels.
        id: The sample ids; ``None`` takes the path of the image.
        split: The splits; ``None`` if there are none.
        is_id_sure: Whether ``id`` was meant as an id, rather than only being called so.
    """

    image: str
    label: str
    id: str | None
    split: str | None
    is_id_sure: bool

    def by_role(self) -> dict[str, str]:
        """Return the name of the column of each role that has one."""
        roles = {"image": self.image, "label": self.label, "id": self.id, "split": self.split}
        return {role: name for role, name in roles.items() if name is not None}


def choose_columns(
    names: Sequence[str], config: DatasetConfig, where: str, *, image: str | None = None
) -> TableColumns:
    """Choose the columns of a table by the settings, else by their names.

    Args:
        names: The columns that are there.
        config: The columns that the user named.
        where: The table, for a person.
        image: The image column, where its type has told it.

    Raises:
        DatasetError: A column is not there, is there twice, or two would do as the label.
    """
    image = image or named_column(names, config.image_column, "image", where)
    image = image or _first(names, IMAGE_NAMES)
    if image is None:
        raise _not_found(names, "image", where)
    others = [name for name in names if name != image]
    label = named_column(names, config.label_column, "label", where) or _label(others, where)
    if label is None:
        raise _not_found(names, "label", where)
    if label == image:
        raise DatasetError(
            f"column {label!r} of {where} cannot hold both the images and the labels",
            hint="name two columns with --image-column and --label-column",
        )
    others = [name for name in others if name != label]
    sure_id = named_column(names, config.id_column, "id", where) or _first(others, (ID_NAME,))
    split = named_column(names, config.split_column, "split", where)
    chosen = TableColumns(
        image=image,
        label=label,
        id=sure_id or _first(others, ("id",)),
        split=split or _first(others, SPLIT_NAMES),
        is_id_sure=sure_id is not None,
    )
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


def refuse_repeated_ids(ids: pa.StringArray, where: str, hint: str) -> None:
    """Refuse ids that are not unique.

    Raises:
        DatasetError: Some stand for more than one sample; the message names them.
    """
    if len(ids.unique()) == len(ids):
        return
    counts = ids.value_counts()
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    some = ", ".join(repr(name) for name in repeated.field("values").slice(0, 3).to_pylist())
    raise DatasetError(
        f"{len(repeated):,} ids of {where} stand for more than one sample: {some}", hint=hint
    )


def _label(names: Sequence[str], where: str) -> str | None:
    for candidates in LABEL_NAMES:
        found = [name for name in names if _plain(name) in candidates]
        if len(found) > 1:
            raise DatasetError(
                f"{where} has more than one column that could be the label: {_listed(found)}",
                hint="choose one of them with --label-column",
            )
        if found:
            return found[0]
    return None


def _first(names: Sequence[str], candidates: Sequence[str]) -> str | None:
    by_plain_name = {_plain(name): name for name in reversed(names)}
    return next((by_plain_name[name] for name in candidates if name in by_plain_name), None)


def _plain(name: str) -> str:
    return name.strip().casefold()


def _not_found(names: Sequence[str], role: str, where: str) -> DatasetError:
    return DatasetError(
        f"cannot tell which column of {where} holds the {role}s; its columns are: {_listed(names)}",
        hint=f"name it with --{role}-column; if these are no names, add a first line that has them",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
