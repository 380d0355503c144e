"""Evidence of a training by two processes is the sum of what both have seen."""

from pathlib import Path

import evidence_worker
import numpy as np
import pytest
from processes import two_processes


def trained(kind: str, folder: Path) -> list[dict[str, np.ndarray]]:
    with two_processes(Path(evidence_worker.__file__), kind, folder):
        pass
    return [dict(np.load(folder / f"{kind}-{rank}-of-2.npz")) for rank in range(2)]


def check(first, second):
    assert first["updates"].tolist() == [evidence_worker.EPOCHS] * evidence_worker.SAMPLES
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


def test_two_processes_see_what_one_sees(tmp_path):
    first, second = trained("loop", tmp_path)
    check(first, second)
    evidence_worker.main("loop", tmp_path, 0, 1)
    alone = np.load(tmp_path / "loop-0-of-1.npz")
    np.testing.assert_array_equal(first["updates"], alone["updates"])
    np.testing.assert_allclose(first["probs"], alone["probs"], atol=1e-5)
    np.testing.assert_allclose(first["wrong"], alone["wrong"], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformers", "lightning"])
def test_two_processes_of_a_library(tmp_path, kind):
    pytest.importorskip(kind)
    check(*trained(kind, tmp_path))
