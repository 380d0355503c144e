"""Several processes that train one network, on torch's own runtime.

``torchrun --nproc-per-node 8 -m labelfix audit ...`` starts them; alone, everything here does
nothing. Letters: N samples.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from labelfix.errors import TrainingError

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others before it gives up."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run.

    Args:
        rank: This process, from 0.
        size: How many there are.
        local_rank: This process among those of its machine: which GPU is its own.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> "World":
        """Return the world that ``torchrun`` describes, or one of a single process."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        return cls(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))

    @property
    def is_writer(self) -> bool:
        """Whether this process is the one that writes files and talks to the user."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """Return this process's own device of the kind."""
        if device.type == "cuda" and self.size > 1:
            return torch.device("cuda", self.local_rank)
        return device

    def share_norms(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return a network whose batch norms see a step's images on all GPUs; none without GPUs.

        Parameters and buffers stay the same tensors under the same names.
        """
        if self.size == 1 or device.type != "cuda":  # torch has it for GPUs alone
            return model
        return with_shared_norms(model)

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return what a training step calls: gradients are averaged over the processes."""
        if self.size == 1:
            return model
        ids = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the processes; with zeros elsewhere, this gathers rows by number.

        Raises:
            TrainingError: Another process is gone.
        """
        if self.size == 1:
            return values
        total = values.clone()
        with _explained():
            dist.all_reduce(total)
        return total

    def rows_of_all(self, rows: Tensor, values: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the rows and values of all processes; no row may be given by two.

        Args:
            rows: ``(R,)`` sample numbers of this process.
            values: ``(R, ...)`` numbers.
            count: N.

        Raises:
            TrainingError: Another process is gone.
        """
        if self.size == 1:
            return rows, values
        mark = torch.zeros(count, dtype=torch.int32, device=values.device)
        mark[rows] = 1
        everything = torch.zeros((count, *values.shape[1:]), dtype=values.dtype, device=mark.device)
        everything[rows] = values
        found = self.sum(mark).nonzero().squeeze(1)
        return found, self.sum(everything)[found]

    def wait(self) -> None:
        """Wait until every process has come here.

        Raises:
            TrainingError: Another process is gone.
        """
        if self.size > 1:
            with _explained():
                dist.barrier()


def with_shared_norms(model: nn.Module) -> nn.Module:
    """Return a network with `torch.nn.SyncBatchNorm` in place of each batch norm.

    By timm's own conversion: torch's drops the activations that timm keeps in its norms.
    """
    shared: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return shared


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Yield the world of this process, joined with the others while the block runs."""
    world = World.from_environment()
    if world.size == 1:
        yield world
        return
    own = world.device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    with _explained():
        # predictions are summed in the main memory, gradients where they are
        backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield world
    finally:
        dist.destroy_process_group()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and nccl raise this and its children
        raise TrainingError(
            f"another process of this run is gone: {str(error).splitlines()[0]}",
            hint="see its own message above; --resume goes on from the last whole epoch",
        ) from error
