"""Damaged files of a RUN: each command tells it or is right, and no report is ever wrong."""

import os
import random
import shutil
import sys
from pathlib import Path

import pytest
from command import labelfix
from fault_jobs import Job, make_job
from fuzzing import damaged

from labelfix.data.decisions import Decision, DecisionLog

ROUNDS = int(os.environ.get("LABELFIX_FAULT_ROUNDS", "30"))
"""How often each file is damaged in the long form."""

FILES = ("report.parquet", "noise_matrix.parquet", "neighbors.parquet", "run.json",
         "decisions.jsonl", "report.html")  # fmt: skip
IS_DECIDED_BY = ("decisions.jsonl", "run.json")
"""What people may edit: a change that is still in order is taken for theirs."""


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Job:
    """An audit that has ended, with decisions on it."""
    job = make_job("head", tmp_path_factory.mktemp("heads") / "head")
    done = labelfix(*job.words())
    assert done.returncode == 0, done.stderr
    DecisionLog(job.run).append(
        [Decision("cat/0.png", "relabel", "dog"), Decision("cat/1.png", "keep")]
    )
    return job


def commands_on(run: Path, folder: Path) -> dict[str, list[str | Path]]:
    """Return the words of each command that reads a RUN."""
    return {
        "show": ["show", run, "--json"],
        "class": ["show", run, "--class", "cat"],
        "page": ["show", run, "--html"],
        "export": ["export", run, folder / "labels.csv"],
        "diff": ["diff", run, "--json"],
        "check": ["check", run, "--json", "--max-error-rate", "0.99"],
        "certify": ["certify", run, "--json"],
    }


def told_by(run: Path, folder: Path) -> dict[str, str | None]:
    """Return what each command says of a RUN, ``None`` where it refuses it clearly."""
    told: dict[str, str | None] = {}
    for name, words in commands_on(run, folder).items():
        done = labelfix(*words)
        page = run / "report.html"
        written = {"export": folder / "labels.csv", "page": page}.get(name)
        if "error: " in done.stderr and done.returncode == 1:
            assert done.stderr.count("error: ") == 1, done.stderr
            assert "hint: " in done.stderr, done.stderr
            told[name] = None
        else:
            assert done.returncode == 0, done.stderr
            read = written.read_text("utf-8") if written is not None else done.stdout
            told[name] = read.replace(str(run), "RUN")
        (folder / "labels.csv").unlink(missing_ok=True)
    return told


def faults_of(job: Job, whole: dict[str, str | None], name: str, folder: Path, seed: str):
    """Damage one file of a copy of the RUN; return which commands are wrong about it."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(job.run, run)
    rng = random.Random(f"{name} {seed}")
    file = run / name
    good = file.read_bytes()
    file.write_bytes(damaged(good, rng, is_text=name.endswith(("json", "jsonl"))))
    try:
        told = told_by(run, folder)
    except Exception as error:
        return [f"{name}, {seed}: {type(error).__name__}: {error}"]
    if name in IS_DECIDED_BY:
        return []
    return [
        f"{name}, {seed}: {command} is wrong"
        for command, text in told.items()
        if text is not None and text != whole[command]
    ]


def damage_all(job, folder, names, rounds):
    whole = told_by(shutil.copytree(job.run, folder / "run"), folder)
    assert None not in whole.values()
    found = [
        fault
        for name in names
        for number in range(rounds)
        for fault in faults_of(job, whole, name, folder, str(number))
    ]
    sys.stdout.write(f"\n{len(names) * rounds} damaged files, {len(whole)} commands on each\n")
    return found


def test_commands_tell_a_damaged_file_or_are_right(job, tmp_path):
    found = damage_all(job, tmp_path, FILES[:5], 2)
    assert not found, "\n".join(found)


@pytest.mark.slow
def test_commands_tell_many_damaged_files_or_are_right(job, tmp_path):
    found = damage_all(job, tmp_path, FILES, ROUNDS)
    assert not found, f"{len(found)}: " + "\n".join(found)
