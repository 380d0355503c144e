"""Pipes, sockets and devices: no path that comes in may make labelfix wait for ever."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import labelfix

from labelfix.benchmark.data import sets_in
from labelfix.benchmark.demo_score import score_demo
from labelfix.benchmark.rows import read_rows
from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.data.decisions import read_decisions
from labelfix.data.probabilities import fingerprint_of
from labelfix.data.trusted_labels import decisions_of
from labelfix.errors import LabelfixError
from labelfix.report.io import report_file
from labelfix.report.training_log import read_json


def pipe(folder: Path, name: str) -> Path:
    os.mkfifo(folder / name)
    return folder / name


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "data.csv": ("data.csv", lambda path: open_dataset(path, DatasetConfig())),
    "data.parquet": ("data.parquet", lambda path: open_dataset(path, DatasetConfig())),
    "data": ("photos", lambda path: open_dataset(path, DatasetConfig())),
    "archive": ("photos.zip", lambda path: open_dataset(path, DatasetConfig())),
    "pred_probs": ("probs.csv", lambda path: fingerprint_of([path])),
    "report": ("report.parquet", report_file),
    "report in RUN": ("report.parquet", lambda path: report_file(path.parent)),
    "decisions": ("decisions.jsonl", lambda path: read_decisions(path.parent)),
    "decisions of another run": ("decisions.jsonl", lambda path: decisions_of(path.parent)),
    "log": ("layers.json", read_json),
    "benchmark rows": ("rows.jsonl", read_rows),
    "benchmark probabilities": ("sets.npz", lambda path: sets_in(path.parent)),
}


@pytest.mark.parametrize("case", READERS)
def test_a_named_pipe_is_refused_at_once(tmp_path, case):
    name, read = READERS[case]
    with pytest.raises(LabelfixError, match="is a named pipe, not a regular file") as caught:
        read(pipe(tmp_path, name))
    assert caught.value.hint == "give a regular file"


def test_a_link_to_a_pipe_is_a_pipe(tmp_path):
    (tmp_path / "data.csv").symlink_to(pipe(tmp_path, "queue"))
    with pytest.raises(LabelfixError, match="named pipe"):
        open_dataset(tmp_path / "data.csv", DatasetConfig())


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(path):
    with pytest.raises(LabelfixError, match="is a device, not a regular file"):
        open_dataset(Path(path), DatasetConfig())


@pytest.fixture
def bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)  # a socket's address may be 108 bytes long
    with socket.socket(socket.AF_UNIX) as held:
        held.bind("data.csv")
        yield tmp_path / "data.csv"


def test_a_socket_is_refused(bound):
    with pytest.raises(LabelfixError, match="is a socket, not a regular file"):
        open_dataset(bound, DatasetConfig())


def test_process_substitution_is_refused_with_the_remedy():
    read, write = os.pipe()
    try:
        with pytest.raises(LabelfixError, match="is a pipe, not a regular file") as caught:
            open_dataset(Path(f"/dev/fd/{read}"), DatasetConfig())
        assert caught.value.hint == "write it to a file first, and give that file"
    finally:
        os.close(read)
        os.close(write)


def test_weights_that_are_a_pipe_are_refused(tmp_path):
    from labelfix.config import BackboneConfig
    from labelfix.modalities.image.backbone import load_backbone

    config = BackboneConfig(weights=pipe(tmp_path, "weights.safetensors"))
    with pytest.raises(LabelfixError, match="named pipe"):
        load_backbone(config, 32)


def test_the_command_ends_at_once(tmp_path):
    data = pipe(tmp_path, "data.csv")
    done = labelfix("audit", data, "--out", tmp_path / "run")
    assert done.returncode == 1
    assert "is a named pipe, not a regular file" in done.stderr
    assert not (tmp_path / "run").exists()


def test_truth_of_the_demo_that_is_a_pipe_is_refused(tmp_path, small_run):
    from labelfix.report.io import read_report_table

    pipe(tmp_path, "truth.csv")
    with pytest.raises(LabelfixError, match="named pipe"):
        score_demo(read_report_table(small_run), tmp_path / "truth.csv")
