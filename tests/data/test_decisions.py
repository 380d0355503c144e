"""Decisions: what is replayed is what was decided, whoever wrote it and whatever was cut off."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelfix.data.decisions import Decision, DecisionLog, decisions_file, now, read_decisions
from labelfix.errors import DecisionsError, RunError

AT = "2026-11-23T12:00:00.123Z"


def keep(sample: str, **more: object) -> Decision:
    return Decision(sample, "keep", decided_at=AT, **more)  # type: ignore[arg-type]


def test_nothing_was_decided_where_there_is_no_file(tmp_path: Path) -> None:
    assert read_decisions(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_line_is_as_documented(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path)
    made = Decision("a/ä.png", "relabel", "Hünd", AT, "Ann", flagged=True, batch="b1")
    log.append([made])
    text = decisions_file(tmp_path).read_text(encoding="utf-8")
    assert text == (
        '{"sample_id": "a/ä.png", "decision": "relabel", "label": "Hünd", '
        f'"decided_at": "{AT}", "decided_by": "Ann", "flagged": true, "batch": "b1"}}\n'
    )
    assert read_decisions(tmp_path) == {"a/ä.png": made}
    assert read_decisions(tmp_path / "report.parquet") == {"a/ä.png": made}


def test_a_copy_that_is_dropped_is_marked_as_one(tmp_path: Path) -> None:
    made = Decision("a", "drop", decided_at=AT, as_copy=True)
    DecisionLog(tmp_path).append([made])
    assert '"as_copy": true' in decisions_file(tmp_path).read_text(encoding="utf-8")
    assert read_decisions(tmp_path) == {"a": made}
    with pytest.raises(DecisionsError, match="as_copy is true without drop"):
        DecisionLog(tmp_path).append([keep("a", as_copy=True)])


def test_a_time_is_filled_in(tmp_path: Path) -> None:
    before = now()
    written = DecisionLog(tmp_path).append([Decision("a", "drop")])
    assert before <= written[0].decided_at <= now()
    assert read_decisions(tmp_path)["a"] == written[0]


def test_undo_takes_back_one_decision_after_another(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path)
    first, second = log.append([keep("a")])[0], log.append([Decision("a", "relabel", 3)])[0]
    assert log.in_force["a"] == second
    assert log.undo([second]) == ["a"]
    assert log.in_force["a"] == first
    assert log.undo([second]) == []  # it is no longer in force
    assert log.undo([first]) == ["a"]
    assert log.undo([first]) == []
    assert dict(log.in_force) == read_decisions(tmp_path) == {}


def test_a_batch_is_taken_back_but_for_what_was_decided_anew(tmp_path: Path) -> None:
    log, other = DecisionLog(tmp_path), DecisionLog(tmp_path)
    log.append([keep("z")])
    batch = log.append([Decision(name, "relabel", "dog", batch="b") for name in "abc"])
    other.append([Decision("b", "drop")])
    assert log.undo(batch) == ["a", "c"]
    assert {name: d.action for name, d in log.in_force.items()} == {"z": "keep", "b": "drop"}


def test_the_last_action_is_found_again_after_a_restart(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path)
    log.append([keep("a")])
    log.append([Decision(name, "relabel", "dog", batch="b") for name in "bc"])
    log.append([keep("d")])
    again = DecisionLog(tmp_path)
    again.refresh()
    undone = []
    while action := again.last_action():
        undone.append(again.undo(action))
    assert undone == [["d"], ["b", "c"], ["a"]]


def test_refresh_tells_what_others_have_decided(tmp_path: Path) -> None:
    log, other = DecisionLog(tmp_path), DecisionLog(tmp_path)
    assert log.refresh() == []
    other.append([keep("a"), keep("b")])
    assert log.refresh() == ["a", "b"]
    assert log.refresh() == []
    other.undo([other.in_force["a"]])
    assert log.refresh() == ["a"]
    assert dict(log.in_force) == dict(other.in_force)


CHOICES = st.sampled_from(["keep", "unsure", "drop", "relabel", "undo"])
ACTIONS = st.lists(st.tuples(st.sampled_from("abc"), CHOICES, st.integers(0, 2)), max_size=30)


@given(ACTIONS)
def test_replay_gives_what_a_stack_a_sample_gives(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, str, int]]
) -> None:
    run = tmp_path_factory.mktemp("run")
    logs = [DecisionLog(run) for _ in range(3)]
    stacks: dict[str, list[Decision]] = {}
    for sample, action, writer in actions:
        stack, log = stacks.setdefault(sample, []), logs[writer]
        if action == "undo":
            if stack:
                log.refresh()
                assert log.undo([stack.pop()]) == [sample]
            continue
        label = "cat" if action == "relabel" else None
        stack += log.append([Decision(sample, action, label)])  # type: ignore[arg-type]
    expected = {sample: stack[-1] for sample, stack in stacks.items() if stack}
    assert read_decisions(run) == expected
    for log in logs:
        log.refresh()
        assert dict(log.in_force) == expected


@given(st.integers(0, 400))
def test_a_file_cut_anywhere_is_read_and_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    run = tmp_path_factory.mktemp("run")
    file = decisions_file(run)
    DecisionLog(run).append([Decision(name, "relabel", "Känguru", AT) for name in "abc"])
    data = file.read_bytes()[:cut]
    file.write_bytes(data)
    whole = [line for line in data.split(b"\n") if line.endswith(b"}")]
    names = "abc"[: len(whole)]
    assert sorted(read_decisions(run)) == list(names)
    log = DecisionLog(run)
    log.append([keep("z")])
    assert sorted(read_decisions(run)) == [*names, "z"]
    lines = file.read_bytes().decode().splitlines()
    assert [json.loads(line)["sample_id"] for line in lines] == [*names, "z"]


def test_another_bad_line_is_named(tmp_path: Path) -> None:
    DecisionLog(tmp_path).append([keep("a"), keep("b")])
    file = decisions_file(tmp_path)
    file.write_text(file.read_text().replace('"b"', "7"))
    with pytest.raises(DecisionsError, match=r"line 2 of .* sample_id is no text") as fault:
        read_decisions(tmp_path)
    assert "mend or delete that line" in (fault.value.hint or "")
    file.write_bytes(b"\xff\n")
    with pytest.raises(DecisionsError, match="line 1"):
        read_decisions(tmp_path)


@pytest.mark.parametrize(
    "decision",
    [
        Decision("a", "relabel"),
        Decision("a", "keep", "cat"),
        Decision("a", "relabel", True),
        Decision("a", "accept"),  # type: ignore[arg-type]
        Decision(None, "keep"),  # type: ignore[arg-type]
    ],
)
def test_a_decision_that_does_not_hold_together_is_refused(
    tmp_path: Path, decision: Decision
) -> None:
    with pytest.raises(DecisionsError):
        DecisionLog(tmp_path).append([keep("z"), decision])
    assert not decisions_file(tmp_path).exists()


def test_a_class_that_is_none_is_refused(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, ["cat", "dog"])
    log.append([Decision("a", "relabel", "dog")])
    with pytest.raises(DecisionsError, match="'cow', which is no class"):
        log.append([Decision("a", "relabel", "cow")])


def test_a_file_that_another_program_cut_is_not_written_to(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path)
    log.append([keep("a"), keep("b")])
    os.truncate(log.path, 10)
    with pytest.raises(DecisionsError, match="has become shorter"):
        log.append([keep("c")])
    assert log.path.stat().st_size == 10


def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot write"):
        DecisionLog(tmp_path / "file" / "run").append([keep("a")])


WRITER = """
import sys
from pathlib import Path
from labelfix.data.decisions import Decision, DecisionLog
log, who = DecisionLog(Path(sys.argv[1])), sys.argv[2]
for number in range(int(sys.argv[3])):
    log.append([Decision(f"{who}-{number}", "keep", decided_by=who)])
    print(number, flush=True)
