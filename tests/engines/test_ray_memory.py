"""What a worker of Ray and the command hold does not grow with the number of samples."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

pytest.importorskip("ray")

AUDIT = """
import json, sys, threading, time
from contextlib import suppress
from pathlib import Path
import labelfix

peaks = {"command": 0, "worker": 0}

def anonymous(folder):
    return int((folder / "status").read_text().split("RssAnon:")[1].split()[0]) << 10

def watch():
    while True:
        peaks["command"] = max(peaks["command"], anonymous(Path("/proc/self")))
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, IndexError):
                if (folder / "cmdline").read_bytes().startswith(b"ray::_Worker"):
                    peaks["worker"] = max(peaks["worker"], anonymous(folder))
        time.sleep(0.02)

class Looked(BaseException):
    pass

def stop_after_the_look(progress):
    is_looking = progress.stage.startswith("looking at")
    stop_after_the_look.began |= is_looking
    if stop_after_the_look.began and not is_looking:
        raise Looked

stop_after_the_look.began = False
data, folder = map(Path, sys.argv[1:])
threading.Thread(target=watch, daemon=True).start()
with suppress(Looked):
    labelfix.audit(
        data, folder / "run", cache=folder / "cache", tune="head", image_size=32, device="cpu",
        engine="ray", workers=1, on_progress=stop_after_the_look,
    )
print(json.dumps(peaks))
"""

GROWTH = 24 << 20
"""Bytes by which a peak may differ: what allocators happen to keep."""


def write_shards(folder: Path, count: int) -> Path:
    """Write so many pictures of 32 pixels into shards of 500."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for shard in range(count // 500):
        cells = []
        for _ in range(500):
            data = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(data, "PNG")
            cells.append(data.getvalue())
        table = pa.table({"image": cells, "label": random.integers(0, 3, 500)})
        pq.write_table(table, folder / f"part-{shard}.parquet", row_group_size=100)
    return folder


def peaks_of(folder: Path, count: int) -> dict[str, int]:
    """Return what the command and a worker held at most while so many pictures were looked at."""
    folder.mkdir()
    data = write_shards(folder / "data", count)
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, data, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    peaks: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert min(peaks.values()) > 0
    return peaks


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads what Linux tells")
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    few, many = (peaks_of(tmp_path / str(count), count) for count in (1500, 3000))
    sys.stdout.write(
        "\n1,500 and 3,000 pictures: "
        + ", ".join(f"{name} {few[name] >> 20} and {many[name] >> 20} MiB" for name in few)
        + "\n"
    )
    assert all(many[name] < few[name] + GROWTH for name in few)
