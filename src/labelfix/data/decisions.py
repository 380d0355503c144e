"""What people decided about the samples of a run: ``RUN/decisions.jsonl``.

One JSON object a line, only ever added to. The last decision on a sample that was not taken back is
the one in force. An append is on disk before it returns, and several processes may append.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock

from labelfix.errors import DecisionsError, RunError
from labelfix.types import Label
from labelfix.utils.files import refuse_special_file
from labelfix.utils.reading import is_label, is_unicode, parse_json

DECISIONS_NAME = "decisions.jsonl"
"""What the decisions are called in a RUN folder."""

DecisionAction = Literal["keep", "relabel", "unsure", "drop", "undo"]
"""``undo`` takes back the last decision on the sample that is still in force."""

_ACTIONS = frozenset(get_args(DecisionAction))
LOG_LOCK_NAME = f".{DECISIONS_NAME}.lock"


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decided about one sample.

    Args:
        sample_id: The sample, as the report names it.
        action: Keep the given label, relabel, not sure, drop the sample, or take back.
        label: The label chosen; only with ``relabel``.
        decided_at: When, UTC, like ``2026-11-23T12:00:00.123Z``.
        decided_by: Who, if that is known.
        flagged: Whether the report flagged the label.
        batch: An id that the decisions of one action share.
        as_copy: Whether the sample is dropped as a copy of one that stays, which says nothing of
            its label; only with ``drop``.
    """

    sample_id: str
    action: DecisionAction
    label: Label | None = None
    decided_at: str = ""
    decided_by: str | None = None
    flagged: bool = False
    batch: str | None = None
    as_copy: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the decision as it stands in the file."""
        values = {
            "sample_id": self.sample_id,
            "decision": self.action,
            "label": self.label,
            "decided_at": self.decided_at,
            "decided_by": self.decided_by,
            "flagged": self.flagged,
            "batch": self.batch,
        }
        return {**values, "as_copy": True} if self.as_copy else values


def now() -> str:
    """Return the time as decisions hold it: UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


PARTS_MANIFEST = "_manifest.json"
"""What makes a folder a report in parts, see `labelfix.report.parts`."""


def folder_of_run(run: Path) -> Path:
    """Return the RUN folder, for itself, a file in it, or its report in parts."""
    folder = run if run.is_dir() else run.parent
    return folder.parent if (folder / PARTS_MANIFEST).is_file() else folder


def decisions_file(run: Path) -> Path:
    """Return where the decisions on a run are, for a RUN folder, the report in it or the file."""
    if run.suffix == Path(DECISIONS_NAME).suffix and not run.is_dir():
        return run  # the page of a run saves such a file under any name
    return folder_of_run(run) / DECISIONS_NAME


def read_decisions(run: Path) -> dict[str, Decision]:
    """Return the decisions in force by sample id, none if nobody has decided anything.

    Raises:
        DecisionsError: A line is no decision. A last line that a crash cut off is left out.
    """
    log = DecisionLog(run)
    log.refresh()
    return dict(log.in_force)


def refuse_unknown_labels(decisions: Iterable[Decision], class_names: Sequence[Label]) -> None:
    """Refuse decisions for a label that is no class of the report.

    Raises:
        DecisionsError: There is one.
    """
    known = set(class_names)
    for decision in decisions:
        label = decision.label
        if label is not None and label not in known:
            raise DecisionsError(
                f"{decision.sample_id} was relabeled {label!r}, which is no class of the report",
                hint="check the spelling, or take the decision back in `labelfix review`",
            )


