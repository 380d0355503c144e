"""The RUN folder: what an audit leaves behind, and who may write to it."""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from labelfix.data.decisions import DECISIONS_NAME, LOG_LOCK_NAME
from labelfix.errors import RunError
from labelfix.report.io import (
    NOISE_MATRIX_NAME,
    REPORT_NAME,
    RUN_NAME,
    UNFINISHED_NAME,
    read_report_table,
)
from labelfix.report.neighbors import NEIGHBORS_NAME
from labelfix.report.parts import PARTS_NAME, is_parts, remove_parts
from labelfix.report.run_locks import (
    LOCK_NAME,
    is_lock,
    is_under_review,
    json_bytes,
    locked,
    read_json,
    refuse_while_reviewed,
)
from labelfix.report.types import Report
from labelfix.utils.files import (
    atomic_path,
    is_draft,
    make_folder,
    remove_checkpoints,
    remove_drafts_in,
)

PAGE_NAME = "report.html"
MODEL_NAME = "model.safetensors"
LAYERS_NAME = "layers.json"
LOG_NAME = "training_log.jsonl"
NETWORK_NAMES = (MODEL_NAME, LAYERS_NAME, LOG_NAME)
RECORD_NAME = "diagnosis.json"
PLOT_NAME = "diagnosis.svg"
DIAGNOSIS_NAMES = (RECORD_NAME, PLOT_NAME)
CERTIFICATE_NAMES = ("certificate.json", "certificate.html", "recalibrated.parquet")

AGAIN = "again"
"""Runs inside RUN that trust the decisions on it are called ``again-1`` and so on."""

HALVINGS = "rate_halvings"
"""How often the learning rate of an unfinished run was halved; kept beside its claim."""

IMAGES = "images"
"""Which images were read, by content; kept beside the claim as soon as it is known."""

ATTEMPT = "attempt"
"""Tells the ``run.json`` that an unfinished run has written from the one that it replaces."""

_FILES = (REPORT_NAME, PARTS_NAME, PAGE_NAME, NOISE_MATRIX_NAME, NEIGHBORS_NAME, *NETWORK_NAMES)
"""What an audit may leave behind besides ``run.json``."""

_PLACES = ("cache", "weights")
"""Settings that say where something lies: they do not make another run of the same one."""

CHECKPOINTS_NAME = "checkpoints"
"""The folder in RUN where a network that is being trained stands."""


