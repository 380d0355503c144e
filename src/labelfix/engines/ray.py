"""Shards on the machines of a Ray cluster: actors that keep the network loaded.

Plain actors and not `ray.data`: a worker reads its shard itself, so that workers may take every
core without starving a reader, and no block of a data set passes through Ray but what comes out.
The driver alone writes; results come to it through Ray's object store, so that the cache need not
be shared. A worker that dies is replaced, and its shards go to others.
"""

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from labelfix.arguments import named
from labelfix.config import EngineConfig
from labelfix.engines.plan import Node, WorkerPlan, plan_workers, sized
from labelfix.errors import ConfigError, LabelfixError, RunError, UnreadableSample
from labelfix.types import SampleStore
from labelfix.utils.progress import OnProgress, remark
from labelfix.utils.sample_reader import content_digest
from labelfix.utils.shards import Compute, Contents, KnownRows, RowBatch, Shard, ShardTask
from labelfix.utils.text import versions_of
from labelfix.utils.threads import lend_cores

START_SECONDS = 120.0
"""How long is waited for a first worker: other programs may hold the cluster."""

CONNECT_SECONDS = 10.0
"""How long a cluster may take to answer."""

UNDER_WAY = 2
"""Shards that a worker is given at a time, so that it never waits for the next."""

MOST_LOSSES = 3
"""Workers that may die over one shard before the shard is to blame."""

PROBES = 8
"""Samples that each worker reads before it begins, to tell whether it sees the same data."""

SAME_LIBRARIES = ("labelfix", "torch", "timm", "numpy", "pillow", "transformers")
"""What workers need the same version of, as far as it is here: results could differ otherwise."""


class RayEngine:
    """Computes shards by actors of a Ray cluster.

    Args:
        config: Which cluster, and what workers.
        on_gpu: Whether they run on GPUs.
        on_progress: Told about them.
    """

    def __init__(self, config: EngineConfig, *, on_gpu: bool, on_progress: OnProgress) -> None:
        self._config, self._on_gpu, self._on_progress = config, on_gpu, on_progress
        self._records: list[_Record] = []

    def map_shards(self, task: ShardTask) -> Iterator[Shard]:
        """Yield the shards of a task as workers finish them.

        Raises:
            ConfigError: There is no such cluster, or the workers do not fit on it.
            RunError: Workers do not see the data, do not start, or die again and again.
        """
        shards = task.shards()
        with _connected(self._config.ray_address):
            nodes = _nodes()
            plan = plan_workers(nodes, self._config, on_gpu=self._on_gpu, shards=len(shards))
            self._on_progress(remark(f"ray: {_in_words(plan, nodes)}"))
            record = _Record(shards=len(shards), cpus=plan.cpus, gpus=plan.gpus)
            self._records.append(record)
            crew = _Crew(_put(task, plan), plan, task, record, self._on_progress)
            try:
                yield from crew.results(shards)
            finally:
                crew.dismiss()

    def record(self) -> Mapping[str, Any]:
        """Return how many workers there were, what each held, and how many shards were done."""
        last = self._records[-1:]
        return {
            "name": "ray",
            "ray": version("ray"),
            "workers": max((one.workers for one in self._records), default=0),
            "nodes": len({name for one in self._records for name in one.nodes}),
            "cpus_per_worker": last[0].cpus if last else None,
            "gpus_per_worker": last[0].gpus if last else None,
            "shards": sum(one.shards for one in self._records),
            "lost_workers": sum(one.lost for one in self._records),
        }


