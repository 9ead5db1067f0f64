"""One training step: forward under autocast, losses, backward, gradient norm, optimiser; on one process or several."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vlpart.errors import TrainingError
from vlpart.runtime import World, training_precision
from vlpart.training.checkpoint import save_tensors
from vlpart.training.optimizer import gradient_norm, make_optimizer, trainable
from vlpart.training.recipe import Recipe
from vlpart.types import Batch

#: Forward pass and losses of one batch; the total loss is the sum of the values.
LossFunction = Callable[[Batch], dict[str, Tensor]]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(kw_only=True)
class StepResult:
    """What a step did in this process.

    Attributes:
        losses: every loss by name, mean over the accumulated batches that have it.
        loss: mean total loss of the batches.
        grad_norm: 2-norm over all gradients, before clipping; the same in every process.
        sources: source of each batch.
        images: number of images.
        seconds: wall time, without waiting for the loader.
        finite: False if a loss or the gradient was not finite in any process; the weights were then left alone.
        overflow: the gradient alone was not finite, in fp16: the loss scale was too high and has been lowered.
        culprit: the batch with the non-finite loss (the last one if only the gradient is not finite), or None: all is
            well, or the batch is in another process.
    """

    losses: dict[str, float]
    loss: float
    grad_norm: float
    sources: list[str]
    images: int
    seconds: float
    finite: bool
    overflow: bool = False
    culprit: Batch | None = field(default=None, repr=False)


def autocast(precision: str, device: str) -> AbstractContextManager[Any]:
    """The context of the forward pass: autocast to half precision, or nothing for float32."""
    if precision in _DTYPES:
        return torch.autocast(torch.device(device).type, dtype=_DTYPES[precision])
    return nullcontext()


class Stepper:
    """Everything that one step needs: `stepper(batches)` updates the weights once.

    Args:
        recipe: precision, clipping, optimiser.
        model: built, initialised, on the device of the process.
        compute: forward pass and losses of one batch (a closure over `model`).
        world: the training processes.
        channels_last: memory layout of convolutions; by default the recipe's, or in half precision only, where it pays.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        compute: LossFunction,
        world: World,
        *,
        channels_last: bool | None = None,
    ) -> None:
        self.recipe, self.model, self.compute, self.world = recipe, model, compute, world
        self.precision, _ = training_precision(recipe.precision, world.device)
        if channels_last is None:
            channels_last = recipe.channels_last
        self.channels_last = self.precision in _DTYPES if channels_last is None else channels_last
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        set_activation_checkpointing(model, recipe.activation_checkpointing)
        self.optimizer = make_optimizer(recipe, model)
        self.scaler: torch.amp.GradScaler | None = None
        if self.precision == "fp16":
            self.scaler = torch.amp.GradScaler(torch.device(world.device).type)
        self.replica = replicate(model, compute, world)

    def __call__(self, batches: Sequence[Batch]) -> StepResult:
        """Update the weights with the mean gradient over `batches` and over the processes.

        A non-finite loss or gradient, in whichever process, leaves the weights and the optimiser as they were in all of
        them (`finite=False` in the result). Parameters that no loss reaches get a gradient of zero, as in the published
        runs, where losses of other annotation kinds enter as zeros.
        """
        began = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, list[float]] = {}
        totals: list[float] = []
        culprit: Batch | None = None
        bad = False
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with nullcontext() if last or self.replica is None else self.replica.no_sync():
                losses, total = self._forward(batch)
                totals.append(sum_of(losses, sums))
                if not math.isfinite(totals[-1]):
                    culprit = culprit or batch
                bad = self.world.any(culprit is not None) if last or self.world.size == 1 else culprit is not None
                if bad and self.world.size == 1:
                    break
                if not bad and total.requires_grad:
                    self._backward(total / len(batches))
        norm, overflow = math.nan, False
        if not bad:
            norm, bad, overflow = self._update()
            if bad and not overflow:
                culprit = batches[-1]
        return StepResult(
            losses={name: sum(values) / len(values) for name, values in sums.items()},
            loss=sum(totals) / len(totals),
            grad_norm=norm,
            sources=[batch.source for batch in batches],
            images=sum(len(batch.targets) for batch in batches),
            seconds=time.perf_counter() - began,
            finite=not bad,
            overflow=overflow,
            culprit=culprit,
        )

    def _forward(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The losses, and their sum."""
        moved = batch.to(self.world.device)
        if self.channels_last:
            moved.images.pixels = moved.images.pixels.contiguous(memory_format=torch.channels_last)
        with autocast(self.precision, self.world.device):
            losses, zero = (self.compute(moved), None) if self.replica is None else self.replica(moved)
        total = torch.stack([value.float() for value in losses.values()]).sum()
        return losses, total if zero is None else total + zero

    def _backward(self, loss: Tensor) -> None:
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def _update(self) -> tuple[float, bool, bool]:
        """Gradient norm; whether the gradient is bad (and nothing was updated); whether that is an fp16 overflow."""
        parameters = list(trainable(self.model).values())
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = gradient_norm(parameters, self.recipe.clip_norm)
        finite = math.isfinite(norm)
        if self.scaler is not None:
            self.scaler.step(self.optimizer)  # leaves the weights alone if the gradient is not finite
            self.scaler.update()
        elif finite:
            self.optimizer.step()
        return norm, not finite, not finite and self.scaler is not None

    def state_dict(self) -> dict[str, Any]:
        """Optimiser and loss scale."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler is not None else None,
        }

    def load_state_dict(self, optimizer: dict[str, Any], scaler: dict[str, Any] | None) -> None:
        """Restore what `state_dict` gave."""
        self.optimizer.load_state_dict(optimizer)
        if self.scaler is not None and scaler is not None:
            self.scaler.load_state_dict(scaler)


def sum_of(losses: dict[str, Tensor], sums: dict[str, list[float]]) -> float:
    """The total; every loss is appended to its list in `sums`. One transfer from the device."""
    flat = torch.stack([value.detach().float() for value in losses.values()])
    *each, total = torch.cat((flat, flat.sum()[None])).tolist()
    for name, value in zip(losses, each, strict=True):
        sums.setdefault(name, []).append(value)
    return total


def set_activation_checkpointing(model: nn.Module, on: bool) -> None:
    """Switch it for every module that has it.

    Raises:
        TrainingError: it is wanted, and the model has none.
    """
    able = [module for module in model.modules() if hasattr(module, "activation_checkpointing")]
    if on and not able:
        raise TrainingError("this architecture has no activation checkpointing, only Swin has: leave it off")
    for module in able:
        module.activation_checkpointing = on  # type: ignore[assignment]


def save_batch(path: Path, batch: Batch, losses: dict[str, float]) -> None:
    """Write a batch and its losses for inspection; read it with `torch.load(path, weights_only=True)`."""
    targets = [
        {
            "boxes_xyxy": t.boxes_xyxy,
            "labels": t.labels,
            "masks": t.masks,
            "image_labels": t.image_labels,
            "unknown_labels": t.unknown_labels,
            "ignore_inside": t.ignore_inside,
            "pseudo_labels": t.pseudo_labels,
            "only_at_matches": t.only_at_matches,
        }
        for t in batch.targets
    ]
    content = {
        "source": batch.source,
        "kind": batch.kind.value,
        "image_ids": [int(i) for i in batch.image_ids],
        "paths": [str(p) for p in batch.paths],
        "pixels": batch.images.pixels,
        "sizes_hw": [tuple(int(x) for x in size) for size in batch.images.sizes_hw],
        "targets": targets,
        "losses": losses,
    }
    save_tensors(path, content)


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