class DecisionLog:
    """The decisions on a run, to read and to add to. Use it from one thread at a time.

    Args:
        run: The RUN folder, or the report in it.
        class_names: The classes that a decision may choose; ``None`` allows new ones.
    """

    def __init__(self, run: Path, class_names: Sequence[Label] | None = None) -> None:
        self.path = decisions_file(run)
        self._class_names = class_names
        self._in_force: dict[str, Decision] = {}
        self._stacks: defaultdict[str, list[Decision]] = defaultdict(list)
        self._made: list[Decision] = []
        self._read_to = 0
        self._lines = 0

    @property
    def in_force(self) -> Mapping[str, Decision]:
        """Return the decisions in force by sample id."""
        return self._in_force

    def refresh(self) -> list[str]:
        """Take in what was appended since, by anybody; return the samples that it touches.

        Raises:
            DecisionsError: A line is no decision.
        """
        refuse_special_file(self.path, DecisionsError)
        try:
            size = self.path.stat().st_size
            if size == self._read_to:
                return []
            self._refuse_shorter(size)
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                data = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DecisionsError(
                f"{self.path} cannot be read: {error.strerror}", hint="make it readable"
            ) from error
        whole, _, tail = data.rpartition(b"\n")
        lines = whole.split(b"\n") if whole else []
        ended = len(lines)
        if _is_object(tail):  # a line without its end, by an editor or a crash
            lines.append(tail)
        else:
            data = data[: len(data) - len(tail)]
        read = [self._read_line(line, at) for at, line in enumerate(lines, self._lines + 1)]
        new = [decision for decision in read if decision is not None]
        for decision in new:
            self._replay(decision)
        self._read_to += len(data)
        self._lines += ended
        return [decision.sample_id for decision in new]

    def append(self, decisions: Sequence[Decision]) -> list[Decision]:
        """Append decisions in one write; when this returns, they are on disk.

        Args:
            decisions: What was decided; a ``decided_at`` that is empty becomes now.

        Returns:
            The decisions as they were written.

        Raises:
            DecisionsError: A decision does not hold together, or chooses a class that is none.
            RunError: The file cannot be written to; then none of them is in it.
        """
        stamped = [_stamped(decision) for decision in decisions]
        if self._class_names is not None:
            refuse_unknown_labels(stamped, self._class_names)
        with self._locked():
            self.refresh()
            self._write(stamped)
        return stamped

    def take(self, decisions: Iterable[Decision]) -> list[Decision]:
        """Append decisions that were made elsewhere, but for those that are known or older.

        What was appended once is known, though it may have been taken back since; where both this
        log and the others have a decision on a sample, the later one stands.

        Returns:
            The decisions that were new.

        Raises:
            DecisionsError: A decision chooses a class that is none.
            RunError: The file cannot be written to; then none of them is in it.
        """
        decisions = list(decisions)
        if self._class_names is not None:
            refuse_unknown_labels(decisions, self._class_names)
        with self._locked():
            self.refresh()
            known = set(self._made)
            new = [d for d in decisions if d not in known and not self._is_later(d)]
            self._write(new)
        return new

    def _is_later(self, decision: Decision) -> bool:
        """Return whether the decision in force on the same sample is later."""
        held = self._in_force.get(decision.sample_id)
        return held is not None and held.decided_at > decision.decided_at

    def undo(self, decisions: Iterable[Decision], *, decided_by: str | None = None) -> list[str]:
        """Take back those of some decisions that are still in force.

        Args:
            decisions: As `in_force` or `last_action` holds them.
            decided_by: Who takes them back.

        Returns:
            The samples whose decision was taken back; what somebody else has decided anew, or taken
            back already, is left alone.

        Raises:
            RunError: The file cannot be written to; then nothing is taken back.
        """
        with self._locked():
            self.refresh()
            taken = [d for d in decisions if self.in_force.get(d.sample_id) == d]
            at = now()
            self._write(
                [
                    Decision(d.sample_id, "undo", None, at, decided_by, d.flagged, d.batch)
                    for d in taken
                ]
            )
        return [decision.sample_id for decision in taken]

    def last_action(self, decided_by: str | None = None) -> list[Decision]:
        """Return the last decision in force, with all others of its batch that are.

        Args:
            decided_by: Whose; ``None`` is anybody's.
        """
        for decision in reversed(self._made):
            if decided_by is not None and decision.decided_by != decided_by:
                continue
            if self.in_force.get(decision.sample_id) is decision:
                return self.of_batch(decision.batch) if decision.batch else [decision]
        return []

    def of_batch(self, batch: str) -> list[Decision]:
        """Return the decisions of a batch that are in force."""
        return [decision for decision in self.in_force.values() if decision.batch == batch]

    def _refuse_shorter(self, size: int) -> None:
        if size < self._read_to:
            raise DecisionsError(
                f"{self.path} has become shorter: another program has changed it",
                hint="put the file back as it was, and start again",
            )

    def _read_line(self, line: bytes, number: int) -> Decision | None:
        if not line.strip():
            return None
        try:
            return _decision_of(parse_json(line))
        except (ValueError, DecisionsError) as error:
            raise DecisionsError(
                f"line {number} of {self.path} is no decision: {error}",
                hint="mend or delete that line in a text editor; keep a copy of the file",
            ) from error

    def _replay(self, decision: Decision) -> None:
        stack, sample = self._stacks[decision.sample_id], decision.sample_id
        if decision.action != "undo":
            stack.append(decision)
            self._made.append(decision)
        elif stack:
            stack.pop()
        if stack:
            self._in_force[sample] = stack[-1]
        else:
            self._in_force.pop(sample, None)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            held = FileLock(self.path.with_name(LOG_LOCK_NAME)).acquire()
        except OSError as error:
            raise _not_written(self.path, error) from error
        with held:
            yield

    def _write(self, decisions: Sequence[Decision]) -> None:
        """Write decisions behind what `refresh` has read, and take them in."""
        if not decisions:
            return
        text = "".join(json.dumps(d.to_json(), ensure_ascii=False) + "\n" for d in decisions)
        try:
            is_new = not self.path.exists()
            with self.path.open("ab") as file:
                file.truncate(self._read_to)  # what a crash cut off was never promised to anybody
                try:
                    file.write(self._line_end() + text.encode())
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), self._read_to)
                    raise
            if is_new:
                _sync_folder(self.path.parent)
        except OSError as error:
            raise _not_written(self.path, error) from error
        self.refresh()

    def _line_end(self) -> bytes:
        """Return what the last line lacks."""
        if not self._read_to:
            return b""
        with self.path.open("rb") as file:
            file.seek(self._read_to - 1)
            return b"" if file.read(1) == b"\n" else b"\n"


