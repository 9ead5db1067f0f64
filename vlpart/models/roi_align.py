"""RoIAlign from the pyramid level that fits a region's size.

On CPUs it is computed as two small matrix products per region: the same numbers as `torchvision.ops.roi_align`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from vlpart.models import boxes

_Axis = tuple[Tensor, list[int], list[int]]  # weights, first cell and length of the window of every region
_Region = tuple[int, Tensor, Tensor, Tensor]


def axis_weights(start: Tensor, length: Tensor, cells: int, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of the cells of one axis in every bin.

    The number of samples in a bin is the bin's length rounded up (adaptive sampling); samples outside [-1, cells] count
    as zero and those at the border are clamped, as in the aligned RoIAlign of Mask R-CNN.

    Args:
        start: (N,) float32 where each region begins, in cells, cell centres at integers.
        length: (N,) float32 its length in cells.
        cells: length of the axis.
        bins: bins per region.

    Returns:
        (N, bins, window) float32 weights, (N,) int64 first cell of each window, (N,) int64 cells in it (at least 1).
    """
    samples = torch.ceil(length / bins).clamp(min=0)
    most = max(int(samples.max()), 1)
    bin_length = length / bins
    step = torch.arange(most, dtype=torch.float32)
    bin_start = start[:, None] + torch.arange(bins, dtype=torch.float32) * bin_length[:, None]
    position = bin_start[..., None] + (step + 0.5) * (bin_length / samples.clamp(min=1))[:, None, None]
    used = (step < samples[:, None, None]) & (position >= -1) & (position <= cells)
    position = position.clamp(0, cells - 1)
    low = position.floor()
    fraction = position - low
    low = low.long()
    high = (low + 1).clamp(max=cells - 1)

    far = torch.iinfo(torch.int64).max
    first = torch.where(used, low, far).amin(dim=(1, 2)).clamp(max=cells - 1)
    last = torch.where(used, high, -1).amax(dim=(1, 2)).clamp(min=0)
    window = (last - first + 1).clamp(min=1)
    share = used / samples.clamp(min=1)[:, None, None]
    weights = torch.zeros(len(start), bins, int(window.max()))
    base = first[:, None, None]
    limit = weights.shape[2] - 1
    weights.scatter_add_(2, (low - base).clamp(0, limit), share * (1 - fraction))
    weights.scatter_add_(2, (high - base).clamp(0, limit), share * fraction)
    return weights, first, window


class _SeparableRoiAlign(torch.autograd.Function):
    """(B, H, W, C) map, (N,) image indices and the weights of both axes -> (N, bins, bins, C)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, images: list[int], rows: _Axis, columns: _Axis) -> Tensor:
        ctx.regions, ctx.shape = (images, rows, columns), features.shape
        bins, channels = rows[0].shape[1], features.shape[3]
        pooled = features.new_empty(len(images), bins, bins, channels)
        for i, view, y_weights, x_weights in _each_region(features, images, rows, columns):
            by_row = torch.mm(y_weights, view).view(bins, -1, channels)
            torch.bmm(x_weights.expand(bins, -1, -1), by_row, out=pooled[i])
        return pooled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        features_gradient = gradient.new_zeros(ctx.shape)
        bins = gradient.shape[1]
        for i, view, y_weights, x_weights in _each_region(features_gradient, *ctx.regions):
            by_row = torch.bmm(x_weights.t().expand(bins, -1, -1), gradient[i]).view(bins, -1)
            view.addmm_(y_weights.t(), by_row)
        return features_gradient, None, None, None


def _each_region(features: Tensor, images: list[int], rows: _Axis, columns: _Axis) -> Iterator[_Region]:
    """For every region: its number, its window of the map as a (rows, columns * C) view, its weights of both axes."""
    _, height, width, channels = features.shape
    row_stride = width * channels
    y_all, y_first, y_window = rows
    x_all, x_first, x_window = columns
    regions = zip(images, y_first, y_window, x_first, x_window, strict=True)
    for i, (image, y0, h, x0, w) in enumerate(regions):
        offset = (image * height + y0) * row_stride + x0 * channels
        view = features.as_strided((h, w * channels), (row_stride, 1), offset)
        yield i, view, y_all[i, :, :h], x_all[i, :, :w]


def roi_align(features: Tensor, images: Tensor, boxes_xyxy: Tensor, size: int, scale: float) -> Tensor:
    """Aligned RoIAlign with adaptive sampling on the CPU.

    Args:
        features: (B, C, H, W) float32 map; fastest in channels-last memory format.
        images: (N,) int64 image of each region.
        boxes_xyxy: (N, 4) float32 regions in pixels.
        size: bins per side.
        scale: cells per pixel.

    Returns:
        (N, C, size, size) float32, channels last in memory.
    """
    if len(boxes_xyxy) == 0:
        return features[:0, :, :1, :1].expand(0, -1, size, size)
    channels_last = features.permute(0, 2, 3, 1).contiguous()
    boxes = boxes_xyxy.detach() * scale - 0.5
    height, width = features.shape[2:]
    y_weights, y_first, y_window = axis_weights(boxes[:, 1], boxes[:, 3] - boxes[:, 1], height, size)
    x_weights, x_first, x_window = axis_weights(boxes[:, 0], boxes[:, 2] - boxes[:, 0], width, size)
    rows = (y_weights, y_first.tolist(), y_window.tolist())
    columns = (x_weights, x_first.tolist(), x_window.tolist())
    with torch.autocast("cpu", enabled=False):
        pooled: Tensor = _SeparableRoiAlign.apply(channels_last, images.tolist(), rows, columns)
    return pooled.permute(0, 3, 1, 2)


STRIDES = (4, 8, 16, 32)
_CANONICAL_SIDE, _CANONICAL_LEVEL = 224.0, 2  # a 224 px region takes its features from stride 16


def level_of(boxes_xyxy: Tensor) -> Tensor:
    """(N,) int64 index into p2..p5: floor(4 + log2(sqrt(area) / 224 + 1e-8)) - 2, kept in range (docs/method.md,
    'Region features').
    """
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
    from torchvision import ops  # here: importing it takes longer than everything else on a CPU

    indexed = torch.cat((images[:, None].to(rois.dtype), rois), dim=1)
    return ops.roi_align(features, indexed, size, spatial_scale=scale, sampling_ratio=0, aligned=True)
