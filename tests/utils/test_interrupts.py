"""Ctrl-C ends the work where libraries make something else of it."""

import signal
import sys
import threading
from contextlib import suppress

import pytest

from labelfix.errors import LabelfixError
from labelfix.utils import files
from labelfix.utils.files import atomic_path
from labelfix.utils.interrupts import (
    ended_by_interrupt,
    heeding_interrupts,
    interrupts_held,
    interrupts_kept,
    raise_if_interrupted,
)
from labelfix.utils.progress import Progress

STEP = Progress("reading", 1, 2, "images")


def turned_into(error):
    """Be interrupted inside a library that raises an exception of its own instead."""
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    if error is not None:
        raise error


@pytest.fixture(autouse=True)
def handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("error", [ValueError("no header"), LabelfixError("it is damaged")])
def test_an_exception_after_an_interrupt_is_the_interrupt(error):
    with pytest.raises(KeyboardInterrupt) as caught, interrupts_kept():
        turned_into(error)
    assert caught.value.__cause__ is error


def test_other_exceptions_stay_what_they_are():
    with pytest.raises(ValueError, match="no header"), interrupts_kept():
        raise ValueError("no header")
    with interrupts_kept():
        turned_into(None)  # the block ends well before anything notices
    with pytest.raises(ValueError, match="no header"), interrupts_kept():
        raise ValueError("no header")


def test_a_block_within_a_block_tells_the_outer_one():
    def work():
        try:
            with interrupts_kept():
                turned_into(ValueError("no header"))
        except KeyboardInterrupt:
            raise LabelfixError("it is damaged") from None

    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        work()


def test_a_swallowed_interrupt_is_raised_at_the_next_progress():
    told = []
    tell = heeding_interrupts(told.append)
    with interrupts_kept():
        tell(STEP)
        turned_into(None)
        with pytest.raises(KeyboardInterrupt):
            tell(STEP)
    tell(STEP)
    assert told == [STEP, STEP]


def test_an_interrupt_in_a_finalizer_is_raised_at_the_next_progress_and_says_nothing(capsys):
    class Finalized:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    hook = sys.unraisablehook
    with interrupts_kept():
        Finalized()
        with pytest.raises(KeyboardInterrupt):
            raise_if_interrupted()
    assert sys.unraisablehook is hook
    assert "Exception ignored" not in capsys.readouterr().err


def test_what_follows_a_block_that_an_interrupt_ends_is_not_interrupted():
    def work():
        with ended_by_interrupt():
            signal.raise_signal(signal.SIGINT)
        raise_if_interrupted()
        raise LabelfixError("the disk is full")

    with pytest.raises(LabelfixError), interrupts_kept():
        work()


def test_an_interrupt_waits_until_what_is_made_can_be_taken_away(tmp_path, monkeypatch):
    made = files.tempfile.mkstemp

    def make(**place):
        found = made(**place)
        signal.raise_signal(signal.SIGINT)
        return found

    def write():
        with interrupts_kept(), atomic_path(tmp_path / "file") as draft:
            draft.write_text("whole")

    monkeypatch.setattr(files.tempfile, "mkstemp", make)
    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_within_a_block_that_lets_it_through_comes_at_once():
    done = []

    def work():
        with interrupts_held():
            with interrupts_held(is_held=False):
                signal.raise_signal(signal.SIGINT)
            done.append("not reached")

    with pytest.raises(KeyboardInterrupt), interrupts_kept():
        work()
    assert done == []


def test_threads_and_processes_that_ignore_interrupts_are_left_alone():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts_kept():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found = []

    def work():
        with interrupts_kept():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
