"""Shards on two nodes of a Ray cluster: the same rows and the same report as on one machine.

The nodes are processes of this machine, which share nothing but its disk.
"""

import io
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from encoded_images import MemoryImages
from PIL import Image
from sharded_work import LocalOnly, assert_same, counted, dying, look, samples

from labelfix.api import audit
from labelfix.config import EngineConfig
from labelfix.engines.plan import open_engine
from labelfix.errors import ConfigError, RunError
from labelfix.utils.progress import no_progress
from labelfix.utils.shards import digest_task

pytest.importorskip("ray")

ROWS = 1500
LARGE = 5000
"""Pixels of a side of a picture that takes some tenths of a second to decode."""


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of two cores."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # workers import the modules that are here
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        head = {"num_cpus": 2, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=2)
        yield made.address
        made.shutdown()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Four shards of small pictures of three colors: one a shard is large, one is no picture.

    To decode a large one takes as long as all the others, so a worker is at work for a while.
    """
    folder = tmp_path_factory.mktemp("data") / "shards"
    folder.mkdir()
    random = np.random.default_rng(0)
    for shard in range(4):
        labels = random.integers(0, 3, 150)
        cells = []
        for label in labels:
            pixels = random.integers(0, 90, (24, 24, 3), np.uint8)
            pixels[..., label] += 120
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG")
            cells.append(data.getvalue())
        cells[7] = b"no picture"
        data = io.BytesIO()
        Image.new("RGB", (LARGE, LARGE), "gray").save(data, "PNG")
        cells[20] = data.getvalue()
        labels[:9] = random.integers(0, 3, 9)
        table = pa.table({"image": pa.array(cells, pa.binary()), "label": labels})
        pq.write_table(table, folder / f"part-{shard}.parquet", row_group_size=50)
    return folder


def test_a_report_is_that_of_one_machine_though_a_worker_was_killed(cluster, shards, tmp_path):
    (tmp_path / "quick.toml").write_text("[heads]\nepochs = 2\n")
    settings = {
        "tune": "head", "image_size": 32, "config": tmp_path / "quick.toml", "progress": False
    }  # fmt: skip
    audit(shards, tmp_path / "local", cache=tmp_path / "cache", **settings)
    is_over = Event()
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_worker_at_work, is_over)
        try:
            audit(
                shards,
                tmp_path / "ray",
                cache=tmp_path / "other cache",
                engine="ray",
                ray_address=cluster,
                cpus_per_worker=1,
                workers=2,
                **settings,
            )
        finally:
            is_over.set()
        assert killed.result(), "no worker was seen at work"
    reports = [(tmp_path / run / "report.parquet").read_bytes() for run in ("local", "ray")]
    assert reports[0] == reports[1]
    run = json.loads((tmp_path / "ray" / "run.json").read_text())
    assert run["engine"]["lost_workers"] == 1
    assert run["engine"]["shards"] == 3
    local = json.loads((tmp_path / "local" / "run.json").read_text())
    assert local["engine"] == {"name": "local"}
    assert "engine" not in run["claim"]["config"]
    assert run["run_id"] == local["run_id"]


def kill_worker_at_work(is_over):
    """Kill a worker while it computes a shard; return whether there was one before all was over."""
    while not is_over.wait(0.005):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if path.read_bytes().startswith(b"ray::_Worker.compute"):
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    return True
    return False


def test_a_cluster_that_does_not_answer_is_said_to_be_none(tmp_path):
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1: no Ray.*refused") as refused:
        look(tmp_path, MemoryImages(samples(ROWS)), engine_of("127.0.0.1:1"))
    assert "ray start --head" in refused.value.hint


@pytest.fixture(scope="module")
def connected(cluster):
    """The address of the cluster, to which this process is connected from here on."""
    import ray

    ray.init(address=cluster, log_to_driver=False)
    yield cluster
    ray.shutdown()


def engine_of(cluster, **options):
    config = EngineConfig(name="ray", ray_address=cluster, **options)
    return open_engine(config, on_gpu=False, on_progress=no_progress)


def test_rows_are_those_of_one_machine_and_finished_shards_are_not_done_again(connected, tmp_path):
    store, engine = MemoryImages(samples(ROWS, {3, 700})), engine_of(connected, workers=2)
    marks = [tmp_path / name for name in ("marks", "again")]
    for folder in marks:
        folder.mkdir()
    found = look(tmp_path / "ray", store, engine, counted, folder=str(marks[0]))
    assert_same(found, look(tmp_path / "local", store))
    record = engine.record()
    assert record["shards"] == len(list(marks[0].iterdir())) == 6
    assert 1 <= record["workers"] <= 2  # the first may be done before the others begin
    assert record["lost_workers"] == 0

    changed = samples(ROWS)
    look(tmp_path / "ray", MemoryImages(changed), engine, counted, folder=str(marks[1]))
    assert {path.name.split("-")[0] for path in marks[1].iterdir()} == {"0", "512"}


def test_results_do_not_pile_up_where_nobody_takes_them(connected, tmp_path):
    task = digest_task(MemoryImages(samples(ROWS)))
    task = replace(task, compute=partial(counted, folder=str(tmp_path)))
    shards = engine_of(connected, workers=1).map_shards(task)
    next(shards)
    time.sleep(0.5)
    begun = len(list(tmp_path.iterdir()))
    shards.close()
    assert begun <= 3 < len(task.shards()), "one was taken, and two were under way"


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_killed_worker_is_replaced_unless_one_shard_kills_each(connected, tmp_path, deaths):
    store, engine = MemoryImages(samples(ROWS)), engine_of(connected, workers=2)
    how = {"folder": str(tmp_path), "at": 300, "deaths": deaths}
    if deaths == 3:
        with pytest.raises(RunError, match="3 workers died over samples 256 to 511"):
            look(tmp_path / "ray", store, engine, dying, **how)
        return
    assert_same(look(tmp_path / "ray", store, engine, dying, **how), look(tmp_path / "own", store))
    assert engine.record()["lost_workers"] == 1


def test_a_worker_that_does_not_see_the_data_is_refused(connected, tmp_path):
    with pytest.raises(RunError, match="cannot read memory:0: file is missing") as refused:
        look(tmp_path, LocalOnly(samples(ROWS)), engine_of(connected))
    assert "same path" in refused.value.hint


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"cpus_per_worker": 3}, "fits on no machine"),
        ({"workers": 9}, "the cluster can run 2 workers of 2 CPUs, and workers is 9"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_waits_for_ever(connected, tmp_path, asked, told):
    with pytest.raises(ConfigError, match=told):
        look(tmp_path, MemoryImages(samples(ROWS)), engine_of(connected, **asked))
