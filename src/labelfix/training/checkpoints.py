"""Where a long training run stands, on disk after every epoch.

Read back with ``weights_only``: tensors, numbers and text, never code.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from labelfix.errors import RunError
from labelfix.utils.files import atomic_path, make_folder, remove_checkpoints

CHECKPOINT_VERSION = 2


class Checkpoints:
    """The checkpoints of one run: one a model, each replaced by the next epoch's."""

    def __init__(self, folder: Path, claim: str) -> None:
        """Use a folder.

        Args:
            folder: Made when the first checkpoint is saved.
            claim: Names the configuration and the data; a checkpoint of another claim is refused.
        """
        self._folder, self._claim = folder, claim

    def of_images(self, images: Mapping[str, str]) -> "Checkpoints":
        """Return those of training on images of this content, in the same folder."""
        return Checkpoints(self._folder, json.dumps([self._claim, dict(images)]))

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Replace a model's checkpoint, whole or not at all.

        Raises:
            RunError: The disk is full, or the folder cannot be written to.
        """
        make_folder(self._folder)
        content = {"version": CHECKPOINT_VERSION, "claim": self._claim, "state": state}
        with atomic_path(self._path(name)) as path, path.open("wb") as file:
            try:
                torch.save(content, file)
            except RuntimeError as error:  # torch hides what the disk said behind its own words
                told = error.__context__
                raise told if isinstance(told, OSError) else OSError(str(error)) from error

    def load(self, name: str, device: torch.device) -> dict[str, Any] | None:
        """Return what was saved last for a model, or ``None``.

        Raises:
            RunError: The checkpoint is cut short, or of another configuration.
        """
        path = self._path(name)
        if not path.exists():
            return None
        try:
            _refuse_damaged(path)
            content = torch.load(path, map_location=device, weights_only=True)
            version, claim = content["version"], content["claim"]
        except Exception as error:  # torch raises errors of many kinds for a damaged file
            raise RunError(
                f"the checkpoint {path} cannot be read: {type(error).__name__}",
                hint="delete it to train that model from the start",
            ) from error
        if (version, claim) != (CHECKPOINT_VERSION, self._claim):
            raise RunError(
                f"the checkpoint {path} is of another configuration or other data",
                hint="repeat the command of that run, or use --overwrite",
            )
        state: dict[str, Any] = content["state"]
        return state

    def remove(self) -> None:
        """Delete all of them, and what a killed process left of one; files of others stay."""
        remove_checkpoints(self._folder)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.pt"


def _refuse_damaged(path: Path) -> None:
    """Compare the checksums that torch writes, and does not look at when it reads.

    Raises:
        BadZipFile: A part of the file is not what was written.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(damaged)
