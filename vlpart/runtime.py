"""Where networks run, in which precision (checked before anything is loaded), and as which of several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch

from vlpart.errors import VlpartError

PRECISIONS = ("auto", "float32", "bf16")


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """A device that can be used here.

    Args:
        device: "cpu", "cuda", "cuda:1", "mps"; None takes a CUDA device if there is one, the process's own under
            `torchrun`, else the CPU.

    Raises:
        VlpartError: no such device, or not here.
    """
    if device is None:
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device(local_device() or "cuda")
    try:
        return open_device(device)
    except ValueError as reason:
        raise VlpartError(f"device {str(device)!r} cannot be used here ({reason}); leave it out or use cpu") from None


def open_device(device: str | torch.device) -> torch.device:
    """The device of a name, tried out.

    Raises:
        ValueError: what torch has against it, on one line.
    """
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError, OverflowError, ImportError) as error:  # any of them
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0].rstrip(".")) from None
    if chosen.type == "meta":
        raise ValueError("it holds no values")
    return chosen


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


def training_precision(precision: str, device: str | torch.device) -> tuple[str, str]:
    """The precision to train in, and why.

    Args:
        precision: "float32", "bf16" or "fp16", which stay; or "auto": bf16 where the device has instructions for it,
            else float32.
        device: where it is computed.

    Returns:
        The precision, and a reason in words; where bf16 is asked for and the processor has no instructions for it, a
        warning.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        has_bf16, where = torch.cuda.is_bf16_supported(), "this GPU"
    else:
        has_bf16, where = kind == "cpu" and bool(bf16_instructions()), "this processor" if kind == "cpu" else kind
    if precision == "auto":
        return ("bf16", f"{where} computes in bf16") if has_bf16 else ("float32", f"{where} has no bf16 instructions")
    if precision == "bf16" and not has_bf16:
        return "bf16", f"{where} has no bf16 instructions: float32 is many times faster, --precision auto takes it"
    return precision, "as asked for"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context to run a network in: autocast for "bf16", nothing for "float32"."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


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
    if _variable("WORLD_SIZE", 1) == 1:
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
    if "LOCAL_RANK" not in os.environ or not torch.cuda.is_available():
        return None
    return f"cuda:{_variable('LOCAL_RANK', 0) % torch.cuda.device_count()}"


def _variable(name: str, default: int) -> int:
    """A number in the environment, as torchrun sets it.

    Raises:
        VlpartError: it is no number.
    """
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise VlpartError(f"{name} is {value!r}, not a whole number: start with torchrun, or unset it")
    return int(value)
