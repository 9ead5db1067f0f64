"""Losses on order: which region of the batch a name means most, which name a region goes by, and how well it fits.

The sigmoid loss asks every (region, name) pair for itself, so a few hundred easy negatives outweigh the one pair that
comes first wrongly. "The PART of the OBJECT" asks for the first region alone: hence a softmax over regions for every
name that is there. And one region has one name: a softmax over names at every matched region, beside the sigmoid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vlpart.losses.matching import LabelledRegions, exact
from vlpart.models import boxes
from vlpart.types import Targets

#: A region matched with this IoU counts e times as much in the target as one with `SHARPNESS` less.
SHARPNESS = 0.1


def region_ranking_loss(logits: Tensor, regions: Sequence[LabelledRegions], weights: Tensor | None) -> Tensor:
    """For every name present, cross entropy between a softmax over all regions of the batch and the matched ones.

    The target prefers regions of high overlap: it is a softmax of IoU / `SHARPNESS` over the regions of that name.
    Regions where the name is unknown (weight 0) are left out.

    Args:
        logits: (N, C) float32 of the regions of all images.
        regions: labelled regions of every image, N in all.
        weights: (N, C) 0 where a class is unknown at a region, or None.

    Returns:
        Mean over the names present; 0 where nothing is matched.
    """
    labels, overlap = torch.cat([r.labels for r in regions]), torch.cat([r.overlap for r in regions])
    present = labels[labels < logits.shape[1]].unique()
    if len(present) == 0:
        return logits.sum() * 0
    chosen = logits[:, present]
    matched = labels[:, None] == present
    if weights is not None:
        chosen = chosen.masked_fill((weights.expand_as(logits)[:, present] == 0) & ~matched, -torch.inf)
    closeness = (overlap[:, None] / SHARPNESS).masked_fill(~matched, -torch.inf)
    target_share = closeness.softmax(dim=0)
    log_share = chosen.log_softmax(dim=0).masked_fill(~matched, 0.0)
    return -(target_share * log_share).sum(dim=0).mean()


def name_ranking_loss(logits: Tensor, regions: Sequence[LabelledRegions], weights: Tensor | None) -> Tensor:
    """Cross entropy over the names at every matched region; names that are unknown there are left out.

    Args:
        logits, regions, weights: as for `region_ranking_loss`.

    Returns:
        Mean over the matched regions; 0 where nothing is matched.
    """
    labels = torch.cat([r.labels for r in regions])
    matched = (labels < logits.shape[1]).nonzero().squeeze(1)
    if len(matched) == 0:
        return logits.sum() * 0
    chosen, own = logits[matched], labels[matched]
    if weights is not None:
        unknown = weights.expand_as(logits)[matched] == 0
        unknown.scatter_(1, own[:, None], False)
        chosen = chosen.masked_fill(unknown, -torch.inf)
    return F.cross_entropy(chosen, own)


def quality_loss(
    quality: Tensor, refined: Sequence[Tensor], regions: Sequence[LabelledRegions], targets: Sequence[Targets]
) -> Tensor:
    """BCE between the quality of a region and the IoU of its refined box with the best annotation.

    Regions whose best annotation was not drawn by a person say nothing. Where not everything is labelled, neither do
    regions far from all annotations.

    Args:
        quality: (N,) float32 logits of the regions of all images.
        refined: for every image (F, 4) the boxes after regression, without gradient.
        regions: labelled regions of every image.
        targets: ground truth of every image.
    """
    total, count = quality.sum() * 0, 0
    for logits, moved, region, target in zip(
        quality.split([len(r.labels) for r in regions]), refined, regions, targets, strict=True
    ):
        if len(target.boxes_xyxy) == 0:
            continue
        overlap, index = boxes.iou(target.boxes_xyxy, moved).max(dim=0)
        overlap = overlap * (overlap >= 0.3)  # a box that misses is as bad as any other
        counts = exact(index, target) | (overlap == 0)
        if target.unknown_labels is not None or target.ignore_inside is not None:
            counts &= region.overlap >= 0.1
        total = total + F.binary_cross_entropy_with_logits(logits[counts], overlap[counts], reduction="sum")
        count += int(counts.sum())
    return total / max(count, 1)
