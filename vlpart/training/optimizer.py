"""AdamW, the learning rate as a pure function of the step, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from vlpart.errors import TrainingError
from vlpart.training.recipe import Recipe


def learning_rate_at(recipe: Recipe, step: int) -> float:
    """The learning rate of step `step` (counted from 0).

    Linear warm-up from `warmup_factor` over `warmup_iterations` steps, times the multi-step or cosine factor. It has no
    state, so a resumed run cannot drift from it.
    """
    if recipe.schedule == "multi_step":
        factor = 0.1 ** sum(step >= boundary for boundary in recipe.steps)
    else:
        start = recipe.warmup_iterations
        done = min(max(step - start, 0) / max(recipe.iterations - start, 1), 1.0)
        factor = recipe.final_factor + (1 - recipe.final_factor) * 0.5 * (1 + math.cos(math.pi * done))
    if step < recipe.warmup_iterations:
        alpha = step / recipe.warmup_iterations
        factor *= recipe.warmup_factor * (1 - alpha) + alpha
    return recipe.learning_rate * factor


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by name, in the order of the module.

    Raises:
        TrainingError: there are none.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not named:
        raise TrainingError("the model has no parameter that trains")
    return named


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.AdamW:
    """AdamW over every trainable parameter; the decay is for norms and biases too (docs/method.md, 'Optimisation')."""
    return torch.optim.AdamW(
        list(trainable(model).values()), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = value


def gradient_norm(parameters: Iterable[nn.Parameter], clip_norm: float | None) -> float:
    """The 2-norm over all gradients; if it exceeds `clip_norm`, they are then scaled down to it in place."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return 0.0
    total = nn.utils.get_total_norm(gradients)
    value = float(total)
    if clip_norm is not None and math.isfinite(value) and value > clip_norm:
        torch._foreach_mul_(gradients, clip_norm / value)
    return value


class MovingAverage:
    """Exponential moving average of the trainable parameters, kept in float32.

    The decay rises as (1 + t) / (10 + t) up to `decay`, so that short runs are not dominated by the first weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.shadow = {name: p.detach().float().clone() for name, p in trainable(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        parameters = trainable(model)
        present = [parameters[name].detach().float() for name in self.shadow]
        torch._foreach_lerp_(list(self.shadow.values()), present, 1 - decay)

    def state_dict(self) -> dict[str, object]:
        """Shadow weights and the number of updates."""
        return {"updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            TrainingError: it belongs to another model.
        """
        shadow, updates = state["shadow"], state["updates"]
        assert isinstance(shadow, dict) and isinstance(updates, int)
        if set(shadow) != set(self.shadow):
            raise TrainingError("the moving average in the checkpoint belongs to another model")
        self.updates = updates
        for name, value in shadow.items():
            self.shadow[name].copy_(value)

    def averaged_state(self, model: nn.Module) -> dict[str, Tensor]:
        """The state dict of `model` with the averaged parameters in place of the trainable ones."""
        state = {name: value.detach() for name, value in model.state_dict().items()}
        return {
            name: self.shadow[name].to(value.dtype) if name in self.shadow else value for name, value in state.items()
        }
