"""What becomes of a whole-network run that something stopped."""

import json
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kill_points import files_of_at_most
from whole_networks import Killed, config_of, log_of, write_weights

from labelfix.data.decisions import Decision, DecisionLog
from labelfix.diagnose import diagnose
from labelfix.errors import RunError
from labelfix.pipeline.samples import audit
from labelfix.report.run_folder import RunFolder

CHECKPOINTS = ["fold-0-of-2.pt", "fold-1-of-2.pt"]
SHORT = {"epochs": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def stopped(small_data, weights, tmp_path_factory):
    """A folder with a run that is whole, and one that was killed in its second network."""
    folder = tmp_path_factory.mktemp("stopped")
    config = config_of(weights, folder / "cache", **SHORT)
    audit(small_data, folder / "whole", config)
    with pytest.raises(Killed):
        audit(small_data, folder / "cut", config, on_progress=at_the_end_of_the_second(kill))
    assert names_in(folder / "cut" / "checkpoints") == CHECKPOINTS
    return folder


@pytest.fixture
def cut(stopped, tmp_path):
    """A copy of the run that was killed."""
    return shutil.copytree(stopped / "cut", tmp_path / "run")


def kill():
    raise Killed


def at_the_end_of_the_second(act):
    """Return what acts when the last epoch of the second network has one more checkpoint to go."""

    def on_progress(progress):
        if progress.stage == "fine-tuning network 2 of 2" and progress.done == progress.total:
            act()

    return on_progress


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def report_of(run):
    return (run / "report.parquet").read_bytes()


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
def test_a_checkpoint_that_is_cut_short_is_named(small_data, weights, stopped, cut, keep):
    broken = cut / "checkpoints" / "fold-1-of-2.pt"
    size = keep if keep >= 1 else int(broken.stat().st_size * keep)
    os.truncate(broken, size)
    config = config_of(weights, stopped / "cache", **SHORT)
    with pytest.raises(RunError, match=r"fold-1-of-2\.pt cannot be read") as raised:
        audit(small_data, cut, config, resume=True)
    assert "delete it" in raised.value.hint
    assert names_in(cut / "checkpoints") == CHECKPOINTS, "nothing is deleted unasked"
    broken.unlink()
    audit(small_data, cut, config, resume=True)
    assert report_of(cut) == report_of(stopped / "whole")


def test_a_bit_of_a_checkpoint_that_is_another_is_found(small_data, weights, stopped, cut):
    broken = cut / "checkpoints" / "fold-1-of-2.pt"
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    with pytest.raises(RunError, match=r"fold-1-of-2\.pt cannot be read: BadZipFile"):
        audit(small_data, cut, config_of(weights, stopped / "cache", **SHORT), resume=True)


def test_a_checkpoint_of_another_run_is_refused(small_data, weights, stopped, cut, tmp_path):
    other = tmp_path / "other"
    config = config_of(weights, stopped / "cache", **SHORT, learning_rate=1e-4)
    with pytest.raises(Killed):
        audit(small_data, other, config, on_progress=at_the_end_of_the_second(kill))
    name = "fold-0-of-2.pt"
    shutil.copy(cut / "checkpoints" / name, other / "checkpoints" / name)
    with pytest.raises(RunError, match="is of another configuration or other data"):
        audit(small_data, other, config, resume=True)


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch exploded",))


def test_a_checkpoint_cannot_run_code(small_data, weights, stopped, cut, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = cut / "checkpoints" / "fold-0-of-2.pt"
    content = torch.load(broken, weights_only=True)
    torch.save(content | {"state": Bomb()}, broken)
    with pytest.raises(RunError, match="cannot be read: UnpicklingError"):
        audit(small_data, cut, config_of(weights, stopped / "cache", **SHORT), resume=True)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_a_full_disk_at_a_checkpoint_leaves_the_one_before(small_data, weights, stopped, cut, size):
    config = config_of(weights, stopped / "cache", **SHORT)
    before = {path.name: path.read_bytes() for path in (cut / "checkpoints").iterdir()}
    limits = []

    def fill_the_disk():
        limits.append(files_of_at_most(size))
        limits[0].__enter__()

    try:
        with pytest.raises(RunError, match=r"cannot write .*fold-1-of-2.pt") as raised:
            audit(
                small_data,
                cut,
                config,
                resume=True,
                on_progress=at_the_end_of_the_second(fill_the_disk),
            )
    finally:
        limits[0].__exit__(None, None, None)
    assert "free some space" in raised.value.hint
    after = {path.name: path.read_bytes() for path in (cut / "checkpoints").iterdir()}
    assert after == before, "nothing half-written is left, and nothing is lost"
    audit(small_data, cut, config, resume=True)
    assert report_of(cut) == report_of(stopped / "whole")


def test_a_full_disk_at_the_end_loses_no_training(small_data, weights, stopped, cut):
    config = config_of(weights, stopped / "cache", **SHORT)

    def fill_the_disk(progress):
        if progress.stage == "weighing the evidence" and progress.done:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, resource.RLIM_INFINITY))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(RunError, match="cannot write"):
            audit(small_data, cut, config, resume=True, on_progress=fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "report.parquet" not in names_in(cut)
    assert not [name for name in names_in(cut) if name.startswith(".")]
    assert names_in(cut / "checkpoints") == CHECKPOINTS
    audit(small_data, cut, config, resume=True)
    assert report_of(cut) == report_of(stopped / "whole")


def test_checkpoints_go_when_all_else_is_written(small_data, weights, stopped, cut):
    config = config_of(weights, stopped / "cache", **SHORT)
    (cut / "report.parquet").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*report\.parquet"):
        audit(small_data, cut, config, resume=True)
    assert names_in(cut / "checkpoints") == CHECKPOINTS
    (cut / "report.parquet").rmdir()
    audit(small_data, cut, config, resume=True)
    assert report_of(cut) == report_of(stopped / "whole")
    assert "checkpoints" not in names_in(cut)


def test_data_that_changed_since_are_not_gone_on_with(small_data, weights, stopped, cut, tmp_path):
    data = shutil.copytree(small_data, tmp_path / "photos")
    config = config_of(weights, stopped / "cache", **SHORT)
    (tmp_path / "run2").mkdir()
    with pytest.raises(Killed):
        audit(data, tmp_path / "run2", config, on_progress=at_the_end_of_the_second(kill))
    moved = next((data / "0").iterdir())
    moved.rename(data / "1" / f"moved-{moved.name}")
    with pytest.raises(RunError, match="another run: the data have changed"):
        audit(data, tmp_path / "run2", config, resume=True)
    assert names_in(tmp_path / "run2" / "checkpoints") == CHECKPOINTS


def test_classes_of_one_and_two_images_train_and_are_scored_as_far_as_that_goes(
    small_data, weights, tmp_path
):
    data = shutil.copytree(small_data, tmp_path / "photos")
    images = sorted((small_data / "7").iterdir())
    for name, count in (("one", 1), ("two", 2)):
        (data / name).mkdir()
        for image in images[:count]:
            shutil.move(data / "7" / image.name, data / name / image.name)
        images = images[count:]
    result = audit(data, tmp_path / "run", config_of(weights, tmp_path / "cache", **SHORT))
    rows = {name: [] for name in ("0", "1", "7", "one", "two")}
    for row in result.report.table.to_pylist():
        rows[row["given_label"]].append(row)
    assert {name: len(found) for name, found in rows.items()} == {
        "0": 30, "1": 30, "7": 27, "one": 1, "two": 2,
    }  # fmt: skip
    assert rows["one"][0]["pred_probs"] is None
    assert "class 'one' has 1 different readable image" in rows["one"][0]["reason"]
    assert sorted(row["fold"] for row in rows["two"]) == [0, 1]
    for name in ("0", "two"):
        assert all(abs(sum(row["pred_probs"]) - 1) < 1e-4 for row in rows[name])
    log = (tmp_path / "run" / "training_log.jsonl").read_text().splitlines()
    assert all(json.loads(line)["loss"] > 0 for line in log)


def test_a_run_that_is_replaced_leaves_nothing_of_its_own(small_data, weights, stopped, tmp_path):
    run = shutil.copytree(stopped / "whole", tmp_path / "run")
    shutil.copytree(stopped / "cut" / "checkpoints", run / "checkpoints")
    (run / "checkpoints" / ".fold-1-of-2.pt.abc12345.labelfix-draft").write_bytes(
        b"of a process that was killed"
    )
    for name in ("diagnosis.json", "diagnosis.svg", "notes-of-mine.txt"):
        (run / name).write_text("{}")
    other = config_of(weights, stopped / "cache", epochs=1)
    audit(small_data, run, other, overwrite=True)
    of_any = ["neighbors.parquet", "noise_matrix.parquet", "notes-of-mine.txt"]
    of_any += ["report.html", "report.parquet", "run.json"]
    of_networks = ["layers.json", "model.safetensors", "training_log.jsonl"]
    assert names_in(run) == sorted(of_any + of_networks)
    assert len(log_of(run)) == 2
    heads = replace(other, tune="head")
    audit(small_data, run, heads, overwrite=True)
    assert names_in(run) == of_any


def test_runs_again_of_a_run_that_is_replaced_go_unless_they_hold_decisions_of_their_own(
    small_data, weights, stopped, tmp_path
):
    run = shutil.copytree(stopped / "whole", tmp_path / "run")
    (run / "decisions.jsonl").write_text("")
    for name in ("again-1", "again-2", "again-3", "again-x"):
        shutil.copytree(stopped / "whole", run / name)
        (run / name / "decisions.jsonl").write_text("")
    decided = Decision("cat/0.png", "keep")
    DecisionLog(run / "again-2").append([decided])
    (run / "again-3" / "notes.txt").write_text("mine")
    (run / "again-4").mkdir()
    held = names_in(run / "again-2")
    audit(small_data, run, config_of(weights, stopped / "cache", **SHORT), overwrite=True)
    assert [name for name in names_in(run) if "again" in name] == [
        "again-2", "again-3", "again-4", "again-x",
    ]  # fmt: skip
    assert names_in(run / "again-2") == held
    assert names_in(run / "again-3") == ["notes.txt"]
    shutil.copyfile(run / "again-2" / "decisions.jsonl", run / "decisions.jsonl")
    RunFolder(run).remove_again()
    assert not (run / "again-2").exists()


def test_a_run_that_is_replaced_is_there_until_the_new_one_is_whole(
    small_data, weights, stopped, tmp_path
):
    run = shutil.copytree(stopped / "whole", tmp_path / "run")
    (run / "diagnosis.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    other = config_of(weights, stopped / "cache", epochs=1)
    with pytest.raises(Killed):
        audit(
            small_data,
            run,
            other,
            overwrite=True,
            on_progress=at_the_end_of_the_second(kill),
        )
    assert all((run / name).read_bytes() == content for name, content in before.items())
    assert set(names_in(run)) - set(before) == {"checkpoints", "unfinished.json"}


def test_overwriting_an_unfinished_run_begins_anew(small_data, weights, stopped, cut):
    """Its checkpoints are neither gone on from nor in the way."""
    (cut / "checkpoints" / "of-mine.txt").write_text("kept")
    other = config_of(weights, stopped / "cache", epochs=1, learning_rate=1e-4)
    audit(small_data, cut, other, overwrite=True)
    assert len(log_of(cut)) == 2
    assert names_in(cut / "checkpoints") == ["of-mine.txt"]


def test_paths_are_understood_from_any_folder(small_data, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(weights)
    config = config_of(Path(), Path("my-cache"), epochs=1)
    assert not config.backbone.weights.is_absolute()
    audit(small_data, tmp_path / "run", config)
    asked = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert asked["backbone"]["weights"] == str(weights / "test_resnet.safetensors")
    assert asked["cache"] == str(weights / "my-cache")
    monkeypatch.chdir(tmp_path)
    diagnose(tmp_path / "run", samples=5, draws=2, device="cpu")
