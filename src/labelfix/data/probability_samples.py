"""The images or texts that given probabilities are of, where somebody said where they are.

Images are files, whose paths are the sample ids or lie in a column of the table, or bytes in a
column of Parquet; texts lie in columns. They are there to be shown: nothing is computed of them.

Letters: N samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from labelfix.data.probability_tables import read_shown_columns
from labelfix.data.stores import FileImages, ParquetImages
from labelfix.data.texts import text_store
from labelfix.errors import ConfigError, DatasetError, UnreadableSample
from labelfix.types import SampleStore

_LOOKED_FOR = 1000
"""Samples of which one at least has to be there."""


@dataclass(frozen=True, slots=True)
class SampleLocation:
    """Where the samples of given probabilities are.

    Args:
        images: The folder that paths of images are relative to; ``None`` is that of the table.
        image_column: The column of paths, or of bytes; ``None`` takes the sample ids as paths.
        text_columns: The columns of texts, where the samples are texts.
    """

    images: Path | None = None
    image_column: str | None = None
    text_columns: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Return the modality of the samples."""
        return "text" if self.text_columns else "image"

    def to_settings(self) -> dict[str, Any]:
        """Return what a report tells of it; `location_of` reads it."""
        settings = {
            "images": None if self.images is None else str(self.images),
            "image_column": self.image_column,
            "text_columns": list(self.text_columns) or None,
        }
        return {"shown": self.kind} | {k: v for k, v in settings.items() if v is not None}


def named_location(
    images: Path | None, image_column: str | None, text_columns: Sequence[str]
) -> SampleLocation | None:
    """Return where the samples are, by what a user named; ``None`` if nothing was.

    Raises:
        ConfigError: Images and texts are named at once.
    """
    if text_columns and (images is not None or image_column is not None):
        raise ConfigError(
            "a column of texts is named, and images as well",
            hint="the samples are either: name one of the two",
        )
    if not text_columns and images is None and image_column is None:
        return None
    return SampleLocation(images, image_column, tuple(text_columns))


def location_of(settings: Mapping[str, Any]) -> SampleLocation | None:
    """Return where the samples of a report are, by its settings; ``None`` if nobody said it."""
    if "shown" not in settings:
        return None
    images = settings.get("images")
    return SampleLocation(
        None if images is None else Path(images),
        settings.get("image_column"),
        tuple(settings.get("text_columns", ())),
    )


def open_shown(
    table: Path, sample_id: pa.Array, location: SampleLocation, *, follow_links: bool = False
) -> SampleStore:
    """Return the samples that probabilities are of.

    Args:
        table: The first file of probabilities.
        sample_id: ``(N,)`` Arrow text: its ids, in its order.
        location: Where the samples are.
        follow_links: Whether images are read that lie outside their folder.

    Raises:
        DatasetError: A column or the folder cannot be used, or the first samples are not there.
    """
    root = location.images or table.parent
    if not root.is_dir():
        raise DatasetError(
            f"{root}, the folder of the images, does not exist", hint="name one that is there"
        )
    if location.text_columns:
        cells = read_shown_columns(table, sample_id, location.text_columns)
        return text_store(cells, location.text_columns, str(table))
    paths = sample_id
    if location.image_column is not None:
        (paths,) = read_shown_columns(table, sample_id, [location.image_column])
    if not (pt.is_string(paths.type) or pt.is_large_string(paths.type)):
        name = location.image_column or ""
        return ParquetImages(table.parent, [table.name], [len(paths)], name)
    store = FileImages(root, paths.cast(pa.binary()), follow_links=follow_links)
    _refuse_if_none_is_there(store, root, location)
    return store


def _refuse_if_none_is_there(store: FileImages, root: Path, location: SampleLocation) -> None:
    first = None
    for row in range(min(len(store), _LOOKED_FOR)):
        try:
            file = store.file(row)
        except UnreadableSample as error:
            first = first or f"{store.location(row)}: {error}"
            continue
        if file.is_file():
            return
        first = first or f"{file} is not there"
    named = "their sample_id" if location.image_column is None else repr(location.image_column)
    raise DatasetError(
        f"none of the first images is in {root} by the path of {named}: {first}",
        hint="name the folder that the paths are relative to with --images, and a column of paths "
        "with --image-column",
    )
