"""Losses of labels without a place: the loss itself chooses the proposal that has to learn them."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from vlpart.losses.options import ParsedPartAssignment
from vlpart.models import boxes


def weak_label_loss(
    logits: Sequence[Tensor], regions_xyxy: Sequence[Tensor], labels: Sequence[Tensor], choice: ParsedPartAssignment
) -> Tensor:
    """Mean over images of the mean over labels of the BCE of the chosen proposal against the one-hot label.

    The BCE is summed over C + 1 columns: the constant background column adds log 2 and no gradient (SPEC.md 6.4).

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
        if choice is ParsedPartAssignment.MAX_SIZE:
            candidates = regions[:-1] if len(regions) > 1 else regions
            chosen = boxes.area(candidates).argmax().expand(len(image_labels))
        else:
            chosen = image_logits.detach()[:, image_labels].argmax(dim=0)
        picked = F.pad(image_logits[chosen], (0, 1))
        truth = F.one_hot(image_labels, picked.shape[1]).float()
        loss = F.binary_cross_entropy_with_logits(picked, truth, reduction="none").sum(dim=1)
        total = total + loss.mean()
    return total / len(logits)
