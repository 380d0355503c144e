"""The RUN folder: what an audit leaves behind, and who may write to it."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from labelfix.errors import RunError
from labelfix.files import atomic_path, make_folder
from labelfix.reading import parse_json
from labelfix.records import Evidence
from labelfix.report import REPORT_NAME, Report, read_report_table

RUN_NAME = "run.json"
EVIDENCE_NAME = "evidence.npz"
UNFINISHED_NAME = "unfinished.json"
MODEL_NAME = "model.safetensors"
LAYERS_NAME = "layers.json"
LOG_NAME = "training_log.jsonl"
NETWORK_NAMES = (MODEL_NAME, LAYERS_NAME, LOG_NAME)
RECORD_NAME = "diagnosis.json"
PLOT_NAME = "diagnosis.svg"
DIAGNOSIS_NAMES = (RECORD_NAME, PLOT_NAME)

HALVINGS = "rate_halvings"
"""How often the learning rate of an unfinished run was halved; kept beside its claim."""

IMAGES = "images"
"""Which images were read, by content; kept beside the claim as soon as it is known."""


class RunFolder:
    """A RUN folder.

    While an audit is under way it holds ``unfinished.json``; the report, the evidence and
    ``run.json`` come at the end, each whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.report_path = path / REPORT_NAME

    def is_finished(self, claim: Mapping[str, Any]) -> bool:
        """Return whether the folder holds that very run, and it is whole."""
        held = self._finished_claim()
        is_it = held is not None and all(held.get(key) == claim[key] for key in claim)
        return is_it and self._read_json(UNFINISHED_NAME) is None and self.report_path.exists()

    def claim(
        self,
        claim: Mapping[str, Any],
        *,
        overwrite: bool = False,
        resume: bool = False,
        half_rate: bool = False,
    ) -> int:
        """Make the folder ready for a run; return how often its learning rate was halved so far.

        Args:
            claim: The configuration and the data of the run, as JSON values.
            overwrite: Whether another run in it may be replaced.
            resume: Whether to go on with the run in it, if it is the same.
            half_rate: Whether to halve the learning rate of that run, once more.

        Raises:
            RunError: The folder holds something else, or another run, or cannot be written to.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file", hint="name a folder for the run")
        held = self._held()
        halvings, images = 0, {}
        if held is None:
            self._refuse_foreign_files()
        elif resume:
            self._refuse_other_run(held, claim)
            halvings = int(held.get(HALVINGS, 0))
            images = {IMAGES: held[IMAGES]} if IMAGES in held else {}
        elif not overwrite:
            state = "a finished run" if (self.path / RUN_NAME).exists() else "an unfinished run"
            raise RunError(
                f"{self.path} holds {state}",
                hint="use --resume to go on with it, --overwrite to replace it, "
                "or another folder for --out",
            )
        if half_rate:
            self._refuse_to_halve_nothing(is_there=held is not None)
            halvings += 1
        make_folder(self.path)
        self._write_json(UNFINISHED_NAME, {**claim, **images, HALVINGS: halvings})
        return halvings

    def refuse_other_images(self, images: Mapping[str, str]) -> None:
        """Refuse to go on with a run that read other images: names, sizes and times may deceive.

        Args:
            images: Digests of ``content`` and, where it is known, of which are ``unreadable``.

        Raises:
            RunError: The run in the folder, finished or not, says otherwise.
        """
        held = (self._held() or {}).get(IMAGES, images)
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
        claim = json.loads((self.path / UNFINISHED_NAME).read_text(encoding="utf-8"))
        self._write_json(UNFINISHED_NAME, {**claim, IMAGES: images})

    def report(self) -> Report:
        """Return the report of a finished run."""
        return read_report_table(self.path)

    def write_evidence(self, evidence: Evidence) -> None:
        """Keep what training saw, for later stages."""
        arrays = {field.name: getattr(evidence, field.name) for field in fields(evidence)}
        with atomic_path(self.path / EVIDENCE_NAME) as path, path.open("wb") as file:
            np.savez(file, **arrays)

    def finish(self, run: Mapping[str, Any], *, has_network: bool) -> None:
        """Write ``run.json``, which says that the run is whole.

        Args:
            run: What it says.
            has_network: Whether the run left a network, its layers and its log here. Those of a
                run that was replaced go, and so does its diagnosis.
        """
        for name in DIAGNOSIS_NAMES if has_network else (*DIAGNOSIS_NAMES, *NETWORK_NAMES):
            (self.path / name).unlink(missing_ok=True)
        claim = json.loads((self.path / UNFINISHED_NAME).read_text(encoding="utf-8"))
        self._write_json(RUN_NAME, {**run, "claim": claim})
        (self.path / UNFINISHED_NAME).unlink()

    def release(self) -> None:
        """Give the folder back, if nothing came of the run but its claim."""
        if {path.name for path in self.path.iterdir()} == {UNFINISHED_NAME}:
            (self.path / UNFINISHED_NAME).unlink()
            self.path.rmdir()

    def _held(self) -> Any:
        """Return the claim of the run that the folder holds, ``None`` if it holds no run."""
        unfinished = self._read_json(UNFINISHED_NAME)
        return self._finished_claim() if unfinished is None else unfinished

    def _finished_claim(self) -> Any:
        """Return the claim of the run that was finished last, ``None`` if there is none."""
        content = self._read_json(RUN_NAME)
        claim = None if content is None else content.get("claim", {})
        return {} if content is not None and not isinstance(claim, dict) else claim

    def _refuse_foreign_files(self) -> None:
        if self.path.is_dir() and any(self.path.iterdir()):
            raise RunError(
                f"{self.path} is not empty and holds no run of labelfix",
                hint="name a new folder for --out; labelfix never deletes what it did not write",
            )

    def _refuse_to_halve_nothing(self, *, is_there: bool) -> None:
        if is_there and self._read_json(UNFINISHED_NAME) is not None:
            return
        state = "a finished run" if is_there else "no run"
        raise RunError(
            f"{self.path} holds {state}: there is no training to go on with at half the rate",
            hint="leave out --half-rate; a new run takes --learning-rate",
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
        """Return what a file holds: ``None`` if it is not there, nothing if it is damaged."""
        try:
            content = parse_json((self.path / name).read_bytes())
        except (FileNotFoundError, NotADirectoryError):  # a file may be in the way further up
            return None
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        with atomic_path(self.path / name) as path:
            text = json.dumps(content, indent=2, ensure_ascii=False)
            path.write_text(text + "\n", encoding="utf-8")