def run_id_of(claim: Mapping[str, Any]) -> str:
    """Return the name of a run: equal for equal data, settings and decisions, wherever they lie."""
    text = json.dumps(_without_places(claim), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _without_places(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without_places(item) for key, item in value.items() if key not in _PLACES}


def default_run(data: Path) -> Path:
    """Return the RUN folder for data where nobody names one: ``DATA-labelfix``, in this folder."""
    place = data if data.name not in ("", "..") else data.resolve()
    is_folder = isinstance(place, os.PathLike) and place.is_dir()  # an address is not asked
    name = place.name if is_folder else place.stem.removesuffix(".tar")
    return Path(f"{name or 'data'}-labelfix")


class RunFolder:
    """A RUN folder.

    While an audit is under way it holds ``unfinished.json`` and a lock. The files of the run come
    at the end, each whole; ``run.json`` comes after all of them, and says that they are there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.report_path = path / REPORT_NAME
        self._claim: dict[str, Any] = {}

    def refuse_in_advance(self, *, overwrite: bool, resume: bool) -> None:
        """Refuse what `held` would refuse, without making anything: before anything is loaded.

        Args:
            overwrite: Whether a run that is in it may be replaced.
            resume: Whether it may be gone on with.

        Raises:
            RunError: As by `held`.
        """
        self._refuse_foreign_files()
        if (self.path / LOCK_NAME).exists():
            with locked(self.path):  # says who holds it, if anybody does
                pass
        if not overwrite and not resume:
            self._refuse_run()
        if overwrite:
            self.refuse_while_reviewed()

    def refuse_while_reviewed(self) -> None:
        """Refuse to replace the run while a review of it, or of a run ``again-N`` in it, is open.

        Raises:
            RunError: One is, in another process.
        """
        for folder in (self.path, *self._again()):
            refuse_while_reviewed(folder)

    @contextmanager
    def held(self, *, may_hold_run: bool) -> Iterator[None]:
        """Make the folder and keep other processes from writing to it, before any work.

        What was made goes again if nothing was put into it.

        Args:
            may_hold_run: Whether a run that is in it can be gone on with or replaced.

        Raises:
            RunError: The folder holds something else, or a run, is being written to by another
                process, or cannot be written to.
        """
        self._refuse_foreign_files()
        made = _missing_folders(self.path)
        try:
            make_folder(self.path)
            with locked(self.path):
                if not may_hold_run:
                    self._refuse_run()
                remove_drafts_in(self.path)
                yield
        finally:
            for folder in made:
                with suppress(OSError):  # it is not empty
                    folder.rmdir()

    def kept(self, key: str) -> Mapping[str, Any] | None:
        """Return what the claim of the run in the folder holds under a key, if it is a mapping."""
        found = (self._held() or {}).get(key)
        return found if isinstance(found, dict) else None

    def is_finished(self, claim: Mapping[str, Any]) -> bool:
        """Return whether the folder holds that very run, and it is whole."""
        run, unfinished = self._read_json(RUN_NAME), self._read_json(UNFINISHED_NAME)
        if run is None:
            return False
        held = run.get("claim", {})
        if not isinstance(held, dict) or any(held.get(key) != claim[key] for key in claim):
            return False
        if unfinished is not None and (
            ATTEMPT not in unfinished or unfinished[ATTEMPT] != held.get(ATTEMPT)
        ):
            return False
        files = run.get("files", [REPORT_NAME, PAGE_NAME])
        return isinstance(files, list) and all(
            isinstance(name, str) and _is_there(self.path / name) for name in files
        )

    def claim(
        self,
        claim: Mapping[str, Any],
        *,
        overwrite: bool = False,
        resume: bool = False,
        halve_learning_rate: bool = False,
    ) -> int:
        """Make the folder ready for a run; return how often its learning rate was halved so far.

        Args:
            claim: The configuration and the data of the run, as JSON values.
            overwrite: Whether another run in it may be replaced.
            resume: Whether to go on with the run in it, if it is the same.
            halve_learning_rate: Whether to halve the learning rate of that run, once more.

        Raises:
            RunError: The folder holds something else, or another run, or a run that is to be
                replaced and is being reviewed, or cannot be written to.
        """
        self._refuse_foreign_files()
        held = self._held()
        halvings, images = 0, {}
        if held is not None and resume:
            self._refuse_other_run(held, claim)
            halvings = _number(held.get(HALVINGS))
            images = {IMAGES: held[IMAGES]} if isinstance(held.get(IMAGES), dict) else {}
        elif overwrite:
            self.refuse_while_reviewed()
        else:
            self._refuse_run()
        if halve_learning_rate:
            self._refuse_to_halve_nothing(is_there=held is not None)
            halvings += 1
        make_folder(self.path)
        self._claim = {**claim, **images, HALVINGS: halvings, ATTEMPT: uuid4().hex}
        self._write_json(UNFINISHED_NAME, self._claim)
        return halvings

    @property
    def run_id(self) -> str:
        """Return the name of the run that was claimed."""
        return run_id_of({key: self._claim[key] for key in self._claim if key != ATTEMPT})

    def refuse_other_images(self, images: Mapping[str, str]) -> None:
        """Refuse to go on with a run that read other images: names, sizes and times may deceive.

        Args:
            images: Digests of ``content`` and, where it is known, of which are ``unreadable``.

        Raises:
            RunError: The run in the folder, finished or not, says otherwise.
        """
        held = (self._held() or {}).get(IMAGES)
        held = held if isinstance(held, dict) else images
        differing = [key for key in images if held.get(key) != images[key]]
        if differing:
            what = "the data have changed: the same names hold other images"
            if differing == ["unreadable"]:
                what = "the data have changed: other images can be read"
            raise RunError(
                f"{self.path} holds another run: {what}",
                hint="put the images back, or use --overwrite to audit those of now",
            )

    def settle_images(self, images: Mapping[str, str]) -> None:
        """Note which images the unfinished run has read.

        Raises:
            RunError: It had read others before it was interrupted.
        """
        self.refuse_other_images(images)
        self._claim = {**self._claim, IMAGES: dict(images)}
        self._write_json(UNFINISHED_NAME, self._claim)

    def report(self) -> Report:
        """Return the report of a finished run."""
        return read_report_table(self.path)

    def remove_replaced(self, written: Collection[str]) -> None:
        """Remove the files of a run that was replaced which this one has not written anew.

        Args:
            written: The names of those that it has. A diagnosis is always of the run before.
        """
        for name in (*_FILES, *DIAGNOSIS_NAMES, *CERTIFICATE_NAMES):
            if name not in (*written, PAGE_NAME):
                _remove(self.path / name)

    def remove_again(self, *, kept: Path | None = None) -> None:
        """Remove the runs ``again-N`` of a run that was replaced: they are of its labels.

        Decisions are people's work: a folder that holds any that the run itself does not hold
        stays, and so does one that another process is writing to or that somebody reviews.

        Args:
            kept: A run that stays, as what is written now comes from it.
        """
        for folder in self._again():
            if kept is not None and kept.resolve().is_relative_to(folder.resolve()):
                continue
            has_own = not _lines(folder / DECISIONS_NAME) <= _lines(self.path / DECISIONS_NAME)
            if has_own or is_under_review(folder):
                continue
            with suppress(OSError, RunError), locked(folder):
                _remove_run(folder)
            with suppress(OSError):  # a file of someone else's keeps the folder
                folder.rmdir()

    def _again(self) -> list[Path]:
        return [
            path
            for path in sorted(self.path.glob(f"{AGAIN}-*"))
            if re.fullmatch(rf"{AGAIN}-\d+", path.name)
            and not path.is_symlink()
            and (path / RUN_NAME).is_file()
        ]

    def finish(self, run: Mapping[str, Any]) -> None:
        """Write ``run.json``, which says that the run is whole: after all other files.

        Args:
            run: What it says.
        """
        files = [name for name in _FILES if _is_there(self.path / name)]
        self._write_json(RUN_NAME, {**run, "files": files, "claim": self._claim})

    def close(self) -> None:
        """Remove what only an unfinished run needs: this one has all its files."""
        remove_checkpoints(self.path / CHECKPOINTS_NAME)
        (self.path / UNFINISHED_NAME).unlink(missing_ok=True)

    def release(self) -> None:
        """Give the folder back, if nothing came of the run but its claim."""
        if self._names() == {UNFINISHED_NAME}:
            self.close()

    def _names(self) -> set[str]:
        """Return what lies in the folder but for locks and drafts."""
        try:
            names = {path.name for path in self.path.iterdir()}
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {name for name in names if not is_lock(name) and not is_draft(name)}

    def _held(self) -> Any:
        """Return the claim of the run that the folder holds, ``None`` if it holds no run."""
        unfinished = self._read_json(UNFINISHED_NAME)
        return self._finished_claim() if unfinished is None else unfinished

    def _finished_claim(self) -> Any:
        """Return the claim of the run that was finished last, ``None`` if there is none."""
        content = self._read_json(RUN_NAME)
        claim = None if content is None else content.get("claim", {})
        return claim if claim is None or isinstance(claim, dict) else {}

    def _refuse_foreign_files(self) -> None:
        try:
            if self.path.exists() and not self.path.is_dir():
                raise RunError(f"{self.path} is a file", hint="name a folder for the run")
            is_foreign = self._held() is None and bool(self._names())
        except OSError as error:
            raise RunError(
                f"cannot read {self.path}: {error.strerror or error}",
                hint="choose another place for the output",
            ) from error
        if is_foreign:
            raise RunError(
                f"{self.path} is not empty and holds no run of labelfix",
                hint="name a new folder for --out; labelfix never deletes what it did not write",
            )

    def _refuse_run(self) -> None:
        if self._held() is None:
            return
        state = "a finished run" if (self.path / RUN_NAME).exists() else "an unfinished run"
        raise RunError(
            f"{self.path} holds {state}",
            hint="use --resume to go on with it, --overwrite to replace it, "
            "or another folder for --out",
        )

    def _refuse_to_halve_nothing(self, *, is_there: bool) -> None:
        if is_there and self._read_json(UNFINISHED_NAME) is not None:
            return
        state = "a finished run" if is_there else "no run"
        raise RunError(
            f"{self.path} holds {state}: there is no training to go on with at half the rate",
            hint="leave out --halve-learning-rate; a new run takes --learning-rate",
        )

    def _refuse_other_run(self, held: Any, claim: Mapping[str, Any]) -> None:
        differing = [key for key in claim if held.get(key) != claim[key]]
        if not differing:
            return
        if differing == ["decisions"]:
            raise RunError(
                f"{self.path} holds another run: the decisions have changed since, or it had none",
                hint="use --overwrite to audit anew with the decisions of now; they stay",
            )
        data_differ = {"fingerprint", "labels"}.intersection(differing)
        what = "the data have changed" if data_differ else "the settings differ"
        raise RunError(
            f"{self.path} holds another run: {what}",
            hint="repeat the command of that run, or use --overwrite",
        )

    def _read_json(self, name: str) -> dict[str, Any] | None:
        return read_json(self.path / name)

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        with atomic_path(self.path / name) as path:
            path.write_bytes(json_bytes(content))


def _lines(path: Path) -> set[bytes]:
    """Return the lines of a file that may not be there."""
    return set(path.read_bytes().splitlines()) if path.is_file() else set()


def _remove_run(folder: Path) -> None:
    """Remove the files of a run; ``run.json``, by which it is known as one, comes last."""
    remove_checkpoints(folder / CHECKPOINTS_NAME)
    names = (*_FILES, *DIAGNOSIS_NAMES, *CERTIFICATE_NAMES, DECISIONS_NAME, UNFINISHED_NAME)
    for name in (*names, LOG_LOCK_NAME, RUN_NAME):
        _remove(folder / name)


def _remove(path: Path) -> None:
    """Remove a file of a run, or its report in parts, if it is there."""
    if path.name == PARTS_NAME:
        remove_parts(path)
    else:
        path.unlink(missing_ok=True)


def _is_there(path: Path) -> bool:
    return path.is_file() or is_parts(path)


def _number(value: Any) -> int:
    return value if type(value) is int else 0


def _missing_folders(path: Path) -> list[Path]:
    """Return those of a path and its parents that are not there yet, the innermost first."""
    return [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
