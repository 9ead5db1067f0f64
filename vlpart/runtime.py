"""Where networks run, in which precision (checked before anything is loaded), and as which of several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from vlpart.checks import natural, one_of, typed
from vlpart.errors import TrainingError, VlpartError

PRECISIONS = ("auto", "float32", "bf16")


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """A device that can be used here.

    Args:
        device: "cpu", "cuda", "cuda:1", "mps"; None takes a CUDA device if there is one, the process's own under
            `torchrun`, else the CPU.

    Raises:
        VlpartError: no such device, or not here.
        TypeError: neither a name nor a device.
    """
    if device is None:
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device(local_device() or "cuda")
    one_of("device", device, str, torch.device)
    try:
        return open_device(device)
    except ValueError as reason:
        raise VlpartError(f"device {str(device)!r} cannot be used here ({reason}); leave it out or use cpu") from None


@typed()
def open_device(device: str | torch.device) -> torch.device:
    """The device of a name, tried out.

    Raises:
        ValueError: what torch has against it, on one line.
    """
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError, OverflowError, ImportError) as error:  # any of them
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:500]) from None
    if chosen.type == "meta":
        raise ValueError("it holds no values")
    return chosen


@typed()
def choose_precision(precision: str, device: torch.device) -> str:
    """The precision to compute in, "float32" or "bf16".

    Args:
        precision: one of `PRECISIONS`; "auto" is bf16 on CUDA devices that have it, else float32.
        device: where it is computed.

    Raises:
        VlpartError: any other precision.
    """
    if precision not in PRECISIONS:
        raise VlpartError(f"there is no precision {precision!r} here: use one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def bf16_instructions() -> list[str]:
    """Which instructions for bf16 the processor has; without any, bf16 is many times slower than float32."""
    # torch.cpu.get_capabilities is newer than the oldest torch that is supported
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return [name for name in ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16") if known.get(name)]


@typed()
def training_precision(precision: str, device: str | torch.device) -> tuple[str, str]:
    """The precision to train in, and why.

    Args:
        precision: "float32", "bf16" or "fp16", which stay; or "auto": bf16 where the device has instructions for it,
            else float32.
        device: where it is computed.

    Returns:
        The precision, and a reason in words; where bf16 is asked for and the processor has no instructions for it, a
        warning.

    Raises:
        ValueError: no such device here.
    """
    kind = open_device(device).type
    if kind == "cuda":
        has_bf16, where = torch.cuda.is_bf16_supported(), "this GPU"
    else:
        has_bf16, where = kind == "cpu" and bool(bf16_instructions()), "this processor" if kind == "cpu" else kind
    if precision == "auto":
        return ("bf16", f"{where} computes in bf16") if has_bf16 else ("float32", f"{where} has no bf16 instructions")
    if precision == "bf16" and not has_bf16:
        return "bf16", f"{where} has no bf16 instructions: float32 is many times faster, --precision auto takes it"
    return precision, "as asked for"


@typed()
def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context to run a network in: autocast for "bf16", nothing for "float32"."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


T = TypeVar("T")
PATIENCE = timedelta(hours=24)
"""How long a process waits for the slowest one."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes that work together, seen from one of them. Alone, every method gives back what it got.

    What they tell one another are small things, over gloo, so that nothing of it touches a GPU.

    Attributes:
        rank, size: this process among all.
        device: where this process computes.
        group: the gloo group for such messages; None for a single process, or where it is the only group.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    group: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier(group=self.group)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        value = torch.tensor([int(flag)])
        dist.all_reduce(value, dist.ReduceOp.MAX, group=self.group)
        return bool(value.item())

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of ranks, on every one of them."""
        if self.size == 1:
            return [value]
        gathered: list[T] = [value] * self.size
        dist.all_gather_object(gathered, value, group=self.group)
        return gathered

    def gather(self, value: T) -> list[T] | None:
        """The values of all processes on the main one, None on the others."""
        if self.size == 1:
            return [value]
        gathered: list[T] | None = [value] * self.size if self.is_main else None
        dist.gather_object(value, gathered, dst=0, group=self.group)
        return gathered

    def from_main(self, value: T) -> T:
        """The main process's value."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def seed(self, seed: int) -> int:
        """A seed for what must differ between processes; the main one keeps the given seed."""
        return (seed + 1_000_003 * self.rank) % 2**63


@typed()
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
    chosen = own_device(device, local_rank, size)
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


@typed()
def own_device(device: str, local_rank: int = 0, size: int = 1) -> str:
    """The device of one of several training processes: "auto" or "cuda" is the GPU of its local rank.

    Raises:
        TrainingError: no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and natural(number) is None):
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


@contextmanager
def process_group() -> Iterator[World]:
    """The processes that `torchrun` started, connected over gloo; this one alone otherwise.

    A group that is already connected is used and left as it is.
    """
    if _variable("WORLD_SIZE", 1) == 1:
        yield World()
        return
    connected = dist.is_initialized()
    if not connected:
        dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield World(rank=dist.get_rank(), size=dist.get_world_size())
    finally:
        if not connected:
            dist.destroy_process_group()


def local_device() -> str | None:
    """The CUDA device of this process under `torchrun` on a machine that has some; None leaves the choice open."""
    if "LOCAL_RANK" not in os.environ or not torch.cuda.is_available():
        return None
    return f"cuda:{_variable('LOCAL_RANK', 0) % torch.cuda.device_count()}"


def _variable(name: str, default: int) -> int:
    """A number in the environment, as torchrun sets it.

    Raises:
        VlpartError: it is no number.
    """
    value = os.environ.get(name, str(default))
    number = natural(value)
    if number is None:
        raise VlpartError(f"{name} is {value!r:.80}, not a whole number: start with torchrun, or unset it")
    return number
