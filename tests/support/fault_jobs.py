"""Small audits by the real command, one of each kind, to be disturbed while they work."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from command_processes import Commands, Ended
from given_probs import noisy, write
from kill_points import drafts_below
from PIL import Image
from whole_networks import write_weights
from written_texts import sentences, write_table

from labelfix.report.io import RUN_NAME
from labelfix.report.run_folder import CHECKPOINTS_NAME, UNFINISHED_NAME
from labelfix.report.run_locks import OWNER_NAME
from labelfix.utils.files import is_draft

_OF_A_NETWORK = "folds = 2\nepochs = 2\nbatch_size = 8\n"
_OF_HEADS = "[heads]\nfolds = 3\nepochs = 1\nleast_steps = 2\nradii = [5.0]\n"


@dataclass(frozen=True)
class Job:
    """An audit, and what it leaves if nothing disturbs it.

    Args:
        name: The kind of audit.
        inputs: What it reads and must never change.
        options: What follows ``labelfix audit``, but for places to write to.
        run: The RUN folder.
        cache: Where it keeps features; of no use to given probabilities.
    """

    name: str
    inputs: tuple[Path, ...]
    options: tuple[str | Path, ...]
    run: Path
    cache: Path

    @property
    def trains(self) -> bool:
        """Return whether a model is trained, not only scored by its probabilities."""
        return self.options[0] != "--pred-probs"

    def words(self, *more: str) -> list[str | Path]:
        """Return the words of the command."""
        cache = ["--cache", self.cache, "--device", "cpu"] if self.trains else []
        return ["audit", *self.options, "--out", self.run, *cache, *more]

    def digest(self) -> str:
        """Return what the inputs hold, in one digest."""
        digest = hashlib.sha256()
        for place in self.inputs:
            for path in sorted([place, *place.rglob("*")]):
                if path.is_file():
                    digest.update(f"{path.name} {path.stat().st_mtime_ns} ".encode())
                    digest.update(path.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Whole:
    """What an undisturbed audit leaves."""

    ended: Ended
    files: dict[str, bytes]
    digest: str


def files_of(run: Path) -> dict[str, bytes]:
    """Return the files of a run, but for what holds timings and chance."""
    files = [path for path in run.iterdir() if path.is_file() and path.name != RUN_NAME]
    return {path.name: _content(path) for path in files}


def _content(path: Path) -> bytes:
    return re.sub(rb'("images_per_second": )[-+.e0-9]+', rb"\1", path.read_bytes())


def undisturbed(commands: Commands, job: Job) -> Whole:
    """Run an audit to its end."""
    ended = commands.run(*job.words())
    assert ended.code == 0, ended.said
    whole = Whole(ended, files_of(job.run), job.digest())
    assert UNFINISHED_NAME not in whole.files
    return whole


def faults_of_stopped(job: Job, whole: Whole) -> list[str]:
    """Return what is wrong with what a stopped audit left: changed inputs, half-written files."""
    faults = [] if job.digest() == whole.digest else ["the inputs have changed"]
    if not job.run.exists():
        return faults
    for path in sorted(job.run.iterdir()):
        if not is_draft(path.name) and path.is_file():
            faults += _half_written(path, whole)
    for path in (job.run / CHECKPOINTS_NAME).glob("*.pt"):
        if not is_draft(path.name):
            torch.load(path, weights_only=True)
    return faults


def _half_written(path: Path, whole: Whole) -> list[str]:
    if path.name in whole.files:
        is_whole = _content(path) == whole.files[path.name]
        return [] if is_whole else [f"{path.name} is not that of the undisturbed audit"]
    if path.suffix == ".json" or path.name == OWNER_NAME:
        json.loads(path.read_bytes())
    return []


def faults_of_ended(job: Job, whole: Whole, ended: Ended, commands: Commands) -> list[str]:
    """Return what is wrong with an audit that was gone on with to its end."""
    if ended.code != 0:
        return [f"it ended with {ended.code}: {ended.said[-1500:]}"]
    faults = [] if job.digest() == whole.digest else ["the inputs have changed"]
    left = files_of(job.run)
    faults += [
        f"{name} differs from that of the undisturbed audit"
        for name in sorted(left.keys() | whole.files.keys())
        if left.get(name) != whole.files.get(name)
    ]
    for place in (job.run, job.cache, commands.aside):
        if drafts := drafts_below(place) if place.exists() else []:
            faults.append(f"left in {place.name}: {drafts}")
    faults += [f"left aside: {path.name}" for path in commands.aside.iterdir()]
    faults += [f"unfinished in the cache: {path.name}" for path in job.cache.rglob("*.partial")]
    return faults


def write_pictures(folder: Path, count: int = 12) -> Path:
    """Write a class folder of small pictures of two classes; return it."""
    rng = np.random.default_rng(0)
    for name, shade in (("cat", 60), ("dog", 190)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.normal(shade, 30, (24, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def _job(name: str, inputs: tuple[Path, ...], options: tuple[str | Path, ...], folder: Path) -> Job:
    return Job(name, inputs, options, folder / "run", folder / "cache")


def _of_pictures(folder: Path, tune: str) -> Job:
    data = write_pictures(folder / "data")
    weights = write_weights(folder) / "test_resnet.safetensors"
    (folder / "audit.toml").write_text(
        f"{_OF_HEADS}[fine_tuning]\n{_OF_A_NETWORK}[top]\nleast_steps = 1\n{_OF_A_NETWORK}"
        f"[backbone]\nname = 'test_resnet'\nimage_size = 32\nweights = '{weights}'\n"
    )
    options = (data, "--tune", tune, "--config", folder / "audit.toml")
    return _job(tune, (data, weights), options, folder)


def _of_texts(folder: Path) -> Job:
    texts, labels = sentences(60)
    data = write_table(folder / "t.csv", {"id": [*range(60)], "text": texts, "label": labels})
    (folder / "audit.toml").write_text(_OF_HEADS)
    return _job("texts", (data,), (data, "--config", folder / "audit.toml"), folder)


def _of_probabilities(folder: Path) -> Job:
    data = write(folder / "p.csv", noisy(count=60))
    return _job("probabilities", (data,), ("--pred-probs", data), folder)


MAKERS: dict[str, Callable[[Path], Job]] = {
    "probabilities": _of_probabilities,
    "head": lambda folder: _of_pictures(folder, "head"),
    "top": lambda folder: _of_pictures(folder, "top"),
    "full": lambda folder: _of_pictures(folder, "full"),
    "texts": _of_texts,
}


def make_job(name: str, folder: Path) -> Job:
    """Write the inputs of an audit of some kind into a new folder."""
    folder.mkdir()
    return MAKERS[name](folder)
