"""Train again on what a review decided, and count the labels that look wrong only then.

The audit is the real command in a process of its own, since a review loads no library of models. It
reads the features that the run has cached, trains heads on them, and writes a run inside RUN: that
of the review stays as it is.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Literal

import numpy as np

from labelfix.data.decisions import decisions_file, folder_of_run
from labelfix.data.remote import is_remote
from labelfix.errors import LabelfixError, RunError
from labelfix.modalities.base import is_known
from labelfix.report.io import RUN_NAME, read_report_table
from labelfix.report.run_folder import AGAIN
from labelfix.report.view import ReportView
from labelfix.review.session import Session
from labelfix.types import MEMORY_KIND, PRED_PROBS_KIND
from labelfix.utils.reading import parse_json

LOADING = 6.0
"""Seconds that a command takes to load its libraries, which no run has noted."""

_DONE_BEFORE = ("computing features", "decoding", "choosing what is trained")
"""Stages whose results are cached, or that are left out."""

_LINES_KEPT = 20
_PATIENCE = 5.0
"""Seconds that an audit gets to end itself."""

Stage = Literal["idle", "running", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Plan:
    """An audit that trusts the decisions of a review.

    Args:
        arguments: What follows ``labelfix``.
        out: The run that it writes.
        seconds: How long it should take; ``None`` if nothing tells.
        is_other_model: Whether the run trained networks, where this trains heads.
    """

    arguments: tuple[str, ...]
    out: Path
    seconds: float | None
    is_other_model: bool

    @property
    def command(self) -> str:
        """Return the command as a shell reads it."""
        return shlex.join(["labelfix", *self.arguments])


@dataclass(frozen=True, slots=True)
class Found:
    """What an audit found that trusts the decisions of a review.

    Args:
        run: The run that it wrote.
        new: Labels that look wrong now, and that were neither flagged nor decided before.
        still: Those that were flagged and still are, and that nobody has decided on.
        cleared: Those that were flagged and no longer are, and that nobody has decided on.
        decided: Decisions that it trusted.
        seconds: How long it took.
    """

    run: Path
    new: int
    still: int
    cleared: int
    decided: int
    seconds: float

    @property
    def command(self) -> str:
        """Return the command that shows what it found."""
        return shlex.join(["labelfix", "review", str(self.run)])

    def to_json(self) -> dict[str, Any]:
        """Return what was found as JSON values."""
        return {**asdict(self), "run": str(self.run), "command": self.command}


@dataclass(frozen=True, slots=True)
class State:
    """How far it is, as the page shows it.

    Args:
        stage: Whether it has begun, and how it ended.
        why_not: Why it cannot be done; ``None`` if it can.
        seconds: How long it should take; ``None`` if nothing tells.
        is_other_model: Whether the run trained networks, where this trains heads.
        doing: The last line of progress.
        elapsed: Seconds since it began.
        found: What it found, and by which command that is shown.
        error: Why it failed.
        hint: What to do about that.
    """

    stage: Stage
    why_not: str | None
    seconds: float | None = None
    is_other_model: bool = False
    doing: str = ""
    elapsed: float = 0.0
    found: dict[str, Any] | None = None
    error: str | None = None
    hint: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return asdict(self)


class Retraining:
    """Trains again on the decisions of a review, once at a time; safe to use from several threads.

    Args:
        session: The review.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = Lock()
        self._stage: Stage = "idle"
        self._process: subprocess.Popen[str] | None = None
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._began = 0.0
        self._is_stopped = False
        self._found: Found | None = None
        self._fault: LabelfixError | None = None

    @property
    def found(self) -> Found | None:
        """Return what was found last."""
        return self._found

    def plan(self) -> Plan:
        """Return the audit that would be run now.

        Raises:
            RunError: It cannot be done, for a reason that its message says.
        """
        return plan_of(self._session)

    def state(self) -> State:
        """Return how far it is."""
        plan, why_not = None, None
        try:
            plan = self.plan()
        except RunError as error:
            why_not = f"{error}" + (f": {error.hint}" if error.hint else "")
        with self._lock:
            found, fault = self._found, self._fault
            is_running = self._stage == "running"
            return State(
                stage=self._stage,
                why_not=why_not,
                seconds=None if plan is None else plan.seconds,
                is_other_model=plan is not None and plan.is_other_model,
                doing=self._lines[-1] if self._lines and is_running else "",
                elapsed=time.monotonic() - self._began if is_running else 0.0,
                found=None if found is None else found.to_json(),
                error=None if fault is None else str(fault),
                hint=None if fault is None else fault.hint,
            )

    def start(self) -> None:
        """Begin, and return at once.

        Raises:
            RunError: It goes on already, or cannot be done.
        """
        plan, decided = self.plan(), self._session.settled
        with self._lock:
            if self._is_stopped or self._stage == "running":
                raise RunError("it goes on already", hint="wait until it is done")
            self._lines.clear()
            self._found = self._fault = None
            self._began = time.monotonic()
            self._process = _started(plan.arguments)
            self._stage = "running"
        Thread(target=self._follow, args=(self._process, plan, decided), daemon=True).start()

    def stop(self) -> None:
        """End the audit that goes on, if one does, and let none begin any more."""
        with self._lock:
            self._is_stopped = True
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()

    def _follow(self, process: "subprocess.Popen[str]", plan: Plan, decided: int) -> None:
        """Keep the lines of an audit until it ends, and read what it found."""
        assert process.stderr is not None
        with process.stderr as said:
            for line in said:
                if line.strip():
                    self._lines.append(line.strip())
        code = process.wait()
        found, fault = None, None
        try:
            if code:
                raise _fault_of(list(self._lines), code)
            found = self._count(plan.out, decided)
        except LabelfixError as error:
            fault = error
        with self._lock:
            self._found, self._fault = found, fault
            self._stage = "done" if fault is None else "failed"

    def _count(self, run: Path, decided: int) -> Found:
        report, session = read_report_table(run, pred_probs=False), self._session
        if not report.has_names(session.view.sample_id):
            raise RunError(
                "the data have changed since the audit: their samples are not those of the report",
                hint="audit them again",
            )
        is_flagged, is_open = ReportView(report).is_flagged, ~session.is_decided
        was_flagged = session.view.is_flagged
        return Found(
            run=run,
            new=int(np.count_nonzero(is_flagged & ~was_flagged & is_open)),
            still=int(np.count_nonzero(is_flagged & was_flagged & is_open)),
            cleared=int(np.count_nonzero(~is_flagged & was_flagged & is_open)),
            decided=decided,
            seconds=round(time.monotonic() - self._began, 1),
        )


