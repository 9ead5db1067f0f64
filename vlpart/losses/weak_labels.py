"""Losses of labels without a place, which choose the proposal that learns them; and federated classes: in sources that
are not labelled exhaustively, only some classes count in a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vlpart.losses.options import ParsedPartAssignment
from vlpart.models import boxes


def weak_label_loss(
    logits: Sequence[Tensor], regions_xyxy: Sequence[Tensor], labels: Sequence[Tensor], choice: ParsedPartAssignment
) -> Tensor:
    """Mean over images of the mean over labels of the BCE of the chosen proposal against the one-hot label.

    The BCE is summed over C + 1 columns: the constant background column adds log 2 and no gradient (docs/method.md,
    'Losses of image labels').

    Args:
        logits: for every image (P, C) float32.
        regions_xyxy: for every image (P, 4), best objectness first.
        labels: for every image (K,) int64.
        choice: the largest proposal (the last one is left out of that choice), or for each label the best-scoring one.
    """
    total = logits[0].new_zeros(())
    for image_logits, regions, image_labels in zip(logits, regions_xyxy, labels, strict=True):
        if len(image_labels) == 0 or len(regions) == 0:
            continue
        if choice == "max_size":
            candidates = regions[:-1] if len(regions) > 1 else regions
            chosen = boxes.area(candidates).argmax().expand(len(image_labels))
        else:
            chosen = image_logits.detach()[:, image_labels].argmax(dim=0)
        picked = F.pad(image_logits[chosen], (0, 1))
        truth = F.one_hot(image_labels, picked.shape[1]).float()
        loss = F.binary_cross_entropy_with_logits(picked, truth, reduction="none").sum(dim=1)
        total = total + loss.mean()
    return total / len(logits)


def frequency_weights(image_counts: Sequence[int]) -> Tensor:
    """(C,) float32 sampling weights, image_count ** 0.5 (docs/method.md, 'Federated loss')."""
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


def class_mask(chosen: Tensor, num_classes: int) -> Tensor:
    """(C,) float32 1 for the chosen classes; the background index is no column."""
    mask = torch.zeros(num_classes + 1, device=chosen.device)
    mask[chosen] = 1
    return mask[:num_classes]
