"""Box arithmetic. Boxes are (..., 4) float tensors, `xyxy`, in pixels; the right and bottom edges are exclusive."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_LOG_SIZE = math.log(1000.0 / 16)
"""Log-size deltas are clamped here before the exponential, so that no box explodes (docs/method.md, 'Region
proposals').
"""


def area(boxes_xyxy: Tensor) -> Tensor:
    """(N,) areas in square pixels."""
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])


def clip(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Boxes cut to an image of `size_hw`."""
    height, width = size_hw
    x0, y0, x1, y1 = boxes_xyxy.unbind(-1)
    return torch.stack((x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)), dim=-1)


def nonempty(boxes_xyxy: Tensor) -> Tensor:
    """(N,) bool: boxes with a positive width and height."""
    return (boxes_xyxy[:, 2] > boxes_xyxy[:, 0]) & (boxes_xyxy[:, 3] > boxes_xyxy[:, 1])


def inside(boxes_xyxy: Tensor, containers_xyxy: Tensor, share: float) -> Tensor:
    """(N,) bool: boxes of which at least `share` of the area lies in one of the (M, 4) containers."""
    covered = _intersection(boxes_xyxy, containers_xyxy)
    return (covered >= share * area(boxes_xyxy)[:, None]).any(dim=1)


def iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """(N, M) intersection over union; 0 where the boxes do not touch (also for empty boxes)."""
    inter = _intersection(a_xyxy, b_xyxy)
    union = area(a_xyxy)[:, None] + area(b_xyxy)[None, :] - inter
    return torch.where(inter > 0, inter / union, torch.zeros_like(inter))


def _intersection(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """(N, M) areas of overlap."""
    lower = torch.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    upper = torch.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    return (upper - lower).clamp(min=0).prod(dim=2)


def encode(boxes_xyxy: Tensor, targets_xyxy: Tensor, weights: Sequence[float]) -> Tensor:
    """(N, 4) deltas (dx, dy, dw, dh) that turn `boxes_xyxy` into `targets_xyxy`; the inverse of `decode`."""
    size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    centre = boxes_xyxy[:, :2] + 0.5 * size
    target_size = targets_xyxy[:, 2:] - targets_xyxy[:, :2]
    target_centre = targets_xyxy[:, :2] + 0.5 * target_size
    deltas = torch.cat(((target_centre - centre) / size, torch.log(target_size / size)), dim=1)
    return deltas * deltas.new_tensor(weights)


def decode(deltas: Tensor, boxes_xyxy: Tensor, weights: Sequence[float]) -> Tensor:
    """Boxes after the predicted deltas.

    Args:
        deltas: (N, 4) float32 (dx, dy, dw, dh), scaled by `weights`.
        boxes_xyxy: (N, 4) the boxes they refer to.
        weights: the four factors of the head, see `encode`.
    """
    size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    centre = boxes_xyxy[:, :2] + 0.5 * size
    shift, log_size = (deltas / deltas.new_tensor(weights)).split(2, dim=1)
    new_centre = centre + shift * size
    new_size = torch.exp(log_size.clamp(max=MAX_LOG_SIZE)) * size
    return torch.cat((new_centre - 0.5 * new_size, new_centre + 0.5 * new_size), dim=1)