def plan_of(session: Session) -> Plan:
    """Return the audit that trusts the decisions of a review so far.

    Raises:
        RunError: It cannot be done, for a reason that its message says.
    """
    run = folder_of_run(session.run)
    _refuse_data(session)
    record = _record_of(run)
    if not session.settled:
        raise RunError(
            "there is nothing to learn from yet", hint="keep, relabel or drop some samples first"
        )
    config, out = record["config"], _free_folder(run)
    is_other_model = config.get("tune") in ("top", "full")
    arguments = [
        "audit", str(session.source.path), "--config", str(run / RUN_NAME),
        "--decisions", str(decisions_file(session.run).parent), "--out", str(out),
    ]  # fmt: skip
    arguments += ["--tune", "head"] if is_other_model else []
    arguments += ["--overwrite"] if out.exists() else []  # one that was interrupted
    seconds = None if is_other_model else _seconds(record.get("seconds"))
    return Plan(tuple(arguments), out, seconds, is_other_model)


def _refuse_data(session: Session) -> None:
    """Refuse samples that the command cannot find again."""
    source, modality = session.source, session.view.report.run.modality
    if source.kind == PRED_PROBS_KIND:
        raise RunError(
            "this run is on given probabilities, so there is no model of labelfix to train",
            hint="train your model on an export, and audit its new probabilities",
        )
    if source.kind == MEMORY_KIND or not is_known(modality or "image"):
        raise RunError(
            "the samples were in the memory of a program",
            hint="audit them there again, with decisions=RUN",
        )
    if not is_remote(source.path) and not source.path.exists():  # an address answers in its time
        raise RunError(
            f"{source.path}, the audited data set, is gone", hint="put it back where it was"
        )


def _record_of(run: Path) -> Mapping[str, Any]:
    """Return what ``run.json`` says: the settings of the audit, and how long it took."""
    with suppress(OSError, ValueError):
        record = parse_json((run / RUN_NAME).read_bytes())
        if isinstance(record, dict) and isinstance(record.get("config"), dict):
            return record
    raise RunError(
        f"{run / RUN_NAME} does not say how the data were audited",
        hint="audit the data again, with --decisions RUN",
    )


def _free_folder(run: Path) -> Path:
    """Return a folder inside the first run of a series that holds no finished run."""
    is_inner = re.fullmatch(rf"{AGAIN}-\d+", run.name) and (run.parent / RUN_NAME).is_file()
    home, number = run.parent if is_inner else run, 1
    while (home / f"{AGAIN}-{number}" / RUN_NAME).exists():
        number += 1
    return home / f"{AGAIN}-{number}"


def _seconds(stages: Any) -> float | None:
    """Return how long heads should take, by the stages of a run that trained them."""
    if not isinstance(stages, dict):
        return None
    left = [stages[name] for name in stages if name not in _DONE_BEFORE]
    if not left or not all(isinstance(one, int | float) for one in left):
        return None
    return LOADING + float(sum(left))


def _started(arguments: Sequence[str]) -> "subprocess.Popen[str]":
    # lines, where a terminal would get bars
    env = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    env |= {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1", "TTY_COMPATIBLE": "0"}
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "labelfix", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=env,
        )
    except OSError as error:
        raise RunError(f"the audit cannot be started: {error}") from error


def _fault_of(lines: Sequence[str], code: int) -> RunError:
    """Return what an audit said before it failed."""

    def said(what: str) -> str | None:
        found = [line.partition(": ")[2] for line in lines if line.startswith(f"{what}: ")]
        return found[-1] if found else None

    error = said("error")
    if error is not None:
        return RunError(error, hint=said("hint"))
    if code < 0:
        return RunError(
            f"the audit was ended by signal {-code}",
            hint="run the command by hand; if the memory was full, close other programs",
        )
    return RunError(lines[-1] if lines else f"the audit ended with exit code {code}")
