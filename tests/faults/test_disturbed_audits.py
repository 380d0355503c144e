"""Real audits are killed, run out of disk, and lose their data: nothing is lost, nothing is wrong.

An audit that was disturbed ends, when it is gone on with, in the very files of one that was not;
or it says in one clear error why it cannot. The long forms are marked slow:
``LABELFIX_FAULT_ROUNDS`` says how many moments of each stage, and how many sizes of a disk they
try. ``pytest -s`` prints what was tried.
"""

import os
import random
import resource
import shutil
import signal
import sys
import time
from dataclasses import replace

import pytest
from command_processes import Commands, Ended
from fault_jobs import (
    MAKERS,
    Job,
    Whole,
    faults_of_ended,
    faults_of_stopped,
    make_job,
    undisturbed,
)
from kill_points import drafts_below
from small_disks import small_disk

ROUNDS = int(os.environ.get("LABELFIX_FAULT_ROUNDS", "30"))
"""How many moments of each stage, or sizes of a disk, the long forms try."""

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
INTERRUPTED = 130
IN_SHORT = ("full",)
"""The audits that the short form kills: the one that has most to lose."""


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    return Commands(tmp_path_factory.mktemp("commands"))


@pytest.fixture
def tell(request):
    """Say with ``pytest -s`` what was tried."""
    return lambda text: sys.stdout.write(f"\n{request.node.name}: {text}\n")


def tail_of(ended: Ended) -> str:
    return "\n".join(ended.said.splitlines()[-9:])


class Disturbed:
    """An audit that is killed again and again, and gone on with.

    Args:
        commands: Starts it.
        job: The audit.
        whole: What it leaves if nothing disturbs it.
        seed: Of the moments and the signals.
    """

    def __init__(self, commands: Commands, job: Job, whole: Whole, seed: int) -> None:
        self._commands, self._job, self._whole = commands, job, whole
        self._rng = random.Random(f"{job.name} {seed}")
        self.kills = 0
        self.faults: list[str] = []

    def round(self) -> None:
        """Kill the audit once in each of its stages, one after the other, and let it end."""
        self._begin_anew()
        for stage in self._whole.ended.stages:
            which, share = self._rng.choice(SIGNALS), self._rng.random()
            at = f"{which.name} {share:.3f} of {stage.name!r}"
            running = self._commands.start(*self._job.words("--resume"))
            if running.wait_for(stage.name):
                time.sleep(share * stage.seconds)
                running.send(which)
            ended = running.wait()
            if ended.code == 0:
                self._score_ended(at, ended)
                self._begin_anew()
            else:
                self.kills += 1
                self._score_stopped(at, which, ended)
        self._score_ended("the end", self._commands.run(*self._job.words("--resume")))

    def _begin_anew(self) -> None:
        for place in (self._job.run, self._job.cache):
            shutil.rmtree(place, ignore_errors=True)

    def _score_stopped(self, at: str, which: signal.Signals, ended: Ended) -> None:
        faults = faults_of_stopped(self._job, self._whole)
        if ended.has_traceback:
            faults.append(tail_of(ended))
        if ended.code != (INTERRUPTED if which == signal.SIGINT else -which):
            faults.append(f"it ended with {ended.code}: {tail_of(ended)}")
        if which == signal.SIGINT and "interrupted: nothing half-written" not in ended.said:
            faults.append(f"it does not say that it was interrupted: {tail_of(ended)}")
        if which == signal.SIGINT and self._job.run.exists():
            faults += [f"{name} is left" for name in drafts_below(self._job.run)]
        self.faults += [f"{at}: {fault}" for fault in faults]

    def _score_ended(self, at: str, ended: Ended) -> None:
        faults = faults_of_ended(self._job, self._whole, ended, self._commands)
        self.faults += [f"{at}: {fault}" for fault in faults]


def disturb(commands, folder, name, rounds, seed):
    job = make_job(name, folder / name)
    disturbed = Disturbed(commands, job, undisturbed(commands, job), seed)
    for _ in range(rounds):
        disturbed.round()
    return disturbed


@pytest.mark.parametrize("name", IN_SHORT)
def test_an_audit_that_is_killed_in_each_stage_ends_as_if_it_were_not(
    commands, tmp_path, name, tell
):
    disturbed = disturb(commands, tmp_path, name, rounds=1, seed=0)
    tell(f"{disturbed.kills} kills, seed 0")
    assert not disturbed.faults, "\n".join(disturbed.faults)
    assert disturbed.kills > 3


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_an_audit_that_is_killed_at_many_moments_ends_as_if_it_were_not(
    commands, tmp_path, name, tell
):
    disturbed = disturb(commands, tmp_path, name, rounds=ROUNDS, seed=1)
    told = "".join(f"\n  {fault}" for fault in disturbed.faults)
    tell(f"{disturbed.kills} kills, seed 1, {len(disturbed.faults)} faults{told}")
    assert not disturbed.faults, "\n".join(disturbed.faults)


