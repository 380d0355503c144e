"""Data sets opened with settings, their labels, and what is said of those that cannot be opened."""

from pathlib import Path
from typing import Any

import pytest

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.errors import DatasetError
from labelfix.types import MISSING, Label, LabeledDataset


def opened(path: Path, **settings: Any) -> LabeledDataset:
    """Open a data set; the settings are fields of `DatasetConfig`."""
    return open_dataset(path, DatasetConfig(**settings))


def labels_of(data: LabeledDataset) -> list[Label | None]:
    """Return the given label of each sample, ``None`` where it has none."""
    return [None if code == MISSING else data.class_names[code] for code in data.given_label]


def labels_by_id(data: LabeledDataset) -> dict[str, Label | None]:
    """Return the given label of each sample by its id."""
    return dict(zip(data.sample_id.to_pylist(), labels_of(data), strict=True))


def assumed(data: LabeledDataset, word: str = "") -> list[str]:
    """Return what was assumed of a data set, as far as it has a word in it."""
    return [assumption.text for assumption in data.assumptions if word in assumption.text]


def said(data: LabeledDataset) -> str:
    """Return all that was assumed of a data set."""
    return "\n".join(assumed(data))


def fault_of(path: Path, **settings: Any) -> DatasetError:
    """Return the error that refuses a data set; it has a hint."""
    with pytest.raises(DatasetError) as caught:
        opened(path, **settings)
    assert caught.value.hint
    return caught.value
