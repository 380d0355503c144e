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