def _stamped(decision: Decision) -> Decision:
    values = {**decision.to_json(), "decided_at": decision.decided_at or now()}
    return _decision_of(values)


def _decision_of(values: Any) -> Decision:
    """Return the decision that a line holds.

    Raises:
        DecisionsError: It holds none; the message says what is wrong with it.
    """
    if not isinstance(values, dict):
        raise DecisionsError("it is no JSON object")
    sample, action, label = (values.get(key) for key in ("sample_id", "decision", "label"))
    by, batch = values.get("decided_by"), values.get("batch")
    at, flagged = values.get("decided_at"), values.get("flagged", False)
    as_copy = values.get("as_copy", False)
    faults = {
        "sample_id is no text": not _is_text(sample),
        f"decision {str(action)[:100]!r} is not known": not isinstance(action, str)
        or action not in _ACTIONS,
        "label is no text or integer": not _is_label(label),
        "label is there without relabel, or relabel without it": (action == "relabel")
        != (label is not None),
        "decided_at is no text": not _is_text(at),
        "decided_by is no text": by is not None and not _is_text(by),
        "batch is no text": batch is not None and not _is_text(batch),
        "flagged is not true or false": not isinstance(flagged, bool),
        "as_copy is not true or false": not isinstance(as_copy, bool),
        "as_copy is true without drop": as_copy is True and action not in ("drop", "undo"),
    }
    for fault, is_there in faults.items():
        if is_there:
            raise DecisionsError(fault)
    return Decision(sample, action, label, at, by, flagged, batch, as_copy)  # type: ignore[arg-type]


def _is_label(value: Any) -> bool:
    return value is None or is_label(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and is_unicode(value)


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(parse_json(text), dict)
    except ValueError:
        return False


def _sync_folder(folder: Path) -> None:
    """Put the name of a new file on disk, where the system can do that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _not_written(path: Path, error: OSError) -> RunError:
    return RunError(
        f"cannot write {path}: {error.strerror or error}",
        hint="free some space or make the folder writable; no decision was kept",
    )
