"""The detector: the whole path from an image and a text to detections, on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from vlpart.models.fpn import FeaturePyramid
from vlpart.models.postprocess import DetectionOptions, Detections, select_detections
from vlpart.models.roi_heads import RoiHeads
from vlpart.models.rpn import ProposalOptions, RegionProposalNetwork, select_proposals
from vlpart.types import ImageBatch


class Detector(nn.Module):
    """Open-vocabulary detector and part segmenter (docs/method.md, 'Inference path').

    The vocabulary is an argument of the call and never a state of the model, so threads may use different ones at once.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        fpn: FeaturePyramid,
        rpn: RegionProposalNetwork,
        roi_heads: RoiHeads,
        proposal_options: ProposalOptions,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.fpn = fpn
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.proposal_options = proposal_options

    def pyramid(self, pixels: Tensor) -> list[Tensor]:
        """p2..p6 of normalised, padded pixels (B, 3, H, W)."""
        return self.fpn(self.backbone(pixels))

    @torch.no_grad()
    def forward(self, images: ImageBatch, text: Tensor, options: DetectionOptions) -> list[Detections]:
        """Detections of every image, in pixels of the unpadded network input.

        Args:
            images: normalised and padded.
            text: (C, D) embeddings of the vocabulary.
            options: thresholds and limits.
        """
        pyramid = self.pyramid(images.pixels)
        proposals = select_proposals(self.rpn(pyramid), images.sizes_hw, self.proposal_options)
        scores, regions = self.roi_heads.classify_and_refine(pyramid, proposals, images.sizes_hw, text)
        found = [select_detections(s, r, options) for s, r in zip(scores, regions, strict=True)]
        return self._with_masks(pyramid, found)

    def _with_masks(self, pyramid: Sequence[Tensor], found: Sequence[Detections]) -> list[Detections]:
        """Boxes and masks belong to no class, so a region that goes by several names is segmented once."""
        regions = [torch.unique(d.boxes_xyxy, dim=0, return_inverse=True) for d in found]
        masks = self.roi_heads.masks(pyramid, [boxes for boxes, _ in regions])
        return [replace(d, mask_logits=m[index]) for d, m, (_, index) in zip(found, masks, regions, strict=True)]
