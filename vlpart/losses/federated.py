"""Federated classes: in sources that are not labelled exhaustively, only some classes count in a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def frequency_weights(image_counts: Sequence[int]) -> Tensor:
    """(C,) float32 sampling weights, image_count ** 0.5 (SPEC.md section 2)."""
    return torch.tensor(image_counts, dtype=torch.float32) ** 0.5


def federated_classes(labels: Tensor, weights: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """The classes that count in this step: those present, then others drawn without replacement up to `count`.

    Args:
        labels: (N,) int64 labels of the sampled regions; background is C, and counts as one of those present.
        weights: (C,) sampling weights, see `frequency_weights`.
        count: how many in total.
        generator: random numbers; None takes torch's own.

    Returns:
        (M,) int64 with M >= `count` (more only where more are present); may hold C.
    """
    present = labels.unique()
    probability = torch.cat((weights, weights.new_zeros(1)))
    probability[present] = 0
    missing = min(count - len(present), int((probability > 0).sum()))
    if missing <= 0:
        return present
    return torch.cat((present, torch.multinomial(probability, missing, replacement=False, generator=generator)))


def class_mask(chosen: Tensor, classes: int) -> Tensor:
    """(C,) float32 1 for the chosen classes; the background index is no column."""
    mask = torch.zeros(classes + 1, device=chosen.device)
    mask[chosen] = 1
    return mask[:classes]
