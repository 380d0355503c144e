"""Workers fit on the machines that there are, or are refused with figures before any is started."""

import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelfix.config import EngineConfig
from labelfix.engines.plan import Node, open_engine, plan_workers
from labelfix.errors import ConfigError
from labelfix.utils.progress import no_progress
from labelfix.utils.shards import LocalEngine

EIGHT_GPUS = Node("a", 64, 8)


def planned(nodes: Sequence[Node], *, on_gpu: bool = False, **asked: float):
    config = EngineConfig(name="ray", **asked)
    plan = plan_workers(nodes, config, on_gpu=on_gpu, shards=1000)
    return plan.workers, plan.cpus, plan.gpus


@pytest.mark.parametrize(
    ("nodes", "asked", "expected"),
    [
        ([Node("a", 2, 0), Node("b", 2, 0)], {}, (2, 2, 0)),
        ([Node("a", 16, 0), Node("b", 8, 0)], {}, (6, 4, 0)),
        ([Node("a", 16, 0)], {"cpus_per_worker": 1}, (16, 1, 0)),
        ([Node("a", 16, 0)], {"workers": 3}, (3, 4, 0)),
    ],
)
def test_workers_fill_the_machines(nodes, asked, expected):
    assert planned(nodes, **asked) == expected


@pytest.mark.parametrize(
    ("nodes", "asked", "expected"),
    [
        ([EIGHT_GPUS], {}, (8, 8, 1)),
        ([EIGHT_GPUS], {"gpus_per_worker": 0.5}, (16, 4, 0.5)),
        ([EIGHT_GPUS, Node("head", 4, 0)], {}, (8, 8, 1)),
        ([Node("a", 3, 4)], {}, (3, 1, 1)),
        # two thirds of a GPU leave a third that no other worker can take
        ([Node("a", 8, 2)], {"gpus_per_worker": 0.66, "cpus_per_worker": 1}, (2, 1, 0.66)),
    ],
)
def test_each_worker_has_its_gpu(nodes, asked, expected):
    assert planned(nodes, on_gpu=True, **asked) == expected


@pytest.mark.parametrize(
    ("nodes", "asked", "on_gpu", "told"),
    [
        ([Node("a", 2, 0), Node("b", 2, 0)], {"cpus_per_worker": 3}, False, "a: 2 CPUs; b: 2 CPUs"),
        (
            [Node("a", 2, 0)],
            {"workers": 3, "cpus_per_worker": 1},
            False,
            "the cluster can run 2 workers of 1 CPU, and workers is 3",
        ),
        ([Node("a", 8, 0)], {}, True, "1 GPU fits on no machine"),
        ([Node("a", 8, 1), Node("b", 8, 1)], {"gpus_per_worker": 2}, True, "2 GPUs fits on no"),
        ([], {}, False, "there is none"),
    ],
)
def test_what_does_not_fit_is_refused_with_figures(nodes, asked, on_gpu, told):
    with pytest.raises(ConfigError, match=told) as refused:
        planned(nodes, on_gpu=on_gpu, **asked)
    assert refused.value.hint


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=4),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.25, 0.4, 0.5, 1.0, 2.0]),
)
def test_a_plan_is_the_most_that_can_be_packed(machines, cpus, gpus):
    nodes = [Node(str(number), *machine) for number, machine in enumerate(machines)]

    def packed(node: Node) -> int:
        free, cores, count = [1.0] * int(node.gpus), node.cpus, 0
        while cores >= cpus:
            if 0 < gpus < 1:
                at = next((at for at, left in enumerate(free) if left >= gpus - 1e-9), None)
                if at is None:
                    break
                free[at] -= gpus
            elif gpus:
                if len(free) < gpus:
                    break
                free = free[int(gpus) :]
            cores, count = cores - cpus, count + 1
        return count

    most = sum(map(packed, nodes))
    try:
        found = planned(nodes, on_gpu=gpus > 0, cpus_per_worker=cpus, gpus_per_worker=gpus)[0]
    except ConfigError:
        found = 0
    assert found == most


def test_no_more_workers_than_shards():
    config = EngineConfig(name="ray")
    assert plan_workers([EIGHT_GPUS], config, on_gpu=False, shards=2).workers == 2


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"workers": 2}, "workers"),
        ({"ray_address": "10.0.0.1:6379", "gpus_per_worker": 1.0}, "ray_address, gpus_per_worker"),
        ({"name": "ray", "workers": 0}, "below 1"),
        ({"name": "ray", "gpus_per_worker": -1.0}, "below 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(asked, told):
    with pytest.raises(ConfigError, match=told):
        EngineConfig(**asked)


@pytest.mark.parametrize(("gpus", "on_gpu"), [(1.0, False), (0.0, True)])
def test_workers_run_on_the_kind_of_device_that_the_driver_has(gpus, on_gpu):
    config = EngineConfig(name="ray", gpus_per_worker=gpus)
    with pytest.raises(ConfigError, match="the network runs on"):
        open_engine(config, on_gpu=on_gpu, on_progress=no_progress)


def test_this_machine_does_the_work_unless_told_otherwise():
    engine = open_engine(EngineConfig(), on_gpu=False, on_progress=no_progress)
    assert isinstance(engine, LocalEngine)
    assert engine.record() == {"name": "local"}


def test_without_ray_the_hint_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "labelfix.engines.ray", raising=False)
    with pytest.raises(ConfigError, match="needs Ray, which is not installed") as refused:
        open_engine(EngineConfig(name="ray"), on_gpu=False, on_progress=no_progress)
    assert refused.value.hint == "pip install 'labelfix[ray]'"
