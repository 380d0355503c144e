"""Weights are read as they were written, by anybody, and any damage is told."""

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from labelfix.utils.weights_file import read_weights, weights_bytes

STATE = {"b.weight": torch.arange(6.0).reshape(2, 3).T, "a.bias": torch.ones(3, dtype=torch.half)}


def test_weights_are_those_that_were_written_and_any_tool_reads_them(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(weights_bytes(STATE))
    for found in (read_weights(path), load_file(path)):
        assert found.keys() == STATE.keys()
        assert all(torch.equal(found[name], STATE[name]) for name in STATE)
    with safe_open(path, "pt") as opened:
        assert list(opened.metadata()) == ["labelfix.blake2b"]


def test_the_change_of_any_byte_is_told(tmp_path):
    path = tmp_path / "model.safetensors"
    whole = weights_bytes(STATE)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = read_weights(path)
        except SafetensorError:
            continue
        assert all(torch.equal(found[name], STATE[name]) for name in STATE), place


def test_files_without_a_checksum_are_read_as_they_are(tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "other.safetensors")
    assert torch.equal(read_weights(tmp_path / "other.safetensors")["x"], torch.ones(2))
    (tmp_path / "none").write_bytes(b"no weights")
    with pytest.raises(SafetensorError):
        read_weights(tmp_path / "none")
