"""The mask loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from vlpart.types import Targets

MASK_SIDE = 28


def mask_targets(masks: Tensor, index: Tensor, regions_xyxy: Tensor) -> Tensor:
    """(N, 28, 28) float32 0/1: each region's own mask cropped to it: RoIAlign of the bitmap, >= 0.5 (SPEC.md 6.6).

    Args:
        masks: (G, H, W) bool ground truth.
        index: (N,) which mask belongs to which region.
        regions_xyxy: (N, 4) pixels.
    """
    rois = torch.cat((index[:, None].to(regions_xyxy.dtype), regions_xyxy), dim=1)
    cropped = roi_align(masks[:, None].float(), rois, MASK_SIDE, spatial_scale=1.0, sampling_ratio=0, aligned=True)
    return (cropped.squeeze(1) >= 0.5).float()


def mask_loss(
    logits: Sequence[Tensor], regions_xyxy: Sequence[Tensor], index: Sequence[Tensor], targets: Sequence[Targets]
) -> Tensor:
    """Mean BCE over the pixels of all matched regions; 0 where nothing is matched.

    Args:
        logits: for every image (F, 28, 28) float32.
        regions_xyxy: for every image (F, 4) its matched regions.
        index: for every image (F,) their ground truth.
        targets: ground truth with masks.
    """
    wanted = [
        mask_targets(target.masks, i, regions)
        for regions, i, target in zip(regions_xyxy, index, targets, strict=True)
        if target.masks is not None
    ]
    all_logits = torch.cat(list(logits))
    if len(all_logits) == 0:
        return all_logits.sum()
    return F.binary_cross_entropy_with_logits(all_logits, torch.cat(wanted))
