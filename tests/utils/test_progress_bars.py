"""Plain progress: which lines come when, on a clock that the test turns."""

import pytest

from labelfix.utils import progress_bars
from labelfix.utils.progress import Progress
from labelfix.utils.progress_bars import PLAIN_EVERY, shown_progress
from labelfix.utils.text import duration, plain, rate


class StageTimer:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StageTimer:
    clock = StageTimer()
    monkeypatch.setattr(progress_bars, "time", clock)
    return clock


def test_a_stage_is_told_at_its_start_its_end_and_now_and_then(
    clock: StageTimer, capsys: pytest.CaptureFixture[str]
) -> None:
    with shown_progress() as tell:
        for done in range(0, 1001, 10):
            tell(Progress("looking", done, 1000, "images"))
            clock.now += PLAIN_EVERY / 40
        tell(Progress("training", 0, 2, "epochs"))
        clock.now += 1
        tell(Progress("training", 2, 2, "epochs", "loss 0.5"))
        tell(Progress("weighing", 0, None, "steps"))
        tell(Progress("weighing", 1, 1, "steps"))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "looking: 1,000 images ...",
        "looking: 400 of 1,000 images, 13/s, 45 s left",
        "looking: 800 of 1,000 images, 13/s, 15 s left",
        "looking: 1,000 images in 1:15 min",
        "training: 2 epochs ...",
        "training: 2 epochs in 1 s, loss 0.5",
        "weighing: ...",
        "weighing: 0 s",
    ]


def test_a_stage_without_a_known_end(clock: StageTimer, capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress() as tell:
        tell(Progress("finding files", 0, None, "files"))
        clock.now += PLAIN_EVERY
        tell(Progress("finding files", 90, None, "files"))
        tell(Progress("finding files", 99, None, "files"))
    assert capsys.readouterr().err.splitlines() == [
        "finding files: ...",
        "finding files: 90 files, 3.0/s",
        "finding files: 99 files in 30 s",
    ]


def test_a_stage_that_fails_is_not_told_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with shown_progress() as tell:
            tell(Progress("training", 1, 9, "epochs"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capsys.readouterr().err.splitlines() == ["training: 9 epochs ..."]


def test_quiet_draws_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(quiet=True) as tell:
        tell(Progress("training", 1, 9, "epochs"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1:00 min"), (3599.6, "1:00 h"), (7500, "2:05 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_figures_and_names() -> None:
    assert [rate(0.44), rate(9.94), rate(1234.5)] == ["0.4/s", "9.9/s", "1,234/s"]
    assert plain("Zoë 日本 a b.png") == "Zoë 日本 a b.png"
    assert plain("\x1b[2J\x9b\u202e\udcff\n") == r"\x1b[2J\x9b\u202e\udcff\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_program_shows_bars_only_where_somebody_may_look(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_terminal: bool
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", str(int(is_terminal)))
    with shown_progress(plain_lines=False) as tell:
        tell(Progress("looking", 3, 3, "images"))
    assert ("looking" in capsys.readouterr().err) == is_terminal
