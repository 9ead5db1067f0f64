"""One process or several: who does what, and how results come together. `torchrun` says so in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")
PATIENCE = timedelta(hours=24)
"""How long a process waits for the slowest one."""


@dataclass(frozen=True)
class Group:
    """The processes of an evaluation; alone, every method gives back what it got."""

    rank: int = 0
    world_size: int = 1

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world_size > 1:
            import torch.distributed

            torch.distributed.barrier()

    def from_first(self, value: T) -> T:
        """What the first process has."""
        if self.world_size == 1:
            return value
        import torch.distributed

        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def to_first(self, value: T) -> list[T]:
        """On the first process what all processes have, in order; on the others nothing."""
        if self.world_size == 1:
            return [value]
        import torch.distributed

        everything: list[T] | None = [value] * self.world_size if self.rank == 0 else None
        torch.distributed.gather_object(value, everything, dst=0)
        return everything or []


@contextmanager
def process_group() -> Iterator[Group]:
    """The group that `torchrun` started this process in, connected over gloo; a group of one otherwise.

    A group that is already connected is used and left as it is.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Group()
        return
    import torch.distributed

    connected = torch.distributed.is_initialized()
    if not connected:
        torch.distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Group(torch.distributed.get_rank(), torch.distributed.get_world_size())
    finally:
        if not connected:
            torch.distributed.destroy_process_group()


def local_device() -> str | None:
    """The CUDA device of this process under `torchrun` on a machine that has some; None leaves the choice open."""
    local = os.environ.get("LOCAL_RANK")
    if local is None:
        return None
    import torch

    return f"cuda:{int(local) % torch.cuda.device_count()}" if torch.cuda.is_available() else None
