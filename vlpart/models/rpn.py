"""Region proposal network: anchors, objectness and box deltas at each, and the choice of proposals among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vlpart.models import boxes
from vlpart.models.convolution import convolve
from vlpart.models.operators import batched_nms


class AnchorGenerator(nn.Module):
    """One anchor side per pyramid level, three shapes at every position, grid offset 0 (docs/method.md, 'Region
    proposals').

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


DELTA_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class RpnOutput:
    """What the network says about every anchor; lists run over the pyramid levels.

    Attributes:
        logits: (B, N_level) float32 objectness logits.
        deltas: (B, N_level, 4) float32.
        anchors_xyxy: (N_level, 4) float32 pixels.
    """

    logits: list[Tensor]
    deltas: list[Tensor]
    anchors_xyxy: list[Tensor]


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """Proposals of one image, best first: `boxes_xyxy` (N, 4) pixels of the network input, `logits` (N,) objectness."""

    boxes_xyxy: Tensor
    logits: Tensor


@dataclass(frozen=True, kw_only=True)
class ProposalOptions:
    """How proposals are chosen: best `pre_nms` of each level, NMS inside the level, best `post_nms` over all levels."""

    pre_nms: int = 1000
    post_nms: int = 1000
    nms_iou: float = 0.7


class RegionProposalNetwork(nn.Module):
    """One 3x3 convolution shared by all levels, then 1x1 objectness and deltas for each anchor shape."""

    def __init__(self, channels: int, anchors: AnchorGenerator) -> None:
        super().__init__()
        self.anchors = anchors
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, anchors.num_shapes, 1)
        self.deltas = nn.Conv2d(channels, 4 * anchors.num_shapes, 1)
        for layer in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, pyramid: Sequence[Tensor]) -> RpnOutput:
        """Predictions for p2..p6, each (B, C, H, W)."""
        logits, deltas = [], []
        for level in pyramid:
            hidden = convolve(level, self.conv.weight, self.conv.bias, padding=1, relu=True)
            objectness = convolve(hidden, self.objectness.weight, self.objectness.bias).float()
            logits.append(objectness.permute(0, 2, 3, 1).flatten(1))
            level_deltas = convolve(hidden, self.deltas.weight, self.deltas.bias).float()
            deltas.append(level_deltas.permute(0, 2, 3, 1).reshape(len(level), -1, 4))
        return RpnOutput(logits=logits, deltas=deltas, anchors_xyxy=self.anchors(pyramid))


@torch.no_grad()
def select_proposals(
    output: RpnOutput, sizes_hw: Sequence[tuple[int, int]], options: ProposalOptions
) -> list[Proposals]:
    """Decode, clip, drop empty boxes, suppress per level, keep the best over all levels (docs/method.md, 'Region
    proposals').
    """
    top_boxes, top_logits, top_levels = [], [], []
    for level, (logits, deltas, anchors) in enumerate(
        zip(output.logits, output.deltas, output.anchors_xyxy, strict=True)
    ):
        best, index = logits.topk(min(options.pre_nms, logits.shape[1]), dim=1)
        best_deltas = deltas.gather(1, index[..., None].expand(-1, -1, 4))
        decoded = boxes.decode(best_deltas.reshape(-1, 4), anchors[index].reshape(-1, 4), DELTA_WEIGHTS)
        top_boxes.append(decoded.view(len(logits), -1, 4))
        top_logits.append(best)
        top_levels.append(torch.full_like(index[0], level))
    all_boxes, all_logits, levels = torch.cat(top_boxes, 1), torch.cat(top_logits, 1), torch.cat(top_levels)

    proposals = []
    for image_boxes, image_logits, size_hw in zip(all_boxes, all_logits, sizes_hw, strict=True):
        finite = image_boxes.isfinite().all(dim=1) & image_logits.isfinite()
        clipped = boxes.clip(image_boxes, size_hw)
        keep = (finite & boxes.nonempty(clipped)).nonzero().squeeze(1)
        clipped, logits = clipped[keep], image_logits[keep]
        chosen = batched_nms(clipped, logits, levels[keep], options.nms_iou)[: options.post_nms]
        proposals.append(Proposals(boxes_xyxy=clipped[chosen], logits=logits[chosen]))
    return proposals
