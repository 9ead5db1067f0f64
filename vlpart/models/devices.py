"""Where networks run, and in which precision: checked before anything is loaded or downloaded for them."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

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
        local = os.environ.get("LOCAL_RANK")
        return torch.device("cuda" if local is None else f"cuda:{int(local) % torch.cuda.device_count()}")
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
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises any of them
        raise ValueError(str(error).splitlines()[0].rstrip(".")) from None
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


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context to run a network in: autocast for "bf16", nothing for "float32"."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
