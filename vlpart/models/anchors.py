"""Anchor boxes of the region proposal network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AnchorGenerator(nn.Module):
    """One anchor side per pyramid level, three shapes at every position, grid offset 0 (SPEC.md section 1).

    Args:
        sides: anchor side in pixels for every level, finest first (the square root of the anchor's area).
        strides: stride in pixels of every level.
        ratios: height / width of the shapes.
    """

    def __init__(
        self, sides: Sequence[float], strides: Sequence[int], ratios: Sequence[float] = (0.5, 1.0, 2.0)
    ) -> None:
        super().__init__()
        if len(sides) != len(strides):
            raise ValueError(f"one anchor side per level: got {len(sides)} sides for {len(strides)} strides")
        self.strides = tuple(strides)
        self.num_shapes = len(ratios)
        for level, side in enumerate(sides):
            widths = [math.sqrt(side * side / ratio) for ratio in ratios]
            shapes = [(-w / 2, -w * r / 2, w / 2, w * r / 2) for w, r in zip(widths, ratios, strict=True)]
            self.register_buffer(f"shapes_{level}", torch.tensor(shapes), persistent=False)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Per level (H * W * A, 4) float32 boxes, position-major, for feature maps (B, C, H, W)."""
        anchors = []
        for level, (feature, stride) in enumerate(zip(features, self.strides, strict=True)):
            height, width = feature.shape[-2:]
            shapes: Tensor = getattr(self, f"shapes_{level}")
            xs = torch.arange(0, width * stride, stride, dtype=torch.float32, device=shapes.device)
            ys = torch.arange(0, height * stride, stride, dtype=torch.float32, device=shapes.device)
            y, x = torch.meshgrid(ys, xs, indexing="ij")
            centres = torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4)
            anchors.append((centres + shapes).reshape(-1, 4))
        return anchors
