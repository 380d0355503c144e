"""Open the engine that is asked for, and plan its workers before any is started.

What no machine can hold is refused with figures: a scheduler would wait for it for ever.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from labelfix.arguments import named
from labelfix.config import EngineConfig
from labelfix.errors import ConfigError
from labelfix.utils.progress import OnProgress
from labelfix.utils.shards import Engine, LocalEngine

USUAL_CPUS = 4
"""Cores of a worker without a GPU: its threads share one network."""

INSTALL = "pip install 'labelfix[ray]'"


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of a cluster.

    Args:
        name: Its address.
        cpus: Cores that it offers, in all.
        gpus: GPUs that it offers, in all.
    """

    name: str
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """How many workers there shall be, and what each of them holds.

    Args:
        workers: Processes at most.
        cpus: Cores of each.
        gpus: GPUs of each.
    """

    workers: int
    cpus: int
    gpus: float


def open_engine(config: EngineConfig, *, on_gpu: bool, on_progress: OnProgress) -> Engine:
    """Return an engine; nothing is started before it has work.

    Args:
        config: Which one.
        on_gpu: Whether what it computes runs on a GPU.
        on_progress: Told about its workers.

    Raises:
        ConfigError: Its library is not installed, or workers would have no GPU to run on.
    """
    if config.name == "local":
        return LocalEngine()
    if config.gpus_per_worker is not None and bool(config.gpus_per_worker) != on_gpu:
        raise ConfigError(
            f"a worker shall have {_number(config.gpus_per_worker)} GPUs, and the network runs on "
            f"{'a GPU' if on_gpu else 'the CPU'} here",
            hint="workers run on the kind of device that this process has: start it on a machine "
            f"with a GPU, or choose {named('device', value='cpu')}",
        )
    try:
        module = import_module("labelfix.engines.ray")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise ConfigError(
            f"{named('engine', value='ray')} needs Ray, which is not installed", hint=INSTALL
        ) from error
    engine: Engine = module.RayEngine(config, on_gpu=on_gpu, on_progress=on_progress)
    return engine


def plan_workers(
    nodes: Sequence[Node], config: EngineConfig, *, on_gpu: bool, shards: int
) -> WorkerPlan:
    """Return how many workers of which size a cluster holds.

    Workers may take every core: shards are read by the workers themselves, so that nothing else
    has to find a core.

    Args:
        nodes: The machines that are there.
        config: What was asked for.
        on_gpu: Whether workers run on a GPU.
        shards: More workers than these would have nothing to do.

    Raises:
        ConfigError: What was asked for does not fit.
    """
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if on_gpu else 0.0
    useful = [node for node in nodes if node.cpus >= 1 and (not gpus or node.gpus >= gpus)]
    cpus = config.cpus_per_worker or _usual_cpus(useful, gpus)
    capacity = sum(_capacity(node, cpus, gpus) for node in nodes)
    one = f"a worker of {sized(cpus, gpus)}"
    if capacity == 0:
        there = "; ".join(f"{node.name}: {sized(node.cpus, node.gpus)}" for node in nodes[:5])
        raise ConfigError(
            f"{one} fits on no machine of the cluster ({there or 'there is none'})",
            hint=f"choose fewer {named('cpus_per_worker')} or {named('gpus_per_worker')}, or start "
            "larger machines first: a worker never spans two",
        )
    if (config.workers or 0) > capacity:
        raise ConfigError(
            f"the cluster can run {capacity} {'worker' if capacity == 1 else 'workers'} of "
            f"{sized(cpus, gpus)}, and {named('workers')} is {config.workers}",
            hint=f"choose fewer {named('workers')}, or give each less with "
            f"{named('cpus_per_worker')} or {named('gpus_per_worker')}",
        )
    return WorkerPlan(min(config.workers or capacity, max(1, shards)), cpus, gpus)


def _usual_cpus(nodes: Sequence[Node], gpus: float) -> int:
    if not nodes:
        return 1
    if gpus:
        return max(1, math.floor(min(node.cpus * gpus / node.gpus for node in nodes)))
    return max(1, min(USUAL_CPUS, *(math.floor(node.cpus) for node in nodes)))


def _capacity(node: Node, cpus: int, gpus: float) -> int:
    capacity = math.floor(node.cpus / cpus)
    if not gpus:
        return capacity
    # Ray gives a worker parts of one GPU, or whole ones
    fitting = math.floor(node.gpus) * math.floor(1 / gpus) if gpus < 1 else node.gpus // gpus
    return min(capacity, int(fitting))


def sized(cpus: float, gpus: float) -> str:
    """Return in words what a worker or a machine has."""
    cores = f"{_number(cpus)} {'CPU' if cpus == 1 else 'CPUs'}"
    if not gpus:
        return cores
    return f"{cores} and {_number(gpus)} {'GPU' if gpus == 1 else 'GPUs'}"


def _number(value: float) -> str:
    return f"{value:g}"
