"""Ctrl-C inside a library ends an audit in one line, and nothing of it is kept."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from command import labelfix
from fault_jobs import files_of, make_job
from PIL import ImageFile
from safetensors import SafetensorError

from labelfix.modalities.image import backbone


def interrupted(function, error):
    """Return a function of a library that is interrupted and raises another error, or goes on."""

    def call(*args, **kwargs):
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        if error is not None:
            raise error  # which does not know the interrupt, as in a library that is not Python
        return function(*args, **kwargs)

    return call


FAULTS = [
    ("weights", ValueError("expected a list")),
    ("weights", SafetensorError("header too small")),
    ("weights", None),
    ("picture", OSError("broken data stream")),
    ("picture", None),
]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory):
    return make_job("head", tmp_path_factory.mktemp("interrupts") / "head")


@pytest.fixture
def _heard() -> Iterator[None]:
    """Let Ctrl-C be heard, which shells switch off in what they start in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heard")
def test_an_interrupt_is_told_whatever_a_library_makes_of_it(
    job, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert labelfix(*job.words()).returncode == 0
    whole = files_of(job.run)
    for where, error in FAULTS:
        for place in (job.run, job.cache):
            shutil.rmtree(place, ignore_errors=True)
        with monkeypatch.context() as patched:
            if where == "weights":
                patched.setattr(backbone, "read_weights", interrupted(backbone.read_weights, error))
            else:
                load = interrupted(ImageFile.ImageFile.load, error)
                patched.setattr(ImageFile.ImageFile, "load", load)
            done = labelfix(*job.words())
        assert done.returncode == 130, (where, error, done.stderr)
        assert "interrupted: nothing half-written is left" in done.stderr
        assert "error: " not in done.stderr
        assert "Traceback" not in done.stderr
        if where == "picture":  # or nothing was computed yet
            done = labelfix(*job.words("--resume"))
            assert done.returncode == 0, done.stderr
            assert files_of(job.run) == whole, error


def test_a_fault_without_an_interrupt_is_told_as_one(tmp_path: Path) -> None:
    job = make_job("head", tmp_path / "head")
    job.inputs[1].write_bytes(b"no weights")
    done = labelfix(*job.words())
    assert done.returncode == 1
    assert "is not a safetensors file" in done.stderr
