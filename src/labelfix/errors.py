"""What can go wrong, for a person to read.

::

    LabelfixError
    ├── ConfigError      a setting that cannot be used
    ├── DatasetError     the data set as a whole cannot be used
    ├── BackboneError    the backbone or its weights cannot be loaded
    ├── TrainingError    training cannot go on
    ├── RunError         a RUN folder cannot be written, or holds another run
    ├── ReportError      a file is not a labelfix report
    ├── DecisionsError   a file of decisions cannot be read, or a decision is none
    └── BenchmarkError   a benchmark cannot be run, or a file does not hold its rows

    UnreadableSample     one sample cannot be read: a row in the report, never the end of a run
"""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_NO_ACCESS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_AS_IT_WAS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ESTALE})
_OF_THE_MACHINE = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE, errno.ELOOP})


class LabelfixError(Exception):
    """A fault that the user can mend: what and where in the message, how to mend it in ``hint``."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(LabelfixError):
    """A setting that cannot be used."""


class DatasetError(LabelfixError):
    """The data set as a whole cannot be used."""


class BackboneError(LabelfixError):
    """The backbone or its weights cannot be loaded."""


class TrainingError(LabelfixError):
    """Training cannot go on."""


class RunError(LabelfixError):
    """A RUN folder cannot be written, or holds another run."""


class ReportError(LabelfixError):
    """A file is not a report that this version of labelfix can read."""


class DecisionsError(LabelfixError):
    """Decisions on a run cannot be read, or a decision does not hold together."""


class BenchmarkError(LabelfixError):
    """A benchmark cannot be run, or a file does not hold rows of one."""


class UnreadableSample(Exception):
    """One sample cannot be read; the message is the reason that the report gives for the row."""


@contextmanager
def system_faults_told() -> Iterator[None]:
    """Turn what the system refuses while the block runs into one error for a person to read.

    Whoever reads or writes a file says more of it; this is for what nobody expects there: a folder
    above it that may not be entered, a full disk for temporary files, a file that has just gone.

    Raises:
        LabelfixError: A file or a folder cannot be used. Other faults are left as they are.
    """
    try:
        yield
    except OSError as error:
        hint = _hint_on(error)
        if hint is None:
            raise
        reason = error.strerror or str(error)
        what = "cannot write to a disk" if error.filename is None else f"cannot use {_path(error)}"
        raise LabelfixError(f"{what}: {reason}", hint=hint) from error


def _hint_on(error: OSError) -> str | None:
    """Return how to mend what the system refuses, ``None`` if that is not known."""
    if error.errno in _NO_ROOM:
        return f"free some space; temporary files are put into {tempfile.gettempdir()}"
    if error.filename is None:
        return None
    if error.errno in _NO_ACCESS:
        return "check the permissions of it and of the folders above it"
    if error.errno in _NOT_AS_IT_WAS:
        return "it was moved or removed just now: put it back, and repeat the command"
    return "check the disk that it lies on" if error.errno in _OF_THE_MACHINE else None


def _path(error: OSError) -> str:
    name = error.filename
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
