"""Features of regions: RoIAlign from the pyramid level that fits the region's size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision import ops

from vlpart.models import boxes
from vlpart.models.roi_align import roi_align

STRIDES = (4, 8, 16, 32)
_CANONICAL_SIDE, _CANONICAL_LEVEL = 224.0, 2  # a 224 px region takes its features from stride 16


def level_of(boxes_xyxy: Tensor) -> Tensor:
    """(N,) int64 index into p2..p5: floor(4 + log2(sqrt(area) / 224 + 1e-8)) - 2, kept in range (SPEC.md section 1)."""
    side = boxes.area(boxes_xyxy).clamp(min=0).sqrt()
    level = torch.floor(_CANONICAL_LEVEL + torch.log2(side / _CANONICAL_SIDE + 1e-8))
    return level.clamp(0, len(STRIDES) - 1).long()


def pool_regions(pyramid: Sequence[Tensor], regions_xyxy: Sequence[Tensor], size: int) -> Tensor:
    """(N, C, size, size) features of all regions of all images, image by image.

    Args:
        pyramid: p2..p5, each (B, C, H, W); further levels are ignored.
        regions_xyxy: B tensors (N_i, 4) in pixels of the network input.
        size: bins per side.
    """
    rois = torch.cat(list(regions_xyxy))
    images = torch.cat([torch.full_like(r[:, 0], i, dtype=torch.int64) for i, r in enumerate(regions_xyxy)])
    levels = level_of(rois)
    pooled = rois.new_zeros(len(rois), pyramid[0].shape[1], size, size)
    for level, stride in enumerate(STRIDES):
        chosen = (levels == level).nonzero().squeeze(1)
        if len(chosen) == 0:
            continue
        # In float32 whatever the maps are: half precision has too few digits for coordinates.
        features = _align(pyramid[level].float(), images[chosen], rois[chosen], size, 1 / stride)
        pooled = pooled.index_put((chosen,), features)
    return pooled


def _align(features: Tensor, images: Tensor, rois: Tensor, size: int, scale: float) -> Tensor:
    """(N, C, size, size): on the CPU our own, which is several times faster there, elsewhere torchvision's."""
    if features.device.type == "cpu":
        return roi_align(features, images, rois, size, scale)
    indexed = torch.cat((images[:, None].to(rois.dtype), rois), dim=1)
    return ops.roi_align(features, indexed, size, spatial_scale=scale, sampling_ratio=0, aligned=True)
