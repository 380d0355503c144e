"""Files are whole or not there, and what a killed process left of one goes away."""

import os

import pytest

from labelfix.errors import RunError
from labelfix.utils.files import atomic_folder, atomic_path, is_draft, remove_drafts_in


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def kill_within(make, target):
    """Let a process begin to write a target and end it as a kill would."""
    child = os.fork()
    if child == 0:
        with make(target) as draft:
            (draft / "half" if make is atomic_folder else draft).write_text("half")
            os._exit(137)
    os.waitpid(child, 0)


@pytest.mark.parametrize("make", [atomic_path, atomic_folder])
@pytest.mark.parametrize("name", ["a.txt", "ä" * 120, ".hidden", "a" * 250])
def test_what_a_killed_process_left_goes_with_the_next_of_the_same_target(make, name, tmp_path):
    target = tmp_path / name
    kill_within(make, target)
    assert [is_draft(left) for left in names_in(tmp_path)] == [True]
    with atomic_path(tmp_path / "other"):
        assert len(names_in(tmp_path)) == 2, "the draft of another target stays"
    with make(target):
        pass
    assert names_in(tmp_path) == sorted([name, "other"])


@pytest.mark.parametrize("make", [atomic_path, atomic_folder])
def test_a_draft_that_is_being_written_stays(make, tmp_path):
    with make(tmp_path / "a") as first:
        remove_drafts_in(tmp_path)
        with make(tmp_path / "b") if make is atomic_folder else make(tmp_path / "a"):
            pass
        assert first.exists()
    assert not any(map(is_draft, names_in(tmp_path)))


def test_only_drafts_are_taken_away(tmp_path):
    names = ["a.txt", ".a.txt.abcdefgh", ".a.txt.backup.labelfix-draft2", "labelfix-draft"]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".a.txt.abcdefgh.labelfix-draft").write_text("left")
    remove_drafts_in(tmp_path)
    assert names_in(tmp_path) == sorted(names)


def test_a_link_that_is_called_like_a_draft_is_not_followed(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    (tmp_path / ".a.abcdefgh.labelfix-draft").symlink_to(tmp_path / "kept")
    remove_drafts_in(tmp_path)
    assert (tmp_path / "kept" / "file").read_text() == "mine"


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"), atomic_path(tmp_path / "file" / "a"):
        pass