# Disks


WITHOUT_CACHE = {
    "probabilities": "given probabilities need no cache",
    "full": "where images find no room, training decodes them again and again, in another order",
}
"""Audits that do without a cache, and why."""


def bytes_below(folder):
    """Return how much a disk must hold for the files of a folder, in whole pages."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files)


def fill(commands, job, whole, limit, free, place):
    """Let an audit come to the end of the space, and go on with more; return what is wrong."""
    for folder in (job.run, job.cache):
        shutil.rmtree(folder, ignore_errors=True)
    limits = limit()
    full = commands.run(*job.words(), limits=limits)
    free()
    if full.code == 0:  # what was left was enough after all
        return faults_of_ended(job, whole, full, commands)
    faults = faults_of_stopped(job, whole)
    if not full.is_refusal or "cannot write" not in full.said:
        faults.append(f"it ended with {full.code}: {full.said[-1500:]}")
    faults += [f"{name} is left" for name in drafts_below(job.run)]
    ended = commands.run(*job.words("--resume"))
    return faults + faults_of_ended(job, whole, ended, commands)


def fill_disks(commands, folder, name, shares, where):
    """Try disks that hold so much of what the RUN or the cache needs."""
    job = make_job(name, folder / name)
    whole = undisturbed(commands, job)
    needed = bytes_below(getattr(job, where))
    found = []
    with small_disk(folder / "disk") as disk:
        moved = replace(job, **{where: disk.place / where})
        for share in shares:
            size = int(share * needed)
            faults = fill(
                commands, moved, whole, lambda size=size: disk.resize(size),
                lambda: disk.resize(1 << 30), where,
            )  # fmt: skip
            found += [f"{where}, {size:,} of {needed:,} bytes: {fault}" for fault in faults]
    return found


@pytest.mark.parametrize(("name", "where"), [("full", "run"), ("head", "cache")])
def test_a_full_disk_is_told_and_the_run_goes_on_with_more_space(commands, tmp_path, name, where):
    found = fill_disks(commands, tmp_path, name, (0.6,), where)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["run", "cache"])
@pytest.mark.parametrize("name", MAKERS)
def test_disks_that_are_full_at_any_moment_are_told(commands, tmp_path, name, where):
    if where == "cache" and name in WITHOUT_CACHE:
        pytest.skip(WITHOUT_CACHE[name])
    rng = random.Random(f"{name} {where}")
    shares = [0, *(rng.random() for _ in range(ROUNDS - 1))]
    sys.stdout.write(f"\n{name}, {where}: {len(shares)} sizes of a disk\n")
    found = fill_disks(commands, tmp_path, name, shares, where)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["probabilities", pytest.param("texts", marks=pytest.mark.slow)])
def test_files_that_may_not_grow_are_told(commands, tmp_path, name):
    """The limit of a process, which needs no right to mount; the page is the largest file."""
    job = make_job(name, tmp_path / name)
    whole = undisturbed(commands, job)
    sizes = sorted(len(content) for content in whole.files.values())
    limits = {resource.RLIMIT_FSIZE: sizes[-1] - 1}
    faults = fill(commands, job, whole, lambda: limits, lambda: None, "run")
    assert not faults, "\n".join(faults)


def refuses_or_ends(commands, job, whole, ended):
    """Return what is wrong with a command that was kept from writing or reading."""
    if ended.code == 0:
        return faults_of_ended(job, whole, ended, commands)
    return [] if ended.is_refusal else [f"it ended with {ended.code}: {ended.said[-1500:]}"]


@pytest.fixture(scope="module")
def heads(commands, tmp_path_factory):
    """An audit of heads that has ended, and what it left."""
    job = make_job("head", tmp_path_factory.mktemp("heads") / "head")
    return job, undisturbed(commands, job)


@pytest.fixture
def closed():
    """Closes places to everybody, and opens them again at the end."""
    places = []

    def close(place, mode):
        places.append((place, place.stat().st_mode & 0o777))
        place.chmod(mode)

    yield close
    for place, mode in reversed(places):
        place.chmod(mode)


CLOSED = [("run", 0o000), ("above", 0o555), ("cache", 0o555), ("entries", 0o000)]
IN_LONG = [("run", 0o555), ("above", 0o000), ("cache", 0o000), ("entries", 0o555)]


@pytest.mark.parametrize(
    ("place", "mode"), [*CLOSED, *(pytest.param(*one, marks=pytest.mark.slow) for one in IN_LONG)]
)
def test_folders_without_permission_are_told(commands, heads, tmp_path, closed, place, mode):
    job, whole = heads
    work = replace(job, run=tmp_path / "above" / "run", cache=tmp_path / "cache")
    work.run.mkdir(parents=True)
    shutil.copytree(job.cache, work.cache)
    kept = next(path for path in work.cache.iterdir() if path.is_dir())
    place = {"run": work.run, "above": work.run.parent, "cache": work.cache, "entries": kept}[place]
    closed(place, mode)
    ended = commands.run(*work.words(), is_powerless=True)
    place.chmod(0o755)
    assert refuses_or_ends(commands, work, whole, ended) == []


def commands_on(run, data, to):
    """Return the words of each command that reads a RUN, or the data that it is of."""
    return [
        ["show", run], ["show", run, "--html"], ["export", run, to / "labels.csv"],
        ["export", run, to / "clean"], ["diff", run], ["check", run, "--max-error-rate", "0.9"],
        ["certify", run], ["diagnose", run, "--samples", "4", "--draws", "2"],
        ["audit", data, "--config", run / "run.json", "--out", to / "run", "--decisions", run],
    ]  # fmt: skip


@pytest.mark.slow
def test_commands_tell_what_they_may_not_read(commands, tmp_path, closed):
    job = make_job("full", tmp_path / "full")
    undisturbed(commands, job)
    (job.run / "decisions.jsonl").write_text("")
    data, faults = job.inputs[0], []
    places = [job.run, job.run.parent, job.cache, *job.inputs, data / "cat", *job.run.iterdir()]
    for place in [*places, data / "cat" / "0.png"]:
        for words in [*commands_on(job.run, data, tmp_path / "to"), job.words("--resume")]:
            (tmp_path / "to").mkdir(exist_ok=True)
            closed(place, 0o000)
            ended = commands.run(*words, is_powerless=True)
            place.chmod(0o755 if place.is_dir() else 0o644)
            if not (ended.code == 0 or ended.is_refusal):
                faults.append(f"{place.name} closed to {words[:2]}: {ended.code}, {tail_of(ended)}")
            shutil.rmtree(tmp_path / "to")
    assert not faults, "\n".join(faults)


# Data that change


def alter(data, how):
    """Take the data away, cut each of their files in half, or mix up what they hold."""
    files = sorted(path for path in [data, *data.rglob("*")] if path.is_file())
    if how == "removed":
        for path in files:
            path.unlink()
    elif how == "cut":
        for path in files:
            os.truncate(path, path.stat().st_size // 2)
    elif len(files) > 1:
        for one, other in zip(files, files[::-1][: len(files) // 2], strict=False):
            one.write_bytes(other.read_bytes())
    else:
        first, *lines = data.read_text().splitlines(keepends=True)
        data.write_text(first + "".join(lines[::-1]))


def alter_and_go_on(commands, job, whole, how, *, is_stopped):
    """Alter the data of an audit that was killed, or stands still; return what is wrong."""
    data = job.inputs[0]
    kept = data.with_name("kept")
    (shutil.copytree if data.is_dir() else shutil.copy2)(data, kept)
    for place in (job.run, job.cache):
        shutil.rmtree(place, ignore_errors=True)
    stages = [stage.name for stage in whole.ended.stages]
    running = commands.start(*job.words())
    running.wait_for(stages[-3] if is_stopped else stages[-1])
    running.send(signal.SIGSTOP if is_stopped else signal.SIGKILL)
    faults = []
    if is_stopped:
        alter(data, how)
        running.send(signal.SIGCONT)
    ended = running.wait()
    if is_stopped and not (ended.code == 0 or ended.is_refusal):
        faults.append(f"{how} under its feet: {ended.code}, {tail_of(ended)}")
    if not is_stopped:
        alter(data, how)
    told = commands.run(*job.words("--resume"))
    if not told.is_refusal:
        faults.append(f"{how}: {told.code}, {tail_of(told)}")
    shutil.rmtree(data) if data.is_dir() else data.unlink(missing_ok=True)
    kept.rename(data)
    ended = commands.run(*job.words("--resume"))
    if not (is_stopped and ended.is_refusal):
        found = faults_of_ended(job, whole, ended, commands)
        # an audit that came to its end has drawn the page from what was there then
        faults += [one for one in found if not (is_stopped and one.startswith("report.html"))]
    return [f"{how}: {fault}" for fault in faults]


HOW = ("removed", "cut", "mixed up")


def faults_of_changes(commands, tmp_path, name, ways, *, is_stopped):
    """Return what goes wrong where the data of a job change in each of some ways."""
    job = make_job(name, tmp_path / name)
    whole = undisturbed(commands, job)
    return [
        fault
        for how in ways
        for fault in alter_and_go_on(commands, job, whole, how, is_stopped=is_stopped)
    ]


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("probabilities", HOW[1:2]),
        ("head", HOW[2:]),
        *(pytest.param(name, HOW, marks=pytest.mark.slow) for name in MAKERS),
    ],
)
def test_data_that_changed_since_are_told(commands, tmp_path, name, ways):
    faults = faults_of_changes(commands, tmp_path, name, ways, is_stopped=False)
    assert not faults, "\n".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_data_that_change_under_its_feet_are_told(commands, tmp_path, name):
    faults = faults_of_changes(commands, tmp_path, name, HOW, is_stopped=True)
    assert not faults, "\n".join(faults)
