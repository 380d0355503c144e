"""Rows of a matrix in a file are those of the array, and a file that is cut is told."""

import os
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelfix.errors import DatasetError
from labelfix.utils.file_matrix import FileMatrix


def written(folder, values):
    path = folder / "matrix"
    path.write_bytes(b"head" + values.tobytes())
    return FileMatrix(path, values.shape, values.dtype, offset=4)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 900), st.sampled_from([1, 3, 300]), st.data())
def test_rows_are_those_of_the_array(tmp_path, count, width, data):
    values = np.random.default_rng(count).normal(size=(count, width)).astype(">f4")
    matrix = written(tmp_path, values)
    picked = data.draw(st.lists(st.integers(0, count - 1), max_size=20))
    start, stop = sorted(data.draw(st.tuples(st.integers(0, count), st.integers(0, count))))
    for rows in (np.array(picked, np.int64), slice(start, stop), slice(None, None, 2), -1):
        np.testing.assert_array_equal(matrix[rows], values[rows])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(matrix))[:], values)
    assert len(matrix) == count


def test_a_file_that_is_cut_while_it_is_read_is_told(tmp_path):
    matrix = written(tmp_path, np.ones((50, 1024)))
    matrix[:]
    matrix[0]
    os.truncate(tmp_path / "matrix", 4 + 8 * 1024 * 50 - 1)
    with pytest.raises(DatasetError, match="was cut short while it was read: it has 409,603 bytes"):
        matrix[:]
    with pytest.raises(DatasetError, match="was cut short"):
        matrix[49]
