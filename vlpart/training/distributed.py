"""Several training processes: who is who, and the few things that all of them agree on.

Gradients go through torch's DistributedDataParallel. Everything else (stop signals, non-finite losses, what goes into a
checkpoint) goes through small collectives on a gloo group, so that nothing of it touches the GPU. `torchrun` starts the
processes and tells each one its rank in environment variables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vlpart.errors import TrainingError
from vlpart.runtime import open_device
from vlpart.training.optimizer import trainable
from vlpart.types import Batch

#: Others wait for the first process while it evaluates and writes checkpoints; `torchrun` notices those that died.
PATIENCE = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True)
class World:
    """The training processes, seen from one of them. The default is a single process.

    Attributes:
        rank, size: this process among all.
        device: where this process computes.
        group: the gloo group for control messages; None for a single process.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    group: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        value = torch.tensor([int(flag)])
        dist.all_reduce(value, dist.ReduceOp.MAX, group=self.group)
        return bool(value.item())

    def all_gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of ranks, on every one of them."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.group)
        return found

    def gather(self, value: Any) -> list[Any] | None:
        """The values of all processes on the main one, None on the others."""
        if self.size == 1:
            return [value]
        found: list[Any] | None = [None] * self.size if self.is_main else None
        dist.gather_object(value, found, dst=0, group=self.group)
        return found

    def from_main(self, value: Any) -> Any:
        """The main process's value."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def seed(self, seed: int) -> int:
        """A seed for what must differ between processes; the main one keeps the given seed."""
        return (seed + 1_000_003 * self.rank) % 2**63


@contextmanager
def joined(device: str, environment: Mapping[str, str] = os.environ) -> Iterator[World]:
    """Join the processes that `torchrun` started, or be a single one; leave them at the end.

    Args:
        device: "cpu", "cuda" (this process takes the GPU of its local rank), "cuda:1", or "auto".
        environment: what `torchrun` sets: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT.

    Raises:
        TrainingError: there is no such device, or not one for every process, or the processes do not find each other.
    """
    size = int(environment.get("WORLD_SIZE", "1"))
    local_rank = int(environment.get("LOCAL_RANK", environment.get("RANK", "0")))
    chosen = choose_device(device, local_rank, size)
    on_gpu = chosen.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(chosen)
    if size == 1:
        yield World(device=chosen)
        return
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo")
    except (RuntimeError, ValueError) as error:
        where = f"{environment.get('MASTER_ADDR')}:{environment.get('MASTER_PORT')}"
        reason = str(error).splitlines()[0]
        raise TrainingError(f"the training processes do not find each other at {where}: {reason}") from error
    try:
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        yield World(rank=dist.get_rank(), size=size, device=chosen, group=group)
    finally:
        dist.destroy_process_group()


def choose_device(device: str, local_rank: int = 0, size: int = 1) -> str:
    """The device of a process.

    Raises:
        TrainingError: no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()):
        try:
            return str(open_device(device))
        except ValueError as reason:
            raise TrainingError(f"--device {device} cannot be used here ({reason}): use auto, cpu or cuda") from None
    present = torch.cuda.device_count()
    if present == 0:
        raise TrainingError("there is no CUDA device here: use --device cpu, or install a CUDA build of torch")
    index = int(number) if number else local_rank
    if index >= present or (size > 1 and number):
        raise TrainingError(
            f"process {local_rank} has no GPU of its own ({present} here): "
            f"use --device cuda and --nproc-per-node {present} or fewer"
        )
    return f"cuda:{index}"


class Replica(nn.Module):
    """What DistributedDataParallel wraps: losses of a batch, and a zero that depends on every parameter.

    Annotation kinds reach different parts of the detector, and processes may hold different kinds in one step. The zero
    makes every parameter take part in every step, so that all processes reduce the same gradients in the same order.
    """

    def __init__(self, model: nn.Module, compute: Any) -> None:
        super().__init__()
        self.model = model
        self.compute = compute

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The losses, and the zero."""
        losses = self.compute(batch)
        touched = torch.stack([p[(0,) * p.ndim].float() for p in trainable(self.model).values()])
        return losses, 0.0 * touched.sum()


def replicate(model: nn.Module, compute: Any, world: World) -> DistributedDataParallel | None:
    """The model as one of several replicas with common gradients; None for a single process."""
    if world.size == 1:
        return None
    devices = [torch.device(world.device)] if world.device.startswith("cuda") else None
    return DistributedDataParallel(Replica(model, compute), device_ids=devices, broadcast_buffers=False)
