"""Large arrays in files that leave nothing behind."""

import os
import subprocess
import sys

import numpy as np
import pytest

from labelfix.errors import RunError
from labelfix.utils.scratch import is_large, large_arrays_in, let_go_of_pages, new_array


def test_an_array_lies_in_memory_without_a_budget_and_where_it_is_small(tmp_path):
    assert new_array((3, 2), np.float32).base is None
    with large_arrays_in(tmp_path, 1 << 20):
        assert not is_large((128, 128), np.float32)
        assert is_large((129, 128), np.float32)
        assert new_array((128, 128), np.float32).base is None


def test_a_large_array_is_zeros_that_can_be_written_and_has_no_name(tmp_path):
    with large_arrays_in(tmp_path, 0):
        array = new_array((5, 3), np.float32)
        assert not array.any()
        array[2] = 7
        assert list(tmp_path.iterdir()) == []
    assert array[2].tolist() == [7, 7, 7]
    assert new_array((5, 3), np.float32).base is None


def test_large_arrays_take_no_anonymous_memory(tmp_path):
    code = """
import sys, numpy as np
from pathlib import Path
from labelfix.utils.memory import anonymous_bytes
from labelfix.utils.scratch import large_arrays_in, new_array
before = anonymous_bytes()
with large_arrays_in(Path(sys.argv[1]), 1 << 20):
    array = new_array((1 << 24,), np.float32)
    array[:] = 1
print(anonymous_bytes() - before)
"""
    told = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, check=True)
    assert int(told.stdout) < 16 << 20


def test_what_was_written_is_there_after_its_pages_were_let_go_of(tmp_path):
    with large_arrays_in(tmp_path, 0):
        array = new_array((1 << 20,), np.float32)
        array[:] = np.arange(1 << 20)
        let_go_of_pages()
        assert array.tolist() == list(range(1 << 20))
        del array
        let_go_of_pages()
    let_go_of_pages()


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    with (
        large_arrays_in(tmp_path / "gone", 0),
        pytest.raises(RunError, match="1 MiB of scratch space"),
    ):
        new_array((3,), np.float32)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space is not reserved here")
def test_a_full_disk_is_told_before_anything_is_written(tmp_path):
    with large_arrays_in(tmp_path, 0), pytest.raises(RunError, match="scratch space"):
        new_array((1 << 50,), np.uint8)
