"""Losses of the region proposal network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vlpart.losses.matching import IGNORED, NEGATIVE, POSITIVE, exact, match_anchors, maybe_unlabelled, subsample
from vlpart.losses.options import LossOptions
from vlpart.models import boxes
from vlpart.models.rpn import DELTA_WEIGHTS, RpnOutput
from vlpart.types import Targets


def rpn_losses(
    output: RpnOutput,
    targets: Sequence[Targets],
    options: LossOptions,
    generator: torch.Generator | None = None,
    unlabelled: Tensor | None = None,
) -> dict[str, Tensor]:
    """`rpn_objectness` (BCE over sampled anchors) and `rpn_box` (L1 over the positive ones of exact boxes).

    Both are divided by the nominal number of sampled anchors, whatever was sampled (docs/method.md, 'Losses of the
    region proposals'). Negative anchors inside of an object that may hold unlabelled parts are never sampled.

    Args:
        output: predictions at every anchor.
        targets: ground truth of every image.
        options: sampling numbers.
        generator: random numbers of the sampling.
        unlabelled: (B, A) float32 objectness 0..1 that negative anchors should have, over all levels; None = 0.
    """
    anchors = torch.cat(output.anchors_xyxy)
    logits, deltas = torch.cat(output.logits, dim=1), torch.cat(output.deltas, dim=1)
    objectness, box = logits.new_zeros(()), logits.new_zeros(())
    for number, (image_logits, image_deltas, target) in enumerate(zip(logits, deltas, targets, strict=True)):
        iou = boxes.iou(target.boxes_xyxy, anchors)
        index, state = match_anchors(iou)
        if target.ignore_inside is not None and len(iou):
            state[maybe_unlabelled(anchors, iou.amax(dim=0), target) & (state == NEGATIVE)] = IGNORED
        sampled = subsample(
            state == POSITIVE, state == NEGATIVE, options.rpn_anchors, options.rpn_positive_fraction, generator
        )
        is_positive = state[sampled] == POSITIVE
        truth = is_positive.float()
        if unlabelled is not None:
            truth = torch.where(is_positive, truth, unlabelled[number, sampled])
        objectness = objectness + F.binary_cross_entropy_with_logits(image_logits[sampled], truth, reduction="sum")
        positive = sampled[is_positive]
        positive = positive[exact(index[positive], target)]
        if len(positive):
            true_deltas = boxes.encode(anchors[positive], target.boxes_xyxy[index[positive]], DELTA_WEIGHTS)
            box = box + (image_deltas[positive] - true_deltas).abs().sum()
    nominal = options.rpn_anchors * len(targets)
    return {"rpn_objectness": objectness / nominal, "rpn_box": box / nominal}