"""


def writer(run: Path, who: str, times: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(run), who, str(times)],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    writers = [writer(tmp_path, who, 60) for who in "ab"]
    for process in writers:
        process.communicate(timeout=60)
        assert process.returncode == 0
    expected = {f"{who}-{number}" for who in "ab" for number in range(60)}
    assert set(read_decisions(tmp_path)) == expected


def test_what_was_promised_outlives_a_kill(tmp_path: Path) -> None:
    for who in "abc":
        process = writer(tmp_path, who, 100_000)
        time.sleep(0.3)
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(5)]
        process.send_signal(signal.SIGKILL)
        seen += process.communicate()[0].splitlines()
        promised = {f"{who}-{int(line)}" for line in seen if line.strip()}
        assert promised <= set(read_decisions(tmp_path))
    DecisionLog(tmp_path).append([keep("z")])  # the lock of a dead process holds nobody up
    assert "z" in read_decisions(tmp_path)


def test_decisions_made_elsewhere_are_taken_once_and_the_later_one_stands(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, ["cat", "dog"])
    log.append([Decision("late", "keep", decided_at="2026-02-01T00:00:00.000Z")])
    elsewhere = [
        Decision(name, "relabel", "dog", decided_at="2026-01-01T00:00:00.000Z")
        for name in ("new", "late")
    ]
    assert log.take(elsewhere) == elsewhere[:1]
    assert log.in_force["late"].action == "keep"
    log.undo([log.in_force["new"]])
    assert log.take(elsewhere) == []  # it is known, and was taken back
    assert "new" not in log.in_force
    with pytest.raises(DecisionsError, match="no class"):
        log.take([Decision("new", "relabel", "fox", decided_at="2026-03-01T00:00:00.000Z")])


def test_a_file_of_decisions_may_have_any_name(tmp_path: Path) -> None:
    DecisionLog(tmp_path).append([Decision("a", "keep")])
    file = (tmp_path / "decisions.jsonl").rename(tmp_path / "decisions (1).jsonl")
    assert set(read_decisions(file)) == {"a"}