@dataclass(slots=True)
class _Record:
    """What became of one task.

    Args:
        shards: How many it had.
        cpus: Of each worker.
        gpus: Of each worker.
        workers: That began to work.
        lost: Workers that died.
        nodes: Where workers were.
    """

    shards: int
    cpus: int
    gpus: float
    workers: int = 0
    lost: int = 0
    nodes: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What a worker holds as long as it lives.

    Args:
        store: N encoded samples; each worker opens the files itself, to read them.
        compute: Computes rows.
        kept: Sorted digests of samples whose rows are kept already.
        probes: Row to digest of some samples, as the driver reads them.
        versions: Of the libraries that have to be the same.
        threads: Cores of the worker.
    """

    store: SampleStore
    compute: Compute
    kept: Contents
    probes: Mapping[int, bytes]
    versions: Mapping[str, str]
    threads: int


class _Worker:
    """The actor: it holds the network, reads shards and computes their rows."""

    def __init__(self, job: _Job) -> None:
        lend_cores(job.threads)
        self._job = job

    def ready(self) -> tuple[str, str, str | None]:
        """Return id and address of the node, and what keeps this worker from being of use."""
        node = ray.get_runtime_context().get_node_id()
        return node, ray.util.get_node_ip_address(), self._fault()

    def compute(self, rows: range, held: Contents) -> list[RowBatch]:
        """Return the batches of a shard."""
        known = KnownRows(rows.start, held, self._job.kept)
        return list(self._job.compute(self._job.store, rows, known))

    def _fault(self) -> str | None:
        here = versions_of(self._job.versions)
        for name, there in self._job.versions.items():
            if here.get(name) != there:
                return f"has {name} {here.get(name, 'not installed')}, and {there} is used here"
        for row, digest in self._job.probes.items():
            where = self._job.store.location(row)
            try:
                data = self._job.store.read(row)
            except UnreadableSample as error:
                return f"cannot read {where}: {error}"
            if content_digest(data) != digest:
                return f"reads something else at {where}"
        return None


@dataclass(slots=True, eq=False)
class _Member:
    """A worker as the driver knows it.

    Args:
        actor: Its handle.
        shards: By the reference to its result each shard that it was given.
        is_ready: Whether it may be given some.
    """

    actor: Any
    shards: dict[Any, range] = field(default_factory=dict)
    is_ready: bool = False


class _Crew:
    """The workers of one task, and which shards each of them has.

    Args:
        job: A reference to what they hold.
        plan: How many there shall be, and of which size.
        task: Says which rows of a shard need not be computed.
        record: Told what became of them.
        on_progress: Told about workers that are lost.
    """

    def __init__(
        self,
        job: Any,
        plan: WorkerPlan,
        task: ShardTask,
        record: _Record,
        on_progress: OnProgress,
    ) -> None:
        self._job, self._plan, self._task, self._record = job, plan, task, record
        self._on_progress = on_progress
        self._remote = ray.remote(_Worker).options(
            num_cpus=plan.cpus, num_gpus=plan.gpus, max_restarts=0, max_task_retries=0
        )
        self._todo: deque[range] = deque()
        self._members: list[_Member] = []
        self._owner: dict[Any, _Member] = {}  # of each reference that is waited for
        self._losses: dict[range, int] = {}
        self._failed_starts = 0

    def results(self, shards: Sequence[range]) -> Iterator[Shard]:
        """Yield all shards, in the order in which they are finished."""
        self._todo.extend(shards)
        for _ in range(self._plan.workers):
            self._start()
        deadline = time.monotonic() + START_SECONDS
        while self._todo or any(member.shards for member in self._members):
            done, _ = ray.wait(list(self._owner), num_returns=1, timeout=1.0)
            if done:
                deadline = time.monotonic() + START_SECONDS
                member = self._owner.pop(done[0])
                if member.is_ready:
                    yield from self._collect(member, done[0])
                else:
                    self._greet(member, done[0])
                self._feed_all()
            elif time.monotonic() > deadline and not any(one.is_ready for one in self._members):
                raise self._no_worker()

    def dismiss(self) -> None:
        """End all workers."""
        for member in self._members:
            with suppress(RayError):
                ray.kill(member.actor)

    def _start(self) -> None:
        member = _Member(self._remote.remote(self._job))
        self._members.append(member)
        self._owner[member.actor.ready.remote()] = member

    def _greet(self, member: _Member, ref: Any) -> None:
        """Take a worker among those that are given shards, if it can be of use."""
        try:
            node, address, fault = ray.get(ref)
        except RayError as error:
            self._members.remove(member)
            self._failed_starts += 1
            if self._failed_starts >= MOST_LOSSES:
                raise RunError(
                    f"workers do not start: {_last(error)}",
                    hint="labelfix and its libraries have to be installed on every machine",
                ) from error
            self._start()
            return
        if fault is not None:
            raise RunError(
                f"the worker on {address} {fault}",
                hint="every machine has to see DATA under the same path, and to have the same "
                "versions of the libraries",
            )
        member.is_ready = True
        self._record.workers += 1
        self._record.nodes.add(node)

    def _feed_all(self) -> None:
        """Give the next shards to workers that have few."""
        for load in range(UNDER_WAY):
            for member in self._members:
                if not member.is_ready or len(member.shards) != load:
                    continue
                rows = self._next_for(member)
                if rows is not None:
                    ref = member.actor.compute.remote(rows, self._task.held_of(rows))
                    member.shards[ref] = rows
                    self._owner[ref] = member

    def _next_for(self, member: _Member) -> range | None:
        """Take the next shard for a worker.

        One over which a worker may have died is computed alone, so that the next death tells which
        of the shards under way it was.
        """
        if not member.shards:
            return self._todo.popleft() if self._todo else None
        if any(rows in self._losses for rows in member.shards.values()):
            return None
        found = next((rows for rows in self._todo if rows not in self._losses), None)
        if found is not None:
            self._todo.remove(found)
        return found

    def _collect(self, member: _Member, ref: Any) -> Iterator[Shard]:
        """Yield the shard that a worker has finished, unless the worker is gone."""
        rows = member.shards[ref]
        try:
            batches: list[RowBatch] = ray.get(ref)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, LabelfixError):
                raise cause from error
            raise RunError(f"a worker failed at samples {_told(rows)}: {cause!r}") from error
        except RayError as error:
            yield from self._replace(member, error)
            return
        del member.shards[ref]
        yield rows, batches

    def _replace(self, member: _Member, error: RayError) -> Iterator[Shard]:
        """Give the shards of a worker that is gone to others, and start another in its place.

        Shards that it had finished before are yielded.
        """
        with suppress(RayError):
            ray.kill(member.actor)  # it may be alive, and out of reach
        self._members.remove(member)
        lost = []
        for ref, rows in member.shards.items():  # in the order in which it was given them
            self._owner.pop(ref, None)
            try:
                batches: list[RowBatch] = ray.get(ref)
            except RayError:
                lost.append(rows)
            else:
                yield rows, batches
        for rows in lost:  # one that was finished may be among them: its answer was on the way
            self._blame(rows, error)
        self._todo.extendleft(reversed(lost))
        self._record.lost += 1
        self._on_progress(remark(f"ray: a worker is gone, and another is started: {_last(error)}"))
        self._start()

    def _blame(self, rows: range, error: RayError) -> None:
        """Note that a worker died that had a shard; refuse the one that kills each."""
        self._losses[rows] = self._losses.get(rows, 0) + 1
        if self._losses[rows] >= MOST_LOSSES:
            raise RunError(
                f"{MOST_LOSSES} workers died over samples {_told(rows)}: {_last(error)}",
                hint="one of these samples may end the process that decodes it, or memory is "
                f"short: give each worker more of a machine with {named('cpus_per_worker')}",
            ) from error

    def _no_worker(self) -> RunError:
        free = ray.available_resources()
        return RunError(
            f"no worker could start in {START_SECONDS:.0f} seconds: each needs "
            f"{sized(self._plan.cpus, self._plan.gpus)}, and the whole "
            f"cluster has {sized(free.get('CPU', 0), free.get('GPU', 0))} free",
            hint="wait until other programs on the cluster have ended, or ask for less",
        )


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster for a while, unless this program is connected already."""
    if ray.is_initialized():
        yield
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is sent anywhere
    try:
        _knock_at(address or os.environ.get("RAY_ADDRESS", ""))
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (RayError, ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = "no Ray cluster can be started here" if address is None else f"{address}: no Ray"
        raise ConfigError(
            f"{where}: {_last(error)}",
            hint=f"start one with `ray start --head`, and name it with {named('ray_address')}",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock_at(address: str) -> None:
    """Raise an ``OSError`` if nobody listens at ``host:port``: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.rpartition("/")[2], int(port)), CONNECT_SECONDS).close()


def _nodes() -> list[Node]:
    return [
        Node(
            str(node["NodeManagerAddress"]),
            float(node["Resources"].get("CPU", 0)),
            float(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def _put(task: ShardTask, plan: WorkerPlan) -> Any:
    job = _Job(
        store=task.store,
        compute=task.compute,
        kept=task.kept(),
        probes=_probes(task.store),
        versions=versions_of(SAME_LIBRARIES),
        threads=plan.cpus,
    )
    try:
        return ray.put(job)
    except (TypeError, AttributeError, ValueError) as error:
        raise RunError(
            f"this work cannot be handed to other processes: {_last(error)}",
            hint=f"leave out {named('engine', value='ray')}",
        ) from error


def _probes(store: SampleStore) -> dict[int, bytes]:
    """Return row to digest of some samples that can be read here."""
    probes = {}
    for row in np.unique(np.linspace(0, len(store) - 1, PROBES).astype(int)).tolist():
        with suppress(UnreadableSample):
            probes[row] = content_digest(store.read(row))
    return probes


def _in_words(plan: WorkerPlan, nodes: Sequence[Node]) -> str:
    workers = "1 worker" if plan.workers == 1 else f"up to {plan.workers} workers"
    machines = "1 machine" if len(nodes) == 1 else f"{len(nodes)} machines"
    return f"{workers} of {sized(plan.cpus, plan.gpus)} on {machines}"


def _told(rows: range) -> str:
    return f"{rows.start:,} to {rows.stop - 1:,}"


def _last(error: BaseException) -> str:
    """Return the last line of what an error says, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
